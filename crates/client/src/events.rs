//! A channel as an event stream (`GET /events`; the HTML standard, "Server-sent events").
//!
//! The stream is made again for ever, and resumes behind the last event that came; where the server cannot resume
//! there, it says so (an event `gap`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{Instant, sleep_until, timeout};

use crate::http::{HttpRequest, Stream};
use crate::{Backoff, Error, Web};

/// A connection that held for this long counts as good: the next loss is retried at once.
const STEADY: Duration = Duration::from_secs(10);
/// How long a stream may be silent, once the server has shown that it keeps it alive with comments.
const SILENCE: Duration = Duration::from_secs(60);
/// The same before that.
const LONG_SILENCE: Duration = Duration::from_secs(300);
/// The longest event, in bytes.
const MAX_EVENT: usize = 64 << 20;

/// One thing that came over a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// An event.
    Event {
        /// Its kind; empty for the usual one.
        kind: String,
        /// What it says, its lines joined.
        data: String,
    },
    /// A comment, which keeps the stream alive.
    Comment,
}

/// Reads a stream from bytes that come in any pieces.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes of a line that has not ended.
    line: Vec<u8>,
    /// Whether the last byte was a `\r`; a `\n` may follow.
    after_cr: bool,
    /// Whether a line has come: the first one may have a byte order mark in front.
    begun: bool,
    kind: String,
    data: String,
    has_data: bool,
    /// The last event's id, which the next request names.
    id: String,
    retry: Option<Duration>,
}

impl Parser {
    /// Takes bytes; gives what they complete to `each`.
    ///
    /// # Errors
    /// [`Error::Protocol`] for an event longer than 64 MiB.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Sent)) -> Result<(), Error> {
        for byte in bytes {
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    if let Some(sent) = self.end_line(&line) {
                        each(sent);
                    }
                }
                byte => {
                    self.after_cr = false;
                    self.line.push(*byte);
                }
            }
            if self.line.len() + self.data.len() > MAX_EVENT {
                let why = format!("an event longer than {MAX_EVENT} bytes");
                return Err(Error::Protocol { what: "event streams", why });
            }
        }
        Ok(())
    }

    fn end_line(&mut self, line: &[u8]) -> Option<Sent> {
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line };
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            let mut data = std::mem::take(&mut self.data);
            // The line break behind the last line is not part of it.
            data.pop();
            return std::mem::take(&mut self.has_data).then_some(Sent::Event { kind, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => return Some(Sent::Comment),
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                self.has_data = true;
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis);
            }
            _ => {}
        }
        None
    }

    /// The id of the last event that named one; empty before that.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The wait before a reconnect that the server requests, if any.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// A new stream begins, which resumes behind the last event.
    fn again(&mut self) {
        *self = Self { id: std::mem::take(&mut self.id), retry: self.retry, ..Self::default() };
    }
}

/// Something that happened on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// The stream stands: for the first time, or again.
    Open {
        /// Whether it stood before.
        again: bool,
        /// Whether the stream resumes at a position: then no publication is missing unless a gap is reported.
        resumed: bool,
    },
    /// There is none any more, or none yet; the next attempt is made after the wait.
    Lost {
        /// Why.
        why: Error,
        /// How long the wait is.
        retry_in: Duration,
    },
    /// Something was published.
    Published(Vec<u8>),
    /// The history is too short: publications are missing here.
    Gap,
}

/// A channel, followed over as many streams as it takes.
pub struct Events {
    web: Web,
    path: String,
    bearer: Option<String>,
    stream: Option<Stream>,
    parser: Parser,
    waiting: std::collections::VecDeque<Sent>,
    backoff: Backoff,
    /// When the stream was made, or the next attempt is due.
    at: Instant,
    stood: bool,
    comments: u32,
}

impl Events {
    /// Begins to connect with the first [`Self::next`]; waits for at most `longest_wait` between two attempts.
    pub fn new(web: Web, channel: &str, token: Option<&str>, longest_wait: Duration) -> Self {
        Self {
            web,
            path: format!("/events?channel={}", escaped(channel)),
            bearer: token.map(|token| format!("Bearer {token}")),
            stream: None,
            parser: Parser::default(),
            waiting: std::collections::VecDeque::new(),
            backoff: Backoff::new(longest_wait),
            at: Instant::now(),
            stood: false,
            comments: 0,
        }
    }

    /// What happens next. May be dropped half-way and called again.
    ///
    /// # Errors
    /// What another attempt would not change: the server refuses, or has no event streams.
    pub async fn next(&mut self) -> Result<StreamEvent, Error> {
        loop {
            while let Some(sent) = self.waiting.pop_front() {
                if let Some(happened) = self.take(sent)? {
                    return Ok(happened);
                }
            }
            let step = match &mut self.stream {
                None => self.open().await.map(Some),
                Some(_) => self.read().await.map(|()| None),
            };
            match step {
                Ok(Some(happened)) => return Ok(happened),
                Ok(None) => {}
                Err(error) => return self.lost(error),
            }
        }
    }

