//! Where publications come from and where they are published to.
//!
//! A [`Broker`] carries publications between the nodes of a deployment (and from any other publisher); what it
//! hears it hands to the [`Sink`] it was given. It knows nothing of sessions, shards or HTTP.
//!
//! Invariants:
//! - No method of a [`Broker`] blocks or waits: each may be called from a thread that serves connections.
//! - A broker calls its sink from one place at a time per topic, so the order of a channel is the order of its
//!   `deliver` calls.
//! - Interest is remembered: a topic once subscribed is subscribed again after every lost connection, until it
//!   is unsubscribed. [`Sink::live`] is said each time the topic's subscription has been confirmed.
//! - Every request is answered exactly once, also when the connection is lost meanwhile.
//!
//! What a broker remembers of its channels, it does as a [`Stateful`] one: their histories with positions, who is
//! present, which publications were made before. A position means the same on every node.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use thiserror::Error;
use tidings_wire::{Channel, Delivery, Position, Topic};

pub mod memory;
pub mod redis;
mod state;

pub use state::{
    Change, EvictDone, Gap, History, HistoryDone, HistoryOptions, HistoryPage, HistoryQuery, KeptDone,
    MAX_IDEMPOTENCY_KEY, MOST_KEPT, Members, PresenceDone, PresenceStats, PublishOptions, REMEMBERED,
    Settled, Stateful, StatsDone,
};

/// Why a publication did not reach the broker, or a subscription was not made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BrokerError {
    /// There is no connection; trying again later may help.
    #[error("broker unavailable")]
    Unavailable,
    /// More publications wait for the broker than its budget of bytes allows; trying again later may help.
    #[error("broker overloaded")]
    Overloaded,
    /// What was asked for takes more than this many bytes, which was the limit. The same request fails again; nothing was
    /// read beyond the limit.
    #[error("limit exceeded: the answer takes more than {0} bytes")]
    LimitExceeded(usize),
    /// The request cannot be carried out as it is, for the reason given; it would fail again.
    #[error("{0}")]
    Invalid(String),
    /// The broker's access rules do not permit this to its user (Redis: `NOPERM`). The broker's own words are in the log.
    #[error("the broker does not permit this")]
    NotPermitted,
    /// The broker answered with an error that may pass: it is full, busy, or lacks replicas. Its own words are in the log
    /// and nowhere else, for they are not for clients.
    #[error("the broker cannot do this at present ({0})")]
    Failed(&'static str),
}

/// What became of a publication that the broker took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// How many receivers the broker counted, as Redis' `PUBLISH` answers: subscribers with the memory broker,
    /// connections to Redis with the Redis broker.
    pub receivers: u64,
    /// Where it stands in its channel's history, if it was kept there.
    pub position: Option<Position>,
    /// Whether it had been published before, under the same idempotency key, and so was not again; the other fields
    /// are those of the first time.
    pub repeated: bool,
}

/// Called exactly once with what became of a publication, from any thread; must not block.
pub type Done = Box<dyn FnOnce(Result<Published, BrokerError>) + Send>;

/// Carries publications between this node, other nodes and other publishers.
pub trait Broker: Send + Sync + 'static {
    /// Starts hearing a topic; [`Sink::live`] or [`Sink::refused`] follows, `live` perhaps before this returns. Of a
    /// topic that is live already, saying it again changes nothing; one that was refused is tried again.
    fn subscribe(&self, topic: &Topic);

    /// Stops hearing a topic.
    fn unsubscribe(&self, topic: &Topic);

    /// Publishes `body` and calls `done` with the outcome. Publications of one caller keep their order.
    fn publish(&self, channel: &Channel, body: Bytes, done: Done);

    /// Drops the broker's connection, if it has one, and makes a new one: for when it looks alive but nothing
    /// comes through. `reason` is for the log.
    fn reset(&self, reason: &str);

    /// The channels by which it is tried whether publications come through: one for every part of the broker that may
    /// fail by itself, as they are now. Names begin with `own`, among the deployment's own channels, or with `plain`, for
    /// what goes the way of those that anybody else publishes; an end is added where there are several.
    ///
    /// Both must be able to begin a channel's name, or there are none.
    fn probes(&self, own: &str, plain: &str) -> Vec<Probe> {
        let _ = plain;
        let channel = Channel::new(own).ok();
        channel
            .map(|channel| Probe { channel, through: "the broker".to_owned(), stateful: true })
            .into_iter()
            .collect()
    }

    /// Does as [`Broker::reset`] with the connections that a publication of this channel takes.
    fn reset_for(&self, channel: &Channel, reason: &str) {
        let _ = channel;
        self.reset(reason);
    }

    /// The broker's kind, for people: `memory`, `redis`.
    fn name(&self) -> &'static str;
}

/// One way through a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is published here takes it.
    pub channel: Channel,
    /// Through what, for people: `the broker`.
    pub through: String,
    /// Whether histories and presence are to be tried here as well; of the probes that take one way, one says so.
    pub stateful: bool,
}

/// Where a broker hands what it hears.
///
/// A sink must neither block nor call its broker back: it is called with the broker's locks held, from the thread
/// that published, or from the one that reads from the network. What it is told of one topic comes in order, and so
/// do `up` and `down`; `live` and `refused` may be about a topic that has been unsubscribed a moment ago.
pub trait Sink: Send + Sync + 'static {
    /// Hands over publications in the order they were heard, emptying `batch`. Gives how many subscribers on
    /// this node they are for, summed up. Never blocks.
    fn deliver(&self, batch: &mut Vec<Delivery>) -> u64;

    /// These topics are subscribed at the broker: nothing published to them from now on is missed.
    fn live(&self, topics: &[Topic]);

    /// The broker does not subscribe this topic at present. It is tried again from time to time for as long as it is
    /// wanted, and [`Sink::live`] follows when that succeeds; each failed attempt is reported here.
    fn refused(&self, topic: &Topic, error: &BrokerError);

    /// The connection to the broker stands; subscriptions are being made again.
    fn up(&self);

    /// The connection to the broker is lost or was never made: no topic is live any more. Said again when the
    /// reason changes. The reason holds no secret.
    fn down(&self, reason: &str);

    /// These topics are not live any more, or cannot be at present, for the part of the broker that they are with is away;
    /// the others are as they were. [`Sink::live`] is said when they are again. The reason holds no secret.
    fn away(&self, topics: &[Topic], reason: &str) {
        tracing::debug!("{} topics are away: {reason}", topics.len());
    }

    /// Publications of this channel were missed and cannot be fetched any more; what is delivered from now on comes
    /// after `gap.next`. Told in order with the deliveries of its topic.
    ///
    /// A sink without subscribers who count on positions need not do more than this: it is logged.
    fn gap(&self, topic: &Topic, gap: &Gap) {
        tracing::warn!("{}: publications between {:?} and {:?} are lost", topic.as_str(), gap.last, gap.next);
    }

    /// Somebody has come to a channel, or left it (see [`Stateful::announce`]). Told in order with the channel's
    /// deliveries. A sink whose subscribers are not told of each other need not listen.
    fn changed(&self, _channel: &Channel, _change: &Change) {}
}

/// What a publication or a member counts for in an answer besides its bytes, as in the function library.
const ANSWER_OVERHEAD: usize = 64;

/// A shared sink, as brokers hold it.
pub type SharedSink = Arc<dyn Sink>;

/// Locks a mutex of this crate. Each keeps its data whole at every step, so a thread that panicked while it held
/// one takes nobody else along.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
