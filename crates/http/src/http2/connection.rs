//! The permits of a connection: of its requests, and of its idle time.
//!
//! | the connection carries | permits |
//! |---|---|
//! | no stream | one, which can be evicted and limits the idle time |
//! | requests, with or without sessions | one per request |
//! | sessions alone | none: each session counts in `client.connection_limit` |
//!
//! Invariant: a permit is taken before a request is routed, and it is returned when its response has been handed over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::forwarded::Peer;
use super::super::limiter::{HttpLimiter, HttpPermit};
use super::super::limits::AddressKey;

/// The reason why a connection is closed while its client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseCause {
    /// It has had no stream for too long, or there is no permit for its idle time.
    Idle,
    /// Another connection needs its permit.
    Evicted,
}

/// The state that the streams of a connection share.
#[derive(Debug)]
pub(super) struct Connection {
    limiter: Arc<HttpLimiter>,
    address: Option<AddressKey>,
    pub(super) peer: Peer,
    /// The longest lag of a client in reading a response.
    pub(super) unread: Duration,
    pub(super) runtime: Handle,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// The permit of the idle time.
    idle: Option<Arc<HttpPermit>>,
    idle_since: Instant,
    requests: usize,
    sessions: usize,
    /// The connection accepts no more requests.
    closing: bool,
}

impl Connection {
    /// The state of a connection without streams. Call within a tokio runtime.
    pub(super) fn new(permit: HttpPermit, peer: Peer, unread: Duration) -> Arc<Self> {
        let limiter = permit.limiter();
        limiter.traffic.http2_connections(1);
        Arc::new(Self {
            limiter,
            address: permit.address(),
            peer,
            unread,
            runtime: Handle::current(),
            state: Mutex::new(State {
                idle: Some(Arc::new(permit)),
                idle_since: Instant::now(),
                requests: 0,
                sessions: 0,
                closing: false,
            }),
            changed: Notify::new(),
        })
    }

    /// Begins a request. Returns the permit of the idle time, if the connection has been idle.
    pub(super) fn begin_request(&self) -> Option<Arc<HttpPermit>> {
        let mut state = self.lock();
        state.requests += 1;
        let permit = state.idle.take();
        drop(state);
        self.limiter.traffic.http2_requests(1);
        self.changed.notify_one();
        permit
    }

    /// Waits for a permit for a request that is not the first one.
    pub(super) async fn acquire_permit(&self) -> Option<Arc<HttpPermit>> {
        self.limiter.acquire_for_request(self.address).await.map(Arc::new)
    }

    /// Ends a request, with its permit if it had one.
    pub(super) fn end_request(&self, permit: Option<Arc<HttpPermit>>) {
        self.limiter.traffic.http2_requests(-1);
        let mut state = self.lock();
        state.requests -= 1;
        self.after_stream(state, permit);
    }

    /// Begins a session.
    pub(super) fn begin_session(&self) {
        self.lock().sessions += 1;
        self.limiter.traffic.http2_sessions(1);
    }

    /// Ends a session.
    pub(super) fn end_session(&self) {
        self.limiter.traffic.http2_sessions(-1);
        let mut state = self.lock();
        state.sessions -= 1;
        self.after_stream(state, None);
    }

    /// Begins the idle time after the last stream, with a permit that its last request had or with a new one.
    fn after_stream(&self, mut state: MutexGuard<'_, State>, permit: Option<Arc<HttpPermit>>) {
        if state.requests > 0 || state.sessions > 0 {
            drop(state);
            // Returned to the limiter, without the lock.
            drop(permit);
            return;
        }
        // A connection in the reserve ends after its response. The monitor of a request that was too slow cannot be used again.
        let is_reserve = permit.as_ref().is_some_and(|permit| permit.is_reserve());
        let usable = permit.filter(|permit| !permit.is_reserve() && !permit.monitor.is_spent());
        state.idle_since = Instant::now();
        state.idle = match usable {
            Some(permit) => {
                permit.monitor.wait_for_head();
                Some(permit)
            }
            None if is_reserve => None,
            None => self.limiter.try_acquire_regular(self.address).map(Arc::new),
        };
        state.closing = state.idle.is_none();
        drop(state);
        self.changed.notify_one();
    }

    /// Completes when the connection should be closed: after `idle` without streams, or if its permit is needed.
    pub(super) async fn until_closing(&self, idle: Duration) -> CloseCause {
        loop {
            let (monitor, since) = {
                let state = self.lock();
                if state.closing {
                    return CloseCause::Idle;
                }
                (state.idle.as_ref().map(|permit| Arc::clone(&permit.monitor)), state.idle_since)
            };
            match monitor {
                None => self.changed.notified().await,
                Some(monitor) => tokio::select! {
                    () = self.changed.notified() => {}
                    _ = monitor.until_evicted() => return CloseCause::Evicted,
                    () = tokio::time::sleep_until(since + idle) => return CloseCause::Idle,
                },
            }
        }
    }

    /// The response to a request that gets no permit.
    pub(super) fn rejection(&self) -> Response {
        self.limiter.rejection()
    }

    pub(super) fn count_response(&self, status: StatusCode) {
        self.limiter.traffic.count_response(status);
    }

    /// Counts a stream whose client does not read its response.
    pub(super) fn count_cut(&self) {
        self.limiter.traffic.count_cut_stream();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.limiter.traffic.http2_connections(-1);
    }
}