    async fn open(&mut self) -> Result<StreamEvent, Error> {
        sleep_until(self.at).await;
        self.parser.again();
        let mut headers = vec![("Accept", "text/event-stream"), ("Cache-Control", "no-cache")];
        headers.extend(self.bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        if !self.parser.id().is_empty() {
            headers.push(("Last-Event-ID", self.parser.id()));
        }
        let resumed = !self.parser.id().is_empty();
        let call = HttpRequest { headers: &headers, ..HttpRequest::get(&self.path) };
        let mut stream = Stream::open(&self.web, call).await?;
        if stream.status != 200 {
            let words = stream.words().await;
            return Err(Error::Refused {
                what: format!("an event stream at {}", self.web),
                words: format!("{}{}{words}", stream.status, if words.is_empty() { "" } else { ", " }),
                temporary: matches!(stream.status, 429 | 500 | 502..=504),
            });
        }
        let kind = stream.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err(Error::Protocol { what: "event streams", why: format!("it sent {kind}") });
        }
        self.stream = Some(stream);
        self.at = Instant::now();
        self.comments = 0;
        let again = std::mem::replace(&mut self.stood, true);
        Ok(StreamEvent::Open { again, resumed })
    }

    async fn read(&mut self) -> Result<(), Error> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let patience = if self.comments > 1 { SILENCE } else { LONG_SILENCE };
        let bytes =
            timeout(patience, stream.next()).await.map_err(|_| Error::Silent(patience.as_secs()))??;
        let bytes = bytes.ok_or_else(|| Error::Lost("the server ended the stream".to_owned()))?;
        self.parser.feed(&bytes, |sent| self.waiting.push_back(sent))
    }

    fn take(&mut self, sent: Sent) -> Result<Option<StreamEvent>, Error> {
        let Sent::Event { kind, data } = sent else {
            self.comments = self.comments.saturating_add(1);
            return Ok(None);
        };
        Ok(match &*kind {
            "" | "message" => Some(StreamEvent::Published(body(data))),
            "gap" => Some(StreamEvent::Gap),
            "error" => {
                let words = serde_json::from_str::<serde_json::Value>(&data)
                    .ok()
                    .and_then(|error| {
                        Some(format!("{} (code {})", error["message"].as_str()?, error["code"]))
                    })
                    .unwrap_or(data);
                return Err(Error::Refused { what: "the subscription".to_owned(), words, temporary: false });
            }
            _ => None,
        })
    }

    fn lost(&mut self, why: Error) -> Result<StreamEvent, Error> {
        if self.stream.take().is_some() && self.at.elapsed() >= STEADY {
            self.backoff.reset();
        }
        if !why.may_pass() {
            return Err(why);
        }
        let retry_in = self.backoff.wait() + self.parser.retry().unwrap_or_default();
        self.at = Instant::now() + retry_in;
        Ok(StreamEvent::Lost { why, retry_in })
    }
}

/// The bytes that were published: an event's text, but for those that are not UTF-8, which come as `{"b64":"…"}`.
fn body(data: String) -> Vec<u8> {
    let decoded = data.strip_prefix("{\"b64\":\"").and_then(|rest| rest.strip_suffix("\"}"));
    // What is text in there was text before: the server had no reason to wrap it.
    match decoded.and_then(|text| STANDARD.decode(text).ok()) {
        Some(bytes) if std::str::from_utf8(&bytes).is_err() => bytes,
        _ => data.into_bytes(),
    }
}

/// A value in a query: whatever is not plainly a letter, a digit or one of `-._~` in hexadecimal.
pub fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> Sent {
        Sent::Event { kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn a_stream_is_read_as_the_standard_says_however_it_is_cut() {
        let stream = "\u{feff}: hello\n\nid: 7.e.news\r\ndata: one\r\ndata:  two\r\n\r\nevent: gap\rdata: news\r\rid: 8.e.news\n\n\
                      retry: 1500\ndata\n\nfoo: bar\ndata:x\n\ndata: unfinished";
        let expected =
            [Sent::Comment, event("", "one\n two"), event("gap", "news"), event("", ""), event("", "x")];
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            let mut got = Vec::new();
            for part in [&stream.as_bytes()[..cut], &stream.as_bytes()[cut..]] {
                parser.feed(part, |sent| got.push(sent)).unwrap();
            }
            assert_eq!(got, expected, "cut at {cut}");
            assert_eq!((parser.id(), parser.retry()), ("8.e.news", Some(Duration::from_millis(1500))));
        }
    }

    #[test]
    fn what_is_not_text_comes_back_as_the_bytes_it_was() {
        assert_eq!(body("plain".to_owned()), b"plain");
        assert_eq!(body("{\"b64\":\"/wA=\"}".to_owned()), b"\xff\0");
        assert_eq!(body("{\"b64\":\"aGk=\"}".to_owned()), b"{\"b64\":\"aGk=\"}");
        assert_eq!(body("{\"b64\":\"?\"}".to_owned()), b"{\"b64\":\"?\"}");
    }

    #[test]
    fn a_channel_s_name_is_escaped_in_a_query() {
        assert_eq!(escaped("scores:nba&x=%1"), "scores%3Anba%26x%3D%251");
    }
}
