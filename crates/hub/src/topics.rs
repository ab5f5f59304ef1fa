//! Topics and their subscribers on this shard.
//!
//! A subscriber stands in its topic's list for the wire form it takes; the session remembers its place there, so
//! leaving costs one swap. Places are kept right by telling the session that was moved.
//!
//! Where a channel has a history, a subscriber gets a position and from there on every publication once. Its history
//! is read while publications go on, so a topic keeps what is fanned out while any subscribe waits for that
//! ([`Topics::start_recording`]), and the positions of subscribers that have publications which are still on their way ([`Topics::skip`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use slab::Slab;
use tidings_wire::body::DataFormat;
use tidings_wire::plain::Escape;
use tidings_wire::{Form, Position, Publication, Topic};

use crate::index::{Slot, TopicKey};
use crate::namespace::SlowConsumerPolicy;
use crate::session::SessionId;

/// Topics for which memory is kept whatever their number.
const SPARE: usize = 4096;

/// How the node's subscription to a topic stands at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Confirmed: nothing is missed.
    Live,
    /// Requested.
    Pending,
    /// The broker is unavailable; the topic is requested again when it returns.
    Unavailable,
}

/// A topic's subscribers on this shard.
#[derive(Debug)]
pub struct Entry {
    topic: Topic,
    serial: u64,
    live: bool,
    /// By form, those that there are: most topics have one or two.
    subscribers: Vec<(Form, Vec<Slot>)>,
    /// Sessions that wait until the topic is live.
    pub(crate) waiters: Vec<SessionId>,
    /// Subscribers on the whole node, shared with the other shards.
    count: Option<Arc<AtomicU64>>,
    default_channel: bool,
    data_format: DataFormat,
    escape: Escape,
    slow_consumer: SlowConsumerPolicy,
    history: bool,
    /// The position of the publication that was fanned out last.
    last: Option<Position>,
    /// What was fanned out since subscribes wait for the history.
    recent: Option<Box<Recent>>,
    /// Up to which position subscribers have the publications already.
    skips: HashMap<Slot, Position>,
}

/// Publications that are kept for subscribes under way.
#[derive(Debug, Default)]
struct Recent {
    /// How many subscribes those are.
    joins: usize,
    publications: Vec<Arc<Publication>>,
    bytes: usize,
    /// It was more than may be kept; nothing is kept any more.
    over: bool,
}

/// Whether `publication` is at or before `position`.
pub fn is_told(publication: &Publication, position: &Position) -> bool {
    let place = publication.position.as_ref();
    place.is_some_and(|place| place.epoch == position.epoch && place.offset <= position.offset)
}

impl Entry {
    /// What it is.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// A number that no other topic of this hub has or had; keys are reused.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The slots of the subscribers that take it in `form`.
    pub fn subscribers(&self, form: Form) -> &[Slot] {
        self.subscribers.iter().find(|(f, _)| *f == form).map_or(&[], |(_, list)| list)
    }

    /// The forms that have subscribers.
    pub fn forms(&self) -> impl Iterator<Item = Form> + '_ {
        self.subscribers.iter().map(|(form, _)| *form)
    }

    /// The slots of all subscribers.
    pub fn all_subscribers(&self) -> impl Iterator<Item = Slot> + '_ {
        self.subscribers.iter().flat_map(|(_, list)| list.iter().copied())
    }

    /// Whether publications have positions.
    pub(crate) fn has_history(&self) -> bool {
        self.history
    }

    /// What its encoding depends on.
    pub fn context(&self) -> tidings_wire::form::Context<'_> {
        tidings_wire::form::Context {
            topic: &self.topic,
            default_channel: self.default_channel,
            data_format: self.data_format,
            escape: self.escape,
        }
    }

    /// What happens to its slow subscribers.
    pub fn slow_consumer(&self) -> SlowConsumerPolicy {
        self.slow_consumer
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    fn len(&self) -> usize {
        self.subscribers.iter().map(|(_, list)| list.len()).sum()
    }
}

