//! Subscribes to a channel and prints its publications, one a line.
//!
//! ```sh
//! tidings serve &
//! cargo run -p tidings-client --example subscribe -- ws://127.0.0.1:8000 scores
//! tidings publish scores "2:1"
//! ```
//!
//! The client needs permission to subscribe: `channel.without_namespace.allow_subscribe_for_client=true`, or a token
//! (`Options::token`).

use std::error::Error;
use std::io::{self, Write};

use tidings_client::{Client, Event, Options, Server};

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
        // Connects, and connects again after a loss. An error is final: another attempt would fail as well.
        match client.next().await? {
            Event::Subscribed { channel, .. } => writeln!(out, "subscribed to {channel}")?,
            Event::Publication { publication, .. } => {
                writeln!(out, "{}", String::from_utf8_lossy(&publication.body.bytes()))?;
            }
            Event::Unsubscribed { why, again: false, .. } => return Err(why.to_string().into()),
            Event::Disconnected { why, retry_in } => {
                eprintln!("{why}; next attempt in {} ms", retry_in.as_millis());
            }
            _ => {}
        }
    }
}
