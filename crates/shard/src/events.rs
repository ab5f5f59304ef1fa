//! Plain server-sent events: the status of the response is that of the request's subscriptions, and the id of an event
//! contains the client's positions in all of its channels.
//!
//! Until the session reports that its stream is open or refused ([`Effect::Opened`](tidings_hub::Effect::Opened),
//! [`Effect::Refused`](tidings_hub::Effect::Refused)), its events are held back: a refusal becomes an HTTP status, after
//! which browsers do not reconnect, and everything else the body of a 200.
//!
//! Ids are `offset.epoch.channel` (see [`tidings_wire::form::event_id`]). With several channels each is made into those
//! of all of them, so that a client that returns with its last one misses nothing in any.

use tidings_wire::code::{self, HttpStatus};

use crate::body::{CHUNK, LAST_CHUNK, frame};

/// Bytes that are held back at most; with more of them it goes on as if everything had been subscribed to.
const HELD: usize = 64 * 1024;

/// What a source of events needs besides the opening of its body.
#[derive(Debug, Default)]
pub struct Events {
    /// Lines of the header that a refusal has too, each with its line break.
    refusal_header: Vec<u8>,
    /// Where the client stands, by channel, as ids have it; only kept with several channels.
    positions: Option<Vec<(String, String)>>,
    stage: SubscribeState,
    chunked: bool,
}

#[derive(Debug)]
enum SubscribeState {
    /// Nothing is sent yet: what a 200 begins with, and the events so far.
    Held { opening: Vec<u8>, events: Vec<u8> },
    /// The body is being sent.
    Open,
    /// The answer was another one.
    Refused,
}

impl Default for SubscribeState {
    fn default() -> Self {
        Self::Held { opening: Vec::new(), events: Vec::new() }
    }
}

impl Events {
    /// Events of one channel, or of `several`. `header` is what the header of a refusal has besides its type and
    /// length: lines with their breaks. `since` is the id that the client has come back with; may be empty.
    pub fn new(header: Vec<u8>, several: bool, since: &str) -> Self {
        let mut events = Self { refusal_header: header, ..Self::default() };
        if several {
            let mut positions = Vec::new();
            note(since, &mut positions);
            events.positions = Some(positions);
        }
        events
    }

    /// Keeps how a 200 begins.
    pub(crate) fn prepare(&mut self, head: Vec<u8>, first: &[u8], chunked: bool) {
        let mut opening = head;
        frame(first, chunked, &mut opening);
        self.stage = SubscribeState::Held { opening, events: Vec::new() };
        self.chunked = chunked;
    }

    /// Takes whole events from the session, as many as make a good write, and gives how many bytes those are; appends
    /// what is to be sent.
    pub(crate) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        match &mut self.stage {
            SubscribeState::Open => self.show(bytes, out),
            SubscribeState::Refused => bytes.len(),
            SubscribeState::Held { events, .. } => {
                events.extend_from_slice(bytes);
                if events.len() > HELD {
                    self.open(out);
                }
                bytes.len()
            }
        }
    }

    /// The stream is open: appends the beginning of a 200, and the events so far.
    pub(crate) fn open(&mut self, out: &mut Vec<u8>) {
        let SubscribeState::Held { opening, events } = &mut self.stage else { return };
        out.append(opening);
        let held = std::mem::take(events);
        self.stage = SubscribeState::Open;
        let mut shown = 0;
        while shown < held.len() {
            shown += self.show(&held[shown..], out);
        }
    }

    /// The stream is refused: appends an HTTP response with this status and the error as its body. Gives `false`, and
    /// appends nothing, if a response has begun.
    pub(crate) fn refuse(&mut self, status: HttpStatus, error: &[u8], out: &mut Vec<u8>) -> bool {
        let is_held = matches!(self.stage, SubscribeState::Held { .. });
        if is_held {
            refuse(&self.refusal_header, status, error, out);
            self.stage = SubscribeState::Refused;
        }
        is_held
    }

    /// Whether what is taken from now on is sent as it comes.
    pub(crate) fn are_as_they_come(&self) -> bool {
        matches!(self.stage, SubscribeState::Open) && self.positions.is_none()
    }

    /// Appends events as the client gets them, as many as make a good write; gives how many bytes were made into those.
    fn show(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(positions) = &mut self.positions else {
            frame(bytes, self.chunked, out);
            return bytes.len();
        };
        let (mut used, mut shown) = (0, Vec::new());
        for event in each(bytes) {
            show(event, positions, &mut shown);
            used += event.len();
            if shown.len() >= CHUNK {
                break;
            }
        }
        frame(&shown, self.chunked, out);
        used
    }

    /// Ends the answer, which may not have begun.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        match self.stage {
            SubscribeState::Open if self.chunked => out.extend_from_slice(LAST_CHUNK),
            SubscribeState::Held { .. } => {
                let error = br#"{"code":100,"message":"the connection was closed"}"#;
                self.refuse(code::http_status(code::INTERNAL.number), error, out);
            }
            SubscribeState::Open | SubscribeState::Refused => {}
        }
    }
}

