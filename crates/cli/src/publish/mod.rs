//! `tidings publish`: publishes messages and waits until each is confirmed.
//!
//! Invariants: exit code 0 means that every message was confirmed; a message that may have been published is never sent
//! again; messages in flight are bounded in number and bytes. A message that is longer than any confirmed one is in
//! flight alone: if the server closes the connection because it is too long, no other message is affected.

mod publisher;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;
use std::{io, vec};

use clap::Args;
use tidings_client::{Backoff, Error, Server};
use tidings_wire::Channel;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use self::publisher::Publisher;
use crate::failure::{Failure, print_notice};
use crate::input::{Lines, duration, stdin_chunks};
use crate::interrupt::block_on;
use crate::target::ServerArgs;

/// The most unconfirmed messages.
const WINDOW: u64 = 1024;
/// The most unsent bytes before reading of input pauses.
const UNSENT: usize = 256 << 10;
/// The longest message from stdin, in bytes; no server can be configured for longer ones.
const MAX_LINE: usize = 16 << 20;
/// The length in bytes up to which every server accepts messages; longer ones are in flight alone at first.
const SHORT: usize = 1 << 10;
/// The timeout of confirmations.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest delay between two attempts to connect.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// The most rejected messages that are reported individually.
const MAX_REPORTED: u64 = 10;

/// Publishes messages to a channel
#[derive(Args, Debug)]
#[command(after_long_help = "\
The command ends with exit code 0 when the server has confirmed every message. A message that the server rejects, such \
as one that is too long, is reported with its number on stderr; the others are published, and the exit code is 1.

While no message is in flight, the command retries an unreachable server for the time of --retry. A \
message that may have been published is never sent again: when the connection breaks, the \
command reports the numbers of confirmed and uncertain messages, and ends with exit code 1. (Over http:// no message is \
uncertain: the server detects repeated messages, so they are sent again.)

--server determines the protocol: the line port (RESP; a Redis server works too), ws:// and wss:// (WebSocket, with --token if the server \
requires one), http:// and https:// (the server API, with --key), mqtt:// and mqtts:// (MQTT 5.0 with QoS 1, also with other brokers).

Examples:
  tidings publish updates 'hello world'
  tidings publish scores:nba '{\"LAL\":101,\"BOS\":99}' '{\"LAL\":103,\"BOS\":99}'
  tidings publish updates 'hello' --server https://push.example.org --key \"$KEY\"
  tidings publish home/door open --server mqtt://broker.example.org
  tail -F access.log | tidings publish logs -")]
pub(crate) struct Publish {
    /// The channel to publish to
    channel: String,

    /// The messages, one per argument; a single - publishes each line of standard input, without its line ending
    #[arg(required = true, value_name = "MESSAGE")]
    messages: Vec<OsString>,

    /// The time for which an unreachable server is retried while no message is in flight; 0: one attempt
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    retry: Duration,

    #[command(flatten)]
    server: ServerArgs,
}

impl Publish {
    /// Publishes all messages.
    ///
    /// # Errors
    /// An invalid channel name, an unconfirmed message, a stdin that cannot be read.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        Channel::new(&self.channel)
            .map_err(|e| Failure::Usage(format!("'{}' cannot be published to: {e}", self.channel)))?;
        self.server.tls.apply()?;
        if let Server::Web(web) = &self.server.server
            && !web.websocket
            && self.server.token.is_some()
            && self.server.key.is_none()
        {
            return Err(Failure::Usage(format!(
                "{web} takes the API key (--key), not a connection token; with a token publish to ws:// or the line port"
            )));
        }
        block_on(async {
            let source = if self.messages == ["-"] {
                let chunks = stdin_chunks()
                    .map_err(|e| Failure::Failed(format!("cannot read standard input: {e}")))?;
                Source::Lines { chunks: Some(chunks), lines: Lines::new(MAX_LINE) }
            } else {
                Source::Arguments(self.messages.clone().into_iter())
            };
            PublishRun {
                options: self,
                source,
                held: None,
                sent: 0,
                answered: 0,
                refused: 0,
                proven: SHORT,
                alone: None,
            }
            .publish()
            .await
        })
    }
}

/// The source of messages.
enum Source {
    Arguments(vec::IntoIter<OsString>),
    Lines { chunks: Option<mpsc::Receiver<io::Result<Vec<u8>>>>, lines: Lines },
}

