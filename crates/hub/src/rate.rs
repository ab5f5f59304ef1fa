//! Token buckets of one number each, shared by threads without a lock.
//!
//! The algorithm is GCRA: a bucket stores the time at which it is full again. It holds one second's worth of events, so
//! as many as the rate may happen at once. Time is given by the caller, in nanoseconds since any fixed moment.

use std::sync::atomic::{AtomicU64, Ordering};

/// One second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// How many events may happen in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// 0 is no limit.
    per_second: u64,
}

/// A bucket, which any number of threads take from. It is full at first.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When it is full again.
    full: AtomicU64,
}

impl Rate {
    /// At most `events` in a second; 0 is no limit.
    pub fn per_second(events: usize) -> Self {
        Self { per_second: events as u64 }
    }

    /// Whether there is a limit.
    pub fn is_limited(self) -> bool {
        self.per_second > 0
    }

    /// The number of events in a second; 0 without a limit.
    pub fn events(self) -> u64 {
        self.per_second
    }

    /// Nanoseconds in which so many events come back.
    fn span(self, events: u64) -> u64 {
        events.saturating_mul(SECOND).checked_div(self.per_second).unwrap_or(0)
    }
}

impl Bucket {
    /// Takes `events`, at least one, if the first of them is there. What they take beyond that is missing from those
    /// that follow. Gives whether they may happen.
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
    pub fn give_back(&self, rate: Rate, events: u64) {
        let returned = rate.span(events.max(1));
        let next = |full: u64| Some(full.saturating_sub(returned));
        let _ = self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Whether nothing is missing, so that a new bucket is as good.
    pub fn is_full(&self, now: u64) -> bool {
        self.full.load(Ordering::Relaxed) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_as_often_as_the_rate_says() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(10));
        let allowed = |now: u64| (0..100).filter(|_| bucket.take(rate, 1, now)).count();
        assert_eq!(allowed(0), 10);
        assert_eq!(allowed(SECOND / 2), 5);
        assert_eq!(allowed(100 * SECOND), 10);
    }

    #[test]
    fn what_was_taken_at_once_is_missing_afterwards() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(10));
        assert!(bucket.take(rate, 100, 0));
        assert!(!bucket.take(rate, 1, 9 * SECOND));
        assert!(bucket.take(rate, 1, 9 * SECOND + SECOND / 5));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(2));
        assert!(bucket.take(rate, 1, 0) && bucket.take(rate, 1, 0) && !bucket.take(rate, 1, 0));
        bucket.give_back(rate, 1);
        assert!(bucket.take(rate, 1, 0) && !bucket.take(rate, 1, 0));
        assert!(!bucket.is_full(SECOND / 2) && bucket.is_full(SECOND));
    }

    #[test]
    fn rates_beyond_one_event_a_nanosecond_hold_as_well() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(4_000_000_000));
        let taken = (0..10_000).filter(|_| bucket.take(rate, 1_000_000, 0)).count();
        assert_eq!(taken, 4_001, "four gigabytes, and the one that goes beyond them");
    }

    #[test]
    fn without_a_rate_everything_may_happen() {
        let bucket = Bucket::default();
        assert!((0..1_000_000).all(|_| bucket.take(Rate::default(), 1_000, 0)));
    }
}
