//! Usage limits: commands, publications and bytes per second of an address and of a user, and the connections of a
//! user.
//!
//! A [`Meter`] counts for one address or one user, over all connections and shards of the process. A session looks up
//! its meters once and stores them. A command costs a few atomic operations, and nothing without a limit.
//!
//! Invariants:
//! - [`Meters`] stores at most [`MAX_METERS`] meters. When it is full, further addresses or users share one meter.
//! - A meter is removed when no session uses it and its buckets are full, so a client gains nothing by reconnecting.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_wire::code::counted;

use crate::rate::{Bucket, Rate};

/// Number of parts of a table, each with its own lock, so that shards seldom contend.
const PARTS: usize = 16;
/// Most meters of one table.
const MAX_METERS: usize = 1 << 20;

/// The option group for addresses.
const ADDRESS: &str = "limits.address";
/// The option group for users.
const USER: &str = "limits.user";

/// A quantity that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageKind {
    /// Commands and lines.
    Commands,
    /// Publications.
    Publications,
    /// Bytes of commands.
    Bytes,
    /// New connections per second.
    ConnectionRate,
    /// Concurrent connections.
    Connections,
}

impl UsageKind {
    /// All kinds, in the order of [`Meters::refused`].
    pub const ALL: [Self; 5] =
        [Self::Commands, Self::Publications, Self::Bytes, Self::ConnectionRate, Self::Connections];

    /// The name of the option.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Publications => "publications",
            Self::Bytes => "bytes",
            Self::ConnectionRate => "connection_rate",
            Self::Connections => "connections",
        }
    }
}

/// The limits of one address or one user; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsageLimits {
    /// Commands per second.
    pub commands: usize,
    /// Publications per second.
    pub publications: usize,
    /// Bytes of commands per second.
    pub bytes: usize,
    /// New connections per second.
    pub connection_rate: usize,
    /// Concurrent connections.
    pub connections: usize,
    /// The option that defines `connections`; empty for the option of the same group.
    pub connections_option: &'static str,
}

/// The cost of a command, in addition to one command.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The length in bytes.
    pub bytes: usize,
    /// Whether it publishes.
    pub publishes: bool,
}

/// The usage of one address or user.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    commands: Bucket,
    publications: Bucket,
    bytes: Bucket,
    connection_rate: Bucket,
    connections: AtomicUsize,
}

impl Meter {
    fn is_idle(&self, now: u64) -> bool {
        let buckets = [&self.commands, &self.publications, &self.bytes, &self.connection_rate];
        buckets.iter().all(|bucket| bucket.is_full(now))
    }
}

/// A connection that counts for its user until the permit is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit(Arc<Meter>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConnectionPermit {
    pub(crate) fn meter(&self) -> &Meter {
        &self.0
    }
}

/// The meters of all addresses, or of all users, and their limits. The meters are shared with those of other limits, see
/// [`Usage::with_limits`].
#[derive(Debug)]
pub struct Meters<K> {
    /// The option group, for messages.
    scope: &'static str,
    commands: Rate,
    publications: Rate,
    bytes: Rate,
    connection_rate: Rate,
    connections: usize,
    connections_option: &'static str,
    table: Arc<MeterTable<K>>,
}

/// The meters of all addresses, or of all users.
#[derive(Debug)]
struct MeterTable<K> {
    /// Most meters per part.
    most: usize,
    hasher: RandomState,
    parts: [Mutex<HashMap<K, Arc<Meter>>>; PARTS],
    /// The meter of addresses or users that do not fit into the table.
    shared: Arc<Meter>,
    refused: [AtomicU64; UsageKind::ALL.len()],
}

impl<K> Default for MeterTable<K> {
    fn default() -> Self {
        Self {
            most: MAX_METERS / PARTS,
            hasher: RandomState::new(),
            parts: Default::default(),
            shared: Arc::default(),
            refused: Default::default(),
        }
    }
}

