//! The number of different values of a column: exact up to a limit, estimated above it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A number of different values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distinct {
    /// The number.
    pub count: u64,
    /// Whether the number is exact; otherwise it is estimated: within 2 % in two of three cases, within 5 % nearly
    /// always.
    pub exact: bool,
}

/// The most different values that are counted exactly.
const COUNTED: usize = 1_024;

/// The number of most frequent values.
const TOP: usize = 10;

/// Values are distinguished by a 64-bit hash: in a column of a thousand values, a collision has a probability of
/// 10^-13.
pub(super) enum Counter {
    /// The count of each value, and one of its lines.
    Counted(HashMap<u64, (u64, u32), BuildHasherDefault<IdentityHasher>>),
    Estimated(Estimate),
}

impl Default for Counter {
    fn default() -> Self {
        Self::Counted(HashMap::default())
    }
}

impl Counter {
    /// A counter for other lines of the same column. If this one estimates, the other one need not count exactly.
    pub(super) fn beside(&self) -> Self {
        match self {
            Self::Counted(_) => Self::default(),
            Self::Estimated(_) => Self::Estimated(Estimate::default()),
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
                    self.estimate();
                }
            }
            Self::Estimated(estimate) => estimate.add(hash),
        }
    }

    /// Adds the values of later lines.
    pub(super) fn merge(&mut self, later: Self) {
        match later {
            Self::Counted(counts) => {
                counts.into_iter().for_each(|(hash, (times, line))| self.add_hash(hash, times, line));
            }
            Self::Estimated(later) => self.estimate().merge(&later),
        }
    }

    /// Converts the exact counts to an estimate.
    fn estimate(&mut self) -> &mut Estimate {
        if let Self::Counted(counts) = self {
            let mut estimate = Estimate::default();
            counts.keys().for_each(|hash| estimate.add(*hash));
            *self = Self::Estimated(estimate);
        }
        match self {
            Self::Estimated(estimate) => estimate,
            Self::Counted(_) => unreachable!("it was just made an estimate"),
        }
    }

    pub(super) fn count(&self) -> Distinct {
        match self {
            Self::Counted(counts) => Distinct { count: counts.len() as u64, exact: true },
            Self::Estimated(estimate) => Distinct { count: estimate.count(), exact: false },
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

/// HyperLogLog (Flajolet et al. 2007) with 4,096 registers: a standard error of 1.6 %.
pub(super) struct Estimate {
    registers: Box<[u8; Self::REGISTERS]>,
}

impl Default for Estimate {
    fn default() -> Self {
        Self { registers: Box::new([0; Self::REGISTERS]) }
    }
}

impl Estimate {
    const BITS: u32 = 12;
    const REGISTERS: usize = 1 << Self::BITS;

    fn add(&mut self, hash: u64) {
        let register = &mut self.registers[(hash >> (u64::BITS - Self::BITS)) as usize];
        // The position of the first 1 after the bits that select the register.
        let place = ((hash << Self::BITS | 1 << (Self::BITS - 1)).leading_zeros() + 1) as u8;
        *register = (*register).max(place);
    }

    fn merge(&mut self, other: &Self) {
        for (register, other) in self.registers.iter_mut().zip(other.registers.iter()) {
            *register = (*register).max(*other);
        }
    }

    fn count(&self) -> u64 {
        let registers = Self::REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|register| f64::exp2(-f64::from(*register))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let zeros = self.registers.iter().filter(|register| **register == 0).count();
        // While registers are empty, linear counting is more accurate.
        let count = if raw <= 2.5 * registers && zeros > 0 {
            registers * (registers / zeros as f64).ln()
        } else {
            raw
        };
        count.round() as u64
    }
}

/// A 64-bit hash that is the same in every process.
fn hash(value: &[u8]) -> u64 {
    /// Odd constants without a pattern: digits of the fractions of √2, √3 and √5.
    const A: u64 = 0x6A09_E667_F3BC_C909;
    const B: u64 = 0xBB67_AE85_84CA_A73B;
    const C: u64 = 0x3C6E_F372_FE94_F82B;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product >> 64) as u64 ^ product as u64
    };
    let (words, rest) = value.as_chunks::<8>();
    let state =
        words.iter().fold(A ^ value.len() as u64, |state, word| fold(state ^ u64::from_le_bytes(*word), B));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(fold(state ^ u64::from_le_bytes(last), C), A)
}

/// A hasher for keys that are already hashes.
#[derive(Default)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are 64-bit numbers");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
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
    fn few_values_are_counted_and_many_are_estimated_within_five_percent() {
        assert_eq!(counted(0..1_024).count(), Distinct { count: 1_024, exact: true });
        for count in [1_025_u32, 3_000, 10_000, 50_000, 300_000] {
            let Distinct { count: found, exact } = counted(0..count).count();
            assert!(!exact);
            let error = (found as f64 / f64::from(count) - 1.0).abs();
            assert!(error < 0.05, "{found} instead of {count}");
        }
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
    fn the_most_frequent_values_come_first() {
        let mut counter = Counter::default();
        for (line, value) in ["b", "a", "c", "a", "c", "a"].iter().enumerate() {
            counter.add(value.as_bytes(), line as u32);
        }
        assert_eq!(counter.top(), [(1, 3), (2, 2), (0, 1)]);
    }
}
