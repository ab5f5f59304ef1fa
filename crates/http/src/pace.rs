//! How far a connection's peer keeps up with the minimum data rate, and which connections are the slowest.
//!
//! A connection waits for its peer in one of three ways ([`Wait`]). While it does, its time *behind* grows; every byte
//! that moves takes it back by a byte's time at the minimum rate. So a peer that sends or reads steadily is never behind,
//! and one that sends a byte now and then falls behind like one that sends nothing. A connection whose server is at
//! work is not behind, however long that takes.
//!
//! Invariants:
//! - Locks are taken in this order: a pace, then [`SlowConnections`]; neither is held over an await.
//! - A connection is listed in [`SlowConnections`] only while it waits for its peer, and once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limiter::AddressKey;
use tidings_metrics::{Label as _, labels};

labels! {
    /// What a connection waits for, in the order in which connections give way.
    #[derive(PartialOrd, Ord)]
    pub(super) enum Wait {
        /// The head of the next request: little or nothing is lost with the connection.
        Head => "head",
        /// The rest of a request's body.
        Body => "body",
        /// The peer, to read a response.
        Answer => "answer",
    }
}

impl Wait {
    /// How far behind a connection must be before it can be evicted.
    pub(super) fn grace(self) -> Duration {
        match self {
            Self::Head | Self::Body => GRACE,
            Self::Answer => 4 * GRACE,
        }
    }
}

/// How far behind a connection may be while others wait for a permit.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// Connections that wait for their peers, ordered by how far they are behind the minimum rate.
#[derive(Debug, Default)]
pub(super) struct SlowConnections(Mutex<[BTreeMap<Key, Arc<Pace>>; 3]>);

/// Since when a connection is effectively behind, and its number.
type Key = (Instant, u64);

impl SlowConnections {
    /// Evicts the connection that is furthest behind, of one address if one is given. Returns what it waited for, or
    /// `None` when no connection is far enough behind.
    pub(super) fn evict(&self, address: Option<AddressKey>) -> Option<Wait> {
        let now = Instant::now();
        let mut lists = self.lock();
        let (wait, pace) = Wait::ALL.iter().copied().find_map(|wait| {
            let list = &mut lists[wait as usize];
            let is_behind = |since: Instant| now.saturating_duration_since(since) >= wait.grace();
            let mut behind = list.iter().take_while(|((since, _), _)| is_behind(*since));
            let (key, _) = behind.find(|(_, pace)| address.is_none() || pace.address == address)?;
            let key = *key;
            Some((wait, list.remove(&key)?))
        })?;
        drop(lists);
        pace.evict(wait);
        Some(wait)
    }

    fn lock(&self) -> MutexGuard<'_, [BTreeMap<Key, Arc<Pace>>; 3]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far one connection is behind the minimum rate.
#[derive(Debug)]
pub(super) struct Pace {
    number: u64,
    address: Option<AddressKey>,
    slowest: Arc<SlowConnections>,
    /// The minimum rate in bytes per second; 0 means that any byte clears the lag.
    rate: u32,
    /// How far behind a body may fall.
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
    answer: Lag,
    listed: Option<(Wait, Key)>,
    evicted_as: Option<Wait>,
    /// The task that waits for more of a body.
    reader: Option<Waker>,
    has_asked: bool,
}

/// How far one direction is behind the minimum rate.
#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    behind: Duration,
    waits_since: Option<Instant>,
}

impl Lag {
    /// Starts to wait, unless it waits already. Returns since when it is behind.
    fn wait(&mut self, now: Instant) -> Instant {
        let since = *self.waits_since.get_or_insert(now);
        since.checked_sub(self.behind).unwrap_or(since)
    }

    fn since(&self) -> Option<Instant> {
        self.waits_since.map(|since| since.checked_sub(self.behind).unwrap_or(since))
    }

