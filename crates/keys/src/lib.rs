//! API keys of backends: names, scopes, and the comparison with a given key.
//!
//! A key has a name, by which logs refer to it, and [`Scopes`], the operations that it permits. Several keys are valid at
//! the same time, so that a key can be replaced without an interruption.
//!
//! Invariants:
//! - A given key is compared with every key, in a time that depends on the lengths of the keys alone.
//! - No error, log entry or `Debug` contains a key.

mod scope;

use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use tidings_wire::Secret;

pub use scope::{Scope, Scopes};

/// Most keys of a server.
pub const MAX_KEYS: usize = 64;
/// Most keys without a name in a list: that of the HTTP API, and that of the API over gRPC.
const UNNAMED_KEYS: usize = 2;
/// The bytes of a generated key.
const GENERATED_BYTES: usize = 32;
/// The name of the key in requests without one, where none is required.
const NO_KEY: &str = "";

/// A key with its name and scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The name, for logs.
    pub name: Arc<str>,
    /// The key.
    pub secret: Secret,
    /// The operations that it permits.
    pub scopes: Scopes,
}

/// The number of a key in [`ApiKeys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyIndex(u8);

impl KeyIndex {
    /// The number of the key at `number`, for [`ApiKeys::get`].
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The number, at most [`MAX_KEYS`].
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// The keys of a server, at most [`MAX_KEYS`] and two more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeys(Vec<ApiKey>);

/// The sender of an authorized request, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiIdentity {
    /// The name of the key; empty where the server requires none.
    pub name: Arc<str>,
    /// The operations that the key permits.
    pub scopes: Scopes,
}

impl ApiIdentity {
    /// The sender of a request to a server that requires no key.
    pub fn without_key() -> Self {
        Self { name: NO_KEY.into(), scopes: Scopes::ALL }
    }
}

impl From<&ApiKey> for ApiIdentity {
    fn from(key: &ApiKey) -> Self {
        Self { name: Arc::clone(&key.name), scopes: key.scopes }
    }
}

impl FromIterator<ApiKey> for ApiKeys {
    /// The keys that are set. Keys beyond the bound are left out.
    fn from_iter<I: IntoIterator<Item = ApiKey>>(keys: I) -> Self {
        Self(keys.into_iter().filter(|key| key.secret.is_set()).take(MAX_KEYS + UNNAMED_KEYS).collect())
    }
}

impl ApiKeys {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that is equal to `given`. Compares all keys.
    pub fn find(&self, given: &[u8]) -> Option<KeyIndex> {
        let mut found = None;
        for (index, key) in (0..).zip(&self.0) {
            let is_equal = key.secret.equals(given);
            found = std::hint::black_box(if is_equal { Some(KeyIndex(index)) } else { found });
        }
        found
    }

    /// A key by its number.
    pub fn get(&self, index: KeyIndex) -> Option<&ApiKey> {
        self.0.get(usize::from(index.0))
    }

    /// The number in `self` of a key that has the number `index` in `before`; `None` if the key is no longer valid.
    pub fn carry_over(&self, before: &Self, index: KeyIndex) -> Option<KeyIndex> {
        self.find(before.get(index)?.secret.expose().as_bytes())
    }

    /// Whether every key of `before` is still valid.
    pub fn contains_all(&self, before: &Self) -> bool {
        before.0.iter().all(|key| self.find(key.secret.expose().as_bytes()).is_some())
    }
}

/// A new random key of 256 bits, in hexadecimal digits.
///
/// # Errors
/// When the operating system has no random numbers.
pub fn generate() -> Result<String, ring::error::Unspecified> {
    let mut bytes = [0; GENERATED_BYTES];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str, scopes: &[Scope]) -> ApiKey {
        ApiKey { name: name.into(), secret: Secret::new(secret), scopes: scopes.iter().copied().collect() }
    }

    #[test]
    fn two_keys_are_valid_at_the_same_time_and_no_others() {
        let keys: ApiKeys =
            [key("old", "s3cret", &[Scope::Read]), key("new", "s3creT", &[]), key("unset", "", &[])]
                .into_iter()
                .collect();
        let name =
            |given: &str| keys.find(given.as_bytes()).and_then(|at| keys.get(at)).map(|key| &*key.name);
        assert_eq!(
            [name("s3cret"), name("s3creT"), name("s3cre"), name("")],
            [Some("old"), Some("new"), None, None]
        );
        assert!(!format!("{keys:?}").contains("s3cre"));
    }

    #[test]
    fn a_key_keeps_its_identity_when_others_are_added_or_removed() {
        let before: ApiKeys = [key("a", "one", &[]), key("b", "two", &[])].into_iter().collect();
        let after: ApiKeys = [key("b", "two", &[Scope::Publish])].into_iter().collect();
        let (one, two) = (before.find(b"one").expect("a"), before.find(b"two").expect("b"));
        assert_eq!(after.carry_over(&before, one), None);
        let carried = after.carry_over(&before, two).and_then(|at| after.get(at)).expect("b");
        assert!(carried.scopes.contains(Scope::Publish));
        assert!(!after.contains_all(&before) && before.contains_all(&after));
    }

    #[test]
    fn generated_keys_differ_and_have_64_digits() {
        let (a, b) = (generate().expect("random"), generate().expect("random"));
        assert!(a != b && a.len() == 64 && a.bytes().all(|c| c.is_ascii_hexdigit()), "{a} {b}");
    }
}
