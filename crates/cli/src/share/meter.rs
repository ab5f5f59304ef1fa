//! The progress of an upload, on stderr: a bar on a terminal, otherwise a line from time to time.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::failure::print_notice;
use crate::text::{grouped, supports_escapes};

/// The cells of the bar.
const WIDTH: u64 = 24;

/// The progress of one upload.
pub(super) struct Meter {
    terminal: bool,
    begun: Instant,
    shown: Option<Instant>,
    total: Option<u64>,
}

impl Meter {
    /// For a file of `total` bytes, if the size is known.
    pub(super) fn new(total: Option<u64>) -> Self {
        let terminal = io::stderr().is_terminal() && supports_escapes();
        Self { terminal, begun: Instant::now(), shown: None, total }
    }

    /// Displays the progress if the interval has passed.
    pub(super) fn show(&mut self, received: u64, rows: u64) {
        let period = Duration::from_millis(if self.terminal { 100 } else { 2_000 });
        let since = self.shown.map_or_else(|| self.begun.elapsed(), |shown| shown.elapsed());
        if since < period {
            return;
        }
        self.shown = Some(Instant::now());
        let line = self.line(received, rows);
        if self.terminal {
            eprint!("\r\x1b[K{line}");
            // A closed terminal is ignored.
            let _ = io::stderr().flush();
        } else {
            print_notice(line);
        }
    }

    fn line(&self, received: u64, rows: u64) -> String {
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-3);
        let mut line = String::new();
        if let Some(total) = self.total.filter(|total| *total > 0) {
            let share = received.min(total);
            if self.terminal {
                let full = (share * WIDTH / total) as usize;
                line.push_str(&"█".repeat(full));
                line.push_str(&"░".repeat(WIDTH as usize - full));
                line.push(' ');
            }
            // Writing into a String cannot fail.
            let _ = write!(line, "{:>3} %  {} of {}", share * 100 / total, bytes(received), bytes(total));
        } else {
            line.push_str(&bytes(received));
        }
        let _ = write!(line, ", {} rows, {}/s", grouped(rows), bytes((received as f64 / seconds) as u64));
        line
    }

    /// Removes the bar.
    pub(super) fn clear(&mut self) {
        if self.terminal && self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }

    /// The elapsed time.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A formatted number of bytes, in units of 1,000.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1e3;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_three_digits() {
        for (count, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (123_456, "123 kB"),
            (999_999, "1.00 MB"),
            (1_234_567_890, "1.23 GB"),
            (5_000_000_000_000_000, "5000 TB"),
        ] {
            assert_eq!(bytes(count), shown, "{count}");
        }
    }

    #[test]
    fn the_line_contains_the_progress_and_the_total() {
        let meter = Meter { terminal: true, ..Meter::new(Some(2_000)) };
        let line = meter.line(1_000, 50);
        assert!(line.starts_with("████████████░░░░░░░░░░░░  50 %  1.00 kB of 2.00 kB, 50 rows, "), "{line}");
        let open = Meter::new(None).line(10, 1);
        assert!(open.starts_with("10 B, 1 rows, "), "{open}");
    }
}
