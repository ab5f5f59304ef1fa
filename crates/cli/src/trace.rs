//! `tidings trace`: prints the events of a user or a channel, live.
//!
//! Invariants: an event is one line of JSON on stdout, as the server sends it, written at once; stderr names the node
//! before the first event, because a trace shows that node alone; a lost connection ends the command with exit code 1.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use tidings_client::events::percent_encode;
use tidings_client::http::{HttpRequest, Stream};
use tidings_client::{Error, Web};

use crate::failure::{Failure, print_notice};
use crate::input::duration;
use crate::interrupt::{block_on, interrupted};
use crate::stdout::print;
use crate::target::{TlsArgs, http_port};
use crate::text::is_control;

/// The address of the HTTP port without --server.
const DEFAULT: &str = "http://127.0.0.1:8000";
/// The time for the command to end after a signal: it may be blocked in a write without a reader.
const GRACE: Duration = Duration::from_secs(1);
/// The longest line of an event, in bytes. The server bounds the texts of an event to 512 bytes each.
const MAX_LINE: usize = 64 << 10;

/// Prints what happens for a user or in a channel of a node, one event a line
#[derive(Args, Debug)]
#[command(after_long_help = "\
An event is one object of JSON: its time in Unix milliseconds, its name (connected, disconnected, subscribed, unsubscribed, \
publish, publication, error, dropped), the user, the client, the protocol, the channel, and a code with its reason. Data \
of publications and tokens are not in it.

A trace shows the node at the address of --server alone: what happens on other nodes of the deployment is in their traces. \
Behind a load balancer, use the address of a node.

The command ends with exit code 0 after the time of --time and at Ctrl-C, and with exit code 1 when the server stops or \
the connection is lost. The key of --key needs the scope read.

Examples:
  tidings trace user 7
  tidings trace channel news --time 10m --server http://10.0.0.3:8000 --key \"$KEY\"
  tidings trace user 7 | jq 'select(.event == \"error\")'")]
pub(crate) struct Trace {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand, Debug)]
enum Subject {
    /// Prints what happens for a user, on one node
    User {
        /// The id of the user
        #[arg(value_name = "USER")]
        name: String,
        #[command(flatten)]
        options: TraceOptions,
    },
    /// Prints what happens in a channel, on one node
    Channel {
        /// The name of the channel
        #[arg(value_name = "CHANNEL")]
        name: String,
        #[command(flatten)]
        options: TraceOptions,
    },
}

#[derive(Args, Debug)]
struct TraceOptions {
    /// The duration of the trace, from 1s to 1h
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = trace_time)]
    time: Duration,

    /// The HTTP port of the node, or the proxy in front of it, with its path prefix if there is one
    #[arg(long, value_name = "URL", env = "TIDINGS_SERVER", default_value = DEFAULT, value_parser = http_port)]
    server: Web,

    /// The server's API key
    #[arg(long, value_name = "KEY", env = "TIDINGS_HTTP_API_KEY", hide_env_values = true)]
    key: Option<String>,

    #[command(flatten)]
    tls: TlsArgs,
}

impl Trace {
    /// Prints events until the time has passed or a signal arrives.
    ///
    /// # Errors
    /// A server that rejects the request or cannot be reached, a lost connection, a stdout that cannot be written.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let (kind, name, options) = match &self.subject {
            Subject::User { name, options } => ("user", name, options),
            Subject::Channel { name, options } => ("channel", name, options),
        };
        options.tls.apply()?;
        let seconds = options.time.as_secs();
        let path = format!("/api/trace?{kind}={}&seconds={seconds}", percent_encode(name));
        let stop = interrupted(0, GRACE)?;
        block_on(async {
            tokio::select! {
                ended = options.follow(&path, kind, name) => ended,
                _ = stop => Ok(()),
            }
        })
    }
}

impl TraceOptions {
    async fn follow(&self, path: &str, kind: &str, name: &str) -> Result<(), Failure> {
        let key = self.key.as_deref().map(|key| ("X-API-Key", key));
        let call = HttpRequest { headers: key.as_slice(), ..HttpRequest::get(path) };
        let started = tokio::time::Instant::now();
        let mut stream = Stream::open(&self.server, call).await.map_err(Failure::new)?;
        if stream.status != 200 {
            return Err(self.refused(&mut stream).await);
        }
        let server = &self.server;
        print_notice(format_args!(
            "events of the {kind} {name} at the node of {server} alone, not of other nodes"
        ));
        let mut lines = Lines::default();
        while let Some(bytes) = stream.next().await.map_err(Failure::new)? {
            print(lines.push(&bytes)?.as_bytes())?;
        }
        // The server ends a trace after its time, and when it stops.
        if started.elapsed() + Duration::from_secs(1) < self.time {
            return Err(Failure::Failed(format!("{server} has ended the trace: the server stops")));
        }
        Ok(())
    }

    async fn refused(&self, stream: &mut Stream) -> Failure {
        let advice = match stream.status {
            401 | 403 if self.key.is_none() => "; --key gives the API key",
            403 => "; the key needs the scope read",
            404 => "; is it the HTTP port of a tidings server?",
            _ => "",
        };
        let text = stream.text().await;
        let text = if text.is_empty() { String::new() } else { format!(", {text}") };
        let what = format!("the trace at {}", self.server);
        Failure::new(Error::Refused {
            what,
            text: format!("{}{text}{advice}", stream.status),
            temporary: false,
        })
    }
}

/// Reads the duration of a trace: whole seconds within the bounds of the server.
fn trace_time(text: &str) -> Result<Duration, String> {
    let time = Duration::from_secs(duration(text)?.as_secs());
    let is_valid = (1..=3600).contains(&time.as_secs());
    is_valid.then_some(time).ok_or_else(|| "a trace takes from 1s to 1h".to_owned())
}

/// Splits the parts of a response into complete lines that are not empty.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Adds a part. Returns its complete lines, in which control characters are escaped as in JSON.
    ///
    /// # Errors
    /// A line is longer than [`MAX_LINE`], so that the response is not a trace.
    fn push(&mut self, part: &[u8]) -> Result<String, Failure> {
        let mut complete = String::new();
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            self.0.extend_from_slice(piece);
            if self.0.ends_with(b"\n") {
                let line = self.0.trim_ascii();
                if !line.is_empty() {
                    escape(&String::from_utf8_lossy(line), &mut complete);
                    complete.push('\n');
                }
                self.0.clear();
            } else if self.0.len() > MAX_LINE {
                return Err(Failure::Failed("the response is not a trace: a line is too long".to_owned()));
            }
        }
        Ok(complete)
    }
}

/// Appends a line of JSON. JSON permits some characters in texts that a terminal interprets.
fn escape(line: &str, out: &mut String) {
    for character in line.chars() {
        if is_control(character) {
            // All of them have codes of four digits. Writing into a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_complete_not_empty_and_bounded() {
        let mut lines = Lines::default();
        let mut push = |part: &str| lines.push(part.as_bytes()).expect("lines");
        assert_eq!(push("\n"), "");
        assert_eq!(push("{\"a\":1}\n\n{\"b\""), "{\"a\":1}\n");
        assert_eq!(push(":\"\u{9b}ü\"}\n"), "{\"b\":\"\\u009bü\"}\n");
        assert!(lines.push(&[b'x'; MAX_LINE + 1]).is_err());
    }
}
