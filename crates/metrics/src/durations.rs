//! Distributions of durations: one, or one for each value of a label.
//!
//! Each has two kinds of buckets: few with fixed bounds, for the text formats, and the sparse ones of a native histogram.
//!
//! Invariant: the distributions by label have the buckets of [`BOUNDS`], so that those of all components can be compared
//! and added.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Label;
use crate::native::{NativeBuckets, NativeCounts};

/// The upper bounds of the buckets in seconds: from a round trip in one data centre to the longest usual timeout.
const BOUNDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// A distribution of durations.
#[derive(Debug)]
pub struct Durations {
    micros: AtomicU64,
    bounds: &'static [f64],
    /// The number of durations by bucket; the last one has no bound.
    buckets: Box<[AtomicU64]>,
    native: NativeBuckets,
}

impl Durations {
    /// An empty distribution. `bounds` are the upper bounds of the fixed buckets in seconds, in ascending order.
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { micros: AtomicU64::new(0), bounds, buckets, native: NativeBuckets::default() }
    }

    /// Counts a duration.
    pub fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.native.add(seconds);
    }

    /// The distribution at this moment.
    pub fn snapshot(&self) -> Distribution {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        Distribution {
            sum: self.micros.load(Ordering::Relaxed) as f64 / 1e6,
            buckets: bounds.zip(counts).collect(),
            native: self.native.snapshot(),
        }
    }
}

/// A distribution of durations at one moment.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// The sum of all durations in seconds.
    pub(crate) sum: f64,
    /// For each bucket its upper bound in seconds and the number of durations above the previous bound and up to this
    /// one. The last bound is infinite.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) native: NativeCounts,
}

impl Distribution {
    /// Adds the durations of another distribution with the same bounds.
    pub fn merge(&mut self, other: &Self) {
        debug_assert!(
            self.buckets.iter().map(|(bound, _)| bound).eq(other.buckets.iter().map(|(bound, _)| bound))
        );
        self.sum += other.sum;
        for ((_, count), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.native.add(&other.native);
    }

    /// The number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// A distribution of durations for each value of a label.
#[derive(Debug)]
pub struct KeyedDurations<K> {
    distributions: Box<[Durations]>,
    key: PhantomData<K>,
}

impl<K: Label> Default for KeyedDurations<K> {
    fn default() -> Self {
        Self { distributions: K::ALL.iter().map(|_| Durations::new(&BOUNDS)).collect(), key: PhantomData }
    }
}

impl<K: Label> KeyedDurations<K> {
    /// Counts a duration.
    pub fn add(&self, key: K, took: Duration) {
        self.distributions[key.index()].add(took);
    }

    /// Counts the time from now until the timer is dropped, also where an operation is abandoned.
    pub fn start(&self, key: K) -> DurationTimer<'_, K> {
        DurationTimer { durations: self, key, began: Instant::now() }
    }

    /// The distribution of each value of the label.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, Distribution)> {
        K::ALL.iter().map(|key| (key.label(), self.distributions[key.index()].snapshot()))
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
        let [(read, reads), (write, writes)] = &all[..] else { panic!("{all:?}") };
        assert_eq!((*read, *write), ("read", "write"));
        assert!((reads.sum - 6.001_003).abs() < 1e-9, "{reads:?}");
        let filled: Vec<_> = reads.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.000_5, 2), (0.001, 1), (1.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((reads.count(), reads.native.total()), (5, 5));
        assert_eq!((writes.count(), writes.native.total()), (1, 1));
    }

    #[test]
    fn distributions_with_the_same_bounds_are_added() {
        let (first, second) = (Durations::new(&[1.0]), Durations::new(&[1.0]));
        first.add(Duration::from_millis(1));
        second.add(Duration::from_secs(2));
        let mut sum = first.snapshot();
        sum.merge(&second.snapshot());
        assert_eq!(sum.buckets, [(1.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((sum.count(), sum.native.total()), (2, 2));
        assert!((sum.sum - 2.001).abs() < 1e-9, "{sum:?}");
    }
}
