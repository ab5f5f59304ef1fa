//! Subscribing over RESP: for patterns, API keys, and servers without another protocol, such as Redis. Missed messages
//! are not recovered.

use tidings_client::resp::{RespConnection, refused};
use tidings_client::{Body, Encoding, Error};
use tidings_wire::resp::Value;
use tokio::time::{Instant, timeout_at};

use super::printer::Printer;
use super::reconnect::{ANSWER_TIMEOUT, PING_AFTER, with_reconnects};
use super::{FollowError, Subscribe};
use crate::failure::print_notice;

impl Subscribe {
    /// Follows the channels over as many connections as necessary.
    ///
    /// # Errors
    /// A server that rejects the client, a stdout that cannot be written.
    pub(super) async fn follow_resp(&self, printer: &mut Printer<'_>) -> Result<(), FollowError> {
        let mut subscribed_before = false;
        with_reconnects(async || self.listen(printer, &mut subscribed_before).await).await
    }

    /// One connection: subscribes, then prints until the count is reached.
    async fn listen(
        &self,
        printer: &mut Printer<'_>,
        subscribed_before: &mut bool,
    ) -> Result<(), FollowError> {
        let mut connection = RespConnection::open(&self.server.server, self.server.secret()).await?;
        let mut command = vec![if self.pattern { &b"PSUBSCRIBE"[..] } else { b"SUBSCRIBE" }];
        command.extend(self.channels.iter().map(String::as_bytes));
        connection.queue(&command);
        let mut unconfirmed = self.channels.len();
        // The time of a request without a response: the subscription, then pings.
        let mut asked = Some(Instant::now());
        loop {
            while let Some(value) = connection.take()? {
                match RespEvent::parse(value) {
                    RespEvent::Message { channel, body } => {
                        if printer.print(&String::from_utf8_lossy(&channel), &exact(body))? {
                            return Ok(());
                        }
                    }
                    RespEvent::Subscribed => {
                        unconfirmed = unconfirmed.saturating_sub(1);
                        if unconfirmed == 0 && std::mem::replace(subscribed_before, true) {
                            print_notice("subscribed again; messages published meanwhile are missing");
                        }
                    }
                    RespEvent::Refused(words) if unconfirmed > 0 => {
                        return Err(refused("the subscription", words).into());
                    }
                    RespEvent::Refused(words) => print_notice(format_args!("the server reports: {words}")),
                    RespEvent::Other => {}
                }
            }
            printer.flush()?;
            if unconfirmed == 0 && asked.is_some_and(|at| connection.last_received() > at) {
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
                    connection.queue(&[b"PING"]);
                    asked = Some(Instant::now());
                }
            }
        }
    }
}

/// A body with its exact bytes.
fn exact(raw: Vec<u8>) -> Body {
    Body { raw, encoding: Encoding::Protobuf }
}

/// The meaning of a value for a subscriber.
#[derive(Debug, PartialEq)]
enum RespEvent {
    Message { channel: Vec<u8>, body: Vec<u8> },
    Subscribed,
    Refused(String),
    Other,
}

impl RespEvent {
    fn parse(value: Value) -> Self {
        let items = match value {
            Value::Error(words) => return Self::Refused(words),
            Value::Push(items) | Value::Array(items) => items,
            _ => return Self::Other,
        };
        let mut items = items.into_iter().map(|item| match item {
            Value::Bulk(bytes) => bytes,
            Value::Simple(text) => text.into_bytes(),
            _ => Vec::new(),
        });
        match items.next().as_deref() {
            Some(b"message") => Self::message(items),
            Some(b"pmessage") => {
                // The pattern precedes the matching channel.
                items.next();
                Self::message(items)
            }
            Some(b"subscribe" | b"psubscribe") => Self::Subscribed,
            _ => Self::Other,
        }
    }

    fn message(mut items: impl Iterator<Item = Vec<u8>>) -> Self {
        match (items.next(), items.next()) {
            (Some(channel), Some(body)) => Self::Message { channel, body },
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn messages_of_channels_and_of_patterns_contain_their_channel() {
        let expected = RespEvent::Message { channel: b"news.art".to_vec(), body: b"hi".to_vec() };
        let plain = Value::Push(vec![bulk("message"), bulk("news.art"), bulk("hi")]);
        assert_eq!(RespEvent::parse(plain), expected);
        let matched = Value::Push(vec![bulk("pmessage"), bulk("news.*"), bulk("news.art"), bulk("hi")]);
        assert_eq!(RespEvent::parse(matched), expected);
    }

    #[test]
    fn confirmations_and_errors_are_distinguished() {
        let confirmed = Value::Push(vec![bulk("subscribe"), bulk("news"), Value::Integer(1)]);
        assert_eq!(RespEvent::parse(confirmed), RespEvent::Subscribed);
        assert_eq!(
            RespEvent::parse(Value::Error("NOPERM".to_owned())),
            RespEvent::Refused("NOPERM".to_owned())
        );
        assert_eq!(RespEvent::parse(Value::Simple("PONG".to_owned())), RespEvent::Other);
    }
}
