//! Limits by the address of the client: how many connections it has, and how many it begins in a second.
//!
//! An address is an IPv4 address or the first 64 bits of an IPv6 address, which one customer usually has to itself. The
//! table is shared by all shards and asked when a connection begins and ends, never for a command. It holds the
//! addresses that have connections or began one within the last second, at most [`MOST`]; where it is full, further
//! addresses are let in without being counted, which `client.connection_limit` bounds. Without limits nothing is stored.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

const SECOND: u64 = 1_000_000_000;
/// Parts of the table, so that shards seldom wait for each other.
const PARTS: usize = 16;
/// Most addresses in the table.
const MOST: usize = 1 << 20;

/// An address as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u128);

impl Key {
    fn of(address: IpAddr) -> Self {
        Self(network(address))
    }
}

/// What counts as the address of one client: an IPv4 address, or the first 64 bits of an IPv6 address, since a client has
/// the whole of such a network (RFC 6177). The loopback address of IPv6 stays as it is.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()
        }
        whole => whole,
    }
}

/// The same as a number; an IPv4 address is mapped to IPv6.
pub(crate) fn network(address: IpAddr) -> u128 {
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
    /// The addresses whose first `length` bits are those of `address`; `None` when it has not so many.
    pub fn new(address: IpAddr, length: u32) -> Option<Self> {
        let (bits, length) = match address {
            IpAddr::V4(address) if length <= 32 => (address.to_ipv6_mapped().to_bits(), length + 96),
            IpAddr::V6(address) if length <= 128 => (address.to_bits(), length),
            _ => return None,
        };
        Some(Self { bits: bits & Self::mask(length), length })
    }

    /// Whether an address is in it.
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

/// Which limit a connection is past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Connections,
    Rate,
}

/// The limits, and what they are compared with.
#[derive(Debug)]
pub struct AddressLimits {
    /// 0 is no limit.
    connections: usize,
    /// Nanoseconds between two beginnings; 0 is no limit.
    interval: u64,
    rate: usize,
    /// Whose word about the client's address is taken.
    trusted: Vec<AddressRange>,
    parts: [Mutex<HashMap<Key, Entry>>; PARTS],
    began: Instant,
    /// Refused so far because of too many connections, and because of their rate.
    refused: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct Entry {
    connections: usize,
    /// When its tokens are all there again, in nanoseconds since `began`.
    full: u64,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self::new(0, 0, Vec::new())
    }
}

impl AddressLimits {
    /// At most `connections` of one address, of which `rate` begin in a second; 0 is no limit. Connections from
    /// `trusted` addresses are proxies', which say where their clients come from.
    pub fn new(connections: usize, rate: usize, trusted: Vec<AddressRange>) -> Self {
        Self {
            connections,
            interval: SECOND.checked_div(rate as u64).unwrap_or(0),
            rate,
            trusted,
            parts: Default::default(),
            began: Instant::now(),
            refused: Default::default(),
        }
    }

    /// Whether there is a limit, so that a connection's address is worth asking for.
    pub(crate) fn is_limited(&self) -> bool {
        self.connections > 0 || self.interval > 0
    }

    /// Counts a connection that begins and is handed on before it is owned here, by its rate alone.
    ///
    /// # Errors
    /// It is past it, or its address has as many connections as it may.
    pub(crate) fn begin(&self, peer: Option<IpAddr>) -> Result<(), Excess> {
        let key = self.take(peer, &[], true)?;
        key.into_iter().for_each(|key| self.give_back(key));
        Ok(())
    }

    /// Whether proxies are trusted, so that what they say is worth reading.
    pub fn has_proxies(&self) -> bool {
        !self.trusted.is_empty()
    }

    /// Whether an address is that of a trusted proxy.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }

    /// How many connections were refused so far: by their number, and by their rate.
    pub fn refused(&self) -> [u64; 2] {
        [0, 1].map(|at| self.refused[at].load(Ordering::Relaxed))
    }

    /// The limit in words.
    pub(crate) fn words(&self, excess: Excess) -> String {
        match excess {
            Excess::Connections => {
                format!("{} connections of an address (limits.address.connections)", self.connections)
            }
            Excess::Rate => {
                format!("{} connections a second of an address (limits.address.connection_rate)", self.rate)
            }
        }
    }

    /// Where a client is: the last address on the way that is no trusted proxy. `forwarded` is what proxies have added,
    /// the nearest one's word last; `None` in it is an address that was not said.
    pub fn client(&self, peer: IpAddr, forwarded: &[Option<IpAddr>]) -> IpAddr {
        let mut address = peer;
        for hop in forwarded.iter().rev() {
            match hop {
                Some(hop) if self.is_proxy(address) => address = *hop,
                _ => break,
            }
        }
        address
    }