/// The state of a source.
enum Next {
    Message(Vec<u8>),
    /// A line that exceeds the limit of every server.
    TooLong,
    NotYet,
    End,
}

impl Source {
    fn next(&mut self) -> Next {
        match self {
            Self::Arguments(arguments) => {
                arguments.next().map_or(Next::End, |argument| Next::Message(argument.as_bytes().to_vec()))
            }
            Self::Lines { chunks, lines } => match lines.next() {
                Ok(Some(line)) => Next::Message(line.to_vec()),
                Ok(None) if chunks.is_some() => Next::NotYet,
                Ok(None) => lines.rest().map_or(Next::End, Next::Message),
                Err(_) => {
                    lines.skip();
                    Next::TooLong
                }
            },
        }
    }

    /// Waits for more input; forever if there is none.
    async fn more(&mut self) -> Result<(), Failure> {
        let Self::Lines { chunks: waiting @ Some(_), lines } = self else {
            return std::future::pending().await;
        };
        match waiting.as_mut().expect("matched above").recv().await {
            Some(Ok(chunk)) => lines.push(&chunk),
            Some(Err(e)) => return Err(Failure::Failed(format!("cannot read standard input: {e}"))),
            None => *waiting = None,
        }
        Ok(())
    }
}

/// One run of the command. Messages are numbered from 1 in input order.
struct PublishRun<'a> {
    options: &'a Publish,
    source: Source,
    /// The next item of the source, which is sent when no message is in flight.
    held: Option<Next>,
    /// The messages passed to the connection.
    sent: u64,
    /// The messages that the server has confirmed or rejected.
    answered: u64,
    refused: u64,
    /// The length of the longest confirmed message, at least [`SHORT`].
    proven: usize,
    /// The length of the message in flight, if it is alone because of its length.
    alone: Option<usize>,
}

