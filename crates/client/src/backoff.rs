//! Delays between attempts to connect, with full jitter: clients that lost the same server at the same time reconnect
//! at different times.

use std::time::Duration;

/// The upper bound of the first delay. The bound doubles with every attempt.
const BASE: Duration = Duration::from_millis(100);

/// Random delays from 0 to min(cap, 100 ms · 2ⁿ), where n is the number of consecutive failures.
#[derive(Debug)]
pub struct Backoff {
    cap: Duration,
    failed: u32,
}

impl Backoff {
    /// No delay is longer than `cap`.
    pub fn new(cap: Duration) -> Self {
        Self { cap, failed: 0 }
    }

    /// The delay after a failed attempt.
    pub fn wait(&mut self) -> Duration {
        let bound = BASE.saturating_mul(1 << self.failed.min(20)).min(self.cap);
        self.failed = self.failed.saturating_add(1);
        bound.mul_f64(fastrand::f64())
    }

    /// Resets the bound after a stable connection.
    pub fn reset(&mut self) {
        self.failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_and_never_exceed_the_cap() {
        let cap = Duration::from_secs(2);
        let mut backoff = Backoff::new(cap);
        let waits: Vec<Duration> = (0..200).map(|_| backoff.wait()).collect();
        assert!(waits[0] < BASE);
        assert!(waits.iter().all(|w| *w <= cap));
        let short = waits[10..].iter().filter(|w| **w < cap / 2).count();
        assert!((20..170).contains(&short), "{short} of 190 delays below half of the cap");
        backoff.reset();
        assert!(backoff.wait() < BASE);
    }
}
