//! Topics and their subscribers on this shard.
//!
//! A topic has one list of subscribers per wire form. A session stores its index in that list, so unsubscribing is one
//! swap removal; the session that was moved gets its new index. Subscribers with a filter or deltas are not in these lists, but in
//! the topic's [`Selections`].
//!
//! In a channel with a history, a subscriber gets a position, and from there on every publication once. Publications
//! continue while its history is read. So a topic records the publications that are fanned out while any subscribe
//! waits for its history ([`Topics::start_recording`]), and stores the positions of subscribers that already have
//! publications which are not fanned out yet ([`Topics::skip`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use slab::Slab;
use tidings_tags_filter::Filter;
use tidings_wire::body::DataFormat;
use tidings_wire::plain::Escape;
use tidings_wire::{Form, NameMap, Position, Publication, Topic};

use crate::index::{Slot, TopicKey};
use crate::namespace::SlowConsumerPolicy;
use crate::namespace_stats::{NamespaceStats, add};
use crate::selections::{DeltaState, Selection, SelectionId, Selections};
use crate::session::SessionId;
use crate::slot_lists::SlotLists;

/// Number of topics for which memory is always kept.
const MIN_KEPT_TOPICS: usize = 4096;

/// The state of the node's subscription to a topic at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Confirmed: no publication is missed.
    Live,
    /// Requested.
    Pending,
    /// The broker is unavailable; the topic is requested again when it returns.
    Unavailable,
}

/// A topic's subscribers on this shard.
#[derive(Debug)]
pub struct TopicEntry {
    topic: Topic,
    serial: u64,
    live: bool,
    /// The subscribers without a filter and without deltas by wire form. Most topics have one or two forms.
    subscribers: SlotLists<Form>,
    /// The subscribers with a filter or deltas; `None` without any.
    selections: Option<Box<Selections>>,
    /// The counters of the namespace.
    stats: Arc<NamespaceStats>,
    /// Sessions that wait until the topic is live.
    pub(crate) waiters: Vec<SessionId>,
    /// The number of subscribers on the whole node, shared with the other shards.
    count: Option<Arc<AtomicU64>>,
    default_channel: bool,
    data_format: DataFormat,
    escape: Escape,
    slow_consumer: SlowConsumerPolicy,
    /// Most different filters of its subscribers.
    tags_filter_limit: usize,
    /// Whether every publication is sent as a delta to subscribers with deltas.
    delta_publish: bool,
    history: bool,
    /// The position of the last publication that was fanned out.
    last: Option<Position>,
    /// The publications recorded for subscribes in progress.
    recording: Option<Box<Recording>>,
    /// Subscribers that already have the publications up to a position.
    skips: HashMap<Slot, Position>,
    /// The number of subscribers that do not get their own publications.
    no_local: u32,
}

/// The publications that were fanned out while subscribes wait for their history.
#[derive(Debug, Default)]
struct Recording {
    /// Number of those subscribes.
    subscribes: usize,
    publications: Vec<Arc<Publication>>,
    bytes: usize,
    /// The bound was exceeded; nothing is recorded any more.
    overflowed: bool,
}

/// Whether `publication` is at or before `position`.
pub fn is_at_or_before(publication: &Publication, position: &Position) -> bool {
    let own = publication.position.as_ref();
    own.is_some_and(|own| own.epoch == position.epoch && own.offset <= position.offset)
}

impl TopicEntry {
    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The serial number of the topic. Unlike a key, it is never reused.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The counters of its namespace.
    pub fn stats(&self) -> &NamespaceStats {
        &self.stats
    }

    /// The slots of the subscribers with this wire form, without a filter and without deltas.
    pub fn subscribers(&self, form: Form) -> &[Slot] {
        self.subscribers.get(form)
    }