/// The events in some bytes, each with the empty line behind it.
fn each(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = memchr::memmem::find(bytes, b"\n\n").map_or(bytes.len(), |i| i + 2);
        let (event, rest) = bytes.split_at(end);
        bytes = rest;
        (!event.is_empty()).then_some(event)
    })
}

/// Appends the answer to a request that is refused with this error.
fn refuse(header: &[u8], status: HttpStatus, error: &[u8], out: &mut Vec<u8>) {
    let HttpStatus { number, reason } = status;
    out.extend_from_slice(format!("HTTP/1.1 {number} {reason}\r\n").as_bytes());
    out.extend_from_slice(header);
    let len = error.len() + 1;
    let body = format!("content-type: application/json\r\ncontent-length: {len}\r\n\r\n");
    out.extend_from_slice(body.as_bytes());
    out.extend_from_slice(error);
    out.push(b'\n');
}

/// Appends an event as the client gets it: its id contains the positions in all channels.
fn show(event: &[u8], positions: &mut Vec<(String, String)>, out: &mut Vec<u8>) {
    // An id stands before the data, in which no line can look like one: all of them begin with `data: `.
    for line in event.split_inclusive(|b| *b == b'\n') {
        let Some(id) = line.strip_prefix(b"id: ").and_then(|line| std::str::from_utf8(line).ok()) else {
            out.extend_from_slice(line);
            continue;
        };
        note(id.trim_end(), positions);
        out.extend_from_slice(b"id:");
        for (channel, position) in &*positions {
            out.extend_from_slice(format!(" {position}.{channel}").as_bytes());
        }
        out.push(b'\n');
    }
}

/// Notes the positions that an id names.
fn note(id: &str, positions: &mut Vec<(String, String)>) {
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

    fn events(several: bool, since: &str) -> Events {
        let mut events = Events::new(b"x-common: 1\r\n".to_vec(), several, since);
        events.prepare(b"HEAD\r\n\r\n".to_vec(), b"retry: 7\n\n", false);
        events
    }

    fn taken(events: &mut Events, bytes: &str) -> String {
        let mut out = Vec::new();
        events.take(bytes.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn opened(events: &mut Events) -> String {
        let mut out = Vec::new();
        events.open(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_sent_before_everything_is_subscribed_to() {
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
            let mut answer = Vec::new();
            assert!(events.refuse(code::http_status(code), json.as_bytes(), &mut answer));
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            let length = format!(
                "x-common: 1\r\ncontent-type: application/json\r\ncontent-length: {}",
                json.len() + 1
            );
            assert!(answer.ends_with(&format!("{length}\r\n\r\n{json}\n")), "{answer}");
            assert_eq!(taken(&mut events, "data: 1\n\n"), "");
            let mut out = Vec::new();
            events.finish(&mut out);
            assert!(out.is_empty());
        }
    }

    #[test]
    fn an_end_before_the_beginning_is_a_503() {
        let mut out = Vec::new();
        events(false, "").finish(&mut out);
        assert!(out.starts_with(b"HTTP/1.1 503 "));
    }

    #[test]
    fn an_id_says_where_the_client_stands_in_all_channels() {
        let mut events = events(true, "3.e.a 4.f.b.c");
        assert_eq!(taken(&mut events, "id: 5.e.a\n\n:ok\n\n"), "");
        assert_eq!(opened(&mut events), "HEAD\r\n\r\nretry: 7\n\nid: 5.e.a 4.f.b.c\n\n:ok\n\n");
        let two = "event: x\nid: 9.f.b.c\ndata: id: 1.e.a\n\nid: 6.e.a\ndata: 2\n\n";
        let shown = "event: x\nid: 5.e.a 9.f.b.c\ndata: id: 1.e.a\n\nid: 6.e.a 9.f.b.c\ndata: 2\n\n";
        assert_eq!(taken(&mut events, two), shown);
        assert_eq!(taken(&mut events, "data: 3\n\nid: 1.g.d\n\n"), "data: 3\n\nid: 6.e.a 9.f.b.c 1.g.d\n\n");
    }

    #[test]
    fn events_of_several_channels_are_made_a_few_at_a_time() {
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
    fn what_is_held_back_is_bounded() {
        let mut events = events(false, "");
        let event = format!("data: {}\n\n", "x".repeat(1000));
        let mut got = String::new();
        for _ in 0..70 {
            got.push_str(&taken(&mut events, &event));
        }
        assert_eq!(got, format!("HEAD\r\n\r\nretry: 7\n\n{}", event.repeat(70)));
    }
}
