//! Subscribing over the client protocol: WebSocket, or JSON lines on the line port. Missed messages are recovered.

use std::time::Duration;

use tidings_client::{Client, Error, Event, Options, Recovery};
use tokio::time::timeout;

use super::printer::Printer;
use super::{FollowError, MAX_DELAY, Subscribe};
use crate::failure::print_notice;

impl Subscribe {
    /// Follows the channels over as many connections as necessary.
    ///
    /// # Errors
    /// A server that rejects the client, a stdout that cannot be written.
    pub(super) async fn follow_protocol(&self, printer: &mut Printer<'_>) -> Result<(), FollowError> {
        let token = self.server.token.clone();
        let options = Options { token, max_delay: MAX_DELAY, ..Options::new(self.server.server.clone()) };
        let mut client = Client::new(options);
        for channel in &self.channels {
            client.subscribe(channel, None);
        }
        loop {
            // Buffered lines are written as soon as no further event is available.
            let ready =
                if printer.waits() { timeout(Duration::ZERO, client.next()).await.ok() } else { None };
            let event = if let Some(event) = ready {
                event
            } else {
                printer.flush()?;
                client.next().await
            };
            match event? {
                Event::Publication { channel, publication } => {
                    if printer.print(&channel, &publication.body)? {
                        client.close().await;
                        return Ok(());
                    }
                }
                other => {
                    printer.flush()?;
                    report(other)?;
                }
            }
        }
    }
}

/// Prints an event of the connection on stderr.
///
/// # Errors
/// The server rejects the subscription.
pub(crate) fn report(event: Event) -> Result<(), Error> {
    match event {
        Event::Disconnected { why, retry_in } => {
            print_notice(format_args!("{why}; trying again in {:.2} s", retry_in.as_secs_f64()));
        }
        Event::Subscribed { channel, how, .. } => match how {
            Recovery::First => {}
            Recovery::Recovered(0) => {
                print_notice(format_args!("{channel}: subscribed again; nothing was missed"));
            }
            Recovery::Recovered(count) => {
                print_notice(format_args!("{channel}: subscribed again; missed messages follow ({count})"));
            }
            Recovery::Gap => print_notice(format_args!(
                "{channel}: subscribed again; the history is too short: messages are missing here"
            )),
            Recovery::NoHistory => {
                print_notice(format_args!(
                    "{channel}: subscribed again; messages published meanwhile are missing"
                ));
            }
        },
        Event::Unsubscribed { channel, why, again: true } => {
            print_notice(format_args!("{channel}: {why}; subscribing again"));
        }
        Event::Unsubscribed { channel, why, again: false } => {
            let what = format!("the subscription to {channel}");
            return Err(Error::Refused { what, text: why.to_string(), temporary: false });
        }
        Event::Publication { .. }
        | Event::Connected(_)
        | Event::Join(..)
        | Event::Leave(..)
        | Event::Message(_) => {}
    }
    Ok(())
}
