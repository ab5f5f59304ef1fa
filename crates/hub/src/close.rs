//! Reasons for which the server closes connections, and their counters.

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
    /// The client requested it, or the peer sends no more and has received every response.
    Done,
    /// The client reads too slowly; the number of dropped messages.
    Slow(u64),
    /// The server stops. A client without its own reconnect policy should wait for this time.
    Shutdown(Duration),
    /// The client has not answered a ping.
    NoPong,
    /// The buffered input of all clients together exceeds its limit, and this client has sent the last part of it.
    Overloaded,
    /// The client did not connect in time.
    Stale,
    /// The token has expired.
    Expired,
    /// Required by the application or by a rule of the protocol, with this code and reason.
    Code(u16, String),
    /// Ended by the transport with its own close code (RFC 6455 §7.4): the peer closed it, or its framing is invalid.
    Transport(u16, String),
    /// The input cannot be parsed any further; the reason for the peer.
    Protocol(String),
}

/// The codes that have their own counter. Other codes are counted by one of the last three labels.
const COUNTED: [Code; 18] = [
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
    code::SESSION_TAKEN_OVER,
];

/// Number of sessions ended by the server, by code.
#[derive(Debug, Default)]
pub struct Disconnects {
    counts: [u64; Disconnects::LABELS],
    total: u64,
}

impl Disconnects {
    /// Number of labels.
    pub const LABELS: usize = COUNTED.len() + 3;

    /// The label at an index of [`Disconnects::counts`]: a code and its text. The label `application` is for codes from
    /// 4000 on, `websocket` for close codes of RFC 6455.
    pub fn label(index: usize) -> (String, &'static str) {
        match COUNTED.get(index) {
            Some(code) => (code.number.to_string(), code.text),
            None => {
                let label = ["application", "websocket", "other"][(index - COUNTED.len()).min(2)];
                (label.to_owned(), "")
            }
        }
    }

    /// The counts since the start, in the order of [`Disconnects::label`].
    pub fn counts(&self) -> &[u64; Self::LABELS] {
        &self.counts
    }

    /// The sum of the counts. If it is unchanged, so are all counts.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn count(&mut self, number: u16) {
        let at = COUNTED.iter().position(|code| code.number == number).unwrap_or(match number {
            4000.. => COUNTED.len(),
            1000..3000 => COUNTED.len() + 1,
            _ => COUNTED.len() + 2,
        });
        self.counts[at] += 1;
        self.total += 1;
    }
}

/// Close codes of a normal close by the peer (RFC 6455 §7.4.1).
const NORMAL_CLOSE: [u16; 2] = [1000, 1001];

/// The end of a session, for the log.
#[derive(Debug)]
pub struct SessionEnd {
    /// The client id.
    pub client: String,
    /// The user; empty for an anonymous client.
    pub user: String,
    /// The dialect of the client.
    pub dialect: &'static str,
    /// The code and the reason; `None` if the client closed the connection or it broke.
    pub close: Option<(u16, String)>,
}

impl<P: Protocols> Hub<P> {
    /// Counts the end of a session, unless the peer requested it, and keeps the reason for [`Self::session_end`].
    fn record_close(&mut self, slot: Slot, reason: &CloseReason) {
        let Some((code, text)) = reason.code_and_reason() else { return };
        let number = match reason {
            CloseReason::Protocol(_) => code::BAD_PROTOCOL.number,
            _ => code.number,
        };
        let is_normal = matches!(reason, CloseReason::Transport(close, _) if NORMAL_CLOSE.contains(close));
        if !is_normal {
            self.disconnects.count(number);
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.close_reasons.insert(slot, (number, text));
        }
    }

    /// Describes a session for the log, before [`Hub::closed`] removes it. The reason is kept only at level `debug`.
    pub fn session_end(&mut self, slot: Slot) -> Option<SessionEnd> {
        let client = self.client_id(self.get_session_id(slot)?);
        let session = &self.sessions[slot.index()];
        let user = session.user_state().map(|user_state| user_state.user.to_string()).unwrap_or_default();
        let dialect = session.peer.name();
        Some(SessionEnd { client, user, dialect, close: self.close_reasons.remove(&slot) })
    }

    /// Ends a session: reports the reason to its protocol, ends its subscriptions, and closes the connection after the
    /// flush.
    pub fn end(&mut self, slot: Slot, reason: &CloseReason, fx: &mut Effects<P::Messages>) {
        let session = &mut self.sessions[slot.index()];
        if session.flags.has(Flag::Closing) {
            if session.flags.has(Flag::Parking) {
                // Publications that it does not get any more are counted.
                self.event(slot, Event::Closing(reason), fx);
            }
            return;
        }
        session.flags.set(Flag::Closing, true);
        self.record_close(slot, reason);
        self.trace_end(slot, Some(reason));
        self.event(slot, Event::Closing(reason), fx);
        if !self.sessions[slot.index()].flags.has(Flag::Parking) {
            self.release_topics(slot, fx);
        }
        fx.push(Effect::Close(slot));
    }
}

impl CloseReason {
    /// The code and the reason; `None` if the peer requested the end.
    pub fn code_and_reason(&self) -> Option<(Code, String)> {
        Some(match self {
            Self::Done => return None,
            Self::Slow(dropped) => (code::SLOW, format!("slow: {dropped} messages dropped")),
            Self::Shutdown(_) => (code::SHUTDOWN, code::SHUTDOWN.text.into()),
            Self::NoPong => (code::NO_PONG, code::NO_PONG.text.into()),
            Self::Overloaded => (code::OVERLOADED, code::OVERLOADED.text.into()),
            Self::Stale => (code::STALE, code::STALE.text.into()),
            Self::Expired => (code::CONNECTION_EXPIRED, code::CONNECTION_EXPIRED.text.into()),
            Self::Code(number, text) => {
                (Code { number: *number, text: "", temporary: *number < 3500 }, text.clone())
            }
            Self::Transport(number, text) => {
                (Code { number: *number, text: "", temporary: false }, text.clone())
            }
            Self::Protocol(text) => (code::BAD_REQUEST, text.clone()),
        })
    }
}
