//! `tidings connect`: the interactive client of the line port.
//!
//! On a terminal ([`interactive`]) a small line editor separates the typed line from received lines; in a pipe
//! ([`piped`]) lines pass unchanged. Reading and writing never block each other.
//!
//! The editor is part of this program because received messages above an unfinished line, and a connection that ends
//! during typing, must be handled in one place, in order: one loop owns the terminal, the socket and the signals, and
//! no second thread prints.

mod echoes;
mod editor;
mod history;
mod interactive;
mod keys;
mod paint;
mod piped;
mod reconnect;

use std::io::{IsTerminal as _, stdin, stdout};
use std::time::Duration;

use clap::Args;
use tidings_client::stream::{Incoming, Outgoing, open};
use tidings_client::{DEFAULT, Error, Server};
use tidings_wire::plain::telnet::IAC;
use tokio::io::AsyncWriteExt as _;

use crate::failure::Failure;
use crate::interrupt::block_on;
use crate::target::{TlsArgs, line_port};
use crate::text::supports_escapes;

/// The time for the server to close after `EXIT`, before the connection is half-closed, and again after that.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest line from stdin or the server, in bytes; no server can be configured for longer lines.
const MAX_LINE: usize = 64 << 20;
/// The size of one read from the server, in bytes.
const READ: usize = 64 << 10;
/// The most unsent bytes before reading of input pauses.
const UNSENT: usize = 256 << 10;

/// Connects to a server's line port: sends typed lines and prints received ones at the same time
#[derive(Args, Debug)]
#[command(after_long_help = "\
On a terminal there is line editing with history, messages appear above the typed line, HELP lists the commands, \
and EXIT, Ctrl-D on an empty line or Ctrl-C leaves. Pasted lines are sent with Enter. The history is kept for the next \
session in tidings/connect_history of the state directory (XDG_STATE_HOME, or ~/.local/state), without lines that may \
contain a secret, such as AUTH, and without those that begin with a space. When the server stops or the connection is lost, it reconnects and keeps the line being typed; \
subscriptions must be renewed. In a pipe every line of standard input is sent, everything that arrives is printed as it is, and at \
the end of input the command waits until the server has answered.

Commands of the server: SUBSCRIBE [channel], UNSUBSCRIBE [channel], PUBLISH channel body, AUTH token, PING, \
EXIT. The reply to any other line is its echo, or UNKNOWN COMMAND.

Examples:
  tidings connect
  tidings connect push.example.org:5567
  echo 'PUBLISH updates hello' | tidings connect
  tidings connect tls://push.example.org:5567
  tidings connect unix:/run/tidings.sock")]
pub(crate) struct Connect {
    /// The server's line port: HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:PATH
    #[arg(value_name = "HOST:PORT", env = "TIDINGS_SERVER", default_value = DEFAULT, value_parser = line_port)]
    server: Server,

    /// Neither reads nor writes the history of earlier sessions
    #[arg(long)]
    no_history: bool,

    #[command(flatten)]
    tls: TlsArgs,
}

impl Connect {
    /// Runs until either side ends the connection.
    ///
    /// # Errors
    /// No server at the address, a connection that ends unexpectedly, a terminal that cannot be used.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        self.tls.apply()?;
        block_on(async {
            let (incoming, outgoing) = begin(&self.server).await.map_err(Failure::new)?;
            if stdin().is_terminal() && stdout().is_terminal() && supports_escapes() {
                interactive::run(&self.server, !self.no_history, incoming, outgoing).await
            } else {
                piped::run(incoming, outgoing).await
            }
        })
    }
}

/// Connects. Over TLS the server closes a connection without input, but a user may only want to read. So the client
/// sends telnet's "no operation" (RFC 854), which has no response.
async fn begin(server: &Server) -> Result<(Incoming, Outgoing), Error> {
    const NO_OPERATION: u8 = 241;
    let (incoming, mut outgoing) = open(server).await?;
    if matches!(server, Server::Tls(_)) {
        // If that fails, the next read fails too, with the reason.
        let _ = outgoing.write_all(&[IAC, NO_OPERATION]).await;
        let _ = outgoing.flush().await;
    }
    Ok((incoming, outgoing))
}

/// The connection ended unexpectedly.
fn connection_lost(why: &str) -> Failure {
    Failure::new(Error::Lost(why.to_owned()))
}
