//! The interface between a hub and the protocols of its sessions.
//!
//! A hub has operations ([`Hub::begin_subscribe`], [`Hub::unsubscribe`], [`Hub::request`], …) and reports events. The
//! protocols translate bytes to operations, and events to bytes. They are a type parameter, so an event is a direct
//! call.
//!
//! Invariants:
//! - No byte of a protocol is written or parsed in this crate.
//! - An event is reported in the step that causes it, after the session's state has changed.

use std::fmt;
use std::sync::Arc;

use tidings_map_state::StatePage;
use tidings_wire::body::DataFormat;
use tidings_wire::client::Encoding;
use tidings_wire::code::Code;
use tidings_wire::{Channel, ClientInfo, Form, Publication, Topic};

use crate::authorization::Connected;
use crate::close::CloseReason;
use crate::effects::{Effects, Failure, Response, SentMark, Timer};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::map::MapKind;
use crate::subscribe::{Completed, Origin};

/// The protocols of a server, and the state that all sessions of one hub share.
pub trait Protocols: Sized + fmt::Debug {
    /// The connection of a session; at most two bytes, so that an idle session stays small.
    type Peer: Peer;
    /// The protocol's state of one session; an idle session has none.
    type State: State;
    /// The messages of the protocols to the control plane, beside those of the hub.
    type Messages: ControlMessages;

    /// Callback when a session begins.
    fn opened(hub: &mut Hub<Self>, slot: Slot, fx: &mut Effects<Self::Messages>);

    /// Callback for events of a session.
    fn event(
        hub: &mut Hub<Self>,
        slot: Slot,
        event: Event<'_, Self::Messages>,
        fx: &mut Effects<Self::Messages>,
    );

    /// Callback when a client joins or leaves a channel. `slots` are the sessions that requested such events.
    fn presence_changed(
        hub: &mut Hub<Self>,
        slots: &[Slot],
        change: &PresenceChange<'_>,
        fx: &mut Effects<Self::Messages>,
    );

    /// Callback when a timer of the protocol expires.
    fn expired(hub: &mut Hub<Self>, slot: Slot, timer: Timer, fx: &mut Effects<Self::Messages>);

    /// Callback after responses were written for a session since `mark`.
    fn responded(hub: &mut Hub<Self>, slot: Slot, mark: SentMark, fx: &mut Effects<Self::Messages>);

    /// Callback when the connection of a session is gone that was not ended before. Nothing can be sent.
    fn disconnected(hub: &mut Hub<Self>, slot: Slot, fx: &mut Effects<Self::Messages>);

    /// The session of a user whose client has chosen this name.
    fn named(&self, user: &str, name: &str) -> Option<Slot>;

    /// The command by which that session has taken the name over has arrived, as on every node.
    fn set_announced(&mut self, user: &str, name: &str);

    /// Whether that command has arrived, or is overdue. Before, commands of other sessions are older ones: all nodes get the
    /// commands in the same order.
    fn is_announced(&self, user: &str, name: &str, now: u64) -> bool;

    /// Callback when a session is removed.
    fn closed(&mut self, peer: Self::Peer, state: Option<&Self::State>);
}

/// The requests, notifications and responses of the protocols that the hub carries to the control plane and back without
/// a look inside. Implemented by a type without values.
pub trait ControlMessages: Clone + fmt::Debug + Default + Eq + 'static {
    /// A request with a response.
    type Request: fmt::Debug + Eq;
    /// An event without a response.
    type Notification: fmt::Debug + Eq;
    /// The response to a request.
    type Response: fmt::Debug + Eq;

    /// The bytes to reserve for the response before the request is executed (see [`crate::Request::reserves`]).
    fn reserves(request: &Self::Request) -> Option<usize>;
}

/// Properties of a session's connection that the hub depends on.
pub trait Peer: Copy + Default + fmt::Debug {
    /// The wire form of its publications.
    fn form(self) -> Form;

    /// The label in logs and metrics.
    fn name(self) -> &'static str;

    /// The encoding of the application's data.
    fn encoding(self) -> Encoding;

    /// The length of an encoded publication, in bytes.
    fn publication_len(self, publication: &Publication, format: DataFormat) -> usize;

