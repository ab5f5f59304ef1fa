//! Histories, presence and registers in Redis: every operation is one call of the function library (see `library.lua`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tidings_map_state::StateQuery;
use tidings_wire::{Channel, ClientInfo};

use super::library::Function;
use super::queue::{Arg, Queue, Reply, Request, unexpected};
use super::state_reader::{StateReader, millis};
use super::{Connection, Redis, envelope, library, retained, wills};
use crate::{
    BrokerError, Change, CompletionCallback, EvictCallback, HistoryCallback, KeyCountCallback,
    MAX_IDEMPOTENCY_KEY, MAX_REGISTER_VALUES, MapChange, MapChangeCallback, MapStateCallback,
    PresenceCallback, PresenceStats, PresenceStatsCallback, PublishCallback, PublishOptions,
    RegisterCallback, Retain, RetainCallback, RetainedCallback, RetainedQuery, SessionFunction,
    SessionsCallback, Stateful, WillCallback, WillChange,
};
use tidings_wire::HistoryQuery;

/// The largest number that the library accepts.
const MAX_NUMBER: u64 = 999_999_999_999_999;
/// Members of an ended node that are removed in one step, during which Redis does nothing else.
const EVICTED_AT_ONCE: u64 = 500;

impl Redis {
    /// The reader of the server that has the channel.
    fn reader(&self, channel: &Channel) -> Option<Arc<StateReader>> {
        match &self.connection {
            Connection::Single(server) => Some(Arc::clone(&server.reader)),
            Connection::Cluster(cluster) => {
                cluster.primary(channel).map(|primary| Arc::clone(&primary.reader))
            }
        }
    }

    /// The queue of the server that has the channel.
    pub(super) fn queue(&self, channel: &Channel) -> Option<Arc<Queue>> {
        match &self.connection {
            Connection::Single(server) => Some(Arc::clone(&server.queue)),
            Connection::Cluster(cluster) => {
                cluster.primary(channel).map(|primary| Arc::clone(&primary.queue))
            }
        }
    }

    /// Drops the publications of a channel that are kept for queries.
    pub(super) fn drop_snapshot(&self, channel: &Channel) {
        match &self.connection {
            Connection::Single(server) => server.tracker.drop_snapshot(channel),
            Connection::Cluster(cluster) => {
                cluster
                    .primary(channel)
                    .into_iter()
                    .for_each(|primary| primary.tracker.drop_snapshot(channel));
            }
        }
    }

    pub(super) fn call(
        &self,
        function: Function,
        channel: &Channel,
        args: Vec<Arg>,
        done: impl FnOnce(Result<Value, BrokerError>) + Send + 'static,
    ) {
        let request = Request::Call(function, channel.clone(), args);
        self.send(channel, request, Reply::Value(Box::new(done)));
    }
}

impl Stateful for Redis {
    fn publish_with(&self, channel: &Channel, body: Bytes, options: PublishOptions, done: PublishCallback) {
        let PublishOptions { history, idempotency_key, extra } = options;
        let extra = extra.filter(|extra| !extra.is_empty());
        let history = history.filter(|history| history.size > 0);
        let key = idempotency_key.unwrap_or_default();
        if key.len() > MAX_IDEMPOTENCY_KEY {
            let why = format!("idempotency key longer than {MAX_IDEMPOTENCY_KEY} bytes");
            return done(Err(BrokerError::Invalid(why)));
        }
        let plain = history.is_none() && key.is_empty() && extra.is_none();
        let request = if plain {
            Request::Plain(channel.clone(), body)
        } else {
            let mut args = vec![
                Arg::Bytes(body),
                Arg::Number(history.map_or(0, |history| history.size as u64)),
                Arg::Number(history.map_or(1, |history| millis(history.ttl))),
                Arg::Number(history.map_or(1, |history| millis(history.meta_ttl))),
            ];
            let extras = extra.map(|extra| envelope::write_extra(&extra)).unwrap_or_default();
            if !key.is_empty() || !extras.is_empty() {
                args.push(Arg::text(&key));
            }
            if !extras.is_empty() {
                args.push(Arg::Bytes(extras.into()));
            }
            Request::Call(library::PUBLISH, channel.clone(), args)
        };
        self.send(channel, request, Reply::Published(done));
    }

