//! The history of one channel: a window of its newest publications, and its position.
//!
//! Invariants:
//! - The offsets in the window are consecutive and end at the position, or the window is empty.
//! - The window is bounded in count, in bytes and in age, and never has bytes that its account has not granted. When
//!   the account is exhausted, the publishing channel drops its own oldest publications; a publication that does not
//!   fit even then empties the window. A query for dropped publications is answered as unrecoverable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_wire::{Position, Publication};

use super::budget::Account;
use crate::{ANSWER_OVERHEAD, HistoryOptions};
use tidings_wire::{History, HistoryPage, HistoryQuery};

/// Memory of a publication besides its bytes: the shared structure, its channel and epoch, the slot in the window.
const PUBLICATION_OVERHEAD: usize = 192;
/// Memory of a position: the slot in the table, the name, the epoch.
pub(super) const POSITION_OVERHEAD: usize = 320;

/// The history of one channel. The owner must call [`Window::clear`] before it drops it, to release the bytes.
#[derive(Debug)]
pub(super) struct Window {
    position: Position,
    account: Account,
    entries: VecDeque<Entry>,
    bytes: usize,
    ttl: Duration,
    /// The expiry of the position.
    until: Instant,
}

#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    at: Instant,
    cost: usize,
}

impl Window {
    /// An empty history at the beginning of `position`'s epoch, which expires after `meta_ttl`.
    pub(super) fn new(position: Position, account: Account, now: Instant, meta_ttl: Duration) -> Self {
        Self {
            position,
            account,
            entries: VecDeque::new(),
            bytes: 0,
            ttl: Duration::ZERO,
            until: later(now, meta_ttl),
        }
    }

    /// Bytes of a stored publication.
    pub(super) fn cost(publication: &Publication) -> usize {
        publication.size() + PUBLICATION_OVERHEAD
    }

    /// Drops publications to make room for one of that cost within the channel's own limits.
    pub(super) fn trim(&mut self, cost: usize, options: &HistoryOptions, channel_bytes: usize, now: Instant) {
        self.ttl = options.ttl;
        self.until = later(now, options.meta_ttl.max(options.ttl));
        self.expire(now);
        while self.entries.len() >= options.size.max(1)
            || (self.bytes + cost > channel_bytes && !self.entries.is_empty())
        {
            self.drop_oldest();
        }
    }

    /// Assigns the next position to the publication and stores it, after [`Self::trim`], if it fits into
    /// `channel_bytes` and the account. With `granted` its cost is reserved already; without, the channel's own oldest
    /// publications are dropped until it is. Returns also the number of dropped ones, itself included.
    pub(super) fn append(
        &mut self,
        mut publication: Publication,
        channel_bytes: usize,
        now: Instant,
        mut granted: bool,
    ) -> (Arc<Publication>, u64) {
        self.position.offset += 1;
        publication.position = Some(self.position.clone());
        let cost = Self::cost(&publication);
        let publication = Arc::new(publication);
        if cost > channel_bytes {
            if granted {
                self.account.release(cost);
            }
            return (publication, 0);
        }
        let mut given_up = 0;
        while !granted {
            granted = self.account.reserve(cost).is_ok();
            if !granted {
                given_up += 1;
                if self.entries.is_empty() {
                    return (publication, given_up);
                }
                self.drop_oldest();
            }
        }
        self.bytes += cost;
        self.entries.push_back(Entry { publication: Arc::clone(&publication), at: now, cost });
        (publication, given_up)
    }

    /// Answers a query.
    pub(super) fn read(&mut self, query: &HistoryQuery, now: Instant) -> History {
        self.expire(now);
        let position = self.position.clone();
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
        let publications = self.entries.range(range).map(|entry| &entry.publication);
        let publications = if query.reverse {
            page(publications.rev().take(limit), query.max_bytes)
        } else {
            page(publications.take(limit), query.max_bytes)
        };
        if query.for_subscriber && query.since.is_some() && publications.len() < before {
            return History::Unrecoverable(position);
        }
        History::Page(HistoryPage { position, publications })
    }

