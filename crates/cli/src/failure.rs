//! How a command ends when it does not end well, and the exit code that says so.
//!
//! Invariants: what went wrong is one line on stderr that says what and where (a configuration gets a line for each
//! error); the exit code is 2 for usage and
//! configuration, 1 for anything else; a reader of stdout that went away is not worth a word.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use tidings_config::{ConfigError, ConfigErrors};

use crate::text::harmless;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
    /// A wrong configuration, with a line for each error: exit code 2.
    Configuration(ConfigErrors),
    /// Anything else: exit code 1.
    Failed(String),
    /// Whoever read stdout has seen enough (`tidings … | head`): exit code 0, nothing said.
    OutputClosed,
}

impl Failure {
    /// A [`Failure::Failed`] in the words of an error.
    pub(crate) fn new(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// What a failed write to stdout means for the command.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Failed(format!("cannot write to standard output: {error}"))
        }
    }

    /// Says it on stderr and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Usage(why) => {
                say(why);
                ExitCode::from(2)
            }
            Self::Configuration(errors) => {
                errors.lines().for_each(say);
                ExitCode::from(2)
            }
            Self::Failed(why) => {
                say(why);
                ExitCode::FAILURE
            }
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Configuration(errors)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Configuration(error.into())
    }
}

/// Prints one line for the user: on stderr, with the program's name in front.
pub(crate) fn say(message: impl Display) {
    eprintln!("tidings: {}", single_line(&message.to_string()));
}

/// A message on one line. Parts of it may be a server's words: nothing in them can drive the terminal.
pub(crate) fn single_line(message: &str) -> String {
    let mut line = String::new();
    harmless(one_line(message).as_bytes(), &mut line);
    line
}

/// Answers what clap could not parse, or was asked to print (`--help`, `--version`), and gives the exit code.
pub(crate) fn answer_usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A closed stderr is no failure.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        _ => Failure::Usage(usage_line(&error.render().to_string())).report(),
    }
}

/// clap words an error as a headline, tips and the usage, paragraph by paragraph; this keeps the headline and the
/// tips, on one line.
fn usage_line(rendered: &str) -> String {
    let told: Vec<String> = rendered
        .split("\n\n")
        .map(one_line)
        .take_while(|paragraph| {
            !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more information")
        })
        .collect();
    let told = told.join("; ");
    format!("{}; see --help", told.strip_prefix("error: ").unwrap_or(&told))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_error_is_one_line_with_its_tip() {
        let rendered = "error: unexpected argument '--tpc' found\n\n  tip: a similar argument exists: '--tcp'\n\n\
                        Usage: tidings serve --tcp <ADDR>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            usage_line(rendered),
            "unexpected argument '--tpc' found; tip: a similar argument exists: '--tcp'; see --help"
        );
    }

    #[test]
    fn a_server_s_words_stay_on_their_line_and_cannot_drive_the_terminal() {
        assert_eq!(single_line("it says: no\r\n  \x1b[2Jway – so"), "it says: no \\x1b[2Jway – so");
    }

    #[test]
    fn a_missing_argument_is_named_on_the_same_line() {
        let rendered =
            "error: the following required arguments were not provided:\n  <CHANNEL>\n\nUsage: x\n";
        assert_eq!(
            usage_line(rendered),
            "the following required arguments were not provided: <CHANNEL>; see --help"
        );
    }
}