    fn history(&self, channel: &Channel, query: HistoryQuery, done: HistoryCallback) {
        match self.reader(channel) {
            Some(reader) => reader.history(channel, query, done),
            None => done(Err(BrokerError::Unavailable)),
        }
    }

    fn history_remove(&self, channel: &Channel, done: CompletionCallback) {
        self.drop_snapshot(channel);
        self.call(library::HISTORY_REMOVE, channel, Vec::new(), move |value| done(value.map(drop)));
    }

    fn presence_add(&self, channel: &Channel, info: &ClientInfo, ttl: Duration, done: CompletionCallback) {
        self.presence_add_for_node(channel, info, ttl, false, done);
    }

    fn presence_add_for_node(
        &self,
        channel: &Channel,
        info: &ClientInfo,
        ttl: Duration,
        is_announced: bool,
        done: CompletionCallback,
    ) {
        let written = Arg::Bytes(envelope::write_info(info).into());
        let mut args = vec![Arg::text(&info.client), written, Arg::Number(millis(ttl))];
        if !self.node.is_empty() {
            args.extend([Arg::text(&self.node), Arg::Number(u64::from(is_announced))]);
        }
        self.call(library::PRESENCE_ADD, channel, args, move |value| done(value.map(drop)));
    }

    fn presence_evict(&self, channel: &Channel, node: &str, done: EvictCallback) {
        let args = vec![Arg::text(node), Arg::Number(EVICTED_AT_ONCE)];
        self.call(library::PRESENCE_EVICT, channel, args, move |value| {
            done(value.and_then(|value| match value {
                Value::Int(left) => Ok(u64::try_from(left).unwrap_or_default()),
                other => Err(unexpected(&other)),
            }));
        });
    }

    fn presence_remove(&self, channel: &Channel, client: &str, done: CompletionCallback) {
        let args = vec![Arg::text(client), Arg::text(&self.node)];
        self.call(library::PRESENCE_REMOVE, channel, args, move |value| done(value.map(drop)));
    }

    fn presence(&self, channel: &Channel, max_bytes: usize, done: PresenceCallback) {
        let Some(reader) = self.reader(channel) else { return done(Err(BrokerError::Unavailable)) };
        let bytes = u64::try_from(max_bytes).unwrap_or(u64::MAX).min(MAX_NUMBER);
        reader.call(library::PRESENCE, channel, Some(bytes), move |value| {
            done(value.and_then(|value| match &*value {
                Value::Int(_) => Err(BrokerError::LimitExceeded(max_bytes)),
                value => members(value).ok_or_else(|| unexpected(value)),
            }));
        });
    }

    fn presence_stats(&self, channel: &Channel, done: PresenceStatsCallback) {
        let Some(reader) = self.reader(channel) else { return done(Err(BrokerError::Unavailable)) };
        reader.call(library::PRESENCE_STATS, channel, None, move |value| {
            done(value.and_then(|value| stats(&value).ok_or_else(|| unexpected(&value))));
        });
    }

    fn register_set(
        &self,
        channel: &Channel,
        name: &str,
        value: Bytes,
        ttl: Option<Duration>,
        done: CompletionCallback,
    ) {
        let ttl = ttl.map_or_else(|| Arg::text(""), |ttl| Arg::Number(millis(ttl)));
        let args = vec![Arg::text(name), Arg::Bytes(value), ttl, Arg::Number(MAX_REGISTER_VALUES as u64)];
        self.call(library::KEEP, channel, args, move |value| done(value.map(drop)));
    }

    fn register_remove(&self, channel: &Channel, name: &str, done: CompletionCallback) {
        self.call(library::FORGET, channel, vec![Arg::text(name)], move |value| done(value.map(drop)));
    }

