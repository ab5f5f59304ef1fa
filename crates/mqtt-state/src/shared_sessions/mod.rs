//! The sessions of a deployment, which the broker stores for all nodes.
//!
//! The node of a publisher adds a message to the sessions that get it, before it publishes and acknowledges the message. The node
//! of a connected client is woken, and its connection reads the messages. So an acknowledged message is at the broker until the
//! client has acknowledged it, whichever nodes end.
//!
//! Invariants:
//! - A publication with QoS 1 or 2 is not added only while the number of sessions, as read within the last [`RELIABLE`], is 0. A
//!   subscription is acknowledged after every node has read a later number.
//! - Publications pass in their order: while one is being added, later ones are too.
//! - A wake that is lost is found by the count of wakes, within two renewals.

mod calls;
mod metrics;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_broker::{BrokerError, SessionFunction, Stateful};
use tidings_mqtt::Qos;
use tidings_mqtt_session::{
    CloseSession, Connection, MessagePage, OpenSession, OpenedSession, ReadMessages, StoreSteps,
};
use tidings_wire::{Channel, Publication};

use crate::sessions::SessionLimits;
use metrics::Totals;

/// How long a node has its sessions without a renewal.
const LEASE: Duration = Duration::from_secs(10);
/// The time between two renewals.
const RENEWAL: Duration = Duration::from_millis(500);
/// How long a number of sessions is relied on, from the request for it: less than the wait of `sessions.lua`.
const RELIABLE: Duration = Duration::from_millis(1_500);
/// Sessions that are ended, or whose node has ended, in one step.
const SWEPT_AT_ONCE: usize = 100;

/// Wakes the connection of a session with new messages. Called from any thread; must not block.
pub trait WakeSession: Send + Sync {
    /// See [`WakeSession`].
    fn wake(&self, connection: Connection);
}

/// The error of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedError {
    /// The session belongs to another connection by now.
    TakenOver,
    /// The broker does not have the session any more.
    Lost,
    /// There are as many sessions as the limit.
    Full(usize),
    /// The broker has failed.
    Broker(BrokerError),
}

/// The sessions of the deployment.
pub struct SharedSessions {
    broker: Arc<dyn Stateful>,
    store: Channel,
    node: String,
    waker: Arc<dyn WakeSession>,
    limits: Mutex<SessionLimits>,
    state: Mutex<State>,
    /// Publications that are being added.
    adding: AtomicU64,
    began: Instant,
    /// Until when there is no session for certain, in milliseconds since `began`; 0 if there may be sessions.
    empty_until: AtomicU64,
    totals: Totals,
}

#[derive(Default)]
struct State {
    /// The connections of this node, by the id of their client.
    connections: HashMap<String, Connection>,
    /// There were sessions when their number was read last, or one has begun here since.
    exists: bool,
    /// Wakes that have arrived, as the broker counts them.
    wakes: u64,
    /// The count of the broker at the last renewal.
    counted: u64,
    /// The broker had fewer connected sessions of this node than there were connections, at the last renewal.
    has_fewer: bool,
}

impl fmt::Debug for SharedSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSessions").field("store", &self.store).finish_non_exhaustive()
    }
}

impl SharedSessions {
    /// The sessions that `broker` has under the name `store`, for the node with this id.
    pub fn new(
        broker: Arc<dyn Stateful>,
        store: Channel,
        node: String,
        waker: Arc<dyn WakeSession>,
        limits: SessionLimits,
    ) -> Self {
        Self {
            broker,
            store,
            node,
            waker,
            limits: Mutex::new(limits),
            state: Mutex::default(),
            adding: AtomicU64::new(0),
            began: Instant::now(),
            empty_until: AtomicU64::new(0),
            totals: Totals::default(),
        }
    }

    /// The channel in which this node is woken.
    ///
    /// # Panics
    /// Never: the name of the store and the id of a node are short.
    pub fn wakes(&self) -> Channel {
        Channel::new(format!("{}.{}", self.store.as_str(), self.node)).expect("a short name")
    }

