//! Failed authentications: each delays its answer, is counted, and is logged by address.
//!
//! A wrong token, `AUTH` or API key is answered after a pause that grows with the failures of its address, so that guesses
//! cost time; what is right is never delayed. The answers to one address come one after the other, so more connections
//! give no more guesses. A pause holds a timer and no thread.
//!
//! Invariants:
//! - At most [`MOST`] addresses are kept. Where there are more, further ones share one entry.
//! - No answer waits longer than [`LONGEST`].
//! - Nothing of a secret is stored or logged.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most addresses that are kept.
const MOST: usize = 16_384;
/// Pause after the first failure of an address; each further one doubles it.
const FIRST: Duration = Duration::from_millis(200);
/// Longest pause between two answers to one address.
const MOST_PAUSE: Duration = Duration::from_secs(5);
/// Longest that an answer waits.
const LONGEST: Duration = Duration::from_secs(30);
/// An address without a failure for so long begins anew.
const FORGET: Duration = Duration::from_secs(10 * 60);
/// At most one line in the log for an address in this time.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A connection or subscription token.
    Token,
    /// The secret of `AUTH` on the line or RESP port, where it is no token.
    Password,
    /// The key of the server API.
    ApiKey,
}

impl Credential {
    const ALL: [Self; 3] = [Self::Token, Self::Password, Self::ApiKey];

    fn label(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
            Self::ApiKey => "api_key",
        }
    }
}

/// The failures of a node.
#[derive(Debug, Default)]
pub(crate) struct AuthFailures {
    counts: [AtomicU64; Credential::ALL.len()],
    addresses: Mutex<HashMap<Option<IpAddr>, Entry>>,
}

/// The failures of one address.
#[derive(Debug)]
struct Entry {
    failures: u32,
    /// When its last answer is due.
    due: Instant,
    last: Instant,
    /// When a line was logged last, and the failures since.
    logged: Option<Instant>,
    unlogged: u64,
}

impl AuthFailures {
    /// Counts a failure and waits as long as its answer is to be delayed. `address` is the client's, `None` when it is not
    /// known. Unknown addresses wait for [`FIRST`] alone, since one client may not delay the others; so does a loopback
    /// address, which is that of every client behind a proxy on this machine that `trusted_proxies` does not name.
    pub(crate) async fn fail(&self, address: Option<IpAddr>, credential: Credential) {
        let pause = self.count(address, credential, Instant::now());
        tokio::time::sleep(pause).await;
    }

    /// Failures since the start, by the metric's label value.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Credential::ALL
            .map(|kind| (kind.label(), self.counts[kind as usize].load(Ordering::Relaxed)))
            .into_iter()
    }

    fn count(&self, address: Option<IpAddr>, credential: Credential, now: Instant) -> Duration {
        self.counts[credential as usize].fetch_add(1, Ordering::Relaxed);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = address.map(network);
        if addresses.len() >= MOST && !addresses.contains_key(&key) {
            addresses.retain(|_, entry| now.saturating_duration_since(entry.last) < FORGET);
            if addresses.len() >= MOST {
                key = None;
            }
        }
        let entry = addresses.entry(key).or_insert_with(|| Entry::new(now));
        if let Some(count) = entry.log(now) {
            let address = key.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            tracing::warn!(address, count, credential = credential.label(), "authentication failed");
        }
        if key.is_none_or(|address| address.is_loopback()) { FIRST } else { entry.pause(now) }
    }
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self { failures: 0, due: now, last: now, logged: None, unlogged: 0 }
    }

    /// Counts a failure; gives how long its answer waits.
    fn pause(&mut self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.last) >= FORGET {
            self.failures = 0;
        }
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.last = now;
        self.due = (self.due.max(now) + pause).min(now + LONGEST);
        self.due.saturating_duration_since(now)
    }

    /// Counts a failure for the log; gives how many there were since the last line when one is due.
    fn log(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        if self.logged.is_some_and(|last| now.saturating_duration_since(last) < LOG_EVERY) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

/// An IPv4 address, or the first 64 bits of an IPv6 address, which one customer usually has to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()
        }
        whole => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn pauses_grow_for_one_address_to_a_bound_and_are_no_other_s() {
        let (failures, now) = (AuthFailures::default(), Instant::now());
        let fail = |text| failures.count(address(text), Credential::Token, now);
        assert_eq!(fail("192.0.2.1"), FIRST);
        assert_eq!(fail("192.0.2.1"), 3 * FIRST, "behind the first, and twice as long");
        for _ in 0..1_000 {
            assert!(fail("192.0.2.1") <= LONGEST);
        }
        assert_eq!(fail("192.0.2.1"), LONGEST);
        assert_eq!(fail("192.0.2.2"), FIRST);
        assert_eq!([fail("127.0.0.1"), fail("127.0.0.1"), fail("::1"), fail("::1")], [FIRST; 4]);
        assert_eq!(fail("2001:db8::1"), FIRST);
        assert_eq!(fail("2001:db8::2"), 3 * FIRST, "of the same network");
        let later = now + FORGET;
        assert_eq!(failures.count(address("192.0.2.1"), Credential::Token, later), FIRST);
        assert_eq!(failures.counts().next(), Some(("token", 1_011)));
    }

    #[test]
    fn addresses_are_kept_up_to_a_bound_and_those_beyond_do_not_delay_each_other() {
        let (failures, now) = (AuthFailures::default(), Instant::now());
        let fail =
            |n: u32, now| failures.count(Some(IpAddr::V4((0x0a00_0000 + n).into())), Credential::ApiKey, now);
        for n in 0..u32::try_from(MOST).expect("small") + 100 {
            assert_eq!(fail(n, now), FIRST);
        }
        assert!(failures.addresses.lock().expect("no panic").len() <= MOST + 1);
        assert_eq!(fail(0, now), 3 * FIRST, "still known");
        assert_eq!(fail(1 << 20, now + FORGET), FIRST);
        assert!(failures.addresses.lock().expect("no panic").len() <= 2, "those long past are gone");
    }

    #[test]
    fn the_log_has_one_line_a_minute_for_an_address_with_the_count() {
        let now = Instant::now();
        let mut entry = Entry::new(now);
        assert_eq!(entry.log(now), Some(1));
        for _ in 0..50 {
            assert_eq!(entry.log(now), None);
        }
        assert_eq!(entry.log(now + LOG_EVERY), Some(51));
    }
}
