//! Effects: requests of a hub to its shard and to the control plane.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tidings_map_state::{KeyChange, StatePage, StateQuery};
use tidings_wire::code::HttpStatus;
use tidings_wire::{Channel, ClientInfo, Extra, History, HistoryQuery, Pattern, Topic};

use crate::authorization::{Admission, AuthorizationRequest, Connected, Rejection, Renewed};
use crate::index::Slot;
use crate::protocols::ControlMessages;
use crate::session::SessionId;
use crate::shared_poll::{PollRequest, PollSubscriber};
use crate::stream_lease::StreamLease;

/// A request of the hub to its shard. Effects are executed in order.
#[derive(Debug)]
pub enum Effect<M: ControlMessages> {
    /// Send these bytes of [`Effects::bytes`] to the session's peer.
    Send(Slot, Range<usize>),
    /// The session's stream is open: everything requested for it is subscribed.
    Opened(Slot),
    /// The session's stream is refused. A transport that has not begun its HTTP response sends `status` with the error
    /// as the body; any other sends the error as an event.
    Refused {
        /// The session.
        slot: Slot,
        /// The status of a response that has not begun.
        status: HttpStatus,
        /// The error as a JSON object, in [`Effects::bytes`].
        error: Range<usize>,
    },
    /// Flush, then close the connection. The hub has already removed the session's subscriptions.
    Close(Slot),
    /// The session may continue: pass an empty input to its protocol, then read again.
    Resume(Slot),
    /// Call [`crate::Hub::expired`] after this time.
    Start(SessionId, Timer, Duration),
    /// Subscribe to this topic at the broker, and pass its state to [`crate::Hub::on_topic_state`].
    SubscribeTopic(Topic),
    /// The topic has no subscribers on this shard any more.
    UnsubscribeTopic(Topic),
    /// Execute the request, and pass the response to [`crate::Hub::respond`] with the same ticket.
    Request(SessionId, u32, Request<M>),
    /// Notify other nodes; there is no response.
    Notify(Notification<M>),
}

/// A request of a session to the control plane.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<M: ControlMessages> {
    /// Publish through the broker, with this information about the publishing client and these tags.
    Publish(Channel, Bytes, Option<Box<Extra>>),
    /// Query the whole node.
    Query(Query),
    /// Read a channel's history.
    History(Channel, HistoryQuery),
    /// Read the presence of a channel.
    Presence(Channel),
    /// Count the clients and users that are present in a channel.
    PresenceStats(Channel),
    /// Verify a token, or call the application.
    Authorize(Box<AuthorizationRequest>),
    /// A request of a protocol.
    Protocol(M::Request),
    /// Read a page of the state of a map.
    MapState(Channel, StateQuery),
    /// Change a key of a map.
    MapChange(Channel, Box<KeyChange>),
    /// A request of a subscriber of a shared poll.
    Poll(Channel, PollSubscriber, Box<PollRequest>),
    /// Pass a publication to the stream of the client's subscription.
    StreamPublish(StreamLease, Bytes),
}

impl<M: ControlMessages> Request<M> {
    /// The bytes to reserve for the response before the request is executed, for requests with a large response and for
    /// those that take the broker long. `most` is the bound of a request without one.
    pub fn reserves(&self, most: usize) -> Option<usize> {
        match self {
            Self::History(_, HistoryQuery { limit: Some(0), .. }) => None,
            Self::History(_, query) => Some(query.max_bytes),
            Self::MapState(_, query) => Some(query.max_bytes),
            Self::Presence(_) | Self::Query(Query::Channels(_)) => Some(most),
            Self::PresenceStats(_) => Some(0),
            Self::Publish(..)
            | Self::Query(_)
            | Self::Authorize(_)
            | Self::MapChange(..)
            | Self::Poll(..)
            | Self::StreamPublish(..) => None,
            Self::Protocol(request) => M::reserves(request),
        }
    }
}

/// An event that other nodes or other shards are notified of, without a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Notification<M: ControlMessages> {
    /// The client is present in a channel, newly or still; and whether its joins and leaves are published.
    Present(Channel, Box<ClientInfo>, bool),
    /// The client is no longer present.
    Absent(Channel, Box<ClientInfo>),
    /// Publishes that the client has subscribed.
    Joined(Channel, Box<ClientInfo>),
    /// Publishes that the client is no longer subscribed.
    Left(Channel, Box<ClientInfo>),
    /// A subscriber of a channel that keeps its last publication has found none.
    CacheMiss(Channel),
    /// A connection has taken over the name of a client: another connection of the user with that name ends.
    TakenOver {
        /// The user; empty for an anonymous one.
        user: String,
        /// The name that the client has chosen.
        name: String,
        /// The id of the new connection.
        client: String,
    },
    /// A notification of a protocol.
    Protocol(M::Notification),
    /// A key of a map that the server maintains is set or renewed, with the client in place of a value.
    MapEntered(Channel, Box<str>, Option<Box<ClientInfo>>),
    /// The key of a map that belongs to a client is removed, because the client has left the channel.
    MapLeft(Channel, Box<str>),
    /// A subscription to a shared poll has ended, or was cancelled while it began.
    PollLeft(Channel, PollSubscriber),
    /// The subscription of a stream has begun.
    StreamStarted(StreamLease),
}

