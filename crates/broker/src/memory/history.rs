//! The history of one channel: a window of its newest publications, and the position it has come to.
//!
//! Invariants:
//! - The offsets in the window are consecutive and end at the position, or the window is empty.
//! - The window is bounded in count, in bytes and in age, and never holds bytes that the budget has not granted.
//!   Where the budget is used up, the channel that publishes gives up its own oldest publications; what does not fit
//!   even then empties the window. Whoever asks for what is gone is told that it cannot be recovered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_wire::{Position, Publication};

use super::budget::Budget;
use crate::{History, HistoryOptions, HistoryPage, HistoryQuery};

/// What keeping a publication costs besides its bytes: the shared structure, its channel and epoch, the window's slot.
const ENTRY: usize = 192;
/// What keeping a position costs: the table's slot, the name, the epoch.
pub(super) const META: usize = 320;

/// One channel's history. Whoever drops it gives its bytes back first, with [`Window::clear`].
#[derive(Debug)]
pub(super) struct Window {
    position: Position,
    entries: VecDeque<Entry>,
    bytes: usize,
    ttl: Duration,
    /// When the position is forgotten.
    until: Instant,
}

#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    at: Instant,
    cost: usize,
}

impl Window {
    /// An empty one at the beginning of `position`'s epoch, remembered for `meta_ttl`.
    pub(super) fn new(position: Position, now: Instant, meta_ttl: Duration) -> Self {
        Self {
            position,
            entries: VecDeque::new(),
            bytes: 0,
            ttl: Duration::ZERO,
            until: later(now, meta_ttl),
        }
    }

    /// Gives the publication its position and keeps it, if it fits into `channel_bytes` and the budget.
    pub(super) fn append(
        &mut self,
        mut publication: Publication,
        options: &HistoryOptions,
        channel_bytes: usize,
        budget: &Budget,
        now: Instant,
    ) -> Arc<Publication> {
        self.ttl = options.ttl;
        self.until = later(now, options.meta_ttl.max(options.ttl));
        self.expire(now, budget);
        self.position.offset += 1;
        publication.position = Some(self.position.clone());
        let cost = publication.size() + ENTRY;
        let publication = Arc::new(publication);
        while self.entries.len() >= options.size.max(1)
            || (self.bytes + cost > channel_bytes && !self.entries.is_empty())
        {
            self.drop_oldest(budget);
        }
        let mut granted = cost <= channel_bytes && budget.take(cost);
        while !granted && !self.entries.is_empty() {
            self.drop_oldest(budget);
            granted = budget.take(cost);
        }
        if granted {
            self.bytes += cost;
            self.entries.push_back(Entry { publication: Arc::clone(&publication), at: now, cost });
        }
        publication
    }

    /// Answers a query.
    pub(super) fn read(&mut self, query: &HistoryQuery, budget: &Budget, now: Instant) -> History {
        self.expire(now, budget);
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
        let publications = self.entries.range(range).map(|entry| Arc::clone(&entry.publication));
        let publications = if query.reverse {
            publications.rev().take(limit).collect()
        } else {
            publications.take(limit).collect()
        };
        History::Page(HistoryPage { position, publications })
    }

    /// Forgets every publication; the position stays.
    pub(super) fn clear(&mut self, budget: &Budget) {
        while !self.entries.is_empty() {
            self.drop_oldest(budget);
        }
    }

    /// Forgets what is too old; gives whether the position is so as well.
    pub(super) fn is_over(&mut self, now: Instant, budget: &Budget) -> bool {
        self.expire(now, budget);
        self.until <= now
    }

    fn expire(&mut self, now: Instant, budget: &Budget) {
        while self.entries.front().is_some_and(|entry| later(entry.at, self.ttl) <= now) {
            self.drop_oldest(budget);
        }
    }

