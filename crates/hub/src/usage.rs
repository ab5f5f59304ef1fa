//! What clients may use in a second: commands, publications and bytes, of one address and of one user, and how many
//! connections a user may have and begin.
//!
//! A [`Meter`] counts for one address or one user, over all connections and shards of the process. A session looks its
//! meters up once and keeps them; a command costs a few atomic operations, and nothing where there is no limit.
//!
//! Invariants:
//! - [`Meters`] stores at most [`MOST`] meters. Beyond that, further addresses or users share one.
//! - A meter is forgotten when no session has it and its buckets are full, so a client gains nothing by reconnecting.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rate::{Bucket, Rate};

/// Parts of a table, so that shards seldom wait for each other.
const PARTS: usize = 16;
/// Most meters of one table.
const MOST: usize = 1 << 20;

/// The group of the options for addresses.
const ADDRESS: &str = "limits.address";
/// The group of the options for users.
const USER: &str = "limits.user";

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metered {
    /// Commands and lines.
    Commands,
    /// Publications.
    Publications,
    /// Bytes of commands.
    Bytes,
    /// Connections that begin.
    ConnectionRate,
    /// Connections at a time.
    Connections,
}

impl Metered {
    /// All of them, in the order of [`Meters::refused`].
    pub const ALL: [Self; 5] =
        [Self::Commands, Self::Publications, Self::Bytes, Self::ConnectionRate, Self::Connections];

    /// The name of its option.
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

/// How much one address, or one user, may use; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsageLimits {
    /// Commands in a second.
    pub commands: usize,
    /// Publications in a second.
    pub publications: usize,
    /// Bytes of commands in a second.
    pub bytes: usize,
    /// Connections that begin in a second.
    pub connection_rate: usize,
    /// Connections at a time.
    pub connections: usize,
    /// The option that this number of connections comes from; empty for the one of the same group.
    pub connections_option: &'static str,
}

/// What a command costs besides being one.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Its bytes.
    pub bytes: usize,
    /// Whether it publishes.
    pub publishes: bool,
}

/// What one address or user has used.
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

/// A connection that is counted with its user until this is dropped.
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

/// The meters of all addresses, or of all users, and their limits.
#[derive(Debug)]
pub struct Meters<K> {
    /// The group of options, for messages.
    scope: &'static str,
    commands: Rate,
    publications: Rate,
    bytes: Rate,
    connection_rate: Rate,
    connections: usize,
    connections_option: &'static str,
    /// Most meters of a part.
    most: usize,
    hasher: RandomState,
    parts: [Mutex<HashMap<K, Arc<Meter>>>; PARTS],
    /// For those that find the table full.
    shared: Arc<Meter>,
    refused: [AtomicU64; Metered::ALL.len()],
}

impl<K: Eq + Hash> Meters<K> {
    /// Meters without entries; `scope` is the group of the limits' options.
    fn new(scope: &'static str, limits: &UsageLimits) -> Self {
        Self {
            scope,
            commands: Rate::per_second(limits.commands),
            publications: Rate::per_second(limits.publications),
            bytes: Rate::per_second(limits.bytes),
            connection_rate: Rate::per_second(limits.connection_rate),
            connections: limits.connections,
            connections_option: limits.connections_option,
            most: MOST / PARTS,
            hasher: RandomState::new(),
            parts: Default::default(),
            shared: Arc::default(),
            refused: Default::default(),
        }
    }

    /// Whether commands are counted.
    pub(crate) fn meters_commands(&self) -> bool {
        [self.commands, self.publications, self.bytes].into_iter().any(Rate::is_limited)
    }

    /// Whether anything is counted.
    fn is_limited(&self) -> bool {
        self.meters_commands() || self.connection_rate.is_limited() || self.connections > 0
    }