    /// Drops every publication; the position stays.
    pub(super) fn clear(&mut self) {
        while !self.entries.is_empty() {
            self.drop_oldest();
        }
    }

    /// Whether it has no publications.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops expired publications; returns whether the position has expired as well.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.until <= now
    }

    fn expire(&mut self, now: Instant) {
        while self.entries.front().is_some_and(|entry| later(entry.at, self.ttl) <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.cost;
            self.account.release(entry.cost);
        }
    }
}

/// As many of these as fit, but at least one.
fn page<'a>(
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

/// `now` plus `time`, at most thirty years.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    now + time.min(LONG)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_wire::Channel;

    use super::super::budget::Budget;
    use super::*;

    fn account(limit: u64) -> Account {
        Account { namespace: Arc::new(Budget::new(u64::MAX)), total: Arc::new(Budget::new(limit)) }
    }

    /// An event of a channel. Times are in seconds, sizes in bytes.
    #[derive(Clone, Debug)]
    enum HistoryStep {
        Publish { bytes: usize, size: usize, ttl: u64 },
        Wait(u64),
        Clear,
        Read { since: Option<i64>, other_epoch: bool, limit: Option<usize>, reverse: bool, max_bytes: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<HistoryStep>> {
        let step = prop_oneof![
            4 => (0..600_usize, 1..6_usize, 1..9_u64)
                .prop_map(|(bytes, size, ttl)| HistoryStep::Publish { bytes, size, ttl }),
            1 => (0..5_u64).prop_map(HistoryStep::Wait),
            1 => Just(HistoryStep::Clear),
            4 => (
                prop::option::of(-3..9_i64),
                prop::bool::weighted(0.1),
                prop::option::of(0..5_usize),
                any::<bool>(),
                prop_oneof![Just(usize::MAX), 0..2000_usize]
            )
                .prop_map(|(since, other_epoch, limit, reverse, max_bytes)| HistoryStep::Read {
                    since, other_epoch, limit, reverse, max_bytes
                }),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// Stores every publication, and computes from them which ones are still available.
    #[derive(Default)]
    struct Model {
        all: Vec<(u64, usize)>,
        /// The first offset that may still be available.
        first: u64,
        ttl: u64,
    }

    impl Model {
        fn publish(&mut self, now: u64, bytes: usize, size: usize, ttl: u64, room: usize) {
            self.ttl = ttl;
            self.all.push((now, bytes + PUBLICATION_OVERHEAD));
            let count = self.all.len() as u64;
            self.first = self.first.max((count + 1).saturating_sub(size as u64));
            self.age(now);
            while self.cost() > room {
                self.first += 1;
            }
        }

        fn age(&mut self, now: u64) {
            while self.kept().next().is_some_and(|offset| self.all[offset as usize - 1].0 + self.ttl <= now) {
                self.first += 1;
            }
        }

        fn kept(&self) -> std::ops::RangeInclusive<u64> {
            self.first.max(1)..=self.all.len() as u64
        }

        fn cost(&self) -> usize {
            self.kept().map(|offset| self.all[offset as usize - 1].1).sum()
        }

        /// The offsets of the answer to a query; `None` when they are not all available.
        fn read(
            &self,
            since: Option<u64>,
            other_epoch: bool,
            limit: usize,
            reverse: bool,
            max_bytes: usize,
        ) -> Option<Vec<u64>> {
            let size = |offset: u64| self.all[offset as usize - 1].1 - PUBLICATION_OVERHEAD + ANSWER_OVERHEAD;
            let fit = |wanted: Vec<u64>| {
                let sums = wanted.iter().scan(0, |sum, offset| {
                    *sum += size(*offset);
                    Some(*sum)
                });
                let count = sums.take_while(|sum| *sum <= max_bytes).count().max(1).min(wanted.len());
                wanted[..count].to_vec()
            };
            let top = self.all.len() as u64;
            if since.is_some_and(|since| other_epoch || since > top) {
                return None;
            }
            if reverse {
                let wanted = self.kept().rev().filter(|offset| since.is_none_or(|since| *offset < since));
                return Some(fit(wanted.take(limit).collect()));
            }
            if let Some(since) = since
                && (since + 1..=top).any(|offset| !self.kept().contains(&offset))
            {
                return None;
            }
            let wanted = self.kept().filter(|offset| since.is_none_or(|since| *offset > since));
            Some(fit(wanted.take(limit).collect()))
        }
    }

    proptest! {
        #[test]
        fn a_history_answers_as_an_unbounded_model(
            steps in steps(), channel_bytes in 500..3000_usize, total in 300..3000_u64
        ) {
            let channel = Channel::new("a").unwrap();
            let epoch = |text: &str| tidings_wire::Epoch::from(text);
            let account = account(total);
            let start = Instant::now();
            let mut now = 0;
            let at = |now: u64| start + Duration::from_secs(now);
            let mut model = Model::default();
            let position = Position { offset: 0, epoch: epoch("e") };
            let mut window = Window::new(position, account.clone(), start, Duration::from_secs(1000));
            for step in steps {
                match step {
                    HistoryStep::Wait(seconds) => now += seconds,
                    HistoryStep::Clear => {
                        window.clear();
                        model.first = model.all.len() as u64 + 1;
                    }
                    HistoryStep::Publish { bytes, size, ttl } => {
                        let room = channel_bytes.min(usize::try_from(total).unwrap());
                        model.publish(now, bytes, size, ttl, room);
                        let options = HistoryOptions {
                            size, ttl: Duration::from_secs(ttl), meta_ttl: Duration::from_secs(1000)
                        };
                        let publication = Publication::new(channel.clone(), vec![b'x'; bytes]);
                        window.trim(Window::cost(&publication), &options, channel_bytes, at(now));
                        let (kept, _) = window.append(publication, channel_bytes, at(now), false);
                        prop_assert_eq!(kept.offset(), Some(model.all.len() as u64));
                    }
                    HistoryStep::Read { since, other_epoch, limit, reverse, max_bytes } => {
                        model.age(now);
                        let top = model.all.len() as u64;
                        let since = since.map(|back| top.saturating_add_signed(-back));
                        let query = HistoryQuery {
                            limit,
                            since: since.map(|offset| Position {
                                offset, epoch: epoch(if other_epoch { "o" } else { "e" })
                            }),
                            reverse,
                            for_subscriber: false,
                            max_bytes,
                        };
                        let expected =
                            model.read(since, other_epoch, limit.unwrap_or(usize::MAX), reverse, max_bytes);
                        match window.read(&query, at(now)) {
                            History::Page(page) => {
                                prop_assert_eq!(page.position.offset, top);
                                let offsets: Vec<_> =
                                    page.publications.iter().filter_map(|p| p.offset()).collect();
                                prop_assert_eq!(Some(offsets), expected);
                            }
                            History::Unrecoverable(position) => {
                                prop_assert_eq!(position.offset, top);
                                prop_assert_eq!(None, expected);
                            }
                        }
                    }
                }
                let used = account.total.used();
                prop_assert!(used <= total && window.bytes <= channel_bytes);
                prop_assert_eq!(used, window.bytes as u64);
            }
        }
    }

    #[test]
    fn a_position_expires_without_publications() {
        let account = account(10_000);
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let position = Position { offset: 0, epoch: "e".into() };
        let mut window = Window::new(position, account.clone(), now, second);
        let options = HistoryOptions { size: 1, ttl: second, meta_ttl: 3 * second };
        let publication = Publication::new(Channel::new("a").unwrap(), "hi");
        window.trim(Window::cost(&publication), &options, 1_000, now);
        window.append(publication, 1_000, now, false);
        assert!(!window.is_over(now + 2 * second));
        assert_eq!(account.total.used(), 0, "the publication is too old by then");
        assert!(window.is_over(now + 3 * second));
    }
}
