//! The hub: sessions and topics of one shard, and what happens to them.

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;
use tidings_wire::{Form, Position, Publication, Topic};

use crate::close::{CloseReason, Disconnects};
use crate::decisions::ConnectionInfo;
use crate::effects::{Effect, Effects, Timer};
use crate::index::{Slot, TopicKey};
use crate::metering::SessionUsage;
use crate::protocols::{Event, Peer as _, Protocols};
use crate::session::{Flag, Session, SessionId};
use crate::settings::Settings;
use crate::topics::{Entry, Topics};

/// Whether a session may be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on reading.
    Read,
    /// Do not read until an [`Effect::Resume`] names the session.
    Stop,
    /// The session was ended: read only to throw away.
    Ended,
}

/// Numbers about a hub, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Users with sessions here; the anonymous ones are none.
    pub users: u64,
    /// Topics with subscribers here.
    pub topics: u64,
    /// Subscriptions here.
    pub subscriptions: u64,
    /// Publications that clients sent, since the start.
    pub published: u64,
    /// Commands and lines that were answered with an error, since the start.
    pub errors: u64,
    /// What has become of clients that came back and of those that were let in, since the start.
    pub clients: ClientStats,
    /// Sessions that were ended here, since the start.
    pub disconnects: Disconnects,
}

/// Numbers about sessions of the client protocol, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Subscribers that returned and got everything that they had missed.
    pub recovered: u64,
    /// Subscribers that returned and did not get everything.
    pub unrecovered: u64,
    /// Subscriptions that ended because publications were lost.
    pub lost: u64,
    /// Connections and subscriptions that ended because their time was over.
    pub expired: u64,
    /// Orders of the application that were carried out on a session.
    pub orders: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is done, or under way; the next one may be carried out.
    Next,
    /// Its turn has not come; keep it and stop reading.
    Hold,
    /// The session has ended.
    End,
}

/// The sessions and topics of one shard.
#[derive(Debug)]
pub struct Hub<P: Protocols> {
    pub(crate) settings: Arc<Settings>,
    /// What the protocols share.
    pub protocols: P,
    pub(crate) sessions: Slab<Session<P>>,
    pub(crate) topics: Topics,
    /// Which shard this is, and how many there are; parts of client numbers.
    pub(crate) shard: (u32, u32),
    next_generation: u32,
    pub(crate) published: u64,
    pub(crate) errors: u64,
    pub(crate) clients: ClientStats,
    pub(crate) disconnects: Disconnects,
    /// The sessions of each user.
    pub(crate) users: HashMap<Box<str>, Vec<Slot>>,
    /// The time, in Unix seconds.
    pub(crate) time: u64,
    /// The time for limits, in nanoseconds of another clock.
    pub(crate) clock: u64,
    /// The meters of sessions, by slot; empty where nothing is limited.
    pub(crate) usage: Vec<SessionUsage>,
}

impl<P: Protocols> Hub<P> {
    /// A hub without sessions; the `index`th of `shards`.
    pub fn new(settings: Arc<Settings>, index: u32, shards: u32) -> Self {
        Self {
            settings,
            protocols: P::default(),
            sessions: Slab::new(),
            topics: Topics::default(),
            shard: (index, shards),
            next_generation: 0,
            published: 0,
            errors: 0,
            clients: ClientStats::default(),
            disconnects: Disconnects::default(),
            users: HashMap::new(),
            time: 0,
            clock: 0,
            usage: Vec::new(),
        }
    }

    /// Sets the time, in Unix seconds, by which expiry is decided.
    pub fn set_time(&mut self, unix: u64) {
        self.time = unix;
    }

    /// Takes in a new connection, whose first byte decides the protocol.
    pub fn open(&mut self, fx: &mut Effects) -> SessionId {
        self.open_as(P::Peer::default(), None, fx)
    }

