//! How many connections each user has on this node, over all shards.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts of the table, so that shards seldom wait for each other.
const PARTS: usize = 16;

/// Counts connections of users against `client.user_connection_limit`. Asked when a user comes and when it goes, never
/// for a command; without a limit nothing is counted.
#[derive(Debug, Default)]
pub struct UserConnections {
    /// 0 is no limit.
    limit: usize,
    hasher: RandomState,
    parts: [Mutex<HashMap<Box<str>, usize>>; PARTS],
    refused: AtomicU64,
}

impl UserConnections {
    /// At most `limit` connections of one user; 0 is no limit.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many connections were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts one more connection of a user, if it may have one. `again` is for one that it has already and that says
    /// once more who it is.
    pub(crate) fn take(&self, user: &str, again: bool) -> bool {
        if self.limit == 0 || user.is_empty() {
            return true;
        }
        let mut part = self.part(user);
        let count = part.get(user).copied().unwrap_or(0);
        if count >= self.limit + usize::from(again) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        match part.get_mut(user) {
            Some(count) => *count += 1,
            None => drop(part.insert(user.into(), 1)),
        }
        true
    }

    /// One connection of a user less.
    pub(crate) fn give_back(&self, user: &str) {
        if self.limit == 0 || user.is_empty() {
            return;
        }
        let mut part = self.part(user);
        match part.get_mut(user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(part.remove(user)),
        }
    }

    fn part(&self, user: &str) -> MutexGuard<'_, HashMap<Box<str>, usize>> {
        let at = self.hasher.hash_one(user) as usize % PARTS;
        self.parts[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_as_many_connections_as_the_limit_and_others_their_own() {
        let users = UserConnections::new(2);
        assert!(users.take("ann", false) && users.take("ann", false) && !users.take("ann", false));
        assert!(users.take("bob", false) && users.take("", false));
        users.give_back("ann");
        assert!(users.take("ann", false) && !users.take("ann", false));
        // One that says again who it is: it has two places for a moment.
        assert!(users.take("ann", true));
        users.give_back("ann");
        for _ in 0..2 {
            users.give_back("ann");
        }
        users.give_back("bob");
        assert!(users.parts.iter().all(|part| part.lock().expect("no panic").is_empty()));
        assert_eq!(users.refused(), 2);
    }
}
