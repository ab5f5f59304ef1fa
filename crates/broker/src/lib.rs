//! Brokers: transport and storage of publications.
//!
//! A [`Broker`] carries publications between the nodes of a deployment (and from any other publisher), and hands
//! received messages to its [`Sink`]. It is independent of sessions, shards and HTTP.
//!
//! Invariants:
//! - No method of a [`Broker`] blocks or waits: each may be called from a thread that serves connections.
//! - A broker calls its sink from one place at a time per topic, so the order of a channel is the order of its
//!   `deliver` calls.
//! - A topic stays subscribed until it is unsubscribed: after a lost connection the broker subscribes it again.
//!   [`Sink::live`] is called each time the subscription has been confirmed.
//! - Every request completes exactly once, also when the connection is lost.
//!
//! A [`Stateful`] broker also stores the state of channels: histories with positions, presence, and the results of
//! publications with idempotency keys. A position means the same on every node.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use thiserror::Error;
use tidings_wire::{Channel, Delivery, Position, Topic};

pub mod memory;
pub mod redis;
mod state;
mod wills;

pub use state::{
    Change, CompletionCallback, EvictCallback, Gap, HistoryCallback, HistoryOptions, IDEMPOTENCY_TTL,
    KeyCountCallback, MAX_IDEMPOTENCY_KEY, MAX_REGISTER_VALUES, MapChange, MapChangeCallback,
    MapStateCallback, Members, PresenceCallback, PresenceStats, PresenceStatsCallback, PublishOptions,
    RegisterCallback, Retain, RetainCallback, RetainOutcome, RetainedCallback, RetainedPage, RetainedQuery,
    RetainedTotals, SessionsCallback, Stateful,
};
pub use tidings_mqtt_redis::Function as SessionFunction;
pub use wills::{BegunWill, WillCallback, WillChange, WillOutcome};

/// The reason why a publication or a subscription has failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BrokerError {
    /// There is no connection; a later attempt may succeed.
    #[error("broker unavailable")]
    Unavailable,
    /// Publications that wait for the broker use up its budget of bytes; a later attempt may succeed.
    #[error("broker overloaded")]
    Overloaded,
    /// The result takes more bytes than this limit. The same request fails again; nothing was read beyond the limit.
    #[error("limit exceeded: the answer takes more than {0} bytes")]
    LimitExceeded(usize),
    /// A limit of stored state is reached, which the text names. It may succeed after something was removed.
    #[error("{0}")]
    Full(String),
    /// The request is invalid, for this reason; it would fail again.
    #[error("{0}")]
    Invalid(String),
    /// The broker's access rules do not permit this (Redis: `NOPERM`). The broker's own message is in the log.
    #[error("the broker does not permit this")]
    NotPermitted,
    /// The broker has responded with an error that may pass: it is full, busy, or lacks replicas. Its own message is in
    /// the log alone, because it is not for clients.
    #[error("the broker cannot do this at present ({0})")]
    Failed(&'static str),
}

/// The result of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Receivers as Redis' `PUBLISH` counts them: subscribers with the memory broker, connections to Redis with the
    /// Redis broker.
    pub receivers: u64,
    /// Its position in the channel's history, if it was stored there.
    pub position: Option<Position>,
    /// Whether it was published before under the same idempotency key, and not again; the other fields are those of the
    /// first time.
    pub repeated: bool,
}

/// Completion callback of a publication. Called exactly once, from any thread; must not block.
pub type PublishCallback = Box<dyn FnOnce(Result<Published, BrokerError>) + Send>;

