//! Endings: why the server closes a connection, and the counters of that.

use std::time::Duration;

use tidings_wire::code::{self, Code};

use crate::effects::{Effect, Effects};
use crate::hub::Hub;
use crate::index::Slot;
use crate::protocols::{Event, Peer as _, Protocols};
use crate::session::Flag;

/// Why the server ends a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client requested it, or its peer sends no more and has every response.
    Done,
    /// It did not read fast enough; so many messages were dropped.
    Slow(u64),
    /// The server stops; a client without a reconnect policy of its own should wait this long.
    Shutdown(Duration),
    /// A ping went unanswered.
    NoPong,
    /// The half-read commands of all clients are at their bound, and this client added to them.
    Overloaded,
    /// It did not connect in time.
    Stale,
    /// Its token has expired.
    Expired,
    /// The application or a rule of the protocol requires it, with this code and reason.
    Code(u16, String),
    /// Its transport ends with a close code of its own (RFC 6455 §7.4): the peer closed it, or broke its framing.
    Transport(u16, String),
    /// It broke its protocol so that no further input can be parsed; the reason for the peer.
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
    code::SEND_NOT_AVAILABLE,
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
const LEFT: [u16; 2] = [1000, 1001];

impl<P: Protocols> Hub<P> {
    /// Counts and logs why a session is ended, unless its peer requested that.
    fn note_ending(&mut self, slot: Slot, ending: &CloseReason) {
        let Some((code, words)) = ending.words() else { return };
        let number = match ending {
            CloseReason::Protocol(_) => code::BAD_PROTOCOL.number,
            CloseReason::Transport(close, _) if LEFT.contains(close) => return,
            _ => code.number,
        };
        self.disconnects.count(number);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let client = self.client_name(self.id_of(slot));
            let session = &self.sessions[slot.index()];
            let user = session.member().map(|member| &*member.user).unwrap_or_default();
            let dialect = session.peer.name();
            tracing::debug!(client, user, dialect, code = number, reason = words, "a client is disconnected");
        }
    }

    /// Ends a session: reports it to its protocol, ends its subscriptions, and has the connection closed once everything
    /// is flushed.
    pub fn end(&mut self, slot: Slot, ending: &CloseReason, fx: &mut Effects) {
        let session = &mut self.sessions[slot.index()];
        if session.flags.has(Flag::Closing) {
            return;
        }
        session.flags.set(Flag::Closing, true);
        self.note_ending(slot, ending);
        self.event(slot, Event::Closing(ending), fx);
        self.drop_interest(slot, fx);
        fx.push(Effect::Close(slot));
    }
}

impl CloseReason {
    /// The code of the ending and its reason; `None` when the peer requested it.
    pub fn words(&self) -> Option<(Code, String)> {
        Some(match self {
            Self::Done => return None,
            Self::Slow(dropped) => (code::SLOW, format!("slow: {dropped} messages dropped")),
            Self::Shutdown(_) => (code::SHUTDOWN, code::SHUTDOWN.text.into()),
            Self::NoPong => (code::NO_PONG, code::NO_PONG.text.into()),
            Self::Overloaded => (code::OVERLOADED, code::OVERLOADED.text.into()),
            Self::Stale => (code::STALE, code::STALE.text.into()),
            Self::Expired => (code::CONNECTION_EXPIRED, code::CONNECTION_EXPIRED.text.into()),
            Self::Code(number, words) => {
                (Code { number: *number, text: "", temporary: *number < 3500 }, words.clone())
            }
            Self::Transport(number, words) => {
                (Code { number: *number, text: "", temporary: false }, words.clone())
            }
            Self::Protocol(words) => (code::BAD_REQUEST, words.clone()),
        })
    }
}
