//! Subscribing over event streams, one for each channel. Missed messages are recovered.

use tidings_client::events::StreamEvent;
use tidings_client::{Body, Encoding, Error, Events, Web};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::printer::Printer;
use super::{FollowError, MAX_DELAY, Subscribe};
use crate::failure::print_notice;

/// The most queued events; while the queue is full, the streams are not read.
const WAITING: usize = 1024;

impl Subscribe {
    /// Follows the channels over as many streams as necessary.
    ///
    /// # Errors
    /// A server that rejects the subscription, a stdout that cannot be written.
    pub(super) async fn follow_events(
        &self,
        web: &Web,
        printer: &mut Printer<'_>,
    ) -> Result<(), FollowError> {
        let token = self.server.token.clone();
        let (sender, mut happened) = mpsc::channel(WAITING);
        let mut streams = JoinSet::new();
        for (at, channel) in self.channels.iter().enumerate() {
            let mut events = Events::new(web.clone(), channel, token.as_deref(), MAX_DELAY);
            let sender = sender.clone();
            streams.spawn(async move {
                loop {
                    let next = events.next().await;
                    let last = next.is_err();
                    if sender.send((at, next)).await.is_err() || last {
                        return;
                    }
                }
            });
        }
        drop(sender);
        loop {
            // Buffered lines are written as soon as no further event is queued.
            let next = match happened.try_recv() {
                Ok(next) => Some(next),
                Err(_) => {
                    printer.flush()?;
                    happened.recv().await
                }
            };
            let Some((at, next)) = next else {
                return Err(Error::Lost("the streams have ended".to_owned()).into());
            };
            let channel = &self.channels[at];
            match next? {
                StreamEvent::Published(raw) => {
                    if printer.print(channel, &Body { raw, encoding: Encoding::Protobuf })? {
                        return Ok(());
                    }
                }
                other => {
                    printer.flush()?;
                    report(channel, &other);
                }
            }
        }
    }
}

/// Prints an event of the connection on stderr.
fn report(channel: &str, happened: &StreamEvent) {
    match happened {
        StreamEvent::Lost { why, retry_in } => {
            print_notice(format_args!("{channel}: {why}; trying again in {:.2} s", retry_in.as_secs_f64()));
        }
        StreamEvent::Open { again: true, resumed: true } => {
            print_notice(format_args!("{channel}: subscribed again; missed messages follow"));
        }
        StreamEvent::Open { again: true, resumed: false } => {
            print_notice(format_args!(
                "{channel}: subscribed again; messages published meanwhile are missing"
            ));
        }
        StreamEvent::Gap => {
            print_notice(format_args!("{channel}: the history is too short: messages are missing here"));
        }
        StreamEvent::Open { .. } | StreamEvent::Published(_) => {}
    }
}