    /// How the protocol reports missing publications.
    fn loss_report(self) -> LossReport;

    /// How the session handles a subscription to this channel that its client did not request.
    fn server_subscription(self, channel: &Channel) -> ServerSubscription;

    /// Whether the protocol has a connect command.
    fn has_connect(self) -> bool;

    /// Whether the peer replies to pings.
    fn answers_pings(self) -> bool;

    /// Whether the peer connects again by itself after a disconnect that requests it, with the positions of its
    /// recoverable subscriptions.
    fn recovers(self) -> bool;
}

/// The state of a protocol for one session.
pub trait State: Default + fmt::Debug {
    /// Whether the state is the default, so that it can be freed.
    fn is_empty(&self) -> bool;

    /// Frees memory of parts that are the default.
    fn free_unused(&mut self) {}
}

/// How a protocol reports missing publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReport {
    /// It cannot report them: the session ends.
    Close,
    /// With a notice; the subscription continues.
    Notice,
    /// It ends the subscription; the client subscribes again.
    Resubscribe,
    /// It ends the session; the client connects again.
    Reconnect,
}

/// How a session handles a subscription that its client did not request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerSubscription {
    /// It subscribes, and reports that to the client.
    Reported,
    /// It subscribes without a report, as soon as the topic is live.
    Unreported,
    /// It does not subscribe: the protocol cannot express the name of the channel. Counts as an error.
    Refused,
    /// It does not subscribe.
    Ignored,
}

/// An event of a session.
#[derive(Debug)]
pub enum Event<'a, M: ControlMessages> {
    /// A subscription of [`Hub::begin_subscribe`] is made.
    Subscribed {
        /// The topic.
        topic: TopicKey,
        /// Whether the session was subscribed before.
        already: bool,
    },
    /// A subscription with options is made.
    SubscribeCompleted {
        /// Its origin.
        origin: Origin,
        /// The new subscription.
        completed: &'a Completed,
    },
    /// Publications for this session alone.
    Publications(TopicKey, &'a [Arc<Publication>]),
    /// The connection is accepted and its subscriptions are made.
    Connected {
        /// The id of the command.
        id: u32,
        /// The accepted connection.
        connected: &'a Connected,
        /// Its subscriptions.
        subscriptions: &'a [Completed],
    },
    /// The response to a request of the session.
    Response {
        /// The id of the command.
        id: u32,
        /// The channel that was passed to [`Hub::request_unordered`].
        channel: Option<&'a Channel>,
        /// The response.
        response: Response<M>,
    },
    /// A command failed.
    Failed {
        /// The id of the command.
        id: u32,
        /// The reason.
        failure: &'a Failure,
    },
    /// The bytes of a [`Hub::enqueue`] that was held back.
    Ready(&'a [u8]),
    /// A page of the state of a map was read.
    StateRead {
        /// The id of the command.
        id: u32,
        /// The kind of the map.
        kind: MapKind,
        /// The page, without the values that do not pass the filter of the subscription.
        page: &'a StatePage,
        /// The data format of bodies for JSON clients.
        format: DataFormat,
    },
    /// The server ended a subscription.
    Unsubscribed {
        /// The topic.
        topic: &'a Topic,
        /// From 2500 on, the code requests that the client subscribes again.
        code: u16,
        /// The reason.
        reason: &'a str,
    },
    /// Publications of a topic are missing, and the session's [`LossReport`] is a notice.
    Interrupted {
        /// The code of the error.
        code: Code,
        /// The reason, with the name of the topic.
        reason: &'a str,
    },
    /// The server renewed the connection. It expires after this number of seconds; `None` is never.
    Renewed(Option<u32>),
    /// A ping is due.
    PingDue,
    /// No command is in progress any more.
    Idle,
    /// The session ends. Its connection is closed after the bytes that are sent during this event.
    Closing(&'a CloseReason),
}

/// A client joins or leaves a channel.
#[derive(Clone, Copy, Debug)]
pub struct PresenceChange<'a> {
    /// The channel.
    pub channel: &'a Channel,
    /// `true` for a join, `false` for a leave.
    pub joined: bool,
    /// The client.
    pub info: &'a ClientInfo,
}
