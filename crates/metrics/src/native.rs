//! The sparse buckets of a native histogram of Prometheus
//! (<https://prometheus.io/docs/specs/native_histograms/#standard-schemas>).
//!
//! With schema `s`, the bucket `i` counts the values above `2^((i-1)/2^s)` and up to `2^(i/2^s)`. Values up to the zero
//! threshold are in a bucket of their own.

use std::f64::consts::FRAC_1_SQRT_2;
use std::sync::atomic::{AtomicU64, Ordering};

/// The resolution: 8 buckets for each power of two, so a quantile is at most 9.1 % off (2^(1/8)).
pub(crate) const SCHEMA: i32 = 3;
/// Buckets for each power of two.
const PER_OCTAVE: usize = 1 << SCHEMA;
/// Durations up to 2^-20 s (0.95 µs) are in the zero bucket.
const LOWEST_EXPONENT: i32 = -20;
/// Durations above 2^10 s (17 minutes) are in the last bucket; every operation that is measured ends earlier.
const HIGHEST_EXPONENT: i32 = 10;
/// The largest value in the zero bucket, in seconds.
pub(crate) const ZERO_THRESHOLD: f64 = 1.0 / (1_u64 << -LOWEST_EXPONENT) as f64;
/// The index of the first bucket above the zero bucket.
const FIRST: i32 = LOWEST_EXPONENT * PER_OCTAVE as i32 + 1;
const BUCKETS: usize = (HIGHEST_EXPONENT - LOWEST_EXPONENT) as usize * PER_OCTAVE;
/// The upper bounds of the first buckets of the octave from 0.5 to 1: 0.5 × 2^(k/8).
const FRACTIONS: [f64; PER_OCTAVE] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    FRAC_1_SQRT_2,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_5,
    0.917_004_043_204_671_2,
];

/// The counts of durations by sparse bucket.
#[derive(Debug)]
pub(crate) struct NativeBuckets {
    zero: AtomicU64,
    counts: Box<[AtomicU64; BUCKETS]>,
}

impl Default for NativeBuckets {
    fn default() -> Self {
        Self { zero: AtomicU64::new(0), counts: Box::new([const { AtomicU64::new(0) }; BUCKETS]) }
    }
}

impl NativeBuckets {
    /// Counts a duration in seconds, which is not negative.
    pub(crate) fn add(&self, seconds: f64) {
        let bucket = match seconds > ZERO_THRESHOLD {
            true => &self.counts[position(seconds)],
            false => &self.zero,
        };
        bucket.fetch_add(1, Ordering::Relaxed);
    }

    /// The current counts.
    pub(crate) fn snapshot(&self) -> NativeCounts {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        NativeCounts { zero: self.zero.load(Ordering::Relaxed), counts }
    }
}

/// The position of the bucket of a number of seconds above the zero threshold.
fn position(seconds: f64) -> usize {
    // A normal number is fraction × 2^exponent, with a fraction from 0.5 to below 1 (IEEE 754 §3.4).
    let bits = seconds.to_bits();
    let exponent = (bits >> 52) as i32 - 1022;
    let fraction = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    let within = FRACTIONS.partition_point(|bound| *bound < fraction) as i32;
    let index = within + (exponent - 1) * PER_OCTAVE as i32;
    usize::try_from(index - FIRST).unwrap_or(0).min(BUCKETS - 1)
}

/// Adjacent buckets: the distance to the end of the previous span (from index 0 for the first one), and the number of buckets.
pub(crate) type Span = (i32, u32);

/// Counts by sparse bucket at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct NativeCounts {
    pub(crate) zero: u64,
    counts: Vec<u64>,
}

impl NativeCounts {
    /// Adds the counts of another distribution.
    pub(crate) fn add(&mut self, other: &Self) {
        self.zero += other.zero;
        self.counts.resize(BUCKETS, 0);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// The number of all values.
    pub(crate) fn total(&self) -> u64 {
        self.zero + self.counts.iter().sum::<u64>()
    }

    /// The buckets that are not empty as spans, and each count as its difference from the previous one. A gap of one or
    /// two empty buckets is part of its span, because a span costs more than two counts.
    pub(crate) fn spans(&self) -> (Vec<Span>, Vec<i64>) {
        let (mut spans, mut deltas) = (Vec::<Span>::new(), Vec::new());
        let (mut end, mut previous) = (0_i32, 0_i64);
        let mut push = |count: u64| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            deltas.push(count - previous);
            previous = count;
        };
        for (index, count) in (FIRST..).zip(&self.counts).filter(|(_, count)| **count > 0) {
            let gap = index - end;
            match spans.last_mut() {
                Some((_, length)) if gap <= 2 => {
                    (0..gap).for_each(|_| push(0));
                    *length += gap.unsigned_abs() + 1;
                }
                _ => spans.push((gap, 1)),
            }
            push(*count);
            end = index + 1;
        }
        (spans, deltas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bounds of the bucket of a value, by the definition of the schema.
    fn bounds(seconds: f64) -> (f64, f64) {
        let index = f64::from(FIRST) + position(seconds) as f64;
        (2_f64.powf((index - 1.0) / 8.0), 2_f64.powf(index / 8.0))
    }

    #[test]
    fn a_duration_is_in_the_bucket_whose_bounds_contain_it() {
        let mut seconds = ZERO_THRESHOLD * 1.000_1;
        while seconds < 1_024.0 {
            let (above, up_to) = bounds(seconds);
            assert!(above < seconds && seconds <= up_to, "{above} < {seconds} <= {up_to}");
            seconds *= 1.003;
        }
        // A bound itself belongs to the bucket below it.
        for exponent in (LOWEST_EXPONENT + 1)..=HIGHEST_EXPONENT {
            let bound = 2_f64.powi(exponent);
            assert!((bounds(bound).1 / bound - 1.0).abs() < 1e-12, "{bound}");
        }
    }

    #[test]
    fn durations_outside_of_the_range_are_in_the_first_and_the_last_bucket() {
        let buckets = NativeBuckets::default();
        for seconds in [0.0, 1e-9, ZERO_THRESHOLD, 1e-6, 1e9] {
            buckets.add(seconds);
        }
        let counts = buckets.snapshot();
        assert_eq!((counts.zero, counts.counts[0], counts.counts[BUCKETS - 1]), (3, 1, 1));
        assert_eq!(counts.total(), 5);
    }

    #[test]
    fn spans_skip_empty_buckets_and_counts_are_differences() {
        let buckets = NativeBuckets::default();
        // The buckets 0 (three times), 1, 4 and 80: a gap of two buckets stays within a span, a longer one does not.
        for seconds in [1.0, 1.0, 1.0, 1.05, 1.4, 1_024.0] {
            buckets.add(seconds);
        }
        let (spans, deltas) = buckets.snapshot().spans();
        assert_eq!(spans, [(0, 5), (75, 1)]);
        assert_eq!(deltas, [3, -2, -1, 0, 1, 0]);
        assert_eq!(NativeCounts::default().spans(), (vec![], vec![]));
    }

    #[test]
    fn counts_of_several_distributions_are_added() {
        let (first, second) = (NativeBuckets::default(), NativeBuckets::default());
        first.add(1.0);
        second.add(1.0);
        second.add(0.0);
        let mut sum = NativeCounts::default();
        sum.add(&first.snapshot());
        sum.add(&second.snapshot());
        assert_eq!((sum.zero, sum.total()), (1, 3));
        assert_eq!(sum.spans(), (vec![(0, 1)], vec![2]));
    }
}
