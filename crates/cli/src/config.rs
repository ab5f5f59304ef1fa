//! `tidings config`: what can be configured, whether a file is right, and what a file of Centrifugo becomes.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use tidings_config::{Overrides, default_file, docs, environment, import, load_with_warnings};

use crate::failure::{Failure, say};
use crate::text::print;

/// Prints, checks or imports configuration
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  tidings config default > tidings.toml
  tidings config check tidings.toml && systemctl restart tidings
  tidings config import centrifugo.json -o tidings.toml
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
    ///
    /// Every error is a line on stderr. What is passed over without an effect is a line on stderr too.
    Check {
        /// The file (.toml, .json, .yaml)
        file: PathBuf,
    },
    /// Writes a configuration of Centrifugo (version 5 or 6) as a file of tidings (TOML)
    ///
    /// What has no counterpart is listed on stderr and at the end of the file. The file holds the secrets of the original;
    /// with -o only its owner may read it.
    Import {
        /// Centrifugo's configuration (.toml, .json, .yaml)
        file: PathBuf,

        /// Where to write to, a file that is not there yet; otherwise standard output
        #[arg(short, long, value_name = "OUT")]
        output: Option<PathBuf>,
    },
    /// Prints the list of all options (Markdown)
    Docs,
}

impl Config {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// A file that is wrong, or cannot be written.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match &self.action {
            Action::Default => print(default_file().as_bytes()),
            Action::Docs => print(docs().as_bytes()),
            Action::Check { file } => {
                let loaded = load_with_warnings(Some(file), environment()?, &Overrides::default())?;
                loaded.warnings.into_iter().for_each(say);
                print(format!("{}: valid\n", file.display()).as_bytes())
            }
            Action::Import { file, output } => {
                let imported = import(file)?;
                match output {
                    Some(output) => write_new(output, &imported.text)?,
                    None => print(imported.text.as_bytes())?,
                }
                imported.notes.into_iter().for_each(say);
                Ok(())
            }
        }
    }
}

/// Writes a file that is not there yet and that its owner alone may read.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::Failed(format!("{} cannot be written: {e}", path.display())))
}
