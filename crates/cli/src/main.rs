//! The `tidings` binary: a server and its clients.
//!
//! Every command is a module. They share the arguments for the server (`target`; the client library is
//! `tidings_client`), failures (`failure`) and the conversion of bytes to text (`text`). Data goes to stdout, all other
//! output to stderr.

mod admin;
mod bench;
mod config;
mod connect;
mod data_dir;
mod doctor;
mod environment_file;
mod failure;
mod health;
mod input;
mod interrupt;
mod key;
mod log_fields;
mod publish;
mod reference;
mod serve;
mod share;
mod stdout;
mod subscribe;
mod supervisor;
mod target;
mod text;
mod token;
mod trace;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::failure::answer_usage;

/// Pushes updates to every connected client: over TCP lines, RESP, WebSocket, server-sent events and HTTP
#[derive(Parser, Debug)]
#[command(
    name = "tidings",
    version,
    arg_required_else_help = true,
    after_long_help = "\
Data goes to stdout, messages and logs to stderr. Exit codes: 0 success, 2 invalid usage or configuration, 1 any \
other failure. Output has no colours when NO_COLOR is set.

Examples:
  tidings serve                                 starts a server on this machine
  tidings subscribe updates                     prints what is published
  tidings publish updates 'hello world'         publishes
  tidings share export.csv                      makes a shared live table of a file
  tidings connect                               talks to the line port by hand"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Serve(serve::Serve),
    Connect(connect::Connect),
    Subscribe(subscribe::Subscribe),
    Publish(publish::Publish),
    Share(share::Share),
    Bench(bench::Bench),
    Config(config::Config),
    Token(token::Token),
    Admin(admin::Admin),
    Key(key::Key),
    Doctor(doctor::Doctor),
    Trace(trace::Trace),
    Health(health::Health),
    Completions(reference::Completions),
    #[command(name = "man")]
    Manual(reference::Manual),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer_usage(&error),
    };
    let done = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Connect(command) => command.run(),
        Command::Subscribe(command) => command.run(),
        Command::Publish(command) => command.run(),
        Command::Share(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Admin(command) => command.run(),
        Command::Key(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Trace(command) => command.run(),
        Command::Health(command) => command.run(),
        Command::Completions(command) => command.run(Cli::command()),
        Command::Manual(command) => command.run(Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Command as Defined;
    use tidings_config::{Overrides, load};

    use super::*;

    /// The variables of a command and its subcommands.
    fn variables(command: &Defined, found: &mut Vec<String>) {
        found.extend(
            command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned())),
        );
        command.get_subcommands().for_each(|below| variables(below, found));
    }

    #[test]
    fn every_variable_of_a_command_is_known_to_the_configuration() {
        let mut found = Vec::new();
        variables(&Cli::command(), &mut found);
        assert!(found.iter().any(|name| name == "TIDINGS_TOKEN"), "{found:?}");
        for name in found {
            let loaded = load(None, [(name.clone(), "some-value".to_owned())], &Overrides::default());
            assert!(loaded.is_ok(), "{name}: {loaded:?}");
        }
    }
}
