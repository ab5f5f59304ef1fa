//! A session: one client, whatever it speaks and however it is connected.
//!
//! The state is small on purpose. What only some sessions have, or only for a moment, is behind one pointer that
//! is empty while a session is idle.

use std::sync::Arc;

use tidings_wire::Channel;

use crate::access::Identity;
use crate::decisions::{Admission, ConnectionInfo};
use crate::index::Slot;
use crate::member::Member;
use crate::protocols::{Protocols, State as _};
use crate::subscribe::{PendingCommands, PendingSubscribe, SubscribeOptions};
use crate::subscriptions::{SingleSubscription, Subscription};

/// Names a session: its slot, and which of the slot's tenants it is. An answer for an earlier tenant is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The place in the shard's tables; reused.
    pub slot: Slot,
    /// Different for every session of a shard until 2³² have come and gone.
    pub generation: u32,
}

/// A small fact about a session.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Flag {
    /// The session was ended; its input is discarded.
    Closing = 1,
    /// Its peer sends no more; it ends once every response is written.
    Finishing = 1 << 1,
    /// It must not be read from until a [`crate::Effect::Resume`].
    Stopped = 1 << 2,
    /// Its credentials were accepted.
    Connected = 1 << 3,
    /// A ping was sent and not answered yet.
    PongDue = 1 << 4,
    /// The next command was charged before it had to wait for its turn.
    Charged = 1 << 5,
}

/// All of them, in one byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags(u8);

impl Flags {
    /// Whether the flag is set.
    pub fn has(self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    /// Sets or clears a flag; gives what it was.
    pub fn set(&mut self, flag: Flag, on: bool) -> bool {
        let before = self.has(flag);
        self.0 = if on { self.0 | flag as u8 } else { self.0 & !(flag as u8) };
        before
    }
}

/// One client.
#[derive(Debug)]
pub struct Session<P: Protocols> {
    pub(crate) generation: u32,
    /// How its peer is connected.
    pub peer: P::Peer,
    /// Its rights.
    pub identity: Identity,
    /// Small facts.
    pub flags: Flags,
    pub(crate) only: SingleSubscription,
    pub(crate) cold: Option<Box<ColdState<P>>>,
}

/// What an idle session does not have.
#[derive(Debug)]
pub(crate) struct ColdState<P: Protocols> {
    pub(crate) protocol: P::State,
    pub(crate) pending: PendingCommands,
    /// All subscriptions, once there are two.
    pub(crate) subscriptions: Vec<Subscription>,
    /// The transport and headers of the connection.
    pub(crate) about: Option<Arc<ConnectionInfo>>,
    /// The subscriptions that the client requested when it connected.
    pub(crate) requested: Vec<(Channel, SubscribeOptions)>,
    /// Channels that its token grants and that it may subscribe to, where they are not subscribed by themselves.
    pub(crate) granted: Vec<(Channel, Admission)>,
    /// Its user and its special subscriptions, where there are such.
    pub(crate) member: Option<Box<Member>>,
}

impl<P: Protocols> Default for ColdState<P> {
    fn default() -> Self {
        Self {
            protocol: P::State::default(),
            pending: PendingCommands::default(),
            subscriptions: Vec::new(),
            about: None,
            requested: Vec::new(),
            granted: Vec::new(),
            member: None,
        }
    }
}

impl<P: Protocols> Session<P> {
    pub(crate) fn new(generation: u32, peer: P::Peer) -> Self {
        Self {
            generation,
            peer,
            identity: Identity::default(),
            flags: Flags::default(),
            only: SingleSubscription::default(),
            cold: None,
        }
    }

    pub(crate) fn cold(&mut self) -> &mut ColdState<P> {
        self.cold.get_or_insert_default()
    }

    pub(crate) fn existing_cold(&mut self) -> Option<&mut ColdState<P>> {
        self.cold.as_deref_mut()
    }

    /// The protocol's state, which is made if there is none.
    pub fn state(&mut self) -> &mut P::State {
        &mut self.cold().protocol
    }

