//! Distributions of durations with one label that has a fixed set of values.
//!
//! Invariant: a distribution has the buckets of [`BOUNDS`], so that those of all components can be compared and added.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Label;

/// The upper bounds of the buckets in seconds: from a round trip in one data centre to the longest usual timeout.
const BOUNDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Debug, Default)]
struct Distribution {
    micros: AtomicU64,
    /// The number of durations by bucket; the last one has no bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

/// A distribution of durations for each value of a label.
#[derive(Debug)]
pub struct KeyedDurations<K> {
    distributions: Box<[Distribution]>,
    key: PhantomData<K>,
}

impl<K: Label> Default for KeyedDurations<K> {
    fn default() -> Self {
        Self { distributions: K::ALL.iter().map(|_| Distribution::default()).collect(), key: PhantomData }
    }
}

impl<K: Label> KeyedDurations<K> {
    /// Counts a duration.
    pub fn add(&self, key: K, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        let distribution = &self.distributions[key.index()];
        distribution.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        distribution.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts the time from now until the timer is dropped, also where an operation is abandoned.
    pub fn start(&self, key: K) -> DurationTimer<'_, K> {
        DurationTimer { durations: self, key, began: Instant::now() }
    }

    /// For each value of the label: the sum in seconds, and the buckets as [`MetricWriter::histogram`](crate::MetricWriter) takes them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, f64, Vec<(f64, u64)>)> {
        K::ALL.iter().map(|key| {
            let Distribution { micros, buckets } = &self.distributions[key.index()];
            let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
            let counts = buckets.iter().map(|count| count.load(Ordering::Relaxed));
            (key.label(), micros.load(Ordering::Relaxed) as f64 / 1e6, bounds.zip(counts).collect())
        })
    }
}

/// Counts a duration when it is dropped.
#[derive(Debug)]
pub struct DurationTimer<'a, K: Label> {
    durations: &'a KeyedDurations<K>,
    key: K,
    began: Instant,
}

impl<K: Label> Drop for DurationTimer<'_, K> {
    fn drop(&mut self) {
        self.durations.add(self.key, self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::labels! {
        enum Kind {
            Read => "read",
            Write => "write",
        }
    }

    #[test]
    fn durations_are_counted_by_label_up_to_and_including_the_bound_of_a_bucket() {
        let durations = KeyedDurations::<Kind>::default();
        for micros in [1, 500, 501, 1_000_000, 5_000_001] {
            durations.add(Kind::Read, Duration::from_micros(micros));
        }
        drop(durations.start(Kind::Write));
        let all: Vec<_> = durations.iter().collect();
        let [(read, sum, buckets), (write, _, other)] = &all[..] else { panic!("{all:?}") };
        assert_eq!((*read, *write), ("read", "write"));
        assert!((sum - 6.001_003).abs() < 1e-9, "{sum}");
        let filled: Vec<_> = buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.000_5, 2), (0.001, 1), (1.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(other.iter().map(|(_, count)| count).sum::<u64>(), 1);
    }
}
