//! The state of the channels of one stripe.
//!
//! Invariants:
//! - Every stored byte is reserved in the budget, and released with its owner.
//! - Nothing is stored longer than its lifetime plus one round of sweeping.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use tidings_wire::{Channel, ClientInfo, Delivery};

use super::budget::Budget;
use super::histories::Histories;
use super::history::later;
use crate::{ANSWER_OVERHEAD, IDEMPOTENCY_TTL, Members, PresenceStats, Published};

/// Memory of a result or a member besides its texts.
const RECORD_OVERHEAD: usize = 320;

/// The channels of one stripe.
#[derive(Default)]
pub(super) struct Stripe {
    pub(super) subscribed: HashSet<Channel>,
    /// The deliveries of one publication, kept for its capacity; empty whenever the stripe is unlocked.
    pub(super) batch: Vec<Delivery>,
    pub(super) histories: Histories,
    results: HashMap<(Channel, String), Published>,
    /// The results by their expiry, the next one first.
    result_expiries: VecDeque<(Instant, (Channel, String))>,
    present: HashMap<Channel, HashMap<String, Member>>,
}

struct Member {
    info: ClientInfo,
    until: Instant,
    cost: usize,
}

/// A stripe keeps memory for this many channels.
const RETAINED_CAPACITY: usize = 256;

impl Stripe {
    /// Removes a subscription; returns the memory of many removed ones.
    pub(super) fn unsubscribe(&mut self, channel: &Channel) {
        self.subscribed.remove(channel);
        let len = self.subscribed.len();
        if self.subscribed.capacity() > RETAINED_CAPACITY.max(4 * len) {
            self.subscribed.shrink_to(2 * len);
        }
    }

    /// The result of the publication with this key.
    pub(super) fn result(
        &mut self,
        key: &(Channel, String),
        now: Instant,
        budget: &Budget,
    ) -> Option<Published> {
        self.expire_results(now, budget);
        self.results.get(key).cloned()
    }

    /// Stores a result; its [`result_cost`] is already reserved.
    pub(super) fn store_result(&mut self, key: (Channel, String), result: Published, now: Instant) {
        self.result_expiries.push_back((later(now, IDEMPOTENCY_TTL), key.clone()));
        self.results.insert(key, result);
    }

    /// Adds or refreshes a member; returns whether the budget had room for it.
    pub(super) fn add_member(
        &mut self,
        channel: &Channel,
        info: &ClientInfo,
        ttl: Duration,
        now: Instant,
        budget: &Budget,
    ) -> bool {
        let cost = RECORD_OVERHEAD + channel.as_str().len() + info.client.len() + info.size();
        let members = self.present.entry(channel.clone()).or_default();
        let before = members.get(&info.client).map_or(0, |member| member.cost);
        let granted = cost <= before || budget.reserve(cost - before);
        if granted {
            budget.release(before.saturating_sub(cost));
            let member = Member { info: info.clone(), until: later(now, ttl), cost };
            members.insert(info.client.clone(), member);
        } else if members.is_empty() {
            self.present.remove(channel);
        }
        granted
    }

    pub(super) fn remove_member(&mut self, channel: &Channel, client: &str, budget: &Budget) {
        let Some(members) = self.present.get_mut(channel) else { return };
        if let Some(member) = members.remove(client) {
            budget.release(member.cost);
        }
        if members.is_empty() {
            self.present.remove(channel);
        }
    }

    /// The members of a channel; `None` when they take more than `max_bytes`.
    pub(super) fn members(&self, channel: &Channel, now: Instant, max_bytes: usize) -> Option<Members> {
        let mut left = max_bytes;
        let count = |info: &ClientInfo| {
            left = left.checked_sub(info.client.len() + info.size() + ANSWER_OVERHEAD)?;
            Some(info.clone())
        };
        self.present_at(channel, now).map(count).collect()
    }

    pub(super) fn stats(&self, channel: &Channel, now: Instant) -> PresenceStats {
        let users: HashSet<_> = self.present_at(channel, now).map(|info| info.user.as_str()).collect();
        PresenceStats { clients: self.present_at(channel, now).count() as u64, users: users.len() as u64 }
    }

    fn present_at(&self, channel: &Channel, now: Instant) -> impl Iterator<Item = &ClientInfo> {
        let members = self.present.get(channel).into_iter().flat_map(HashMap::values);
        members.filter(move |member| member.until > now).map(|member| &member.info)
    }

    /// Removes expired results, histories and members.
    pub(super) fn remove_expired(&mut self, now: Instant, budget: &Budget) {
        self.expire_results(now, budget);
        self.histories.remove_expired(now);
        self.expire_members(now, budget);
    }

    /// Removes expired members of all channels.
    fn expire_members(&mut self, now: Instant, budget: &Budget) {
        self.present.retain(|_, members| {
            members.retain(|_, member| {
                let over = member.until <= now;
                if over {
                    budget.release(member.cost);
                }
                !over
            });
            !members.is_empty()
        });
    }

    fn expire_results(&mut self, now: Instant, budget: &Budget) {
        while self.result_expiries.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, key)) = self.result_expiries.pop_front() else { break };
            budget.release(result_cost(&key));
            self.results.remove(&key);
        }
    }
}

/// Bytes of a stored result.
pub(super) fn result_cost((channel, key): &(Channel, String)) -> usize {
    RECORD_OVERHEAD + channel.as_str().len() + 2 * key.len()
}
