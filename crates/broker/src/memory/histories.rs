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

use tidings_wire::Channel;

use super::budget::{Account, Full};
use super::history::{META, Window};

/// Most of the oldest histories that are examined to find one without publications.
const LOOK: usize = 8;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Histories {
    windows: HashMap<Channel, Kept>,
    /// By namespace, in the order of the last publication.
    orders: HashMap<Box<str>, Order>,
    /// Number of ended histories by kind of channel.
    ended: HashMap<u8, u32>,
    publications: u64,
}

#[derive(Debug)]
struct Kept {
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
    kept: BTreeMap<u64, Channel>,
}

/// The namespace of a channel: the part of its name before the first colon; empty without one.
pub(super) fn namespace(channel: &Channel) -> &str {
    channel.as_str().split_once(':').map_or("", |(namespace, _)| namespace)
}

/// Bytes of a channel's position.
fn cost(channel: &Channel) -> usize {
    META + channel.as_str().len()
}

impl Histories {
    /// The history of a channel, unless it does not exist or has expired.
    pub(super) fn get(&mut self, channel: &Channel, now: Instant) -> Option<&mut Window> {
        let kept = self.windows.get_mut(channel)?;
        if kept.window.is_over(now) {
            self.end(channel);
            return None;
        }
        self.windows.get_mut(channel).map(|kept| &mut kept.window)
    }

    /// The budgets of a channel's history.
    pub(super) fn account(&self, channel: &Channel) -> Option<&Account> {
        self.windows.get(channel).map(|kept| &kept.account)
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
    ) -> Result<(), Full> {
        account.take(cost(channel))?;
        let window = new(self.ended(channel), account.clone());
        self.windows.insert(channel.clone(), Kept { window, account, at: 0, empty: false });
        self.used(channel);
        Ok(())
    }

    /// Moves a channel to the end of the order, because it is published to.
    pub(super) fn used(&mut self, channel: &Channel) {
        let Some(kept) = self.windows.get_mut(channel) else { return };
        self.publications += 1;
        let before = std::mem::replace(&mut kept.at, self.publications);
        let empty = std::mem::replace(&mut kept.empty, false);
        if !self.orders.contains_key(namespace(channel)) {
            self.orders.insert(namespace(channel).into(), Order::default());
        }
        if let Some(order) = self.orders.get_mut(namespace(channel)) {
            let known = if empty { &mut order.empty } else { &mut order.kept }.remove(&before);
            order.kept.insert(self.publications, known.unwrap_or_else(|| channel.clone()));
        }
    }

    /// Number of ended histories of channels of the same kind.
    pub(super) fn ended(&self, channel: &Channel) -> u32 {
        self.ended.get(&kind(channel)).copied().unwrap_or_default()
    }

    /// Evicts the first history in the order, of another channel than `but`; of the same namespace if that one is full.
    /// With `empty`, only one without publications. Returns whether there was one.
    pub(super) fn evict(&mut self, but: &Channel, full: Full, empty: bool, now: Instant) -> bool {
        if empty {
            self.find_empty(but, full, now);
        }
        let first = |order: &Order| {
            let order = if empty { &order.empty } else { &order.kept };
            order.iter().find(|(_, channel)| *channel != but).map(|(at, channel)| (*at, channel.clone()))
        };
        let oldest = match full {
            Full::Namespace => self.orders.get(namespace(but)).and_then(first),
            Full::Total => self.orders.values().filter_map(first).min_by_key(|(at, _)| *at),
        };
        let Some((_, channel)) = oldest else { return false };
        self.end(&channel);
        true
    }

    /// Marks those of the oldest histories that have no publications left, between two sweeps.
    fn find_empty(&mut self, but: &Channel, full: Full, now: Instant) {
        let own = namespace(but);
        let orders = self.orders.iter().filter(|(namespace, order)| {
            order.empty.is_empty() && (full == Full::Total || &***namespace == own)
        });
        let oldest = orders.flat_map(|(_, order)| order.kept.values().take(LOOK)).cloned();
        for channel in oldest.filter(|channel| channel != but).collect::<Vec<_>>() {
            if let Some(kept) = self.windows.get_mut(&channel)
                && (kept.window.is_over(now) || kept.window.is_empty())
            {
                self.note_empty(&channel);
            }
        }
    }

    fn note_empty(&mut self, channel: &Channel) {
        let Some(kept) = self.windows.get_mut(channel).filter(|kept| !kept.empty) else { return };
        kept.empty = true;
        if let Some(order) = self.orders.get_mut(namespace(channel))
            && let Some(channel) = order.kept.remove(&kept.at)
        {
            order.empty.insert(kept.at, channel);
        }
    }

    /// Removes expired histories, and marks those without publications.
    pub(super) fn sweep(&mut self, now: Instant) {
        let (mut over, mut empty) = (Vec::new(), Vec::new());
        for (channel, kept) in &mut self.windows {
            if kept.window.is_over(now) {
                over.push(channel.clone());
            } else if !kept.empty && kept.window.is_empty() {
                empty.push(channel.clone());
            }
        }
        over.iter().for_each(|channel| self.end(channel));
        empty.iter().for_each(|channel| self.note_empty(channel));
    }

    fn end(&mut self, channel: &Channel) {
        let Some(mut kept) = self.windows.remove(channel) else { return };
        kept.window.clear();
        kept.account.give(cost(channel));
        *self.ended.entry(kind(channel)).or_default() += 1;
        if let Some(order) = self.orders.get_mut(namespace(channel)) {
            if kept.empty { &mut order.empty } else { &mut order.kept }.remove(&kept.at);
            if order.empty.is_empty() && order.kept.is_empty() {
                self.orders.remove(namespace(channel));
            }
        }
    }
}

/// The kind of a channel: one of 256 by a hash of its name.
fn kind(channel: &Channel) -> u8 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(channel).to_le_bytes()[7]
}
