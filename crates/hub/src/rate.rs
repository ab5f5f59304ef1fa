//! Token buckets of one number each, shared by threads without a lock.
//!
//! The algorithm is GCRA: a bucket stores the time at which it is full again. Its capacity is the number of events in
//! one second. The caller passes the time, in nanoseconds since any fixed moment.

use std::sync::atomic::{AtomicU64, Ordering};

/// One second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// A limit of events per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// 0 is no limit.
    per_second: u64,
}

/// A token bucket for any number of threads. A new bucket is full.
#[derive(Debug, Default)]
pub struct Bucket {
    /// The time at which the bucket is full again.
    full: AtomicU64,
}

impl Rate {
    /// At most `events` per second; 0 is no limit.
    pub fn per_second(events: usize) -> Self {
        Self { per_second: events as u64 }
    }

    /// Whether there is a limit.
    pub fn is_limited(self) -> bool {
        self.per_second > 0
    }

    /// The number of events per second; 0 is no limit.
    pub fn events(self) -> u64 {
        self.per_second
    }

    /// The time in which this number of events is restored, in nanoseconds.
    fn span(self, events: u64) -> u64 {
        events.saturating_mul(SECOND).checked_div(self.per_second).unwrap_or(0)
    }
}

impl Bucket {
    /// Takes `events`, at least one, if one is available; returns whether they may happen. Events beyond the available
    /// ones are owed, and delay later events.
    pub fn take(&self, rate: Rate, events: u64, now: u64) -> bool {
        if !rate.is_limited() {
            return true;
        }
        let (one, taken) = (rate.span(1), rate.span(events.max(1)));
        let next = |full: u64| {
            let full = full.max(now);
            (full.saturating_add(one) <= now.saturating_add(SECOND)).then(|| full.saturating_add(taken))
        };
        self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Returns events that were taken and did not happen.
    pub fn refund(&self, rate: Rate, events: u64) {
        let returned = rate.span(events.max(1));
        let next = |full: u64| Some(full.saturating_sub(returned));
        let _ = self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Whether the bucket is full, so that it is equal to a new one.
    pub fn is_full(&self, now: u64) -> bool {
        self.full.load(Ordering::Relaxed) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_is_allowed_and_then_the_rate_applies() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(10));
        let allowed = |now: u64| (0..100).filter(|_| bucket.take(rate, 1, now)).count();
        assert_eq!(allowed(0), 10);
        assert_eq!(allowed(SECOND / 2), 5);
        assert_eq!(allowed(100 * SECOND), 10);
    }

    #[test]
    fn events_beyond_the_capacity_delay_later_events() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(10));
        assert!(bucket.take(rate, 100, 0));
        assert!(!bucket.take(rate, 1, 9 * SECOND));
        assert!(bucket.take(rate, 1, 9 * SECOND + SECOND / 5));
    }

    #[test]
    fn refunded_events_can_be_taken_again() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(2));
        assert!(bucket.take(rate, 1, 0) && bucket.take(rate, 1, 0) && !bucket.take(rate, 1, 0));
        bucket.refund(rate, 1);
        assert!(bucket.take(rate, 1, 0) && !bucket.take(rate, 1, 0));
        assert!(!bucket.is_full(SECOND / 2) && bucket.is_full(SECOND));
    }

    #[test]
    fn rates_above_one_event_per_nanosecond_are_limited() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(4_000_000_000));
        let taken = (0..10_000).filter(|_| bucket.take(rate, 1_000_000, 0)).count();
        assert_eq!(taken, 4_001, "four gigabytes, and the event that exceeds them");
    }

    #[test]
    fn without_a_rate_nothing_is_limited() {
        let bucket = Bucket::default();
        assert!((0..1_000_000).all(|_| bucket.take(Rate::default(), 1_000, 0)));
    }
}
