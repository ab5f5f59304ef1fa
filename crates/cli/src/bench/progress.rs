//! Progress of a run: detection of a standstill, and the display on the terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use super::run::Run;
use crate::failure::say;

/// How often a run is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// Notices when a count stands still.
pub(super) struct Moved {
    count: u64,
    since: Instant,
}

impl Moved {
    /// A count of 0 that has stood still for no time yet.
    pub(super) fn new() -> Self {
        Self { count: 0, since: Instant::now() }
    }

    /// Whether the count has stood still for this long.
    pub(super) fn not_for(&mut self, patience: Duration, count: u64) -> bool {
        if count != self.count {
            *self = Self { count, since: Instant::now() };
        }
        self.since.elapsed() >= patience
    }

    /// Waits a moment before the next look.
    pub(super) fn pause(&self) {
        thread::sleep(GLANCE);
    }
}

/// Says on stderr how far the run is: on a terminal in one line that changes, elsewhere a line a second.
pub(super) struct Progress<'a> {
    run: &'a Run,
    terminal: bool,
    shown: Option<Instant>,
}

impl<'a> Progress<'a> {
    /// Of this run.
    pub(super) fn new(run: &'a Run) -> Self {
        Self { run, terminal: io::stderr().is_terminal(), shown: None }
    }

    /// Shows what `text` gives, if it is time.
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
            say(text());
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
