//! Effects: what a hub requests from its shard and from the control plane.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::code::HttpStatus;
use tidings_wire::{Channel, ClientInfo, Extra, History, HistoryQuery, Pattern, Topic};

use crate::decisions::{Admission, Connected, Decide, Rejection, TokenId};
use crate::index::Slot;
use crate::session::SessionId;

/// Something that the shard carries out for the hub, in order.
#[derive(Debug)]
pub enum Effect {
    /// Send these bytes of [`Effects::bytes`] to the session's peer.
    Send(Slot, Range<usize>),
    /// The session's stream is open: everything that was requested for it is there.
    Opened(Slot),
    /// The session's stream is refused. A transport that has not begun its HTTP response sends `status` with the error as
    /// its body; another one sends the error as an event.
    Refused {
        /// The session.
        slot: Slot,
        /// The status of a response that has not begun.
        status: HttpStatus,
        /// The error as a JSON object, in [`Effects::bytes`].
        error: Range<usize>,
    },
    /// Flush, then close the connection; the hub has forgotten its subscriptions already.
    Close(Slot),
    /// The session may continue: give its protocol an input of no bytes, then read again.
    Resume(Slot),
    /// Call [`crate::Hub::expired`] after this time.
    Start(SessionId, Timer, Duration),
    /// Subscribe this topic at the broker, and report its state to [`crate::Hub::interest`].
    SubscribeTopic(Topic),
    /// The topic has no subscribers here any more.
    UnsubscribeTopic(Topic),
    /// Carry this out and give the response to [`crate::Hub::respond`] with the same ticket.
    Request(SessionId, u32, Request),
    /// Publish this; there is no response.
    Notify(Notification),
}

/// What the control plane does for a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Publish through the broker, with the client as subscribers see it and tags.
    Publish(Channel, Bytes, Option<Box<Extra>>),
    /// Read something about the whole node.
    Query(Query),
    /// Read a channel's history.
    History(Channel, HistoryQuery),
    /// Read the presence of a channel.
    Presence(Channel),
    /// Read the numbers of the presence of a channel.
    PresenceStats(Channel),
    /// Decide something.
    Decide(Box<Decide>),
}

impl Request {
    /// How many bytes the response may take, where it can be large or takes the broker long; `most` where the request sets
    /// no bound. Such a request is carried out when so many bytes are reserved for its response.
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

/// A change of presence that is published, without a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Notification {
    /// The client is present in a channel, newly or still; whether its joins and leaves are published.
    Present(Channel, Box<ClientInfo>, bool),
    /// The client is no longer present.
    Absent(Channel, Box<ClientInfo>),
    /// The client has subscribed, which is published.
    Joined(Channel, Box<ClientInfo>),
    /// The client is no longer subscribed, which is published.
    Left(Channel, Box<ClientInfo>),
}

/// Requests about the whole node.
#[derive(Debug, PartialEq, Eq)]
pub enum Query {
    /// Channels with subscribers, those that match only if a pattern is given.
    Channels(Option<Pattern>),
    /// How many subscribers each of these has; what is no channel's name has none.
    Subscribers(Vec<Bytes>),
    /// How many different patterns are subscribed.
    Patterns,
    /// The text with the statistics of the node.
    Info,
}

/// The response to a [`Request`].
#[derive(Debug, PartialEq, Eq)]
pub enum Response {
    /// Published; how many receivers the broker counted.
    Published(u64),
    /// Not done.
    Failed(Failure),
    /// Channels.
    Channels(Vec<Channel>),
    /// The requested names, each with its number of subscribers.
    Subscribers(Vec<(Bytes, u64)>),
    /// A number.
    Count(u64),
    /// A text.
    Text(String),
    /// A part of a history.
    History(History),
    /// The clients that are present in a channel.
    Members(Vec<ClientInfo>),
    /// How many clients, and how many users, are present in a channel.
    Presence(u64, u64),
    /// The connection is accepted.
    Connected(Box<Connected>),
    /// The subscription is allowed.
    Allowed(Box<Admission>),
    /// The connection or subscription may stay, until this time (Unix seconds) if there is one.
    Renewed {
        /// Until when.
        expires: Option<u64>,
        /// What other clients see of it from now on, where that changes.
        info: Option<Bytes>,
        /// The new token of the connection or of the subscription.
        token: Option<TokenId>,
    },
    /// The response of the application.
    Replied(Option<Bytes>),
}

/// Why something was not done for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The broker is unavailable; later it may work.
    Unavailable,
    /// Too much waits for the broker; later it may work.
    Overloaded,
    /// It is not allowed, or went wrong, for this reason.
    Error(Rejection),
    /// The session must end, with this code and reason.
    Disconnect(u16, String),
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The first byte did not come in time.
    FirstByte,
    /// Time to ping.
    Ping,
    /// Time to have had a pong.
    Pong,
    /// Time to have connected.
    Stale,
    /// Time to have sent a first byte.
    Introduction,
    /// The connection's time may be over.
    Expiry,
    /// A subscription's time may be over.
    SubExpiry,
    /// Time to refresh its presence.
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
pub struct SentMark {
    effects: usize,
    bytes: usize,
}

/// How far back a write is looked for that goes on.
const LOOK_BACK: usize = 8;

impl Effects {
    /// Has `write` append bytes that go to `slot`. What goes to one session on end is one write, also with timers and
    /// notes between its parts, which have no part in what the peer sees.
    pub fn send(&mut self, slot: Slot, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if end == start {
            return;
        }
        let silent = |effect: &&mut Effect| matches!(effect, Effect::Start(..) | Effect::Notify(_));
        match self.list.iter_mut().rev().take(LOOK_BACK).find(|effect| !silent(effect)) {
            Some(Effect::Send(last, range)) if *last == slot && range.end == start => range.end = end,
            _ => self.list.push(Effect::Send(slot, start..end)),
        }
    }

    /// Has the transport refuse the session's stream with the error that `write` appends.
    pub fn refuse(&mut self, slot: Slot, status: HttpStatus, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.list.push(Effect::Refused { slot, status, error: start..self.bytes.len() });
    }

    /// The place where it stands.
    pub fn mark(&self) -> SentMark {
        SentMark { effects: self.list.len(), bytes: self.bytes.len() }
    }

    /// Takes back what goes to `slot` since `mark` and appends it to `out`; gives how many bytes that is.
    pub fn take_sent(&mut self, slot: Slot, mark: SentMark, out: &mut Vec<u8>) -> usize {
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
