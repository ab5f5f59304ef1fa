//! Prints the results of checks.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};

use tidings_client::Web;

use super::advice::Advice;
use crate::failure::{Failure, single_line};
use crate::stdout::print;
use crate::text::colours;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As expected.
    Good,
    /// It works, with a limitation.
    Note,
    /// It does not work.
    Bad,
    /// The check was not run.
    Skipped,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Bad => "FAIL",
            Self::Skipped => "skip",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32m",
            Self::Note => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
            Self::Skipped => "\x1b[2m",
        }
    }
}

/// The results so far.
pub(super) struct DoctorReport {
    colours: bool,
    made: usize,
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
        Ok(Self { colours: colours(&stdout()), made: 0, failed: 0, shown: false })
    }

    /// Adds a check and its observation.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn add(&mut self, verdict: Verdict, name: &str, saw: &str) -> Result<(), Failure> {
        self.clear();
        if verdict != Verdict::Skipped {
            self.made += 1;
        }
        self.failed += usize::from(verdict == Verdict::Bad);
        let word = format!("{:<5}", verdict.word());
        let word = if self.colours { format!("{}{word}\x1b[0m", verdict.colour()) } else { word };
        let saw = single_line(saw);
        print(format!("  {word} {name:<13} {saw}\n").as_bytes())
    }

    /// Adds a failed check with advice.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn advise(
        &mut self,
        verdict: Verdict,
        name: &str,
        saw: &str,
        advice: &Advice,
    ) -> Result<(), Failure> {
        self.add(verdict, name, saw)?;
        let mut text = format!("        {}\n", advice.why);
        for line in advice.lines {
            text.push_str(&format!("            {line}\n"));
        }
        print(text.as_bytes())
    }

    /// Displays the current check, on a terminal.
    pub(super) fn doing(&mut self, what: &str) {
        if stderr().is_terminal() && crate::text::supports_escapes() {
            eprint!("\r\x1b[K  …     {what}");
            // A closed terminal does not stop the checks.
            let _ = stderr().flush();
            self.shown = true;
        }
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
        if self.failed == 0 {
            return print(format!("\nno problem found in {} checks\n", self.made).as_bytes());
        }
        Err(Failure::Failed(format!("{} of {} checks failed", self.failed, self.made)))
    }
}
