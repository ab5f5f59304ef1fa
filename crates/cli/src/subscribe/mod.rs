//! `tidings subscribe`: prints publications, one a line.
//!
//! Invariants: a line is written whole and flushed as soon as nothing more waits to be decoded; a connection that
//! is lost is made again for ever, and every gap that leaves is said on stderr.

mod events;
mod printer;
mod protocol;
mod resp;

use std::io;
use std::time::Duration;

use clap::Args;
use tidings_client::{Error, Server};
use tidings_wire::{Channel, Pattern};

use crate::failure::Failure;
use crate::interrupt::{block_on, interrupted};
use crate::target::ServerArgs;

/// The longest wait between two attempts to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long the command may take to end after a signal: it may be blocked in a write without a reader.
const GRACE: Duration = Duration::from_secs(1);
/// Prints the messages of channels, one a line, until interrupted
#[derive(Args, Debug)]
#[command(after_long_help = "\
A message is printed as text on one line: line breaks and backslashes inside it as \\r, \\n and \\\\, bytes that are \
not printable UTF-8 as \\xHH. A JSON string is printed as its text, without quotes, and {\"b64\":\"…\"} as the bytes in \
it, whichever way it comes. With several channels, or with --pattern, the channel's name and a space come first.

When the connection is lost it is made again for ever, after random waits of up to 10 s. Where the channel keeps \
history, what was published meanwhile comes then; where it keeps none, or not enough, stderr says that messages are \
missing. Ctrl-C ends with exit code 0.

--server says how: the line port (JSON lines; RESP with --pattern or --key, or when it is a Redis, and nothing is \
recovered then), ws:// and wss:// (WebSocket), http:// and https:// (server-sent events).

Examples:
  tidings subscribe updates
  tidings subscribe scores:nba scores:nfl --server wss://push.example.org --token \"$TOKEN\"
  tidings subscribe --pattern 'scores:*' --json | jq .data
  tidings subscribe jobs:done --count 1 && echo done")]
pub(crate) struct Subscribe {
    /// The channels (with --pattern: globs over channel names, such as 'scores:*')
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,

    /// Takes the CHANNELs as globs, as Redis' PSUBSCRIBE does: *, ?, character classes, \ before a literal
    #[arg(long)]
    pattern: bool,

    /// Prints {"channel":…,"data":…} a line; data is the message itself where that is JSON, else a string,
    /// and {"b64":"…"} where it is not UTF-8
    #[arg(long)]
    json: bool,

    /// Ends after N messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    server: ServerArgs,
}

impl Subscribe {
    /// Runs until the count is reached or a signal comes.
    ///
    /// # Errors
    /// A name that is none, a server that refuses, a stdout that cannot be written.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        for name in &self.channels {
            let checked =
                if self.pattern { Pattern::new(name).map(|_| ()) } else { Channel::new(name).map(|_| ()) };
            checked.map_err(|e| Failure::Usage(format!("'{name}' cannot be subscribed to: {e}")))?;
        }
        self.server.tls.apply()?;
        let stop = interrupted(0, GRACE)?;
        block_on(async {
            tokio::select! {
                ended = self.follow() => ended.map_err(|ended| self.failure(ended)),
                _ = stop => Ok(()),
            }
        })
    }

    fn failure(&self, ended: Ended) -> Failure {
        match ended {
            Ended::Server(error) => self.server.failure(error),
            Ended::Output(error) => Failure::stdout(&error),
            Ended::Command(failure) => failure,
        }
    }

    /// Follows the channels in the way that the server's address names.
    async fn follow(&self) -> Result<(), Ended> {
        let mut printer = printer::Printer::new(self);
        match &self.server.server {
            Server::Web(_) if self.pattern => Err(Ended::Command(Failure::Usage(
                "--pattern needs the line port: use --server HOST:PORT".to_owned(),
            ))),
            Server::Web(web) if web.websocket => self.follow_protocol(&mut printer).await,
            Server::Web(web) => self.follow_events(web, &mut printer).await,
            _ if self.pattern || self.server.key.is_some() => self.follow_resp(&mut printer).await,
            _ => match self.follow_protocol(&mut printer).await {
                // RESP's way to say that it does not understand: a Redis.
                Err(Ended::Server(Error::Protocol { why, .. })) if why.starts_with('-') => {
                    self.follow_resp(&mut printer).await
                }
                ended => ended,
            },
        }
    }
}

/// Why the command ended before the count was reached.
enum Ended {
    Server(Error),
    Output(io::Error),
    Command(Failure),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