/// What a topic's entry is made with.
pub(crate) struct TopicOptions {
    pub(crate) default_channel: bool,
    pub(crate) data_format: DataFormat,
    pub(crate) escape: Escape,
    pub(crate) slow_consumer: SlowConsumerPolicy,
    pub(crate) history: bool,
}

/// All topics of a shard.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    keys: HashMap<Topic, TopicKey>,
    entries: Slab<Entry>,
    subscriptions: usize,
    next_serial: u64,
}

impl Topics {
    pub(crate) fn key(&self, topic: &Topic) -> Option<TopicKey> {
        self.keys.get(topic).copied()
    }

    pub(crate) fn get(&self, key: TopicKey) -> Option<&Entry> {
        self.entries.get(key.index())
    }

    pub(crate) fn get_mut(&mut self, key: TopicKey) -> Option<&mut Entry> {
        self.entries.get_mut(key.index())
    }

    /// The topic's key, and whether it had to be made (then it must be requested at the broker).
    pub(crate) fn ensure(
        &mut self,
        topic: &Topic,
        traits: impl FnOnce() -> TopicOptions,
    ) -> (TopicKey, bool) {
        if let Some(key) = self.key(topic) {
            return (key, false);
        }
        let TopicOptions { default_channel, data_format, escape, slow_consumer, history } = traits();
        self.next_serial += 1;
        let key = self.entries.insert(Entry {
            topic: topic.clone(),
            serial: self.next_serial,
            live: false,
            subscribers: Vec::new(),
            waiters: Vec::new(),
            count: None,
            default_channel,
            data_format,
            escape,
            slow_consumer,
            history,
            last: None,
            recent: None,
            skips: HashMap::new(),
        });
        let key = TopicKey::from_index(key);
        self.keys.insert(topic.clone(), key);
        (key, true)
    }

    /// Adds a subscriber; gives its place.
    pub(crate) fn add(&mut self, key: TopicKey, form: Form, slot: Slot) -> u32 {
        let entry = &mut self.entries[key.index()];
        let at = entry.subscribers.iter().position(|(f, _)| *f == form).unwrap_or_else(|| {
            entry.subscribers.push((form, Vec::new()));
            entry.subscribers.len() - 1
        });
        let list = &mut entry.subscribers[at].1;
        list.push(slot);
        if let Some(count) = &entry.count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.subscriptions += 1;
        u32::try_from(list.len() - 1).expect("fewer subscribers than four thousand million")
    }