    /// The wire forms of the subscribers without a filter and without deltas.
    pub fn forms(&self) -> impl Iterator<Item = Form> + '_ {
        self.subscribers.keys()
    }

    /// The slots of all subscribers.
    pub fn all_subscribers(&self) -> impl Iterator<Item = Slot> + '_ {
        let selected = self.selections.iter().flat_map(|selections| selections.all_subscribers());
        self.subscribers.slots().chain(selected)
    }

    /// The selections of the subscribers with a filter or deltas.
    pub fn selections(&self) -> impl Iterator<Item = SelectionId> + '_ {
        self.selections.iter().flat_map(|selections| selections.ids())
    }

    /// The selection with this id, if it exists.
    pub fn selection(&self, id: SelectionId) -> Option<&Selection> {
        self.selections.as_ref()?.get(id)
    }

    /// Whether subscribers have filters or deltas.
    pub fn has_selections(&self) -> bool {
        self.selections.is_some()
    }

    /// The filter of a subscriber and its state of deltas, if it has one of them.
    pub(crate) fn selection_of(&self, slot: Slot) -> Option<(Option<&Arc<Filter>>, DeltaState)> {
        self.selections.as_ref()?.selection_of(slot)
    }

    pub(crate) fn selections_mut(&mut self) -> Option<&mut Selections> {
        self.selections.as_deref_mut()
    }

    /// Whether a publication is sent as a delta to subscribers with deltas.
    pub fn is_delta(&self, publication: &Publication) -> bool {
        self.delta_publish || publication.extra.as_ref().is_some_and(|extra| extra.delta)
    }

    /// Whether a further subscriber with this filter stays within the limit of different filters, which is the error.
    pub(crate) fn check_filter(&self, filter: &Arc<Filter>) -> Result<(), usize> {
        let limit = self.tags_filter_limit;
        let has_room =
            self.selections.as_ref().map_or(limit > 0, |selections| selections.has_room(filter, limit));
        if has_room { Ok(()) } else { Err(limit) }
    }

    /// Whether publications have positions.
    pub(crate) fn has_history(&self) -> bool {
        self.history
    }

    /// The context of encoding a publication of this topic.
    pub fn context(&self) -> tidings_wire::form::Context<'_> {
        tidings_wire::form::Context {
            topic: &self.topic,
            default_channel: self.default_channel,
            data_format: self.data_format,
            escape: self.escape,
        }
    }

    /// The policy for slow subscribers.
    pub fn slow_consumer(&self) -> SlowConsumerPolicy {
        self.slow_consumer
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Whether a subscriber does not get its own publications.
    pub(crate) fn has_no_local(&self) -> bool {
        self.no_local > 0
    }

    /// Counts a subscriber that does not get its own publications, or that gets them again.
    pub(crate) fn count_no_local(&mut self, on: bool) {
        self.no_local = if on { self.no_local + 1 } else { self.no_local - 1 };
    }

    /// Removes a subscriber with a filter or deltas; returns whether it is one.
    fn remove_selected(&mut self, slot: Slot) -> bool {
        let Some(selections) = &mut self.selections else { return false };
        let is_selected = selections.remove(slot);
        if selections.len() == 0 {
            self.selections = None;
        }
        is_selected
    }

    fn len(&self) -> usize {
        let selected = self.selections.as_ref().map_or(0, |selections| selections.len());
        self.subscribers.len() + selected
    }
}

/// The properties of a topic.
#[derive(Clone, Copy)]
pub(crate) struct TopicOptions {
    pub(crate) default_channel: bool,
    pub(crate) data_format: DataFormat,
    pub(crate) escape: Escape,
    pub(crate) slow_consumer: SlowConsumerPolicy,
    pub(crate) tags_filter_limit: usize,
    pub(crate) delta_publish: bool,
    pub(crate) history: bool,
}

/// All topics of a shard.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    keys: NameMap<Topic, TopicKey>,
    entries: Slab<TopicEntry>,
    subscriptions: usize,
    next_serial: u64,
}

impl Topics {
    pub(crate) fn key(&self, topic: &Topic) -> Option<TopicKey> {
        self.keys.get(topic).copied()
    }

    pub(crate) fn get(&self, key: TopicKey) -> Option<&TopicEntry> {
        self.entries.get(key.index())
    }

    pub(crate) fn get_mut(&mut self, key: TopicKey) -> Option<&mut TopicEntry> {
        self.entries.get_mut(key.index())
    }

    /// Sets the properties of every topic again.
    pub(crate) fn reconfigure(&mut self, options: impl Fn(&Topic) -> TopicOptions) {
        for (_, entry) in &mut self.entries {
            let options = options(&entry.topic);
            let TopicOptions { default_channel, data_format, escape, slow_consumer, .. } = options;
            // The clients' bases are in the format before.
            if entry.data_format != data_format
                && let Some(selections) = &mut entry.selections
            {
                selections.drop_bases();
            }
            entry.default_channel = default_channel;
            entry.data_format = data_format;
            entry.escape = escape;
            entry.slow_consumer = slow_consumer;
            entry.tags_filter_limit = options.tags_filter_limit;
            entry.delta_publish = options.delta_publish;
            entry.history = options.history;
        }
    }

    /// Adds a topic that does not exist; returns its key.
    pub(crate) fn insert(
        &mut self,
        topic: &Topic,
        options: TopicOptions,
        stats: Arc<NamespaceStats>,
    ) -> TopicKey {
        let TopicOptions { default_channel, data_format, escape, slow_consumer, .. } = options;
        self.next_serial += 1;
        let key = self.entries.insert(TopicEntry {
            topic: topic.clone(),
            serial: self.next_serial,
            live: false,
            subscribers: SlotLists::default(),
            selections: None,
            stats,
            waiters: Vec::new(),
            count: None,
            default_channel,
            data_format,
            escape,
            slow_consumer,
            tags_filter_limit: options.tags_filter_limit,
            delta_publish: options.delta_publish,
            history: options.history,
            last: None,
            recording: None,
            skips: HashMap::new(),
            no_local: 0,
        });
        let key = TopicKey::from_index(key);
        self.keys.insert(topic.clone(), key);
        key
    }

