//! The limit on HTTP connections, in total and for each address, with a small reserve in which heads are still read.
//!
//! A connection past the limit gets a permit from the reserve. The reserve serves probes ([`super::ReservePaths`]) and WebSocket
//! handshakes; any other request waits briefly for a regular permit and is rejected with 503 otherwise. Meanwhile the
//! slowest connections are evicted.
//!
//! Invariants:
//! - There are never more than `connections` + [`RESERVE`] connections.
//! - A connection holds its permit until it is dropped; every permit is returned once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse as _, Response};
use tidings_log_throttle::LogThrottle;
use tokio::sync::Notify;

use super::data_rate::{DataRateMonitor, SlowConnections};
use super::limits::{AddressKey, HttpLimits, ReservePaths};
use super::traffic::{ExceededLimit, Traffic};

/// Permits beyond the limit, mainly for probes.
pub const RESERVE: usize = 64;
/// The most permits of the reserve for one address at its own limit.
const RESERVE_OF_ADDRESS: usize = RESERVE / 4;
/// How long a request in the reserve may wait for a regular permit. The shorter time applies while more than half of the
/// reserve is in use.
const PROMOTION_TIMEOUT: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(250)];
/// The interval at which slow connections are evicted while another one waits for a permit.
const EVICTION_INTERVAL: Duration = Duration::from_millis(50);

/// Hands out permits to connections.
#[derive(Debug)]
pub(super) struct HttpLimiter {
    limits: HttpLimits,
    occupancy: Mutex<Occupancy>,
    freed: Notify,
    slowest: Arc<SlowConnections>,
    pub(super) traffic: Arc<Traffic>,
    full: LogThrottle,
    full_for_address: LogThrottle,
}

#[derive(Debug, Default)]
struct Occupancy {
    regular: usize,
    reserve: usize,
    by_address: HashMap<AddressKey, AddressOccupancy>,
    last_number: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct AddressOccupancy {
    regular: usize,
    reserve: usize,
}

/// A connection's permit, returned when dropped.
#[derive(Debug)]
pub(super) struct HttpPermit {
    limiter: Arc<HttpLimiter>,
    address: Option<AddressKey>,
    is_regular: AtomicBool,
    pub(super) monitor: Arc<DataRateMonitor>,
}

enum Acquired {
    Permit(HttpPermit),
    /// All regular permits and the reserve are in use.
    Full,
    /// The address is at its limit.
    AddressFull,
}

impl HttpLimiter {
    pub(super) fn new(limits: HttpLimits, traffic: Arc<Traffic>) -> Self {
        Self {
            limits,
            occupancy: Mutex::default(),
            freed: Notify::new(),
            slowest: Arc::default(),
            traffic,
            full: LogThrottle::default(),
            full_for_address: LogThrottle::default(),
        }
    }

    /// Waits for a permit for a new connection; `None` when its address is at its limit.
    pub(super) async fn acquire(self: &Arc<Self>, address: Option<IpAddr>) -> Option<HttpPermit> {
        let key = address.and_then(|address| self.limited_key(address));
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.try_acquire(key) {
                Acquired::Permit(permit) => return Some(permit),
                Acquired::AddressFull => {
                    self.reject_address(key);
                    return None;
                }
                Acquired::Full => {
                    self.evict(None);
                    let _ = tokio::time::timeout(EVICTION_INTERVAL, freed).await;
                }
            }
        }
    }

    /// The address in the form in which it is limited; `None` if it is not limited.
    fn limited_key(&self, address: IpAddr) -> Option<AddressKey> {
        let is_limited = self.limits.of_loopback || !address.to_canonical().is_loopback();
        is_limited.then(|| AddressKey::new(address))
    }

    /// Records that a connection of an address at its limit is closed.
    fn reject_address(&self, address: Option<AddressKey>) {
        self.evict(address);
        self.traffic.rejected.add(ExceededLimit::Address);
        if let Some(times) = self.full_for_address.count() {
            tracing::warn!(
                address = ?address.map(|key| key.0),
                limit = self.limits.of_address,
                times,
                "one address has reached http.connection_limit_per_address; its new HTTP connections are closed"
            );
        }
    }

