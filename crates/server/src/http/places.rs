//! Places for HTTP connections: how many there are, how many of them one address may have, and a small reserve beyond
//! them in which heads are still read.
//!
//! A connection that finds all places taken gets one of the reserve. Probes ([`PROBES`]) and WebSocket handshakes are
//! answered from there; another request waits a moment for a place and is refused with 503 otherwise. Meanwhile the
//! slowest connections are asked to give way.
//!
//! Invariants:
//! - There are never more than `connections` + [`RESERVE`] connections.
//! - A connection keeps its place until it is dropped; every place is given back once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse as _, Response};
use tidings_log_throttle::LogThrottle;
use tidings_shard::client_network;
use tokio::sync::Notify;

use super::pace::{Pace, Slowest};
use super::serve::Bounds;
use super::traffic::{Exceeded, Traffic};

/// Places beyond the limit, for probes.
pub(crate) const RESERVE: usize = 64;
/// How many of those one address may have, when it is at its own limit.
const RESERVE_OF_ADDRESS: usize = RESERVE / 4;
/// What is answered from the reserve.
pub(super) const PROBES: [&str; 3] = ["/health", "/ready", "/metrics"];
/// How the paths of WebSockets begin, whose handshakes are answered from there too.
pub(super) const WEBSOCKETS: [&str; 4] =
    ["/connection/websocket", "/connection/uni_websocket", "/tables/ws", "/parser/ws"];
/// How long a request in the reserve may wait for a place; the shorter time holds while the reserve is half full.
const PATIENCE: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(250)];
/// How often a slow connection is looked for while one waits for a place.
const ROUND: Duration = Duration::from_millis(50);

/// What counts as one address, see [`client_network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AddressKey(IpAddr);

impl AddressKey {
    pub(super) fn new(address: IpAddr) -> Self {
        Self(client_network(address))
    }
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    bounds: Bounds,
    taken: Mutex<Taken>,
    freed: Notify,
    slowest: Arc<Slowest>,
    pub(super) traffic: Arc<Traffic>,
    full: LogThrottle,
    full_for_address: LogThrottle,
}

#[derive(Debug, Default)]
struct Taken {
    regular: usize,
    reserve: usize,
    by_address: HashMap<AddressKey, OfAddress>,
    last_number: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfAddress {
    regular: usize,
    reserve: usize,
}

/// A place that a connection has; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: Option<AddressKey>,
    is_regular: AtomicBool,
    pub(super) pace: Arc<Pace>,
}

enum Entry {
    Place(Place),
    /// All places and the reserve are taken.
    Full,
    /// The address has all that it may have.
    AddressFull,
}

impl Places {
    pub(super) fn new(bounds: Bounds, traffic: Arc<Traffic>) -> Self {
        Self {
            bounds,
            taken: Mutex::default(),
            freed: Notify::new(),
            slowest: Arc::default(),
            traffic,
            full: LogThrottle::default(),
            full_for_address: LogThrottle::default(),
        }
    }

