//! The receiver of the results of checks.

use crate::advice::Advice;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Good,
    /// It works, with a limitation.
    Note,
    /// It does not work.
    Bad,
    /// The check was not run.
    Skipped,
}

/// Receives the results of checks, in their order.
pub trait Report {
    /// The reason why the results cannot be received. It ends the checks.
    type Error;

    /// Receives the result of the check `name`: the observation `saw`, and the recommended change, if there is one.
    ///
    /// # Errors
    /// The result cannot be received.
    fn result(
        &mut self,
        verdict: Verdict,
        name: &str,
        saw: &str,
        advice: Option<&Advice>,
    ) -> Result<(), Self::Error>;

    /// Receives the progress of the current check.
    fn progress(&mut self, what: &str);

    /// Adds a result without advice.
    ///
    /// # Errors
    /// The result cannot be received.
    fn add(&mut self, verdict: Verdict, name: &str, saw: &str) -> Result<(), Self::Error> {
        self.result(verdict, name, saw, None)
    }

    /// Adds a result with advice.
    ///
    /// # Errors
    /// The result cannot be received.
    fn advise(
        &mut self,
        verdict: Verdict,
        name: &str,
        saw: &str,
        advice: &Advice,
    ) -> Result<(), Self::Error> {
        self.result(verdict, name, saw, Some(advice))
    }
}
