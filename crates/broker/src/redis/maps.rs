//! Maps in Redis: the arguments and the answers of their functions (see `maps.lua`).
//!
//! The changes of a map are the history of its channel, so positions, missed changes and reads of the stream are those of
//! histories; this module has what maps have besides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::Value;
use tidings_map_state::{Applied, KeyChange, KeyMode, MapError, MapOptions, SetKey, StateQuery, Suppression};
use tidings_wire::{Channel, Extra, HistoryQuery};

use super::counters::Counters;
use super::map_state::{StateRead, cursor_member, rank};
use super::queue::{Arg, read_position, unexpected};
use super::state_reader::{millis, publication};
use super::{Connection, Redis, envelope, library};
use crate::{
    BrokerError, CompletionCallback, HistoryCallback, KeyCountCallback, MAX_IDEMPOTENCY_KEY, MapChange,
    MapChangeCallback, MapStateCallback, Stateful as _,
};

/// The largest number that is passed for a count or for bytes: 2^53, which the library represents exactly.
const MAX_NUMBER: u64 = 1 << 53;

impl Redis {
    pub(super) fn change_map(&self, channel: &Channel, change: MapChange, done: MapChangeCallback) {
        let MapChange { change, options, idempotency_key } = change;
        let id = idempotency_key.unwrap_or_default();
        if id.len() > MAX_IDEMPOTENCY_KEY {
            let why = format!("idempotency key longer than {MAX_IDEMPOTENCY_KEY} bytes");
            return done(Err(BrokerError::Invalid(why)));
        }
        if let Err(error) = change.check() {
            return done(Err(BrokerError::Invalid(error.to_string())));
        }
        let args = change_args(&change, &options, &id);
        let function = if change.set.is_some() { library::MAP_CHANGE } else { library::MAP_REMOVE };
        let shown = change.set.map(|set| set.stream_body.unwrap_or(set.body)).unwrap_or_default();
        let (of, counters) = (channel.clone(), Arc::clone(&self.counters));
        self.call(function, channel, args, move |value| {
            let outcome = value.and_then(|value| {
                read_change(&of, shown, &value, &options, &counters).ok_or_else(|| unexpected(&value))
            });
            let counter = match &outcome {
                Ok(Ok(Applied::Changed(_))) => Some(&counters.maps.changes),
                Ok(Err(_)) => Some(&counters.maps.refused),
                Ok(Ok(Applied::Suppressed(..))) | Err(_) => None,
            };
            counter.into_iter().for_each(|counter| _ = counter.fetch_add(1, Ordering::Relaxed));
            done(outcome.and_then(|applied| applied.map_err(|error| BrokerError::Full(error.to_string()))));
        });
    }

    pub(super) fn read_map_state(
        &self,
        channel: &Channel,
        query: StateQuery,
        ordered: bool,
        done: MapStateCallback,
    ) {
        let is_valid =
            query.key.is_some() || query.cursor.is_empty() || cursor_member(&query.cursor, ordered).is_some();
        if !is_valid {
            return done(Err(BrokerError::Invalid("the cursor is not one of this map".to_owned())));
        }
        let Some(queue) = self.queue(channel) else { return done(Err(BrokerError::Unavailable)) };
        let counters = Arc::clone(&self.counters);
        self.state_reads.read(&(channel.clone(), query, ordered), done, move |key, finish| {
            StateRead::new(Arc::clone(&queue), Arc::clone(&counters)).start(key.clone(), finish);
        });
    }

    pub(super) fn read_map_stream(&self, channel: &Channel, query: HistoryQuery, done: HistoryCallback) {
        if query.for_subscriber {
            // The client follows the map from now on.
            self.deadlines.set(channel, Instant::now());
        } else {
            // Requests are carried out in order: the answer has the removals.
            self.expire_keys(channel, |_| {});
        }
        self.history(channel, query, done);
    }

    pub(super) fn count_map_keys(&self, channel: &Channel, done: KeyCountCallback) {
        self.call(library::MAP_COUNT, channel, Vec::new(), move |value| {
            done(value.and_then(|value| match value {
                Value::Int(count) => Ok(usize::try_from(count).unwrap_or_default()),
                other => Err(unexpected(&other)),
            }));
        });
    }

    pub(super) fn clear_map(&self, channel: &Channel, done: CompletionCallback) {
        self.drop_snapshot(channel);
        self.call(library::MAP_CLEAR, channel, Vec::new(), move |value| done(value.map(drop)));
    }

