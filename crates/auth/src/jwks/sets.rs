//! The key sets of several issuers, whose addresses depend on the token.
//!
//! Invariants:
//! - A key set belongs to one address: a key of one issuer verifies no token of another, also with the same key id.
//! - A pattern must match the whole issuer or audience before its groups count, because a client chooses the rest of its token
//!   until the signature is verified.
//! - At most [`MAX_SETS`] sets are kept, and at most [`MAX_NEW`] are added within [`NEW_INTERVAL`], because anyone can invent issuers that
//!   match the pattern.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidings_outbound::TlsError;
use tidings_pattern::Pattern;

use super::{Jwks, JwksUrl};
use crate::error::{Refusal, TokenError};

/// Most key sets; a further one replaces one without keys, or the one that was used least recently.
const MAX_SETS: usize = 256;
/// Most new key sets within [`NEW_INTERVAL`].
const MAX_NEW: u32 = 16;
/// The interval of [`MAX_NEW`], in seconds.
const NEW_INTERVAL: u64 = 10;

/// Key sets by their addresses.
pub(crate) struct JwksSets {
    url: JwksUrl,
    option: String,
    /// The patterns of issuers and audiences, for whole texts.
    issuer: Option<Pattern>,
    audience: Option<Pattern>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sets: HashMap<String, Entry>,
    /// The number of lookups.
    uses: u64,
    /// When the interval began, in Unix seconds, and the sets that were added in it.
    interval: u64,
    new: u32,
}

struct Entry {
    set: Arc<Jwks>,
    used: u64,
}

impl JwksSets {
    /// Sets to be fetched from `url`, the value of the option `option`, whose variables are groups of these patterns.
    ///
    /// # Errors
    /// [`TlsError`] when it is an `https` address and TLS cannot be set up.
    pub(crate) fn new(
        url: &JwksUrl,
        option: &str,
        issuer: Option<&Pattern>,
        audience: Option<&Pattern>,
    ) -> Result<Self, TlsError> {
        if let Ok(example) = url.example().parse() {
            Jwks::new(&example, option)?;
        }
        // The configuration has checked that there is such a pattern.
        let whole = |pattern: Option<&Pattern>| pattern.and_then(|pattern| pattern.whole().ok());
        let (issuer, audience) = (whole(issuer), whole(audience));
        Ok(Self { url: url.clone(), option: option.to_owned(), issuer, audience, state: Mutex::default() })
    }

    /// The set for tokens of this issuer and for these audiences.
    ///
    /// # Errors
    /// [`Refusal::Origin`] for a value that cannot be in an address; [`TokenError::Unavailable`] if too many sets are new.
    pub(crate) fn get(
        &self,
        issuer: Option<&str>,
        audiences: &[String],
        now: u64,
    ) -> Result<Arc<Jwks>, TokenError> {
        let of_issuer = |name: &str| self.issuer.as_ref()?.group(issuer?, name);
        let of_audiences = |name: &str| {
            let pattern = self.audience.as_ref()?;
            audiences.iter().find_map(|audience| pattern.group(audience, name))
        };
        let address =
            self.url.resolve(|name| of_issuer(name).or_else(|| of_audiences(name)).map(str::to_owned));
        let address = address.ok_or(Refusal::Origin)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.uses += 1;
        let used = state.uses;
        if let Some(entry) = state.sets.get_mut(&address.to_string()) {
            entry.used = used;
            return Ok(Arc::clone(&entry.set));
        }
        if state.interval.abs_diff(now) >= NEW_INTERVAL {
            (state.interval, state.new) = (now, 0);
        }
        if state.new >= MAX_NEW {
            let text = format!("{MAX_NEW} new key sets within {NEW_INTERVAL} s are the limit");
            return Err(TokenError::Unavailable(text));
        }
        let set = Jwks::new(&address, &self.option);
        let set = Arc::new(set.map_err(|error| TokenError::Unavailable(error.to_string()))?);
        state.new += 1;
        if state.sets.len() >= MAX_SETS {
            let oldest = state.sets.iter().min_by_key(|(_, entry)| (entry.set.has_keys(), entry.used));
            let oldest = oldest.map(|(address, _)| address.clone());
            if let Some(address) = oldest {
                state.sets.remove(&address);
            }
        }
        state.sets.insert(address.to_string(), Entry { set: Arc::clone(&set), used });
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_bounded_in_number_and_in_new_ones() {
        let url = JwksUrl::new("http://127.0.0.1:9/{{realm}}").unwrap();
        let issuer = Pattern::new("^id/(?P<realm>[0-9]+)$").unwrap();
        let sets = JwksSets::new(&url, "client.token.jwks_public_endpoint", Some(&issuer), None).unwrap();
        let get = |realm: usize, now: u64| sets.get(Some(&format!("id/{realm}")), &[], now);
        let first = get(0, 100).unwrap();
        for realm in 1..MAX_NEW as usize {
            assert!(get(realm, 100).is_ok(), "{realm}");
        }
        assert!(matches!(get(99, 109), Err(TokenError::Unavailable(_))));
        assert!(Arc::ptr_eq(&first, &get(0, 109).unwrap()), "a known set is not counted");
        for realm in 0..MAX_SETS {
            get(1_000 + realm, 1_000 + realm as u64).unwrap();
            get(0, 1_000 + realm as u64).unwrap();
        }
        assert_eq!(sets.state.lock().unwrap().sets.len(), MAX_SETS);
        assert!(Arc::ptr_eq(&first, &get(0, 10_000).unwrap()), "one in use stays");
    }
}
