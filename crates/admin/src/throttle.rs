//! The limits on logins: of each address, and of all addresses together.
//!
//! A check of a password costs tens of milliseconds of a core, whether the password is right or not, so attempts are limited
//! before the check, and at most [`MAX_CHECKS`] checks run at a time.
//!
//! Invariant: at most [`MAX_ADDRESSES`] addresses are stored; further ones share one entry.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most checks of passwords at a time.
pub(crate) const MAX_CHECKS: usize = 2;
/// Attempts of an address that are allowed at once; a further one each [`ADDRESS_INTERVAL`].
const ADDRESS_BURST: u32 = 5;
/// The time after which an address may try once more.
const ADDRESS_INTERVAL: Duration = Duration::from_secs(12);
/// Attempts of all addresses that are allowed at once; a further one each [`TOTAL_INTERVAL`].
const TOTAL_BURST: u32 = 30;
/// The time after which one more attempt is allowed in all.
const TOTAL_INTERVAL: Duration = Duration::from_secs(1);
/// Most stored addresses.
const MAX_ADDRESSES: usize = 4_096;

/// The attempts of all addresses.
#[derive(Debug, Default)]
pub(crate) struct LoginThrottle(Mutex<Attempts>);

#[derive(Debug, Default)]
struct Attempts {
    total: Meter,
    addresses: HashMap<Option<IpAddr>, Meter>,
}

/// The attempts of one address, or of all: the time from which the whole burst is allowed again.
#[derive(Clone, Copy, Debug, Default)]
struct Meter(Option<Instant>);

impl Meter {
    /// When one more attempt is allowed; `now` if it is allowed at once.
    fn next(self, burst: u32, interval: Duration, now: Instant) -> Instant {
        let full = self.0.map_or(now, |full| full.max(now));
        (full + interval).checked_sub(interval * burst).map_or(now, |next| next.max(now))
    }

    fn add(&mut self, interval: Duration, now: Instant) {
        self.0 = Some(self.0.map_or(now, |full| full.max(now)) + interval);
    }

    fn is_idle(self, now: Instant) -> bool {
        self.0.is_none_or(|full| full <= now)
    }
}

impl LoginThrottle {
    /// Counts an attempt of an address.
    ///
    /// # Errors
    /// The time until a further attempt is allowed. An attempt that is not allowed is not counted.
    pub(crate) fn attempt(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Attempts { total, addresses } = &mut *attempts;
        let mut key = address;
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&key) {
            addresses.retain(|_, meter| !meter.is_idle(now));
            if addresses.len() >= MAX_ADDRESSES {
                key = None;
            }
        }
        let own = addresses.entry(key).or_default();
        let next =
            own.next(ADDRESS_BURST, ADDRESS_INTERVAL, now).max(total.next(TOTAL_BURST, TOTAL_INTERVAL, now));
        if next > now {
            return Err(next - now);
        }
        own.add(ADDRESS_INTERVAL, now);
        total.add(TOTAL_INTERVAL, now);
        Ok(())
    }

    /// Forgets the attempts of an address, after a successful login.
    pub(crate) fn clear(&self, address: Option<IpAddr>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).addresses.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4((0x0a00_0000 + n).into()))
    }

    #[test]
    fn an_address_and_all_together_are_limited() {
        let (throttle, now) = (LoginThrottle::default(), Instant::now());
        for _ in 0..ADDRESS_BURST {
            assert_eq!(throttle.attempt(address(1), now), Ok(()));
        }
        assert_eq!(throttle.attempt(address(1), now), Err(ADDRESS_INTERVAL));
        assert_eq!(throttle.attempt(address(2), now), Ok(()), "another address");
        let later = now + ADDRESS_INTERVAL;
        assert_eq!(throttle.attempt(address(1), later), Ok(()), "after the interval");
        assert!(throttle.attempt(address(1), later).is_err(), "only once");
        throttle.clear(address(1));
        assert_eq!(throttle.attempt(address(1), later), Ok(()), "after a login");
        let later = later + TOTAL_INTERVAL * TOTAL_BURST;
        for n in 0..TOTAL_BURST {
            assert_eq!(throttle.attempt(address(100 + n), later), Ok(()));
        }
        assert_eq!(throttle.attempt(address(99), later), Err(TOTAL_INTERVAL));
    }

    #[test]
    fn addresses_beyond_the_bound_share_an_entry() {
        let (throttle, start) = (LoginThrottle::default(), Instant::now());
        // One each interval, so that the limit of all is not reached; the entries stay busy for 12 s each.
        let mut attempts = Attempts::default();
        for n in 0..u32::try_from(MAX_ADDRESSES).expect("small") {
            attempts.addresses.insert(address(n), Meter(Some(start + Duration::from_secs(60))));
        }
        *throttle.0.lock().expect("no panic") = attempts;
        assert_eq!(throttle.attempt(address(100_000), start), Ok(()));
        assert!(throttle.0.lock().expect("no panic").addresses.contains_key(&None));
        assert!(throttle.0.lock().expect("no panic").addresses.len() <= MAX_ADDRESSES + 1);
    }
}
