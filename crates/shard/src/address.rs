//! Limits by the address of a client: its connections, and its new connections per second.
//!
//! An address is an IPv4 address or the first 64 bits of an IPv6 address, which usually belong to one customer. The
//! table is shared by all shards. It is used when a connection begins and ends, never for a command. It contains the
//! addresses with connections or with a new connection within the last second, at most [`MAX_ADDRESSES`]. When it is full,
//! further addresses are accepted without being counted; `client.connection_limit` bounds them. Without limits nothing
//! is stored. The limits can be replaced; a connection that began without a limit is not counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tidings_wire::code::counted;

const SECOND: u64 = 1_000_000_000;
/// Number of parts of the table, each with its own lock, so that shards seldom contend.
const PARTS: usize = 16;
/// Most addresses in the table.
const MAX_ADDRESSES: usize = 1 << 20;

/// An address in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AddressKey(u128);

impl AddressKey {
    fn from_ip(address: IpAddr) -> Self {
        Self(network(address))
    }
}

/// The address that is counted as one client: an IPv4 address, or the first 64 bits of an IPv6 address, because a
/// client usually has that whole network (RFC 6177). The loopback address of IPv6 is returned unchanged.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()
        }
        whole => whole,
    }
}

/// The same as a number; IPv4 addresses are mapped to IPv6.
pub fn network(address: IpAddr) -> u128 {
    match client_network(address) {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    bits: u128,
    length: u32,
}

impl AddressRange {
    /// The addresses with the first `length` bits of `address`; `None` if an address has fewer bits.
    pub fn new(address: IpAddr, length: u32) -> Option<Self> {
        let (bits, length) = match address {
            IpAddr::V4(address) if length <= 32 => (address.to_ipv6_mapped().to_bits(), length + 96),
            IpAddr::V6(address) if length <= 128 => (address.to_bits(), length),
            _ => return None,
        };
        Some(Self { bits: bits & Self::mask(length), length })
    }

    /// Whether the range contains an address.
    pub fn contains(self, address: IpAddr) -> bool {
        let address: Ipv6Addr = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        address.to_bits() & Self::mask(self.length) == self.bits
    }

    fn mask(length: u32) -> u128 {
        u128::MAX.checked_shl(128 - length).unwrap_or(0)
    }
}

/// The addresses between this server and a client, as proxies state them.
#[derive(Clone, Debug, Default)]
pub struct ClientPath {
    /// The source in the PROXY protocol header of the connection, which takes the place of the socket's peer.
    pub proxy_source: Option<IpAddr>,
    /// The addresses in the headers of the request, that of the nearest proxy last; `None` is an address that was not
    /// stated.
    pub forwarded: Vec<Option<IpAddr>>,
}

impl ClientPath {
    /// Whether no proxy has stated an address.
    pub(crate) fn is_direct(&self) -> bool {
        self.proxy_source.is_none() && self.forwarded.is_empty()
    }
}

/// The limit that a connection exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExceededLimit {
    Connections,
    Rate,
}

/// The limits, and the trusted proxies.
#[derive(Debug)]
struct Rules {
    /// 0 is no limit.
    connections: usize,
    /// Nanoseconds between two new connections; 0 is no limit.
    interval: u64,
    rate: usize,
    /// Proxies that may state the address of their clients.
    trusted: Vec<AddressRange>,
}

impl Rules {
    fn new(connections: usize, rate: usize, trusted: Vec<AddressRange>) -> Self {
        let interval = SECOND.checked_div(rate as u64).unwrap_or(0);
        Self { connections, interval, rate, trusted }
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }
}

/// The limits by address, and the table of addresses.
#[derive(Debug)]
pub struct AddressLimits {
    rules: ArcSwap<Rules>,
    parts: [Mutex<HashMap<AddressKey, Entry>>; PARTS],
    began: Instant,
    /// Number of refusals by each limit.
    refused: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct Entry {
    connections: usize,
    /// The time at which the token bucket is full again, in nanoseconds since `began`.
    full: u64,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self::new(0, 0, Vec::new())
    }
}

impl AddressLimits {
    /// At most `connections` per address, and `rate` new ones per second; 0 is no limit. `trusted` are the addresses of
    /// proxies, which state the addresses of their clients.
    pub fn new(connections: usize, rate: usize, trusted: Vec<AddressRange>) -> Self {
        Self {
            rules: ArcSwap::from_pointee(Rules::new(connections, rate, trusted)),
            parts: Default::default(),
            began: Instant::now(),
            refused: Default::default(),
        }
    }

    /// Replaces the limits and the trusted proxies, as [`Self::new`] takes them.
    pub fn set(&self, connections: usize, rate: usize, trusted: Vec<AddressRange>) {
        self.rules.store(Arc::new(Rules::new(connections, rate, trusted)));
    }

