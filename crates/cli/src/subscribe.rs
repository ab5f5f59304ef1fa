//! `tidings subscribe`: prints what is published, one message a line.
//!
//! Invariants: a line is written whole and flushed as soon as nothing more waits to be decoded; a connection that
//! is lost is made again for ever, and every gap that leaves is said on stderr.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use tidings_wire::body::{DataFormat, write_json, write_json_string};
use tidings_wire::resp::Value;
use tidings_wire::{Channel, Pattern};
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Backoff, ClientError, Connection, ServerArgs};
use crate::failure::{Failure, say};
use crate::interrupt::{block_on, interrupted};
use crate::text::visible;

/// A server that says nothing for this long is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(15);
/// How long an answer may take: to a subscription, to a ping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait between two attempts to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A connection that held for this long counts as good: the next loss is retried at once.
const STEADY: Duration = Duration::from_secs(10);
/// How long the command may take to end once it was asked to: it may be stuck in a write that nobody reads.
const GRACE: Duration = Duration::from_secs(1);
/// Lines are written to stdout once this many bytes wait, or nothing more is there to decode.
const WRITE_AT: usize = 64 << 10;

/// Prints the messages of channels, one a line, until interrupted
#[derive(Args, Debug)]
#[command(after_long_help = "\
A message is printed as text on one line: line breaks and backslashes inside it as \\r, \\n and \\\\, bytes that are \
not printable UTF-8 as \\xHH. With several channels, or with --pattern, the channel's name and a space come first.

When the connection is lost it is made again for ever, after random waits of up to 10 s; what was published \
meanwhile is missed, and stderr says so. Ctrl-C ends with exit code 0.

Examples:
  tidings subscribe updates
  tidings subscribe scores:nba scores:nfl
  tidings subscribe --pattern 'scores:*' --json | jq .data
  tidings subscribe jobs:done --count 1 && echo done")]
pub(crate) struct Subscribe {
    /// The channels (with --pattern: globs over channel names, such as 'scores:*')
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,

    /// Takes the CHANNELs as globs, as Redis' PSUBSCRIBE does: *, ?, character classes, \ before a literal
    #[arg(long)]
    pattern: bool,

    /// Prints {"channel":…,"data":…} a line; data is the message itself where that is JSON, else a string,
    /// and {"b64":"…"} where it is not UTF-8
    #[arg(long)]
    json: bool,

    /// Ends after N messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    server: ServerArgs,
}

