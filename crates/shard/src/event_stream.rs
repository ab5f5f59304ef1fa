//! Plain server-sent events: the status of the response depends on the requested subscriptions, and the id of an event
//! contains the client's positions in all of its channels.
//!
//! Until the session reports that its stream is open or refused ([`Effect::Opened`](tidings_hub::Effect::Opened),
//! [`Effect::Refused`](tidings_hub::Effect::Refused)), its events are held back. A refusal becomes an HTTP status,
//! after which browsers do not reconnect. Otherwise the held events become the body of a 200.
//!
//! Ids are `offset.epoch.channel` (see [`tidings_wire::form::event_id`]). With several channels, each id is replaced by
//! those of all channels, so that a client that reconnects with its last id misses nothing in any of them.

use tidings_wire::code::{self, HttpStatus};

use crate::chunk::{CHUNK, LAST_CHUNK, append_chunk};
use crate::pipe::ResponseOutcome;

/// Most bytes that are held back. With more, the stream opens.
const MAX_HELD: usize = 64 * 1024;

/// The state of a plain event stream.
#[derive(Debug, Default)]
pub struct EventStream {
    /// Header lines of a refusal, each with its line break.
    refusal_header: Vec<u8>,
    /// The client's position in each channel, as in ids; only with several channels.
    positions: Option<Vec<(String, String)>>,
    state: StreamState,
    chunked: bool,
    /// Another component writes the head of the response; see [`Self::outcome`].
    is_headless: bool,
}

#[derive(Debug)]
enum StreamState {
    /// Nothing is sent: the start of a 200, and the held events.
    Held { opening: Vec<u8>, events: Vec<u8> },
    /// The body is being sent.
    Open,
    /// The response is a refusal.
    Refused(HttpStatus),
}

impl Default for StreamState {
    fn default() -> Self {
        Self::Held { opening: Vec::new(), events: Vec::new() }
    }
}

impl EventStream {
    /// An event stream of one channel, or of `several`. `header` contains the header lines of a refusal besides its
    /// type and length, with line breaks. `since` is the last id of a client that reconnects; may be empty.
    pub fn new(header: Vec<u8>, several: bool, since: &str) -> Self {
        let mut events = Self { refusal_header: header, ..Self::default() };
        if several {
            let mut positions = Vec::new();
            record_positions(since, &mut positions);
            events.positions = Some(positions);
        }
        events
    }

    /// Stores the start of a 200.
    pub(crate) fn prepare(&mut self, head: Vec<u8>, first: &[u8], chunked: bool, is_headless: bool) {
        let mut opening = head;
        append_chunk(first, chunked, &mut opening);
        self.state = StreamState::Held { opening, events: Vec::new() };
        self.chunked = chunked;
        self.is_headless = is_headless;
    }

    /// The start of the response, if it is certain.
    pub(crate) fn outcome(&self) -> Option<ResponseOutcome> {
        match self.state {
            StreamState::Held { .. } => None,
            StreamState::Open => Some(ResponseOutcome::Open),
            StreamState::Refused(status) => Some(ResponseOutcome::Refused(status)),
        }
    }

