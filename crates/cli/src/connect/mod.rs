//! `tidings connect`: the interactive client of the line port.
//!
//! On a terminal ([`interactive`]) a small line editor keeps the typed line separate from received lines; in a pipe
//! ([`piped`]) lines pass unchanged. Reading and writing never wait for each other.
//! ¶ The editor is part of this program because received messages above a half-typed line, and a connection that ends
//! during typing, have to be handled in one place, in order: one loop owns the terminal, the socket and the signals,
//! and no second thread prints.

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
use crate::text::capable;

/// How long the server may take to close after `EXIT`, before the connection is half-closed, and again after
/// that.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest line taken from stdin or from the server, in bytes; no server can be configured to longer lines.
const MAX_LINE: usize = 64 << 20;
/// How much is read from the server at once, in bytes.
const READ: usize = 64 << 10;
/// How many bytes may wait to be sent before more input is taken.
const UNSENT: usize = 256 << 10;

/// Connects to a server's line port: sends typed lines and prints received ones at the same time
#[derive(Args, Debug)]
#[command(after_long_help = "\
On a terminal there is line editing with history, messages appear above the line being typed, HELP lists the commands, \
and EXIT, Ctrl-D on an empty line or Ctrl-C leaves. Pasted lines are sent with Enter. The history is kept for the next \
session in tidings/connect_history of the state directory (XDG_STATE_HOME, or ~/.local/state), without lines that may \
hold a secret, such as AUTH, and without those that begin with a space. When the server stops or the connection is lost, it reconnects and keeps the line being typed; \
subscriptions have to be made again. In a pipe every line of standard input is sent, everything that arrives is printed as it is, and at \
the end of input the command waits until the server has answered.

What the server understands: SUBSCRIBE [channel], UNSUBSCRIBE [channel], PUBLISH channel body, AUTH token, PING, \
EXIT. Any other line comes back as an echo, or as UNKNOWN COMMAND.

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
    /// Runs until either side leaves.
    ///
    /// # Errors
    /// Nobody there, a connection that ends before it was asked to, a terminal that cannot be used.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        self.tls.apply()?;
        block_on(async {
            let (incoming, outgoing) = begin(&self.server).await.map_err(Failure::new)?;
            if stdin().is_terminal() && stdout().is_terminal() && capable() {
                interactive::run(&self.server, !self.no_history, incoming, outgoing).await
            } else {
                piped::run(incoming, outgoing).await
            }
        })
    }
}

/// Connects. Over TLS the server closes a connection that sends nothing, and a user may want to read only: so the
/// client sends telnet's "no operation" (RFC 854), which has no response.
async fn begin(server: &Server) -> Result<(Incoming, Outgoing), Error> {
    const NO_OPERATION: u8 = 241;
    let (incoming, mut outgoing) = open(server).await?;
    if matches!(server, Server::Tls(_)) {
        // Where that fails, so does the next read, with the reason.
        let _ = outgoing.write_all(&[IAC, NO_OPERATION]).await;
        let _ = outgoing.flush().await;
    }
    Ok((incoming, outgoing))
}

/// The connection ended unexpectedly.
fn left_alone(why: &str) -> Failure {
    Failure::new(Error::Lost(why.to_owned()))
}
