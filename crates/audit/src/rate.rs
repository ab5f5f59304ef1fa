//! A limit of events, as a token bucket, with the number of events that were left out.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Most events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Events per second on average.
    pub per_second: u32,
    /// Most events at a time.
    pub burst: u32,
}

/// The events of one kind.
#[derive(Debug)]
pub(crate) struct EventRate {
    limit: Limit,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Events that may follow at once.
    tokens: f64,
    /// When `tokens` was computed.
    at: Option<Instant>,
    left_out: u64,
}

impl EventRate {
    pub(crate) fn new(limit: Limit) -> Self {
        let state = State { tokens: f64::from(limit.burst), at: None, left_out: 0 };
        Self { limit, state: Mutex::new(state) }
    }

    /// Counts an event. Returns the number of events that were left out since the last one; `None` if this one is left
    /// out.
    pub(crate) fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = state.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        state.at = Some(now);
        let tokens = state.tokens + elapsed * f64::from(self.limit.per_second);
        state.tokens = tokens.min(f64::from(self.limit.burst));
        if state.tokens < 1.0 {
            state.left_out += 1;
            return None;
        }
        state.tokens -= 1.0;
        Some(std::mem::take(&mut state.left_out))
    }

    /// Counts an event that was left out for another reason.
    pub(crate) fn count_left_out(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).left_out += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn events_above_the_limit_are_left_out_and_the_next_one_has_their_number() {
        let rate = EventRate::new(Limit { per_second: 10, burst: 3 });
        let start = Instant::now();
        let taken: Vec<_> = (0..5).map(|_| rate.take(start)).collect();
        assert_eq!(taken, [Some(0), Some(0), Some(0), None, None]);
        let later = start + Duration::from_millis(150);
        assert_eq!((rate.take(later), rate.take(later)), (Some(2), None));
        rate.count_left_out();
        let much_later = start + Duration::from_secs(60);
        let taken: Vec<_> = (0..4).map(|_| rate.take(much_later)).collect();
        assert_eq!(taken, [Some(2), Some(0), Some(0), None], "no more than the burst");
    }
}
