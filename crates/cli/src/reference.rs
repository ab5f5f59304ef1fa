//! `tidings completions` and `tidings man`: generated from the definition of the command line.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::failure::Failure;
use crate::stdout::print;

/// Prints a completion script for a shell
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  tidings completions bash > ~/.local/share/bash-completion/completions/tidings
  tidings completions zsh > ~/.zfunc/_tidings
  tidings completions fish > ~/.config/fish/completions/tidings.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script for `command`.
    ///
    /// # Errors
    /// See [`print()`].
    pub(crate) fn run(&self, mut command: Command) -> Result<(), Failure> {
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        print(&script)
    }
}

/// Prints the manual page, or writes one for every command into a directory
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  tidings man | man -l -
  tidings man /usr/local/share/man/man1")]
pub(crate) struct Manual {
    /// The directory for tidings.1, tidings-serve.1, …; created if it does not exist
    dir: Option<PathBuf>,
}

impl Manual {
    /// Prints or writes the pages of `command`.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub(crate) fn run(&self, command: Command) -> Result<(), Failure> {
        let Some(dir) = &self.dir else {
            let mut page = Vec::new();
            Man::new(command).render(&mut page).map_err(Failure::new)?;
            return print(&page);
        };
        fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(command, dir))
            .map_err(|e| Failure::Failed(format!("cannot write to {}: {e}", dir.display())))
    }
}
