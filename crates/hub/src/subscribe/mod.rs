//! The life of a subscription, as one state machine that every protocol uses.
//!
//! ```text
//!             allowed                 confirmed by the broker          page read
//! Deciding ───────────▶ Subscribing ─────────────────────────▶ Reading ─────────▶ Read ──▶ joined
//!     │                      │             no history: Live ───────────────────────────────▲
//!     └── refused ──▶ Failed ◀── broker away, or the read failed
//! ```
//!
//! Where a channel has a history the order is: the topic is live; from now on the topic keeps what is fanned out; the
//! history is read; then, in one step, the session becomes a subscriber, its protocol reports the position (and what was
//! missed up to there), and sends what was kept beyond that. Publications up to the position that arrive later are
//! skipped. So there is neither a gap nor a duplicate between what was read and what is live.
//!
//! What a client missed is read when its turn to be answered has come, and one channel after the other: so a session never
//! holds more than one client may be sent, however many channels it recovers.
//!
//! Protocols whose subscriptions have no options (plain lines, RESP) pass the states `Subscribing` and joined alone
//! ([`Hub::begin_subscribe`](crate::Hub::begin_subscribe)).

mod complete;
mod options;
mod pending;
mod request;
mod state;
mod steps;
mod topics;

pub use complete::Completed;
pub use options::{RecoverFrom, SubscribeOptions};
pub use request::{CommandError, SubscribeRequest};
pub use state::Origin;
pub use topics::SubscribeOutcome;

pub(crate) use pending::{PendingCommands, ReadyCommand};
pub(crate) use state::{PendingConnect, PendingSubscribe, SubscribeState};
