//! Subscribing over MQTT: channels are topic filters. Messages that are published while the connection is lost are missing, except
//! retained ones.

use std::time::Duration;

use tidings_client::mqtt::MqttEvent;
use tidings_client::{Backoff, Body, Encoding, Error, MqttConnection};
use tokio::time::{Instant, sleep, timeout_at};

use super::printer::Printer;
use super::{FollowError, MAX_DELAY, Subscribe};
use crate::failure::print_notice;

/// Time without data from the server after which a ping is sent.
const PING_AFTER: Duration = Duration::from_secs(15);
/// The timeout of a response to a subscription or a ping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// After a connection of at least this duration, the first reconnect is immediate.
const STABLE_TIME: Duration = Duration::from_secs(10);

impl Subscribe {
    /// Follows the filters over as many connections as necessary.
    ///
    /// # Errors
    /// A server that rejects the client, a stdout that cannot be written.
    pub(super) async fn follow_mqtt(&self, printer: &mut Printer<'_>) -> Result<(), FollowError> {
        let mut backoff = Backoff::new(MAX_DELAY);
        let mut subscribed_before = false;
        loop {
            let started = Instant::now();
            let error = match self.receive(printer, &mut subscribed_before).await {
                Ok(()) => return Ok(()),
                Err(FollowError::Server(error)) if error.is_retryable() => error,
                Err(ended) => return Err(ended),
            };
            if started.elapsed() >= STABLE_TIME {
                backoff.reset();
            }
            let wait = backoff.wait();
            print_notice(format_args!("{error}; trying again in {:.2} s", wait.as_secs_f64()));
            sleep(wait).await;
        }
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
