//! Clients that were moved to another node and connect to this node again, because the balancer selects nodes by the
//! client's address or by a cookie.
//!
//! A client is recognized by its address ([`crate::client_network`]). Clients with one address, and those without a known
//! one, are counted together: a new connection counts as a return while fewer clients have returned to the address than
//! were moved from it. An address is kept for [`WINDOW`]. While no client is moved, nothing is stored and a connection costs
//! one load.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::address::network;

/// The time in which a connection counts as the return of a moved client.
const WINDOW: Duration = Duration::from_secs(60);
/// Most addresses; the returns of clients with further ones are not counted.
const MAX_ADDRESSES: usize = 1 << 16;

/// The moved clients by address, and the number of those that have returned.
#[derive(Debug, Default)]
pub struct Returns {
    addresses: Mutex<HashMap<Option<u128>, Entry>>,
    /// The number of addresses, to be read without the lock.
    len: AtomicUsize,
    returned: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    /// Moved clients that have not returned.
    away: u32,
    /// The end of the window, in nanoseconds.
    until: u64,
}

impl Returns {
    /// Callback when a client with this address is moved, at this time in nanoseconds.
    pub(crate) fn on_move(&self, address: Option<IpAddr>, now: u64) {
        let key = address.map(network);
        let mut addresses = self.lock();
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&key) {
            addresses.retain(|_, entry| entry.until > now);
        }
        if addresses.len() < MAX_ADDRESSES || addresses.contains_key(&key) {
            let entry = addresses.entry(key).or_default();
            // Clients that were moved before the window are elsewhere.
            entry.away = if entry.until > now { entry.away.saturating_add(1) } else { 1 };
            entry.until = now.saturating_add(u64::try_from(WINDOW.as_nanos()).unwrap_or(u64::MAX));
        }
        self.len.store(addresses.len(), Ordering::Relaxed);
    }

    /// Whether the address of a new connection is needed.
    pub(crate) fn is_watching(&self) -> bool {
        self.len.load(Ordering::Relaxed) > 0
    }

    /// Callback for a new connection of a client with this address, at this time in nanoseconds.
    pub(crate) fn on_connection(&self, address: Option<IpAddr>, now: u64) {
        let mut addresses = self.lock();
        let key = address.map(network);
        if let Some(entry) = addresses.get_mut(&key) {
            if entry.until > now && entry.away > 0 {
                entry.away -= 1;
                self.returned.fetch_add(1, Ordering::Relaxed);
            }
            if entry.until <= now || entry.away == 0 {
                addresses.remove(&key);
            }
        }
        self.len.store(addresses.len(), Ordering::Relaxed);
    }

    /// Removes addresses after their window, at this time in nanoseconds.
    pub fn expire(&self, now: u64) {
        if self.is_watching() {
            let mut addresses = self.lock();
            addresses.retain(|_, entry| entry.until > now);
            addresses.shrink_to_fit();
            self.len.store(addresses.len(), Ordering::Relaxed);
        }
    }

    /// The number of moved clients that have returned.
    pub fn returned(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<u128>, Entry>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ip(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn a_moved_client_that_returns_within_the_window_is_counted_once() {
        let returns = Returns::default();
        assert!(!returns.is_watching());
        returns.on_move(ip(1), 0);
        returns.on_move(None, 0);
        assert!(returns.is_watching());
        returns.on_connection(ip(2), SECOND);
        assert_eq!(returns.returned(), 0, "another address");
        returns.on_connection(ip(1), SECOND);
        returns.on_connection(ip(1), SECOND);
        returns.on_connection(None, SECOND);
        assert_eq!(returns.returned(), 2);
        assert!(!returns.is_watching());
    }

    #[test]
    fn clients_of_one_address_return_at_most_as_often_as_they_were_moved() {
        let returns = Returns::default();
        (0..3).for_each(|_| returns.on_move(ip(1), 0));
        (0..5).for_each(|_| returns.on_connection(ip(1), SECOND));
        assert_eq!(returns.returned(), 3);
    }

    #[test]
    fn later_connections_are_no_returns_and_addresses_expire() {
        let returns = Returns::default();
        returns.on_move(ip(1), 0);
        returns.on_connection(ip(1), 61 * SECOND);
        assert_eq!(returns.returned(), 0);
        returns.on_move(ip(1), 61 * SECOND);
        returns.expire(100 * SECOND);
        assert!(returns.is_watching());
        returns.expire(122 * SECOND);
        assert!(!returns.is_watching());
    }

    #[test]
    fn addresses_are_stored_up_to_a_bound() {
        let returns = Returns::default();
        for i in 0..u32::try_from(MAX_ADDRESSES + 10).expect("a number") {
            returns.on_move(Some(IpAddr::from(i.to_be_bytes())), 0);
        }
        assert_eq!(returns.lock().len(), MAX_ADDRESSES);
        returns.on_move(ip(1), 61 * SECOND);
        assert_eq!(returns.lock().len(), 1, "room after the window");
    }
}
