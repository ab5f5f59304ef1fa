//! A session: the state of one client, for any protocol and transport.
//!
//! The state is small. State that only some sessions have, or only for a short time, is behind one pointer, which is
//! empty while a session is idle.

use std::sync::Arc;

use tidings_wire::Channel;

use crate::access::Identity;
use crate::authorization::{Admission, ConnectionInfo};
use crate::index::Slot;
use crate::protocols::{Protocols, State as _};
use crate::subscribe::{PendingCommands, PendingSubscribe, SubscribeOptions};
use crate::subscriptions::{InlineSubscription, Subscription};
use crate::user_state::UserState;

/// The id of a session: its slot, and a generation that distinguishes it from earlier sessions in that slot. A response
/// for an earlier session is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The index in the shard's tables; reused.
    pub slot: Slot,
    /// Unique among the sessions of a shard until 2³² of them have been opened.
    pub generation: u32,
}

/// A boolean of a session.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Flag {
    /// The session was ended; its input is discarded.
    Closing = 1,
    /// The peer sends no more; the session ends when every response is written.
    Finishing = 1 << 1,
    /// The shard does not read from the session until a [`crate::Effect::Resume`].
    Stopped = 1 << 2,
    /// The credentials of the client were accepted.
    Connected = 1 << 3,
    /// A ping was sent and is not answered yet.
    PongDue = 1 << 4,
    /// The next command was charged before it had to wait.
    Charged = 1 << 5,
    /// The session stays subscribed after its end, until [`Hub::finish_parking`](crate::Hub::finish_parking).
    Parking = 1 << 6,
    /// The connection of a session that is parking is closed.
    Gone = 1 << 7,
}

/// All flags, in one byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags(u8);

impl Flags {
    /// Whether a flag is set.
    pub fn has(self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    /// Sets or clears a flag; returns its previous value.
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
    /// The protocol and transport of the connection.
    pub peer: P::Peer,
    /// The identity that determines the rights.
    pub identity: Identity,
    /// The flags.
    pub flags: Flags,
    pub(crate) inline: InlineSubscription,
    pub(crate) cold: Option<Box<ColdState<P>>>,
}

/// State that an idle session does not have.
#[derive(Debug)]
pub(crate) struct ColdState<P: Protocols> {
    pub(crate) protocol: P::State,
    pub(crate) pending: PendingCommands<P::Messages>,
    /// All subscriptions if there are at least two.
    pub(crate) subscriptions: Vec<Subscription>,
    /// The transport and headers of the connection.
    pub(crate) connection_info: Option<Arc<ConnectionInfo>>,
    /// Channels of the `CONNECT` and of its token, if there are any.
    connect_channels: Option<Box<ConnectChannels>>,
    /// The user and the details of subscriptions, if there are any.
    pub(crate) user_state: Option<Box<UserState>>,
}

/// Channels of the `CONNECT` of a client and of its token.
#[derive(Debug, Default)]
struct ConnectChannels {
    /// The subscriptions that the client requested.
    requested: Vec<(Channel, SubscribeOptions)>,
    /// Channels that the client may subscribe to because its token grants them.
    granted: Vec<(Channel, Admission)>,
}

impl<P: Protocols> Default for ColdState<P> {
    fn default() -> Self {
        Self {
            protocol: P::State::default(),
            pending: PendingCommands::default(),
            subscriptions: Vec::new(),
            connection_info: None,
            connect_channels: None,
            user_state: None,
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
            inline: InlineSubscription::default(),
            cold: None,
        }
    }

    pub(crate) fn cold(&mut self) -> &mut ColdState<P> {
        self.cold.get_or_insert_default()
    }

    pub(crate) fn existing_cold(&mut self) -> Option<&mut ColdState<P>> {
        self.cold.as_deref_mut()
    }

    /// The protocol's state; created if there is none.
    pub fn state(&mut self) -> &mut P::State {
        &mut self.cold().protocol
    }

    /// The protocol's state; `None` if it is the default.
    pub fn existing_state(&mut self) -> Option<&mut P::State> {
        self.cold.as_deref_mut().map(|cold| &mut cold.protocol)
    }

    /// The protocol's state; `None` if it is the default.
    pub fn peek_state(&self) -> Option<&P::State> {
        self.cold.as_deref().map(|cold| &cold.protocol)
    }

    /// Whether it holds memory besides its slot.
    pub(crate) fn has_cold_state(&self) -> bool {
        self.cold.is_some()
    }

    pub(crate) fn user_state(&self) -> Option<&UserState> {
        self.cold.as_ref()?.user_state.as_deref()
    }

