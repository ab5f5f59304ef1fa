//! How long to wait before the next attempt to connect: full jitter, so that clients that lost the same server
//! do not all return in the same instant.

use std::time::Duration;

/// The longest first wait; the bound doubles with every attempt.
const BASE: Duration = Duration::from_millis(100);

/// Waits drawn from 0 to min(cap, 100 ms · 2ⁿ), n counting the attempts that failed in a row.
#[derive(Debug)]
pub struct Backoff {
    cap: Duration,
    failed: u32,
}

impl Backoff {
    /// No wait longer than `cap`.
    pub fn new(cap: Duration) -> Self {
        Self { cap, failed: 0 }
    }

    /// An attempt has failed: how long to wait before the next.
    pub fn wait(&mut self) -> Duration {
        let bound = BASE.saturating_mul(1 << self.failed.min(20)).min(self.cap);
        self.failed = self.failed.saturating_add(1);
        bound.mul_f64(fastrand::f64())
    }

    /// A connection held: the next failure starts from the shortest wait.
    pub fn reset(&mut self) {
        self.failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_and_never_pass_the_cap() {
        let cap = Duration::from_secs(2);
        let mut backoff = Backoff::new(cap);
        let waits: Vec<Duration> = (0..200).map(|_| backoff.wait()).collect();
        assert!(waits[0] < BASE);
        assert!(waits.iter().all(|w| *w <= cap));
        let short = waits[10..].iter().filter(|w| **w < cap / 2).count();
        assert!((20..170).contains(&short), "{short} of 190 waits below half of the cap");
        backoff.reset();
        assert!(backoff.wait() < BASE);
    }
}