    /// Removes expired keys of a map, a bounded number; `done` gets the time until the next call, if one is necessary.
    pub(super) fn expire_keys(
        &self,
        channel: &Channel,
        done: impl FnOnce(Result<Option<Duration>, BrokerError>) + Send + 'static,
    ) {
        let counters = Arc::clone(&self.counters);
        self.call(library::MAP_EXPIRE, channel, Vec::new(), move |value| {
            done(value.and_then(|value| match &value {
                Value::Array(parts) if let [Value::Int(expired), Value::Int(next)] = &parts[..] => {
                    counters
                        .maps
                        .expired
                        .fetch_add(u64::try_from(*expired).unwrap_or_default(), Ordering::Relaxed);
                    Ok(u64::try_from(*next).ok().map(Duration::from_millis))
                }
                other => Err(unexpected(other)),
            }));
        });
    }

    /// Whether this node has subscribed a channel.
    pub(super) fn is_subscribed(&self, channel: &Channel) -> bool {
        let topic = channel.clone().into();
        match &self.connection {
            Connection::Single(server) => server.interest.is_wanted(&topic),
            Connection::Cluster(cluster) => cluster.is_wanted(&topic),
        }
    }
}

/// The arguments of a change.
fn change_args(change: &KeyChange, options: &MapOptions, id: &str) -> Vec<Arg> {
    let KeyChange { key, set, tags, info } = change;
    let written = |extra: &Extra| Arg::Bytes(envelope::write_extra(extra).into());
    let mode = set.as_ref().map_or("remove", |set| match set.mode {
        KeyMode::Always => "always",
        KeyMode::IfNew => "new",
        KeyMode::IfExists => "exists",
        KeyMode::IfChanged => "changed",
    });
    let mut args = vec![
        Arg::text(&options_text(options)),
        number(options.keys),
        number(options.bytes),
        Arg::text(id),
        Arg::text(key),
        written(&Extra { info: info.clone(), ..Extra::default() }),
        written(&Extra { tags: tags.clone(), ..Extra::default() }),
        Arg::text(mode),
    ];
    if let Some(SetKey { body, stream_body, score, version, .. }) = set {
        let (version, epoch) =
            version.as_ref().map_or((String::new(), ""), |v| (v.number.to_string(), &*v.epoch));
        args.extend([
            Arg::Bytes(body.clone()),
            Arg::text(&rank(*score)),
            Arg::text(&version),
            Arg::text(epoch),
            number(change.size()),
        ]);
        args.extend(stream_body.clone().map(Arg::Bytes));
    }
    args
}

/// An argument that is a count.
pub(super) fn number(count: usize) -> Arg {
    Arg::Number(u64::try_from(count).unwrap_or(MAX_NUMBER).min(MAX_NUMBER))
}

/// The options that the library stores with a map.
fn options_text(options: &MapOptions) -> String {
    let MapOptions { ordered, key_ttl, stream_size, stream_ttl, meta_ttl, keys: _, bytes: _ } = options;
    let (ordered, key_ttl) = (u8::from(*ordered), key_ttl.map_or(0, millis));
    let (stream_ttl, meta_ttl) = (millis(*stream_ttl), millis(*meta_ttl));
    format!("{ordered} {key_ttl} {} {stream_ttl} {meta_ttl}", (*stream_size).max(1))
}

/// The outcome of a change whose publication has this body; counts the keys that had expired before it.
fn read_change(
    channel: &Channel,
    body: Bytes,
    value: &Value,
    options: &MapOptions,
    counters: &Counters,
) -> Option<Result<Applied, MapError>> {
    let Value::Array(parts) = value else { return None };
    let [what, offset, epoch, extras, _, Value::Int(expired)] = &parts[..] else { return None };
    counters.maps.expired.fetch_add(u64::try_from(*expired).unwrap_or_default(), Ordering::Relaxed);
    let position = read_position(epoch, offset)?;
    let suppression = match envelope::bytes(what)? {
        b"changed" => {
            let (extra, _) = envelope::read_extra(envelope::bytes(extras)?)?;
            let changed = publication(channel, body, Some(position), Some(extra));
            return Some(Ok(Applied::Changed(Arc::new(changed))));
        }
        b"keys" => return Some(Err(MapError::Keys(options.keys))),
        b"bytes" => return Some(Err(MapError::ChannelBytes(options.bytes))),
        b"key_exists" => Suppression::KeyExists,
        b"key_not_found" => Suppression::KeyNotFound,
        b"version" => Suppression::Version,
        b"idempotency" => Suppression::Idempotency,
        _ => return None,
    };
    Some(Ok(Applied::Suppressed(suppression, position)))
}
