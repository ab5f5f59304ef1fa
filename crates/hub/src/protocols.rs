//! The seam between a hub and the protocols of its sessions: what a hub requires of a protocol, and what it reports.
//!
//! A hub has operations ([`Hub::begin_subscribe`], [`Hub::unsubscribe`], [`Hub::request`], …) and reports events. The
//! protocols translate: bytes to operations, events to bytes. They are a type parameter, so a report is a direct call.
//!
//! Invariants:
//! - No byte of a protocol is written or read in this crate.
//! - An event is reported in the step in which it happens, after the state of the session has changed.

use std::fmt;
use std::sync::Arc;

use tidings_wire::body::DataFormat;
use tidings_wire::client::Encoding;
use tidings_wire::code::Code;
use tidings_wire::{Channel, ClientInfo, Form, Publication, Topic};

use crate::close::CloseReason;
use crate::decisions::Connected;
use crate::effects::{Effects, Failure, Response, SentMark, Timer};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::subscribe::{Completed, Origin};

/// The protocols of a server, and the state that all sessions of one hub share.
pub trait Protocols: Sized + Default + fmt::Debug {
    /// How the peer of a session is connected; at most two bytes, so that an idle session stays small.
    type Peer: Peer;
    /// The protocol's state of one session; an idle session has none.
    type State: State;

    /// A session has begun.
    fn opened(hub: &mut Hub<Self>, slot: Slot, fx: &mut Effects);

    /// Reports an event of a session to its peer.
    fn event(hub: &mut Hub<Self>, slot: Slot, event: Event<'_>, fx: &mut Effects);

    /// A client has joined or left a channel: notifies the sessions in `slots`, which requested that.
    fn presence_changed(hub: &mut Hub<Self>, slots: &[Slot], change: &PresenceChange<'_>, fx: &mut Effects);

    /// A timer of the protocol has expired.
    fn expired(hub: &mut Hub<Self>, slot: Slot, timer: Timer, fx: &mut Effects);

    /// Responses were written for a session since `mark`.
    fn responded(hub: &mut Hub<Self>, slot: Slot, mark: SentMark, fx: &mut Effects);

    /// A session is gone, with its state if it had some.
    fn closed(&mut self, peer: Self::Peer, state: Option<&Self::State>);
}

/// How a session's peer is connected, as far as the hub depends on it.
pub trait Peer: Copy + Default + fmt::Debug {
    /// The form in which it takes publications.
    fn form(self) -> Form;

    /// Its label in logs and metrics.
    fn name(self) -> &'static str;

    /// How the application's data is encoded for it.
    fn encoding(self) -> Encoding;

    /// Bytes of a publication in its messages.
    fn publication_len(self, publication: &Publication, format: DataFormat) -> usize;

    /// How its protocol reports that publications are missing.
    fn loss_report(self) -> LossReport;

    /// How it takes a subscription to this channel that it did not request.
    fn server_subscription(self, channel: &Channel) -> ServerSubscription;

    /// Whether its protocol has a command by which a client connects.
    fn has_connect(self) -> bool;

    /// Whether it replies to pings.
    fn answers_pings(self) -> bool;
}

/// The state that a protocol keeps of one session.
pub trait State: Default + fmt::Debug {
    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool;
}

/// How a protocol reports that publications are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReport {
    /// It has no way to report it: the session ends.
    Close,
    /// By a notice; the subscription stays.
    Notice,
    /// It ends the subscription, and the client subscribes again.
    Resubscribe,
    /// It ends the session, and the client connects again.
    Reconnect,
}

/// How a session takes a subscription that its client did not request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerSubscription {
    /// As a subscription whose beginning is reported.
    Reported,
    /// Without a report, as soon as the topic is live.
    Unreported,
    /// Not at all: its protocol cannot name the channel. Counts as an error.
    Refused,
    /// Not at all.
    Ignored,
}

/// An event of a session, for its peer.
#[derive(Debug)]
pub enum Event<'a> {
    /// A subscription begun with [`Hub::begin_subscribe`] is made.
    Subscribed {
        /// The topic.
        topic: TopicKey,
        /// The session was subscribed before.
        already: bool,
    },
    /// A subscription with options is made.
    Joined {
        /// Its origin.
        owner: Origin,
        /// How it begins.
        settled: &'a Completed,
    },
    /// Publications for this session alone.
    Publications(TopicKey, &'a [Arc<Publication>]),
    /// The connection is accepted and its subscriptions are made.
    Connected {
        /// The number of the command.
        id: u32,
        /// The accepted connection.
        connected: &'a Connected,
        /// Its subscriptions.
        subscriptions: &'a [Completed],
    },
    /// The response to a request of the session.
    Response {
        /// The number of the command.
        id: u32,
        /// The channel of the request, where [`Hub::request_beside`] was given it.
        channel: Option<&'a Channel>,
        /// The response.
        answer: Response,
    },
    /// A command failed.
    Failed {
        /// The number of the command.
        id: u32,
        /// Why.
        failure: &'a Failure,
    },
    /// Bytes that [`Hub::enqueue`] was given: their turn has come.
    Ready(&'a [u8]),
    /// The server ended a subscription.
    Unsubscribed {
        /// The topic.
        topic: &'a Topic,
        /// A code from 2500 on requests that the client subscribes again.
        code: u16,
        /// The reason.
        reason: &'a str,
    },
    /// Publications of a topic are missing, and the session's [`LossReport`] is a notice.
    Interrupted {
        /// The code of the error.
        code: Code,
        /// The reason, with the name of the topic.
        words: &'a str,
    },
    /// The server renewed the connection: it expires after so many seconds, or never.
    Renewed(Option<u32>),
    /// A ping is due.
    PingDue,
    /// Nothing is under way any more.
    Idle,
    /// The session ends; its connection is closed after the bytes that are sent now.
    Closing(&'a CloseReason),
}

/// A client joins or leaves a channel.
#[derive(Clone, Copy, Debug)]
pub struct PresenceChange<'a> {
    /// The channel.
    pub channel: &'a Channel,
    /// It joins; otherwise it leaves.
    pub joined: bool,
    /// The client.
    pub info: &'a ClientInfo,
}