    /// Takes in a connection whose peer is known.
    pub fn open_as(
        &mut self,
        peer: P::Peer,
        about: Option<Arc<ConnectionInfo>>,
        fx: &mut Effects,
    ) -> SessionId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let mut session = Session::new(generation, peer);
        if about.is_some() {
            session.cold().about = about;
        }
        let slot = Slot::from_index(self.sessions.insert(session));
        P::opened(self, slot, fx);
        SessionId { slot, generation }
    }

    /// Ends a session of the line port whose peer sends nothing within `client.stale_close_delay`.
    pub fn expect_introduction(&mut self, id: SessionId, fx: &mut Effects) {
        self.start_stale_timer(id, Timer::Introduction, fx);
    }

    /// Starts a timer of `client.stale_close_delay`, where that is set.
    pub fn start_stale_timer(&mut self, id: SessionId, timer: Timer, fx: &mut Effects) {
        let delay = self.settings.stale_close_delay;
        if !delay.is_zero() {
            fx.push(Effect::Start(id, timer, delay));
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The time, in Unix seconds.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Which shard this hub belongs to, and how many there are.
    pub fn shard(&self) -> (u32, u32) {
        self.shard
    }

    /// The session in `slot`.
    ///
    /// # Panics
    /// When there is none.
    pub fn session(&self, slot: Slot) -> &Session<P> {
        &self.sessions[slot.index()]
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// When there is none.
    pub fn session_mut(&mut self, slot: Slot) -> &mut Session<P> {
        &mut self.sessions[slot.index()]
    }

    /// The session in `slot`, if there is one.
    pub fn get_session(&self, slot: Slot) -> Option<&Session<P>> {
        self.sessions.get(slot.index())
    }

    /// Counts a command that is answered with an error.
    pub fn count_error(&mut self) {
        self.errors += 1;
    }

    /// Counts a publication of a client.
    pub fn count_publish(&mut self) {
        self.published += 1;
    }

    /// Reports an event of a session to its protocol.
    pub(crate) fn event(&mut self, slot: Slot, event: Event<'_>, fx: &mut Effects) {
        P::event(self, slot, event, fx);
    }

    /// The session in `slot`, if there is one.
    pub fn id(&self, slot: Slot) -> Option<SessionId> {
        let generation = self.sessions.get(slot.index())?.generation;
        Some(SessionId { slot, generation })
    }

    /// The form in which the session in `slot` takes publications.
    pub fn form(&self, slot: Slot) -> Option<Form> {
        self.sessions.get(slot.index()).map(|session| session.peer.form())
    }

    /// Whether this very session is still there.
    pub fn is_current(&self, id: SessionId) -> bool {
        self.sessions.get(id.slot.index()).is_some_and(|s| s.generation == id.generation)
    }

    /// Whether the session holds no memory beyond its place here and in the subscriber lists.
    pub fn is_idle(&self, slot: Slot) -> bool {
        self.sessions.get(slot.index()).is_none_or(|s| !s.has_cold_state())
    }

    /// The connection is gone: forgets the session and everything it had.
    pub fn closed(&mut self, slot: Slot, fx: &mut Effects) {
        if !self.sessions.contains(slot.index()) {
            return;
        }
        self.drop_interest(slot, fx);
        let session = self.sessions.remove(slot.index());
        self.protocols.closed(session.peer, session.peek_state());
        if let Some(member) = session.member() {
            self.forget_user(slot, &member.user);
        }
        self.forget_usage(slot);
    }

    /// The peer sends no more: the session ends as soon as every command is answered.
    pub fn finish(&mut self, slot: Slot, fx: &mut Effects) {
        let session = &mut self.sessions[slot.index()];
        session.flags.set(Flag::Finishing, true);
        if !session.has_pending() && !session.flags.has(Flag::Closing) {
            self.end(slot, &CloseReason::Done, fx);
        }
    }

    /// The peer of a connection that only reads sends no more. It may still read; if it is gone altogether, its system
    /// responds to the ping with a reset.
    pub fn half_closed(&mut self, slot: Slot, fx: &mut Effects) {
        let flags = self.sessions[slot.index()].flags;
        if flags.has(Flag::Connected) && !flags.has(Flag::Closing) {
            self.event(slot, Event::PingDue, fx);
        }
    }

    pub(crate) fn drop_interest(&mut self, slot: Slot, fx: &mut Effects) {
        self.unsubscribe_all(slot, fx);
        let session = &mut self.sessions[slot.index()];
        let generation = session.generation;
        let Some(cold) = session.existing_cold() else { return };
        let waited: Vec<TopicKey> = cold.pending.topics().collect();
        let catching: Vec<TopicKey> = cold.pending.catching().collect();
        cold.pending = Default::default();
        for key in catching {
            self.topics.stop_recording(key);
        }
        for key in waited {
            if let Some(entry) = self.topics.get_mut(key) {
                entry.waiters.retain(|w| *w != SessionId { slot, generation });
                self.release(key, fx);
            }
        }
        self.sessions[slot.index()].settle();
    }

    /// A timer that was started by [`Effect::Start`] has expired.
    pub fn expired(&mut self, id: SessionId, timer: Timer, fx: &mut Effects) {
        if !self.is_current(id) || self.sessions[id.slot.index()].flags.has(Flag::Closing) {
            return;
        }
        let slot = id.slot;
        match timer {
            Timer::Ping => self.ping(id, fx),
            Timer::Pong if self.sessions[slot.index()].flags.has(Flag::PongDue) => {
                if self.sessions[slot.index()].flags.has(Flag::Stopped) {
                    // The server does not read at present: the pong may be among what was not read yet.
                    fx.push(Effect::Start(id, Timer::Pong, self.settings.pong_timeout));
                } else {
                    self.end(slot, &CloseReason::NoPong, fx);
                }
            }
            Timer::Expiry => self.connection_expiry(id, fx),
            Timer::SubExpiry => self.subscription_expiry(id, fx),
            Timer::Presence => self.refresh_presence(id, fx),
            Timer::Pong => {}
            Timer::FirstByte | Timer::Stale | Timer::Introduction => P::expired(self, slot, timer, fx),
        }
    }

    /// A topic's key, if it has subscribers here.
    pub fn topic(&self, topic: &Topic) -> Option<TopicKey> {
        self.topics.key(topic)
    }

    /// A topic's subscribers.
    pub fn entry(&self, key: TopicKey) -> Option<&Entry> {
        self.topics.get(key)
    }

    /// These publications are about to be sent to a topic's subscribers: gives the subscribers that have
    /// some of them already, each with the position up to which that is so (see [`crate::is_told`]).
    pub fn fanning_out(&mut self, key: TopicKey, publications: &[Arc<Publication>]) -> Vec<(Slot, Position)> {
        self.topics.record(key, publications, self.settings.recovery_bytes);
        self.topics.skipping(key, publications)
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        Stats {
            users: self.users.len() as u64,
            topics: self.topics.len() as u64,
            subscriptions: self.topics.subscriptions() as u64,
            published: self.published,
            errors: self.errors,
            clients: self.clients,
            disconnects: self.disconnects,
        }
    }

    /// Slots of all sessions, for shutting down.
    pub fn slots(&self) -> Vec<Slot> {
        self.sessions.iter().map(|(slot, _)| Slot::from_index(slot)).collect()
    }
}
