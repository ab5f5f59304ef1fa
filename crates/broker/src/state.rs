//! The stateful operations of a broker: histories, presence, idempotency, registers.

use std::time::Duration;

use bytes::Bytes;
use tidings_map_state::{Applied, KeyChange, MapOptions, StatePage, StateQuery};
use tidings_wire::{Channel, ClientInfo, Extra, History, HistoryQuery, Position, Publication};

use crate::{Broker, BrokerError, PublishCallback, SessionFunction, WillCallback, WillChange};

/// How long the result of a publication is stored under its idempotency key.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(5 * 60);
/// Longest idempotency key in bytes; a longer one is refused.
pub const MAX_IDEMPOTENCY_KEY: usize = 255;

/// Options of one publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// Store it in the channel's history, so that it gets a position.
    pub history: Option<HistoryOptions>,
    /// The same key in the same channel within [`IDEMPOTENCY_TTL`] returns the first result and publishes nothing. At
    /// most [`MAX_IDEMPOTENCY_KEY`] bytes; an empty key counts as none.
    pub idempotency_key: Option<String>,
    /// Its contents besides the body; empty ones count as none.
    pub extra: Option<Box<Extra>>,
}

/// Options of a channel's history. Each publication passes them, and the last ones count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryOptions {
    /// Most publications; with zero there is no history.
    pub size: usize,
    /// Lifetime: of each publication with the memory broker; of all of them after the last one with Redis. In
    /// milliseconds, at least one.
    pub ttl: Duration,
    /// Lifetime of the channel's epoch and offset after the last publication; at least `ttl`.
    pub meta_ttl: Duration,
}

/// A gap in the deliveries to a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last position delivered before the gap.
    pub last: Position,
    /// The next delivery follows this position. `None` when it is unknown.
    pub next: Option<Position>,
}

/// A client has joined or left a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A client has subscribed.
    Join(ClientInfo),
    /// A client has unsubscribed or disconnected.
    Leave(ClientInfo),
}

/// The members of a channel, in no order; each client once.
pub type Members = Vec<ClientInfo>;

/// The number of members of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Clients (connections).
    pub clients: u64,
    /// Different users among them; all anonymous clients count as one.
    pub users: u64,
}

/// Completion callback of a history query. Called exactly once, from any thread; must not block.
pub type HistoryCallback = Box<dyn FnOnce(Result<History, BrokerError>) + Send>;
/// Completion callback of a presence query. Called exactly once, from any thread; must not block.
pub type PresenceCallback = Box<dyn FnOnce(Result<Members, BrokerError>) + Send>;
/// Completion callback of a query for the number of members. Called exactly once, from any thread; must not block.
pub type PresenceStatsCallback = Box<dyn FnOnce(Result<PresenceStats, BrokerError>) + Send>;
/// Completion callback with the values of a register. Called exactly once, from any thread; must not block.
pub type RegisterCallback = Box<dyn FnOnce(Result<Vec<Bytes>, BrokerError>) + Send>;
/// Most values of a register.
pub const MAX_REGISTER_VALUES: usize = 100_000;
/// Completion callback with the number of members of a node that remain. Called exactly once, from any thread; must not
/// block.
pub type EvictCallback = Box<dyn FnOnce(Result<u64, BrokerError>) + Send>;
/// Completion callback of an operation without a result. Called exactly once, from any thread; must not block.
pub type CompletionCallback = Box<dyn FnOnce(Result<(), BrokerError>) + Send>;

/// A change of a key of a map, with the options of the map.
#[derive(Clone, Debug)]
pub struct MapChange {
    /// The change.
    pub change: KeyChange,
    /// The options of the map.
    pub options: MapOptions,
    /// The same key in the same channel within [`IDEMPOTENCY_TTL`] returns the first position and changes nothing. At most
    /// [`MAX_IDEMPOTENCY_KEY`] bytes.
    pub idempotency_key: Option<String>,
}

/// Completion callback of a change of a map. Called exactly once, from any thread; must not block.
pub type MapChangeCallback = Box<dyn FnOnce(Result<Applied, BrokerError>) + Send>;
/// Completion callback with a page of the state of a map. Called exactly once, from any thread; must not block.
pub type MapStateCallback = Box<dyn FnOnce(Result<StatePage, BrokerError>) + Send>;
/// Completion callback with the number of keys of a map. Called exactly once, from any thread; must not block.
pub type KeyCountCallback = Box<dyn FnOnce(Result<usize, BrokerError>) + Send>;

