//! Failed authentications: each failure delays its response, is counted, and is logged by address.
//!
//! The response to a wrong token, `AUTH` or API key is delayed by a pause that grows with the failures of the address, which
//! slows down guessing; the response to a valid credential is never delayed. Responses to one address are delayed one after
//! another, so more connections do not allow more guesses. A pause occupies a timer, not a thread.
//!
//! An HTTP request holds its connection's permit during the pause, so the number of waiting requests is bounded. An address
//! with [`MAX_WAITING_PER_ADDRESS`] waiting requests is rejected before its key is compared ([`AuthFailures::is_rejected`]).
//! While [`MAX_WAITING`] requests wait, every address with failures is rejected, and the first failure of any other address
//! gets its response at once.
//!
//! Invariants:
//! - At most [`MAX_WAITING`] responses to HTTP requests wait.
//! - At most [`MAX_ADDRESSES`] addresses are stored; further ones share one entry.
//! - No response waits longer than [`MAX_DELAY`].
//! - No part of a secret is stored or logged.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidings_audit::{Audit, AuditEvent};
use tidings_shard::{Process, client_network};
use tokio::sync::watch;

use tidings_metrics::{Collect, KeyedCounters, Label as _, MetricWriter, labels};

/// Most addresses that are stored.
const MAX_ADDRESSES: usize = 16_384;
/// Pause after the first failure of an address; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between two responses to one address.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Longest delay of a response.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Most waiting HTTP requests of one address.
const MAX_WAITING_PER_ADDRESS: usize = 4;
/// Most waiting HTTP requests of all addresses.
const MAX_WAITING: usize = 64;
/// After this time without a failure the count of an address restarts.
const RESET_AFTER: Duration = Duration::from_secs(10 * 60);
/// Shortest time between two log lines for one address.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

labels! {
    /// The kind of a wrong credential.
    pub enum Credential {
        /// A connection or subscription token.
        Token => "token",
        /// The secret of `AUTH` on the line or RESP port, where it is no token.
        Password => "password",
        /// The key of the server API.
        ApiKey => "api_key",
        /// The password of the admin page.
        AdminPassword => "admin_password",
    }
}

/// The failures of a node.
#[derive(Debug, Default)]
pub struct AuthFailures {
    audit: Arc<Audit>,
    /// The trusted proxies.
    process: Arc<Process>,
    counts: KeyedCounters<Credential>,
    waiting: AtomicUsize,
    closed: watch::Sender<bool>,
    addresses: Mutex<HashMap<Option<IpAddr>, AddressFailures>>,
}

/// The failures of one address.
#[derive(Debug)]
struct AddressFailures {
    failures: u32,
    /// Waiting HTTP requests.
    waiting: usize,
    /// When the last delayed response is due.
    due: Instant,
    last: Instant,
    /// When the last line was logged, and the failures since then.
    logged: Option<Instant>,
    unlogged: u64,
}

impl AuthFailures {
    /// No failures yet; each one is recorded in this audit log. `process` has the trusted proxies.
    pub fn new(audit: Arc<Audit>, process: Arc<Process>) -> Self {
        Self { audit, process, ..Self::default() }
    }

    /// Whether many clients may have this address: that of a trusted proxy that has not stated its client, or of this machine.
    fn is_shared(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.process.addresses.is_proxy(address)
    }

    /// Counts a failure and waits for the delay of its response. `address` is the client's; `None` if unknown. The delay of
    /// unknown addresses is always [`FIRST_PAUSE`], so that one client cannot delay other clients; likewise for trusted
    /// proxies that have not stated their client, and for loopback addresses, because every client behind a local proxy has one
    /// unless `trusted_proxies` contains the proxy.
    pub async fn fail(&self, address: Option<IpAddr>, credential: Credential) {
        let pause = self.count(address, credential, Instant::now());
        tokio::time::sleep(pause).await;
    }