/// Carries publications between this node, other nodes and other publishers.
pub trait Broker: Send + Sync + 'static {
    /// Subscribes a topic; [`Sink::live`] or [`Sink::refused`] follows, `live` perhaps before this returns. Does
    /// nothing for a topic that is live already; tries a refused one again.
    fn subscribe(&self, topic: &Topic);

    /// Unsubscribes a topic.
    fn unsubscribe(&self, topic: &Topic);

    /// Publishes `body` and calls `done` with the result. Publications of one caller keep their order.
    fn publish(&self, channel: &Channel, body: Bytes, done: PublishCallback);

    /// Closes the broker's connection, if it has one, and makes a new one: for a connection that is up but delivers
    /// nothing. `reason` is for the log.
    fn reset(&self, reason: &str);

    /// Test channels: one for each part of the broker that can fail independently. Their names begin with `own`, for
    /// the route of the deployment's own channels, or with `plain`, for the route of all other channels; a suffix is
    /// added where there are several.
    ///
    /// Empty if `own` or `plain` is no valid beginning of a channel name.
    fn probes(&self, own: &str, plain: &str) -> Vec<Probe> {
        let _ = plain;
        let channel = Channel::new(own).ok();
        channel
            .map(|channel| Probe { channel, through: "the broker".to_owned(), stateful: true })
            .into_iter()
            .collect()
    }

    /// As [`Broker::reset`], for the connections that a publication of this channel uses.
    fn reset_for(&self, channel: &Channel, reason: &str) {
        let _ = channel;
        self.reset(reason);
    }

    /// The kind of broker in metrics and log lines: `memory`, `redis`.
    fn name(&self) -> &'static str;
}

/// A test channel of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// A publication in this channel tests the route.
    pub channel: Channel,
    /// The name of the route in log lines: `the broker`.
    pub through: String,
    /// Whether histories and presence are tested here as well; true for one probe of each route.
    pub stateful: bool,
}

/// Receiver of a broker's messages and events.
///
/// A sink must neither block nor call its broker: it is called with the broker's locks held, from the thread that
/// published, or from the one that reads from the network. Calls for one topic are in order, and so are `up` and
/// `down`; `live` and `refused` may concern a topic that has just been unsubscribed.
pub trait Sink: Send + Sync + 'static {
    /// Takes publications in the order of their arrival, and empties `batch`. Returns the number of subscribers on this
    /// node, summed up. Never blocks.
    fn deliver(&self, batch: &mut Vec<Delivery>) -> u64;

    /// These topics are subscribed: every message published from now on is delivered.
    fn live(&self, topics: &[Topic]);

    /// The broker refuses to subscribe this topic. It tries again at intervals while the topic is wanted, and calls
    /// [`Sink::live`] after success; each failed attempt is reported here.
    fn refused(&self, topic: &Topic, error: &BrokerError);

    /// The connection to the broker is up; subscriptions are being made.
    fn up(&self);

    /// There is no connection to the broker: no topic is live. Called again when the reason changes. The reason
    /// contains no secret.
    fn down(&self, reason: &str);

    /// These topics are not live, because the part of the broker that has them is away; other topics are not affected.
    /// [`Sink::live`] is called when they are live again. The reason contains no secret.
    fn away(&self, topics: &[Topic], reason: &str) {
        tracing::debug!("{} topics are away: {reason}", topics.len());
    }

    /// Publications of this channel were missed and cannot be fetched; the next delivery follows `gap.next`. In order
    /// with the deliveries of the topic.
    ///
    /// The default writes a log line, which is enough for a sink without subscribers that use positions.
    fn gap(&self, topic: &Topic, gap: &Gap) {
        tracing::warn!("{}: publications between {:?} and {:?} are lost", topic.as_str(), gap.last, gap.next);
    }

    /// A client has joined a channel, or left it (see [`Stateful::announce`]). In order with the channel's deliveries.
    /// The default ignores it.
    fn changed(&self, _channel: &Channel, _change: &Change) {}
}

/// Allowance for a publication or a member in a limit of bytes, as in the function library.
const ANSWER_OVERHEAD: usize = 64;

/// A shared sink.
pub type SharedSink = Arc<dyn Sink>;

/// Locks a mutex of this crate. The data behind each is valid at every step, so a panic of another thread while it held
/// the lock does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