impl<K: Eq + Hash> Meters<K> {
    /// The meters of a table; `scope` is the option group of the limits.
    fn new(scope: &'static str, limits: &UsageLimits, table: Arc<MeterTable<K>>) -> Self {
        Self {
            scope,
            commands: Rate::per_second(limits.commands),
            publications: Rate::per_second(limits.publications),
            bytes: Rate::per_second(limits.bytes),
            connection_rate: Rate::per_second(limits.connection_rate),
            connections: limits.connections,
            connections_option: limits.connections_option,
            table,
        }
    }

    /// Whether commands are metered.
    pub(crate) fn meters_commands(&self) -> bool {
        [self.commands, self.publications, self.bytes].into_iter().any(Rate::is_limited)
    }

    /// Whether any limit is configured.
    fn is_limited(&self) -> bool {
        self.meters_commands() || self.connection_rate.is_limited() || self.connections > 0
    }

    /// The meter of an address or user. `now` is in nanoseconds of a clock that all callers share.
    pub(crate) fn meter(&self, key: K, now: u64) -> Arc<Meter> {
        let mut part = self.part(&key);
        if let Some(meter) = part.get(&key) {
            return Arc::clone(meter);
        }
        // Before the table grows, removes meters that are equal to new ones.
        if part.len() >= part.capacity().min(self.table.most) {
            part.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_idle(now));
            if part.len() >= self.table.most {
                return Arc::clone(&self.table.shared);
            }
        }
        Arc::clone(part.entry(key).or_default())
    }

    /// Counts a new connection; `None` if no limit requires that.
    ///
    /// # Errors
    /// The exceeded limit, and a text that names it.
    pub(crate) fn connect(&self, key: K, now: u64) -> Result<Option<ConnectionPermit>, (UsageKind, String)> {
        if !self.is_limited() {
            return Ok(None);
        }
        let meter = self.meter(key, now);
        // Incremented before the check, so that concurrent connections cannot both take the last permit.
        let before = meter.connections.fetch_add(1, Ordering::Relaxed);
        let permit = ConnectionPermit(meter);
        if self.connections > 0 && before >= self.connections {
            return Err(self.count_refusal(UsageKind::Connections));
        }
        if !permit.0.connection_rate.take(self.connection_rate, 1, now) {
            return Err(self.count_refusal(UsageKind::ConnectionRate));
        }
        Ok(Some(permit))
    }

    /// Counts an existing connection, regardless of the limits of connections; `None` if no limit requires that.
    pub(crate) fn admit(&self, key: K, now: u64) -> Option<ConnectionPermit> {
        self.is_limited().then(|| {
            let meter = self.meter(key, now);
            meter.connections.fetch_add(1, Ordering::Relaxed);
            ConnectionPermit(meter)
        })
    }

    /// Charges a command. A refused command costs nothing.
    ///
    /// # Errors
    /// The exceeded limit.
    pub(crate) fn charge(&self, meter: &Meter, cost: Cost, now: u64) -> Result<(), UsageKind> {
        let parts = [
            (UsageKind::Commands, &meter.commands, self.commands, 1),
            (UsageKind::Bytes, &meter.bytes, self.bytes, cost.bytes as u64),
            (UsageKind::Publications, &meter.publications, self.publications, 1),
        ];
        let parts = if cost.publishes { &parts[..] } else { &parts[..2] };
        for (at, (kind, bucket, rate, events)) in parts.iter().enumerate() {
            if !bucket.take(*rate, *events, now) {
                parts[..at].iter().for_each(|(_, bucket, rate, events)| bucket.refund(*rate, *events));
                return Err(*kind);
            }
        }
        Ok(())
    }

    /// Returns the cost of a command that is refused after it was charged.
    pub(crate) fn refund(&self, meter: &Meter, cost: Cost) {
        meter.commands.refund(self.commands, 1);
        meter.bytes.refund(self.bytes, cost.bytes as u64);
        if cost.publishes {
            meter.publications.refund(self.publications, 1);
        }
    }

    /// Counts a refusal; returns the limit, and a text that names it.
    pub(crate) fn count_refusal(&self, kind: UsageKind) -> (UsageKind, String) {
        self.table.refused[kind as usize].fetch_add(1, Ordering::Relaxed);
        let scope = self.scope;
        let owner = if scope == ADDRESS { "an address" } else { "a user" };
        let a_second = |number, noun| format!("{} a second", counted(number, noun));
        let text = match kind {
            UsageKind::Commands => a_second(self.commands.events(), "command"),
            UsageKind::Publications => a_second(self.publications.events(), "publication"),
            UsageKind::Bytes => a_second(self.bytes.events(), "byte"),
            UsageKind::ConnectionRate => a_second(self.connection_rate.events(), "connection"),
            UsageKind::Connections => counted(self.connections, "connection"),
        };
        let option = match kind {
            UsageKind::Connections if !self.connections_option.is_empty() => {
                self.connections_option.to_owned()
            }
            _ => format!("{scope}.{}", kind.name()),
        };
        (kind, format!("{text} of {owner} ({option})"))
    }

    /// The number of refusals by each limit, in the order of [`UsageKind::ALL`].
    pub fn refused(&self) -> [u64; UsageKind::ALL.len()] {
        UsageKind::ALL.map(|kind| self.table.refused[kind as usize].load(Ordering::Relaxed))
    }

    /// The number of stored meters.
    pub fn stored(&self) -> usize {
        self.table.parts.iter().map(|part| lock(part).len()).sum()
    }

    fn part(&self, key: &K) -> MutexGuard<'_, HashMap<K, Arc<Meter>>> {
        lock(&self.table.parts[self.table.hasher.hash_one(key) as usize % PARTS])
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The usage limits of a process, by address (see [`Hub::meter_address`](crate::Hub::meter_address)) and by user.
#[derive(Debug)]
pub struct Usage {
    /// By address as a number: an IPv4 address, or a network of IPv6.
    pub addresses: Meters<u128>,
    /// By user. Anonymous clients are not metered.
    pub users: Meters<Box<str>>,
}

