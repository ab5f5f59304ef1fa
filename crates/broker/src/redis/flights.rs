//! Reading histories: many who ask for the same channel at once cost Redis one read.
//!
//! A query for what comes after a position is answered from what the node has heard, if that goes back far enough
//! ([`Tracker::answer`]). If not, the stream is read, for one such query per channel at a time; those that come meanwhile
//! wait, and are answered together from what the read has left in the tracker or by the next read, which begins where
//! the furthest back of them is. A query is never answered by a read that was made before it, except from what the
//! tracker has kept up to date since.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Value;
use tidings_wire::{Channel, Extra, Position, Publication};

use super::envelope;
use super::library;
use super::queue::{Arg, Queue, Reply, Request, read_position, unexpected};
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
}

type Waiter = (HistoryQuery, HistoryDone);

/// What a read of a stream gives.
pub(super) struct Read {
    pub(super) position: Position,
    pub(super) publications: Vec<Arc<Publication>>,
}

impl Flights {
    pub(super) fn new(queue: Arc<Queue>, tracker: Arc<Tracker>) -> Arc<Self> {
        Arc::new(Self { queue, tracker, waiting: Mutex::default() })
    }

    /// Answers a query, sooner or later.
    pub(super) fn ask(self: &Arc<Self>, channel: &Channel, query: HistoryQuery, done: HistoryDone) {
        if query.reverse || (query.since.is_none() && query.limit != Some(0)) {
            return self.ask_alone(channel, query, done);
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
        let after = lowest.map(|lowest| lowest.saturating_sub(MARGIN));
        let meta_ttl = waiters.iter().map(|(query, _)| query.meta_ttl).max().unwrap_or_default();
        let count = if after.is_none() { "0" } else { "" };
        let request = history(&channel, meta_ttl, after.map(|after| after + 1), None, count, "");
        let flights = Arc::clone(self);
        let reply = Reply::Value(Box::new(move |value| flights.land(channel, waiters, value)));
        self.queue.push(request, reply);
    }

    fn land(self: &Arc<Self>, channel: Channel, waiters: Vec<Waiter>, value: Result<Value, BrokerError>) {
        let read = value.and_then(|value| read(&channel, &value));
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

    /// A query that nobody else shares.
    fn ask_alone(&self, channel: &Channel, query: HistoryQuery, done: HistoryDone) {
        let (mut lowest, mut highest) = (None, None);
        match &query.since {
            Some(since) if query.reverse => highest = Some(since.offset.saturating_sub(1)),
            Some(since) => lowest = Some(since.offset + 1),
            None => {}
        }
        let count = query.limit.map(|limit| limit.to_string()).unwrap_or_default();
        let order = if query.reverse { "reverse" } else { "" };
        let request = history(channel, query.meta_ttl, lowest, highest, &count, order);
        let channel = channel.clone();
        let reply = Reply::Value(Box::new(move |value| {
            done(value.and_then(|value| read(&channel, &value)).map(|read| {
                let known = query.since.as_ref().is_none_or(|since| {
                    since.is_in(&read.position.epoch) && since.offset <= read.position.offset
                });
                if known {
                    History::Page(HistoryPage { position: read.position, publications: read.publications })
                } else {
                    History::Unrecoverable(read.position)
                }
            }));
        }));
        self.queue.push(request, reply);
    }
}

impl Read {
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

/// A call of the function that reads a history. Both offsets are part of what is read.
pub(super) fn history(
    channel: &Channel,
    meta_ttl: Duration,
    lowest: Option<u64>,
    highest: Option<u64>,
    count: &str,
    order: &str,
) -> Request {
    let offset = |offset: Option<u64>| offset.map_or_else(|| Arg::text(""), Arg::Number);
    let args = vec![
        Arg::Number(millis(meta_ttl)),
        offset(lowest),
        offset(highest),
        Arg::text(count),
        Arg::text(order),
    ];
    Request::Call(library::HISTORY, channel.clone(), args)
}

/// Reads what that function gives.
pub(super) fn read(channel: &Channel, value: &Value) -> Result<Read, BrokerError> {
    let read = || {
        let Value::Array(parts) = value else { return None };
        let [epoch, offset, Value::Array(entries)] = &parts[..] else { return None };
        let position = read_position(epoch, offset)?;
        let publications = entries
            .iter()
            .map(|entry| {
                let entry = envelope::read_entry(entry)?;
                let at = Position { offset: entry.offset, epoch: position.epoch.clone() };
                Some(Arc::new(publication(channel, entry.body, Some(at), entry.extra)))
            })
            .collect::<Option<_>>()?;
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
