//! The newest changes of one map.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_wire::{History, HistoryPage, HistoryQuery, Position, Publication};

use crate::budget::Budget;
use crate::map::later;

/// Memory of a publication of the stream besides its contents.
const PUBLICATION_OVERHEAD: usize = 256;
/// Allowance for a publication in a limit of bytes.
const ANSWER_OVERHEAD: usize = 64;

/// The newest changes, with consecutive offsets up to the position of the channel.
#[derive(Debug)]
pub(crate) struct Stream {
    entries: VecDeque<(Instant, Arc<Publication>)>,
    bytes: usize,
    ttl: Duration,
}

impl Default for Stream {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, ttl: Duration::ZERO }
    }
}

impl Stream {
    fn cost(publication: &Publication) -> usize {
        publication.size() + PUBLICATION_OVERHEAD
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the oldest publication expires.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.entries.front().map(|(at, _)| later(*at, self.ttl))
    }

    /// Adds the publication of the newest change, within these bounds. If it does not fit, the stream becomes empty.
    pub(crate) fn append(
        &mut self,
        publication: &Arc<Publication>,
        (size, ttl, max_bytes): (usize, Duration, usize),
        budget: &Budget,
        now: Instant,
    ) {
        self.ttl = ttl;
        self.expire(budget, now);
        let cost = Self::cost(publication);
        while !self.is_empty() && (self.entries.len() >= size.max(1) || self.bytes + cost > max_bytes) {
            self.drop_oldest(budget);
        }
        if size == 0 || cost > max_bytes {
            return self.clear(budget);
        }
        while !budget.reserve(cost) {
            if !self.drop_oldest(budget) {
                return;
            }
        }
        self.bytes += cost;
        self.entries.push_back((now, Arc::clone(publication)));
    }

    /// Drops expired publications.
    pub(crate) fn expire(&mut self, budget: &Budget, now: Instant) {
        while self.next_expiry().is_some_and(|at| at <= now) {
            self.drop_oldest(budget);
        }
    }

    /// Drops the oldest publication; `false` if there is none.
    pub(crate) fn drop_oldest(&mut self, budget: &Budget) -> bool {
        let Some((_, oldest)) = self.entries.pop_front() else { return false };
        let cost = Self::cost(&oldest);
        self.bytes -= cost;
        budget.release(cost);
        true
    }

    pub(crate) fn clear(&mut self, budget: &Budget) {
        while self.drop_oldest(budget) {}
    }

    /// Answers a query; `position` is that of the channel.
    pub(crate) fn read(&self, query: &HistoryQuery, position: Position) -> History {
        let first = position.offset + 1 - self.entries.len() as u64;
        let kept = self.entries.len();
        let range = match &query.since {
            Some(since) if !since.is_in(&position.epoch) || since.offset > position.offset => {
                return History::Unrecoverable(position);
            }
            Some(since) if query.reverse => 0..index(since.offset.saturating_sub(first)).min(kept),
            Some(since) if since.offset + 1 < first => return History::Unrecoverable(position),
            Some(since) => index(since.offset + 1 - first)..kept,
            None => 0..kept,
        };
        let limit = query.limit.unwrap_or(usize::MAX);
        let before = range.len().min(limit);
        let publications = self.entries.range(range).map(|(_, publication)| publication);
        let publications = if query.reverse {
            within(publications.rev().take(limit), query.max_bytes)
        } else {
            within(publications.take(limit), query.max_bytes)
        };
        if query.for_subscriber && query.since.is_some() && publications.len() < before {
            return History::Unrecoverable(position);
        }
        History::Page(HistoryPage { position, publications })
    }
}

/// As many of these as fit, but at least one.
fn within<'a>(
    publications: impl Iterator<Item = &'a Arc<Publication>>,
    max_bytes: usize,
) -> Vec<Arc<Publication>> {
    let mut bytes = 0_usize;
    let fits = |publication: &&Arc<Publication>| {
        let first = bytes == 0;
        bytes = bytes.saturating_add(publication.size() + ANSWER_OVERHEAD);
        first || bytes <= max_bytes
    };
    publications.take_while(fits).cloned().collect()
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
