//! Rate limits that all threads share without a lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use tidings_hub::{Bucket, Rate};

/// The clock of limits: one for all threads of the process, and monotonic.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// Nanoseconds since the creation of the clock.
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A token bucket with the capacity of one second, and the number of its refusals.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// Events per second; 0 is no limit.
    rate: AtomicUsize,
    clock: Clock,
    bucket: Bucket,
    refused: AtomicU64,
}

impl RateLimit {
    /// At most `rate` events per second; 0 is no limit.
    pub fn per_second(rate: usize) -> Self {
        Self { rate: AtomicUsize::new(rate), ..Self::default() }
    }

    /// Replaces the limit; 0 is no limit.
    pub fn set(&self, rate: usize) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// Whether `events` (at least one) may happen now: if one of them may. Events beyond the available ones delay later
    /// events. A refusal is counted.
    pub fn allows(&self, events: usize) -> bool {
        let rate = Rate::per_second(self.rate.load(Ordering::Relaxed));
        let allowed = !rate.is_limited() || self.bucket.take(rate, events as u64, self.clock.nanos());
        if !allowed {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    /// The number of refusals.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