    /// `bytes` have been transferred, and the direction does not wait any more.
    fn advance(&mut self, bytes: usize, rate: u32, now: Instant) {
        if let Some(since) = self.waits_since.take() {
            self.behind += now.saturating_duration_since(since);
        }
        if rate == 0 {
            if bytes > 0 {
                self.behind = Duration::ZERO;
            }
            return;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let recovered = Duration::from_micros(bytes.saturating_mul(1_000_000) / u64::from(rate));
        self.behind = self.behind.saturating_sub(recovered);
    }
}

impl Pace {
    pub(super) fn new(
        number: u64,
        address: Option<AddressKey>,
        slowest: Arc<SlowConnections>,
        rate: u32,
        body_limit: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            address,
            slowest,
            rate,
            body_limit,
            state: Mutex::default(),
            evicted: AtomicBool::new(false),
            too_slow: AtomicBool::new(false),
            eviction: Notify::new(),
        })
    }

    /// The connection waits for the next head from now on.
    pub(super) fn head_awaited(self: &Arc<Self>) {
        self.change(|state, now| {
            state.head = Some(now);
            state.body = Lag::default();
            state.answer.behind = Duration::ZERO;
        });
    }

    /// The head of a request was received.
    pub(super) fn head_received(self: &Arc<Self>) {
        self.change(|state, _| {
            state.head = None;
            state.has_asked = true;
        });
    }

    /// The connection waits for the rest of a body. Returns its deadline, or `None` when that has passed.
    pub(super) fn body_awaited(self: &Arc<Self>, reader: &Waker) -> Option<Instant> {
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

    /// `bytes` of a body were received.
    pub(super) fn body_received(self: &Arc<Self>, bytes: usize) {
        let rate = self.rate;
        self.change(|state, now| state.body.advance(bytes, rate, now));
    }

    /// The connection does not wait for a body any more.
    pub(super) fn body_finished(self: &Arc<Self>) {
        self.change(|state, _| {
            state.body = Lag::default();
            state.reader = None;
        });
    }

    /// The socket is not writable. Returns since when the peer is behind.
    pub(super) fn write_blocked(self: &Arc<Self>) -> Instant {
        let mut since = None;
        self.change(|state, now| since = Some(state.answer.wait(now)));
        since.unwrap_or_else(Instant::now)
    }

    /// `bytes` were written to the socket.
    pub(super) fn written(self: &Arc<Self>, bytes: usize) {
        let rate = self.rate;
        self.change(|state, now| state.answer.advance(bytes, rate, now));
    }

    /// Whether a request's body was received too slowly, or the connection was evicted while it waited for one.
    pub(super) fn is_too_slow(&self) -> bool {
        self.too_slow.load(Ordering::Relaxed)
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Completes when the connection is evicted. Returns what it waited for, and whether it has sent a request.
    pub(super) async fn evicted(&self) -> (Wait, bool) {
        loop {
            self.eviction.notified().await;
            let state = self.lock();
            if let Some(wait) = state.evicted_as {
                return (wait, state.has_asked);
            }
        }
    }

    /// The connection has ended.
    pub(super) fn leave(self: &Arc<Self>) {
        self.evicted.store(true, Ordering::Relaxed);
        self.change(|_, _| {});
    }

    fn evict(&self, wait: Wait) {
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

    /// Changes the state, and moves the connection to the list that belongs to it.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State, Instant)) {
        let mut state = self.lock();
        change(&mut state, Instant::now());
        let key = |since: Instant| (since, self.number);
        let wanted = if self.is_evicted() {
            None
        } else if let Some(since) = state.answer.since() {
            Some((Wait::Answer, key(since)))
        } else if let Some(since) = state.body.since() {
            Some((Wait::Body, key(since)))
        } else {
            state.head.map(|since| (Wait::Head, key(since)))
        };
        if wanted == state.listed {
            return;
        }
        let mut lists = self.slowest.lock();
        if let Some((wait, key)) = std::mem::replace(&mut state.listed, wanted) {
            lists[wait as usize].remove(&key);
        }
        if let Some((wait, key)) = wanted {
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
    fn bytes_at_the_minimum_rate_make_up_for_the_time_they_took() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let mut steady = Lag::default();
        for second in 0..60 {
            assert_eq!(steady.wait(at(second)), at(second), "behind after {second} s");
            steady.advance(100, 100, at(second + 1));
        }
        let mut dripping = Lag::default();
        for second in 0..10 {
            dripping.wait(at(second));
            dripping.advance(10, 100, at(second + 1));
        }
        assert_eq!(dripping.behind, Duration::from_secs(9));
        // What came early is not saved up for later.
        let mut early = Lag::default();
        early.wait(at(0));
        early.advance(1_000_000, 100, at(1));
        assert_eq!(early.wait(at(2)), at(2));
    }

    #[test]
    fn those_furthest_behind_give_way_first_and_idle_ones_before_them() {
        let slowest = Arc::new(SlowConnections::default());
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).expect("a minute of uptime");
        let pace =
            |number, address| Pace::new(number, address, Arc::clone(&slowest), 100, Duration::from_secs(10));
        let (body, worse, idle, fresh) = (pace(1, None), pace(2, None), pace(3, None), pace(4, None));
        body.change(|state, _| state.body.waits_since = Some(long_ago + Duration::from_secs(1)));
        worse.change(|state, _| state.body.waits_since = Some(long_ago));
        idle.change(|state, _| state.head = Some(long_ago + Duration::from_secs(2)));
        fresh.head_awaited();
        assert_eq!(slowest.evict(None), Some(Wait::Head));
        assert!(idle.is_evicted() && !fresh.is_evicted());
        assert_eq!(slowest.evict(None), Some(Wait::Body));
        assert!(worse.is_evicted() && !body.is_evicted());
        assert_eq!(slowest.evict(None), Some(Wait::Body));
        assert_eq!(slowest.evict(None), None);
        fresh.leave();
        assert!(slowest.lock().iter().all(BTreeMap::is_empty), "left listed");
    }
}