    /// Subscriptions with options that are in progress.
    pub(crate) fn pending_subscribes(&self) -> impl Iterator<Item = &PendingSubscribe> {
        self.cold.iter().flat_map(|cold| cold.pending.pending_subscribes())
    }

    pub(crate) fn user_state_mut(&mut self) -> Option<&mut UserState> {
        self.cold.as_mut()?.user_state.as_deref_mut()
    }

    /// Whether the client's token grants this channel.
    pub(crate) fn is_granted(&self, channel: &Channel) -> bool {
        let channels = self.cold.as_ref().and_then(|cold| cold.connect_channels.as_ref());
        channels.is_some_and(|channels| channels.granted.iter().any(|(granted, _)| granted == channel))
    }

    /// Sets the channels that the token grants. Without those that it grants with a filter, because a protocol with grants
    /// subscribes without one.
    pub fn set_granted(&mut self, mut granted: Vec<(Channel, Admission)>) {
        granted.retain(|(_, admission)| admission.filter.is_none());
        self.set_connect_channels(granted, |channels| &mut channels.granted);
    }

    /// Sets the subscriptions that the client requests when it connects.
    pub fn set_requested(&mut self, requested: Vec<(Channel, SubscribeOptions)>) {
        self.set_connect_channels(requested, |channels| &mut channels.requested);
    }

    fn set_connect_channels<T>(&mut self, list: Vec<T>, field: fn(&mut ConnectChannels) -> &mut Vec<T>) {
        if !list.is_empty() {
            *field(self.cold().connect_channels.get_or_insert_default()) = list;
        } else if let Some(channels) = self.cold.as_mut().and_then(|cold| cold.connect_channels.as_mut()) {
            *field(channels) = list;
        }
    }

    /// Takes the subscriptions that the client requested when it connected.
    pub(crate) fn take_requested(&mut self) -> Vec<(Channel, SubscribeOptions)> {
        let channels = self.cold.as_mut().and_then(|cold| cold.connect_channels.as_mut());
        channels.map(|channels| std::mem::take(&mut channels.requested)).unwrap_or_default()
    }

    pub(crate) fn connection_info(&self) -> Option<&Arc<ConnectionInfo>> {
        self.cold.as_ref()?.connection_info.as_ref()
    }

    /// Whether a command is in progress.
    pub fn has_pending(&self) -> bool {
        self.cold.as_ref().is_some_and(|m| !m.pending.is_empty())
    }

    /// Whether commands are queued that must be answered before other commands are executed.
    pub fn has_queued(&self) -> bool {
        self.cold.as_ref().is_some_and(|m| !m.pending.is_queue_empty())
    }

    /// Whether a queued command has this id.
    pub fn has_command(&self, id: u32) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.pending.has_command(id))
    }

    /// Whether a subscription is in progress.
    pub fn has_pending_subscription(&self) -> bool {
        self.subscribe_count() > 0
    }

    /// Number of subscriptions in progress.
    pub(crate) fn subscribe_count(&self) -> usize {
        self.cold.as_ref().map_or(0, |m| m.pending.subscribe_count())
    }

    /// Whether a publish may be started: nothing is in progress, or only publishes are queued.
    pub fn can_publish(&self) -> bool {
        self.cold.as_ref().is_none_or(|m| m.pending.is_empty() || m.pending.can_publish())
    }

    /// Whether a subscribe may be started: nothing is in progress, or only subscribes are queued.
    pub fn can_subscribe(&self) -> bool {
        self.cold.as_ref().is_none_or(|m| m.pending.is_empty() || m.pending.can_subscribe())
    }

    /// Whether an unordered request may be started.
    pub fn can_request(&self) -> bool {
        self.cold.as_ref().is_none_or(|cold| cold.pending.can_request())
    }

    /// Whether an unordered read of a history or presence may be started.
    pub fn can_read(&self) -> bool {
        self.cold.as_ref().is_none_or(|cold| cold.pending.can_read())
    }

    /// Frees state that is empty.
    pub fn free_unused_state(&mut self) {
        let Some(cold) = &mut self.cold else { return };
        let has_channels = |c: &ConnectChannels| !c.requested.is_empty() || !c.granted.is_empty();
        if !cold.connect_channels.as_deref().is_some_and(has_channels) {
            cold.connect_channels = None;
        }
        cold.pending.free_unused();
        cold.protocol.free_unused();
        if cold.protocol.is_empty()
            && cold.pending.is_empty()
            && cold.subscriptions.is_empty()
            && cold.connection_info.is_none()
            && cold.connect_channels.is_none()
            && cold.user_state.is_none()
        {
            self.cold = None;
        }
    }
}
