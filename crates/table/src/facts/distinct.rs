//! The number of different values of a column, and the most frequent ones.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use crate::value::distinct::{Distinct, DistinctHashes, IdentityHasher, hash};

/// The most different values whose frequencies are counted.
const COUNTED: usize = 1_024;

/// The most different values of a column that are counted exactly.
pub(super) const EXACT: usize = 1 << 20;

/// The most hashes in a list.
const LISTED: usize = 8_192;

/// The number of most frequent values.
const TOP: usize = 10;

/// The different values of a column.
pub(super) enum Counter {
    /// The count of each value, and one of its lines.
    Counted(HashMap<u64, (u64, u32), BuildHasherDefault<IdentityHasher>>),
    Uncounted(DistinctHashes),
    /// The hashes of values, some more than once: those of a few lines, faster than a set.
    Listed(Vec<u64>),
}

impl Default for Counter {
    fn default() -> Self {
        Self::Counted(HashMap::default())
    }
}

impl Counter {
    /// A counter for other lines of the same column. It counts no more exactly than this one.
    pub(super) fn beside(&self) -> Self {
        match self {
            Self::Counted(_) => Self::default(),
            Self::Uncounted(hashes) if hashes.exact_len().is_none() => {
                Self::Uncounted(DistinctHashes::estimate())
            }
            Self::Uncounted(_) | Self::Listed(_) => Self::Listed(Vec::new()),
        }
    }

    pub(super) fn add(&mut self, value: &[u8], line: u32) {
        self.add_hash(hash(value), 1, line);
    }

    fn add_hash(&mut self, hash: u64, times: u64, line: u32) {
        match self {
            Self::Counted(counts) => {
                counts.entry(hash).or_insert((0, line)).0 += times;
                if counts.len() > COUNTED {
                    self.uncounted();
                }
            }
            Self::Uncounted(hashes) => hashes.insert(hash, EXACT),
            Self::Listed(hashes) => {
                hashes.push(hash);
                if hashes.len() > LISTED {
                    self.uncounted();
                }
            }
        }
    }

    /// Adds the values of later lines.
    pub(super) fn merge(&mut self, later: Self) {
        match later {
            Self::Counted(counts) => {
                counts.into_iter().for_each(|(hash, (times, line))| self.add_hash(hash, times, line));
            }
            Self::Uncounted(later) => self.uncounted().merge(later, EXACT),
            Self::Listed(later) => {
                let hashes = self.uncounted();
                later.into_iter().for_each(|hash| hashes.insert(hash, EXACT));
            }
        }
    }

    /// Drops the frequencies, and values that occur again.
    fn uncounted(&mut self) -> &mut DistinctHashes {
        let mut hashes = DistinctHashes::default();
        match self {
            Self::Counted(counts) => counts.keys().for_each(|hash| hashes.insert(*hash, EXACT)),
            Self::Listed(listed) => listed.iter().for_each(|hash| hashes.insert(*hash, EXACT)),
            Self::Uncounted(_) => {}
        }
        if !matches!(self, Self::Uncounted(_)) {
            *self = Self::Uncounted(hashes);
        }
        match self {
            Self::Uncounted(hashes) => hashes,
            Self::Counted(_) | Self::Listed(_) => unreachable!("it was just replaced"),
        }
    }

    /// The number of values that are in memory without their frequencies.
    pub(super) fn exact_len(&self) -> usize {
        match self {
            Self::Counted(_) => 0,
            Self::Uncounted(hashes) => hashes.exact_len().unwrap_or(0),
            Self::Listed(listed) => listed.len(),
        }
    }

    /// Replaces the values in memory by an estimate.
    pub(super) fn become_estimate(&mut self) {
        self.uncounted().become_estimate();
    }

    pub(super) fn count(&self) -> Distinct {
        match self {
            Self::Counted(counts) => Distinct { count: counts.len() as u64, exact: true },
            Self::Uncounted(hashes) => hashes.count(),
            Self::Listed(listed) => {
                let different: HashSet<&u64> = listed.iter().collect();
                Distinct { count: different.len() as u64, exact: true }
            }
        }
    }

    /// One line and the count of each of the most frequent values; empty unless all values were counted.
    pub(super) fn top(&self) -> Vec<(u32, u64)> {
        let Self::Counted(counts) = self else { return Vec::new() };
        let mut all: Vec<(u32, u64)> = counts.values().map(|(count, line)| (*line, *count)).collect();
        // Of two equally frequent values, the one that occurs first in the file.
        all.sort_unstable_by_key(|(line, count)| (std::cmp::Reverse(*count), *line));
        all.truncate(TOP);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(values: std::ops::Range<u32>) -> Counter {
        let mut counter = Counter::default();
        values.for_each(|value| counter.add(format!("value {value}").as_bytes(), value));
        counter
    }

    #[test]
    fn a_million_values_are_counted_exactly_and_more_are_estimated() {
        let most = EXACT as u32;
        for count in [1_024, 1_025, 300_000, most] {
            assert_eq!(counted(0..count).count(), Distinct { count: u64::from(count), exact: true });
        }
        let Distinct { count, exact } = counted(0..most + 1).count();
        assert!(!exact && count.abs_diff(u64::from(most)) * 20 < u64::from(most), "{count}");
    }

    #[test]
    fn merged_counts_equal_the_count_of_all() {
        for (middle, end) in [(10, 20), (600, 1_200), (2_000, 2_001), (3_000, 9_000)] {
            let (mut first, whole) = (counted(0..middle), counted(0..end));
            first.merge(counted(middle / 2..end));
            assert_eq!(first.count(), whole.count());
        }
    }

    #[test]
    fn parts_with_repeated_values_have_the_count_of_all() {
        let mut counter = counted(0..2_000);
        for values in [0..10, 1_990..2_010, 0..LISTED as u32 / 2, 0..2 * LISTED as u32] {
            let mut part = counter.beside();
            for _ in 0..2 {
                values.clone().for_each(|value| part.add(format!("value {value}").as_bytes(), value));
            }
            assert_eq!(part.count(), Distinct { count: u64::from(values.end - values.start), exact: true });
            counter.merge(part);
        }
        assert_eq!(counter.count(), Distinct { count: 2 * LISTED as u64, exact: true });
    }

    #[test]
    fn the_most_frequent_values_come_first() {
        let mut counter = Counter::default();
        for (line, value) in ["b", "a", "c", "a", "c", "a"].iter().enumerate() {
            counter.add(value.as_bytes(), line as u32);
        }
        assert_eq!(counter.top(), [(1, 3), (2, 2), (0, 1)]);
    }
}
