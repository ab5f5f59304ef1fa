//! Subscribing over MQTT: channels are topic filters. Messages that are published while the connection is lost are missing, except
//! retained ones.

use tidings_client::mqtt::MqttEvent;
use tidings_client::{Body, Encoding, Error, MqttConnection};
use tokio::time::{Instant, timeout_at};

use super::printer::Printer;
use super::reconnect::{ANSWER_TIMEOUT, PING_AFTER, with_reconnects};
use super::{FollowError, Subscribe};
use crate::failure::print_notice;

impl Subscribe {
    /// Follows the filters over as many connections as necessary.
    ///
    /// # Errors
    /// A server that rejects the client, a stdout that cannot be written.
    pub(super) async fn follow_mqtt(&self, printer: &mut Printer<'_>) -> Result<(), FollowError> {
        let mut subscribed_before = false;
        with_reconnects(async || self.receive(printer, &mut subscribed_before).await).await
    }

    /// One connection: subscribes, then prints until the count is reached.
    async fn receive(
        &self,
        printer: &mut Printer<'_>,
        subscribed_before: &mut bool,
    ) -> Result<(), FollowError> {
        let mut connection = MqttConnection::open(&self.server.server, self.server.secret()).await?;
        connection.subscribe(self.channels.iter().map(String::as_str))?;
        // The time of a request without a response: the subscription, then pings.
        let mut asked = Some(Instant::now());
        loop {
            while let Some(event) = connection.take()? {
                match event {
                    MqttEvent::Message { topic, body } => {
                        let body = Body { raw: body, encoding: Encoding::Protobuf };
                        if printer.print(&topic, &body)? {
                            connection.close().await;
                            return Ok(());
                        }
                    }
                    MqttEvent::Subscribed(Ok(())) => {
                        if std::mem::replace(subscribed_before, true) {
                            print_notice("subscribed again; messages published meanwhile are missing");
                        }
                    }
                    MqttEvent::Subscribed(Err(text)) => {
                        let what = "the subscription".to_owned();
                        return Err(Error::Refused { what, text, temporary: false }.into());
                    }
                    MqttEvent::Published(_) | MqttEvent::Other => {}
                }
            }
            printer.flush()?;
            if asked.is_some_and(|at| connection.last_received() > at) {
                asked = None;
            }
            let deadline = match asked {
                Some(at) => at + ANSWER_TIMEOUT,
                None => connection.last_received() + PING_AFTER,
            };
            match timeout_at(deadline, connection.exchange()).await {
                Ok(done) => done?,
                Err(_) if asked.is_some() => {
                    return Err(Error::Timeout(ANSWER_TIMEOUT.as_secs()).into());
                }
                Err(_) => {
                    connection.ping()?;
                    asked = Some(Instant::now());
                }
            }
        }
    }
}