    /// Like [`AuthFailures::fail`] for an HTTP request, which holds a permit while it waits.
    pub async fn fail_request(&self, address: Option<IpAddr>, credential: Credential) {
        let pause = self.count(address, credential, Instant::now());
        // Dropped also when the client disconnects before the response.
        let waiting = Waiting::new(self, address.map(client_network));
        if waiting.is_within_bounds {
            let mut closed = self.closed.subscribe();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = closed.wait_for(|closed| *closed) => {}
            }
        }
    }

    /// Whether requests of an address are rejected without comparing their key, because too many of them wait. Always
    /// `false` for unknown addresses and for those that many clients may share.
    pub fn is_rejected(&self, address: Option<IpAddr>) -> bool {
        let key = address.filter(|address| !self.is_shared(*address)).map(client_network);
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = key.and_then(|_| addresses.get(&key)) else { return false };
        let is_full = self.waiting.load(Ordering::Relaxed) >= MAX_WAITING;
        entry.waiting >= MAX_WAITING_PER_ADDRESS || is_full && entry.failures > 0
    }

    /// Ends all present and future delays of HTTP requests. Called when the server stops.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    fn change_waiting(&self, address: Option<IpAddr>, change: impl FnOnce(usize) -> usize) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = addresses.get_mut(&address) {
            entry.waiting = change(entry.waiting);
        }
    }

    fn count(&self, address: Option<IpAddr>, credential: Credential, now: Instant) -> Duration {
        self.counts.add(credential);
        let (name, reason) = (credential.label(), "wrong");
        self.audit.record(&AuditEvent::AuthenticationFailed { credential: name, reason, address });
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = address.map(client_network);
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&key) {
            addresses.retain(|_, entry| now.saturating_duration_since(entry.last) < RESET_AFTER);
            if addresses.len() >= MAX_ADDRESSES {
                key = None;
            }
        }
        let entry = addresses.entry(key).or_insert_with(|| AddressFailures::new(now));
        if let Some(count) = entry.log(now) {
            let address = key.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            tracing::warn!(address, count, credential = credential.label(), "authentication failed");
        }
        let is_shared = key.is_none() || address.is_none_or(|address| self.is_shared(address));
        if is_shared { FIRST_PAUSE } else { entry.pause(now) }
    }
}

impl Collect for AuthFailures {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_auth_failures",
            "Wrong tokens, passwords (AUTH) and keys of the server API",
            "credential",
            self.counts.iter(),
        )
    }
}

/// A delayed response to an HTTP request.
struct Waiting<'a> {
    failures: &'a AuthFailures,
    address: Option<IpAddr>,
    is_within_bounds: bool,
}

impl<'a> Waiting<'a> {
    fn new(failures: &'a AuthFailures, address: Option<IpAddr>) -> Self {
        let is_within_bounds = failures.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING;
        failures.change_waiting(address, |waiting| waiting + 1);
        Self { failures, address, is_within_bounds }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.failures.waiting.fetch_sub(1, Ordering::Relaxed);
        self.failures.change_waiting(self.address, |waiting| waiting.saturating_sub(1));
    }
}

impl AddressFailures {
    fn new(now: Instant) -> Self {
        Self { failures: 0, waiting: 0, due: now, last: now, logged: None, unlogged: 0 }
    }

    /// Counts a failure. Returns the delay of its response.
    fn pause(&mut self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.last) >= RESET_AFTER {
            self.failures = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.last = now;
        self.due = (self.due.max(now) + pause).min(now + MAX_DELAY);
        self.due.saturating_duration_since(now)
    }

    /// Counts a failure for the log. Returns the number of failures since the last line when a new line is due.
    fn log(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        if self.logged.is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn pauses_grow_up_to_a_bound_for_each_address_separately() {
        let (failures, now) = (AuthFailures::default(), Instant::now());
        let fail = |text| failures.count(address(text), Credential::Token, now);
        assert_eq!(fail("192.0.2.1"), FIRST_PAUSE);
        assert_eq!(fail("192.0.2.1"), 3 * FIRST_PAUSE, "after the first response, and twice as long");
        for _ in 0..1_000 {
            assert!(fail("192.0.2.1") <= MAX_DELAY);
        }
        assert_eq!(fail("192.0.2.1"), MAX_DELAY);
        assert_eq!(fail("192.0.2.2"), FIRST_PAUSE);
        assert_eq!([fail("127.0.0.1"), fail("127.0.0.1"), fail("::1"), fail("::1")], [FIRST_PAUSE; 4]);
        assert_eq!(fail("2001:db8::1"), FIRST_PAUSE);
        assert_eq!(fail("2001:db8::2"), 3 * FIRST_PAUSE, "an address of the same network");
        let later = now + RESET_AFTER;
        assert_eq!(failures.count(address("192.0.2.1"), Credential::Token, later), FIRST_PAUSE);
        assert_eq!(failures.counts.get(Credential::Token), 1_011);
    }

    /// Begins the response to a request with a wrong key. Returns the rest of the future, and whether it has completed.
    fn begin<'a>(failures: &'a AuthFailures, text: &str) -> (Pin<Box<dyn Future<Output = ()> + 'a>>, bool) {
        let mut response: Pin<Box<dyn Future<Output = ()> + 'a>> =
            Box::pin(failures.fail_request(address(text), Credential::ApiKey));
        let is_done = response.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        (response, is_done)
    }

