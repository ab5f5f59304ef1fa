//! Sessions of the page: random ids in cookies, of which the server stores hashes.
//!
//! Invariants:
//! - At most [`MAX_SESSIONS`] sessions exist; a further login ends the oldest one.
//! - A session ends `admin.session_ttl` after its login, or with its logout.
//! - No id is stored: the content of the table, read from memory or a core dump, is no valid cookie.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

/// Most sessions.
const MAX_SESSIONS: usize = 64;
/// The name of the cookie.
const COOKIE_NAME: &str = "tidings_admin";
/// Bytes of an id.
const ID: usize = 32;

type IdHash = [u8; 32];

/// The sessions of this node.
#[derive(Debug)]
pub(crate) struct Sessions {
    ttl: Duration,
    /// When each session ends, by the hash of its id.
    ends: Mutex<HashMap<IdHash, Instant>>,
}

impl Sessions {
    /// No sessions; each later one ends after `ttl`.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, ends: Mutex::default() }
    }

    /// Begins a session. Returns the value of `Set-Cookie`. Without a path, browsers send the cookie only to the folder of
    /// the login, under any path prefix of a proxy.
    pub(crate) fn begin(&self, now: Instant, is_https: bool) -> String {
        let mut id = [0; ID];
        SystemRandom::new().fill(&mut id).expect("the operating system's random numbers");
        let id = BASE64_URL_SAFE_NO_PAD.encode(id);
        let mut ends = self.lock();
        ends.retain(|_, end| *end > now);
        if ends.len() >= MAX_SESSIONS
            && let Some(oldest) = ends.iter().min_by_key(|(_, end)| **end).map(|(hash, _)| *hash)
        {
            ends.remove(&oldest);
        }
        ends.insert(hash(&id), now + self.ttl);
        let secure = if is_https { "; Secure" } else { "" };
        format!("{COOKIE_NAME}={id}; Max-Age={}; HttpOnly; SameSite=Strict{secure}", self.ttl.as_secs())
    }

    /// Whether the cookie of a request belongs to a session.
    pub(crate) fn has(&self, headers: &HeaderMap, now: Instant) -> bool {
        ids(headers).any(|id| self.lock().get(&hash(id)).is_some_and(|end| *end > now))
    }

    /// Ends the session of a request. Returns the value of `Set-Cookie` that removes the cookie.
    pub(crate) fn end(&self, headers: &HeaderMap) -> String {
        let mut ends = self.lock();
        for id in ids(headers) {
            ends.remove(&hash(id));
        }
        format!("{COOKIE_NAME}=; Max-Age=0; HttpOnly; SameSite=Strict")
    }

    /// The number of sessions.
    pub(crate) fn count(&self, now: Instant) -> usize {
        self.lock().values().filter(|end| **end > now).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IdHash, Instant>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ids in the cookies of a request.
fn ids(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).filter_map(|pair| {
        let (name, id) = pair.trim().split_once('=')?;
        (name == COOKIE_NAME && !id.is_empty()).then_some(id)
    })
}

fn hash(id: &str) -> IdHash {
    digest(&SHA256, id.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn cookie(set_cookie: &str) -> HeaderMap {
        let pair = set_cookie.split(';').next().expect("a pair");
        let value = HeaderValue::try_from(format!("other=1; {pair}")).expect("a value");
        [(COOKIE, value)].into_iter().collect()
    }

    #[test]
    fn a_session_lasts_until_its_end_or_its_logout() {
        let (sessions, now) = (Sessions::new(TTL), Instant::now());
        let (first, second) = (sessions.begin(now, false), sessions.begin(now, true));
        assert!(first.ends_with("; Max-Age=60; HttpOnly; SameSite=Strict"), "{first}");
        assert!(second.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{second}");
        let (first, second) = (cookie(&first), cookie(&second));
        assert!(sessions.has(&first, now) && sessions.has(&second, now));
        assert!(!sessions.has(&first, now + TTL));
        sessions.end(&first);
        assert!(!sessions.has(&first, now) && sessions.has(&second, now));
        assert!(!sessions.has(&cookie("tidings_admin=guess"), now) && !sessions.has(&HeaderMap::new(), now));
        assert_eq!((sessions.count(now), sessions.count(now + TTL)), (1, 0));
    }

    #[test]
    fn a_login_beyond_the_bound_ends_the_oldest_session() {
        let (sessions, start) = (Sessions::new(TTL), Instant::now());
        let all: Vec<_> = (0..=MAX_SESSIONS as u64)
            .map(|n| cookie(&sessions.begin(start + Duration::from_millis(n), false)))
            .collect();
        let now = start + Duration::from_secs(1);
        assert_eq!(sessions.count(now), MAX_SESSIONS);
        assert!(!sessions.has(&all[0], now) && all[1..].iter().all(|headers| sessions.has(headers, now)));
    }
}
