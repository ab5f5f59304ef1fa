//! The state of the channels of one stripe.
//!
//! Invariants:
//! - Every stored byte is reserved in the budget, and released with its owner.
//! - Nothing is stored longer than its lifetime plus one round of sweeping.

use std::sync::Arc;
use std::time::Instant;

use tidings_map_state::{Budget as MapBudget, Maps};
use tidings_wire::{Channel, Delivery, NameSet};

use super::budget::Budget;
use super::histories::Histories;
use super::idempotency::IdempotentResults;
use super::presence::Presence;

/// The channels of one stripe.
pub(super) struct Stripe {
    pub(super) subscribed: NameSet<Channel>,
    /// The deliveries of one publication, kept for its capacity; empty whenever the stripe is unlocked.
    pub(super) batch: Vec<Delivery>,
    pub(super) histories: Histories,
    pub(super) results: IdempotentResults,
    pub(super) presence: Presence,
    pub(super) maps: Maps,
}

/// A stripe keeps memory for this many channels.
const RETAINED_CAPACITY: usize = 256;

impl Stripe {
    /// An empty stripe, whose maps use this budget.
    pub(super) fn new(maps: &Arc<MapBudget>) -> Self {
        Self {
            subscribed: NameSet::default(),
            batch: Vec::new(),
            histories: Histories::default(),
            results: IdempotentResults::default(),
            presence: Presence::default(),
            maps: Maps::new(Arc::clone(maps)),
        }
    }

    /// Removes a subscription; returns the memory of many removed ones.
    pub(super) fn unsubscribe(&mut self, channel: &Channel) {
        self.subscribed.remove(channel);
        let len = self.subscribed.len();
        if self.subscribed.capacity() > RETAINED_CAPACITY.max(4 * len) {
            self.subscribed.shrink_to(2 * len);
        }
    }

    /// Removes expired results, histories and members.
    pub(super) fn remove_expired(&mut self, now: Instant, budget: &Budget) {
        self.results.expire(now, budget);
        self.histories.remove_expired(now);
        self.presence.expire_members(now, budget);
    }
}
