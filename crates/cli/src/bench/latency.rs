//! A histogram of latencies: constant memory, less than 1 % error, whatever the range.
//!
//! Log-linear, as in HdrHistogram (Gil Tene): each power of two is divided into 128 equal parts.

use std::time::Duration;

/// Each power of two is divided into 2⁷ parts.
const PART_BITS: u32 = 7;
const PARTS: usize = 1 << PART_BITS;

/// Counts of nanoseconds, by size.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Latency {
    /// No latencies yet.
    pub(super) fn new() -> Self {
        Self { counts: vec![0; (65 - PART_BITS as usize) * PARTS], total: 0, max: 0 }
    }

    /// Adds one, in nanoseconds.
    pub(super) fn record(&mut self, nanos: u64) {
        self.counts[slot(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds all of another one's.
    pub(super) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The latency that `share` (0 to 1) of all did not pass, at most 1 % too long; zero when there are none.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        // The count is far below 2⁵³, where f64 becomes coarse.
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (slot, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper(slot).min(self.max));
            }
        }
        Duration::ZERO
    }

    /// The longest, exactly.
    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }
}

/// The slot that counts `nanos`: below 256 one each; above, the leading bit chooses the power of two and the seven
/// bits behind it the part.
fn slot(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(PART_BITS + 1);
    shift as usize * PARTS + (nanos >> shift) as usize
}

/// The longest latency that a slot counts.
fn upper(slot: usize) -> u64 {
    let shift = (slot / PARTS).saturating_sub(1);
    let part = (slot - shift * PARTS) as u64;
    // In this order the last slot's end, 2⁶⁴ − 1, does not overflow.
    (part << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_counted_less_than_one_percent_too_long() {
        let mut nanos = 1_u64;
        while nanos < u64::MAX / 3 {
            for n in [nanos - 1, nanos, nanos + 1, nanos + nanos / 2] {
                let top = upper(slot(n));
                assert!(top >= n && (top - n) as f64 <= n as f64 / 100.0, "{n} counted as {top}");
            }
            nanos *= 2;
        }
        assert_eq!(upper(slot(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let (mut left, mut right) = (Latency::new(), Latency::new());
        for n in 1..=1000 {
            let half = if n % 2 == 0 { &mut left } else { &mut right };
            half.record(n * 1_000);
        }
        left.add(&right);
        for (share, micros) in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000)] {
            let exact = Duration::from_micros(micros);
            let got = left.quantile(share);
            assert!(got >= exact && got <= exact.mul_f64(1.01), "{share}: {got:?}");
        }
        assert_eq!(left.max(), Duration::from_millis(1));
        assert_eq!(Latency::new().quantile(0.5), Duration::ZERO);
    }
}
