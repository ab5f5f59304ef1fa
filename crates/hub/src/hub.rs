//! The hub: the sessions and topics of one shard, and the operations on them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tidings_trace::Traces;
use tidings_wire::{Channel, Form, Publication, Topic};

use crate::authorization::ConnectionInfo;
use crate::close::{CloseReason, Disconnects};
use crate::effects::{Effect, Effects, Timer};
use crate::index::{Slot, TopicKey};
use crate::metering::SessionUsage;
use crate::namespace_stats::{NamespaceStats, NamespaceTable};
use crate::no_local::PartialRecipient;
use crate::protocols::{Event, Peer as _, Protocols};
use crate::session::{Flag, Session, SessionId};
use crate::settings::Settings;
use crate::topics::{TopicEntry, Topics};

/// Whether the shard may read from a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Continue reading.
    Read,
    /// Stop reading until an [`Effect::Resume`] for the session.
    Stop,
    /// The session was ended: discard its input.
    Ended,
}

/// Counters and gauges of a hub, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Users with sessions on this shard, without anonymous ones.
    pub users: u64,
    /// Topics with subscribers on this shard.
    pub topics: u64,
    /// Subscriptions on this shard.
    pub subscriptions: u64,
    /// Publications by clients, since the start.
    pub published: u64,
    /// Commands and lines answered with an error, since the start.
    pub errors: u64,
    /// Outcomes for clients, since the start.
    pub clients: ClientStats,
}

/// Outcomes for clients, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Subscribers that recovered all missed publications.
    pub recovered: u64,
    /// Subscribers that requested recovery and did not get all missed publications.
    pub unrecovered: u64,
    /// Subscriptions ended because publications were lost.
    pub lost: u64,
    /// Expired connections and subscriptions.
    pub expired: u64,
    /// Commands of the application, executed on a session; once per session.
    pub session_commands: u64,
}

/// The result of executing a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The command is executed or in progress; the next command may be executed.
    Next,
    /// The command must wait: keep it and stop reading.
    Hold,
    /// The session has ended.
    End,
}

/// The sessions and topics of one shard.
#[derive(Debug)]
pub struct Hub<P: Protocols> {
    pub(crate) settings: Arc<Settings>,
    /// State that the protocols share.
    pub protocols: P,
    pub(crate) sessions: Slab<Session<P>>,
    pub(crate) topics: Topics,
    namespaces: Arc<NamespaceTable>,
    /// The index of this shard, and the number of shards.
    pub(crate) shard: (u32, u32),
    pub(crate) next_generation: u32,
    pub(crate) published: u64,
    pub(crate) errors: u64,
    pub(crate) clients: ClientStats,
    pub(crate) disconnects: Disconnects,
    /// The reasons of sessions that have ended and are not removed yet; empty above level `debug`.
    pub(crate) close_reasons: HashMap<Slot, (u16, String)>,
    /// The sessions with a subscription that excludes their own publications, by client id.
    pub(crate) origins: HashMap<u128, Slot>,
    /// The sessions of each user.
    pub(crate) users: HashMap<Box<str>, Vec<Slot>>,
    /// The time, in Unix seconds.
    pub(crate) time: u64,
    /// The milliseconds of the second.
    pub(crate) millis: u32,
    /// The time for usage limits, in nanoseconds of the clock of [`Hub::set_clock`].
    pub(crate) clock: u64,
    /// The meters of sessions, by slot; empty if no limit is configured.
    pub(crate) usage: Vec<SessionUsage>,
    /// The live traces of the process.
    pub(crate) traces: Arc<Traces>,
}

impl<P: Protocols> Hub<P> {
    /// A hub without sessions, for shard `index` of `shards`.
    pub fn new(settings: Arc<Settings>, protocols: P, index: u32, shards: u32) -> Self {
        Self {
            settings,
            protocols,
            sessions: Slab::new(),
            topics: Topics::default(),
            namespaces: Arc::default(),
            shard: (index, shards),
            next_generation: 0,
            published: 0,
            errors: 0,
            clients: ClientStats::default(),
            disconnects: Disconnects::default(),
            close_reasons: HashMap::new(),
            origins: HashMap::new(),
            users: HashMap::new(),
            time: 0,
            millis: 0,
            clock: 0,
            usage: Vec::new(),
            traces: Arc::default(),
        }
    }

    /// Counts in this table.
    #[must_use]
    pub fn with_namespace_table(self, namespaces: Arc<NamespaceTable>) -> Self {
        Self { namespaces, ..self }
    }

    /// The counters of a topic's namespace.
    pub(crate) fn namespace_stats(&self, topic: &Topic) -> Arc<NamespaceStats> {
        self.namespaces.get(self.settings.namespace_label(topic))
    }

    /// Sets the time since 1970. Expiry depends on it.
    pub fn set_time(&mut self, unix: Duration) {
        (self.time, self.millis) = (unix.as_secs(), unix.subsec_millis());
    }