    /// Counts a connection, which begins now unless it is one that comes back. Gives under what it is counted, if it
    /// is.
    ///
    /// # Errors
    /// Which limit it is past.
    pub(crate) fn take(
        &self,
        peer: Option<IpAddr>,
        forwarded: &[Option<IpAddr>],
        begins: bool,
    ) -> Result<Option<Key>, Excess> {
        let Some(peer) = peer.filter(|_| self.is_limited()) else { return Ok(None) };
        let key = Key::of(self.client(peer, forwarded));
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let taken = self.take_at(key, begins, now);
        if let Err(excess) = taken {
            self.refused[excess as usize].fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn take_at(&self, key: Key, begins: bool, now: u64) -> Result<Option<Key>, Excess> {
        let mut part = self.part(key);
        // Before the table grows, those go that have no connection and have not begun one lately.
        let bound = part.capacity().min(MOST / PARTS);
        if part.len() >= bound && !part.contains_key(&key) {
            part.retain(|_, entry| entry.connections > 0 || entry.full > now);
            if part.len() >= MOST / PARTS {
                return Ok(None);
            }
        }
        let entry = part.entry(key).or_default();
        if self.connections > 0 && entry.connections >= self.connections {
            return Err(Excess::Connections);
        }
        if begins && self.interval > 0 {
            let full = entry.full.max(now) + self.interval;
            if full > now + SECOND {
                return Err(Excess::Rate);
            }
            entry.full = full;
        }
        entry.connections += 1;
        Ok(Some(key))
    }

    /// A connection that was counted has ended.
    pub(crate) fn give_back(&self, key: Key) {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut part = self.part(key);
        if let Some(entry) = part.get_mut(&key) {
            entry.connections = entry.connections.saturating_sub(1);
            if entry.connections == 0 && entry.full <= now {
                part.remove(&key);
            }
        }
    }

    fn part(&self, key: Key) -> MutexGuard<'_, HashMap<Key, Entry>> {
        // Neighbours are spread; who chooses addresses gains nothing by filling one part.
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
    fn addresses_are_counted_each_for_itself_and_ipv6_by_its_network() {
        let limits = AddressLimits::new(2, 0, Vec::new());
        let take = |address: &str| limits.take(Some(ip(address)), &[], true);
        let first = take("192.0.2.1").expect("room").expect("counted");
        assert!(take("::ffff:192.0.2.1").is_ok());
        assert_eq!(take("192.0.2.1"), Err(Excess::Connections));
        assert!(take("192.0.2.2").is_ok());
        limits.give_back(first);
        assert!(take("192.0.2.1").is_ok());
        assert!(take("2001:db8::1").is_ok() && take("2001:db8:0:0:ffff::2").is_ok());
        assert_eq!(take("2001:db8::3"), Err(Excess::Connections));
        assert!(take("2001:db8:0:1::1").is_ok());
        assert_eq!(limits.take(None, &[], true), Ok(None), "a Unix socket");
        assert_eq!(limits.refused(), [2, 0]);
    }

    #[test]
    fn an_address_begins_as_many_connections_a_second_as_the_rate_says() {
        let limits = AddressLimits::new(0, 3, Vec::new());
        let key = Key::of(ip("192.0.2.1"));
        let allowed = |now: u64| (0..10).filter(|_| limits.take_at(key, true, now).is_ok()).count();
        assert_eq!(allowed(0), 3);
        assert_eq!(allowed(SECOND), 3);
        assert!(limits.take_at(key, false, SECOND).is_ok(), "one that comes back does not begin");
    }

    #[test]
    fn only_trusted_proxies_say_where_a_client_is() {
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
    fn a_range_has_the_addresses_of_its_network() {
        let (four, six, all) = (range("10.1.0.0", 16), range("2001:db8::", 32), range("0.0.0.0", 0));
        assert!(four.contains(ip("10.1.255.1")) && four.contains(ip("::ffff:10.1.0.9")));
        assert!(!four.contains(ip("10.2.0.0")) && !four.contains(ip("2001:db8::1")));
        assert!(six.contains(ip("2001:db8:ffff::")) && !six.contains(ip("2001:db9::")));
        assert!(all.contains(ip("1.2.3.4")) && !all.contains(ip("::1")));
        assert_eq!(AddressRange::new(ip("10.0.0.0"), 33), None);
        assert!(range("::", 0).contains(ip("1.2.3.4")));
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let limits = AddressLimits::new(2, 0, Vec::new());
        for i in 0..1_000_u32 {
            let key = limits.take(Some(IpAddr::from(i.to_be_bytes())), &[], true).expect("room");
            limits.give_back(key.expect("counted"));
        }
        assert!(limits.parts.iter().all(|part| part.lock().expect("no panic").is_empty()));
    }

    #[test]
    fn what_was_counted_for_its_rate_alone_goes_before_the_table_grows() {
        let limits = AddressLimits::new(0, 1, Vec::new());
        for i in 0..100_000_u32 {
            let key = Key::of(IpAddr::from(i.to_be_bytes()));
            limits.take_at(key, true, u64::from(i) * SECOND).expect("the first of an address");
            limits.part(key).get_mut(&key).expect("counted").connections = 0;
        }
        let stored: usize = limits.parts.iter().map(|part| part.lock().expect("no panic").len()).sum();
        assert!(stored < 1_000, "{stored} addresses");
    }
}