    fn register_values(&self, channel: &Channel, done: RegisterCallback) {
        self.call(library::KEPT, channel, Vec::new(), move |value| {
            let values = value.and_then(|value| match &value {
                Value::Array(values) => {
                    let values: Option<Vec<Bytes>> =
                        values.iter().map(|v| envelope::bytes(v).map(Bytes::copy_from_slice)).collect();
                    values.ok_or_else(|| unexpected(&value))
                }
                other => Err(unexpected(other)),
            });
            done(values);
        });
    }

    fn retain(&self, store: &Channel, change: Retain, done: RetainCallback) {
        let args = retained::args(&change);
        self.call(library::RETAIN, store, args, move |value| {
            done(value.and_then(|value| retained::outcome(&value).ok_or_else(|| unexpected(&value))));
        });
    }

    fn retained(&self, store: &Channel, query: RetainedQuery, done: RetainedCallback) {
        let (queue, counters) = (self.queue(store), Arc::clone(&self.counters));
        self.retained_reads.read(&(store.clone(), query), done, move |(store, query), done| {
            let (args, max_bytes) = (retained::query_args(query), query.max_bytes);
            let request = Request::Call(library::RETAINED, store.clone(), args);
            let reply = Reply::Value(Box::new(move |value| {
                done(value.and_then(|value| match &value {
                    Value::Int(_) => Err(BrokerError::LimitExceeded(max_bytes)),
                    value => retained::page(value).ok_or_else(|| unexpected(value)),
                }));
            }));
            match &queue {
                Some(queue) => queue.push(request, reply),
                None => reply.unavailable(&counters),
            }
        });
    }

    fn map_change(&self, channel: &Channel, change: MapChange, done: MapChangeCallback) {
        self.change_map(channel, change, done);
    }

    fn map_state(&self, channel: &Channel, query: StateQuery, ordered: bool, done: MapStateCallback) {
        self.read_map_state(channel, query, ordered, done);
    }

    fn map_stream(&self, channel: &Channel, query: HistoryQuery, done: HistoryCallback) {
        self.read_map_stream(channel, query, done);
    }

    fn map_key_count(&self, channel: &Channel, done: KeyCountCallback) {
        self.count_map_keys(channel, done);
    }

    fn map_clear(&self, channel: &Channel, done: CompletionCallback) {
        self.clear_map(channel, done);
    }

    fn change_will(&self, store: &Channel, change: &WillChange, done: WillCallback) {
        let (function, args) = wills::call(&self.node, change);
        self.call(function, store, args, move |value| {
            done(value.and_then(|value| wills::outcome(&value).ok_or_else(|| unexpected(&value))));
        });
    }

    fn call_sessions(
        &self,
        store: &Channel,
        function: SessionFunction,
        args: Vec<Bytes>,
        done: SessionsCallback,
    ) {
        let args = args.into_iter().map(Arg::Bytes).collect();
        self.call(library::of_sessions(function), store, args, move |value| {
            done(value.and_then(|value| texts(&value).ok_or_else(|| unexpected(&value))));
        });
    }

    fn announce(&self, channel: &Channel, change: Change, done: CompletionCallback) {
        let request = Request::Envelope(channel.clone(), envelope::write_change(&change).into());
        self.send(channel, request, Reply::Value(Box::new(move |value| done(value.map(drop)))));
    }
}

/// The texts of a list.
fn texts(value: &Value) -> Option<Vec<Bytes>> {
    let Value::Array(parts) = value else { return None };
    parts.iter().map(|part| envelope::bytes(part).map(Bytes::copy_from_slice)).collect()
}

fn members(value: &Value) -> Option<Vec<ClientInfo>> {
    let Value::Array(infos) = value else { return None };
    infos.iter().map(|info| envelope::read_info(&mut envelope::bytes(info)?)).collect()
}

fn stats(value: &Value) -> Option<PresenceStats> {
    let Value::Array(counts) = value else { return None };
    let [Value::Int(clients), Value::Int(users)] = &counts[..] else { return None };
    Some(PresenceStats { clients: u64::try_from(*clients).ok()?, users: u64::try_from(*users).ok()? })
}
