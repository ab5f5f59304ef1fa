//! The JSON Web Key Set (RFC 7517) of an identity provider, which rotates its keys at any time.
//!
//! Invariants:
//! - One fetch at a time, and at most one every [`MIN_FETCH_INTERVAL`], independent of the tokens and their key ids.
//! - A key is used for [`MAX_AGE`] after its fetch. Then the set is fetched again before the key is used; a failed
//!   fetch keeps the known keys.
//! - A token is refused permanently only when a later fetch has no such key; until then the error is temporary.

mod address;
mod fetch;
mod set;
mod sets;

pub use address::JwksUrl;
pub(super) use sets::JwksSets;

use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use tidings_outbound::TlsError;
use tracing::{debug, warn};

use self::fetch::Endpoint;
use self::set::{KeySet, ListedKey};
use super::error::{Refusal, TokenError, truncated};
use super::key::Algorithm;

/// Time for which a fetched set is used, in seconds; as in Centrifugo. It bounds the use of a withdrawn key.
const MAX_AGE: u64 = 60 * 60;
/// Shortest time between two fetches, in seconds. It bounds the fetches for tokens with invented key ids.
const MIN_FETCH_INTERVAL: u64 = 10;

/// A key set, fetched when it is needed.
pub(super) struct Jwks {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    state: Mutex<KeySetState>,
    /// Held by the task that fetches.
    fetch_lock: Arc<tokio::sync::Mutex<()>>,
}

/// The state of the set. Cloned by readers, so that the lock is never held over a wait.
#[derive(Clone, Default)]
struct KeySetState {
    keys: Arc<KeySet>,
    /// When the keys were fetched, in Unix seconds.
    fetched_at: Option<u64>,
    /// Number of attempts to fetch them.
    attempts: u64,
    /// Time of the last attempt.
    last_attempt: Option<u64>,
    /// The error of the last attempt.
    failure: Option<Arc<str>>,
}

impl KeySetState {
    fn is_fresh(&self, now: u64) -> bool {
        self.fetched_at.is_some_and(|at| at.abs_diff(now) < MAX_AGE)
    }

    /// Seconds until the next fetch is allowed. A clock that was set back allows it, too.
    fn wait(&self, now: u64) -> u64 {
        self.last_attempt.map_or(0, |at| MIN_FETCH_INTERVAL.saturating_sub(at.abs_diff(now)))
    }
}

impl Jwks {
    /// A set to be fetched from `url`, the value of the option `option`.
    ///
    /// # Errors
    /// [`TlsError`] when it is an `https` address and TLS cannot be set up.
    pub(super) fn new(url: &Uri, option: &str) -> Result<Self, TlsError> {
        let endpoint = Endpoint::new(url, option)?;
        Ok(Self {
            shared: Arc::new(Shared { endpoint, state: Mutex::default(), fetch_lock: Arc::default() }),
        })
    }

    /// Whether it has a key.
    fn has_keys(&self) -> bool {
        self.shared.state().keys.count() > 0
    }

    /// The key of this name that verifies this algorithm.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`]; [`TokenError::UnknownKey`] when the last fetch is less than [`MIN_FETCH_INTERVAL`] ago;
    /// [`TokenError::Unavailable`] when the fetch failed.
    pub(super) async fn key(
        &self,
        id: &str,
        algorithm: Algorithm,
        now: u64,
    ) -> Result<ListedKey, TokenError> {
        let before = self.shared.state();
        if before.is_fresh(now)
            && let Some(key) = before.keys.find(id, algorithm)
        {
            return Ok(key);
        }
        let state =
            if before.wait(now) == 0 { self.fetch(before.attempts, now).await } else { before.clone() };
        if let Some(key) = state.keys.find(id, algorithm) {
            return Ok(key);
        }
        if let Some(failure) = state.failure {
            return Err(TokenError::Unavailable(failure.to_string()));
        }
        if state.attempts == before.attempts {
            return Err(TokenError::UnknownKey { kid: truncated(id), seconds: state.wait(now) });
        }
        Err(Refusal::UnknownKey { kid: truncated(id), algorithm: algorithm.name() }.into())
    }

    /// The state after more fetches than `attempts`: after a fetch of this task, or of another one meanwhile.
    async fn fetch(&self, attempts: u64, now: u64) -> KeySetState {
        let fetch_lock = Arc::clone(&self.shared.fetch_lock).lock_owned().await;
        let state = self.shared.state();
        if state.attempts != attempts {
            return state;
        }
        let shared = Arc::clone(&self.shared);
        // A separate task, because the caller may be cancelled while others wait for the same result.
        let fetching = tokio::spawn(async move {
            shared.fetch(now).await;
            drop(fetch_lock);
        });
        if let Err(error) = fetching.await {
            warn!(%error, "the fetch of the key set was cancelled");
        }
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> KeySetState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self, now: u64) {
        let answer = self.endpoint.get().await;
        let set = answer.map_err(|e| e.to_string()).and_then(|body| KeySet::read(&body));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.attempts += 1;
        state.last_attempt = Some(now);
        match set {
            Ok(set) => {
                debug!(endpoint = %self.endpoint, keys = set.count(), "fetched the key set");
                if !set.remarks().is_empty() {
                    let remarks = set.remarks().join("; ");
                    warn!(endpoint = %self.endpoint, remarks, "the key set holds unusable keys, or keys in a wrong format");
                }
                if set.count() == 0 {
                    warn!(endpoint = %self.endpoint, "the key set holds no key that can be used");
                }
                state.keys = Arc::new(set);
                state.fetched_at = Some(now);
                state.failure = None;
            }
            Err(error) => {
                warn!(endpoint = %self.endpoint, error, "the key set cannot be fetched");
                state.failure = Some(error.into());
            }
        }
    }
}
