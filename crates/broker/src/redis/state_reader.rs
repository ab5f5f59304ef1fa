//! Reads of histories and presence: concurrent queries of one channel cost Redis one read.
//!
//! A subscriber's query for the publications after a position is answered from the messages that the node has received,
//! if they go back far enough ([`Tracker::try_answer`]). Otherwise the stream is read, for one such query per channel
//! at a time. Queries that arrive meanwhile wait. They are answered together, from what the read has left in the
//! tracker or by the next read, which begins at the lowest of their positions. Such a read goes backwards from the
//! newest publication and stops at its limit in bytes, so a query that it does not reach is answered as unrecoverable
//! without reading more. Other reads are shared when they are identical ([`CoalescedReads`]). A query is never
//! answered by a read that was sent before it, except from messages that the tracker has received since.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Value;
use tidings_wire::{Channel, Extra, Position, Publication};

use super::coalesced::{CoalescedReads, ReadCallback};
use super::envelope;
use super::library;
use super::queue::{Arg, Queue, Reply, Request, read_position, unexpected};
use super::tracker::Tracker;
use crate::{BrokerError, HistoryCallback, lock};
use tidings_wire::{History, HistoryPage, HistoryQuery};

/// Additional publications before the requested one, for queries from slightly lower positions.
const MARGIN: u64 = 64;

/// The reads in flight.
pub(super) struct StateReader {
    queue: Arc<Queue>,
    tracker: Arc<Tracker>,
    /// The queries that wait for the next read of each channel.
    waiting: Mutex<HashMap<Channel, Vec<PendingQuery>>>,
    pages: Arc<CoalescedReads<PageKey, Arc<Read>>>,
    values: Arc<CoalescedReads<ValueKey, Arc<Value>>>,
}

/// Identifies a read of a history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PageKey {
    channel: Channel,
    range: Range,
}

/// Identifies a call of a function that only reads: its name and arguments.
type ValueKey = (&'static str, Channel, Option<u64>);

/// The part of a stream to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Range {
    /// The lowest offset.
    pub(super) lowest: Option<u64>,
    /// The highest offset.
    pub(super) highest: Option<u64>,
    /// Most publications.
    pub(super) count: Option<u64>,
    /// Most bytes.
    pub(super) bytes: Option<u64>,
    /// From the newest publication backwards.
    pub(super) reverse: bool,
}

type PendingQuery = (HistoryQuery, HistoryCallback);

/// The result of a read of a stream.
pub(super) struct Read {
    pub(super) position: Position,
    pub(super) publications: Vec<Arc<Publication>>,
}

impl StateReader {
    pub(super) fn new(queue: Arc<Queue>, tracker: Arc<Tracker>) -> Arc<Self> {
        let (pages, values) = (Arc::default(), Arc::default());
        Arc::new(Self { queue, tracker, waiting: Mutex::default(), pages, values })
    }

    /// Answers a query; `done` may be called before this returns.
    pub(super) fn history(self: &Arc<Self>, channel: &Channel, query: HistoryQuery, done: HistoryCallback) {
        let position_alone = query.since.is_none() && query.limit == Some(0);
        let recovers = query.for_subscriber && query.since.is_some();
        if query.reverse || !(position_alone || recovers) {
            return self.read_page(channel, query, done);
        }
        if let Some(answer) = self.tracker.try_answer(channel, &query) {
            return done(Ok(answer));
        }
        {
            let mut waiting = lock(&self.waiting);
            if let Some(others) = waiting.get_mut(channel) {
                others.push((query, done));
                return;
            }
            // A read may have ended since the first attempt.
            if let Some(answer) = self.tracker.try_answer(channel, &query) {
                drop(waiting);
                return done(Ok(answer));
            }
            waiting.insert(channel.clone(), Vec::new());
        }
        self.start_read(channel.clone(), vec![(query, done)]);
    }

