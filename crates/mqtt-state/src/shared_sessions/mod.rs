//! The sessions of a deployment, which the broker stores for all nodes.
//!
//! The node of a publisher adds a message to the sessions that get it, before it publishes and acknowledges the message. The broker
//! notifies the nodes of connected clients of new messages (a wake), and their connections read the messages. So an acknowledged message is at the broker until the
//! client has acknowledged it, whichever nodes end.
//!
//! Invariants:
//! - A publication with QoS 1 or 2 is added to the sessions, except while the number of sessions, as read within the last
//!   [`RELIABLE`], is 0. A subscription is acknowledged after every node has read a later number.
//! - Publications keep their order: while one of them is being added, later ones are added too ([`adding`]).
//! - A publication with QoS 0 is added while there are shared subscriptions, as last read. The first of them is acknowledged after
//!   every node has read that.
//! - A wake that is lost is found by the numbers of wakes, within two renewals.
//! - Acknowledgements and ends of connections that the broker did not confirm are repeated with the renewals, within a bound. So a
//!   session expires although the broker was away when its connection ended. Other sessions of this node without a connection are
//!   found one page after the other ([`strays`]).

mod adding;
mod calls;
mod failed;
mod metrics;
mod strays;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_broker::{BrokerError, SessionFunction, Stateful};
use tidings_mqtt::Qos;
use tidings_mqtt_session::{
    CloseSession, Connection, MessagePage, OpenSession, OpenedSession, ReadMessages, Step, StoreSteps,
};
use tidings_wire::Channel;

use crate::sessions::SessionLimits;
use adding::Adding;
use failed::Failed;
use metrics::Totals;
use strays::Strays;

/// How long a node has its sessions without a renewal.
const LEASE: Duration = Duration::from_secs(10);
/// The time between two renewals.
const RENEWAL: Duration = Duration::from_millis(500);
/// How long a number of sessions is relied on, from the request for it: less than `UNNOTICED` of `store.lua`.
const RELIABLE: Duration = Duration::from_millis(1_500);
/// The time between two renewals while messages pass to other members of groups.
const RENEWAL_IN_PROGRESS: Duration = Duration::from_millis(20);
/// Sessions that are ended, or whose node has ended, or that are read, in one step.
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
    /// Publications that are being added, and those that wait for one of their topic.
    adding: Adding,
    began: Instant,
    /// Until when there is no session for certain, in milliseconds since `began`; 0 if there may be sessions.
    empty_until: AtomicU64,
    /// There may be shared subscriptions.
    has_groups: AtomicBool,
    /// Messages are to be passed to other members of groups.
    is_passing: AtomicBool,
    totals: Totals,
}

#[derive(Default)]
struct State {
    /// The connections of this node, by the id of their client.
    connections: HashMap<String, Connection>,
    /// There were sessions when their number was read last, or one has begun here since.
    exists: bool,
    /// The highest number of a wake that has arrived.
    wakes: u64,
    /// The number of the last wake at the broker, at the last renewal.
    counted: u64,
    /// The broker had fewer connected sessions of this node than there were connections, at the last renewal.
    has_fewer: bool,
    /// What the broker did not confirm.
    failed: Failed,
    /// The search for sessions without a connection.
    strays: Strays,
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
            adding: Adding::default(),
            began: Instant::now(),
            empty_until: AtomicU64::new(0),
            has_groups: AtomicBool::new(true),
            is_passing: AtomicBool::new(false),
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

    /// A client connects. Calls `done` with its session. Must not block. The connection must not end before `done` is called.
    pub fn open(
        self: &Arc<Self>,
        request: &OpenSession,
        done: impl FnOnce(Result<OpenedSession, SharedError>) + Send + 'static,
    ) {
        let (shared, client, connection) = (Arc::clone(self), request.client.clone(), request.connection);
        self.request_session(request, move |opened| {
            if opened.as_ref().is_ok_and(|opened| opened.is_stored) {
                // A wake before this is not missed: the connection reads its messages at its start.
                shared.lock().connections.insert(client, connection);
            }
            done(opened);
        });
    }

