//! `tidings key`: creates API keys.

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::stdout::print;

/// Creates keys for backends (http_api.key, http_api.keys) and other secrets
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  tidings key generate > /etc/tidings/shop.key     for key_file = \"/etc/tidings/shop.key\"")]
pub(crate) struct Key {
    #[command(subcommand)]
    action: KeyCommand,
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Prints a random key of 256 bits
    Generate,
}

impl Key {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// When the operating system has no random numbers, or the output cannot be written.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let KeyCommand::Generate = self.action;
        let key = tidings_keys::generate().map_err(|_| Failure::Failed("no random numbers".to_owned()))?;
        print(format!("{key}\n").as_bytes())
    }
}
