//! What a broker remembers of its channels, and how it is asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::{Channel, ClientInfo, Position, Publication};

use crate::{Broker, BrokerError, Done};

/// For how long the result of a publication is remembered under its idempotency key.
pub const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// Longest idempotency key in bytes; a longer one is refused.
pub const MAX_IDEMPOTENCY_KEY: usize = 255;

/// What is asked of one publication besides delivering it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// Keep it in the channel's history, so that it gets a position.
    pub history: Option<HistoryOptions>,
    /// The same key in the same channel within [`REMEMBERED`] gives the first result and publishes nothing. At most
    /// [`MAX_IDEMPOTENCY_KEY`] bytes; empty is none.
    pub idempotency_key: Option<String>,
    /// Which client published it.
    pub info: Option<ClientInfo>,
    /// What subscribers are to know of it.
    pub tags: Vec<(String, String)>,
}

/// How a channel's history is kept. Each publication says it anew, and the last word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryOptions {
    /// How many publications are kept; none when zero, as if there were no history.
    pub size: usize,
    /// For how long they are: each after it was published with the memory broker, all of them after the last one
    /// was with Redis. Milliseconds count, and one is the least.
    pub ttl: Duration,
    /// For how long after the last publication the channel's epoch and offset are remembered; at least `ttl`.
    pub meta_ttl: Duration,
}

/// Which part of a channel's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Not more publications than this; zero asks for the position alone. `None`: all there are.
    pub limit: Option<usize>,
    /// Those after this position (before it when reversed), whose epoch may be left empty for the present one; `None`: from
    /// the oldest (from the newest).
    pub since: Option<Position>,
    /// The newest first.
    pub reverse: bool,
    /// Asked for a subscriber of this node, so an answer from what the node has heard is as good, and when many come
    /// back at once, Redis is spared; where what came after `since` takes more than `max_bytes`, it is unrecoverable, for
    /// such a subscriber needs all of it. Otherwise the answer knows of everything that was published before the question.
    pub heard: bool,
    /// Not more bytes than this, counting each publication's size and an allowance for its keeping; at least one
    /// publication is given all the same, so that a caller who asks page by page gets on.
    pub max_bytes: usize,
}

/// The answer to a [`HistoryQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum History {
    /// What was asked for, without a hole.
    Page(HistoryPage),
    /// What came after the position asked for is not all there: its epoch is over, or the window has moved past it.
    /// This is where the channel stands.
    Unrecoverable(Position),
}

/// A part of a channel's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Where the channel stands: the position of its newest publication, also of one no longer kept. On a node that
    /// has the channel subscribed, everything delivered before the query was made is at or before it, and everything
    /// after it is delivered; deliveries at or before it may still be on their way to the sink, and a subscriber who
    /// was given this page is to pass them over.
    pub position: Position,
    /// In the order asked for. Fewer than asked for where they took too many bytes: the position of the last one is where
    /// the next page begins.
    pub publications: Vec<Arc<Publication>>,
}

/// A hole in what a sink was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last position delivered before it.
    pub last: Position,
    /// Where the channel goes on: the next delivery comes after this. `None` when nobody can say.
    pub next: Option<Position>,
}

/// Somebody comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A client has subscribed.
    Join(ClientInfo),
    /// A client has unsubscribed or disconnected.
    Leave(ClientInfo),
}

/// Who is present in a channel, in no order; each client once.
pub type Members = Vec<ClientInfo>;

/// How many are present in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Clients (connections).
    pub clients: u64,
    /// Different users among them; the anonymous ones are one.
    pub users: u64,
}

