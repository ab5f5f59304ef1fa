//! Times between attempts.

use std::time::Duration;

/// The first time.
const FIRST: Duration = Duration::from_millis(100);
/// The longest time.
const LONGEST: Duration = Duration::from_secs(10);

/// Doubles the time between attempts that fail, up to 10 seconds, with up to a quarter less at random.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// The time until the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let time = LONGEST.min(FIRST * 2_u32.saturating_pow(self.0.min(16)));
        self.0 += 1;
        time.mul_f64(1.0 - fastrand::f64() / 4.0)
    }

    /// An attempt has succeeded.
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_to_a_bound_until_an_attempt_succeeds() {
        let mut backoff = Backoff::default();
        let times: Vec<_> = (0..100).map(|_| backoff.next()).collect();
        assert!(times[0] <= FIRST && times[0] >= FIRST.mul_f64(0.75));
        assert!(times[3] > times[0]);
        assert!(times[99] <= LONGEST && times[99] >= LONGEST.mul_f64(0.75));
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
