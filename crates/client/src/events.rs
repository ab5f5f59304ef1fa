//! A channel as an event stream (`GET /events`; the HTML standard, "Server-sent events").
//!
//! The client reconnects until the server rejects it, and resumes after the last event. If the server cannot resume
//! there, it sends an event `gap`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{Instant, sleep_until, timeout};

use crate::http::{HttpRequest, Stream};
use crate::{Backoff, Error, Web};

/// After a stream of at least this duration, the first reconnect is immediate.
const STEADY: Duration = Duration::from_secs(10);
/// The longest pause of a stream after the server has sent keep-alive comments.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest pause of a stream before the first comment.
const LONG_SILENCE: Duration = Duration::from_secs(300);
/// The longest event, in bytes.
const MAX_EVENT: usize = 64 << 20;

/// An item of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamItem {
    /// An event.
    Event {
        /// Its type; empty for the default type.
        kind: String,
        /// Its data, lines joined.
        data: String,
    },
    /// A comment, which keeps the connection alive.
    Comment,
}

/// An incremental parser of a stream.
#[derive(Debug, Default)]
pub struct Parser {
    /// The bytes of the current, incomplete line.
    line: Vec<u8>,
    /// Whether the last byte was `\r`; a `\n` may follow.
    after_cr: bool,
    /// Whether the first line was read; it may begin with a byte order mark.
    begun: bool,
    kind: String,
    data: String,
    has_data: bool,
    /// The id of the last event, for the next request.
    id: String,
    retry: Option<Duration>,
}

