//! Subscriptions in progress: one state machine, which every protocol uses.
//!
//! ```text
//!             allowed                 confirmed by the broker                 response
//! Deciding ───────────▶ Subscribing ─────────────────────────▶ ReadingHistory ─────────▶ HistoryRead ──▶ subscribed
//!     │                      │             no history: Live ────────────────────────────────────────────▲
//!     └── rejected ──▶ Failed ◀── broker unavailable, or the read failed
//! ```
//!
//! In a channel with a history the order is:
//!
//! 1. The topic is live. From now on the topic records the publications that are fanned out.
//! 2. The history is read.
//! 3. In one step, the session becomes a subscriber, its protocol reports the position and the missed publications up to it,
//!    and sends the recorded publications after it. Publications up to the position that are fanned out later are skipped.
//!
//! So there is neither a gap nor a duplicate between the history and the live publications.
//!
//! A session reads the missed publications of one channel at a time, in the order of its commands. It therefore holds at
//! most the bytes that may be sent to one client, for any number of channels.
//!
//! A page of the state of a map is read by a subscribe that makes no subscription: `Deciding` → `ReadingState` →
//! `StateRead` → reported.
//!
//! Subscriptions without options (plain lines, RESP) have only the states `Subscribing` and subscribed
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

pub(crate) use pending::{InFlightKind, PendingCommands, ReadyCommand};
pub(crate) use state::{PendingConnect, PendingSubscribe, SubscribeState};