impl PublishRun<'_> {
    async fn publish(mut self) -> Result<(), Failure> {
        let mut publisher = self.connect().await?;
        let mut retry = Retry::new(self.options.retry);
        let mut before = 0;
        loop {
            match self.pump(&mut publisher).await {
                Ok(()) => break,
                Err(PublishError::Closing) => publisher = self.connect().await?,
                Err(PublishError::Connection(error)) if error.is_too_long() && self.alone.is_some() => {
                    self.answer(Err(error.to_string()));
                    publisher = self.connect().await?;
                }
                Err(PublishError::Connection(error)) if publisher.may_repeat() && error.is_retryable() => {
                    if std::mem::replace(&mut before, self.answered) != self.answered {
                        retry = Retry::new(self.options.retry);
                    }
                    retry.pause(error).await?;
                }
                Err(PublishError::Connection(error))
                    if self.sent == self.answered && error.is_retryable() =>
                {
                    print_notice(format_args!("{error}; connecting again"));
                    publisher = self.connect().await?;
                }
                // No message was published.
                Err(PublishError::Connection(error)) if publisher.may_repeat() && self.answered == 0 => {
                    return Err(Failure::new(error));
                }
                Err(PublishError::Connection(error)) => return Err(self.uncertain(&error)),
                Err(PublishError::Command(failure)) => return Err(failure),
            }
        }
        publisher.close().await;
        match self.refused {
            0 => Ok(()),
            1 => Err(Failure::Failed(format!("1 of {} messages was not published", self.sent))),
            n => Err(Failure::Failed(format!("{n} of {} messages were not published", self.sent))),
        }
    }

    /// Connects, with retries for the configured time.
    async fn connect(&self) -> Result<Publisher, Failure> {
        let mut retry = Retry::new(self.options.retry);
        loop {
            match Publisher::open(&self.options.server).await {
                Ok(publisher) => return Ok(publisher),
                // Only a client's connection can be rejected as a whole; the API rejects single publications.
                Err(error) if !error.is_retryable() => return Err(self.options.server.failure(error)),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// Publishes over one connection until all messages are confirmed.
    async fn pump(&mut self, publisher: &mut Publisher) -> Result<(), PublishError> {
        let mut progress = Instant::now();
        loop {
            let mut hungry = false;
            while !hungry
                && self.alone.is_none()
                && self.sent - self.answered < WINDOW
                && publisher.has_room()
                && publisher.unsent() < UNSENT
            {
                let next = self.held.take().unwrap_or_else(|| self.source.next());
                let is_long = match &next {
                    Next::Message(body) => body.len() > self.proven,
                    Next::TooLong => true,
                    _ => false,
                };
                if is_long && self.sent > self.answered {
                    self.held = Some(next);
                    break;
                }
                match next {
                    Next::Message(body) => {
                        self.alone = is_long.then_some(body.len());
                        if self.sent == self.answered {
                            progress = Instant::now();
                        }
                        self.sent += 1;
                        publisher.queue(&self.options.channel, body)?;
                    }
                    Next::TooLong => {
                        self.sent += 1;
                        self.answer(Err(format!("longer than {MAX_LINE} bytes")));
                    }
                    Next::NotYet => hungry = true,
                    Next::End if self.sent == self.answered => return Ok(()),
                    Next::End => break,
                }
            }
            tokio::select! {
                more = self.source.more(), if hungry => more?,
                done = publisher.exchange() => done?,
                () = sleep_until(progress + ANSWER_TIMEOUT), if self.sent > self.answered => {
                    return Err(Error::Timeout(ANSWER_TIMEOUT.as_secs()).into());
                }
            }
            progress = progress.max(publisher.last_received());
            while let Some(answer) = publisher.take()? {
                let is_closing = self.alone.is_some() && answer.as_ref().is_err_and(|words| closes(words));
                self.answer(answer);
                if is_closing {
                    return Err(PublishError::Closing);
                }
            }
        }
    }

    /// Handles the response to the oldest message without one.
    fn answer(&mut self, answer: Result<(), String>) {
        if self.sent == self.answered {
            return;
        }
        self.answered += 1;
        let alone = self.alone.take();
        if let (Ok(()), Some(length)) = (&answer, alone) {
            self.proven = self.proven.max(length);
        }
        if let Err(mut words) = answer {
            self.refused += 1;
            if let Some(length) = alone {
                words = format!("{words} (the message has {length} bytes)");
            }
            match self.refused {
                ..=MAX_REPORTED => print_notice(format_args!("message {}: {words}", self.answered)),
                n if n == MAX_REPORTED + 1 => {
                    print_notice("further rejected messages are counted, not listed");
                }
                _ => {}
            }
        }
    }

    fn uncertain(&self, error: &Error) -> Failure {
        let confirmed = self.answered - self.refused;
        let uncertain = self.sent - self.answered;
        Failure::Failed(format!(
            "{error}; {confirmed} confirmed, {uncertain} from message {} on may or may not have been published, \
             nothing after them was sent",
            self.answered + 1
        ))
    }
}

/// Retries for a limited time.
struct Retry {
    limit: Duration,
    give_up: Instant,
    backoff: Backoff,
    told: bool,
}

impl Retry {
    fn new(limit: Duration) -> Self {
        Self { limit, give_up: Instant::now() + limit, backoff: Backoff::new(MAX_DELAY), told: false }
    }

    /// Waits before the next attempt. Reports the first error.
    ///
    /// # Errors
    /// The error, if it is permanent or the time is over.
    async fn pause(&mut self, error: Error) -> Result<(), Failure> {
        let retry_at = Instant::now() + self.backoff.wait();
        if !error.is_retryable() || retry_at >= self.give_up {
            return Err(Failure::new(error));
        }
        if !std::mem::replace(&mut self.told, true) {
            print_notice(format_args!("{error}; trying for {:?}", self.limit));
        }
        sleep(retry_at - Instant::now()).await;
        Ok(())
    }
}

/// Whether a server closes the connection after this error: with RESP the server cannot find the next command, and with
/// the client protocol it does not read a message that is too long.
fn closes(words: &str) -> bool {
    words.contains("Protocol error") || words.contains("longer than")
}

/// The reason why publishing over a connection stopped early.
enum PublishError {
    Connection(Error),
    /// The server is closing the connection; all sent messages have responses.
    Closing,
    Command(Failure),
}

impl From<Error> for PublishError {
    fn from(error: Error) -> Self {
        Self::Connection(error)
    }
}

impl From<Failure> for PublishError {
    fn from(failure: Failure) -> Self {
        Self::Command(failure)
    }
}