    fn drop_oldest(&mut self, budget: &Budget) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.cost;
            budget.give(entry.cost);
        }
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// That much later, or in thirty years.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    now + time.min(LONG)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_wire::Channel;

    use super::*;

    /// What happens to a channel. Times are in seconds, sizes in bytes.
    #[derive(Clone, Debug)]
    enum Step {
        Publish { bytes: usize, size: usize, ttl: u64 },
        Wait(u64),
        Clear,
        Read { since: Option<i64>, other_epoch: bool, limit: Option<usize>, reverse: bool },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..600_usize, 1..6_usize, 1..9_u64)
                .prop_map(|(bytes, size, ttl)| Step::Publish { bytes, size, ttl }),
            1 => (0..5_u64).prop_map(Step::Wait),
            1 => Just(Step::Clear),
            4 => (
                prop::option::of(-3..9_i64),
                prop::bool::weighted(0.1),
                prop::option::of(0..5_usize),
                any::<bool>()
            )
                .prop_map(|(since, other_epoch, limit, reverse)| Step::Read {
                    since, other_epoch, limit, reverse
                }),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// Keeps everything ever published, and works out anew what is still there.
    #[derive(Default)]
    struct Model {
        all: Vec<(u64, usize)>,
        /// The first offset that may still be there.
        first: u64,
        ttl: u64,
    }

    impl Model {
        fn publish(&mut self, now: u64, bytes: usize, size: usize, ttl: u64, room: usize) {
            self.ttl = ttl;
            self.all.push((now, bytes + ENTRY));
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

        /// The offsets that a query gets; `None` when they are not all there.
        fn read(
            &self,
            since: Option<u64>,
            other_epoch: bool,
            limit: usize,
            reverse: bool,
        ) -> Option<Vec<u64>> {
            let top = self.all.len() as u64;
            if since.is_some_and(|since| other_epoch || since > top) {
                return None;
            }
            if reverse {
                let wanted = self.kept().rev().filter(|offset| since.is_none_or(|since| *offset < since));
                return Some(wanted.take(limit).collect());
            }
            if let Some(since) = since
                && (since + 1..=top).any(|offset| !self.kept().contains(&offset))
            {
                return None;
            }
            let wanted = self.kept().filter(|offset| since.is_none_or(|since| *offset > since));
            Some(wanted.take(limit).collect())
        }
    }

    proptest! {
        #[test]
        fn a_history_answers_as_one_that_keeps_everything_and_counts_anew(
            steps in steps(), channel_bytes in 500..3000_usize, total in 300..3000_u64
        ) {
            let channel = Channel::new("a").unwrap();
            let epoch = |text: &str| tidings_wire::Epoch::from(text);
            let budget = Budget::new(total);
            let start = Instant::now();
            let mut now = 0;
            let at = |now: u64| start + Duration::from_secs(now);
            let mut model = Model::default();
            let position = Position { offset: 0, epoch: epoch("e") };
            let mut window = Window::new(position, start, Duration::from_secs(1000));
            for step in steps {
                match step {
                    Step::Wait(seconds) => now += seconds,
                    Step::Clear => {
                        window.clear(&budget);
                        model.first = model.all.len() as u64 + 1;
                    }
                    Step::Publish { bytes, size, ttl } => {
                        let room = channel_bytes.min(usize::try_from(total).unwrap());
                        model.publish(now, bytes, size, ttl, room);
                        let options = HistoryOptions {
                            size, ttl: Duration::from_secs(ttl), meta_ttl: Duration::from_secs(1000)
                        };
                        let publication = Publication::new(channel.clone(), vec![b'x'; bytes]);
                        let kept = window.append(publication, &options, channel_bytes, &budget, at(now));
                        prop_assert_eq!(kept.offset(), Some(model.all.len() as u64));
                    }
                    Step::Read { since, other_epoch, limit, reverse } => {
                        model.age(now);
                        let top = model.all.len() as u64;
                        let since = since.map(|back| top.saturating_add_signed(-back));
                        let query = HistoryQuery {
                            limit,
                            since: since.map(|offset| Position {
                                offset, epoch: epoch(if other_epoch { "o" } else { "e" })
                            }),
                            reverse,
                            heard: false,
                            meta_ttl: Duration::from_secs(1),
                        };
                        let expected =
                            model.read(since, other_epoch, limit.unwrap_or(usize::MAX), reverse);
                        match window.read(&query, &budget, at(now)) {
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
                prop_assert!(budget.used() <= total && window.bytes <= channel_bytes);
                prop_assert_eq!(budget.used(), window.bytes as u64);
            }
        }
    }

    #[test]
    fn a_position_is_over_when_nothing_was_published_for_its_time() {
        let budget = Budget::new(10_000);
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let position = Position { offset: 0, epoch: "e".into() };
        let mut window = Window::new(position, now, second);
        let options = HistoryOptions { size: 1, ttl: second, meta_ttl: 3 * second };
        let publication = Publication::new(Channel::new("a").unwrap(), "hi");
        window.append(publication, &options, 1_000, &budget, now);
        assert!(!window.is_over(now + 2 * second, &budget));
        assert_eq!(budget.used(), 0, "the publication is too old by then");
        assert!(window.is_over(now + 3 * second, &budget));
    }
}