    /// Waits for a permit for a request on an HTTP/2 connection that has other requests or sessions; `None` if there is
    /// none in time.
    pub(super) async fn acquire_for_request(
        self: &Arc<Self>,
        address: Option<AddressKey>,
    ) -> Option<HttpPermit> {
        let began = Instant::now();
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let full_address = match self.try_acquire(address) {
                Acquired::Permit(permit) => return Some(permit),
                Acquired::AddressFull => address,
                Acquired::Full => None,
            };
            let left = PROMOTION_TIMEOUT[0].saturating_sub(began.elapsed());
            if left.is_zero() {
                self.traffic.rejected.add(ExceededLimit::Limit);
                return None;
            }
            self.evict(full_address);
            let _ = tokio::time::timeout(left.min(EVICTION_INTERVAL), freed).await;
        }
    }

    /// A regular permit, if one is free.
    pub(super) fn try_acquire_regular(self: &Arc<Self>, address: Option<AddressKey>) -> Option<HttpPermit> {
        match self.try_acquire(address) {
            Acquired::Permit(permit) => Some(permit).filter(|permit| !permit.is_reserve()),
            Acquired::Full | Acquired::AddressFull => None,
        }
    }

    /// The response to a request that gets no regular permit.
    pub(super) fn rejection(&self) -> Response {
        self.traffic.count_response(StatusCode::SERVICE_UNAVAILABLE);
        let limit = self.limits.connections;
        let text =
            format!("all {limit} HTTP connections are in use (http.connection_limit); try again later\n");
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
    }

    fn try_acquire(self: &Arc<Self>, address: Option<AddressKey>) -> Acquired {
        let mut occupancy = self.lock();
        let own = address.and_then(|address| occupancy.by_address.get(&address).copied()).unwrap_or_default();
        let is_over = address.is_some() && own.regular >= self.limits.of_address;
        let is_regular = occupancy.regular < self.limits.connections && !is_over;
        if !is_regular && occupancy.reserve >= RESERVE {
            return Acquired::Full;
        }
        if is_over && own.reserve >= RESERVE_OF_ADDRESS {
            return Acquired::AddressFull;
        }
        occupancy.last_number += 1;
        let monitor = DataRateMonitor::new(
            occupancy.last_number,
            address,
            Arc::clone(&self.slowest),
            self.limits.min_rate,
            self.limits.body,
        );
        count(&mut occupancy, address, is_regular, true);
        drop(occupancy);
        self.traffic.connections.fetch_add(1, Ordering::Relaxed);
        if !is_regular {
            self.traffic.reserve.fetch_add(1, Ordering::Relaxed);
            self.evict(address.filter(|_| is_over));
            if !is_over && let Some(times) = self.full.count() {
                tracing::warn!(
                    limit = self.limits.connections,
                    times,
                    "all HTTP connections are in use (http.connection_limit); slow ones are closed for new ones"
                );
            }
        }
        monitor.wait_for_head();
        Acquired::Permit(HttpPermit {
            limiter: Arc::clone(self),
            address,
            is_regular: AtomicBool::new(is_regular),
            monitor,
        })
    }

    /// Evicts the slowest connection, of one address if one is given.
    fn evict(&self, address: Option<AddressKey>) {
        if let Some(wait) = self.slowest.evict(address) {
            self.traffic.evicted.add(wait);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a permit as taken or as returned.
fn count(occupancy: &mut Occupancy, address: Option<AddressKey>, is_regular: bool, is_taken: bool) {
    let change = |n: &mut usize| *n = if is_taken { *n + 1 } else { n.saturating_sub(1) };
    change(if is_regular { &mut occupancy.regular } else { &mut occupancy.reserve });
    if let Some(address) = address {
        let own = occupancy.by_address.entry(address).or_default();
        change(if is_regular { &mut own.regular } else { &mut own.reserve });
        if own.regular + own.reserve == 0 {
            occupancy.by_address.remove(&address);
        }
    }
}

impl HttpPermit {
    /// Whether the permit belongs to the reserve.
    pub(super) fn is_reserve(&self) -> bool {
        !self.is_regular.load(Ordering::Relaxed)
    }

    /// Counts the connection for this address from now on: a PROXY header has stated it. At its limit the connection moves to
    /// the reserve; `false` if the reserve has no place for it.
    pub(super) fn assign(&mut self, client: IpAddr) -> bool {
        let limiter = Arc::clone(&self.limiter);
        let Some(key) = limiter.limited_key(client) else { return true };
        let mut occupancy = limiter.lock();
        let own = occupancy.by_address.get(&key).copied().unwrap_or_default();
        let is_over = own.regular >= limiter.limits.of_address;
        let was_regular = !self.is_reserve();
        if is_over && (own.reserve >= RESERVE_OF_ADDRESS || was_regular && occupancy.reserve >= RESERVE) {
            drop(occupancy);
            limiter.reject_address(Some(key));
            return false;
        }
        let is_regular = was_regular && !is_over;
        count(&mut occupancy, self.address, was_regular, false);
        count(&mut occupancy, Some(key), is_regular, true);
        drop(occupancy);
        self.address = Some(key);
        self.monitor.assign(key);
        if was_regular && !is_regular {
            self.is_regular.store(false, Ordering::Relaxed);
            limiter.traffic.reserve.fetch_add(1, Ordering::Relaxed);
            limiter.freed.notify_waiters();
            limiter.evict(Some(key));
        }
        true
    }

    /// The paths that the reserve serves.
    pub(super) fn reserve_paths(&self) -> &ReservePaths {
        &self.limiter.limits.reserve
    }

    /// Exchanges a permit of the reserve for a regular one; waits for it up to [`PROMOTION_TIMEOUT`]. Returns whether the
    /// permit is regular now.
    pub(super) async fn promote(&self) -> bool {
        let began = Instant::now();
        loop {
            let freed = self.limiter.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let crowded_address = match self.try_promote() {
                Ok(()) => return true,
                Err(address) => address,
            };
            let is_crowded = self.limiter.lock().reserve > RESERVE / 2;
            let left = PROMOTION_TIMEOUT[usize::from(is_crowded)].saturating_sub(began.elapsed());
            if left.is_zero() || self.monitor.is_evicted() {
                self.limiter.traffic.rejected.add(ExceededLimit::Limit);
                return false;
            }
            self.limiter.evict(crowded_address);
            let _ = tokio::time::timeout(left.min(EVICTION_INTERVAL), freed).await;
        }
    }

    /// The response to a request that gets no regular permit.
    pub(super) fn rejection(&self) -> Response {
        self.limiter.rejection()
    }

    /// The limiter to which the permit belongs.
    pub(super) fn limiter(&self) -> Arc<HttpLimiter> {
        Arc::clone(&self.limiter)
    }

    /// The address that the permit counts for.
    pub(super) fn address(&self) -> Option<AddressKey> {
        self.address
    }

    /// # Errors
    /// The address if it is at its limit; `None` if all regular permits are in use.
    fn try_promote(&self) -> Result<(), Option<AddressKey>> {
        if !self.is_reserve() {
            return Ok(());
        }
        let limits = &self.limiter.limits;
        let mut occupancy = self.limiter.lock();
        let own =
            self.address.and_then(|address| occupancy.by_address.get(&address).copied()).unwrap_or_default();
        let crowded_address = self.address.filter(|_| own.regular >= limits.of_address);
        if occupancy.regular >= limits.connections || crowded_address.is_some() {
            return Err(crowded_address);
        }
        // Both under one lock, so that the entry of the address is not removed in between.
        count(&mut occupancy, self.address, true, true);
        count(&mut occupancy, self.address, false, false);
        drop(occupancy);
        self.limiter.traffic.reserve.fetch_sub(1, Ordering::Relaxed);
        self.is_regular.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for HttpPermit {
    fn drop(&mut self) {
        self.monitor.close();
        let is_regular = !self.is_reserve();
        count(&mut self.limiter.lock(), self.address, is_regular, false);
        let traffic = &self.limiter.traffic;
        traffic.connections.fetch_sub(1, Ordering::Relaxed);
        if !is_regular {
            traffic.reserve.fetch_sub(1, Ordering::Relaxed);
        }
        self.limiter.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(connections: usize, of_address: usize) -> Arc<HttpLimiter> {
        let limits = HttpLimits { of_address, ..HttpLimits::new(connections) };
        Arc::new(HttpLimiter::new(limits, Arc::default()))
    }

    fn acquire(limiter: &Arc<HttpLimiter>, address: &str) -> Option<HttpPermit> {
        match limiter.try_acquire(Some(AddressKey::new(address.parse().expect("an address")))) {
            Acquired::Permit(permit) => Some(permit),
            Acquired::Full | Acquired::AddressFull => None,
        }
    }

    #[test]
    fn an_address_gets_no_more_permits_than_its_limit() {
        let limiter = limiter(10, 4);
        let own: Vec<_> = (0..4).map(|_| acquire(&limiter, "192.0.2.1").expect("a permit")).collect();
        assert!(own.iter().all(|permit| !permit.is_reserve()));
        let over: Vec<_> = (0..RESERVE_OF_ADDRESS).filter_map(|_| acquire(&limiter, "192.0.2.1")).collect();
        assert_eq!(over.len(), RESERVE_OF_ADDRESS);
        assert!(over.iter().all(HttpPermit::is_reserve));
        assert!(acquire(&limiter, "192.0.2.1").is_none(), "a permit beyond the share of the reserve");
        assert!(!acquire(&limiter, "192.0.2.2").expect("a permit").is_reserve());
        drop(own);
        assert_eq!(over[0].try_promote(), Ok(()));
        assert!(!over[0].is_reserve());
        drop(over);
        let occupancy = limiter.lock();
        assert!(occupancy.by_address.is_empty());
        assert_eq!((occupancy.regular, occupancy.reserve), (0, 0));
    }

    #[test]
    fn a_connection_counts_for_the_address_that_its_proxy_header_states() {
        let limiter = limiter(10, 2);
        let client = "192.0.2.1".parse().expect("an address");
        let through_proxy = || match limiter.try_acquire(None) {
            Acquired::Permit(permit) => permit,
            Acquired::Full | Acquired::AddressFull => panic!("no permit"),
        };
        let mut assigned = Vec::new();
        let rejected = loop {
            let mut permit = through_proxy();
            if !permit.assign(client) {
                break permit;
            }
            assigned.push(permit);
        };
        let reserve = assigned.iter().filter(|permit| permit.is_reserve()).count();
        assert_eq!((assigned.len(), reserve), (2 + RESERVE_OF_ADDRESS, RESERVE_OF_ADDRESS));
        assert_eq!(limiter.traffic.rejected.get(ExceededLimit::Address), 1);
        assert!(through_proxy().assign("192.0.2.2".parse().expect("an address")), "another client");
        drop((assigned, rejected));
        let occupancy = limiter.lock();
        assert!(occupancy.by_address.is_empty());
        assert_eq!((occupancy.regular, occupancy.reserve), (0, 0));
        assert_eq!(limiter.traffic.reserve.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_limit() {
        let limiter = limiter(10, 1);
        let first = acquire(&limiter, "2001:db8::1").expect("a permit");
        assert!(!first.is_reserve());
        assert!(acquire(&limiter, "2001:db8::2").expect("a permit").is_reserve());
        assert!(!acquire(&limiter, "2001:db8:0:1::1").expect("a permit").is_reserve());
        assert_eq!(
            AddressKey::new("::ffff:192.0.2.1".parse().unwrap()),
            AddressKey::new("192.0.2.1".parse().unwrap())
        );
    }

    #[test]
    fn connections_are_bounded_by_the_limit_and_the_reserve() {
        let limiter = limiter(2, 1000);
        let all: Vec<_> = (0..100).filter_map(|_| acquire(&limiter, "192.0.2.1")).collect();
        assert_eq!(all.len(), 2 + RESERVE);
        assert_eq!(all.iter().filter(|permit| permit.is_reserve()).count(), RESERVE);
    }
}
