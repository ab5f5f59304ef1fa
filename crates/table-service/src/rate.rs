//! The data rate of a transfer as its peer sets it.
//!
//! Invariant: only the time in which this side waits for the peer counts, so a slow disk or a busy server never makes a peer
//! slow.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a transfer is measured before it has a rate, and how much of its past the rate covers.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// Measures one transfer.
#[derive(Debug)]
pub(super) struct RateMeter {
    state: Mutex<State>,
    /// Most bytes that one wait is for; a peer that takes longer for them is slow, whatever the buffers on the way took
    /// at first.
    step: u64,
}

#[derive(Debug)]
struct State {
    /// When the current window began.
    began: Instant,
    /// The bytes moved in it, and the time waited for them.
    bytes: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    /// The rate of the window before.
    last: Option<f64>,
}

impl RateMeter {
    /// Of a transfer whose waits are for at most `step` bytes each.
    pub(super) fn new(step: u64, now: Instant) -> Self {
        Self { state: Mutex::new(State::new(now)), step }
    }

    /// Begins anew at this time.
    #[cfg(test)]
    pub(super) fn restart(&self, at: Instant) {
        *self.state() = State::new(at);
    }

    /// Starts to count the time: the peer is waited for.
    pub(super) fn wait(&self, now: Instant) {
        self.state().waiting_since.get_or_insert(now);
    }

    /// The peer has moved these bytes, and is no longer waited for.
    pub(super) fn advance(&self, bytes: u64, now: Instant) {
        let mut state = self.state();
        if let Some(since) = state.waiting_since.take() {
            state.waited += now.saturating_duration_since(since);
        }
        state.bytes += bytes;
        if now.saturating_duration_since(state.began) >= WINDOW {
            let last = Some(state.rate(now));
            *state = State { began: now, bytes: 0, waited: Duration::ZERO, waiting_since: None, last };
        }
    }

    /// Bytes per second; `None` before the first [`WINDOW`] is over.
    pub(super) fn rate(&self, now: Instant) -> Option<f64> {
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(now: Instant) -> Self {
        Self { began: now, bytes: 0, waited: Duration::ZERO, waiting_since: Some(now), last: None }
    }

    /// How long the peer has been waited for without a pause.
    fn waiting(&self, now: Instant) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn rate(&self, now: Instant) -> f64 {
        self.bytes as f64 / (self.waited + self.waiting(now)).as_secs_f64().max(1e-3)
    }
}

/// The slowest of some transfers whose rate is below `least` bytes per second; with 0, one that has stood still.
pub(super) fn slowest<'a, T>(
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
    fn only_the_time_counts_in_which_the_peer_is_waited_for() {
        let began = Instant::now();
        let at = |seconds: f64| began + Duration::from_secs_f64(seconds);
        let (slow, busy, young) =
            (RateMeter::new(1_000, began), RateMeter::new(1_000, began), RateMeter::new(1_000, at(4.0)));
        for second in 1..=10 {
            slow.advance(100, at(f64::from(second)));
            slow.wait(at(f64::from(second)));
            // The peer of this one is as quick as can be, and this side needs the whole second.
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
        // It has stood still since.
        assert_eq!(found(0, at(9.5)), Some("young"));
    }

    #[test]
    fn what_buffers_take_at_first_does_not_make_a_peer_quick_that_takes_no_more() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let meter = RateMeter::new(64 << 10, began);
        meter.advance(8 << 20, began);
        meter.wait(began);
        assert_eq!(meter.rate(at(4)), None);
        // 64 KiB in 8 seconds are 8,192 bytes a second; after that it is slower than that.
        assert!(meter.rate(at(7)).expect("a rate") > 8_192.0);
        assert!(meter.rate(at(9)).expect("a rate") < 8_192.0);
    }
}
