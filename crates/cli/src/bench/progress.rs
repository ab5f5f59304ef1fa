//! Detection of a stalled run, and the display of progress.

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use super::run::BenchRun;
use crate::failure::print_notice;

/// The interval of checks.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Detects a count that does not change.
pub(super) struct StallDetector {
    count: u64,
    since: Instant,
}

impl StallDetector {
    /// A count of 0 that has just changed.
    pub(super) fn new() -> Self {
        Self { count: 0, since: Instant::now() }
    }

    /// Whether the count has not changed for this time.
    pub(super) fn stalled_for(&mut self, limit: Duration, count: u64) -> bool {
        if count != self.count {
            *self = Self { count, since: Instant::now() };
        }
        self.since.elapsed() >= limit
    }

    /// Waits until the next check.
    pub(super) fn pause(&self) {
        thread::sleep(POLL_INTERVAL);
    }
}

/// Displays the progress on stderr: on a terminal in one line that is replaced, otherwise one line per second.
pub(super) struct Progress<'a> {
    run: &'a BenchRun,
    terminal: bool,
    shown: Option<Instant>,
}

impl<'a> Progress<'a> {
    /// For this run.
    pub(super) fn new(run: &'a BenchRun) -> Self {
        Self { run, terminal: io::stderr().is_terminal(), shown: None }
    }

    /// Displays the result of `text` if the interval has passed.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        let period = Duration::from_millis(if self.terminal { 200 } else { 1000 });
        let since = self.shown.map_or_else(|| self.run.started.elapsed(), |shown| shown.elapsed());
        if since < period {
            return;
        }
        self.shown = Some(Instant::now());
        if self.terminal {
            eprint!("\r\x1b[K{}", text());
            let _ = io::stderr().flush();
        } else {
            print_notice(text());
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.terminal && self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