    /// Sends a read for these queries, and another one for the queries that arrive meanwhile.
    fn start_read(self: &Arc<Self>, channel: Channel, waiters: Vec<PendingQuery>) {
        self.tracker.record(&channel);
        let lowest = waiters.iter().filter_map(|(query, _)| Some(query.since.as_ref()?.offset)).min();
        let bytes = waiters.iter().map(|(query, _)| query.max_bytes).max();
        let range = Range {
            lowest: lowest.map(|lowest| (lowest + 1).saturating_sub(MARGIN).max(1)),
            count: lowest.is_none().then_some(0),
            bytes: bytes.and_then(bound),
            reverse: true,
            ..Range::default()
        };
        let request = history_request(&channel, range);
        let reader = Arc::clone(self);
        let reply = Reply::Value(Box::new(move |value| reader.finish_read(channel, waiters, value)));
        self.queue.push(request, reply);
    }

    fn finish_read(
        self: &Arc<Self>,
        channel: Channel,
        waiters: Vec<PendingQuery>,
        value: Result<Value, BrokerError>,
    ) {
        let read = value.and_then(|value| read(&channel, &value, true));
        if let Ok(read) = &read {
            self.tracker.complete(&channel, &read.position, &read.publications);
        }
        let answer = |query: &HistoryQuery| read.as_ref().map(|read| read.page(query)).map_err(Clone::clone);
        for (query, done) in waiters {
            done(answer(&query));
        }
        if let Err(error) = read {
            let left = lock(&self.waiting).remove(&channel).unwrap_or_default();
            left.into_iter().for_each(|(_, done)| done(Err(error.clone())));
            return;
        }
        loop {
            let left = {
                let mut waiting = lock(&self.waiting);
                let left = waiting.get_mut(&channel).map(std::mem::take).unwrap_or_default();
                if left.is_empty() {
                    waiting.remove(&channel);
                    return;
                }
                left
            };
            let mut further = Vec::new();
            for (query, done) in left {
                match self.tracker.try_answer(&channel, &query) {
                    Some(answer) => done(Ok(answer)),
                    None => further.push((query, done)),
                }
            }
            if !further.is_empty() {
                return self.start_read(channel, further);
            }
        }
    }

    /// Answers a query by a read that identical queries share.
    fn read_page(&self, channel: &Channel, query: HistoryQuery, done: HistoryCallback) {
        let mut range = Range {
            // The first publication shows whether others are missing before it, so at least one is read.
            count: query.limit.map(|limit| limit.max(usize::from(query.since.is_some()))).and_then(bound),
            bytes: bound(query.max_bytes),
            reverse: query.reverse,
            ..Range::default()
        };
        match &query.since {
            Some(since) if query.reverse => range.highest = Some(since.offset.saturating_sub(1)),
            Some(since) => range.lowest = Some(since.offset.saturating_add(1)),
            None => {}
        }
        let queue = Arc::clone(&self.queue);
        let start = move |key: &PageKey, finish: ReadCallback<Arc<Read>>| {
            let channel = key.channel.clone();
            let request = history_request(&key.channel, key.range);
            queue.push(
                request,
                Reply::Value(Box::new(move |value| {
                    finish(value.and_then(|value| read(&channel, &value, false)).map(Arc::new));
                })),
            );
        };
        let finish = Box::new(move |read: Result<Arc<Read>, _>| done(read.map(|read| read.answer(&query))));
        self.pages.read(&PageKey { channel: channel.clone(), range }, finish, start);
    }

    /// Calls a function that only reads, with a number of bytes as its argument; identical calls share one read.
    pub(super) fn call(
        &self,
        function: library::Function,
        channel: &Channel,
        bytes: Option<u64>,
        done: impl FnOnce(Result<Arc<Value>, BrokerError>) + Send + 'static,
    ) {
        let queue = Arc::clone(&self.queue);
        let start = move |(_, channel, bytes): &ValueKey, finish: ReadCallback<Arc<Value>>| {
            let request =
                Request::Call(function, channel.clone(), bytes.map(Arg::Number).into_iter().collect());
            queue.push(request, Reply::Value(Box::new(move |value| finish(value.map(Arc::new)))));
        };
        self.values.read(&(function.name, channel.clone(), bytes), Box::new(done), start);
    }
}

