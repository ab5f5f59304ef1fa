//! Endings: why the server closes a connection, and how it says so in each link.

use std::time::Duration;

use tidings_wire::client::push::{Disconnect, Event};
use tidings_wire::code::{self, Code};
use tidings_wire::plain;
use tidings_wire::ws::{self, CloseCode};

use crate::effects::{Effect, Effects};
use crate::hub::Hub;
use crate::session::{Flag, Link, Protocol, send_push};

/// Why the server ends a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It asked for it (`EXIT`, `QUIT`), or its peer sends no more and has all its answers.
    Done,
    /// It did not keep up; so many messages were dropped.
    Slow(u64),
    /// The server stops; a client without a reconnect policy of its own is asked to wait so long.
    Shutdown(Duration),
    /// A ping went unanswered.
    NoPong,
    /// Too much that clients have not finished saying is kept, and it was adding to that.
    Overloaded,
    /// It never said `connect`.
    Stale,
    /// The time that its token gave it is over.
    Expired,
    /// The application, or a rule of the protocol, says so, with this code and these words.
    Verdict(u16, String),
    /// Its WebSocket ends with this code (RFC 6455 §7.4): it was closed by its peer, or cannot be understood.
    Frame(CloseCode, String),
    /// It broke its protocol in a way after which nothing can be understood; the words are for the peer.
    Protocol(String),
}

/// The codes that ended sessions are counted by; any other has one of the last three labels.
const COUNTED: [Code; 17] = [
    code::SHUTDOWN,
    code::SERVER_ERROR,
    code::CONNECTION_EXPIRED,
    code::SLOW,
    code::POSITION_LOST,
    code::FORCE_RECONNECT,
    code::NO_PONG,
    code::OVERLOADED,
    code::INVALID_TOKEN,
    code::BAD_PROTOCOL,
    code::STALE,
    code::FORCE_DISCONNECT,
    code::CONNECTION_LIMIT,
    code::CHANNEL_LIMIT,
    code::NO_PERMISSION,
    code::NOBODY_LISTENS,
    code::TOO_MANY_ERRORS,
];

/// Sessions that the server has ended, by code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disconnects([u64; Disconnects::LABELS]);

impl Disconnects {
    /// How many labels there are.
    pub const LABELS: usize = COUNTED.len() + 3;

    /// The label at a place of [`Disconnects::counts`]: a code and its words. `application` is a code from 4000 on,
    /// `websocket` a close code of RFC 6455.
    pub fn label(at: usize) -> (String, &'static str) {
        match COUNTED.get(at) {
            Some(code) => (code.number.to_string(), code.text),
            None => {
                let label = ["application", "websocket", "other"][(at - COUNTED.len()).min(2)];
                (label.to_owned(), "")
            }
        }
    }

    /// The numbers since the start.
    pub fn counts(&self) -> [u64; Self::LABELS] {
        self.0
    }

    fn count(&mut self, number: u16) {
        let at = COUNTED.iter().position(|code| code.number == number).unwrap_or(match number {
            4000.. => COUNTED.len(),
            1000..3000 => COUNTED.len() + 1,
            _ => COUNTED.len() + 2,
        });
        self.0[at] += 1;
    }
}

/// Close codes with which a WebSocket's peer leaves in the ordinary way (RFC 6455 §7.4.1).
const LEFT: [u16; 2] = [CloseCode::NORMAL.0, 1001];

impl Hub {
    /// Counts and logs why a session is ended, unless its peer asked for that.
    fn note_ending(&mut self, slot: u32, ending: &Ending) {
        let Some((code, words)) = ending_words(ending) else { return };
        let number = match ending {
            Ending::Protocol(_) => code::BAD_PROTOCOL.number,
            Ending::Frame(close, _) if LEFT.contains(&close.0) => return,
            _ => code.number,
        };
        self.disconnects.count(number);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let client = self.client_name(self.id_of(slot));
            let session = &self.sessions[slot as usize];
            let user = session.member().map(|member| &*member.user).unwrap_or_default();
            let dialect = session.link.name();
            tracing::debug!(client, user, dialect, code = number, reason = words, "a client is disconnected");
        }
    }

    /// Ends a session: tells it why in its own dialect, takes its subscriptions away, and asks for the
    /// connection to be closed once that is flushed.
    pub fn end(&mut self, slot: u32, ending: &Ending, fx: &mut Effects) {
        let session = &mut self.sessions[slot as usize];
        if session.flags.has(Flag::Closing) {
            return;
        }
        session.flags.set(Flag::Closing, true);
        let link = session.link;
        self.note_ending(slot, ending);
        match link.protocol() {
            Protocol::Unknown | Protocol::Plain => plain_ending(ending, slot, fx),
            Protocol::Resp { .. } => resp_ending(ending, slot, fx),
            Protocol::Client { .. } => client_ending(link, ending, slot, fx),
            Protocol::Events => self.events_ending(slot, ending, fx),
        }
        self.drop_interest(slot, fx);
        fx.push(Effect::Close(slot));
    }
}

impl Hub {
    /// A stream of plain events reconnects by itself: it gets only the errors after which it must not.
    fn events_ending(&mut self, slot: u32, ending: &Ending, fx: &mut Effects) {
        if let Some((number, words)) = disconnect_words(ending).filter(|(number, _)| !comes_back(*number)) {
            self.send_error_event(slot, number, &words, fx);
        }
    }
}

