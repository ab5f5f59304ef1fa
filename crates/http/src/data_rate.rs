//! The progress of each connection relative to the minimum data rate, and the list of the slowest connections.
//!
//! A connection waits for its peer in one of three ways ([`WaitingFor`]). While it waits, its *lag* grows. Every transferred
//! byte reduces the lag by the time of one byte at the minimum rate. A peer that sends or reads at this rate has no lag, and
//! a peer that sends single bytes lags like a silent one. The time in which the server processes a request adds no lag.
//!
//! Invariants:
//! - Locks are taken in this order: the state of a [`DataRateMonitor`], then [`SlowConnections`]. Neither is held over an await.
//! - [`SlowConnections`] lists a connection once, and only while it waits for its peer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits::AddressKey;
use tidings_metrics::{Label as _, labels};

labels! {
    /// The data that a connection waits for, in the order of eviction.
    #[derive(PartialOrd, Ord)]
    pub(super) enum WaitingFor {
        /// The head of the next request. Closing the connection loses little or nothing.
        Head => "head",
        /// The rest of a request's body.
        Body => "body",
        /// The peer's reading of a response.
        Response => "response",
    }
}

impl WaitingFor {
    /// The least lag of a connection that can be evicted.
    pub(super) fn grace(self) -> Duration {
        match self {
            Self::Head | Self::Body => GRACE,
            Self::Response => 4 * GRACE,
        }
    }
}

/// The lag that is tolerated while other connections wait for a permit.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// Connections that wait for their peers, ordered by their lag.
#[derive(Debug, Default)]
pub(super) struct SlowConnections(Mutex<[BTreeMap<Key, Arc<DataRateMonitor>>; 3]>);

/// The start of a connection's lag, and the number of the connection.
type Key = (Instant, u64);

impl SlowConnections {
    /// Evicts the connection with the greatest lag, of one address if one is given. Returns the data that it waited for, or
    /// `None` if no connection lags enough.
    pub(super) fn evict(&self, address: Option<AddressKey>) -> Option<WaitingFor> {
        let now = Instant::now();
        let mut lists = self.lock();
        let (wait, monitor) = WaitingFor::ALL.iter().copied().find_map(|wait| {
            let list = &mut lists[wait as usize];
            let lags = |since: Instant| now.saturating_duration_since(since) >= wait.grace();
            let mut lagging = list.iter().take_while(|((since, _), _)| lags(*since));
            let (key, _) = lagging
                .find(|(_, monitor)| address.is_none() || monitor.address.get().copied() == address)?;
            let key = *key;
            Some((wait, list.remove(&key)?))
        })?;
        drop(lists);
        monitor.evict(wait);
        Some(wait)
    }

    fn lock(&self) -> MutexGuard<'_, [BTreeMap<Key, Arc<DataRateMonitor>>; 3]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The progress of one connection relative to the minimum rate.
#[derive(Debug)]
pub(super) struct DataRateMonitor {
    number: u64,
    /// Set once the address of the client is known.
    address: OnceLock<AddressKey>,
    slowest: Arc<SlowConnections>,
    /// The minimum rate in bytes per second. With 0 any byte clears the lag.
    rate: u32,
    /// The longest lag of a body.
    body_limit: Duration,
    state: Mutex<State>,
    evicted: AtomicBool,
    too_slow: AtomicBool,
    eviction: Notify,
}

#[derive(Debug, Default)]
struct State {
    head: Option<Instant>,
    body: Lag,
    response: Lag,
    listed: Option<(WaitingFor, Key)>,
    evicted_as: Option<WaitingFor>,
    /// The task that waits for more data of a body.
    reader: Option<Waker>,
    has_received_request: bool,
}

/// The lag of one direction behind the minimum rate.
#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    accrued: Duration,
    waits_since: Option<Instant>,
}

impl Lag {
    /// Starts to wait, unless it waits already. Returns the start of the lag.
    fn wait(&mut self, now: Instant) -> Instant {
        let since = *self.waits_since.get_or_insert(now);
        since.checked_sub(self.accrued).unwrap_or(since)
    }