    /// Adds a connection; its first byte determines the protocol.
    pub fn open(&mut self, fx: &mut Effects<P::Messages>) -> SessionId {
        self.open_as(P::Peer::default(), None, fx)
    }

    /// Adds a connection with a known protocol.
    pub fn open_as(
        &mut self,
        peer: P::Peer,
        connection_info: Option<Arc<ConnectionInfo>>,
        fx: &mut Effects<P::Messages>,
    ) -> SessionId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let mut session = Session::new(generation, peer);
        if connection_info.is_some() {
            session.cold().connection_info = connection_info;
        }
        let slot = Slot::from_index(self.sessions.insert(session));
        P::opened(self, slot, fx);
        SessionId { slot, generation }
    }

    /// Ends a session of the line port that receives no input within `client.stale_close_delay`.
    pub fn expect_first_input(&mut self, id: SessionId, fx: &mut Effects<P::Messages>) {
        self.start_stale_timer(id, Timer::FirstInput, fx);
    }

    /// Starts a timer of `client.stale_close_delay`, unless that is zero.
    pub fn start_stale_timer(&mut self, id: SessionId, timer: Timer, fx: &mut Effects<P::Messages>) {
        let delay = self.settings.stale_close_delay;
        if !delay.is_zero() {
            fx.push(Effect::Start(id, timer, delay));
        }
    }

    /// The settings of the server.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The time, in Unix seconds.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// The time, in Unix milliseconds.
    pub fn time_millis(&self) -> i64 {
        i64::try_from(self.time).unwrap_or(0).saturating_mul(1000).saturating_add(self.millis.into())
    }

    /// The index of this shard, and the number of shards.
    pub fn shard(&self) -> (u32, u32) {
        self.shard
    }

    /// The session in `slot`.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn session(&self, slot: Slot) -> &Session<P> {
        &self.sessions[slot.index()]
    }

    /// The session in `slot`, mutable.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn session_mut(&mut self, slot: Slot) -> &mut Session<P> {
        &mut self.sessions[slot.index()]
    }

    /// The session in `slot`; `None` if the slot is empty.
    pub fn get_session(&self, slot: Slot) -> Option<&Session<P>> {
        self.sessions.get(slot.index())
    }

    /// The user of a session; empty for an anonymous one.
    pub fn user(&self, slot: Slot) -> &str {
        self.sessions[slot.index()].user_state().map(|user_state| &*user_state.user).unwrap_or_default()
    }

    /// Counts a command that is answered with an error.
    pub fn count_error(&mut self) {
        self.errors += 1;
    }

    /// Counts a publication by a client.
    pub fn count_publish(&mut self) {
        self.published += 1;
    }

    /// Reports an event of a session to its protocol.
    pub(crate) fn event(&mut self, slot: Slot, event: Event<'_, P::Messages>, fx: &mut Effects<P::Messages>) {
        self.trace_event(slot, &event);
        P::event(self, slot, event, fx);
    }

    /// The id of the session in `slot`; `None` if the slot is empty.
    pub fn get_session_id(&self, slot: Slot) -> Option<SessionId> {
        let generation = self.sessions.get(slot.index())?.generation;
        Some(SessionId { slot, generation })
    }

    /// The wire form of publications for the session in `slot`.
    pub fn form(&self, slot: Slot) -> Option<Form> {
        self.sessions.get(slot.index()).map(|session| session.peer.form())
    }

    /// The wire form of a session that still exists and is subscribed to a topic; `None` for any other.
    pub fn subscriber_form(&self, id: SessionId, key: TopicKey) -> Option<Form> {
        let session = self.sessions.get(id.slot.index()).filter(|s| s.generation == id.generation)?;
        session.is_subscribed(key).then(|| session.peer.form())
    }

    /// Whether the session still exists. False if its slot has a later session.
    pub fn is_current(&self, id: SessionId) -> bool {
        self.sessions.get(id.slot.index()).is_some_and(|s| s.generation == id.generation)
    }

    /// Whether the session holds no memory besides its slot and its entries in subscriber lists.
    pub fn is_idle(&self, slot: Slot) -> bool {
        self.sessions.get(slot.index()).is_none_or(|s| !s.has_cold_state())
    }

    /// Removes a session and its subscriptions after its connection is closed.
    pub fn closed(&mut self, slot: Slot, fx: &mut Effects<P::Messages>) {
        if !self.sessions.contains(slot.index()) {
            return;
        }
        if !self.is_closing(slot) {
            self.trace_end(slot, None);
            P::disconnected(self, slot, fx);
        }
        let flags = &mut self.sessions[slot.index()].flags;
        if flags.has(Flag::Parking) {
            flags.set(Flag::Closing, true);
            flags.set(Flag::Gone, true);
            return;
        }
        self.remove(slot, fx);
    }

    /// Ends the subscriptions of a session with [`Flag::Parking`], and removes it if its connection is closed.
    pub fn finish_parking(&mut self, slot: Slot, fx: &mut Effects<P::Messages>) {
        let flags = &mut self.sessions[slot.index()].flags;
        flags.set(Flag::Parking, false);
        if flags.has(Flag::Gone) {
            self.remove(slot, fx);
        } else {
            self.release_topics(slot, fx);
        }
    }

    fn remove(&mut self, slot: Slot, fx: &mut Effects<P::Messages>) {
        self.release_topics(slot, fx);
        if !self.close_reasons.is_empty() {
            self.close_reasons.remove(&slot);
        }
        let session = self.sessions.remove(slot.index());
        self.protocols.closed(session.peer, session.peek_state());
        if let Some(user_state) = session.user_state() {
            self.remove_user_session(slot, &user_state.user);
        }
        self.clear_usage(slot);
    }

    /// The peer has closed its sending half: the session ends when every command is answered.
    pub fn finish(&mut self, slot: Slot, fx: &mut Effects<P::Messages>) {
        let session = &mut self.sessions[slot.index()];
        session.flags.set(Flag::Finishing, true);
        if !session.has_pending() && !session.flags.has(Flag::Closing) {
            self.end(slot, &CloseReason::Done, fx);
        }
    }

    /// The peer of a one-way connection has closed its sending half. It may still read, so it is pinged: if the peer is
    /// gone, its system responds with a reset.
    pub fn half_closed(&mut self, slot: Slot, fx: &mut Effects<P::Messages>) {
        let flags = self.sessions[slot.index()].flags;
        if flags.has(Flag::Connected) && !flags.has(Flag::Closing) {
            self.event(slot, Event::PingDue, fx);
        }
    }

    pub(crate) fn release_topics(&mut self, slot: Slot, fx: &mut Effects<P::Messages>) {
        self.unsubscribe_all(slot, fx);
        let session = &mut self.sessions[slot.index()];
        let generation = session.generation;
        let Some(cold) = session.existing_cold() else { return };
        let waited: Vec<TopicKey> = cold.pending.topics().collect();
        let recording_topics: Vec<TopicKey> = cold.pending.recording_topics().collect();
        let joining: Vec<Channel> = cold
            .pending
            .pending_subscribes()
            .filter(|subscribe| subscribe.has_joined_poll())
            .map(|subscribe| subscribe.channel.clone())
            .collect();
        cold.pending = Default::default();
        for channel in joining {
            self.context(slot, fx).leave_poll(channel);
        }
        for key in recording_topics {
            self.topics.stop_recording(key);
        }
        for key in waited {
            if let Some(entry) = self.topics.get_mut(key) {
                entry.waiters.retain(|w| *w != SessionId { slot, generation });
                self.release(key, fx);
            }
        }
        self.sessions[slot.index()].free_unused_state();
    }

    /// Callback when a timer of [`Effect::Start`] expires.
    pub fn expired(&mut self, id: SessionId, timer: Timer, fx: &mut Effects<P::Messages>) {
        if !self.is_current(id) || self.sessions[id.slot.index()].flags.has(Flag::Closing) {
            return;
        }
        let slot = id.slot;
        match timer {
            Timer::Ping => self.context(slot, fx).ping(),
            Timer::Pong => self.context(slot, fx).check_pong(),
            Timer::Expiry => self.context(slot, fx).check_connection_expiry(),
            Timer::SubExpiry => self.context(slot, fx).check_subscription_expiry(),
            Timer::Presence => self.context(slot, fx).refresh_presence(),
            Timer::FirstByte | Timer::Stale | Timer::FirstInput | Timer::KeepAlive => {
                P::expired(self, slot, timer, fx);
            }
        }
    }

    /// The key of a topic; `None` without subscribers on this shard.
    pub fn topic(&self, topic: &Topic) -> Option<TopicKey> {
        self.topics.key(topic)
    }

    /// The entry of a topic.
    pub fn entry(&self, key: TopicKey) -> Option<&TopicEntry> {
        self.topics.get(key)
    }

    /// Must be called before these publications are sent to a topic's subscribers. Returns the subscribers that do not get
    /// all of them, each once, ordered by slot.
    pub fn prepare_fan_out(
        &mut self,
        key: TopicKey,
        publications: &[Arc<Publication>],
    ) -> Vec<PartialRecipient> {
        self.topics.record(key, publications, self.settings.recovery_bytes);
        let skipping = self.topics.skipping(key, publications);
        self.partial_recipients(key, publications, skipping)
    }

    /// The counters for metrics.
    pub fn stats(&self) -> Stats {
        Stats {
            users: self.users.len() as u64,
            topics: self.topics.len() as u64,
            subscriptions: self.topics.subscriptions() as u64,
            published: self.published,
            errors: self.errors,
            clients: self.clients,
        }
    }

    /// The sessions ended by the server, since the start.
    pub fn disconnects(&self) -> &Disconnects {
        &self.disconnects
    }

    /// The slots of all sessions.
    pub fn slots(&self) -> Vec<Slot> {
        self.sessions.iter().map(|(slot, _)| Slot::from_index(slot)).collect()
    }
}