    /// Removes the subscriber at `place`; gives the slot that stands there now, if one was moved.
    pub(crate) fn remove(&mut self, key: TopicKey, form: Form, place: u32) -> Option<Slot> {
        let entry = &mut self.entries[key.index()];
        let at = entry.subscribers.iter().position(|(f, _)| *f == form).expect("it was added");
        let list = &mut entry.subscribers[at].1;
        let slot = list.swap_remove(place as usize);
        let moved = list.get(place as usize).copied();
        if list.is_empty() {
            entry.subscribers.swap_remove(at);
        }
        if !entry.skips.is_empty() {
            entry.skips.remove(&slot);
        }
        if let Some(count) = &entry.count {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.subscriptions -= 1;
        moved
    }

    /// A session no longer waits for the topic.
    pub(crate) fn remove_waiter(&mut self, key: TopicKey, session: SessionId) {
        if let Some(entry) = self.entries.get_mut(key.index()) {
            entry.waiters.retain(|waiter| *waiter != session);
        }
    }

    /// Removes the topic if it has no subscribers and no waiting sessions; gives its name then.
    pub(crate) fn release(&mut self, key: TopicKey) -> Option<Topic> {
        let entry = self.entries.get(key.index())?;
        if entry.len() > 0 || !entry.waiters.is_empty() || entry.recent.is_some() {
            return None;
        }
        let entry = self.entries.remove(key.index());
        self.keys.remove(&entry.topic);
        self.give_back();
        Some(entry.topic)
    }

    /// Returns the memory of topics that are gone, once three quarters of it are unused.
    fn give_back(&mut self) {
        let len = self.keys.len();
        if self.keys.capacity() > SPARE.max(4 * len) {
            self.keys.shrink_to(2 * len);
            // As far as the places of those that stay allow.
            self.entries.shrink_to_fit();
        }
    }

    /// A subscribe waits for the history: publications are kept from now on. Gives the index of the next one.
    pub(crate) fn start_recording(&mut self, key: TopicKey) -> usize {
        let recent = self.entries[key.index()].recent.get_or_insert_default();
        recent.joins += 1;
        recent.publications.len()
    }

    /// What was kept from `from` on; `None` when it was too much.
    pub(crate) fn recent(&self, key: TopicKey, from: usize) -> Option<&[Arc<Publication>]> {
        let recent = self.entries.get(key.index())?.recent.as_ref()?;
        if recent.over { None } else { recent.publications.get(from..) }
    }

    /// A subscribe no longer waits for the history.
    pub(crate) fn stop_recording(&mut self, key: TopicKey) {
        if let Some(entry) = self.entries.get_mut(key.index())
            && let Some(recent) = &mut entry.recent
        {
            recent.joins -= 1;
            if recent.joins == 0 {
                entry.recent = None;
            }
        }
    }

    /// These publications are about to be fanned out; at most `bound` bytes are kept for waiting sessions.
    pub(crate) fn record(&mut self, key: TopicKey, publications: &[Arc<Publication>], bound: usize) {
        let Some(entry) = self.entries.get_mut(key.index()) else { return };
        if let Some(recent) = &mut entry.recent
            && !recent.over
        {
            recent.bytes += publications.iter().map(|p| p.size()).sum::<usize>();
            if recent.bytes > bound {
                recent.over = true;
                recent.publications = Vec::new();
            } else {
                recent.publications.extend_from_slice(publications);
            }
        }
        if let Some(position) = publications.iter().rev().find_map(|p| p.position.as_ref()) {
            entry.last = Some(position.clone());
        }
    }

    /// A subscriber has everything up to `position`: late publications at or before it are skipped.
    pub(crate) fn skip(&mut self, key: TopicKey, slot: Slot, position: Position) {
        let entry = &mut self.entries[key.index()];
        let passed = entry
            .last
            .as_ref()
            .is_some_and(|last| last.epoch == position.epoch && last.offset >= position.offset);
        if !passed {
            entry.skips.insert(slot, position);
        }
    }

    /// The subscribers that have some of these publications, with the position up to which.
    pub(crate) fn skipping(
        &mut self,
        key: TopicKey,
        publications: &[Arc<Publication>],
    ) -> Vec<(Slot, Position)> {
        let Some(entry) = self.entries.get_mut(key.index()) else { return Vec::new() };
        if entry.skips.is_empty() {
            return Vec::new();
        }
        let told = |position: &Position| publications.iter().any(|p| is_told(p, position));
        let mut some = Vec::new();
        let last = publications.iter().rev().find_map(|p| p.position.as_ref());
        entry.skips.retain(|slot, position| {
            if told(position) {
                some.push((*slot, position.clone()));
            }
            last.is_none_or(|last| last.epoch == position.epoch && last.offset < position.offset)
        });
        some
    }

    /// Sets the topic's state, and the node-wide count of its subscribers.
    pub(crate) fn set_interest(&mut self, key: TopicKey, count: Arc<AtomicU64>, live: bool) {
        let entry = &mut self.entries[key.index()];
        entry.live = live;
        if entry.count.is_none() {
            count.fetch_add(entry.len() as u64, Ordering::Relaxed);
            entry.count = Some(count);
        }
    }

    pub(crate) fn set_live(&mut self, key: TopicKey) {
        self.entries[key.index()].live = true;
    }

    pub(crate) fn set_away(&mut self, key: TopicKey) {
        self.entries[key.index()].live = false;
    }

    /// No topic is live any more; gives the keys of those that sessions wait for.
    pub(crate) fn all_down(&mut self) -> Vec<TopicKey> {
        let mut waited = Vec::new();
        for (key, entry) in &mut self.entries {
            entry.live = false;
            if !entry.waiters.is_empty() {
                waited.push(TopicKey::from_index(key));
            }
        }
        waited
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions
    }
}