    /// Gives a new connection a place, as soon as there is one; nothing when its address has all that it may have.
    pub(super) async fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Place> {
        let is_counted = |address: &IpAddr| self.bounds.of_loopback || !address.to_canonical().is_loopback();
        let key = address.filter(is_counted).map(AddressKey::new);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.try_enter(key) {
                Entry::Place(place) => return Some(place),
                Entry::AddressFull => {
                    self.evict(key);
                    self.traffic.refused.add(Exceeded::Address);
                    if let Some(times) = self.full_for_address.count() {
                        tracing::warn!(
                            ?address,
                            limit = self.bounds.of_address,
                            times,
                            "HTTP connections of one address are past http.connection_limit_per_address; new ones are closed"
                        );
                    }
                    return None;
                }
                Entry::Full => {
                    self.evict(None);
                    let _ = tokio::time::timeout(ROUND, freed).await;
                }
            }
        }
    }

    fn try_enter(self: &Arc<Self>, address: Option<AddressKey>) -> Entry {
        let mut taken = self.lock();
        let own = address.and_then(|address| taken.by_address.get(&address).copied()).unwrap_or_default();
        let is_over = address.is_some() && own.regular >= self.bounds.of_address;
        let is_regular = taken.regular < self.bounds.connections && !is_over;
        if !is_regular && taken.reserve >= RESERVE {
            return Entry::Full;
        }
        if is_over && own.reserve >= RESERVE_OF_ADDRESS {
            return Entry::AddressFull;
        }
        taken.last_number += 1;
        let pace = Pace::new(
            taken.last_number,
            address,
            Arc::clone(&self.slowest),
            self.bounds.min_rate,
            self.bounds.body,
        );
        count(&mut taken, address, is_regular, true);
        drop(taken);
        self.traffic.connections.fetch_add(1, Ordering::Relaxed);
        if !is_regular {
            self.traffic.reserve.fetch_add(1, Ordering::Relaxed);
            self.evict(address.filter(|_| is_over));
            if !is_over && let Some(times) = self.full.count() {
                tracing::warn!(
                    limit = self.bounds.connections,
                    times,
                    "all HTTP connections are in use (http.connection_limit); slow ones are closed for new ones"
                );
            }
        }
        pace.head_waits();
        Entry::Place(Place {
            places: Arc::clone(self),
            address,
            is_regular: AtomicBool::new(is_regular),
            pace,
        })
    }

    /// Asks the slowest connection to give way, of one address if one is given.
    fn evict(&self, address: Option<AddressKey>) {
        if let Some(wait) = self.slowest.evict(address) {
            self.traffic.gave_way.add(wait);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a place as taken, or as free again.
fn count(taken: &mut Taken, address: Option<AddressKey>, is_regular: bool, enters: bool) {
    let change = |n: &mut usize| *n = if enters { *n + 1 } else { n.saturating_sub(1) };
    change(if is_regular { &mut taken.regular } else { &mut taken.reserve });
    if let Some(address) = address {
        let own = taken.by_address.entry(address).or_default();
        change(if is_regular { &mut own.regular } else { &mut own.reserve });
        if own.regular + own.reserve == 0 {
            taken.by_address.remove(&address);
        }
    }
}

impl Place {
    /// Whether it is one of the reserve.
    pub(super) fn is_reserve(&self) -> bool {
        !self.is_regular.load(Ordering::Relaxed)
    }

    /// Exchanges one of the reserve for a regular one; waits for that a moment. Gives whether it is a regular one now.
    pub(super) async fn promote(&self) -> bool {
        let began = Instant::now();
        loop {
            let freed = self.places.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let crowded_address = match self.try_promote() {
                Ok(()) => return true,
                Err(address) => address,
            };
            let is_crowded = self.places.lock().reserve > RESERVE / 2;
            let left = PATIENCE[usize::from(is_crowded)].saturating_sub(began.elapsed());
            if left.is_zero() || self.pace.is_evicted() {
                self.places.traffic.refused.add(Exceeded::Limit);
                return false;
            }
            self.places.evict(crowded_address);
            let _ = tokio::time::timeout(left.min(ROUND), freed).await;
        }
    }

    /// The answer to a request for which there is no place.
    pub(super) fn refusal(&self) -> Response {
        self.places.traffic.count_response(StatusCode::SERVICE_UNAVAILABLE);
        let limit = self.places.bounds.connections;
        let text =
            format!("all {limit} HTTP connections are in use (http.connection_limit); try again later\n");
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
    }

    /// # Errors
    /// The address, when it has all that it may have; nothing, when all places are taken.
    fn try_promote(&self) -> Result<(), Option<AddressKey>> {
        if !self.is_reserve() {
            return Ok(());
        }
        let bounds = &self.places.bounds;
        let mut taken = self.places.lock();
        let own =
            self.address.and_then(|address| taken.by_address.get(&address).copied()).unwrap_or_default();
        let crowded_address = self.address.filter(|_| own.regular >= bounds.of_address);
        if taken.regular >= bounds.connections || crowded_address.is_some() {
            return Err(crowded_address);
        }
        // Both under one lock: the address stays known meanwhile.
        count(&mut taken, self.address, true, true);
        count(&mut taken, self.address, false, false);
        drop(taken);
        self.places.traffic.reserve.fetch_sub(1, Ordering::Relaxed);
        self.is_regular.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pace.leave();
        let is_regular = !self.is_reserve();
        count(&mut self.places.lock(), self.address, is_regular, false);
        let traffic = &self.places.traffic;
        traffic.connections.fetch_sub(1, Ordering::Relaxed);
        if !is_regular {
            traffic.reserve.fetch_sub(1, Ordering::Relaxed);
        }
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, of_address: usize) -> Arc<Places> {
        let bounds = Bounds { of_address, ..Bounds::new(connections) };
        Arc::new(Places::new(bounds, Arc::default()))
    }

    fn enter(places: &Arc<Places>, address: &str) -> Option<Place> {
        match places.try_enter(Some(AddressKey::new(address.parse().expect("an address")))) {
            Entry::Place(place) => Some(place),
            Entry::Full | Entry::AddressFull => None,
        }
    }

    #[test]
    fn one_address_has_no_more_places_than_it_may_and_leaves_the_others_to_others() {
        let places = places(10, 4);
        let own: Vec<_> = (0..4).map(|_| enter(&places, "192.0.2.1").expect("a place")).collect();
        assert!(own.iter().all(|place| !place.is_reserve()));
        let over: Vec<_> = (0..RESERVE_OF_ADDRESS).filter_map(|_| enter(&places, "192.0.2.1")).collect();
        assert_eq!(over.len(), RESERVE_OF_ADDRESS);
        assert!(over.iter().all(Place::is_reserve));
        assert!(enter(&places, "192.0.2.1").is_none(), "past its part of the reserve");
        assert!(!enter(&places, "192.0.2.2").expect("a place").is_reserve());
        drop(own);
        assert_eq!(over[0].try_promote(), Ok(()));
        assert!(!over[0].is_reserve());
        drop(over);
        let taken = places.lock();
        assert!(taken.by_address.is_empty());
        assert_eq!((taken.regular, taken.reserve), (0, 0));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let places = places(10, 1);
        let first = enter(&places, "2001:db8::1").expect("a place");
        assert!(!first.is_reserve());
        assert!(enter(&places, "2001:db8::2").expect("a place").is_reserve());
        assert!(!enter(&places, "2001:db8:0:1::1").expect("a place").is_reserve());
        assert_eq!(
            AddressKey::new("::ffff:192.0.2.1".parse().unwrap()).0,
            "192.0.2.1".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn connections_are_bounded_by_the_limit_and_the_reserve() {
        let places = places(2, 1000);
        let all: Vec<_> = (0..100).filter_map(|_| enter(&places, "192.0.2.1")).collect();
        assert_eq!(all.len(), 2 + RESERVE);
        assert_eq!(all.iter().filter(|place| place.is_reserve()).count(), RESERVE);
    }
}
