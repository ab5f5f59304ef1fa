//! `tidings config`: prints the options, checks files, and imports files of Centrifugo.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use tidings_config::{Overrides, default_file, docs, environment, import, load_with_warnings};

use crate::environment_file;
use crate::failure::{Failure, print_notice};
use crate::stdout::print;

/// Prints, checks or imports configuration
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  tidings config default > tidings.toml
  tidings config check tidings.toml && systemctl restart tidings
  tidings config check --environment-file /etc/tidings/environment /etc/tidings/tidings.toml
  tidings config import centrifugo.json -o tidings.toml
  tidings config docs | less")]
pub(crate) struct Config {
    #[command(subcommand)]
    action: ConfigCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Prints a file (TOML) with every option, its default and its description
    Default,
    /// Checks a file together with the environment, as the server would read it; exit code 2 for an invalid file
    ///
    /// Every error is a line on stderr. Weak keys and settings without an effect are reported on
    /// stderr too. Where a service has variables or credentials, give its file with --environment-file, and set
    /// CREDENTIALS_DIRECTORY to /run/credentials/UNIT while the service runs: otherwise keys are missing.
    Check {
        /// Uses the variables in this file (systemd's EnvironmentFile=) instead of those of the shell
        #[arg(long, value_name = "FILE")]
        environment_file: Option<PathBuf>,

        /// The file (.toml, .json, .yaml)
        file: PathBuf,
    },
    /// Converts a configuration of Centrifugo (version 5 or 6) to a file of tidings (TOML)
    ///
    /// Settings without a counterpart are listed on stderr and at the end of the file. The file contains the secrets of
    /// the original; with -o only its owner can read it.
    Import {
        /// Centrifugo's configuration (.toml, .json, .yaml)
        file: PathBuf,

        /// The output file, which must not exist; the default is standard output
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
    /// A file that is invalid, or cannot be written.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match &self.action {
            ConfigCommand::Default => print(default_file().as_bytes()),
            ConfigCommand::Docs => print(docs().as_bytes()),
            ConfigCommand::Check { file, environment_file } => {
                let mut variables = environment()?;
                if let Some(path) = environment_file {
                    variables.retain(|(name, _)| name == "CREDENTIALS_DIRECTORY");
                    variables.extend(environment_file::read(path)?);
                }
                let loaded = load_with_warnings(Some(file), variables, &Overrides::default())?;
                loaded.warnings.into_iter().for_each(print_notice);
                print(format!("{}: valid\n", file.display()).as_bytes())
            }
            ConfigCommand::Import { file, output } => {
                let imported = import(file)?;
                match output {
                    Some(output) => write_new(output, &imported.text)?,
                    None => print(imported.text.as_bytes())?,
                }
                imported.notes.into_iter().for_each(print_notice);
                Ok(())
            }
        }
    }
}

/// Creates a file that only its owner can read.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::Failed(format!("{} cannot be written: {e}", path.display())))
}
