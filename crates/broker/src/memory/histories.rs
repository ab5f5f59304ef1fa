//! The histories of the channels of one stripe: in which order they were published to, and which go when there is no room.
//!
//! Invariants:
//! - A channel has a history from its first publication until its time is over or it is evicted. Asking makes none.
//! - A history that ends takes its epoch with it: the next one of that channel has another, so that nothing is recovered
//!   across the end.
//! - Histories without publications (only their position is remembered) are evicted before any other; those go by their
//!   last publication, the oldest first.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault};
use std::time::Instant;

use tidings_wire::Channel;

use super::budget::{Account, Full};
use super::history::{META, Window};

/// How many of those published to longest ago are looked at for one without publications.
const LOOK: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Histories {
    windows: HashMap<Channel, Kept>,
    /// By namespace, in the order of their last publication.
    orders: HashMap<Box<str>, Order>,
    /// How many histories of channels like one have ended.
    ended: HashMap<u8, u32>,
    publications: u64,
}

#[derive(Debug)]
struct Kept {
    window: Window,
    account: Account,
    /// The number of the last publication, by which it stands in the order.
    at: u64,
    /// Whether it is known to have no publications.
    empty: bool,
}

#[derive(Debug, Default)]
struct Order {
    empty: BTreeMap<u64, Channel>,
    kept: BTreeMap<u64, Channel>,
}

/// The namespace of a channel: what stands before the first colon of its name; empty without one.
pub(super) fn namespace(channel: &Channel) -> &str {
    channel.as_str().split_once(':').map_or("", |(namespace, _)| namespace)
}

/// Bytes that remembering a channel's position takes.
fn cost(channel: &Channel) -> usize {
    META + channel.as_str().len()
}

impl Histories {
    /// The history of a channel, if something was published to it in its time.
    pub(super) fn get(&mut self, channel: &Channel, now: Instant) -> Option<&mut Window> {
        let kept = self.windows.get_mut(channel)?;
        if kept.window.is_over(now) {
            self.end(channel);
            return None;
        }
        self.windows.get_mut(channel).map(|kept| &mut kept.window)
    }

    /// The account of a channel's history.
    pub(super) fn account(&self, channel: &Channel) -> Option<&Account> {
        self.windows.get(channel).map(|kept| &kept.account)
    }

    /// Begins a history with what `new` makes of the number of those that have ended.
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

    /// Something is published to a channel: it is the last to go.
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

    /// How many histories of channels like this one have ended.
    pub(super) fn ended(&self, channel: &Channel) -> u32 {
        self.ended.get(&kind(channel)).copied().unwrap_or_default()
    }

    /// Evicts the history that goes first, of another channel than `but`; of the same namespace where that one is full.
    /// With `empty`, only one without publications. Gives whether there was one.
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

    /// Notes which of those published to longest ago have no publications left, where sweeping has not found any yet.
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

    /// Forgets what has had its time, and notes which have no publications left.
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

/// Which channels are like this one: a 256th of those of a stripe.
fn kind(channel: &Channel) -> u8 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(channel).to_le_bytes()[7]
}
