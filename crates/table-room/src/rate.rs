//! The data rate of a transfer, limited by its peer.
//!
//! Invariant: only the time in which this side waits for the peer counts. A slow disk or a busy server does not make a
//! peer slow.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time after which a transfer has a rate, and the period that the rate covers.
pub const WINDOW: Duration = Duration::from_secs(5);

/// The rate of one transfer.
#[derive(Debug)]
pub struct RateMeter {
    state: Mutex<RateState>,
    /// The most bytes that one wait is for. A peer that takes longer for them is slow, even if buffers accepted earlier
    /// bytes quickly.
    step: u64,
}

#[derive(Debug)]
struct RateState {
    /// The start of the current window.
    began: Instant,
    /// The bytes transferred in the window, and the time waited for the peer.
    bytes: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    /// The rate of the previous window.
    last: Option<f64>,
}

impl RateMeter {
    /// Measures a transfer that waits for at most `step` bytes at a time.
    pub fn new(step: u64, now: Instant) -> Self {
        Self { state: Mutex::new(RateState::new(now)), step }
    }

    /// Restarts the measurement at this time.
    pub fn restart(&self, at: Instant) {
        *self.state() = RateState::new(at);
    }

    /// Starts counting time: this side waits for the peer.
    pub fn wait(&self, now: Instant) {
        self.state().waiting_since.get_or_insert(now);
    }

    /// The peer has transferred these bytes; the wait has ended.
    pub fn advance(&self, bytes: u64, now: Instant) {
        let mut state = self.state();
        if let Some(since) = state.waiting_since.take() {
            state.waited += now.saturating_duration_since(since);
        }
        state.bytes += bytes;
        if now.saturating_duration_since(state.began) >= WINDOW {
            let last = Some(state.rate(now));
            *state = RateState { began: now, bytes: 0, waited: Duration::ZERO, waiting_since: None, last };
        }
    }

    /// Bytes per second; `None` during the first [`WINDOW`].
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let state = self.state();
        let is_measured = now.saturating_duration_since(state.began) >= WINDOW;
        let rate = if is_measured { Some(state.rate(now)) } else { state.last };
        let waiting = state.waiting(now);
        if waiting < WINDOW {
            return rate;
        }
        let at_most = self.step as f64 / waiting.as_secs_f64();
        Some(rate.map_or(at_most, |rate| rate.min(at_most)))
    }

    fn state(&self) -> MutexGuard<'_, RateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RateState {
    fn new(now: Instant) -> Self {
        Self { began: now, bytes: 0, waited: Duration::ZERO, waiting_since: Some(now), last: None }
    }

    /// The duration of the current wait for the peer.
    fn waiting(&self, now: Instant) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn rate(&self, now: Instant) -> f64 {
        self.bytes as f64 / (self.waited + self.waiting(now)).as_secs_f64().max(1e-3)
    }
}

/// The slowest transfer with a rate below `least` bytes per second; with 0, one that is stalled.
pub fn slowest<'a, T>(
    transfers: impl Iterator<Item = (&'a RateMeter, T)>,
    least: u64,
    now: Instant,
) -> Option<(f64, T)> {
    let rated = transfers.filter_map(|(meter, transfer)| Some((meter.rate(now)?, transfer)));
    let slow = rated.filter(|(rate, _)| *rate < least as f64 || *rate == 0.0);
    slow.min_by(|(a, _), (b, _)| a.total_cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_waiting_for_the_peer_counts() {
        let began = Instant::now();
        let at = |seconds: f64| began + Duration::from_secs_f64(seconds);
        let (slow, busy, young) =
            (RateMeter::new(1_000, began), RateMeter::new(1_000, began), RateMeter::new(1_000, at(4.0)));
        for second in 1..=10 {
            slow.advance(100, at(f64::from(second)));
            slow.wait(at(f64::from(second)));
            // The peer of this transfer is instant; this side takes the whole second.
            busy.advance(100, at(f64::from(second)));
            busy.wait(at(f64::from(second + 1)));
        }
        let rate = slow.rate(at(10.0)).expect("a rate");
        assert!((90.0..=110.0).contains(&rate), "{rate}");
        assert!(busy.rate(at(10.0)).expect("a rate") > 10_000.0);
        assert_eq!(young.rate(at(8.0)), None);
        let all = [(&slow, "slow"), (&busy, "busy"), (&young, "young")];
        let found = |least, now| slowest(all.into_iter(), least, now).map(|(_, name)| name);
        assert_eq!(found(1_000, at(8.5)), Some("slow"));
        assert_eq!(found(50, at(8.5)), None);
        // The transfer has been stalled since.
        assert_eq!(found(0, at(9.5)), Some("young"));
    }

    #[test]
    fn bytes_accepted_by_buffers_do_not_hide_a_stalled_peer() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let meter = RateMeter::new(64 << 10, began);
        meter.advance(8 << 20, began);
        meter.wait(began);
        assert_eq!(meter.rate(at(4)), None);
        // 64 KiB in 8 seconds are 8,192 bytes per second; afterwards the rate falls below that.
        assert!(meter.rate(at(7)).expect("a rate") > 8_192.0);
        assert!(meter.rate(at(9)).expect("a rate") < 8_192.0);
    }
}