    /// Replaces the limits, for messages and sessions from now on.
    pub fn set_limits(&self, limits: SessionLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    fn limits(&self) -> SessionLimits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of sessions of all nodes, as last read.
    pub fn count(&self) -> u64 {
        self.totals.sessions.load(Ordering::Relaxed)
    }

    /// A client connects. Calls `done` with its session. Must not block.
    pub fn open(
        self: &Arc<Self>,
        request: &OpenSession,
        done: impl FnOnce(Result<OpenedSession, SharedError>) + Send + 'static,
    ) {
        if !request.is_kept && !self.may_exist() {
            return done(Ok(OpenedSession::default()));
        }
        let limits = self.limits();
        let (client, connection) = (request.client.clone(), request.connection);
        // Without the broker, a client without a session may connect if there was none.
        let is_optional = !request.is_kept && !self.lock().exists;
        let shared = Arc::clone(self);
        self.call(SessionFunction::Open, calls::open(&self.node, request, limits), move |answer| {
            let opened = answer.and_then(|answer| calls::opened(&answer).ok_or_else(invalid));
            let opened = match opened {
                Ok(Ok(opened)) => Ok(opened),
                Ok(Err(())) => Err(SharedError::Full(limits.sessions)),
                Err(_) if is_optional => Ok(OpenedSession::default()),
                Err(error) => Err(SharedError::Broker(error)),
            };
            if opened.as_ref().is_ok_and(|opened| opened.is_stored) {
                // A wake before this is not missed: the connection reads its messages at its begin.
                shared.empty_until.store(0, Ordering::Release);
                let mut state = shared.lock();
                state.exists = true;
                state.connections.insert(client, connection);
            }
            done(opened);
        });
    }

    /// Stores steps of a session; calls `done` when its client may rely on them.
    pub fn store(
        self: &Arc<Self>,
        request: &StoreSteps,
        done: impl FnOnce(Result<(), SharedError>) + Send + 'static,
    ) {
        let mut args = vec![calls::text(&self.node), calls::text(&request.key), calls::text(&request.client)];
        let limits = self.limits();
        request.steps.iter().for_each(|step| calls::step(step, limits, &mut args));
        self.call(SessionFunction::Steps, args, move |answer| match own(answer) {
            Ok(answer) => match calls::read::<u64>(&answer, 1).unwrap_or(0) {
                0 => done(Ok(())),
                wait => {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(wait)).await;
                        done(Ok(()));
                    });
                }
            },
            Err(error) => done(Err(error)),
        });
    }

    /// Reads messages of a session.
    pub fn read(
        self: &Arc<Self>,
        request: &ReadMessages,
        done: impl FnOnce(Result<MessagePage, SharedError>) + Send + 'static,
    ) {
        let ReadMessages { key, client, after, most, max_bytes } = request;
        let numbers = [calls::number(after), calls::number(most), calls::number(max_bytes)];
        let mut args = vec![calls::text(&self.node), calls::text(key), calls::text(client)];
        args.extend(numbers);
        self.call(SessionFunction::Read, args, move |answer| {
            let page = own(answer)
                .and_then(|answer| calls::page(&answer).ok_or_else(|| SharedError::Broker(invalid())));
            done(page);
        });
    }

    /// A connection has ended.
    pub fn close(self: &Arc<Self>, request: &CloseSession) {
        let CloseSession { key, client, expiry } = request;
        self.lock().connections.remove(client);
        let args =
            vec![calls::text(&self.node), calls::text(key), calls::text(client), calls::number(expiry)];
        // Without the broker, the session expires as one of a node that has ended, or its next connection takes it over.
        self.call(SessionFunction::Close, args, |_| {});
    }

    /// Whether there may be sessions.
    fn may_exist(&self) -> bool {
        millis(self.began.elapsed()) >= self.empty_until.load(Ordering::Acquire)
    }

    /// Whether a publication with this QoS must be added to the sessions before it is published.
    pub fn is_needed(&self, qos: Qos) -> bool {
        match qos {
            Qos::AtMostOnce => self.totals.away() > 0,
            _ => self.adding.load(Ordering::Acquire) > 0 || self.may_exist(),
        }
    }

    /// The quality of service of publications of other protocols.
    pub fn default_qos(&self) -> Qos {
        self.limits().default_qos
    }

    /// Adds a publication to the sessions that get it; calls `done` with the number of copies. With an idempotency key that is not
    /// empty, it is added once.
    pub fn add(
        self: &Arc<Self>,
        publication: &Publication,
        qos: Qos,
        key: &str,
        done: impl FnOnce(Result<u64, BrokerError>) + Send + 'static,
    ) {
        let limits = self.limits();
        let args = vec![
            calls::text(publication.channel.as_str()),
            calls::text(publication.origin().unwrap_or_default()),
            calls::number(qos as u8),
            calls::number(limits.queue_bytes),
            calls::number(limits.total_bytes),
            calls::message(publication),
            calls::text(key),
        ];
        self.adding.fetch_add(1, Ordering::AcqRel);
        let shared = Arc::clone(self);
        self.call(SessionFunction::Append, args, move |answer| {
            let copies = answer.map(|answer| calls::read(&answer, 0).unwrap_or(0));
            if let Ok(copies) = copies {
                shared.totals.added.fetch_add(copies, Ordering::Relaxed);
            }
            done(copies);
            shared.adding.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Wakes the connections that the broker names.
    pub fn on_wake(&self, body: &[u8]) {
        let clients = std::str::from_utf8(body).unwrap_or_default().split(' ');
        let mut state = self.lock();
        state.wakes += 1;
        let found: Vec<_> = clients.filter_map(|client| state.connections.get(client)).copied().collect();
        drop(state);
        found.into_iter().for_each(|connection| self.waker.wake(connection));
    }

    /// Renews the lease, and reads the number of sessions.
    pub fn renew(self: &Arc<Self>) {
        let (shared, began) = (Arc::clone(self), self.began.elapsed());
        let args = vec![calls::text(&self.node), calls::lease(), calls::number(SWEPT_AT_ONCE)];
        self.call(SessionFunction::Sweep, args, move |answer| {
            let Ok(answer) = answer else { return };
            let sessions = shared.totals.set(&answer);
            let (wakes, connected) =
                (calls::read(&answer, 5).unwrap_or(0), calls::read(&answer, 6).unwrap_or(0));
            let mut state = shared.lock();
            state.exists = sessions > 0;
            let until = if sessions > 0 { 0 } else { millis(began + RELIABLE) };
            shared.empty_until.store(until, Ordering::Release);
            let all = state.check(wakes, connected);
            drop(state);
            all.into_iter().for_each(|connection| shared.waker.wake(connection));
        });
    }

    fn call(
        &self,
        function: SessionFunction,
        args: Vec<Bytes>,
        done: impl FnOnce(Result<Vec<Bytes>, BrokerError>) + Send + 'static,
    ) {
        self.broker.call_sessions(&self.store, function, args, Box::new(done));
    }

    /// Renews the lease for as long as the server runs.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.renew();
            tokio::time::sleep(RENEWAL).await;
        }
    }
}

