//! The two dialects in which a bench subscriber can listen, as far as a bench needs them.
//!
//! Invariant: a unit (line, reply, push) is looked at once it is whole; the bytes of an unfinished one stay with the
//! caller. Messages of the run have one shape, so they are recognised by their first and last bytes; everything
//! else goes through the codecs.

use clap::ValueEnum;
use tidings_wire::line::{self, Scan};
use tidings_wire::plain;
use tidings_wire::resp::{self, Value};

/// The longest unit that is not a message of the run, in bytes.
const MAX_UNIT: usize = 1 << 20;

/// How subscribers are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Transport {
    /// Plain lines on the line port
    Tcp,
    /// RESP3 on the line port (or a Redis)
    Resp,
}

impl Transport {
    /// The name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Resp => "resp",
        }
    }
}

/// What a unit from the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit<'a> {
    /// A message's body.
    Message(&'a [u8]),
    /// The subscription stands.
    Subscribed,
    /// An error, or a notice of dropped messages, in the server's words.
    Complaint(String),
    /// Something else that a bench has no use for.
    Other,
}

/// A dialect with a channel and a message size.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    transport: Transport,
    /// What a subscriber says first.
    greeting: Vec<u8>,
    /// The bytes before a body of the run; on the line port the form that names the channel.
    head: Vec<u8>,
    /// How long a body of the run is.
    size: usize,
}

impl Dialect {
    /// For bodies of `size` bytes in `channel`, with `key` to authenticate where there is one.
    pub(super) fn new(transport: Transport, channel: &str, key: Option<&str>, size: usize) -> Self {
        let mut greeting = Vec::new();
        let mut head = Vec::new();
        match transport {
            Transport::Tcp => {
                if let Some(key) = key {
                    greeting.extend(format!("AUTH {key}\r\n").into_bytes());
                }
                greeting.extend(format!("SUBSCRIBE {channel}\r\n").into_bytes());
                head.extend(format!("MESSAGE {channel} ").into_bytes());
            }
            Transport::Resp => {
                hello(key, &mut greeting);
                resp::command(&[b"SUBSCRIBE", channel.as_bytes()], &mut greeting);
                resp::message(resp::Version::V3, channel, &vec![b'x'; size], &mut head);
                head.truncate(head.len() - size - b"\r\n".len());
            }
        }
        Self { transport, greeting, head, size }
    }

    /// What a subscriber says first.
    pub(super) fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    /// The unit at the start of `buf` and how many bytes it takes; `None` when it has not come whole.
    ///
    /// # Errors
    /// Bytes that are not of the dialect, in words.
    pub(super) fn next<'a>(&self, buf: &'a [u8]) -> Result<Option<(Unit<'a>, usize)>, String> {
        if let Some(rest) = buf.strip_prefix(&self.head[..])
            && rest.get(self.size..self.size + 2) == Some(b"\r\n")
        {
            return Ok(Some((Unit::Message(&rest[..self.size]), self.head.len() + self.size + 2)));
        }
        match self.transport {
            Transport::Tcp => match line::next(buf, 0, MAX_UNIT) {
                Scan::Line { line, used } => Ok(Some((line_unit(line), used))),
                Scan::Partial => Ok(None),
                Scan::TooLong => Err(format!("a line longer than {MAX_UNIT} bytes")),
            },
            Transport::Resp => {
                let value = resp::decode_value(buf, MAX_UNIT).map_err(|e| e.to_string())?;
                Ok(value.map(|(value, used)| (value_unit(value), used)))
            }
        }
    }
}

/// Appends `HELLO 3`, with the key where there is one.
pub(super) fn hello(key: Option<&str>, out: &mut Vec<u8>) {
    match key {
        Some(key) => resp::command(&[b"HELLO", b"3", b"AUTH", b"default", key.as_bytes()], out),
        None => resp::command(&[b"HELLO", b"3"], out),
    }
}

/// The words that both `CONFIRMED` and the subscription that was there already come in.
fn line_unit(line: &[u8]) -> Unit<'_> {
    let is = |answer: &[u8]| answer.strip_suffix(b"\r\n") == Some(line);
    if is(plain::CONFIRMED) || is(plain::ALREADY_SUBSCRIBED) {
        Unit::Subscribed
    } else if line.starts_with(b"ERROR ") || is(plain::UNKNOWN_COMMAND) {
        Unit::Complaint(String::from_utf8_lossy(line).into_owned())
    } else {
        // In the default channel a message is its bare body.
        Unit::Message(line)
    }
}

fn value_unit(value: Value) -> Unit<'static> {
    match value {
        Value::Error(words) => Unit::Complaint(words),
        Value::Push(items) => match items.first() {
            Some(Value::Bulk(kind)) if kind == b"subscribe" => Unit::Subscribed,
            _ => Unit::Other,
        },
        _ => Unit::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_either_dialect_once_they_are_whole() {
        let body = b"0123456789";
        for transport in [Transport::Tcp, Transport::Resp] {
            let dialect = Dialect::new(transport, "bench", None, body.len());
            let mut stream = Vec::new();
            match transport {
                Transport::Tcp => plain::message(false, "bench", body, &mut stream),
                Transport::Resp => resp::message(resp::Version::V3, "bench", body, &mut stream),
            }
            assert_eq!(dialect.next(&stream), Ok(Some((Unit::Message(body), stream.len()))));
            for cut in 0..stream.len() {
                assert_eq!(dialect.next(&stream[..cut]), Ok(None), "{transport:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_default_channel_sends_bare_bodies() {
        let dialect = Dialect::new(Transport::Tcp, "updates", None, 4);
        assert_eq!(dialect.next(b"abcd\r\nrest"), Ok(Some((Unit::Message(b"abcd"), 6))));
    }

    #[test]
    fn confirmations_and_complaints_are_told_apart() {
        let plain = Dialect::new(Transport::Tcp, "bench", None, 4);
        assert_eq!(plain.next(b"CONFIRMED\r\n"), Ok(Some((Unit::Subscribed, 11))));
        assert_eq!(plain.next(b"ALREADY SUBSCRIBED\r\n"), Ok(Some((Unit::Subscribed, 20))));
        let slow = plain.next(b"ERROR 3008 slow: 5 messages dropped\r\n");
        assert!(
            matches!(slow, Ok(Some((Unit::Complaint(words), _))) if words.contains("5 messages dropped"))
        );

        let resp = Dialect::new(Transport::Resp, "bench", None, 4);
        let confirmed = resp.next(b">3\r\n$9\r\nsubscribe\r\n$5\r\nbench\r\n:1\r\n");
        assert!(matches!(confirmed, Ok(Some((Unit::Subscribed, _)))));
        assert_eq!(resp.next(b"-NOPERM no\r\n"), Ok(Some((Unit::Complaint("NOPERM no".to_owned()), 12))));
        assert!(resp.next(b"HTTP/1.1 400\r\n").is_err());
    }
}
