//! Channels, subscriptions and sessions: who gets what.
//!
//! A [`Hub`] is the part of a shard that has no socket and no clock. It is given bytes, answers and expired
//! timers; it gives [`Effects`]: bytes to send, connections to close, timers to start, and requests that
//! somebody else must carry out. So everything a client can do is tested here without a network.
//!
//! Invariants:
//! - A hub belongs to one thread; nothing in it is shared except the subscriber counts it reports.
//! - A subscription is confirmed only while its topic is live at the broker, and the confirmation is written in
//!   the same step that adds the subscriber, so nothing published after it is missed and nothing precedes it.
//! - The answers of one session come in the order of its commands. A command that must wait holds back those
//!   behind it; the only bytes kept meanwhile are those already read, within the dialect's limit.
//! - An idle session owns no heap memory beyond its places in the subscriber lists.
//! - Control traffic (answers, notices) is never dropped here; what may be dropped is decided per namespace.

mod access;
mod answering;
mod deciding;
mod effects;
mod ending;
mod hub;
mod joining;
mod metering;
mod namespace;
mod orders;
mod overflow;
mod rate;
mod session;
mod settings;
mod subscribing;
mod topics;
mod usage;

pub use access::{Access, Action, Identity, Secret};
pub use deciding::{
    About, Admission, ChannelOverrides, Connected, Decide, Directive, Order, TokenId, Verdict, Who,
};
pub use effects::{Answer, Effect, Effects, Failure, HistoryPage, HistoryQuery, Note, Query, Request, Timer};
pub use ending::{Disconnects, Ending, gap_notice, overload_notice, refusal_notice};
pub use hub::{ClientStats, Flow, Hub, Stats};
pub use namespace::{Namespace, NamespaceOptions, Namespaces, RecoveryMode, SlowConsumer};
pub use overflow::Overflow;
pub use rate::{Bucket, Rate};
pub use session::{Direction, Link, Protocol, SessionId, SessionKey, locate};
pub use settings::Settings;
pub use topics::{Entry, Interest, TopicKey, is_told};
pub use usage::{Metered, Meters, Usage, UsageLimits};