    /// The meter of an address or user; `now` is in nanoseconds, by the clock of all calls.
    pub(crate) fn meter(&self, key: K, now: u64) -> Arc<Meter> {
        let mut part = self.part(&key);
        if let Some(meter) = part.get(&key) {
            return Arc::clone(meter);
        }
        // Before the table grows, meters are removed that a new one would not differ from.
        if part.len() >= part.capacity().min(self.most) {
            part.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_idle(now));
            if part.len() >= self.most {
                return Arc::clone(&self.shared);
            }
        }
        Arc::clone(part.entry(key).or_default())
    }

    /// Counts a connection that begins; gives nothing where no limit needs that.
    ///
    /// # Errors
    /// The limit that it is past, and the words that say so.
    pub(crate) fn connect(&self, key: K, now: u64) -> Result<Option<ConnectionPermit>, (Metered, String)> {
        if !self.is_limited() {
            return Ok(None);
        }
        let meter = self.meter(key, now);
        // Taken first, so that two at once cannot both have the last place.
        let before = meter.connections.fetch_add(1, Ordering::Relaxed);
        let permit = ConnectionPermit(meter);
        if self.connections > 0 && before >= self.connections {
            return Err(self.refuse(Metered::Connections));
        }
        if !permit.0.connection_rate.take(self.connection_rate, 1, now) {
            return Err(self.refuse(Metered::ConnectionRate));
        }
        Ok(Some(permit))
    }

    /// Charges a command; a command that is refused costs nothing.
    ///
    /// # Errors
    /// The limit that it is past.
    pub(crate) fn charge(&self, meter: &Meter, cost: Cost, now: u64) -> Result<(), Metered> {
        let parts = [
            (Metered::Commands, &meter.commands, self.commands, 1),
            (Metered::Bytes, &meter.bytes, self.bytes, cost.bytes as u64),
            (Metered::Publications, &meter.publications, self.publications, 1),
        ];
        let parts = if cost.publishes { &parts[..] } else { &parts[..2] };
        for (at, (what, bucket, rate, events)) in parts.iter().enumerate() {
            if !bucket.take(*rate, *events, now) {
                parts[..at].iter().for_each(|(_, bucket, rate, events)| bucket.give_back(*rate, *events));
                return Err(*what);
            }
        }
        Ok(())
    }

    /// Returns what a command has cost that was refused after all.
    pub(crate) fn refund(&self, meter: &Meter, cost: Cost) {
        meter.commands.give_back(self.commands, 1);
        meter.bytes.give_back(self.bytes, cost.bytes as u64);
        if cost.publishes {
            meter.publications.give_back(self.publications, 1);
        }
    }

    /// Counts a refusal; gives the limit and the words that name it.
    pub(crate) fn refuse(&self, what: Metered) -> (Metered, String) {
        self.refused[what as usize].fetch_add(1, Ordering::Relaxed);
        let scope = self.scope;
        let whose = if scope == ADDRESS { "an address" } else { "a user" };
        let words = match what {
            Metered::Commands => format!("{} commands a second", self.commands.events()),
            Metered::Publications => format!("{} publications a second", self.publications.events()),
            Metered::Bytes => format!("{} bytes a second", self.bytes.events()),
            Metered::ConnectionRate => format!("{} connections a second", self.connection_rate.events()),
            Metered::Connections => format!("{} connections", self.connections),
        };
        let option = match what {
            Metered::Connections if !self.connections_option.is_empty() => self.connections_option.to_owned(),
            _ => format!("{scope}.{}", what.name()),
        };
        (what, format!("{words} of {whose} ({option})"))
    }

    /// How often each limit has refused something, in the order of [`Metered::ALL`].
    pub fn refused(&self) -> [u64; Metered::ALL.len()] {
        Metered::ALL.map(|what| self.refused[what as usize].load(Ordering::Relaxed))
    }

    /// How many meters are stored.
    pub fn stored(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }

    fn part(&self, key: &K) -> MutexGuard<'_, HashMap<K, Arc<Meter>>> {
        lock(&self.parts[self.hasher.hash_one(key) as usize % PARTS])
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limits of a process by address (see [`Hub::meter_address`](crate::Hub::meter_address)) and by user.
#[derive(Debug)]
pub struct Usage {
    /// By address, as a number: IPv4 addresses and networks of IPv6.
    pub addresses: Meters<u128>,
    /// By user; anonymous clients are not counted.
    pub users: Meters<Box<str>>,
}