impl Parser {
    /// Parses bytes. Passes the completed items to `each`.
    ///
    /// # Errors
    /// [`Error::Protocol`] for an event longer than 64 MiB.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(StreamItem)) -> Result<(), Error> {
        for byte in bytes {
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    if let Some(item) = self.end_line(&line) {
                        each(item);
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

    fn end_line(&mut self, line: &[u8]) -> Option<StreamItem> {
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line };
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            let mut data = std::mem::take(&mut self.data);
            // The line break after the last line is not part of the data.
            data.pop();
            return std::mem::take(&mut self.has_data).then_some(StreamItem::Event { kind, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => return Some(StreamItem::Comment),
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

    /// The id of the last event with an id; empty if there is none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The reconnect delay that the server requests, if any.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Resets the state for a new stream, which resumes after the last event.
    fn restart(&mut self) {
        *self = Self { id: std::mem::take(&mut self.id), retry: self.retry, ..Self::default() };
    }
}

/// An event of a followed channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// The stream is open.
    Open {
        /// Whether an earlier stream was open.
        again: bool,
        /// Whether the stream resumes at a position. In that case no publication is missing unless a gap is reported.
        resumed: bool,
    },
    /// The stream has ended, or an attempt has failed. The next attempt follows after the delay.
    Lost {
        /// The cause.
        why: Error,
        /// The delay.
        retry_in: Duration,
    },
    /// A publication.
    Published(Vec<u8>),
    /// The history is too short: publications are missing here.
    Gap,
}

/// A channel that is followed over a sequence of streams.
pub struct Events {
    web: Web,
    path: String,
    bearer: Option<String>,
    stream: Option<Stream>,
    parser: Parser,
    queued: std::collections::VecDeque<StreamItem>,
    backoff: Backoff,
    /// The time at which the stream was opened, or at which the next attempt is due.
    at: Instant,
    was_open: bool,
    comments: u32,
}

impl Events {
    /// Connects with the first [`Self::next`]. The delay between two attempts is at most `max_delay`.
    pub fn new(web: Web, channel: &str, token: Option<&str>, max_delay: Duration) -> Self {
        Self {
            web,
            path: format!("/events?channel={}", percent_encode(channel)),
            bearer: token.map(|token| format!("Bearer {token}")),
            stream: None,
            parser: Parser::default(),
            queued: std::collections::VecDeque::new(),
            backoff: Backoff::new(max_delay),
            at: Instant::now(),
            was_open: false,
            comments: 0,
        }
    }

    /// Waits for the next event. Cancel safe.
    ///
    /// # Errors
    /// Errors that a retry cannot resolve: the server rejects the request, or has no event streams.
    pub async fn next(&mut self) -> Result<StreamEvent, Error> {
        loop {
            while let Some(item) = self.queued.pop_front() {
                if let Some(happened) = self.on_item(item)? {
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
                Err(error) => return self.on_lost(error),
            }
        }
    }

    async fn open(&mut self) -> Result<StreamEvent, Error> {
        sleep_until(self.at).await;
        self.parser.restart();
        let mut headers = vec![("Accept", "text/event-stream"), ("Cache-Control", "no-cache")];
        headers.extend(self.bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        if !self.parser.id().is_empty() {
            headers.push(("Last-Event-ID", self.parser.id()));
        }
        let resumed = !self.parser.id().is_empty();
        let call = HttpRequest { headers: &headers, ..HttpRequest::get(&self.path) };
        let mut stream = Stream::open(&self.web, call).await?;
        if stream.status != 200 {
            let text = stream.text().await;
            return Err(Error::Refused {
                what: format!("an event stream at {}", self.web),
                text: format!("{}{}{text}", stream.status, if text.is_empty() { "" } else { ", " }),
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
        let again = std::mem::replace(&mut self.was_open, true);
        Ok(StreamEvent::Open { again, resumed })
    }

    async fn read(&mut self) -> Result<(), Error> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let limit = if self.comments > 1 { SILENCE } else { LONG_SILENCE };
        let bytes = timeout(limit, stream.next()).await.map_err(|_| Error::Timeout(limit.as_secs()))??;
        let bytes = bytes.ok_or_else(|| Error::Lost("the server ended the stream".to_owned()))?;
        self.parser.feed(&bytes, |item| self.queued.push_back(item))
    }

    fn on_item(&mut self, item: StreamItem) -> Result<Option<StreamEvent>, Error> {
        let StreamItem::Event { kind, data } = item else {
            self.comments = self.comments.saturating_add(1);
            return Ok(None);
        };
        Ok(match &*kind {
            "" | "message" => Some(StreamEvent::Published(body(data))),
            "gap" => Some(StreamEvent::Gap),
            "error" => {
                let text = serde_json::from_str::<serde_json::Value>(&data)
                    .ok()
                    .and_then(|error| {
                        Some(format!("{} (code {})", error["message"].as_str()?, error["code"]))
                    })
                    .unwrap_or(data);
                return Err(Error::Refused { what: "the subscription".to_owned(), text, temporary: false });
            }
            _ => None,
        })
    }

    fn on_lost(&mut self, why: Error) -> Result<StreamEvent, Error> {
        if self.stream.take().is_some() && self.at.elapsed() >= STEADY {
            self.backoff.reset();
        }
        if !why.is_retryable() {
            return Err(why);
        }
        let retry_in = self.backoff.wait() + self.parser.retry().unwrap_or_default();
        self.at = Instant::now() + retry_in;
        Ok(StreamEvent::Lost { why, retry_in })
    }
}

/// The body of a publication: the text of the event, or the bytes in `{"b64":"…"}` for a body that is not UTF-8.
fn body(data: String) -> Vec<u8> {
    let decoded = data.strip_prefix("{\"b64\":\"").and_then(|rest| rest.strip_suffix("\"}"));
    // The server encodes only bodies that are not UTF-8; a body that decodes to text was published as this JSON.
    match decoded.and_then(|text| STANDARD.decode(text).ok()) {
        Some(bytes) if std::str::from_utf8(&bytes).is_err() => bytes,
        _ => data.into_bytes(),
    }
}

/// Percent-encodes a value of a query: every byte that is not a letter, a digit or one of `-._~`.
pub fn percent_encode(value: &str) -> String {
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

    fn event(kind: &str, data: &str) -> StreamItem {
        StreamItem::Event { kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn a_stream_is_parsed_by_the_standard_at_every_split() {
        let stream = "\u{feff}: hello\n\nid: 7.e.news\r\ndata: one\r\ndata:  two\r\n\r\nevent: gap\rdata: news\r\rid: 8.e.news\n\n\
                      retry: 1500\ndata\n\nfoo: bar\ndata:x\n\ndata: unfinished";
        let expected = [
            StreamItem::Comment,
            event("", "one\n two"),
            event("gap", "news"),
            event("", ""),
            event("", "x"),
        ];
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            let mut got = Vec::new();
            for part in [&stream.as_bytes()[..cut], &stream.as_bytes()[cut..]] {
                parser.feed(part, |item| got.push(item)).unwrap();
            }
            assert_eq!(got, expected, "cut at {cut}");
            assert_eq!((parser.id(), parser.retry()), ("8.e.news", Some(Duration::from_millis(1500))));
        }
    }

    #[test]
    fn a_body_that_is_not_utf8_keeps_its_bytes() {
        assert_eq!(body("plain".to_owned()), b"plain");
        assert_eq!(body("{\"b64\":\"/wA=\"}".to_owned()), b"\xff\0");
        assert_eq!(body("{\"b64\":\"aGk=\"}".to_owned()), b"{\"b64\":\"aGk=\"}");
        assert_eq!(body("{\"b64\":\"?\"}".to_owned()), b"{\"b64\":\"?\"}");
    }

    #[test]
    fn a_channel_s_name_is_escaped_in_a_query() {
        assert_eq!(percent_encode("scores:nba&x=%1"), "scores%3Anba%26x%3D%251");
    }
}
