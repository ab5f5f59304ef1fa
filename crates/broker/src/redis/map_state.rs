//! Pages of the state of a map in Redis: the reads, and their arguments and answers (see `maps.lua`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use redis::Value;
use tidings_map_state::{Cursor, StatePage, StateQuery};
use tidings_wire::{Channel, MapKey, Position, Publication};

use super::coalesced::{CoalescedReads, ReadCallback};
use super::counters::Counters;
use super::library::Function;
use super::maps::number;
use super::queue::{Arg, Queue, Reply, Request, read_position, unexpected};
use super::state_reader::publication;
use super::{envelope, library};

/// Most reads for one page of a state: another one follows after expired keys were removed, or the index was ordered.
const MAX_READS: u8 = 4;

/// Reads of states in flight: the channel, the query, and whether the map is ordered.
pub(super) type StateReads = CoalescedReads<(Channel, StateQuery, bool), StatePage>;

/// A read of a page of a state, which may take several calls.
pub(super) struct StateRead {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    /// Reads so far.
    reads: u8,
}

impl StateRead {
    pub(super) fn new(queue: Arc<Queue>, counters: Arc<Counters>) -> Self {
        Self { queue, counters, reads: 0 }
    }

    /// Reads a page; `done` is called exactly once.
    pub(super) fn start(mut self, key: (Channel, StateQuery, bool), done: ReadCallback<StatePage>) {
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
                _ => done(read_state(&key.0, key.2, &value).ok_or_else(|| unexpected(&value))),
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
pub(super) fn cursor_member(cursor: &str, ordered: bool) -> Option<String> {
    match (Cursor::parse(cursor)?, ordered) {
        (Cursor::Key(key), false) => Some(key.to_string()),
        (Cursor::Score(score, key), true) => Some(rank(score) + &*key),
        _ => None,
    }
}

/// The cursor for a member of the index of a map.
fn member_cursor(member: &str, ordered: bool) -> Option<Cursor> {
    if !ordered {
        return Some(Cursor::Key(member.into()));
    }
    let (rank, key) = member.split_at_checked(16)?;
    Some(Cursor::Score(score(rank)?, key.into()))
}

/// A page.
fn read_state(channel: &Channel, ordered: bool, value: &Value) -> Option<StatePage> {
    let Value::Array(parts) = value else { return None };
    let [epoch, offset, _, last, rest @ ..] = &parts[..] else { return None };
    let position = read_position(epoch, offset)?;
    let mut page = StatePage { position, entries: Vec::new(), scores: Vec::new(), cursor: String::new() };
    for entry in rest.chunks_exact(2) {
        let (entry, score) =
            read_value(channel, &page.position, envelope::bytes(&entry[0])?, envelope::bytes(&entry[1])?)?;
        page.entries.push(Arc::new(entry));
        page.scores.push(score);
    }
    let last = std::str::from_utf8(envelope::bytes(last)?).ok()?;
    if !last.is_empty() {
        page.cursor = member_cursor(last, ordered)?.text();
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
pub(super) fn rank(score: i64) -> String {
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