/// Queries of the whole node.
#[derive(Debug, PartialEq, Eq)]
pub enum Query {
    /// Channels with subscribers that match the pattern, or all.
    Channels(Option<Pattern>),
    /// The number of subscribers of each name; zero for names that are not valid.
    Subscribers(Vec<Bytes>),
    /// The number of different patterns with subscriptions.
    Patterns,
    /// The text with the statistics of the node.
    Info,
}

/// The response to a [`Request`].
#[derive(Debug, PartialEq, Eq)]
pub enum Response<M: ControlMessages> {
    /// Published, to this number of receivers as counted by the broker.
    Published(u64),
    /// The request failed.
    Failed(Failure),
    /// The channels of [`Query::Channels`].
    Channels(Vec<Channel>),
    /// The requested names, each with its number of subscribers.
    Subscribers(Vec<(Bytes, u64)>),
    /// The number of [`Query::Patterns`].
    Count(u64),
    /// The text of [`Query::Info`].
    Text(String),
    /// A part of a history.
    History(History),
    /// The clients that are present in a channel.
    Members(Vec<ClientInfo>),
    /// The number of clients, and the number of users, that are present in a channel.
    Presence(u64, u64),
    /// The connection is accepted.
    Connected(Box<Connected>),
    /// The subscription is allowed.
    Allowed(Box<Admission>),
    /// The connection or subscription is renewed.
    Renewed(Box<Renewed>),
    /// The response of the application.
    Replied(Option<Bytes>),
    /// The response to a [`Request::Protocol`].
    Protocol(M::Response),
    /// A page of the state of a map.
    MapState(Box<StatePage>),
    /// The subscription to a shared poll has begun; the epoch of its versions.
    PollJoined(String),
    /// The tracked keys have changed. The first signature expires at this time, in Unix seconds; `None` is never.
    Tracked(Option<u64>),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The broker is unavailable. Temporary.
    Unavailable,
    /// Too many requests wait for the broker. Temporary.
    Overloaded,
    /// It is not allowed, or failed, for this reason.
    Error(Rejection),
    /// The session must end, with this code and reason.
    Disconnect(u16, String),
}

/// Timers of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// No first byte was received within the time for automatic subscriptions.
    FirstByte,
    /// A ping is due.
    Ping,
    /// The pong is overdue.
    Pong,
    /// The client has not connected in time.
    Stale,
    /// The client has not sent a first byte in time.
    FirstInput,
    /// The connection may have expired.
    Expiry,
    /// A subscription may have expired.
    SubExpiry,
    /// The presence must be refreshed.
    Presence,
    /// A part of the client's keep-alive time has passed.
    KeepAlive,
}

/// Effects in order, and the bytes that they send. Reused between calls; empty between them.
#[derive(Debug, Default)]
pub struct Effects<M: ControlMessages> {
    /// The effects, in order.
    pub list: Vec<Effect<M>>,
    /// The bytes of [`Effect::Send`] and [`Effect::Refused`].
    pub bytes: Vec<u8>,
    /// The number of effects that later writes do not extend.
    fence: usize,
}

/// A position in the effects (see [`Effects::take_sent`]).
#[derive(Clone, Copy, Debug)]
pub struct SentMark {
    effects: usize,
    bytes: usize,
}

/// How many effects back [`Effects::send`] looks for a write that it can extend.
const LOOK_BACK: usize = 8;

impl<M: ControlMessages> Effects<M> {
    /// Sends the bytes that `write` appends to the peer of `slot`. Consecutive writes to one session are joined, also
    /// with timers and notifications between them, because the peer does not observe those.
    pub fn send(&mut self, slot: Slot, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if end == start {
            return;
        }
        let silent = |effect: &&mut Effect<M>| matches!(effect, Effect::Start(..) | Effect::Notify(_));
        let latest = LOOK_BACK.min(self.list.len().saturating_sub(self.fence));
        match self.list.iter_mut().rev().take(latest).find(|effect| !silent(effect)) {
            Some(Effect::Send(last, range)) if *last == slot && range.end == start => range.end = end,
            _ => self.list.push(Effect::Send(slot, start..end)),
        }
    }

    /// Sends later bytes after all effects so far: the peer gets them when a notification has been passed on.
    pub fn fence(&mut self) {
        self.fence = self.list.len();
    }

    /// Refuses the session's stream with the error that `write` appends.
    pub fn refuse(&mut self, slot: Slot, status: HttpStatus, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.list.push(Effect::Refused { slot, status, error: start..self.bytes.len() });
    }

    /// The current position.
    pub fn mark(&self) -> SentMark {
        SentMark { effects: self.list.len(), bytes: self.bytes.len() }
    }

    /// Removes the bytes that were sent to `slot` since `mark`, and appends them to `out`; returns their number.
    pub fn take_sent(&mut self, slot: Slot, mark: SentMark, out: &mut Vec<u8>) -> usize {
        let before = out.len();
        // A write from before the mark may have been extended.
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
    pub fn push(&mut self, effect: Effect<M>) {
        self.list.push(effect);
    }

    /// Clears the effects; keeps at most 64 KiB of the buffer.
    pub fn clear(&mut self) {
        self.list.clear();
        self.fence = 0;
        self.bytes.clear();
        self.bytes.shrink_to(1 << 16);
    }
}
