//! Keys that an identity provider publishes as a JSON Web Key Set (RFC 7517), and changes when it likes.
//!
//! Invariants:
//! - One fetch at a time, and at most one every [`APART`], however many tokens ask and whatever keys they name.
//! - A key is used for [`FRESH`] after the fetch that showed it. Then the set is fetched again before it is used; a
//!   fetch that fails does not take the keys away that are known.
//! - A token is refused for good only when a fetch that came after it showed no such key; until then it is told to
//!   come back.

mod fetch;
mod set;

use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use tidings_outbound::TlsError;
use tracing::{debug, warn};

use self::fetch::Endpoint;
use self::set::{KeySet, ListedKey};
use super::error::{Refusal, TokenError, shown};
use super::key::Algorithm;

/// How long a fetched set is good for, in seconds; as in Centrifugo. It bounds how long a withdrawn key is accepted.
const FRESH: u64 = 60 * 60;
/// The shortest time from one fetch to the next, in seconds. It bounds what tokens with invented keys can cause.
const APART: u64 = 10;

/// A key set, fetched when it is needed.
pub(super) struct Jwks {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    known: Mutex<Known>,
    /// Whose turn it is to fetch.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What is known of the set. Cloned by those who ask, so that nobody waits with the lock in hand.
#[derive(Clone, Default)]
struct Known {
    keys: Arc<KeySet>,
    /// When the keys were fetched, in Unix seconds.
    fetched: Option<u64>,
    /// How often it was tried to fetch them.
    tries: u64,
    /// When that was the last time.
    tried: Option<u64>,
    /// Why it failed then.
    failure: Option<Arc<str>>,
}

impl Known {
    fn is_fresh(&self, now: u64) -> bool {
        self.fetched.is_some_and(|at| at.abs_diff(now) < FRESH)
    }

    /// Seconds until the next fetch is allowed. A clock that was set back allows it as one that went on.
    fn wait(&self, now: u64) -> u64 {
        self.tried.map_or(0, |at| APART.saturating_sub(at.abs_diff(now)))
    }
}

impl Jwks {
    /// A set that is to be fetched from `url`, which the option `option` named.
    ///
    /// # Errors
    /// [`TlsError`] when it is an `https` address and TLS cannot be set up.
    pub(super) fn new(url: &Uri, option: &str) -> Result<Self, TlsError> {
        let endpoint = Endpoint::new(url, option)?;
        Ok(Self { shared: Arc::new(Shared { endpoint, known: Mutex::default(), turn: Arc::default() }) })
    }

    /// The key of this name that verifies this algorithm.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`]; [`TokenError::Unavailable`] when the set could not be fetched, or was fetched so short
    /// a time ago that it is too early to fetch it again.
    pub(super) async fn key(
        &self,
        id: &str,
        algorithm: Algorithm,
        now: u64,
    ) -> Result<ListedKey, TokenError> {
        let before = self.shared.known();
        if before.is_fresh(now)
            && let Some(key) = before.keys.find(id, algorithm)
        {
            return Ok(key);
        }
        let known = if before.wait(now) == 0 { self.fetch(before.tries, now).await } else { before.clone() };
        if let Some(key) = known.keys.find(id, algorithm) {
            return Ok(key);
        }
        if let Some(failure) = known.failure {
            return Err(TokenError::Unavailable(failure.to_string()));
        }
        if known.tries == before.tries {
            let (id, wait) = (shown(id), known.wait(now));
            let what =
                format!("the key set holds no key {id:?}, and is not fetched again for another {wait} s");
            return Err(TokenError::Unavailable(what));
        }
        Err(Refusal::UnknownKey { kid: shown(id), algorithm: algorithm.name() }.into())
    }

    /// What is known after one more fetch than `tries`: a fetch of one's own, or one that somebody else made meanwhile.
    async fn fetch(&self, tries: u64, now: u64) -> Known {
        let turn = Arc::clone(&self.shared.turn).lock_owned().await;
        let known = self.shared.known();
        if known.tries != tries {
            return known;
        }
        let shared = Arc::clone(&self.shared);
        // A task of its own, because who asks may go away, and the others wait for the same answer.
        let fetching = tokio::spawn(async move {
            shared.fetch(now).await;
            drop(turn);
        });
        if let Err(error) = fetching.await {
            warn!(%error, "the fetch of the key set was broken off");
        }
        self.shared.known()
    }
}

impl Shared {
    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self, now: u64) {
        let answer = self.endpoint.get().await;
        let set = answer.map_err(|e| e.to_string()).and_then(|body| KeySet::read(&body));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tries += 1;
        known.tried = Some(now);
        match set {
            Ok(set) => {
                debug!(endpoint = %self.endpoint, keys = set.count(), "fetched the key set");
                if !set.remarks().is_empty() {
                    let remarks = set.remarks().join("; ");
                    warn!(endpoint = %self.endpoint, remarks, "the key set holds keys that are passed over, or written badly");
                }
                if set.count() == 0 {
                    warn!(endpoint = %self.endpoint, "the key set holds no key that can be used");
                }
                known.keys = Arc::new(set);
                known.fetched = Some(now);
                known.failure = None;
            }
            Err(error) => {
                warn!(endpoint = %self.endpoint, error, "the key set cannot be fetched");
                known.failure = Some(error.into());
            }
        }
    }
}