    fn since(&self) -> Option<Instant> {
        self.waits_since.map(|since| since.checked_sub(self.accrued).unwrap_or(since))
    }

    /// Records the transfer of `bytes`, which ends the wait.
    fn advance(&mut self, bytes: usize, rate: u32, now: Instant) {
        if let Some(since) = self.waits_since.take() {
            self.accrued += now.saturating_duration_since(since);
        }
        if rate == 0 {
            if bytes > 0 {
                self.accrued = Duration::ZERO;
            }
            return;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let recovered = Duration::from_micros(bytes.saturating_mul(1_000_000) / u64::from(rate));
        self.accrued = self.accrued.saturating_sub(recovered);
    }
}

impl DataRateMonitor {
    pub(super) fn new(
        number: u64,
        address: Option<AddressKey>,
        slowest: Arc<SlowConnections>,
        rate: u32,
        body_limit: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            address: address.map_or_else(OnceLock::new, OnceLock::from),
            slowest,
            rate,
            body_limit,
            state: Mutex::default(),
            evicted: AtomicBool::new(false),
            too_slow: AtomicBool::new(false),
            eviction: Notify::new(),
        })
    }

    /// Sets the address of the client, which a PROXY header has stated.
    pub(super) fn assign(&self, address: AddressKey) {
        // A connection has at most one header.
        let _ = self.address.set(address);
    }

    /// Records that the connection starts to wait for the next head.
    pub(super) fn wait_for_head(self: &Arc<Self>) {
        self.change(|state, now| {
            state.head = Some(now);
            state.body = Lag::default();
            state.response.accrued = Duration::ZERO;
        });
    }

    /// Records that the head of a request was received.
    pub(super) fn head_received(self: &Arc<Self>) {
        self.change(|state, _| {
            state.head = None;
            state.has_received_request = true;
        });
    }

    /// Records that the connection waits for more of a body. Returns the deadline, or `None` if it has passed.
    pub(super) fn wait_for_body(self: &Arc<Self>, reader: &Waker) -> Option<Instant> {
        let mut until = None;
        let limit = self.body_limit;
        self.change(|state, now| {
            let since = state.body.wait(now);
            state.reader = Some(reader.clone());
            until = since.checked_add(limit).filter(|until| *until > now);
        });
        if until.is_none() || self.is_evicted() {
            self.too_slow.store(true, Ordering::Relaxed);
            return None;
        }
        until
    }

    /// Records that `bytes` of a body were received.
    pub(super) fn body_received(self: &Arc<Self>, bytes: usize) {
        let rate = self.rate;
        self.change(|state, now| state.body.advance(bytes, rate, now));
    }

    /// Records that the connection no longer waits for a body.
    pub(super) fn body_finished(self: &Arc<Self>) {
        self.change(|state, _| {
            state.body = Lag::default();
            state.reader = None;
        });
    }

    /// Records that the socket is not writable. Returns the start of the peer's lag.
    pub(super) fn write_blocked(self: &Arc<Self>) -> Instant {
        let mut since = None;
        self.change(|state, now| since = Some(state.response.wait(now)));
        since.unwrap_or_else(Instant::now)
    }

    /// Records that `bytes` were written to the socket.
    pub(super) fn written(self: &Arc<Self>, bytes: usize) {
        let rate = self.rate;
        self.change(|state, now| state.response.advance(bytes, rate, now));
    }

    /// Whether a request's body was received too slowly, or the connection was evicted while it waited for a body.
    pub(super) fn is_too_slow(&self) -> bool {
        self.too_slow.load(Ordering::Relaxed)
    }

    /// Records that a chunk of a response was handed over and is not read yet. `reader` is woken at an eviction.
    pub(super) fn chunk_handed_over(self: &Arc<Self>, reader: &Waker) {
        self.change(|state, now| {
            state.response.wait(now);
            state.reader = Some(reader.clone());
        });
    }

    /// The start of the peer's lag in reading a response; `None` if it does not lag.
    pub(super) fn response_lag_since(&self) -> Option<Instant> {
        self.lock().response.since()
    }

    /// The data that the connection waited for when it was evicted.
    pub(super) fn evicted_as(&self) -> Option<WaitingFor> {
        self.lock().evicted_as
    }

    /// Whether no further request may use this monitor.
    pub(super) fn is_spent(&self) -> bool {
        self.is_evicted() || self.is_too_slow()
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Completes when the connection is evicted. Returns the data that it waited for, and whether it has sent a request.
    pub(super) async fn until_evicted(&self) -> (WaitingFor, bool) {
        loop {
            self.eviction.notified().await;
            let state = self.lock();
            if let Some(wait) = state.evicted_as {
                return (wait, state.has_received_request);
            }
        }
    }

    /// Records the end of the connection and removes it from the list.
    pub(super) fn close(self: &Arc<Self>) {
        self.evicted.store(true, Ordering::Relaxed);
        self.change(|_, _| {});
    }

    fn evict(&self, wait: WaitingFor) {
        let mut state = self.lock();
        state.evicted_as = Some(wait);
        self.evicted.store(true, Ordering::Relaxed);
        let reader = state.reader.take();
        drop(state);
        self.eviction.notify_one();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Changes the state, and moves the connection to the list that belongs to the new state.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State, Instant)) {
        let mut state = self.lock();
        change(&mut state, Instant::now());
        let key = |since: Instant| (since, self.number);
        let target = if self.is_evicted() {
            None
        } else if let Some(since) = state.response.since() {
            Some((WaitingFor::Response, key(since)))
        } else if let Some(since) = state.body.since() {
            Some((WaitingFor::Body, key(since)))
        } else {
            state.head.map(|since| (WaitingFor::Head, key(since)))
        };
        if target == state.listed {
            return;
        }
        let mut lists = self.slowest.lock();
        if let Some((wait, key)) = std::mem::replace(&mut state.listed, target) {
            lists[wait as usize].remove(&key);
        }
        if let Some((wait, key)) = target {
            lists[wait as usize].insert(key, Arc::clone(self));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_at_the_minimum_rate_has_no_lag() {
        let began = Instant::now();
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        let mut steady = Lag::default();
        for second in 0..60 {
            assert_eq!(steady.wait(after(second)), after(second), "a lag after {second} s");
            steady.advance(100, 100, after(second + 1));
        }
        let mut dripping = Lag::default();
        for second in 0..10 {
            dripping.wait(after(second));
            dripping.advance(10, 100, after(second + 1));
        }
        assert_eq!(dripping.accrued, Duration::from_secs(9));
        // A faster transfer gives no credit for later.
        let mut early = Lag::default();
        early.wait(after(0));
        early.advance(1_000_000, 100, after(1));
        assert_eq!(early.wait(after(2)), after(2));
    }

    #[test]
    fn idle_connections_are_evicted_first_and_then_those_with_the_greatest_lag() {
        let slowest = Arc::new(SlowConnections::default());
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).expect("a minute of uptime");
        let monitor = |number, address| {
            DataRateMonitor::new(number, address, Arc::clone(&slowest), 100, Duration::from_secs(10))
        };
        let (body, worse, idle, fresh) =
            (monitor(1, None), monitor(2, None), monitor(3, None), monitor(4, None));
        body.change(|state, _| state.body.waits_since = Some(long_ago + Duration::from_secs(1)));
        worse.change(|state, _| state.body.waits_since = Some(long_ago));
        idle.change(|state, _| state.head = Some(long_ago + Duration::from_secs(2)));
        fresh.wait_for_head();
        assert_eq!(slowest.evict(None), Some(WaitingFor::Head));
        assert!(idle.is_evicted() && !fresh.is_evicted());
        assert_eq!(slowest.evict(None), Some(WaitingFor::Body));
        assert!(worse.is_evicted() && !body.is_evicted());
        assert_eq!(slowest.evict(None), Some(WaitingFor::Body));
        assert_eq!(slowest.evict(None), None);
        fresh.close();
        assert!(slowest.lock().iter().all(BTreeMap::is_empty), "a closed connection is still listed");
    }
}
