//! `tidings subscribe`: prints publications, one per line.
//!
//! Invariants: a line is written at once and flushed as soon as no further message is available; a lost connection is
//! reestablished without a limit, and every gap is reported on stderr.

mod events;
mod mqtt;
mod printer;
mod protocol;
mod reconnect;
mod resp;

use std::io;
use std::time::Duration;

use clap::Args;
use tidings_client::{Error, Server};
use tidings_wire::{Channel, Pattern};

pub(crate) use protocol::report;

use crate::failure::Failure;
use crate::interrupt::{block_on, interrupted};
use crate::target::ServerArgs;

/// The longest delay between two attempts to connect.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// The time for the command to end after a signal: it may be blocked in a write without a reader.
const GRACE: Duration = Duration::from_secs(1);
/// Prints the messages of channels, one a line, until interrupted
#[derive(Args, Debug)]
#[command(after_long_help = "\
A message is printed as text on one line: line breaks and backslashes as \\r, \\n and \\\\, bytes that are \
not printable UTF-8 as \\xHH. A JSON string is printed as its text, without quotes, and {\"b64\":\"…\"} as the bytes in \
it, with every protocol. With several channels, with --pattern, or with a topic filter of MQTT, the line begins with the channel's name and a space.

When the connection is lost, the command reconnects without a limit, after random delays of up to 10 s. If the channel has a \
history, missed messages follow; if it has none, or a short one, stderr reports that messages are \
missing. Ctrl-C ends with exit code 0.

--server determines the protocol: the line port (JSON lines; RESP with --pattern or --key, or for a Redis server, and nothing is \
recovered then), ws:// and wss:// (WebSocket), http:// and https:// (server-sent events), mqtt:// and mqtts:// (MQTT 5.0 with QoS 1, \
also with other brokers; a CHANNEL is a topic filter, with + and #, and nothing is recovered).

Examples:
  tidings subscribe updates
  tidings subscribe scores:nba scores:nfl --server wss://push.example.org --token \"$TOKEN\"
  tidings subscribe --pattern 'scores:*' --json | jq .data
  tidings subscribe 'home/+/temperature' --server mqtt://broker.example.org
  tidings subscribe jobs:done --count 1 && echo done")]
pub(crate) struct Subscribe {
    /// The channels (with --pattern: globs over channel names, such as 'scores:*')
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,

    /// Treats the CHANNELs as globs, like Redis' PSUBSCRIBE: *, ?, character classes, \ before a literal
    #[arg(long)]
    pattern: bool,

    /// Prints {"channel":…,"data":…} per line; data is the message itself if it is JSON, otherwise a string, and
    /// {"b64":"…"} if it is not UTF-8
    #[arg(long)]
    json: bool,

    /// Ends after N messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    server: ServerArgs,
}

impl Subscribe {
    /// Runs until the count is reached or a signal arrives.
    ///
    /// # Errors
    /// An invalid name, a server that rejects the client, a stdout that cannot be written.
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

    /// Whether a line begins with the name of its channel.
    fn prints_names(&self) -> bool {
        let has_filter = || self.channels.iter().any(|name| name.contains(['+', '#']));
        let is_mqtt = matches!(self.server.server, Server::Mqtt { .. });
        self.pattern || self.channels.len() > 1 || is_mqtt && has_filter()
    }

    fn failure(&self, ended: FollowError) -> Failure {
        match ended {
            FollowError::Server(error) => self.server.failure(error),
            FollowError::Output(error) => Failure::stdout(&error),
            FollowError::Command(failure) => failure,
        }
    }

    /// Follows the channels with the protocol of the server's address.
    async fn follow(&self) -> Result<(), FollowError> {
        let mut printer = printer::Printer::new(self);
        match &self.server.server {
            Server::Web(_) if self.pattern => Err(FollowError::Command(Failure::Usage(
                "--pattern needs the line port: use --server HOST:PORT".to_owned(),
            ))),
            Server::Mqtt { .. } if self.pattern => Err(FollowError::Command(Failure::Usage(
                "--pattern is not for mqtt://, where a CHANNEL may be a topic filter with + and #".to_owned(),
            ))),
            Server::Mqtt { .. } => self.follow_mqtt(&mut printer).await,
            Server::Web(web) if web.websocket => self.follow_protocol(&mut printer).await,
            Server::Web(web) => self.follow_events(web, &mut printer).await,
            _ if self.pattern || self.server.key.is_some() => self.follow_resp(&mut printer).await,
            _ => match self.follow_protocol(&mut printer).await {
                // A RESP error in response to JSON: the server is a Redis.
                Err(FollowError::Server(Error::Protocol { why, .. })) if why.starts_with('-') => {
                    self.follow_resp(&mut printer).await
                }
                ended => ended,
            },
        }
    }
}

/// The reason why the command ended before the count was reached.
enum FollowError {
    Server(Error),
    Output(io::Error),
    Command(Failure),
}

impl From<Error> for FollowError {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<io::Error> for FollowError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