impl State {
    /// Compares the wakes that have arrived, and the connections, with the counts of the broker. Returns the connections to wake:
    /// all of them, if wakes or sessions are missing for a whole interval. A connection whose session is missing finds that out.
    fn check(&mut self, wakes: u64, sessions: usize) -> Vec<Connection> {
        let earlier = std::mem::replace(&mut self.counted, wakes);
        let had_fewer = std::mem::replace(&mut self.has_fewer, sessions < self.connections.len());
        // The broker counts from 0 after the lease of the node has ended, or its data is lost.
        let is_complete = self.wakes >= earlier && wakes >= earlier;
        if is_complete && !(had_fewer && self.has_fewer) {
            return Vec::new();
        }
        self.wakes = wakes;
        self.connections.values().copied().collect()
    }
}

/// The answer of a function that a connection calls, if the session is its own.
fn own(answer: Result<Vec<Bytes>, BrokerError>) -> Result<Vec<Bytes>, SharedError> {
    let answer = answer.map_err(SharedError::Broker)?;
    match calls::read::<u8>(&answer, 0) {
        Some(0) => Ok(answer),
        Some(1) => Err(SharedError::TakenOver),
        Some(_) => Err(SharedError::Lost),
        None => Err(SharedError::Broker(invalid())),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The error of an answer of another form.
fn invalid() -> BrokerError {
    BrokerError::Failed("reply")
}