impl Usage {
    /// The limits of an address and of a user. Connections of an address are not limited here, but by the shards.
    pub fn new(address: &UsageLimits, user: &UsageLimits) -> Self {
        Self {
            addresses: Meters::new(ADDRESS, address, Arc::default()),
            users: Meters::new(USER, user, Arc::default()),
        }
    }

    /// Other limits on the same meters: what addresses and users have used stays counted.
    pub fn with_limits(&self, address: &UsageLimits, user: &UsageLimits) -> Self {
        Self {
            addresses: Meters::new(ADDRESS, address, Arc::clone(&self.addresses.table)),
            users: Meters::new(USER, user, Arc::clone(&self.users.table)),
        }
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self::new(&UsageLimits::default(), &UsageLimits::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn line(bytes: usize) -> Cost {
        Cost { bytes, publishes: false }
    }

    #[test]
    fn limits_are_independent_and_a_refused_command_costs_nothing() {
        let limits = UsageLimits { commands: 3, publications: 1, bytes: 100, ..UsageLimits::default() };
        let meters = Meters::<u128>::new(ADDRESS, &limits, Arc::default());
        let meter = meters.meter(1, 0);
        let publish = Cost { bytes: 10, publishes: true };
        assert_eq!(meters.charge(&meter, publish, 0), Ok(()));
        for _ in 0..10 {
            assert_eq!(meters.charge(&meter, publish, 0), Err(UsageKind::Publications));
        }
        assert_eq!(meters.charge(&meter, line(90), 0), Ok(()));
        assert_eq!(meters.charge(&meter, line(1), 0), Err(UsageKind::Bytes));
        assert_eq!(meters.charge(&meter, line(1), SECOND / 2), Ok(()));
        // Of 3 commands, 2 were taken, 1.5 were restored, and 1 was taken.
        assert_eq!(meters.charge(&meter, line(1), SECOND / 2), Ok(()));
        assert_eq!(meters.charge(&meter, line(1), SECOND / 2), Err(UsageKind::Commands));
        meters.refund(&meter, line(1));
        assert_eq!(meters.charge(&meter, line(1), SECOND / 2), Ok(()));
    }

    #[test]
    fn new_limits_apply_to_what_was_counted_before() {
        let (none, two) =
            (UsageLimits::default(), UsageLimits { commands: 2, connections: 1, ..UsageLimits::default() });
        let before = Usage::new(&two, &two);
        let meter = before.addresses.meter(1, 0);
        assert_eq!(before.addresses.charge(&meter, line(1), 0), Ok(()));
        let _permit = before.users.connect("ann".into(), 0).expect("the first");
        let after = before.with_limits(&two, &UsageLimits { connections: 2, ..none });
        assert!(Arc::ptr_eq(&meter, &after.addresses.meter(1, 0)));
        assert_eq!(after.addresses.charge(&meter, line(1), 0), Ok(()));
        assert_eq!(after.addresses.charge(&meter, line(1), 0), Err(UsageKind::Commands));
        let second = after.users.connect("ann".into(), 0).expect("a second");
        assert!(after.users.connect("ann".into(), 0).is_err());
        let third = after.users.admit("ann".into(), 0);
        assert!(third.is_some() && before.with_limits(&none, &none).users.admit("ann".into(), 0).is_none());
        drop((second, third));
        assert_eq!(after.addresses.refused(), before.addresses.refused());
    }

    #[test]
    fn connections_are_limited_per_user() {
        let meters = Meters::<Box<str>>::new(
            USER,
            &UsageLimits { connections: 2, connection_rate: 3, ..UsageLimits::default() },
            Arc::default(),
        );
        let take = |user: &str, now| meters.connect(user.into(), now).map_err(|(kind, _)| kind);
        let first = take("ann", 0).expect("a place");
        let second = take("ann", 0).expect("a place");
        assert_eq!(take("ann", 0).err(), Some(UsageKind::Connections));
        assert!(take("bob", 0).is_ok());
        drop(first);
        let third = take("ann", 0).expect("a place");
        drop((second, third));
        assert_eq!(take("ann", 0).err(), Some(UsageKind::ConnectionRate));
        assert!(take("ann", SECOND).is_ok());
        assert_eq!(meters.refused(), [0, 0, 0, 1, 1]);
        let text = meters.count_refusal(UsageKind::Connections).1;
        assert_eq!(text, "2 connections of a user (limits.user.connections)");
    }

    #[test]
    fn a_meter_without_sessions_stays_until_its_buckets_are_full() {
        let limits = UsageLimits { commands: 1, ..UsageLimits::default() };
        let meters = Meters::new(ADDRESS, &limits, Arc::default());
        let kept = meters.meter(0_u128, 0);
        for address in 1..100_000_u128 {
            let now = u64::try_from(address).expect("small") * 2 * SECOND;
            let meter = meters.meter(address, now);
            assert_eq!(meters.charge(&meter, line(1), now), Ok(()));
            drop(meter);
            assert_eq!(meters.charge(&meters.meter(address, now), line(1), now), Err(UsageKind::Commands));
        }
        assert!(meters.stored() < 1_000, "{} meters", meters.stored());
        assert!(Arc::ptr_eq(&kept, &meters.meter(0, u64::MAX / 2)), "a meter in use stays");
    }

    #[test]
    fn further_addresses_share_a_meter_when_the_table_is_full() {
        let limits = UsageLimits { commands: 1, ..UsageLimits::default() };
        let table = MeterTable { most: 100, ..MeterTable::default() };
        let meters = Meters::new(ADDRESS, &limits, Arc::new(table));
        let held: Vec<_> = (0..10_000_u128).map(|address| meters.meter(address, 0)).collect();
        assert_eq!(meters.stored(), 100 * PARTS);
        assert!(Arc::ptr_eq(&held[held.len() - 1], &meters.table.shared));
    }
}
