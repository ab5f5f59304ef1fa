//! What a hub asks of the world around it.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::code::HttpStatus;
use tidings_wire::{Channel, ClientInfo, History, HistoryQuery, Pattern, Topic};

use crate::deciding::{Admission, Connected, Decide, TokenId, Verdict};
use crate::session::SessionId;

/// Something that must be done because of what a hub was just told. Carried out in order.
#[derive(Debug)]
pub enum Effect {
    /// Send these bytes of [`Effects::bytes`] to the session's peer.
    Send(u32, Range<usize>),
    /// The session's stream is open: everything that was requested for it is there.
    Opened(u32),
    /// The session's stream is refused. A transport that has not begun its HTTP response sends `status` with the error as
    /// its body; another one sends the error as an event.
    Refused {
        /// The session.
        slot: u32,
        /// The status of a response that has not begun.
        status: HttpStatus,
        /// The error as a JSON object, in [`Effects::bytes`].
        error: Range<usize>,
    },
    /// Flush, then close the connection; the hub has forgotten its subscriptions already.
    Close(u32),
    /// The session may go on: call [`crate::Hub::input`] with no bytes, then read again.
    Resume(u32),
    /// Tell [`crate::Hub::expired`] after this long.
    Start(SessionId, Timer, Duration),
    /// Make sure this topic is heard, and tell [`crate::Hub::interest`] how that stands.
    Want(Topic),
    /// Nobody here wants the topic any more.
    Unwant(Topic),
    /// Carry this out and tell [`crate::Hub::answer`] with the same ticket.
    Ask(SessionId, u32, Request),
    /// Have this known; there is no answer.
    Tell(Note),
}

/// What only others can do for a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Publish through the broker, with what is told of the client that does it.
    Publish(Channel, Bytes, Option<Box<ClientInfo>>),
    /// Say something about the whole node.
    Query(Query),
    /// Read a channel's history.
    History(Channel, HistoryQuery),
    /// Say who is present in a channel.
    Presence(Channel),
    /// Say how many are.
    PresenceStats(Channel),
    /// Decide something.
    Decide(Box<Decide>),
}

impl Request {
    /// How many bytes the answer may take, where it can be large or takes the broker long; `most` where the request does not
    /// say. Such a request is carried out when so many bytes are reserved for its answer.
    pub fn reserves(&self, most: usize) -> Option<usize> {
        match self {
            Self::History(_, HistoryQuery { limit: Some(0), .. }) => None,
            Self::History(_, query) => Some(query.max_bytes),
            Self::Presence(_) | Self::Query(Query::Channels(_)) => Some(most),
            Self::PresenceStats(_) => Some(0),
            Self::Publish(..) | Self::Query(_) | Self::Decide(_) => None,
        }
    }
}

/// What others are told of a session, without an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Note {
    /// It is present in a channel, for the first time or still; whether subscribers are to know when it comes and goes.
    Present(Channel, Box<ClientInfo>, bool),
    /// It is present no longer.
    Absent(Channel, Box<ClientInfo>),
    /// It has subscribed, which subscribers are to know.
    Joined(Channel, Box<ClientInfo>),
    /// It is subscribed no longer, which subscribers are to know.
    Left(Channel, Box<ClientInfo>),
}

/// Questions of `PUBSUB` and `INFO`, about the whole node.
#[derive(Debug, PartialEq, Eq)]
pub enum Query {
    /// Channels with subscribers, those that match only if a pattern is given.
    Channels(Option<Pattern>),
    /// How many subscribers each of these has; what is no channel's name has none.
    Subscribers(Vec<Bytes>),
    /// How many different patterns are subscribed.
    Patterns,
    /// The text of `INFO`.
    Info,
}

