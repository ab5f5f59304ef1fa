//! Over RESP: patterns, a secret that makes a backend, and servers that speak nothing else, Redis among them.
//! Nothing is recovered there.

use std::time::Duration;

use tidings_client::resp::{Connection, refused};
use tidings_client::{Backoff, Body, Encoding, Error};
use tidings_wire::resp::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::printer::Printer;
use super::{Ended, LONGEST_WAIT, Subscribe};
use crate::failure::say;

/// Time without data from the server after which a ping is sent.
const PING_AFTER: Duration = Duration::from_secs(15);
/// How long an answer may take: to a subscription, to a ping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that held for this long counts as good: the next loss is retried at once.
const STEADY: Duration = Duration::from_secs(10);

impl Subscribe {
    /// Follows the channels over as many connections as it takes.
    ///
    /// # Errors
    /// A server that refuses, a stdout that cannot be written.
    pub(super) async fn follow_resp(&self, printer: &mut Printer<'_>) -> Result<(), Ended> {
        let mut backoff = Backoff::new(LONGEST_WAIT);
        let mut subscribed_before = false;
        loop {
            let started = Instant::now();
            let error = match self.listen(printer, &mut subscribed_before).await {
                Ok(()) => return Ok(()),
                Err(Ended::Server(error)) if error.may_pass() => error,
                Err(ended) => return Err(ended),
            };
            if started.elapsed() >= STEADY {
                backoff.reset();
            }
            let wait = backoff.wait();
            say(format_args!("{error}; trying again in {:.2} s", wait.as_secs_f64()));
            sleep(wait).await;
        }
    }

    /// One connection: subscribes, then prints until the count is reached.
    async fn listen(&self, printer: &mut Printer<'_>, subscribed_before: &mut bool) -> Result<(), Ended> {
        let mut connection = Connection::open(&self.server.server, self.server.secret()).await?;
        let mut command = vec![if self.pattern { &b"PSUBSCRIBE"[..] } else { b"SUBSCRIBE" }];
        command.extend(self.channels.iter().map(String::as_bytes));
        connection.queue(&command);
        let mut unconfirmed = self.channels.len();
        // Time of a request without a reply yet: the subscription, then pings.
        let mut asked = Some(Instant::now());
        loop {
            while let Some(value) = connection.take()? {
                match Event::parse(value) {
                    Event::Message { channel, body } => {
                        if printer.print(&String::from_utf8_lossy(&channel), &exact(body))? {
                            return Ok(());
                        }
                    }
                    Event::Subscribed => {
                        unconfirmed = unconfirmed.saturating_sub(1);
                        if unconfirmed == 0 && std::mem::replace(subscribed_before, true) {
                            say("subscribed again; what was published meanwhile is missed");
                        }
                    }
                    Event::Refused(words) if unconfirmed > 0 => {
                        return Err(refused("the subscription", words).into());
                    }
                    Event::Refused(words) => say(format_args!("the server says: {words}")),
                    Event::Other => {}
                }
            }
            printer.flush()?;
            if unconfirmed == 0 && asked.is_some_and(|at| connection.last_received() > at) {
                asked = None;
            }
            let patience = match asked {
                Some(at) => at + ANSWER_TIMEOUT,
                None => connection.last_received() + PING_AFTER,
            };
            match timeout_at(patience, connection.exchange()).await {
                Ok(done) => done?,
                Err(_) if asked.is_some() => {
                    return Err(Error::Silent(ANSWER_TIMEOUT.as_secs()).into());
                }
                Err(_) => {
                    connection.queue(&[b"PING"]);
                    asked = Some(Instant::now());
                }
            }
        }
    }
}

/// A body in its exact bytes.
fn exact(raw: Vec<u8>) -> Body {
    Body { raw, encoding: Encoding::Protobuf }
}

/// The meaning of a value from the server for a subscriber.
#[derive(Debug, PartialEq)]
enum Event {
    Message { channel: Vec<u8>, body: Vec<u8> },
    Subscribed,
    Refused(String),
    Other,
}

impl Event {
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
                // The pattern comes before the channel that it matched.
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
    fn messages_of_channels_and_of_patterns_name_the_channel_they_came_from() {
        let expected = Event::Message { channel: b"news.art".to_vec(), body: b"hi".to_vec() };
        let plain = Value::Push(vec![bulk("message"), bulk("news.art"), bulk("hi")]);
        assert_eq!(Event::parse(plain), expected);
        let matched = Value::Push(vec![bulk("pmessage"), bulk("news.*"), bulk("news.art"), bulk("hi")]);
        assert_eq!(Event::parse(matched), expected);
    }

    #[test]
    fn confirmations_and_refusals_are_told_apart() {
        let confirmed = Value::Push(vec![bulk("subscribe"), bulk("news"), Value::Integer(1)]);
        assert_eq!(Event::parse(confirmed), Event::Subscribed);
        assert_eq!(Event::parse(Value::Error("NOPERM".to_owned())), Event::Refused("NOPERM".to_owned()));
        assert_eq!(Event::parse(Value::Simple("PONG".to_owned())), Event::Other);
    }
}