    /// The protocol's state, if there may be something in it.
    pub fn existing_state(&mut self) -> Option<&mut P::State> {
        self.cold.as_deref_mut().map(|cold| &mut cold.protocol)
    }

    /// The same, to be read.
    pub fn peek_state(&self) -> Option<&P::State> {
        self.cold.as_deref().map(|cold| &cold.protocol)
    }

    /// Whether it holds memory beyond its place in the hub.
    pub(crate) fn has_cold_state(&self) -> bool {
        self.cold.is_some()
    }

    /// Its user and its special subscriptions, where there are such.
    pub(crate) fn member(&self) -> Option<&Member> {
        self.cold.as_ref()?.member.as_deref()
    }

    /// Its subscriptions with options that are under way.
    pub(crate) fn joins(&self) -> impl Iterator<Item = &PendingSubscribe> {
        self.cold.iter().flat_map(|cold| cold.pending.joins())
    }

    pub(crate) fn existing_member(&mut self) -> Option<&mut Member> {
        self.cold.as_mut()?.member.as_deref_mut()
    }

    /// Whether its token lets it subscribe to this channel.
    pub(crate) fn is_granted(&self, channel: &Channel) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.granted.iter().any(|(granted, _)| granted == channel))
    }

    /// Sets the channels that its token grants.
    pub fn set_granted(&mut self, granted: Vec<(Channel, Admission)>) {
        if !granted.is_empty() || self.cold.as_ref().is_some_and(|cold| !cold.granted.is_empty()) {
            self.cold().granted = granted;
        }
    }

    /// Sets the subscriptions that its client requests with its connection.
    pub fn set_requested(&mut self, requested: Vec<(Channel, SubscribeOptions)>) {
        if !requested.is_empty() || self.has_cold_state() {
            self.cold().requested = requested;
        }
    }

    pub(crate) fn about(&self) -> Option<&Arc<ConnectionInfo>> {
        self.cold.as_ref()?.about.as_ref()
    }

    /// Whether a command is under way.
    pub fn has_pending(&self) -> bool {
        self.cold.as_ref().is_some_and(|m| !m.pending.is_empty())
    }

    /// Whether commands stand in line that must be answered before others are carried out.
    pub fn is_queued(&self) -> bool {
        self.cold.as_ref().is_some_and(|m| !m.pending.is_clear())
    }

    /// Whether a subscription is under way.
    pub fn has_pending_subscription(&self) -> bool {
        self.subscribes() > 0
    }

    /// Subscriptions under way.
    pub(crate) fn subscribes(&self) -> usize {
        self.cold.as_ref().map_or(0, |m| m.pending.subscribes())
    }

    /// Whether a publish may be started: beside nothing, or behind other publishes.
    pub fn takes_publish(&self) -> bool {
        self.cold.as_ref().is_none_or(|m| m.pending.is_empty() || m.pending.takes_publish())
    }

    /// Whether a subscribe may be started: beside nothing, or behind other subscribes.
    pub fn takes_subscribe(&self) -> bool {
        self.cold.as_ref().is_none_or(|m| m.pending.is_empty() || m.pending.takes_subscribe())
    }

    /// Whether a request may be started beside the queue.
    pub fn takes_request(&self) -> bool {
        self.cold.as_ref().is_none_or(|cold| cold.pending.takes_request())
    }

    /// Whether a read of a history or of presence may be started beside the queue.
    pub fn takes_read(&self) -> bool {
        self.cold.as_ref().is_none_or(|cold| cold.pending.takes_read())
    }

    /// Frees what an idle session does not need.
    pub fn settle(&mut self) {
        if let Some(cold) = &self.cold
            && cold.protocol.is_empty()
            && cold.pending.is_empty()
            && cold.subscriptions.is_empty()
            && cold.about.is_none()
            && cold.requested.is_empty()
            && cold.granted.is_empty()
            && cold.member.is_none()
        {
            self.cold = None;
        }
    }
}
