//! Maps in Redis: the arguments and the answers of their functions (see `maps.lua`).
//!
//! The changes of a map are the history of its channel, so positions, missed changes and reads of the stream are those of
//! histories; this module has what maps have besides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::Value;
use tidings_map_state::{
    Applied, Cursor, KeyChange, KeyMode, MapError, MapOptions, SetKey, StatePage, StateQuery, Suppression,
};
use tidings_wire::{Channel, Extra, HistoryQuery, MapKey, Position, Publication};

use super::coalesced::{CoalescedReads, ReadCallback};
use super::counters::Counters;
use super::library::Function;
use super::queue::{Arg, Queue, Reply, Request, read_position, unexpected};
use super::state_reader::{millis, publication};
use super::{Connection, Redis, envelope, library};
use crate::{
    BrokerError, CompletionCallback, HistoryCallback, KeyCountCallback, MAX_IDEMPOTENCY_KEY, MapChange,
    MapChangeCallback, MapStateCallback, Stateful as _,
};

/// The largest number that is passed for a count or for bytes: 2^53, which the library represents exactly.
const MAX_NUMBER: u64 = 1 << 53;
/// Most reads for one page of a state: another one follows after expired keys were removed, or the index was ordered.
const MAX_READS: u8 = 4;

/// Reads of states in flight: the channel, the query, and whether the map is ordered.
pub(super) type StateReads = CoalescedReads<(Channel, StateQuery, bool), StatePage>;

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
            let read = StateRead { queue: Arc::clone(&queue), counters: Arc::clone(&counters), reads: 0 };
            read.start(key.clone(), finish);
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

/// A read of a page of a state, which may take several calls.
struct StateRead {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    /// Reads so far.
    reads: u8,
}

impl StateRead {
    fn start(mut self, key: (Channel, StateQuery, bool), done: ReadCallback<StatePage>) {
        self.reads += 1;
        let (channel, query, ordered) = &key;
        let (request, queue) = (
            Request::Call(library::MAP_STATE, channel.clone(), state_args(query, *ordered)),
            Arc::clone(&self.queue),
        );
        let reply = Reply::Value(Box::new(move |value| {
            let value = match value {
                Ok(value) => value,
                Err(error) => return done(Err(error)),
            };
            let before = match &value {
                Value::Array(parts) if parts.is_empty() => {
                    Some((library::MAP_ORDER, vec![Arg::Number(u64::from(key.2))]))
                }
                Value::Array(parts) if matches!(parts.get(2), Some(Value::Int(0))) => {
                    Some((library::MAP_EXPIRE, Vec::new()))
                }
                _ => None,
            };
            match before {
                Some((function, args)) if self.reads < MAX_READS => self.after(function, args, key, done),
                _ => done(read_state(&key.0, &key.1, key.2, &value).ok_or_else(|| unexpected(&value))),
            }
        }));
        queue.push(request, reply);
    }

    /// Reads again after a call that writes.
    fn after(
        self,
        function: Function,
        args: Vec<Arg>,
        key: (Channel, StateQuery, bool),
        done: ReadCallback<StatePage>,
    ) {
        let counters = Arc::clone(&self.counters);
        let reply = Reply::Value(Box::new(move |value| {
            if let Ok(Value::Array(parts)) = &value
                && let Some(Value::Int(expired)) = parts.first()
            {
                counters
                    .maps
                    .expired
                    .fetch_add(u64::try_from(*expired).unwrap_or_default(), Ordering::Relaxed);
            }
        }));
        let queue = Arc::clone(&self.queue);
        queue.push(Request::Call(function, key.0.clone(), args), reply);
        self.start(key, done);
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

fn number(count: usize) -> Arg {
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

/// The arguments of a read of a page.
fn state_args(query: &StateQuery, ordered: bool) -> Vec<Arg> {
    let StateQuery { cursor, limit, asc, key, max_bytes } = query;
    vec![
        Arg::Number(u64::from(ordered)),
        Arg::text(&cursor_member(cursor, ordered).unwrap_or_default()),
        Arg::text(if *asc { "asc" } else { "" }),
        number(*limit),
        number(*max_bytes),
        Arg::text(key.as_deref().unwrap_or_default()),
    ]
}

/// The member of the index of a map for a cursor; `None` if the cursor is not one of such a map.
fn cursor_member(cursor: &str, ordered: bool) -> Option<String> {
    match (Cursor::parse(cursor)?, ordered) {
        (Cursor::Key(key), false) => Some(key.to_string()),
        (Cursor::Score(score, key), true) => Some(rank(score) + &*key),
        _ => None,
    }
}

/// A page.
fn read_state(channel: &Channel, query: &StateQuery, ordered: bool, value: &Value) -> Option<StatePage> {
    let Value::Array(parts) = value else { return None };
    let [epoch, offset, _, Value::Int(more), rest @ ..] = &parts[..] else { return None };
    let position = read_position(epoch, offset)?;
    let mut page = StatePage { position, entries: Vec::new(), scores: Vec::new(), cursor: String::new() };
    for entry in rest.chunks_exact(2) {
        let (entry, score) =
            read_value(channel, &page.position, envelope::bytes(&entry[0])?, envelope::bytes(&entry[1])?)?;
        page.entries.push(Arc::new(entry));
        page.scores.push(score);
    }
    if *more == 1
        && query.key.is_none()
        && let (Some(last), Some(score)) = (page.entries.last(), page.scores.last())
    {
        let key: Arc<str> = (&*last.extra.as_ref()?.map.as_ref()?.key).into();
        page.cursor = if ordered { Cursor::Score(*score, key) } else { Cursor::Key(key) }.text();
    }
    Some(page)
}

/// A value as the publication that set it, and its score.
fn read_value(
    channel: &Channel,
    position: &Position,
    key: &[u8],
    value: &[u8],
) -> Option<(Publication, i64)> {
    let end = value.iter().position(|byte| *byte == b'\n')?;
    let head: Vec<_> = std::str::from_utf8(&value[..end]).ok()?.split(' ').collect();
    let [offset, rank, _version, _size, epoch, info, tags] = head[..] else { return None };
    let length = |text: &str| text.parse::<usize>().ok();
    let rest = value.get(end + 1 + length(epoch)?..)?;
    let (extras, body) = rest.split_at_checked(length(info)?.checked_add(length(tags)?)?)?;
    let (mut extra, _) = envelope::read_extra(extras)?;
    let key = std::str::from_utf8(key).ok()?.into();
    extra.map = Some(Box::new(MapKey { key, ..MapKey::default() }));
    let at = Position { offset: offset.parse().ok()?, epoch: position.epoch.clone() };
    Some((publication(channel, Bytes::copy_from_slice(body), Some(at), Some(extra)), score(rank)?))
}

const SIGN: u64 = 1 << 63;

/// The rank of a score: texts of the same length, the first of which has the highest score.
fn rank(score: i64) -> String {
    format!("{:016x}", !(score.cast_unsigned() ^ SIGN))
}

/// The score of a rank.
fn score(rank: &str) -> Option<i64> {
    Some((!u64::from_str_radix(rank, 16).ok()? ^ SIGN).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_score_has_the_first_rank_and_no_score_is_rounded() {
        let scores = [i64::MAX, i64::MAX - 1, (1 << 53) + 1, 1 << 53, 1, 0, -1, i64::MIN + 1, i64::MIN];
        let ranks = scores.map(rank);
        assert!(ranks.is_sorted() && ranks.iter().all(|rank| rank.len() == 16), "{ranks:?}");
        assert_eq!(ranks.each_ref().map(|rank| score(rank)), scores.map(Some));
    }
}