    /// Adds a subscriber; returns its index in the list of its form, or 0 with a filter or deltas.
    pub(crate) fn add(
        &mut self,
        key: TopicKey,
        form: Form,
        slot: Slot,
        (filter, has_delta): (Option<Arc<Filter>>, bool),
    ) -> u32 {
        let entry = &mut self.entries[key.index()];
        let index = if filter.is_none() && !has_delta {
            u32::try_from(entry.subscribers.add(form, slot)).expect("fewer than 2³² subscribers")
        } else {
            entry.selections.get_or_insert_default().add(slot, form, filter, has_delta);
            0
        };
        if let Some(count) = &entry.count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        add(&entry.stats.subscriptions, 1);
        add(&entry.stats.subscribes, 1);
        self.subscriptions += 1;
        index
    }

    /// Removes the subscriber `slot`, which is at `index`; returns the slot that was moved to `index`, if any.
    pub(crate) fn remove(&mut self, key: TopicKey, form: Form, slot: Slot, index: u32) -> Option<Slot> {
        let entry = &mut self.entries[key.index()];
        let moved =
            if entry.remove_selected(slot) { None } else { entry.subscribers.remove(form, index as usize) };
        if !entry.skips.is_empty() {
            entry.skips.remove(&slot);
        }
        if let Some(count) = &entry.count {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        add(&entry.stats.subscriptions, 1_u64.wrapping_neg());
        self.subscriptions -= 1;
        moved
    }

    /// A session no longer waits for the topic.
    pub(crate) fn remove_waiter(&mut self, key: TopicKey, session: SessionId) {
        if let Some(entry) = self.entries.get_mut(key.index()) {
            entry.waiters.retain(|waiter| *waiter != session);
        }
    }

    /// Removes the topic if it has no subscribers, no waiting sessions and no recording; returns its name then.
    pub(crate) fn release(&mut self, key: TopicKey) -> Option<Topic> {
        let entry = self.entries.get(key.index())?;
        if entry.len() > 0 || !entry.waiters.is_empty() || entry.recording.is_some() {
            return None;
        }
        let entry = self.entries.remove(key.index());
        self.keys.remove(&entry.topic);
        self.shrink();
        Some(entry.topic)
    }

    /// Frees memory when three quarters of the table are unused.
    fn shrink(&mut self) {
        let len = self.keys.len();
        if self.keys.capacity() > MIN_KEPT_TOPICS.max(4 * len) {
            self.keys.shrink_to(2 * len);
            // Only free entries at the end can be released.
            self.entries.shrink_to_fit();
        }
    }

    /// A subscribe waits for its history: records publications from now on. Returns the index of the next one.
    pub(crate) fn start_recording(&mut self, key: TopicKey) -> usize {
        let recording = self.entries[key.index()].recording.get_or_insert_default();
        recording.subscribes += 1;
        recording.publications.len()
    }

    /// The publications recorded from `from` on; `None` if the bound was exceeded.
    pub(crate) fn recorded(&self, key: TopicKey, from: usize) -> Option<&[Arc<Publication>]> {
        let recording = self.entries.get(key.index())?.recording.as_ref()?;
        if recording.overflowed { None } else { recording.publications.get(from..) }
    }

    /// A subscribe no longer waits for its history.
    pub(crate) fn stop_recording(&mut self, key: TopicKey) {
        if let Some(entry) = self.entries.get_mut(key.index())
            && let Some(recording) = &mut entry.recording
        {
            recording.subscribes -= 1;
            if recording.subscribes == 0 {
                entry.recording = None;
            }
        }
    }

    /// Must be called before publications are fanned out. Records at most `bound` bytes for waiting subscribes.
    pub(crate) fn record(&mut self, key: TopicKey, publications: &[Arc<Publication>], bound: usize) {
        let Some(entry) = self.entries.get_mut(key.index()) else { return };
        if let Some(recording) = &mut entry.recording
            && !recording.overflowed
        {
            recording.bytes += publications.iter().map(|p| p.size()).sum::<usize>();
            if recording.bytes > bound {
                recording.overflowed = true;
                recording.publications = Vec::new();
            } else {
                recording.publications.extend_from_slice(publications);
            }
        }
        if let Some(position) = publications.iter().rev().find_map(|p| p.position.as_ref()) {
            entry.last = Some(position.clone());
        }
    }

    /// A subscriber already has everything up to `position`: later publications at or before it are skipped.
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

    /// The subscribers that already have some of these publications, with the position of their last one.
    pub(crate) fn skipping(
        &mut self,
        key: TopicKey,
        publications: &[Arc<Publication>],
    ) -> Vec<(Slot, Position)> {
        let Some(entry) = self.entries.get_mut(key.index()) else { return Vec::new() };
        if entry.skips.is_empty() {
            return Vec::new();
        }
        let covers = |position: &Position| publications.iter().any(|p| is_at_or_before(p, position));
        let mut some = Vec::new();
        let last = publications.iter().rev().find_map(|p| p.position.as_ref());
        entry.skips.retain(|slot, position| {
            if covers(position) {
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

    pub(crate) fn set_unavailable(&mut self, key: TopicKey) {
        self.entries[key.index()].live = false;
    }

    /// Marks all topics as not live; returns the keys of those with waiting sessions.
    pub(crate) fn set_all_unavailable(&mut self) -> Vec<TopicKey> {
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
