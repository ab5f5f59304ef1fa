//! `tidings config`: what can be configured, and whether a file is right.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidings_server::config::{Overrides, default_file, docs, environment, load};

use crate::failure::Failure;
use crate::text::print;

/// Prints or checks configuration
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  tidings config default > tidings.toml
  tidings config check tidings.toml && systemctl restart tidings
  tidings config docs | less")]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Prints a file (TOML) with every option, its default and what it means
    Default,
    /// Checks a file as the server would read it, together with the environment; exit code 2 when it is wrong
    Check {
        /// The file (.toml, .json, .yaml)
        file: PathBuf,
    },
    /// Prints the list of all options (Markdown)
    Docs,
}

impl Config {
    /// Does what was asked for.
    ///
    /// # Errors
    /// A file that is wrong.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match &self.action {
            Action::Default => print(default_file().as_bytes()),
            Action::Docs => print(docs().as_bytes()),
            Action::Check { file } => {
                environment()
                    .and_then(|environment| load(Some(file), environment, &Overrides::default()))
                    .map_err(|e| Failure::Usage(e.to_string()))?;
                print(format!("{}: valid\n", file.display()).as_bytes())
            }
        }
    }
}
