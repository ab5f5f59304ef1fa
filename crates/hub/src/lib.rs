//! Channels, subscriptions and sessions of one shard.
//!
//! A [`Hub`] is the part of a shard that has no socket, no clock and no protocol. It has operations on sessions and topics;
//! it gives [`Effects`] (bytes to send, connections to close, timers to start, requests for the control plane) and reports
//! events to the [`Protocols`] of its sessions, which are its type parameter.
//!
//! Invariants:
//! - A hub belongs to one thread; nothing in it is shared except the subscriber counts it reports.
//! - A subscription is reported only while its topic is live at the broker, and in the same step that adds the subscriber,
//!   so nothing published after the report is missed and nothing precedes it.
//! - The responses of one session come in the order of its commands. A command that must wait holds back those
//!   behind it.
//! - An idle session owns no heap memory beyond its places in the subscriber lists.
//! - Control traffic (responses, notices) is never dropped here; what may be dropped is decided per namespace.

mod access;
mod close;
mod connect;
mod decisions;
mod effects;
mod expiry;
mod hub;
mod identity;
mod index;
mod member;
mod metering;
mod namespace;
mod orders;
mod overflow;
mod permission;
mod protocols;
mod rate;
mod requests;
mod session;
mod settings;
mod subscribe;
mod subscriptions;
mod topics;
mod usage;

pub use access::{Access, Action, Identity};
pub use close::{CloseReason, Disconnects};
pub use connect::seconds_left;
pub use decisions::{
    Admission, ChannelOverrides, Connected, ConnectionInfo, Decide, Directive, Order, Rejection, Requester,
    TokenId,
};
pub use effects::{Effect, Effects, Failure, Notification, Query, Request, Response, SentMark, Timer};
pub use hub::{ClientStats, Flow, Hub, Progress, Stats};
pub use identity::{SessionKey, locate};
pub use index::{Slot, TopicKey};
pub use namespace::{Namespace, NamespaceOptions, Namespaces, SlowConsumerPolicy};
pub use overflow::Overflow;
pub use protocols::{Event, LossReport, Peer, PresenceChange, Protocols, ServerSubscription, State};
pub use rate::{Bucket, Rate};
pub use session::{Flag, Flags, Session, SessionId};
pub use settings::Settings;
pub use subscribe::{
    CommandError, Completed, Origin, RecoverFrom, SubscribeOptions, SubscribeOutcome, SubscribeRequest,
};
pub use subscriptions::Subscription;
pub use topics::{Entry, Interest, is_told};
pub use usage::{Cost, Metered, Meters, Usage, UsageLimits};
