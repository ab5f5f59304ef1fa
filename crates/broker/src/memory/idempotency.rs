//! Results of publications with an idempotency key, in the channels of one stripe.
//!
//! Invariant: the bytes of every result are reserved in the budget, and released with it.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use tidings_wire::Channel;

use super::budget::{Budget, RECORD_OVERHEAD};
use super::history::later;
use crate::{IDEMPOTENCY_TTL, Published};

/// The channel of a publication, and its idempotency key.
pub(super) type IdempotencyKey = (Channel, String);

/// Results by key.
#[derive(Default)]
pub(super) struct IdempotentResults {
    results: HashMap<IdempotencyKey, Published>,
    /// The keys by their expiry, the next one first.
    expiries: VecDeque<(Instant, IdempotencyKey)>,
}

impl IdempotentResults {
    /// The result of the publication with this key.
    pub(super) fn get(&mut self, key: &IdempotencyKey, now: Instant, budget: &Budget) -> Option<Published> {
        self.expire(now, budget);
        self.results.get(key).cloned()
    }

    /// Stores a result; its [`result_cost`] is already reserved.
    pub(super) fn store(&mut self, key: IdempotencyKey, result: Published, now: Instant) {
        self.expiries.push_back((later(now, IDEMPOTENCY_TTL), key.clone()));
        self.results.insert(key, result);
    }

    /// Removes expired results.
    pub(super) fn expire(&mut self, now: Instant, budget: &Budget) {
        while self.expiries.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, key)) = self.expiries.pop_front() else { break };
            budget.release(result_cost(&key));
            self.results.remove(&key);
        }
    }
}

/// Bytes of a stored result.
pub(super) fn result_cost((channel, key): &IdempotencyKey) -> usize {
    RECORD_OVERHEAD + channel.as_str().len() + 2 * key.len()
}