    /// Accepts whole events from the session, up to the size of a good write; returns the number of accepted bytes.
    /// Appends the bytes to send.
    pub(crate) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        match &mut self.state {
            StreamState::Open => self.write_events(bytes, out),
            StreamState::Refused(_) => bytes.len(),
            StreamState::Held { events, .. } => {
                events.extend_from_slice(bytes);
                if events.len() > MAX_HELD {
                    self.open(out);
                }
                bytes.len()
            }
        }
    }

    /// Opens the stream: appends the start of a 200, and the held events.
    pub(crate) fn open(&mut self, out: &mut Vec<u8>) {
        let StreamState::Held { opening, events } = &mut self.state else { return };
        out.append(opening);
        let held = std::mem::take(events);
        self.state = StreamState::Open;
        let mut shown = 0;
        while shown < held.len() {
            shown += self.write_events(&held[shown..], out);
        }
    }

    /// Refuses the stream: appends an HTTP response with this status and the error as its body. Returns `false`, and
    /// appends nothing, if a response has begun.
    pub(crate) fn refuse(&mut self, status: HttpStatus, error: &[u8], out: &mut Vec<u8>) -> bool {
        let is_held = matches!(self.state, StreamState::Held { .. });
        if is_held {
            if !self.is_headless {
                write_refusal_head(&self.refusal_header, status, error, out);
            }
            out.extend_from_slice(error);
            out.push(b'\n');
            self.state = StreamState::Refused(status);
        }
        is_held
    }

    /// Whether events are sent unchanged from now on.
    pub(crate) fn is_passthrough(&self) -> bool {
        matches!(self.state, StreamState::Open) && self.positions.is_none()
    }

    /// Appends events in the form for the client, up to the size of a good write; returns the number of consumed bytes.
    fn write_events(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(positions) = &mut self.positions else {
            append_chunk(bytes, self.chunked, out);
            return bytes.len();
        };
        let (mut used, mut shown) = (0, Vec::new());
        for event in split_events(bytes) {
            write_event(event, positions, &mut shown);
            used += event.len();
            if shown.len() >= CHUNK {
                break;
            }
        }
        append_chunk(&shown, self.chunked, out);
        used
    }

    /// Ends the response, which may not have begun.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        match self.state {
            StreamState::Open if self.chunked => out.extend_from_slice(LAST_CHUNK),
            StreamState::Held { .. } => {
                let error = br#"{"code":100,"message":"the connection was closed"}"#;
                self.refuse(code::http_status(code::INTERNAL.number), error, out);
            }
            StreamState::Open | StreamState::Refused(_) => {}
        }
    }
}

/// The events in `bytes`, each with the empty line after it.
fn split_events(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = memchr::memmem::find(bytes, b"\n\n").map_or(bytes.len(), |i| i + 2);
        let (event, rest) = bytes.split_at(end);
        bytes = rest;
        (!event.is_empty()).then_some(event)
    })
}

/// Appends the head of the response to a refused request.
fn write_refusal_head(header: &[u8], status: HttpStatus, error: &[u8], out: &mut Vec<u8>) {
    let HttpStatus { number, reason } = status;
    out.extend_from_slice(format!("HTTP/1.1 {number} {reason}\r\n").as_bytes());
    out.extend_from_slice(header);
    let len = error.len() + 1;
    let body = format!("content-type: application/json\r\ncontent-length: {len}\r\n\r\n");
    out.extend_from_slice(body.as_bytes());
}

/// Appends an event in the form for the client: its id contains the positions in all channels.
fn write_event(event: &[u8], positions: &mut Vec<(String, String)>, out: &mut Vec<u8>) {
    // The id precedes the data. No data line looks like an id, because all of them begin with `data: `.
    for line in event.split_inclusive(|b| *b == b'\n') {
        let Some(id) = line.strip_prefix(b"id: ").and_then(|line| std::str::from_utf8(line).ok()) else {
            out.extend_from_slice(line);
            continue;
        };
        record_positions(id.trim_end(), positions);
        out.extend_from_slice(b"id:");
        for (channel, position) in &*positions {
            out.extend_from_slice(format!(" {position}.{channel}").as_bytes());
        }
        out.push(b'\n');
    }
}