impl Subscribe {
    /// Runs until the count is reached or a signal comes.
    ///
    /// # Errors
    /// A name that is none, a server that refuses, a stdout that cannot be written.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        for name in &self.channels {
            let checked =
                if self.pattern { Pattern::new(name).map(|_| ()) } else { Channel::new(name).map(|_| ()) };
            checked.map_err(|e| Failure::Usage(format!("'{name}' cannot be subscribed to: {e}")))?;
        }
        let stop = interrupted(0, GRACE)?;
        block_on(async {
            tokio::select! {
                ended = self.follow() => ended,
                _ = stop => Ok(()),
            }
        })
    }

    /// Follows the channels over as many connections as it takes.
    async fn follow(&self) -> Result<(), Failure> {
        let mut backoff = Backoff::new(LONGEST_WAIT);
        let mut printer = Printer::new(self);
        let mut subscribed_before = false;
        loop {
            let started = Instant::now();
            let error = match self.listen(&mut printer, &mut subscribed_before).await {
                Ok(()) => return Ok(()),
                Err(Ended::Server(error)) if error.may_pass() => error,
                Err(Ended::Server(error)) => return Err(Failure::of(error)),
                Err(Ended::Output(error)) => return Err(Failure::of_output(&error)),
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
        let mut connection = Connection::open(&self.server).await?;
        let mut command = vec![if self.pattern { &b"PSUBSCRIBE"[..] } else { b"SUBSCRIBE" }];
        command.extend(self.channels.iter().map(String::as_bytes));
        connection.queue(&command);
        let mut unconfirmed = self.channels.len();
        // When the server was asked something that it has not answered yet: the subscription, then pings.
        let mut asked = Some(Instant::now());
        loop {
            while let Some(value) = connection.take()? {
                match Event::of(value) {
                    Event::Message { channel, body } => {
                        if printer.print(&channel, &body)? {
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
                        return Err(
                            ClientError::Refused { what: "the subscription".to_owned(), words }.into()
                        );
                    }
                    Event::Refused(words) => say(format_args!("the server says: {words}")),
                    Event::Other => {}
                }
            }
            printer.flush()?;
            if unconfirmed == 0 && asked.is_some_and(|at| connection.heard() > at) {
                asked = None;
            }
            let patience = match asked {
                Some(at) => at + ANSWER_TIMEOUT,
                None => connection.heard() + PING_AFTER,
            };
            match timeout_at(patience, connection.exchange()).await {
                Ok(done) => done?,
                Err(_) if asked.is_some() => {
                    return Err(ClientError::Silent(ANSWER_TIMEOUT.as_secs()).into());
                }
                Err(_) => {
                    connection.queue(&[b"PING"]);
                    asked = Some(Instant::now());
                }
            }
        }
    }
}

/// Why a connection's turn ended before the count was reached.
enum Ended {
    Server(ClientError),
    Output(io::Error),
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Server(error)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// What a value from the server means to a subscriber.
#[derive(Debug, PartialEq)]
enum Event {
    Message { channel: Vec<u8>, body: Vec<u8> },
    Subscribed,
    Refused(String),
    Other,
}

impl Event {
    fn of(value: Value) -> Self {
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

/// Puts messages on stdout, a line each, many lines in one write.
struct Printer<'a> {
    options: &'a Subscribe,
    lines: Vec<u8>,
    text: String,
    printed: u64,
}

impl<'a> Printer<'a> {
    fn new(options: &'a Subscribe) -> Self {
        Self { options, lines: Vec::new(), text: String::new(), printed: 0 }
    }

    /// Takes one message, and says whether it was the last one wanted.
    fn print(&mut self, channel: &[u8], body: &[u8]) -> io::Result<bool> {
        if self.options.json {
            self.lines.extend_from_slice(b"{\"channel\":");
            write_json_string(&String::from_utf8_lossy(channel), &mut self.lines);
            self.lines.extend_from_slice(b",\"data\":");
            write_json(body, DataFormat::Auto, &mut self.lines);
            self.lines.push(b'}');
        } else {
            self.text.clear();
            if self.options.pattern || self.options.channels.len() > 1 {
                visible(channel, &mut self.text);
                self.text.push(' ');
            }
            visible(body, &mut self.text);
            self.lines.extend_from_slice(self.text.as_bytes());
        }
        self.lines.push(b'\n');
        self.printed += 1;
        let enough = self.options.count == Some(self.printed);
        if enough || self.lines.len() >= WRITE_AT {
            self.flush()?;
        }
        Ok(enough)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            let mut out = io::stdout().lock();
            out.write_all(&self.lines)?;
            out.flush()?;
            self.lines.clear();
        }
        Ok(())
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
        assert_eq!(Event::of(plain), expected);
        let matched = Value::Push(vec![bulk("pmessage"), bulk("news.*"), bulk("news.art"), bulk("hi")]);
        assert_eq!(Event::of(matched), expected);
    }

    #[test]
    fn confirmations_and_refusals_are_told_apart() {
        let confirmed = Value::Push(vec![bulk("subscribe"), bulk("news"), Value::Integer(1)]);
        assert_eq!(Event::of(confirmed), Event::Subscribed);
        assert_eq!(Event::of(Value::Error("NOPERM".to_owned())), Event::Refused("NOPERM".to_owned()));
        assert_eq!(Event::of(Value::Simple("PONG".to_owned())), Event::Other);
    }
}
