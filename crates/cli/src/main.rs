//! The `tidings` binary: starts a server, or speaks to one.
//!
//! Every command is a module of its own; what they share is the client (`client`), how a command fails (`failure`)
//! and how bytes become text (`text`). Data goes to stdout, everything else to stderr.

mod client;
mod connect;
mod failure;
mod input;
mod interrupt;
mod publish;
mod subscribe;
mod text;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::answer_usage;

/// Pushes updates to everyone who is connected
#[derive(Parser, Debug)]
#[command(name = "tidings", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Connect(connect::Connect),
    Subscribe(subscribe::Subscribe),
    Publish(publish::Publish),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer_usage(&error),
    };
    let done = match cli.command {
        Command::Connect(command) => command.run(),
        Command::Subscribe(command) => command.run(),
        Command::Publish(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
