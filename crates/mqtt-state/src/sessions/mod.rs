//! The sessions of clients that are not connected, and the connections of those that are.
//!
//! The store has no lock order of its own: its caller changes the routes of topics in the same step (see
//! [`SessionEffects`]), so that each publication reaches either the store or a shard.
//!
//! Invariants:
//! - The number of sessions, the bytes of the messages of each, and those of all are bounded. Beyond a bound of bytes a session
//!   drops messages, and its client is informed when it connects.
//! - A session is resumed once its former shard has passed its complete state: until then, the request waits.
//! - With files, a change is in them before this store returns, with the publications for connected sessions: see [`mirror`].
//! - A will is published once: after its delay or with the end of the session, unless the client connects before.

mod deliver;
mod effects;
mod files;
mod groups;
mod mirror;
mod parked;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_metrics::{BYTES, Collect, MetricWriter};
use tidings_mqtt_session::{
    Connection, JoinGroup, OpenSession, Parking, SessionChange, SessionKey, SessionState, SharedDelivery,
    SharedFilter, StoredSubscription,
};
use tidings_wire::{Delivery, Topic};

pub use effects::{Outcome, SessionEffects, SessionLimits};
use groups::{Groups, Member};
use mirror::Mirror;
use parked::Parked;

/// The sessions of a node. `W` is the recipient of a response.
#[derive(Debug)]
pub struct Sessions<W> {
    state: Mutex<State<W>>,
    /// The files cannot be written.
    is_failed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct State<W> {
    limits: SessionLimits,
    sessions: HashMap<u64, Session<W>>,
    names: HashMap<SessionKey, u64>,
    /// The sessions without a connection that are subscribed to each topic.
    subscribers: HashMap<Topic, HashSet<u64>>,
    groups: Groups,
    /// When a will is due or a session expires, in Unix seconds, for each session without a connection.
    deadlines: BTreeSet<(u64, u64)>,
    next: u64,
    /// Bytes of the messages of sessions without a connection.
    bytes: usize,
    dropped: u64,
    expired: u64,
    /// The sessions as the files have them, if there are files.
    mirror: Option<Mirror>,
}

#[derive(Debug)]
struct Session<W> {
    key: SessionKey,
    place: Place,
    /// The request that waits until the session can continue.
    waiter: Option<(OpenSession, W)>,
}

#[derive(Debug)]
enum Place {
    Connected(Connection),
    Parked(Box<Parked>),
}

impl<W> Sessions<W> {
    /// Without sessions.
    pub fn new(limits: SessionLimits) -> Self {
        let state = State {
            limits,
            sessions: HashMap::new(),
            names: HashMap::new(),
            subscribers: HashMap::new(),
            groups: Groups::default(),
            deadlines: BTreeSet::new(),
            next: 0,
            bytes: 0,
            dropped: 0,
            expired: 0,
            mirror: None,
        };
        Self { state: Mutex::new(state), is_failed: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // The state is valid at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the limits, for messages and sessions from now on.
    pub fn set_limits(&self, limits: SessionLimits) {
        self.lock().limits = limits;
    }

    /// Whether there is a session with this key.
    pub fn contains(&self, key: &str) -> bool {
        self.lock().names.contains_key(key)
    }

    /// Number of sessions without a connection.
    pub fn away(&self) -> usize {
        self.lock().deadlines.len()
    }

    /// A client requests its session. The response is among the effects, now or after a later change.
    pub fn open(&self, request: OpenSession, waiter: W, now: u64) -> SessionEffects<W> {
        let mut fx = SessionEffects::default();
        let state = &mut *self.lock();
        state.open(request, waiter, now, &mut fx);
        state.flush();
        fx
    }

    /// Applies a change by a connection.
    pub fn apply(&self, change: SessionChange, now: u64) -> SessionEffects<W> {
        let mut fx = SessionEffects::default();
        let state = &mut *self.lock();
        match change {
            SessionChange::Parking(parking) => state.park(*parking, now, &mut fx),
            SessionChange::Parked { key, connection, state: complete } => {
                state.complete(&key, connection, *complete, now, &mut fx);
            }
            SessionChange::Ended { key, connection } => state.end(&key, connection, now, &mut fx),
            SessionChange::Left(connection, shared) => {
                state.leave(&shared, Member::Connected(connection), &mut fx);
            }
            SessionChange::Undelivered(connection, SharedDelivery { shared, publication }) => {
                state.not_delivered(connection, &publication);
                let only = Some((&*shared.filter, connection));
                state.deliver_shared(&shared.topic, &publication, only, now, &mut fx.shared);
            }
            SessionChange::Steps(connection, steps) => state.take_steps(connection, steps, &mut fx),
            SessionChange::Will(connection, will) => state.take_will(connection, will),
            // The broker has these.
            SessionChange::CloseWill(_) | SessionChange::StoreSteps(_) | SessionChange::CloseSession(_) => {}
        }
        state.flush();
        fx
    }

    /// A connection joins a group. The caller subscribes to the topic afterwards.
    pub fn join(&self, request: &JoinGroup) {
        let JoinGroup { connection, shared, options } = request;
        let member = Member::Connected(*connection);
        self.lock().groups.join(&shared.topic, &shared.filter, member, *options);
    }

    /// Adds a publication to the sessions without a connection that are subscribed to its topic. Returns the members of groups
    /// that get it.
    pub fn deliver(&self, delivery: &Delivery, now: u64) -> Vec<(Connection, SharedDelivery)> {
        let state = &mut *self.lock();
        state.deliver_parked(delivery, now);
        let mut shared = Vec::new();
        if state.groups.has(&delivery.topic) {
            state.deliver_shared(&delivery.topic, &delivery.publication, None, now, &mut shared);
        }
        state.flush();
        shared
    }

    /// Whether [`Self::sweep`] has something to do.
    pub fn is_due(&self, now: u64) -> bool {
        self.lock().deadlines.first().is_some_and(|(deadline, _)| *deadline <= now)
    }

    /// Publishes the wills that are due, and ends the sessions that have expired.
    pub fn sweep(&self, now: u64) -> SessionEffects<W> {
        let mut fx = SessionEffects::default();
        let state = &mut *self.lock();
        state.sweep(now, &mut fx);
        state.flush();
        fx
    }
}

impl<W> State<W> {
    /// A member leaves a group.
    fn leave(&mut self, shared: &SharedFilter, member: Member, fx: &mut SessionEffects<W>) {
        let is_empty = self.groups.leave(&shared.topic, &shared.filter, member);
        if is_empty && !self.is_used(&shared.topic) {
            fx.released.push(shared.topic.clone());
        }
    }

    fn open(&mut self, request: OpenSession, waiter: W, now: u64, fx: &mut SessionEffects<W>) {
        let Some(id) = self.names.get(&request.key).copied() else {
            return self.begin(request, waiter, now, fx);
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some((earlier, waiter)) = session.waiter.take() {
            fx.responses.push((waiter, earlier.connection, Outcome::Replaced));
        }
        if request.clean_start {
            // The former connection finds that the session is not its own any more.
            self.remove(id, fx);
            return self.begin(request, waiter, now, fx);
        }
        match &session.place {
            Place::Parked(parked) if parked.arriving.is_none() => self.resume(id, &request, waiter, fx),
            Place::Parked(_) | Place::Connected(_) => session.waiter = Some((request, waiter)),
        }
    }

    /// A session without an earlier one.
    fn begin(&mut self, request: OpenSession, waiter: W, now: u64, fx: &mut SessionEffects<W>) {
        let connection = request.connection;
        if request.is_kept {
            if self.sessions.len() >= self.limits.sessions {
                self.sweep(now, fx);
            }
            if self.sessions.len() >= self.limits.sessions {
                return fx.responses.push((waiter, connection, Outcome::Full(self.limits.sessions)));
            }
            self.next += 1;
            if let Some(mirror) = &mut self.mirror {
                mirror.begin(self.next, &request.key, request.expiry);
                mirror.connect(self.next, &request);
            }
            self.names.insert(request.key.clone(), self.next);
            let session = Session { key: request.key, place: Place::Connected(connection), waiter: None };
            self.sessions.insert(self.next, session);
        }
        fx.responses.push((waiter, connection, Outcome::New));
    }

    fn resume(&mut self, id: u64, request: &OpenSession, waiter: W, fx: &mut SessionEffects<W>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let place = std::mem::replace(&mut session.place, Place::Connected(request.connection));
        if let Place::Parked(parked) = place {
            self.forget(id, &parked, Some(request.connection), fx);
            if !request.is_kept
                && let Some(session) = self.sessions.remove(&id)
            {
                self.names.remove(&session.key);
                self.end_stored(id, fx);
            } else if let Some(mirror) = &mut self.mirror {
                mirror.connect(id, request);
            }
            let Parked { subscriptions, mut state, .. } = *parked;
            state.subscriptions = subscriptions;
            fx.responses.push((waiter, request.connection, Outcome::Resumed(Box::new(state))));
        }
    }

    fn park(&mut self, parking: Parking, now: u64, fx: &mut SessionEffects<W>) {
        let id = self.names.get(&parking.key).copied();
        let found = id.and_then(|id| Some((id, self.sessions.get_mut(&id)?)));
        let is_own =
            |session: &Session<W>| matches!(session.place, Place::Connected(c) if c == parking.connection);
        let Some((id, session)) = found.filter(|(_, session)| is_own(session)) else {
            // The session was discarded, and has ended with that.
            fx.wills.extend(parking.will);
            for StoredSubscription { filter, topic, .. } in shared_of(&parking.subscriptions) {
                let shared = SharedFilter { filter: filter.clone(), topic: topic.clone() };
                self.leave(&shared, Member::Connected(parking.connection), fx);
            }
            return;
        };
        let former = Member::Connected(parking.connection);
        let parked = Parked::new(parking, now);
        for subscription in &parked.subscriptions {
            if subscription.is_shared() {
                let StoredSubscription { filter, topic, .. } = subscription;
                self.groups.replace(topic, filter, former, Member::Parked(id));
                continue;
            }
            let subscribers = self.subscribers.entry(subscription.topic.clone()).or_default();
            if subscribers.is_empty() && !self.groups.has(&subscription.topic) {
                fx.joined.push(subscription.topic.clone());
            }
            subscribers.insert(id);
        }
        if let Some(mirror) = &mut self.mirror {
            mirror.park(id, &parked);
        }
        self.deadlines.insert((parked.deadline(), id));
        session.place = Place::Parked(Box::new(parked));
    }

    fn complete(
        &mut self,
        key: &str,
        connection: Connection,
        complete: SessionState,
        now: u64,
        fx: &mut SessionEffects<W>,
    ) {
        let Some(id) = self.names.get(key).copied() else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Place::Parked(parked) = &mut session.place else { return };
        if parked.arriving != Some(connection) {
            return;
        }
        let before = parked.bytes();
        let limits = self.limits.with_room(self.bytes - before);
        self.dropped += parked.complete(complete, limits.queue_bytes);
        self.bytes = self.bytes + parked.bytes() - before;
        if let Some(mirror) = &mut self.mirror {
            mirror.replace(id, &parked.state);
        }
        if let Some((request, waiter)) = session.waiter.take() {
            self.resume(id, &request, waiter, fx);
        } else if parked.expires <= now {
            self.sweep(now, fx);
        }
    }

    fn end(&mut self, key: &str, connection: Option<Connection>, now: u64, fx: &mut SessionEffects<W>) {
        let Some(id) = self.names.get(key).copied() else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let is_connected = matches!(session.place, Place::Connected(c) if connection == Some(c));
        if connection.is_some() && !is_connected {
            return;
        }
        let waiter = session.waiter.take();
        self.remove(id, fx);
        match (waiter, connection) {
            (Some((request, waiter)), Some(_)) => self.begin(request, waiter, now, fx),
            (Some((request, waiter)), None) => {
                fx.responses.push((waiter, request.connection, Outcome::Replaced));
            }
            (None, _) => {}
        }
    }

    /// Ends a session.
    fn remove(&mut self, id: u64, fx: &mut SessionEffects<W>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.names.remove(&session.key);
        if let Place::Parked(mut parked) = session.place {
            self.forget(id, &parked, None, fx);
            fx.wills.extend(parked.will.take());
        }
        self.end_stored(id, fx);
    }

    /// A session is not parked any more: it has ended, or it continues with a connection.
    fn forget(
        &mut self,
        id: u64,
        parked: &Parked,
        connection: Option<Connection>,
        fx: &mut SessionEffects<W>,
    ) {
        self.deadlines.remove(&(parked.deadline(), id));
        self.bytes -= parked.bytes();
        for StoredSubscription { filter, topic, .. } in shared_of(&parked.subscriptions) {
            match connection {
                Some(new) => self.groups.replace(topic, filter, Member::Parked(id), Member::Connected(new)),
                None => {
                    let shared = SharedFilter { filter: filter.clone(), topic: topic.clone() };
                    self.leave(&shared, Member::Parked(id), fx);
                }
            }
        }
        for StoredSubscription { topic, .. } in &parked.subscriptions {
            let Some(subscribers) = self.subscribers.get_mut(topic) else { continue };
            if subscribers.remove(&id) && subscribers.is_empty() {
                self.subscribers.remove(topic);
                if !self.is_used(topic) {
                    fx.released.push(topic.clone());
                }
            }
        }
    }

    fn sweep(&mut self, now: u64, fx: &mut SessionEffects<W>) {
        while let Some((deadline, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(deadline, id));
            let Some(Session { place: Place::Parked(parked), .. }) = self.sessions.get_mut(&id) else {
                continue;
            };
            if parked.expires <= now {
                self.expired += 1;
                self.remove(id, fx);
            } else {
                fx.wills.extend(parked.will.take());
                if let Some(mirror) = &mut self.mirror {
                    mirror.will_published(id);
                }
                self.deadlines.insert((parked.deadline(), id));
            }
        }
    }
}

fn shared_of(subscriptions: &[StoredSubscription]) -> impl Iterator<Item = &StoredSubscription> {
    subscriptions.iter().filter(|subscription| subscription.is_shared())
}

impl<W: Send + 'static> Collect for Sessions<W> {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let (sessions, parked, bytes, dropped, expired, groups) = {
            let state = self.lock();
            (
                state.sessions.len(),
                state.deadlines.len(),
                state.bytes,
                state.dropped,
                state.expired,
                state.groups.len(),
            )
        };
        out.gauges(
            "tidings_mqtt_sessions",
            "Sessions of MQTT that outlive their connection, by whether their client is connected",
            "client",
            [("connected", sessions.saturating_sub(parked) as u64), ("away", parked as u64)],
        )?;
        out.gauge(
            "tidings_mqtt_session_messages",
            BYTES,
            "Bytes of messages for clients of MQTT that are away, with an allowance for each",
            bytes,
        )?;
        out.counter(
            "tidings_mqtt_session_messages_dropped",
            None,
            "Messages that the sessions of clients of MQTT that were away have dropped at a bound of bytes",
            dropped,
        )?;
        out.gauge(
            "tidings_mqtt_shared_subscriptions",
            None,
            "Groups of shared subscriptions of MQTT",
            groups,
        )?;
        out.counter(
            "tidings_mqtt_sessions_expired",
            None,
            "Sessions of MQTT that have ended because their client did not return in time",
            expired,
        )
    }
}

#[cfg(test)]
mod tests;
