//! Channels, subscriptions and sessions of one shard.
//!
//! A [`Hub`] is the part of a shard without socket, clock or protocol. It offers operations on sessions and topics,
//! returns [`Effects`] (bytes to send, connections to close, timers to start, requests for the control plane), and
//! reports events to its type parameter [`Protocols`].
//!
//! Invariants:
//! - A hub belongs to one thread. Its only shared state is the subscriber counts and the counters by namespace,
//!   which it alone updates.
//! - A subscription is reported only while its topic is live at the broker, in the same step that adds the subscriber.
//!   So no publication after the report is missed, and none is delivered before it.
//! - The responses of a session are sent in the order of its commands. A command that must wait holds back the commands
//!   after it.
//! - An idle session owns no heap memory besides its entries in the subscriber lists.
//! - Control traffic (responses, notices) is never dropped here. The options of the namespace decide which publications
//!   may be dropped.

mod access;
mod authorization;
mod client_meter;
mod close;
mod connect;
mod context;
mod effects;
mod expiry;
mod hub;
mod identity;
mod index;
mod inspect;
mod kind;
mod loss;
mod map;
mod map_presence;
mod metering;
mod moving;
mod namespace;
mod namespace_stats;
mod no_local;
mod overflow;
mod permission;
mod ping;
mod presence;
mod protocols;
mod rate;
mod reconfigure;
mod requests;
mod selections;
mod session;
mod session_command;
mod settings;
mod shared_poll;
mod slot_lists;
mod stream_lease;
mod subscribe;
mod subscriptions;
mod topics;
mod trace;
mod usage;
mod user_state;

pub use access::{Access, Action, Identity, UserBoundaries};
pub use authorization::{
    Admission, AuthorizationRequest, ChannelOverrides, Connected, ConnectionInfo, Rejection, Renewed,
    Requester, TokenId,
};
pub use client_meter::{ClientMeter, ExceededUsage};
pub use close::{CloseReason, Disconnects, SessionEnd};
pub use connect::seconds_left;
pub use context::Context;
pub use effects::{Effect, Effects, Failure, Notification, Query, Request, Response, SentMark, Timer};
pub use hub::{ClientStats, Flow, Hub, Progress, Stats};
pub use identity::{SessionKey, locate};
pub use index::{Slot, TopicKey};
pub use inspect::SessionSummary;
pub use kind::SubscriptionKind;
pub use map::{MapClientKey, MapKind, MapNamespace, MapStep, MapSubscribe};
pub use map_presence::PresenceMaps;
pub use namespace::{HookNames, NameError, Namespace, NamespaceOptions, Namespaces, SlowConsumerPolicy};
pub use namespace_stats::{NamespaceStats, NamespaceTable, PATTERNS, WITHOUT_NAMESPACE};
pub use no_local::PartialRecipient;
pub use overflow::Overflow;
pub use protocols::{
    ControlMessages, Event, LossReport, Peer, PresenceChange, Protocols, ServerSubscription, State,
};
pub use rate::{Bucket, Rate};
pub use selections::{DeltaState, Group, Selection, SelectionId};
pub use session::{Flag, Flags, Session, SessionId};
pub use session_command::{SessionAction, SessionCommand};
pub use settings::Settings;
pub use shared_poll::{
    PollNamespace, PollPublication, PollRequest, PollSubscriber, PollValue, PollValues, TrackedKeys,
};
pub use stream_lease::{StreamId, StreamLease, SubscriptionStream};
pub use subscribe::{
    CommandError, Completed, Origin, RecoverFrom, SubscribeOptions, SubscribeOutcome, SubscribeRequest,
};
pub use subscriptions::Subscription;
pub use topics::{Interest, TopicEntry, is_at_or_before};
pub use usage::{Cost, Meters, Usage, UsageKind, UsageLimits};
