//! Latencies of deliveries, in an HdrHistogram.
//!
//! Invariants:
//! - A quantile is at most 1 % too large (two significant digits); the maximum is exact.
//! - Memory grows with the logarithm of the longest latency, not with the number of latencies.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Significant decimal digits of a recorded value.
const DIGITS: u8 = 2;

/// Counts of latencies, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    counts: Histogram<u64>,
    max: u64,
}

impl Latency {
    /// An empty histogram.
    pub(super) fn new() -> Self {
        Self { counts: Histogram::new(DIGITS).expect("between 0 and 5 digits are supported"), max: 0 }
    }

    /// Counts one latency of `nanos` nanoseconds.
    pub(super) fn record(&mut self, nanos: u64) {
        self.counts.record(nanos).expect("the histogram grows to any value");
        self.max = self.max.max(nanos);
    }

    /// Adds the counts of `other`.
    pub(super) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts).expect("the histogram grows to any value");
        self.max = self.max.max(other.max);
    }

    /// The smallest recorded latency that the fraction `share` (0 to 1) of all latencies does not exceed, at most 1 %
    /// too large; zero for an empty histogram.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.counts.value_at_quantile(share).min(self.max))
    }

    /// The longest latency, exactly.
    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_counted_less_than_one_percent_too_long() {
        let mut nanos = 1_u64;
        while nanos < u64::MAX / 3 {
            for n in [nanos - 1, nanos, nanos + 1, nanos + nanos / 2] {
                let mut latency = Latency::new();
                latency.record(n);
                latency.record(u64::MAX);
                let counted = latency.quantile(0.5).as_nanos() as u64;
                assert!(counted >= n && (counted - n) as f64 <= n as f64 / 100.0, "{n} counted as {counted}");
                assert_eq!(latency.max(), Duration::from_nanos(u64::MAX));
            }
            nanos *= 2;
        }
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