/// Stores the positions in an id.
fn record_positions(id: &str, positions: &mut Vec<(String, String)>) {
    for part in id.split(' ') {
        let mut dots = part.match_indices('.').map(|(at, _)| at);
        let Some((_, second)) = dots.next().zip(dots.next()) else { continue };
        let (position, channel) = (&part[..second], &part[second + 1..]);
        match positions.iter_mut().find(|(known, _)| known == channel) {
            Some((_, known)) => position.clone_into(known),
            None => positions.push((channel.to_owned(), position.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(several: bool, since: &str) -> EventStream {
        let mut events = EventStream::new(b"x-common: 1\r\n".to_vec(), several, since);
        events.prepare(b"HEAD\r\n\r\n".to_vec(), b"retry: 7\n\n", false, false);
        events
    }

    fn taken(events: &mut EventStream, bytes: &str) -> String {
        let mut out = Vec::new();
        events.take(bytes.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn opened(events: &mut EventStream) -> String {
        let mut out = Vec::new();
        events.open(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_sent_before_everything_is_subscribed() {
        let mut events = events(false, "");
        assert_eq!(taken(&mut events, "id: 5.e.news\n\n"), "");
        assert_eq!(taken(&mut events, "id: 6.e.news\ndata: :ok\n\n:ok\n\n"), "");
        let all = "HEAD\r\n\r\nretry: 7\n\nid: 5.e.news\n\nid: 6.e.news\ndata: :ok\n\n:ok\n\n";
        assert_eq!(opened(&mut events), all);
        assert_eq!(opened(&mut events), "", "it is open already");
        assert_eq!(taken(&mut events, "data: 1\n\n"), "data: 1\n\n");
        let mut out = Vec::new();
        assert!(!events.refuse(code::http_status(107), b"{}", &mut out) && out.is_empty());
    }

    #[test]
    fn a_refusal_is_an_http_response_with_its_status() {
        for (code, status) in [(100, "503 "), (101, "401 "), (102, "404 "), (103, "403 "), (107, "400 ")] {
            let mut events = events(false, "");
            let json = format!("{{\"code\":{code},\"message\":\"why\"}}");
            assert_eq!(taken(&mut events, "id: 5.e.news\n\n"), "");
            let mut response = Vec::new();
            assert!(events.refuse(code::http_status(code), json.as_bytes(), &mut response));
            let response = String::from_utf8(response).unwrap();
            assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
            let length = format!(
                "x-common: 1\r\ncontent-type: application/json\r\ncontent-length: {}",
                json.len() + 1
            );
            assert!(response.ends_with(&format!("{length}\r\n\r\n{json}\n")), "{response}");
            assert_eq!(taken(&mut events, "data: 1\n\n"), "");
            let mut out = Vec::new();
            events.finish(&mut out);
            assert!(out.is_empty());
        }
    }

    #[test]
    fn a_stream_that_ends_before_it_opens_is_a_503() {
        let mut out = Vec::new();
        events(false, "").finish(&mut out);
        assert!(out.starts_with(b"HTTP/1.1 503 "));
    }

    #[test]
    fn an_id_contains_the_positions_of_all_channels() {
        let mut events = events(true, "3.e.a 4.f.b.c");
        assert_eq!(taken(&mut events, "id: 5.e.a\n\n:ok\n\n"), "");
        assert_eq!(opened(&mut events), "HEAD\r\n\r\nretry: 7\n\nid: 5.e.a 4.f.b.c\n\n:ok\n\n");
        let two = "event: x\nid: 9.f.b.c\ndata: id: 1.e.a\n\nid: 6.e.a\ndata: 2\n\n";
        let shown = "event: x\nid: 5.e.a 9.f.b.c\ndata: id: 1.e.a\n\nid: 6.e.a 9.f.b.c\ndata: 2\n\n";
        assert_eq!(taken(&mut events, two), shown);
        assert_eq!(taken(&mut events, "data: 3\n\nid: 1.g.d\n\n"), "data: 3\n\nid: 6.e.a 9.f.b.c 1.g.d\n\n");
    }

    #[test]
    fn events_of_several_channels_are_written_in_small_batches() {
        let mut events = events(true, "");
        opened(&mut events);
        let all = "data: x\n\n".repeat(CHUNK);
        let mut got = Vec::new();
        let mut used = 0;
        while used < all.len() {
            let before = got.len();
            used += events.take(&all.as_bytes()[used..], &mut got);
            assert!((1..CHUNK + 9).contains(&(got.len() - before)));
        }
        assert!(got == all.as_bytes());
    }

    #[test]
    fn held_back_events_are_bounded() {
        let mut events = events(false, "");
        let event = format!("data: {}\n\n", "x".repeat(1000));
        let mut got = String::new();
        for _ in 0..70 {
            got.push_str(&taken(&mut events, &event));
        }
        assert_eq!(got, format!("HEAD\r\n\r\nretry: 7\n\n{}", event.repeat(70)));
    }
}
