//! The functions of a protocol, which its module provides and the registry calls.

use std::sync::Arc;

use tidings_hub::{
    CloseReason, LossReport, PresenceChange, SentMark, ServerSubscription, Slot, Timer, TopicKey,
};
use tidings_wire::code::Code;
use tidings_wire::ws::Kind;
use tidings_wire::{Channel, Publication};

use crate::Hub;
use crate::consumed::{Consumed, StopReason};
use crate::context::Context;
use crate::link::Link;
use crate::messages::{Effects, Event};
use crate::peer::Peer;
use crate::shared::Protocols;
use crate::state::State;

/// See [`address`](crate::address).
type AddressFn =
    fn(&mut Hub, Slot, TopicKey, &Arc<Publication>, &[u8], &mut Vec<u8>, &mut Vec<usize>) -> Addressed;

/// What may happen to the messages that were made for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressed {
    /// The policy for slow consumers may drop them.
    Droppable,
    /// Each must be sent, or the session must end: the client would wait for it.
    Required,
    /// The session has no room for the publication and must end.
    Overflow,
}

/// The functions of a protocol: input of its sessions, and events for their peers. [`Module::DEFAULT`] has functions without
/// an effect.
pub(crate) struct Module {
    /// Executes the commands in the bytes of a connection that is not a WebSocket. The first `usize` bytes contain no line
    /// break.
    pub(crate) run: fn(&mut Context<'_>, &[u8], usize) -> Consumed,
    /// Executes the commands in one WebSocket message; returns the number of consumed bytes.
    pub(crate) message: fn(&mut Context<'_>, &[u8]) -> (usize, StopReason),
    /// How many of `bytes` to append to the `held` kept bytes, so that a command beyond the limit is detected.
    pub(crate) append_limit: fn(&Context<'_>, held: usize, bytes: &[u8]) -> usize,
    /// Responds to the command with this id with an error.
    pub(crate) refuse: fn(&mut Context<'_>, u32, Code, &str),
    /// Reports an input that is longer than a limit, before the session ends.
    pub(crate) too_long: fn(&mut Context<'_>, &str),
    /// Reports an event to the peer.
    pub(crate) event: fn(&mut Context<'_>, Event<'_>),
    /// Callback after responses were written to the session since the mark.
    pub(crate) responded: fn(&mut Context<'_>, SentMark),
    /// Reports the close reason to the peer.
    pub(crate) closing: fn(&mut Context<'_>, &CloseReason),
    /// Callback when the connection is gone without [`Self::closing`].
    pub(crate) disconnected: fn(&mut Context<'_>),
    /// Callback when a timer of the protocol expires.
    pub(crate) expired: fn(&mut Context<'_>, Timer),
    /// Notifies sessions of the protocol that a client has joined or left a channel.
    pub(crate) presence_changed: fn(&mut Hub, &[Slot], &PresenceChange<'_>, &mut Effects),
    /// Callback when a session of the protocol begins.
    pub(crate) begin: fn(&mut Context<'_>),
    /// How the protocol reports missing publications.
    pub(crate) loss_report: fn(Link) -> LossReport,
    /// How a session handles a subscription that its client did not request.
    pub(crate) server_subscription: fn(&Channel) -> ServerSubscription,
    /// Whether clients connect by a command.
    pub(crate) has_connect: bool,
    /// Whether clients answer pings.
    pub(crate) answers_pings: bool,
    /// Whether clients connect again by themselves, with the positions of their recoverable subscriptions.
    pub(crate) recovers: fn(Link) -> bool,
    /// Whether commands come in WebSocket messages of this kind.
    pub(crate) accepts: fn(Link, Kind) -> bool,
    /// Callback when a session of the protocol is removed, with its state if there is any.
    pub(crate) closed: fn(&mut Protocols, Peer, Option<&State>),
    /// Appends the messages of one publication for one session, and the end of each; see [`address`](crate::address).
    pub(crate) address: AddressFn,
}

impl Module {
    /// A module without commands, events and state.
    pub(crate) const DEFAULT: Self = Self {
        run: |_, bytes, _| Consumed { used: bytes.len(), stop: StopReason::Partial },
        message: |_, bytes| (bytes.len(), StopReason::Partial),
        append_limit: |_, _, bytes| bytes.len(),
        refuse: |_, _, _, _| {},
        too_long: |_, _| {},
        event: |_, _| {},
        responded: |_, _| {},
        closing: |_, _| {},
        disconnected: |_| {},
        expired: |_, _| {},
        presence_changed: |_, _, _, _| {},
        begin: |_| {},
        loss_report: |_| LossReport::Close,
        server_subscription: |_| ServerSubscription::Ignored,
        has_connect: false,
        answers_pings: false,
        recovers: |_| false,
        accepts: |_, kind| kind == Kind::Text,
        closed: |_, _, _| {},
        address: |_, _, _, _, _, _, _| Addressed::Droppable,
    };
}