impl Usage {
    /// Limits of an address (those of connections excepted, which have an owner of their own) and of a user.
    pub fn new(address: &UsageLimits, user: &UsageLimits) -> Self {
        Self { addresses: Meters::new(ADDRESS, address), users: Meters::new(USER, user) }
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
    fn each_limit_holds_by_itself_and_a_refused_command_costs_nothing() {
        let limits = UsageLimits { commands: 3, publications: 1, bytes: 100, ..UsageLimits::default() };
        let meters = Meters::<u128>::new(ADDRESS, &limits);
        let meter = meters.meter(1, 0);
        let publish = Cost { bytes: 10, publishes: true };
        assert_eq!(meters.charge(&meter, publish, 0), Ok(()));
        for _ in 0..10 {
            assert_eq!(meters.charge(&meter, publish, 0), Err(Metered::Publications));
        }
        assert_eq!(meters.charge(&meter, line(90), 0), Ok(()));
        assert_eq!(meters.charge(&meter, line(1), 0), Err(Metered::Bytes));
        assert_eq!(meters.charge(&meter, line(1), SECOND / 2), Ok(()));
        // 2 were taken, 1.5 came back, 1 was taken.
        assert_eq!(meters.charge(&meter, line(1), SECOND / 2), Ok(()));
        assert_eq!(meters.charge(&meter, line(1), SECOND / 2), Err(Metered::Commands));
        meters.refund(&meter, line(1));
        assert_eq!(meters.charge(&meter, line(1), SECOND / 2), Ok(()));
    }

    #[test]
    fn a_user_has_as_many_connections_as_the_limit_and_others_their_own() {
        let meters = Meters::<Box<str>>::new(
            USER,
            &UsageLimits { connections: 2, connection_rate: 3, ..UsageLimits::default() },
        );
        let take = |user: &str, now| meters.connect(user.into(), now).map_err(|(what, _)| what);
        let first = take("ann", 0).expect("a place");
        let second = take("ann", 0).expect("a place");
        assert_eq!(take("ann", 0).err(), Some(Metered::Connections));
        assert!(take("bob", 0).is_ok());
        drop(first);
        let third = take("ann", 0).expect("a place");
        drop((second, third));
        assert_eq!(take("ann", 0).err(), Some(Metered::ConnectionRate));
        assert!(take("ann", SECOND).is_ok());
        assert_eq!(meters.refused(), [0, 0, 0, 1, 1]);
        let words = meters.refuse(Metered::Connections).1;
        assert_eq!(words, "2 connections of a user (limits.user.connections)");
    }

    #[test]
    fn a_meter_without_sessions_stays_until_its_buckets_are_full() {
        let meters = Meters::new(ADDRESS, &UsageLimits { commands: 1, ..UsageLimits::default() });
        let kept = meters.meter(0_u128, 0);
        for address in 1..100_000_u128 {
            let now = u64::try_from(address).expect("small") * 2 * SECOND;
            let meter = meters.meter(address, now);
            assert_eq!(meters.charge(&meter, line(1), now), Ok(()));
            drop(meter);
            assert_eq!(meters.charge(&meters.meter(address, now), line(1), now), Err(Metered::Commands));
        }
        assert!(meters.stored() < 1_000, "{} meters", meters.stored());
        assert!(Arc::ptr_eq(&kept, &meters.meter(0, u64::MAX / 2)), "one that a session has stays");
    }

    #[test]
    fn a_full_table_has_further_addresses_share_a_meter() {
        let mut meters = Meters::new(ADDRESS, &UsageLimits { commands: 1, ..UsageLimits::default() });
        meters.most = 100;
        let held: Vec<_> = (0..10_000_u128).map(|address| meters.meter(address, 0)).collect();
        assert_eq!(meters.stored(), 100 * PARTS);
        assert!(Arc::ptr_eq(&held[held.len() - 1], &meters.shared));
    }
}
