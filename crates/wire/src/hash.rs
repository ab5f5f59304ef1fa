//! Maps whose keys are channels: looked up several times for each publication and subscription.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

/// A map by channel, topic or another name that clients choose.
pub type NameMap<K, V> = HashMap<K, V, NameHash>;
/// A set of such names.
pub type NameSet<K> = HashSet<K, NameHash>;

/// A keyed hash for short names, several times as fast as the standard library's SipHash. Each map has a random key, so that
/// clients cannot choose names that collide.
#[derive(Clone, Debug)]
pub struct NameHash(ahash::RandomState);

impl Default for NameHash {
    fn default() -> Self {
        // The standard library's random keys, from the operating system. SipHash does not reveal them.
        let random = std::hash::RandomState::new();
        let [a, b, c, d] = [0, 1, 2, 3].map(|part: u8| random.hash_one(part));
        Self(ahash::RandomState::with_seeds(a, b, c, d))
    }
}

impl BuildHasher for NameHash {
    type Hasher = ahash::AHasher;

    fn build_hasher(&self) -> ahash::AHasher {
        self.0.build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_map_has_a_key_of_its_own() {
        let (a, b) = (NameHash::default(), NameHash::default());
        assert_eq!(a.hash_one("news"), a.hash_one("news"));
        assert_ne!(a.hash_one("news"), b.hash_one("news"));
    }
}