/// Appends what a plain client is told when `dropped` messages could not be sent to it.
pub fn gap_notice(dropped: u64, out: &mut Vec<u8>) {
    plain::error(code::SLOW.number, &slow_words(dropped), out);
}

/// Appends what a connection is told that is not let in, because there are as many as the limit, or (without
/// one) because the server is stopping and it should reconnect after `delay`. Its dialect is not known yet.
pub fn refusal_notice(limit: Option<usize>, delay: Duration, out: &mut Vec<u8>) {
    match limit {
        Some(limit) => {
            plain::error(code::CONNECTION_LIMIT.number, &format!("connection limit: {limit}"), out);
        }
        None => plain::error(code::SHUTDOWN.number, &shutdown_words(delay), out),
    }
}

fn shutdown_words(delay: Duration) -> String {
    format!("{}, reconnect in {:.1} s", code::SHUTDOWN.text, delay.as_secs_f64())
}

/// Appends what a connection is told that is not let in because of a limit that passes.
pub fn overload_notice(words: &str, out: &mut Vec<u8>) {
    plain::error(code::OVERLOADED.number, words, out);
}

fn slow_words(dropped: u64) -> String {
    format!("slow: {dropped} messages dropped")
}

fn ending_words(ending: &Ending) -> Option<(Code, String)> {
    Some(match ending {
        Ending::Done => return None,
        Ending::Slow(dropped) => (code::SLOW, slow_words(*dropped)),
        Ending::Shutdown(_) => (code::SHUTDOWN, code::SHUTDOWN.text.into()),
        Ending::NoPong => (code::NO_PONG, code::NO_PONG.text.into()),
        Ending::Overloaded => (code::OVERLOADED, code::OVERLOADED.text.into()),
        Ending::Stale => (code::STALE, code::STALE.text.into()),
        Ending::Expired => (code::CONNECTION_EXPIRED, code::CONNECTION_EXPIRED.text.into()),
        Ending::Verdict(number, words) => {
            (Code { number: *number, text: "", temporary: *number < 3500 }, words.clone())
        }
        Ending::Frame(close, words) => (Code { number: close.0, text: "", temporary: false }, words.clone()),
        Ending::Protocol(words) => (code::BAD_REQUEST, words.clone()),
    })
}

fn plain_ending(ending: &Ending, slot: u32, fx: &mut Effects) {
    if let Some((code, mut words)) = ending_words(ending) {
        if let Ending::Shutdown(delay) = ending {
            words = shutdown_words(*delay);
        }
        fx.send(slot, |out| plain::error(code.number, &words, out));
    }
}

fn resp_ending(ending: &Ending, slot: u32, fx: &mut Effects) {
    // Redis itself says nothing when it shuts down; its clients take the end of the stream for it.
    if let Some((code, words)) = ending_words(ending)
        && !matches!(ending, Ending::Shutdown(_))
    {
        let text = match ending {
            Ending::Protocol(_) => format!("ERR {words}"),
            _ => format!("ERR {} {words}", code.number),
        };
        fx.send(slot, |out| tidings_wire::resp::error(&text, out));
    }
}

/// The disconnect codes of the protocol and of applications; other close codes are those of WebSocket itself.
const DISCONNECTS: std::ops::RangeInclusive<u16> = 3000..=4999;

/// Whether a disconnect code asks the client to come back: the protocol's own, and those of applications.
fn comes_back(number: u16) -> bool {
    matches!(number, 3000..=3499 | 4000..=4499)
}

/// The disconnect code of an ending, and its reason.
fn disconnect_words(ending: &Ending) -> Option<(u16, String)> {
    let (code, words) = ending_words(ending)?;
    let number = if matches!(ending, Ending::Protocol(_)) { code::BAD_PROTOCOL.number } else { code.number };
    Some((number, words))
}

/// A WebSocket ends with a close frame; other connections get a push.
fn client_ending(link: Link, ending: &Ending, slot: u32, fx: &mut Effects) {
    let said = ending_words(ending);
    if link.is_websocket() {
        let (number, words) = match (&said, ending) {
            (None, _) => (CloseCode::NORMAL.0, ""),
            (Some((_, words)), Ending::Protocol(_)) => (code::BAD_PROTOCOL.number, &**words),
            (Some((code, words)), _) => (code.number, &**words),
        };
        // A close frame alone is not seen by one-way clients that read messages and nothing else. Where it answers the
        // client's own there is nothing to tell.
        let is_answer = matches!(ending, Ending::Frame(..));
        if link.is_websocket() && link.is_one_way() && !is_answer && DISCONNECTS.contains(&number) {
            send_disconnect(link, slot, number, words.to_owned(), fx);
        }
        return fx.send(slot, |out| ws::close(CloseCode(number), words, out));
    }
    let Some((number, words)) = disconnect_words(ending) else { return };
    send_disconnect(link, slot, number, words, fx);
}

fn send_disconnect(link: Link, slot: u32, number: u16, words: String, fx: &mut Effects) {
    let reconnect = comes_back(number);
    let event = Event::Disconnect(Disconnect { code: number.into(), reason: words.into(), reconnect });
    send_push(link, slot, "", event, fx);
}
