//! The presence of clients in the channels of one stripe.
//!
//! Invariant: the bytes of every member are reserved in the budget, and released with it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tidings_wire::{Channel, ClientInfo, NameMap};

use super::budget::{Budget, RECORD_OVERHEAD};
use super::history::later;
use crate::{ANSWER_OVERHEAD, Members, PresenceStats};

/// The members of channels.
#[derive(Default)]
pub(super) struct Presence {
    members: NameMap<Channel, HashMap<String, Member>>,
}

struct Member {
    info: ClientInfo,
    until: Instant,
    cost: usize,
}

impl Presence {
    /// Adds or refreshes a member; returns whether the budget had room for it.
    pub(super) fn add(
        &mut self,
        channel: &Channel,
        info: &ClientInfo,
        ttl: Duration,
        now: Instant,
        budget: &Budget,
    ) -> bool {
        let cost = RECORD_OVERHEAD + channel.as_str().len() + info.client.len() + info.size();
        let members = self.members.entry(channel.clone()).or_default();
        let before = members.get(&info.client).map_or(0, |member| member.cost);
        let granted = cost <= before || budget.reserve(cost - before);
        if granted {
            budget.release(before.saturating_sub(cost));
            let member = Member { info: info.clone(), until: later(now, ttl), cost };
            members.insert(info.client.clone(), member);
        } else if members.is_empty() {
            self.members.remove(channel);
        }
        granted
    }

    /// Removes a member, if it is present.
    pub(super) fn remove(&mut self, channel: &Channel, client: &str, budget: &Budget) {
        let Some(members) = self.members.get_mut(channel) else { return };
        if let Some(member) = members.remove(client) {
            budget.release(member.cost);
        }
        if members.is_empty() {
            self.members.remove(channel);
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

    /// The numbers of clients and users of a channel.
    pub(super) fn stats(&self, channel: &Channel, now: Instant) -> PresenceStats {
        let users: HashSet<_> = self.present_at(channel, now).map(|info| info.user.as_str()).collect();
        PresenceStats { clients: self.present_at(channel, now).count() as u64, users: users.len() as u64 }
    }

    fn present_at(&self, channel: &Channel, now: Instant) -> impl Iterator<Item = &ClientInfo> {
        let members = self.members.get(channel).into_iter().flat_map(HashMap::values);
        members.filter(move |member| member.until > now).map(|member| &member.info)
    }

    /// Removes expired members of all channels.
    pub(super) fn expire_members(&mut self, now: Instant, budget: &Budget) {
        self.members.retain(|_, members| {
            members.retain(|_, member| {
                let is_expired = member.until <= now;
                if is_expired {
                    budget.release(member.cost);
                }
                !is_expired
            });
            !members.is_empty()
        });
    }
}