    /// Whether there is a limit, so that the address of a connection is needed.
    pub(crate) fn is_limited(&self) -> bool {
        let rules = self.rules.load();
        rules.connections > 0 || rules.interval > 0
    }

    /// Checks and counts a new connection against its rate only. For connections that are handed off before a shard
    /// owns them.
    ///
    /// # Errors
    /// The rate or the number of connections is exceeded.
    pub(crate) fn check_rate(&self, peer: Option<IpAddr>) -> Result<(), ExceededLimit> {
        let key = self.acquire(peer, &[], true)?;
        key.into_iter().for_each(|key| self.release(key));
        Ok(())
    }

    /// Whether any proxy is trusted.
    pub fn has_proxies(&self) -> bool {
        !self.rules.load().trusted.is_empty()
    }

    /// Whether an address belongs to a trusted proxy.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.rules.load().is_proxy(address)
    }

    /// The number of refused connections: by their number, and by their rate.
    pub fn refused(&self) -> [u64; 2] {
        [0, 1].map(|at| self.refused[at].load(Ordering::Relaxed))
    }

    /// A text that names the limit.
    pub(crate) fn describe(&self, exceeded: ExceededLimit) -> String {
        let Rules { connections, rate, .. } = &**self.rules.load();
        match exceeded {
            ExceededLimit::Connections => {
                format!("{} of an address (limits.address.connections)", counted(*connections, "connection"))
            }
            ExceededLimit::Rate => {
                let rate = counted(*rate, "connection");
                format!("{rate} a second of an address (limits.address.connection_rate)")
            }
        }
    }

    /// The address of the client: the last one on the path that is not a trusted proxy. `forwarded` contains the
    /// addresses that proxies have added, that of the nearest proxy last; `None` is an address that was not stated.
    pub fn client(&self, peer: IpAddr, forwarded: &[Option<IpAddr>]) -> IpAddr {
        let (mut address, rules) = (peer, self.rules.load());
        for hop in forwarded.iter().rev() {
            match hop {
                Some(hop) if rules.is_proxy(address) => address = *hop,
                _ => break,
            }
        }
        address
    }

    /// Counts a connection. `begins` is false for a connection that was counted as new before. Returns the key to
    /// release, if the connection is counted.
    ///
    /// # Errors
    /// The exceeded limit.
    pub(crate) fn acquire(
        &self,
        peer: Option<IpAddr>,
        forwarded: &[Option<IpAddr>],
        begins: bool,
    ) -> Result<Option<AddressKey>, ExceededLimit> {
        let Some(peer) = peer.filter(|_| self.is_limited()) else { return Ok(None) };
        let key = AddressKey::from_ip(self.client(peer, forwarded));
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let taken = self.acquire_at(key, begins, now);
        if let Err(exceeded) = taken {
            self.refused[exceeded as usize].fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn acquire_at(
        &self,
        key: AddressKey,
        begins: bool,
        now: u64,
    ) -> Result<Option<AddressKey>, ExceededLimit> {
        let rules = self.rules.load();
        let mut part = self.part(key);
        // Before the table grows, removes addresses without connections and without recent ones.
        let bound = part.capacity().min(MAX_ADDRESSES / PARTS);
        if part.len() >= bound && !part.contains_key(&key) {
            part.retain(|_, entry| entry.connections > 0 || entry.full > now);
            if part.len() >= MAX_ADDRESSES / PARTS {
                return Ok(None);
            }
        }
        let entry = part.entry(key).or_default();
        if rules.connections > 0 && entry.connections >= rules.connections {
            return Err(ExceededLimit::Connections);
        }
        if begins && rules.interval > 0 {
            let full = entry.full.max(now) + rules.interval;
            if full > now + SECOND {
                return Err(ExceededLimit::Rate);
            }
            entry.full = full;
        }
        entry.connections += 1;
        Ok(Some(key))
    }

    /// Releases a connection that was counted.
    pub(crate) fn release(&self, key: AddressKey) {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut part = self.part(key);
        if let Some(entry) = part.get_mut(&key) {
            entry.connections = entry.connections.saturating_sub(1);
            if entry.connections == 0 && entry.full <= now {
                part.remove(&key);
            }
        }
    }

    fn part(&self, key: AddressKey) -> MutexGuard<'_, HashMap<AddressKey, Entry>> {
        // Adjacent addresses are spread over the parts. A client that selects addresses gains nothing by filling one
        // part.
        let mixed = (key.0 >> 64) as u64 ^ key.0 as u64;
        let at = (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) as usize;
        self.parts[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn range(address: &str, length: u32) -> AddressRange {
        AddressRange::new(ip(address), length).expect("a range")
    }

    #[test]
    fn addresses_are_counted_separately_and_ipv6_by_network() {
        let limits = AddressLimits::new(2, 0, Vec::new());
        let take = |address: &str| limits.acquire(Some(ip(address)), &[], true);
        let first = take("192.0.2.1").expect("room").expect("counted");
        assert!(take("::ffff:192.0.2.1").is_ok());
        assert_eq!(take("192.0.2.1"), Err(ExceededLimit::Connections));
        assert!(take("192.0.2.2").is_ok());
        limits.release(first);
        assert!(take("192.0.2.1").is_ok());
        assert!(take("2001:db8::1").is_ok() && take("2001:db8:0:0:ffff::2").is_ok());
        assert_eq!(take("2001:db8::3"), Err(ExceededLimit::Connections));
        assert!(take("2001:db8:0:1::1").is_ok());
        assert_eq!(limits.acquire(None, &[], true), Ok(None), "a Unix socket");
        assert_eq!(limits.refused(), [2, 0]);
    }

    #[test]
    fn limits_and_trusted_proxies_can_be_replaced() {
        let limits = AddressLimits::new(1, 0, Vec::new());
        let first = limits.acquire(Some(ip("192.0.2.1")), &[], true).expect("room").expect("counted");
        assert!(limits.acquire(Some(ip("192.0.2.1")), &[], true).is_err());
        limits.set(2, 0, vec![range("10.0.0.0", 8)]);
        assert!(limits.acquire(Some(ip("192.0.2.1")), &[], true).is_ok());
        assert!(limits.acquire(Some(ip("192.0.2.1")), &[], true).is_err(), "the first one stays counted");
        assert!(limits.is_proxy(ip("10.1.1.1")) && limits.has_proxies());
        limits.set(0, 0, Vec::new());
        limits.release(first);
        assert_eq!(limits.acquire(Some(ip("192.0.2.1")), &[], true), Ok(None));
    }

    #[test]
    fn the_rate_of_new_connections_of_an_address_is_limited() {
        let limits = AddressLimits::new(0, 3, Vec::new());
        let key = AddressKey::from_ip(ip("192.0.2.1"));
        let allowed = |now: u64| (0..10).filter(|_| limits.acquire_at(key, true, now).is_ok()).count();
        assert_eq!(allowed(0), 3);
        assert_eq!(allowed(SECOND), 3);
        assert!(limits.acquire_at(key, false, SECOND).is_ok(), "one that comes back does not begin");
    }

    #[test]
    fn addresses_are_taken_only_from_trusted_proxies() {
        let limits = AddressLimits::new(1, 0, vec![range("10.0.0.0", 8), range("fd00::", 8)]);
        let client = |peer: &str, hops: &[&str]| {
            let hops: Vec<_> = hops.iter().map(|hop| hop.parse().ok()).collect();
            limits.client(ip(peer), &hops).to_string()
        };
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "no proxy of ours");
        assert_eq!(client("10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.1.2.3", &["6.6.6.6", "198.51.100.7", "10.9.9.9"]), "198.51.100.7");
        assert_eq!(client("fd00::1", &["unknown"]), "fd00::1");
        assert_eq!(client("10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn a_range_contains_the_addresses_of_its_network() {
        let (four, six, all) = (range("10.1.0.0", 16), range("2001:db8::", 32), range("0.0.0.0", 0));
        assert!(four.contains(ip("10.1.255.1")) && four.contains(ip("::ffff:10.1.0.9")));
        assert!(!four.contains(ip("10.2.0.0")) && !four.contains(ip("2001:db8::1")));
        assert!(six.contains(ip("2001:db8:ffff::")) && !six.contains(ip("2001:db9::")));
        assert!(all.contains(ip("1.2.3.4")) && !all.contains(ip("::1")));
        assert_eq!(AddressRange::new(ip("10.0.0.0"), 33), None);
        assert!(range("::", 0).contains(ip("1.2.3.4")));
    }

    #[test]
    fn addresses_without_connections_are_removed() {
        let limits = AddressLimits::new(2, 0, Vec::new());
        for i in 0..1_000_u32 {
            let key = limits.acquire(Some(IpAddr::from(i.to_be_bytes())), &[], true).expect("room");
            limits.release(key.expect("counted"));
        }
        assert!(limits.parts.iter().all(|part| part.lock().expect("no panic").is_empty()));
    }

    #[test]
    fn addresses_with_an_expired_rate_are_removed_before_the_table_grows() {
        let limits = AddressLimits::new(0, 1, Vec::new());
        for i in 0..100_000_u32 {
            let key = AddressKey::from_ip(IpAddr::from(i.to_be_bytes()));
            limits.acquire_at(key, true, u64::from(i) * SECOND).expect("the first of an address");
            limits.part(key).get_mut(&key).expect("counted").connections = 0;
        }
        let stored: usize = limits.parts.iter().map(|part| part.lock().expect("no panic").len()).sum();
        assert!(stored < 1_000, "{stored} addresses");
    }
}
