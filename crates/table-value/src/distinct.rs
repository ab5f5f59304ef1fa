//! The number of different values: exact up to a limit, estimated above it.

use std::collections::HashSet;
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

/// A set of different values, as their 64-bit hashes ([`hash`]). Among a million values, a collision has a probability
/// of 3·10^-8.
#[derive(Clone, Debug)]
pub struct DistinctHashes(Hashes);

#[derive(Clone, Debug)]
enum Hashes {
    Exact(HashSet<u64, BuildHasherDefault<IdentityHasher>>),
    Estimate(Box<Registers>),
}

/// HyperLogLog (Flajolet et al. 2007) with 4,096 registers: a standard error of 1.6 %.
type Registers = [u8; 1 << BITS];
const BITS: u32 = 12;

impl Default for DistinctHashes {
    fn default() -> Self {
        Self(Hashes::Exact(HashSet::default()))
    }
}

impl DistinctHashes {
    /// A set without values that only estimates: 4 KiB.
    #[must_use]
    pub fn estimate() -> Self {
        Self(Hashes::Estimate(Box::new([0; 1 << BITS])))
    }

    /// Adds a value. A set with more than `most` values becomes an estimate.
    #[inline]
    pub fn insert(&mut self, hash: u64, most: usize) {
        match &mut self.0 {
            Hashes::Exact(hashes) => {
                hashes.insert(hash);
                if hashes.len() > most {
                    self.become_estimate();
                }
            }
            Hashes::Estimate(registers) => register(registers, hash),
        }
    }

    /// Adds the values of another set.
    pub fn merge(&mut self, other: Self, most: usize) {
        match other.0 {
            Hashes::Exact(hashes) => hashes.into_iter().for_each(|hash| self.insert(hash, most)),
            Hashes::Estimate(others) => {
                self.become_estimate();
                if let Hashes::Estimate(own) = &mut self.0 {
                    own.iter_mut().zip(others.iter()).for_each(|(a, b)| *a = (*a).max(*b));
                }
            }
        }
    }

    /// Replaces an exact set by an estimate.
    pub fn become_estimate(&mut self) {
        if let Hashes::Exact(hashes) = &self.0 {
            let mut registers = Box::new([0; 1 << BITS]);
            hashes.iter().for_each(|hash| register(&mut registers, *hash));
            self.0 = Hashes::Estimate(registers);
        }
    }

    /// The number of values in memory; `None` for an estimate.
    #[must_use]
    pub fn exact_len(&self) -> Option<usize> {
        match &self.0 {
            Hashes::Exact(hashes) => Some(hashes.len()),
            Hashes::Estimate(_) => None,
        }
    }

    /// The number of different values.
    #[must_use]
    pub fn count(&self) -> Distinct {
        let registers = match &self.0 {
            Hashes::Exact(hashes) => return Distinct { count: hashes.len() as u64, exact: true },
            Hashes::Estimate(registers) => registers,
        };
        let size = registers.len() as f64;
        let sum: f64 = registers.iter().map(|register| f64::exp2(-f64::from(*register))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / size) * size * size / sum;
        let zeros = registers.iter().filter(|register| **register == 0).count();
        // While registers are empty, linear counting is more accurate.
        let is_small = raw <= 2.5 * size && zeros > 0;
        let count = if is_small { size * (size / zeros as f64).ln() } else { raw };
        Distinct { count: count.round() as u64, exact: false }
    }

    /// The bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.0 {
            // A hash, and a control byte with spare room for one in eight.
            Hashes::Exact(hashes) => hashes.capacity() * 10,
            Hashes::Estimate(_) => 1 << BITS,
        }
    }
}

fn register(registers: &mut Registers, hash: u64) {
    let place = &mut registers[(hash >> (u64::BITS - BITS)) as usize];
    // The position of the first 1 after the bits that select the register.
    let position = (hash << BITS | 1 << (BITS - 1)).leading_zeros() + 1;
    *place = (*place).max(position as u8);
}

/// A 64-bit hash that is the same in every process.
#[inline]
#[must_use]
pub fn hash(value: &[u8]) -> u64 {
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
    fold(fold(state ^ first_bytes(rest), C), A)
}

/// The first eight bytes as a number with the least significant byte first; missing bytes are 0.
#[inline]
#[must_use]
pub fn first_bytes(value: &[u8]) -> u64 {
    // Overlapping reads: a copy of variable length takes several times as long.
    let word = |at: usize| value[at..].first_chunk().map_or(0, |word| u64::from(u32::from_le_bytes(*word)));
    let byte = |at: usize| u64::from(value[at]);
    match value.len() {
        8.. => value.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)),
        length @ 4..=7 => word(0) | word(length - 4) << (8 * (length - 4)),
        length @ 1..=3 => {
            byte(0) | byte(length / 2) << (8 * (length / 2)) | byte(length - 1) << (8 * (length - 1))
        }
        0 => 0,
    }
}

/// A hasher for keys that are already hashes.
#[derive(Default)]
pub struct IdentityHasher(u64);

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

    const MOST: usize = 10_000;

    fn counted(values: std::ops::Range<u32>) -> DistinctHashes {
        let mut distinct = DistinctHashes::default();
        values.for_each(|value| distinct.insert(hash(&value.to_be_bytes()), MOST));
        distinct
    }

    #[test]
    fn few_values_are_counted_and_many_are_estimated_within_five_percent() {
        assert_eq!(counted(0..10_000).count(), Distinct { count: 10_000, exact: true });
        for count in [10_001, 50_000, 300_000] {
            let found = counted(0..count).count();
            let error = (found.count as f64 / f64::from(count) - 1.0).abs();
            assert!(!found.exact && error < 0.05, "{found:?} instead of {count}");
        }
        assert!(counted(0..300_000).bytes() <= 4_096);
    }

    #[test]
    fn first_bytes_are_padded_with_zeros() {
        let bytes = b"\xF1\x02\xA3\x84\x05\xC6\x07\xE8\x09";
        for length in 0..=bytes.len() {
            let mut padded = [0; 8];
            padded[..length.min(8)].copy_from_slice(&bytes[..length.min(8)]);
            assert_eq!(first_bytes(&bytes[..length]), u64::from_le_bytes(padded), "{length} bytes");
        }
    }

    #[test]
    fn an_estimate_of_few_values_is_close() {
        for count in [0, 1, 1_025, 3_000] {
            let mut distinct = counted(0..count);
            distinct.become_estimate();
            let Distinct { count: found, exact } = distinct.count();
            assert!(
                !exact && found.abs_diff(u64::from(count)) * 20 <= u64::from(count),
                "{found} instead of {count}"
            );
        }
    }

    #[test]
    fn merged_counts_equal_the_count_of_all() {
        for (middle, end) in [(10, 20), (9_000, 12_000), (20_000, 20_001), (30_000, 90_000)] {
            let mut first = counted(0..middle);
            first.merge(counted(middle / 2..end), MOST);
            assert_eq!(first.count(), counted(0..end).count());
        }
    }
}