impl Read {
    /// The answer to the query that this read was sent for.
    fn answer(&self, query: &HistoryQuery) -> History {
        let position = self.position.clone();
        if let Some(since) = &query.since {
            let known = since.is_in(&position.epoch) && since.offset <= position.offset;
            let first = self.publications.first().and_then(|publication| publication.offset());
            let follows = query.reverse || since.offset == position.offset || first == Some(since.offset + 1);
            if !known || !follows {
                return History::Unrecoverable(position);
            }
        }
        let publications =
            self.publications.iter().take(query.limit.unwrap_or(usize::MAX)).cloned().collect();
        History::Page(HistoryPage { position, publications })
    }

    /// The answer to a query for the publications after a position, or for the position alone.
    fn page(&self, query: &HistoryQuery) -> History {
        let position = self.position.clone();
        let Some(since) = &query.since else {
            return History::Page(HistoryPage { position, publications: Vec::new() });
        };
        let start =
            self.publications.partition_point(|publication| publication.offset() <= Some(since.offset));
        let wanted = &self.publications[start..];
        let all = position.offset.checked_sub(since.offset) == Some(wanted.len() as u64);
        if !since.is_in(&position.epoch) || !all {
            return History::Unrecoverable(position);
        }
        let publications = wanted.iter().take(query.limit.unwrap_or(usize::MAX)).cloned().collect();
        History::Page(HistoryPage { position, publications })
    }
}

/// A number as an argument; `None` for values that are no limit.
fn bound(number: usize) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number < 1 << 48)
}

/// The call of the function that reads a history. The range includes both offsets.
pub(super) fn history_request(channel: &Channel, range: Range) -> Request {
    let number = |number: Option<u64>| number.map_or_else(|| Arg::text(""), Arg::Number);
    let Range { lowest, highest, count, bytes, reverse } = range;
    let order = Arg::text(if reverse { "reverse" } else { "" });
    // The first argument is unused.
    let args = vec![Arg::text(""), number(lowest), number(highest), number(count), order, number(bytes)];
    Request::Call(library::HISTORY, channel.clone(), args)
}

/// Parses the response of that function; reverses the order with `turned`.
pub(super) fn read(channel: &Channel, value: &Value, turned: bool) -> Result<Read, BrokerError> {
    let read = || {
        let Value::Array(parts) = value else { return None };
        let [epoch, offset, Value::Array(entries)] = &parts[..] else { return None };
        let position = read_position(epoch, offset)?;
        let entry = |entry| {
            let entry = envelope::read_entry(entry)?;
            let at = Position { offset: entry.offset, epoch: position.epoch.clone() };
            Some(Arc::new(publication(channel, entry.body, Some(at), entry.extra)))
        };
        let publications = if turned {
            entries.iter().rev().map(entry).collect::<Option<_>>()?
        } else {
            entries.iter().map(entry).collect::<Option<_>>()?
        };
        Some(Read { position, publications })
    };
    read().ok_or_else(|| unexpected(value))
}

/// Makes a publication from its parts.
pub(super) fn publication(
    channel: &Channel,
    body: bytes::Bytes,
    position: Option<Position>,
    extra: Option<Box<Extra>>,
) -> Publication {
    Publication { position, extra, ..Publication::new(channel.clone(), body) }
}

/// Whole milliseconds, from 1 to thirty years.
pub(super) fn millis(time: Duration) -> u64 {
    const LONG: u64 = 30 * 365 * 24 * 3600 * 1000;
    u64::try_from(time.as_millis()).unwrap_or(LONG).clamp(1, LONG)
}