/// A change of the retained message of a topic of MQTT.
#[derive(Clone, Debug)]
pub struct Retain {
    /// The message, in the channel of its topic; with an empty body, the message of the topic is removed.
    pub publication: Publication,
    /// Its lifetime, in milliseconds; `None` for a message that does not expire.
    pub ttl: Option<Duration>,
    /// Most messages of the store.
    pub max_messages: usize,
    /// Most bytes of the store, with an allowance for each message.
    pub max_bytes: usize,
}

/// The number of retained messages, and their bytes with an allowance for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetainedTotals {
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The outcome of a [`Retain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetainOutcome {
    /// The change is stored, and the store has so many messages.
    Stored(RetainedTotals),
    /// The store has as many messages as the limit. Nothing has changed.
    TooManyMessages,
    /// The store has no room for so many bytes. Nothing has changed.
    TooManyBytes,
}

/// A query for retained messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RetainedQuery {
    /// A topic filter of MQTT.
    pub filter: Box<str>,
    /// The topic after which to read; empty for the first page.
    pub after: String,
    /// Most bytes of the messages, with an allowance for each.
    pub max_bytes: usize,
}

/// Retained messages that match a filter, in the order of their topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainedPage {
    /// The messages, each with its rest of lifetime if it expires.
    pub messages: Vec<(Publication, Option<Duration>)>,
    /// The topic after which the next page begins; `None` after the last page.
    pub next: Option<String>,
    /// All retained messages.
    pub totals: RetainedTotals,
}

/// Completion callback of a [`Retain`]. Called exactly once, from any thread; must not block.
pub type RetainCallback = Box<dyn FnOnce(Result<RetainOutcome, BrokerError>) + Send>;
/// Completion callback with a page of retained messages. Called exactly once, from any thread; must not block.
pub type RetainedCallback = Box<dyn FnOnce(Result<RetainedPage, BrokerError>) + Send>;
/// Completion callback with the answer of a function for sessions. Called exactly once, from any thread; must not block.
pub type SessionsCallback = Box<dyn FnOnce(Result<Vec<Bytes>, BrokerError>) + Send>;

/// The error of a broker that does not store retained messages.
fn no_retained() -> BrokerError {
    BrokerError::Invalid("retained messages of this broker are stored by its server".to_owned())
}

/// The error of a broker without maps.
fn no_maps() -> BrokerError {
    BrokerError::Invalid("this broker has no maps".to_owned())
}

/// A broker with state. As with every [`Broker`], no method blocks or waits.
pub trait Stateful: Broker {
    /// Publishes `body` with these options and calls `done` with the result. Publications of one caller keep their
    /// order, those of [`Broker::publish`] included; storing the publication, storing the result and publishing are one
    /// step.
    fn publish_with(&self, channel: &Channel, body: Bytes, options: PublishOptions, done: PublishCallback);

    /// Reads a channel's history. Creates nothing: the position of a channel without a history is derived, is the same
    /// for every query, and holds until the first publication, which follows it.
    fn history(&self, channel: &Channel, query: HistoryQuery, done: HistoryCallback);

    /// Removes a channel's publications; its position stays.
    fn history_remove(&self, channel: &Channel, done: CompletionCallback);

    /// Registers a client as a member of a channel for the next `ttl` (at least a millisecond), or renews it.
    fn presence_add(&self, channel: &Channel, info: &ClientInfo, ttl: Duration, done: CompletionCallback);

    /// As [`Stateful::presence_add`], for a client with or without announced joins and leaves: if this node ends
    /// without removing it, another node announces the leave ([`Stateful::presence_evict`]).
    fn presence_add_for_node(
        &self,
        channel: &Channel,
        info: &ClientInfo,
        ttl: Duration,
        is_announced: bool,
        done: CompletionCallback,
    ) {
        let _ = is_announced;
        self.presence_add(channel, info, ttl, done);
    }

    /// Removes some members of a channel that were registered by a node that has ended, and announces their leaves
    /// where they are announced: once, however many nodes call it. Returns how many remain, for which it must be
    /// called again.
    fn presence_evict(&self, channel: &Channel, node: &str, done: EvictCallback) {
        // A broker of one process has no other nodes.
        let _ = (channel, node);
        done(Ok(0));
    }

    /// Removes the member with this client id.
    fn presence_remove(&self, channel: &Channel, client: &str, done: CompletionCallback);

    /// Reads the members. [`BrokerError::LimitExceeded`] when they take more than `max_bytes`, with an allowance for
    /// each.
    fn presence(&self, channel: &Channel, max_bytes: usize, done: PresenceCallback);

    /// Reads the number of members.
    fn presence_stats(&self, channel: &Channel, done: PresenceStatsCallback);

    /// Announces a join or leave to the sinks of every node that has the channel subscribed. Does not change the
    /// members.
    fn announce(&self, channel: &Channel, change: Change, done: CompletionCallback);

    /// Stores `value` under `name` in the register of a channel, and replaces an earlier value of that name, for `ttl`
    /// (at least a millisecond; without it, without end). At most [`MAX_REGISTER_VALUES`] values; further names are
    /// refused. A broker with data only in its process need not store anything.
    fn register_set(
        &self,
        channel: &Channel,
        name: &str,
        value: Bytes,
        ttl: Option<Duration>,
        done: CompletionCallback,
    ) {
        let _ = (channel, name, value, ttl);
        done(Ok(()));
    }

    /// Removes the value under `name` from the register of a channel.
    fn register_remove(&self, channel: &Channel, name: &str, done: CompletionCallback) {
        let _ = (channel, name);
        done(Ok(()));
    }

    /// Reads the values in the register of a channel, in any order.
    fn register_values(&self, channel: &Channel, done: RegisterCallback) {
        let _ = channel;
        done(Ok(Vec::new()));
    }

    /// Changes the retained message of a topic in the store with this name, which all nodes share. Changes of one caller keep
    /// their order.
    fn retain(&self, store: &Channel, change: Retain, done: RetainCallback) {
        let _ = (store, change);
        done(Err(no_retained()));
    }

    /// Reads a page of the retained messages in the store with this name. [`BrokerError::LimitExceeded`] when they take more
    /// than the bytes of the query.
    fn retained(&self, store: &Channel, query: RetainedQuery, done: RetainedCallback) {
        let _ = (store, query);
        done(Err(no_retained()));
    }

    /// Changes the wills in the store with this name, which all nodes share. Changes of one caller keep their order.
    fn change_will(&self, store: &Channel, change: &WillChange, done: WillCallback) {
        let _ = (store, change);
        done(Err(BrokerError::Invalid("this broker does not store wills".to_owned())));
    }

    /// Calls a function for the sessions of MQTT in the store with this name, which all nodes share. Calls of one caller keep their
    /// order. The arguments and the answer are those of the files in Lua of `tidings-mqtt-redis`.
    fn call_sessions(
        &self,
        store: &Channel,
        function: SessionFunction,
        args: Vec<Bytes>,
        done: SessionsCallback,
    ) {
        let _ = (store, function, args);
        done(Err(BrokerError::Invalid("this broker does not store sessions".to_owned())));
    }

    /// Changes a key of a map, and delivers the change to the subscribers of the channel, in one step.
    fn map_change(&self, channel: &Channel, change: MapChange, done: MapChangeCallback) {
        let _ = (channel, change);
        done(Err(no_maps()));
    }

    /// Reads a page of the state of a map, in the order of scores if `ordered`.
    fn map_state(&self, channel: &Channel, query: StateQuery, ordered: bool, done: MapStateCallback) {
        let _ = (channel, query, ordered);
        done(Err(no_maps()));
    }

    /// Reads the changes of a map, as [`Stateful::history`] reads a history.
    fn map_stream(&self, channel: &Channel, query: HistoryQuery, done: HistoryCallback) {
        let _ = (channel, query);
        done(Err(no_maps()));
    }

    /// Reads the number of keys of a map.
    fn map_key_count(&self, channel: &Channel, done: KeyCountCallback) {
        let _ = channel;
        done(Err(no_maps()));
    }

    /// Removes the state and the stream of a map, and ends its epoch. [`crate::Sink::gap`] is called for its subscribers.
    fn map_clear(&self, channel: &Channel, done: CompletionCallback) {
        let _ = channel;
        done(Err(no_maps()));
    }
}
