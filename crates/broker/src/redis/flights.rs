//! Reading histories and presence: many who ask for the same channel at once cost Redis one read.
//!
//! A query of a subscriber for what comes after a position is answered from what the node has heard, if that goes back far enough
//! ([`Tracker::answer`]). If not, the stream is read, for one such query per channel at a time; those that come meanwhile
//! wait, and are answered together from what the read has left in the tracker or by the next read, which begins where
//! the furthest back of them is. Such a read goes from the newest publication backwards and stops at its bytes, so those
//! for whom it does not reach far enough learn that without more being read. All other reads are shared where they are
//! the same ([`CoalescedReads`]). A query is never answered by a read that was made before it, except from what the
//! tracker has kept up to date since.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Value;
use tidings_wire::{Channel, Extra, Position, Publication};

use super::envelope;
use super::library;
use super::queue::{Arg, Queue, Reply, Request, read_position, unexpected};
use super::reads::{CoalescedReads, Landed};
use super::tracker::Tracker;
use crate::{BrokerError, History, HistoryDone, HistoryPage, HistoryQuery, lock};

/// How many publications before the one asked for are read as well, for those who will ask from a little further back.
const MARGIN: u64 = 64;

/// The reads under way.
pub(super) struct Flights {
    queue: Arc<Queue>,
    tracker: Arc<Tracker>,
    /// Those who wait for each channel's next read.
    waiting: Mutex<HashMap<Channel, Vec<Waiter>>>,
    pages: Arc<CoalescedReads<PageKey, Arc<Read>>>,
    values: Arc<CoalescedReads<ValueKey, Arc<Value>>>,
}

/// What tells reads of a history apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PageKey {
    channel: Channel,
    range: Range,
}

/// A call of a function that only reads, with its argument.
type ValueKey = (&'static str, Channel, Option<u64>);

/// Which part of a stream is read.
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
    /// The newest first.
    pub(super) reverse: bool,
}

type Waiter = (HistoryQuery, HistoryDone);

/// What a read of a stream gives.
pub(super) struct Read {
    pub(super) position: Position,
    pub(super) publications: Vec<Arc<Publication>>,
}

impl Flights {
    pub(super) fn new(queue: Arc<Queue>, tracker: Arc<Tracker>) -> Arc<Self> {
        let (pages, values) = (Arc::default(), Arc::default());
        Arc::new(Self { queue, tracker, waiting: Mutex::default(), pages, values })
    }

    /// Answers a query, sooner or later.
    pub(super) fn ask(self: &Arc<Self>, channel: &Channel, query: HistoryQuery, done: HistoryDone) {
        let position_alone = query.since.is_none() && query.limit == Some(0);
        let recovers = query.heard && query.since.is_some();
        if query.reverse || !(position_alone || recovers) {
            return self.page(channel, query, done);
        }
        if let Some(answer) = self.tracker.answer(channel, &query) {
            return done(Ok(answer));
        }
        {
            let mut waiting = lock(&self.waiting);
            if let Some(others) = waiting.get_mut(channel) {
                others.push((query, done));
                return;
            }
            // A read may have ended since the first look.
            if let Some(answer) = self.tracker.answer(channel, &query) {
                drop(waiting);
                return done(Ok(answer));
            }
            waiting.insert(channel.clone(), Vec::new());
        }
        self.fly(channel.clone(), vec![(query, done)]);
    }

    /// Reads for these, and then for those that have come meanwhile.
    fn fly(self: &Arc<Self>, channel: Channel, waiters: Vec<Waiter>) {
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
        let request = history(&channel, range);
        let flights = Arc::clone(self);
        let reply = Reply::Value(Box::new(move |value| flights.land(channel, waiters, value)));
        self.queue.push(request, reply);
    }

    fn land(self: &Arc<Self>, channel: Channel, waiters: Vec<Waiter>, value: Result<Value, BrokerError>) {
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
                match self.tracker.answer(&channel, &query) {
                    Some(answer) => done(Ok(answer)),
                    None => further.push((query, done)),
                }
            }
            if !further.is_empty() {
                return self.fly(channel, further);
            }
        }
    }

    /// A query that is shared with those who ask for the same.
    fn page(&self, channel: &Channel, query: HistoryQuery, done: HistoryDone) {
        let mut range = Range {
            // Whether there is a hole before the first is seen by that one alone.
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
        let start = move |key: &PageKey, landed: Landed<Arc<Read>>| {
            let channel = key.channel.clone();
            let request = history(&key.channel, key.range);
            queue.push(
                request,
                Reply::Value(Box::new(move |value| {
                    landed(value.and_then(|value| read(&channel, &value, false)).map(Arc::new));
                })),
            );
        };
        let landed = Box::new(move |read: Result<Arc<Read>, _>| done(read.map(|read| read.answer(&query))));
        self.pages.ask(&PageKey { channel: channel.clone(), range }, landed, start);
    }

    /// Calls a function that only reads, with a number of bytes; shared with those who ask the same.
    pub(super) fn value(
        &self,
        function: library::Function,
        channel: &Channel,
        bytes: Option<u64>,
        done: impl FnOnce(Result<Arc<Value>, BrokerError>) + Send + 'static,
    ) {
        let queue = Arc::clone(&self.queue);
        let start = move |(_, channel, bytes): &ValueKey, landed: Landed<Arc<Value>>| {
            let request =
                Request::Call(function, channel.clone(), bytes.map(Arg::Number).into_iter().collect());
            queue.push(request, Reply::Value(Box::new(move |value| landed(value.map(Arc::new)))));
        };
        self.values.ask(&(function.name, channel.clone(), bytes), Box::new(done), start);
    }
}

impl Read {
    /// What the query gets for which this was read.
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

    /// What a query gets that asks for what comes after a position, or for the position alone.
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

/// A number as an argument, where it is a bound at all.
fn bound(number: usize) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number < 1 << 48)
}

/// A call of the function that reads a history. Both offsets are part of what is read.
pub(super) fn history(channel: &Channel, range: Range) -> Request {
    let number = |number: Option<u64>| number.map_or_else(|| Arg::text(""), Arg::Number);
    let Range { lowest, highest, count, bytes, reverse } = range;
    let order = Arg::text(if reverse { "reverse" } else { "" });
    // The first is not used any more.
    let args = vec![Arg::text(""), number(lowest), number(highest), number(count), order, number(bytes)];
    Request::Call(library::HISTORY, channel.clone(), args)
}

/// Reads what that function gives; in the other order when `turned`.
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

/// A publication of all its parts.
pub(super) fn publication(
    channel: &Channel,
    body: bytes::Bytes,
    position: Option<Position>,
    extra: Option<Box<Extra>>,
) -> Publication {
    Publication { position, extra, ..Publication::new(channel.clone(), body) }
}

/// Whole milliseconds, at least one, at most thirty years.
pub(super) fn millis(time: Duration) -> u64 {
    const LONG: u64 = 30 * 365 * 24 * 3600 * 1000;
    u64::try_from(time.as_millis()).unwrap_or(LONG).clamp(1, LONG)
}
