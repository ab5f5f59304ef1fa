//! Subscribes to a channel with a history and prints, after each loss of the connection, whether publications are
//! missing.
//!
//! ```sh
//! tidings serve --set channel.without_namespace.history_size=100 --set channel.without_namespace.history_ttl=5m \
//!     --set channel.without_namespace.force_recovery=true &
//! cargo run -p tidings-client --example recover -- ws://127.0.0.1:8000 scores
//! ```
//!
//! Stop the network for a moment and publish meanwhile: the client reconnects and receives the missed publications, in
//! order and once. An application loads its full state again only after [`Recovery::Gap`] and [`Recovery::NoHistory`].

use std::error::Error;
use std::io::{self, Write};

use tidings_client::{Client, Event, Options, Recovery, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let server = args.next().unwrap_or_else(|| "ws://127.0.0.1:8000".to_owned());
    let channel = args.next().unwrap_or_else(|| "scores".to_owned());
    run(server.parse()?, &channel, &mut io::stdout()).await
}

/// Prints to `out` until the server refuses the client or the channel.
pub(crate) async fn run(server: Server, channel: &str, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut client = Client::new(Options::new(server));
    client.subscribe(channel, None);
    loop {
        match client.next().await? {
            // Precedes the publications that were missed.
            Event::Subscribed { how, .. } => match how {
                Recovery::First => writeln!(out, "subscribed")?,
                Recovery::Recovered(count) => writeln!(out, "recovered {count} publications")?,
                Recovery::Gap => writeln!(out, "publications are missing: the history is too short")?,
                Recovery::NoHistory => writeln!(out, "publications are missing: the channel has no history")?,
            },
            Event::Publication { publication, .. } => {
                let body = String::from_utf8_lossy(&publication.body.bytes()).into_owned();
                writeln!(out, "{} {body}", publication.offset)?;
            }
            Event::Unsubscribed { why, again: false, .. } => return Err(why.to_string().into()),
            Event::Disconnected { why, .. } => writeln!(out, "disconnected: {why}")?,
            _ => {}
        }
    }
}