    #[tokio::test]
    async fn an_address_with_too_many_waiting_requests_is_rejected_until_they_have_ended() {
        let failures = AuthFailures::default();
        let is_rejected = |text| failures.is_rejected(address(text));
        let mut waiting = Vec::new();
        for _ in 0..MAX_WAITING_PER_ADDRESS {
            assert!(!is_rejected("192.0.2.1"));
            waiting.push(begin(&failures, "192.0.2.1"));
        }
        assert!(is_rejected("192.0.2.1") && !is_rejected("192.0.2.2") && !failures.is_rejected(None));
        for n in MAX_WAITING_PER_ADDRESS..MAX_WAITING {
            waiting.push(begin(&failures, "127.0.0.1"));
            assert!(!is_rejected("127.0.0.1"), "{n} requests wait");
        }
        assert!(waiting.iter().all(|(_, is_done)| !is_done));
        // At the bound a first failure is answered at once, and an address that has failed before is rejected.
        assert!(!is_rejected("192.0.2.3"));
        let (_, is_done) = begin(&failures, "192.0.2.3");
        assert!(is_done && is_rejected("192.0.2.3"));
        failures.close();
        for (response, _) in waiting {
            response.await;
        }
        assert!(!is_rejected("192.0.2.1") && !is_rejected("192.0.2.3"));
        assert_eq!(failures.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn clients_behind_a_proxy_that_states_no_address_do_not_delay_each_other() {
        let failures = AuthFailures::default();
        let proxy = tidings_shard::AddressRange::new("10.0.0.1".parse().expect("an address"), 32);
        failures.process.addresses.set(0, 0, vec![proxy.expect("a range")]);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(failures.count(address("10.0.0.1"), Credential::Token, now), FIRST_PAUSE);
        }
        let waiting: Vec<_> = (0..=MAX_WAITING_PER_ADDRESS).map(|_| begin(&failures, "10.0.0.1")).collect();
        assert!(!failures.is_rejected(address("10.0.0.1")));
        drop(waiting);
    }

    #[test]
    fn addresses_beyond_the_bound_share_an_entry_and_are_not_delayed_further() {
        let (failures, now) = (AuthFailures::default(), Instant::now());
        let fail =
            |n: u32, now| failures.count(Some(IpAddr::V4((0x0a00_0000 + n).into())), Credential::ApiKey, now);
        for n in 0..u32::try_from(MAX_ADDRESSES).expect("small") + 100 {
            assert_eq!(fail(n, now), FIRST_PAUSE);
        }
        assert!(failures.addresses.lock().expect("no panic").len() <= MAX_ADDRESSES + 1);
        assert_eq!(fail(0, now), 3 * FIRST_PAUSE, "still stored");
        assert_eq!(fail(1 << 20, now + RESET_AFTER), FIRST_PAUSE);
        assert!(
            failures.addresses.lock().expect("no panic").len() <= 2,
            "entries without recent failures are removed"
        );
    }

    #[test]
    fn the_log_has_one_line_a_minute_for_an_address_with_the_count() {
        let now = Instant::now();
        let mut entry = AddressFailures::new(now);
        assert_eq!(entry.log(now), Some(1));
        for _ in 0..50 {
            assert_eq!(entry.log(now), None);
        }
        assert_eq!(entry.log(now + LOG_INTERVAL), Some(51));
    }
}
