//! What a hub asks of the world around it.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::{Channel, Pattern, Topic};

use crate::session::SessionId;

/// Something that must be done because of what a hub was just told. Carried out in order.
#[derive(Debug)]
pub enum Effect {
    /// Send these bytes of [`Effects::bytes`] to the session's peer.
    Send(u32, Range<usize>),
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
}

/// What only others can do for a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Publish through the broker.
    Publish(Channel, Bytes),
    /// Say something about the whole node.
    Query(Query),
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
    /// Not published.
    Failed(Failure),
    /// The channels asked for.
    Channels(Vec<Channel>),
    /// What was asked for, with the numbers of subscribers.
    Subscribers(Vec<(Bytes, u64)>),
    /// A number.
    Count(u64),
    /// A text.
    Text(String),
}

/// Why a broker did not do what a session asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The broker is away; later it may work.
    Unavailable,
    /// Too much waits for the broker; later it may work.
    Overloaded,
    /// The broker refused, in its own words.
    Refused(String),
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
}

/// Effects in order, and the bytes they send. Reused from call to call; empty between them.
#[derive(Debug, Default)]
pub struct Effects {
    /// What to do.
    pub list: Vec<Effect>,
    /// Where the bytes of [`Effect::Send`] are.
    pub bytes: Vec<u8>,
}

impl Effects {
    /// Has `write` append bytes that go to `slot`.
    pub(crate) fn send(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if let Some(Effect::Send(last, range)) = self.list.last_mut()
            && *last == slot
            && range.end == start
        {
            range.end = end;
        } else if end > start {
            self.list.push(Effect::Send(slot, start..end));
        }
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Makes it empty again, keeping a modest buffer.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.bytes.shrink_to(1 << 16);
    }
}