/// Called exactly once with a part of a history, from any thread; must not block.
pub type HistoryDone = Box<dyn FnOnce(Result<History, BrokerError>) + Send>;
/// Called exactly once with who is present, from any thread; must not block.
pub type PresenceDone = Box<dyn FnOnce(Result<Members, BrokerError>) + Send>;
/// Called exactly once with how many are present, from any thread; must not block.
pub type StatsDone = Box<dyn FnOnce(Result<PresenceStats, BrokerError>) + Send>;
/// Called exactly once with the values of a register, from any thread; must not block.
pub type KeptDone = Box<dyn FnOnce(Result<Vec<Bytes>, BrokerError>) + Send>;
/// Most values of a register.
pub const MOST_KEPT: usize = 100_000;
/// Called exactly once with how many members of a node are left in a channel, from any thread; must not block.
pub type EvictDone = Box<dyn FnOnce(Result<u64, BrokerError>) + Send>;
/// Called exactly once when something has been done or not, from any thread; must not block.
pub type Settled = Box<dyn FnOnce(Result<(), BrokerError>) + Send>;

/// A broker that remembers. As with every [`Broker`], no method blocks or waits.
pub trait Stateful: Broker {
    /// Publishes `body` as the options say and calls `done` with the outcome. Publications of one caller keep their
    /// order, those of [`Broker::publish`] included; appending, remembering and publishing are one step.
    fn publish_with(&self, channel: &Channel, body: Bytes, options: PublishOptions, done: Done);

    /// Reads a channel's history. Nothing is created: the position of a channel without a history is derived, is the
    /// same for all who ask, and holds until the first publication, which follows it.
    fn history(&self, channel: &Channel, query: HistoryQuery, done: HistoryDone);

    /// Forgets a channel's publications; its position stays.
    fn history_remove(&self, channel: &Channel, done: Settled);

    /// Says that a client is present in a channel for the next `ttl` (at least a millisecond): for the first time,
    /// or again.
    fn presence_add(&self, channel: &Channel, info: &ClientInfo, ttl: Duration, done: Settled);

    /// The same of a client whose coming and going is announced, or is not: should this node end without a word, another
    /// one announces the leave ([`Stateful::presence_evict`]).
    fn presence_keep(
        &self,
        channel: &Channel,
        info: &ClientInfo,
        ttl: Duration,
        is_announced: bool,
        done: Settled,
    ) {
        let _ = is_announced;
        self.presence_add(channel, info, ttl, done);
    }

    /// Takes out some members of a channel that a node which has ended kept present, and announces each leave that is
    /// announced: once, whatever number of nodes ask for it. Gives how many are left, for which it is to be called again.
    fn presence_evict(&self, channel: &Channel, node: &str, done: EvictDone) {
        // A broker of one process has no other nodes.
        let _ = (channel, node);
        done(Ok(0));
    }

    /// Says that the client with this id is present no longer.
    fn presence_remove(&self, channel: &Channel, client: &str, done: Settled);

    /// Asks who is present. [`BrokerError::LimitExceeded`] when they take more than `max_bytes`, with an allowance for
    /// each.
    fn presence(&self, channel: &Channel, max_bytes: usize, done: PresenceDone);

    /// Asks how many are present.
    fn presence_stats(&self, channel: &Channel, done: StatsDone);

    /// Tells the sinks of every node that has the channel subscribed that somebody has come or gone. It changes
    /// nothing in who is present.
    fn announce(&self, channel: &Channel, change: Change, done: Settled);

    /// Stores `value` under `name` in the register of a channel, in place of the one of that name, for `ttl` (at least a
    /// millisecond; without it, for ever). At most [`MOST_KEPT`] values; further names are refused. A broker whose data
    /// ends with the process need not store anything.
    fn keep(&self, channel: &Channel, name: &str, value: Bytes, ttl: Option<Duration>, done: Settled) {
        let _ = (channel, name, value, ttl);
        done(Ok(()));
    }

    /// Removes the value under `name` from the register of a channel.
    fn forget(&self, channel: &Channel, name: &str, done: Settled) {
        let _ = (channel, name);
        done(Ok(()));
    }

    /// Reads the values in the register of a channel, in any order.
    fn kept(&self, channel: &Channel, done: KeptDone) {
        let _ = channel;
        done(Ok(Vec::new()));
    }
}
