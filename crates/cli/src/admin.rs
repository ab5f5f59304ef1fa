//! `tidings admin`: the password of the admin page.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// Prepares the admin page
#[derive(Args, Debug)]
pub(crate) struct Admin {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Subcommand, Debug)]
enum AdminCommand {
    /// Reads a password, one line from standard input, and prints its hash for admin.password_hash
    #[command(after_long_help = "\
A terminal does not show the password. The hash is a PHC string of Argon2id with a random salt; it contains `$`, so quote it \
in a shell.

Examples:
  tidings admin hash-password
  openssl rand -base64 18 | tee password | tidings admin hash-password")]
    HashPassword,
}

impl Admin {
    /// Runs the command.
    ///
    /// # Errors
    /// No password can be read, or it is empty or too long.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let AdminCommand::HashPassword = self.command;
        let password = read_password().map_err(Failure::new)?;
        let hash = tidings_admin::hash_password(&password).map_err(Failure::Usage)?;
        writeln!(io::stdout(), "{hash}").map_err(|error| Failure::stdout(&error))
    }
}

/// Reads a line, which a terminal does not show.
fn read_password() -> io::Result<String> {
    let stdin = io::stdin();
    let mut line = String::new();
    if stdin.is_terminal() {
        eprint!("Password: ");
        let shown = tcgetattr(&stdin)?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
        let read = stdin.lock().read_line(&mut line);
        tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
        eprintln!();
        read?;
    } else {
        stdin.lock().read_line(&mut line)?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