    /// Requests a session from the broker.
    fn request_session(
        self: &Arc<Self>,
        request: &OpenSession,
        done: impl FnOnce(Result<OpenedSession, SharedError>) + Send + 'static,
    ) {
        let limits = self.limits();
        let OpenSession { key, client, expiry, .. } = request;
        let close = CloseSession { key: key.clone(), client: client.clone(), expiry: *expiry, sent: None };
        // Without the broker, a client without a session may connect if there was none.
        let is_optional = !request.is_kept && !self.lock().exists;
        let shared = Arc::clone(self);
        self.call(SessionFunction::Open, calls::open(&self.node, request, limits), move |answer| {
            if is_repeated(&answer) && !matches!(answer, Err(BrokerError::Overloaded)) {
                // The broker may have the session of this connection nevertheless.
                shared.lock().failed.add_open(close);
            }
            let opened = answer.and_then(|answer| calls::opened(&answer).ok_or_else(invalid));
            let opened = match opened {
                Ok(Ok(opened)) => Ok(opened),
                Ok(Err(())) => Err(SharedError::Full(limits.sessions)),
                Err(_) if is_optional => Ok(OpenedSession::default()),
                Err(error) => Err(SharedError::Broker(error)),
            };
            if opened.as_ref().is_ok_and(|opened| opened.is_stored) {
                shared.empty_until.store(0, Ordering::Release);
                shared.lock().exists = true;
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
        let refusal = Arc::new(Mutex::new(None));
        if let Some(connection) = request.begins {
            self.begin(request, connection, Arc::clone(&refusal));
        }
        let shared = request.steps.iter().any(is_shared).then(|| Arc::clone(self));
        if let Some(shared) = &shared {
            shared.has_groups.store(true, Ordering::Release);
        }
        self.call(SessionFunction::Steps, self.steps(request), move |answer| {
            if let Some(shared) = &shared {
                // A renewal that was requested before has read no group.
                shared.has_groups.store(true, Ordering::Release);
            }
            let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            match refusal.map_or_else(|| own(answer), Err) {
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
            }
        });
    }

    /// Begins the session of a connection for its shared subscriptions. The broker carries out the steps afterwards.
    fn begin(
        self: &Arc<Self>,
        request: &StoreSteps,
        connection: Connection,
        refusal: Arc<Mutex<Option<SharedError>>>,
    ) {
        let (key, client) = (request.key.clone(), request.client.clone());
        // The connection may end before the response: its end removes it, and the response does not add it again.
        self.lock().connections.insert(client.clone(), connection);
        let open = OpenSession { key, connection, client, expiry: 0, clean_start: false, is_kept: true };
        let (shared, client) = (Arc::clone(self), request.client.clone());
        self.request_session(&open, move |opened| {
            if opened.is_err() {
                shared.lock().connections.remove(&client);
            }
            *refusal.lock().unwrap_or_else(PoisonError::into_inner) = opened.err();
        });
    }

    fn steps(&self, request: &StoreSteps) -> Vec<Bytes> {
        let mut args = vec![calls::text(&self.node), calls::text(&request.key), calls::text(&request.client)];
        let limits = self.limits();
        request.steps.iter().for_each(|step| calls::step(step, limits, &mut args));
        args
    }

    /// Stores steps whose outcome the client does not wait for. Acknowledgements that the broker does not confirm are repeated. Other
    /// steps are not, because they may be carried out already, and later steps may contradict them.
    pub fn acknowledge(self: &Arc<Self>, request: StoreSteps) {
        let shared = Arc::clone(self);
        self.call(SessionFunction::Steps, self.steps(&request), move |answer| {
            if is_repeated(&answer) {
                shared.lock().failed.add_acknowledgements(request);
            }
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
    pub fn close(self: &Arc<Self>, request: CloseSession) {
        self.lock().connections.remove(&request.client);
        if request.expiry > 0 {
            // It gets messages with QoS 0 from now on, before its number is read.
            self.totals.left();
        }
        self.send_close(request);
    }

    fn send_close(self: &Arc<Self>, request: CloseSession) {
        let args = calls::close(&self.node, &request, self.limits());
        let shared = Arc::clone(self);
        self.call(SessionFunction::Close, args, move |answer| {
            if is_repeated(&answer) {
                // There is one for each session at most.
                let most = shared.limits().sessions;
                shared.lock().failed.add_close(request, most);
            }
        });
    }

    /// Repeats what has failed.
    fn repeat(self: &Arc<Self>) {
        let (acknowledgements, closes) = self.lock().failed.take();
        acknowledgements.into_iter().for_each(|request| self.acknowledge(request));
        closes.into_iter().for_each(|request| self.send_close(request));
    }

    /// Whether there may be sessions.
    fn may_exist(&self) -> bool {
        millis(self.began.elapsed()) >= self.empty_until.load(Ordering::Acquire)
    }

    /// Whether a publication with this QoS must be added to the sessions before it is published.
    pub fn is_needed(&self, qos: Qos) -> bool {
        match qos {
            Qos::AtMostOnce => self.totals.away() > 0 || self.has_groups.load(Ordering::Acquire),
            _ => self.adding.is_busy() || self.may_exist(),
        }
    }

    /// The quality of service of publications of other protocols.
    pub fn default_qos(&self) -> Qos {
        self.limits().default_qos
    }

    /// Wakes the connections that the broker names, behind the number of the wake.
    pub fn on_wake(&self, body: &[u8]) {
        let mut clients = std::str::from_utf8(body).unwrap_or_default().split(' ');
        let number = clients.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let mut state = self.lock();
        state.wakes = state.wakes.max(number);
        let found: Vec<_> = clients.filter_map(|client| state.connections.get(client)).copied().collect();
        drop(state);
        found.into_iter().for_each(|connection| self.waker.wake(connection));
    }

    /// Renews the lease, and reads the number of sessions.
    pub fn renew(self: &Arc<Self>) {
        let (shared, began) = (Arc::clone(self), self.began.elapsed());
        let cursor = self.lock().strays.cursor();
        let args = calls::sweep(&self.node, SWEPT_AT_ONCE, self.limits(), &cursor);
        self.call(SessionFunction::Sweep, args, move |answer| {
            let Ok(answer) = answer else { return };
            let sessions = shared.totals.set(&answer);
            let (wakes, connected) =
                (calls::read(&answer, 5).unwrap_or(0), calls::read(&answer, 6).unwrap_or(0));
            let groups = calls::read::<u64>(&answer, 8).unwrap_or(1);
            shared.totals.groups.store(groups, Ordering::Relaxed);
            shared.has_groups.store(groups > 0, Ordering::Release);
            shared.is_passing.store(calls::read::<u8>(&answer, 7) == Some(1), Ordering::Relaxed);
            let mut state = shared.lock();
            let strays = state.find_strays(&answer);
            state.exists = sessions > 0;
            let until = if sessions > 0 { 0 } else { millis(began + RELIABLE) };
            shared.empty_until.store(until, Ordering::Release);
            let all = state.check(wakes, connected);
            drop(state);
            shared.repeat();
            strays.into_iter().for_each(|request| shared.send_close(request));
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
            let is_passing = self.is_passing.load(Ordering::Relaxed);
            tokio::time::sleep(if is_passing { RENEWAL_IN_PROGRESS } else { RENEWAL }).await;
        }
    }
}

impl State {
    /// Compares the last wake that has arrived, and the connections, with the numbers of the broker. Returns the connections to wake:
    /// all of them, if wakes or sessions are missing for a whole interval. The request of a connection whose session is missing fails.
    fn check(&mut self, wakes: u64, sessions: usize) -> Vec<Connection> {
        let earlier = std::mem::replace(&mut self.counted, wakes);
        let had_fewer = std::mem::replace(&mut self.has_fewer, sessions < self.connections.len());
        // The number at the broker is 0 after the lease of the node has ended, or its data is lost.
        let is_complete = self.wakes >= earlier && wakes >= earlier;
        if is_complete && !(had_fewer && self.has_fewer) {
            return Vec::new();
        }
        self.wakes = wakes;
        self.connections.values().copied().collect()
    }
}

fn is_shared(step: &Step) -> bool {
    matches!(step, Step::Subscribed(subscription) if subscription.is_shared())
}

/// Whether a request has failed and may succeed later.
fn is_repeated(answer: &Result<Vec<Bytes>, BrokerError>) -> bool {
    matches!(answer, Err(BrokerError::Unavailable | BrokerError::Overloaded | BrokerError::Failed(_)))
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
