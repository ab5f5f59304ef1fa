//! A limit for log lines that an outage or an attacker could repeat without end: at most one line per interval, with
//! the number of events since the last line.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// The limit of one kind of line.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    count: u64,
}

impl LogThrottle {
    /// A limit without events.
    pub const fn new() -> Self {
        Self(Mutex::new(State { last: None, count: 0 }))
    }

    /// Counts an event. Returns the number of events since the last line, this one included, when a line is due.
    pub fn count(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        if state.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_line_is_written_once_in_a_while_with_its_count() {
        let throttle = LogThrottle::default();
        assert_eq!(throttle.count(), Some(1));
        for _ in 0..1000 {
            assert_eq!(throttle.count(), None);
        }
        throttle.0.lock().unwrap().last = Instant::now().checked_sub(INTERVAL);
        assert_eq!(throttle.count(), Some(1001));
    }
}
