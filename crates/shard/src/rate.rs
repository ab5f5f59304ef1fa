//! How often something may happen, for all threads together and without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const SECOND: u64 = 1_000_000_000;

/// A token bucket that holds one second's worth (GCRA: one number, the time at which it would be full again).
#[derive(Debug)]
pub struct RateLimit {
    /// Nanoseconds between two events; 0 is no limit.
    interval: u64,
    began: Instant,
    /// When the bucket is full again, in nanoseconds since `began`.
    full: AtomicU64,
    refused: AtomicU64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::per_second(0)
    }
}

impl RateLimit {
    /// At most `rate` events a second; 0 is no limit.
    pub fn per_second(rate: usize) -> Self {
        let interval = SECOND.checked_div(rate as u64).unwrap_or(0);
        Self { interval, began: Instant::now(), full: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// Whether `events` may happen now, at least one. They may if the first of them may; what they take beyond that is
    /// missing from those that follow. A refusal is counted.
    pub fn allows(&self, events: usize) -> bool {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let allowed = self.allows_at(events, now);
        if !allowed {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    fn allows_at(&self, events: usize, now: u64) -> bool {
        if self.interval == 0 {
            return true;
        }
        let taken = self.interval.saturating_mul(events.max(1) as u64);
        let next = |full: u64| {
            let full = full.max(now);
            (full.saturating_add(self.interval) <= now.saturating_add(SECOND))
                .then(|| full.saturating_add(taken))
        };
        self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// How often it was refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_as_often_as_the_rate_says() {
        let limit = RateLimit::per_second(10);
        let allowed = |now: u64| (0..100).filter(|_| limit.allows_at(1, now)).count();
        assert_eq!(allowed(0), 10);
        assert_eq!(allowed(SECOND / 2), 5);
        assert_eq!(allowed(100 * SECOND), 10);
    }

    #[test]
    fn what_was_taken_at_once_is_missing_afterwards() {
        let limit = RateLimit::per_second(10);
        assert!(limit.allows_at(100, 0));
        assert!(!limit.allows_at(1, 9 * SECOND));
        assert!(limit.allows_at(1, 9 * SECOND + SECOND / 5));
    }

    #[test]
    fn without_a_rate_everything_may_happen() {
        let limit = RateLimit::default();
        assert!((0..1_000_000).all(|_| limit.allows_at(1_000, 0)));
    }
}
