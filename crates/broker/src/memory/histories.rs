//! The histories of the channels of one stripe: the order of their last publications, and eviction.
//!
//! Invariants:
//! - A channel has a history from its first publication until it expires or is evicted. Queries create none.
//! - When a history ends, its epoch ends: the channel's next history has another one, so nothing is recovered across
//!   the end.
//! - Histories without publications (only their position is stored) are evicted before any other; others in the order
//!   of their last publication, the oldest first.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault};
use std::time::Instant;

use tidings_wire::{Channel, NameMap};

use super::budget::{Account, ExceededBudget};
use super::history::{POSITION_OVERHEAD, Window};

/// Most of the oldest histories that are examined in a search for one without publications.
const MAX_EXAMINED: usize = 8;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Histories {
    windows: NameMap<Channel, StoredHistory>,
    /// By namespace, in the order of the last publication.
    orders: HashMap<Box<str>, Order>,
    /// Number of ended histories by kind of channel.
    ended: HashMap<u8, u32>,
    publications: u64,
}

#[derive(Debug)]
struct StoredHistory {
    window: Window,
    account: Account,
    /// The number of the last publication, which is the history's key in the order.
    at: u64,
    /// Whether it is marked as having no publications.
    empty: bool,
}

#[derive(Debug, Default)]
struct Order {
    empty: BTreeMap<u64, Channel>,
    nonempty: BTreeMap<u64, Channel>,
}

/// The namespace of a channel: the part of its name before the first colon; empty without one.
pub(super) fn namespace(channel: &Channel) -> &str {
    channel.as_str().split_once(':').map_or("", |(namespace, _)| namespace)
}

/// Bytes of a channel's position.
fn cost(channel: &Channel) -> usize {
    POSITION_OVERHEAD + channel.as_str().len()
}

impl Histories {
    /// The history of a channel, unless it does not exist or has expired.
    pub(super) fn get(&mut self, channel: &Channel, now: Instant) -> Option<&mut Window> {
        let stored = self.windows.get_mut(channel)?;
        if stored.window.is_over(now) {
            self.end(channel);
            return None;
        }
        self.windows.get_mut(channel).map(|stored| &mut stored.window)
    }

    /// The budgets of a channel's history.
    pub(super) fn account(&self, channel: &Channel) -> Option<&Account> {
        self.windows.get(channel).map(|stored| &stored.account)
    }

    /// Begins a history, made by `new` from the number of ended ones.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn begin(
        &mut self,
        channel: &Channel,
        account: Account,
        new: impl FnOnce(u32, Account) -> Window,
    ) -> Result<(), ExceededBudget> {
        account.reserve(cost(channel))?;
        let window = new(self.ended(channel), account.clone());
        self.windows.insert(channel.clone(), StoredHistory { window, account, at: 0, empty: false });
        self.move_to_end(channel);
        Ok(())
    }

    /// Moves a channel to the end of the order, because it is published to.
    pub(super) fn move_to_end(&mut self, channel: &Channel) {
        let Some(stored) = self.windows.get_mut(channel) else { return };
        self.publications += 1;
        let before = std::mem::replace(&mut stored.at, self.publications);
        let empty = std::mem::replace(&mut stored.empty, false);
        if !self.orders.contains_key(namespace(channel)) {
            self.orders.insert(namespace(channel).into(), Order::default());
        }
        if let Some(order) = self.orders.get_mut(namespace(channel)) {
            let known = if empty { &mut order.empty } else { &mut order.nonempty }.remove(&before);
            order.nonempty.insert(self.publications, known.unwrap_or_else(|| channel.clone()));
        }
    }

    /// Number of ended histories of channels of the same kind.
    pub(super) fn ended(&self, channel: &Channel) -> u32 {
        self.ended.get(&kind(channel)).copied().unwrap_or_default()
    }

    /// Evicts the first history in the order, except that of `but`; of the same namespace if that one is full. With
    /// `empty`, only one without publications. Returns whether one was evicted.
    pub(super) fn evict(&mut self, but: &Channel, full: ExceededBudget, empty: bool, now: Instant) -> bool {
        if empty {
            self.mark_empty(but, full, now);
        }
        let first = |order: &Order| {
            let order = if empty { &order.empty } else { &order.nonempty };
            order.iter().find(|(_, channel)| *channel != but).map(|(at, channel)| (*at, channel.clone()))
        };
        let oldest = match full {
            ExceededBudget::Namespace => self.orders.get(namespace(but)).and_then(first),
            ExceededBudget::Total => self.orders.values().filter_map(first).min_by_key(|(at, _)| *at),
        };
        let Some((_, channel)) = oldest else { return false };
        self.end(&channel);
        true
    }

    /// Marks those of the oldest histories that have no publications left, between two sweeps.
    fn mark_empty(&mut self, but: &Channel, full: ExceededBudget, now: Instant) {
        let own = namespace(but);
        let orders = self.orders.iter().filter(|(namespace, order)| {
            order.empty.is_empty() && (full == ExceededBudget::Total || &***namespace == own)
        });
        let oldest = orders.flat_map(|(_, order)| order.nonempty.values().take(MAX_EXAMINED)).cloned();
        for channel in oldest.filter(|channel| channel != but).collect::<Vec<_>>() {
            if let Some(stored) = self.windows.get_mut(&channel)
                && (stored.window.is_over(now) || stored.window.is_empty())
            {
                self.note_empty(&channel);
            }
        }
    }

    fn note_empty(&mut self, channel: &Channel) {
        let Some(stored) = self.windows.get_mut(channel).filter(|stored| !stored.empty) else { return };
        stored.empty = true;
        if let Some(order) = self.orders.get_mut(namespace(channel))
            && let Some(channel) = order.nonempty.remove(&stored.at)
        {
            order.empty.insert(stored.at, channel);
        }
    }

    /// Removes expired histories, and marks those without publications.
    pub(super) fn remove_expired(&mut self, now: Instant) {
        let (mut over, mut empty) = (Vec::new(), Vec::new());
        for (channel, stored) in &mut self.windows {
            if stored.window.is_over(now) {
                over.push(channel.clone());
            } else if !stored.empty && stored.window.is_empty() {
                empty.push(channel.clone());
            }
        }
        over.iter().for_each(|channel| self.end(channel));
        empty.iter().for_each(|channel| self.note_empty(channel));
    }

    fn end(&mut self, channel: &Channel) {
        let Some(mut stored) = self.windows.remove(channel) else { return };
        stored.window.clear();
        stored.account.release(cost(channel));
        *self.ended.entry(kind(channel)).or_default() += 1;
        if let Some(order) = self.orders.get_mut(namespace(channel)) {
            if stored.empty { &mut order.empty } else { &mut order.nonempty }.remove(&stored.at);
            if order.empty.is_empty() && order.nonempty.is_empty() {
                self.orders.remove(namespace(channel));
            }
        }
    }
}

/// The kind of a channel: one of 256 by a hash of its name.
fn kind(channel: &Channel) -> u8 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(channel).to_le_bytes()[7]
}