/// What came of a [`Request`].
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Published; how many receivers the broker counted.
    Published(u64),
    /// Not done.
    Failed(Failure),
    /// The channels asked for.
    Channels(Vec<Channel>),
    /// What was asked for, with the numbers of subscribers.
    Subscribers(Vec<(Bytes, u64)>),
    /// A number.
    Count(u64),
    /// A text.
    Text(String),
    /// A part of a history.
    History(History),
    /// Who is present in a channel.
    Members(Vec<ClientInfo>),
    /// How many clients, and how many users, are present in a channel.
    Presence(u64, u64),
    /// The connection is let in.
    Connected(Box<Connected>),
    /// The subscription is allowed.
    Allowed(Box<Admission>),
    /// The connection or subscription may stay, until this time (Unix seconds) if there is one.
    Renewed {
        /// Until when.
        expires: Option<u64>,
        /// What others see of it from now on, where that changes.
        info: Option<Bytes>,
        /// The new token of the connection or of the subscription.
        token: Option<TokenId>,
    },
    /// What the application answers.
    Replied(Option<Bytes>),
}

/// Why something was not done for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The broker is away; later it may work.
    Unavailable,
    /// Too much waits for the broker; later it may work.
    Overloaded,
    /// It is not allowed, or went wrong, for this reason.
    Error(Verdict),
    /// The session is to end, with this code and these words.
    Disconnect(u16, String),
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The first byte did not come: the peer is taken for a plain one.
    FirstByte,
    /// Time to ping.
    Ping,
    /// Time to have had a pong.
    Pong,
    /// Time to have said `connect`.
    Stale,
    /// Time to have sent a first byte.
    Introduction,
    /// The connection's time may be over.
    Expiry,
    /// A subscription's time may be over.
    SubExpiry,
    /// Time to say again where it is present.
    Presence,
}

/// Effects in order, and the bytes they send. Reused from call to call; empty between them.
#[derive(Debug, Default)]
pub struct Effects {
    /// What to do.
    pub list: Vec<Effect>,
    /// Where the bytes of [`Effect::Send`] are.
    pub bytes: Vec<u8>,
}

/// A place among the effects: what has been sent since (see [`Effects::take_sent`]).
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    effects: usize,
    bytes: usize,
}

/// How far back a write is looked for that goes on.
const LOOK_BACK: usize = 8;

impl Effects {
    /// Has `write` append bytes that go to `slot`. What goes to one session on end is one write, also with timers and
    /// notes between its parts, which have no part in what the peer sees.
    pub fn send(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if end == start {
            return;
        }
        let silent = |effect: &&mut Effect| matches!(effect, Effect::Start(..) | Effect::Tell(_));
        match self.list.iter_mut().rev().take(LOOK_BACK).find(|effect| !silent(effect)) {
            Some(Effect::Send(last, range)) if *last == slot && range.end == start => range.end = end,
            _ => self.list.push(Effect::Send(slot, start..end)),
        }
    }

    /// Has the transport refuse the session's stream with the error that `write` appends.
    pub fn refuse(&mut self, slot: u32, status: HttpStatus, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.list.push(Effect::Refused { slot, status, error: start..self.bytes.len() });
    }

    /// The place where it stands.
    pub fn mark(&self) -> Mark {
        Mark { effects: self.list.len(), bytes: self.bytes.len() }
    }

    /// Takes back what goes to `slot` since `mark` and appends it to `out`; gives how many bytes that is.
    pub fn take_sent(&mut self, slot: u32, mark: Mark, out: &mut Vec<u8>) -> usize {
        let before = out.len();
        // A write from before the mark may have been gone on with.
        let mut at = mark.effects.saturating_sub(LOOK_BACK);
        while let Some(effect) = self.list.get_mut(at) {
            if let Effect::Send(to, range) = effect
                && *to == slot
                && range.end > mark.bytes
            {
                let start = range.start.max(mark.bytes);
                out.extend_from_slice(&self.bytes[start..range.end]);
                range.end = start;
                if range.start == range.end {
                    self.list.remove(at);
                    continue;
                }
            }
            at += 1;
        }
        out.len() - before
    }

    /// Appends an effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Makes it empty again, keeping a modest buffer.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.bytes.shrink_to(1 << 16);
    }
}
