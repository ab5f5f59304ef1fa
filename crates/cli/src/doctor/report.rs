//! Prints the results of checks.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};

use tidings_client::Web;
use tidings_doctor::{Advice, Report, Verdict};
use tidings_wire::code::counted;

use crate::failure::{Failure, single_line};
use crate::stdout::print;
use crate::text::colours;

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Note => "note",
        Verdict::Bad => "FAIL",
        Verdict::Skipped => "skip",
    }
}

fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "\x1b[32m",
        Verdict::Note => "\x1b[33m",
        Verdict::Bad => "\x1b[1;31m",
        Verdict::Skipped => "\x1b[2m",
    }
}

/// The results so far.
pub(super) struct DoctorReport {
    colours: bool,
    made: usize,
    skipped: usize,
    failed: usize,
    /// Whether the terminal shows a line that will be replaced.
    shown: bool,
}

impl DoctorReport {
    /// Starts a report.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn new(url: &Web) -> Result<Self, Failure> {
        print(format!("{url}\n\n").as_bytes())?;
        Ok(Self { colours: colours(&stdout()), made: 0, skipped: 0, failed: 0, shown: false })
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// A check failed.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        self.clear();
        let made = counted(self.made, "check");
        let skipped = if self.skipped > 0 { format!("; {} skipped", self.skipped) } else { String::new() };
        if self.failed == 0 {
            return print(format!("\nno problem found in {made}{skipped}\n").as_bytes());
        }
        Err(Failure::Failed(format!("{} of {made} failed{skipped}", self.failed)))
    }
}

/// Columns of a reason on a terminal.
const REASON_WIDTH: usize = 92;

/// Breaks a text into lines of at most `width` characters, at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

impl Report for DoctorReport {
    type Error = Failure;

    fn result(
        &mut self,
        verdict: Verdict,
        name: &str,
        saw: &str,
        advice: Option<&Advice>,
    ) -> Result<(), Failure> {
        self.clear();
        match verdict {
            Verdict::Skipped => self.skipped += 1,
            _ => self.made += 1,
        }
        self.failed += usize::from(verdict == Verdict::Bad);
        let start = format!("{:<5}", word(verdict));
        let start = if self.colours { format!("{}{start}\x1b[0m", colour(verdict)) } else { start };
        let mut text = format!("  {start} {name:<13} {}\n", single_line(saw));
        if let Some(advice) = advice {
            // In a file or a pipe a reason stays on one line.
            let width = if stdout().is_terminal() { REASON_WIDTH } else { usize::MAX };
            for line in wrap(advice.why, width) {
                text.push_str(&format!("        {line}\n"));
            }
            for line in advice.lines {
                text.push_str(&format!("            {line}\n"));
            }
        }
        print(text.as_bytes())
    }

    /// Displays the current check, on a terminal.
    fn progress(&mut self, what: &str) {
        if stderr().is_terminal() && crate::text::supports_escapes() {
            eprint!("\r\x1b[K  …     {what}");
            // A closed terminal does not stop the checks.
            let _ = stderr().flush();
            self.shown = true;
        }
    }
}
