//! Failures of commands, and their exit codes.
//!
//! Invariants: a failure is one line on stderr with the problem and its place (an invalid configuration gets one line
//! per error); the exit code is 2 for usage and configuration, 1 for anything else; a closed stdout is not reported.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;
use tidings_systemd::SocketError;

use clap::error::ErrorKind;
use tidings_config::{ConfigError, ConfigErrors};

use crate::text::escape_control;

/// The failure of a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
    /// An invalid configuration, with one line per error: exit code 2.
    Configuration(ConfigErrors),
    /// Anything else: exit code 1.
    Failed(String),
    /// The reader of stdout has closed it (`tidings … | head`): exit code 0, no message.
    OutputClosed,
}

impl Failure {
    /// A [`Failure::Failed`] with the text of an error.
    pub(crate) fn new(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// The failure for an error of writing to stdout.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Failed(format!("cannot write to standard output: {error}"))
        }
    }

    /// Prints the failure on stderr and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Usage(why) => {
                print_notice(why);
                ExitCode::from(2)
            }
            Self::Configuration(errors) => {
                errors.lines().for_each(print_notice);
                ExitCode::from(2)
            }
            Self::Failed(why) => {
                print_notice(why);
                ExitCode::FAILURE
            }
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        Self::Usage(error.to_string())
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

/// Prints one line on stderr, after the program's name.
pub(crate) fn print_notice(message: impl Display) {
    eprintln!("tidings: {}", single_line(&message.to_string()));
}

/// A message on one line. Parts of it may come from a server: control characters are escaped.
pub(crate) fn single_line(message: &str) -> String {
    let mut line = String::new();
    escape_control(one_line(message).as_bytes(), &mut line);
    line
}

/// Prints clap's error, or its output for `--help` and `--version`. Returns the exit code.
pub(crate) fn answer_usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A closed stderr is ignored.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        _ => Failure::Usage(usage_line(&error.render().to_string())).report(),
    }
}

/// clap formats an error as a headline, tips and the usage, in paragraphs. This keeps the headline and the tips, on one
/// line.
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
    fn text_of_a_server_stays_on_one_line_without_control_characters() {
        assert_eq!(single_line("it says: no\r\n  \x1b[2Jway – so"), "it says: no \\x1b[2Jway – so");
    }

    #[test]
    fn a_missing_argument_is_reported_on_one_line() {
        let rendered =
            "error: the following required arguments were not provided:\n  <CHANNEL>\n\nUsage: x\n";
        assert_eq!(
            usage_line(rendered),
            "the following required arguments were not provided: <CHANNEL>; see --help"
        );
    }
}
