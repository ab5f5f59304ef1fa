//! Topics and their subscribers on this shard.
//!
//! A subscriber stands in its topic's list for the wire form it takes; the session remembers its place there, so
//! leaving costs one swap. Places are kept right by telling the session that was moved.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use slab::Slab;
use tidings_wire::body::DataFormat;
use tidings_wire::{Form, Topic};

use crate::namespace::SlowConsumer;
use crate::session::SessionId;

/// Names a topic within one hub while it has subscribers or is being waited for.
pub type TopicKey = u32;

/// How the node's subscription to a topic stands at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Confirmed: nothing is missed.
    Live,
    /// Asked for.
    Pending,
    /// The broker is away; it will be asked for when it returns.
    Unavailable,
}

/// A topic's subscribers on this shard.
#[derive(Debug)]
pub struct Entry {
    topic: Topic,
    serial: u64,
    live: bool,
    subscribers: [Vec<u32>; Form::COUNT],
    /// Sessions that asked to subscribe and have no answer yet.
    pub(crate) waiters: Vec<SessionId>,
    /// Subscribers on the whole node, shared with the other shards.
    count: Option<Arc<AtomicU64>>,
    default_channel: bool,
    data_format: DataFormat,
    slow_consumer: SlowConsumer,
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

    /// The slots of those who take it in `form`.
    pub fn subscribers(&self, form: Form) -> &[u32] {
        &self.subscribers[form as usize]
    }

    /// What its encoding depends on.
    pub fn context(&self) -> tidings_wire::form::Context<'_> {
        tidings_wire::form::Context {
            topic: &self.topic,
            default_channel: self.default_channel,
            data_format: self.data_format,
        }
    }

    /// What happens to its slow subscribers.
    pub fn slow_consumer(&self) -> SlowConsumer {
        self.slow_consumer
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    fn len(&self) -> usize {
        self.subscribers.iter().map(Vec::len).sum()
    }
}

/// What a topic's entry is made with.
pub(crate) struct Traits {
    pub(crate) default_channel: bool,
    pub(crate) data_format: DataFormat,
    pub(crate) slow_consumer: SlowConsumer,
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
        self.entries.get(key as usize)
    }

    pub(crate) fn get_mut(&mut self, key: TopicKey) -> Option<&mut Entry> {
        self.entries.get_mut(key as usize)
    }

    /// The topic's key, and whether it had to be made (then it must be asked for at the broker).
    pub(crate) fn ensure(&mut self, topic: &Topic, traits: impl FnOnce() -> Traits) -> (TopicKey, bool) {
        if let Some(key) = self.key(topic) {
            return (key, false);
        }
        let Traits { default_channel, data_format, slow_consumer } = traits();
        self.next_serial += 1;
        let key = self.entries.insert(Entry {
            topic: topic.clone(),
            serial: self.next_serial,
            live: false,
            subscribers: Default::default(),
            waiters: Vec::new(),
            count: None,
            default_channel,
            data_format,
            slow_consumer,
        });
        let key = TopicKey::try_from(key).expect("fewer topics than four thousand million");
        self.keys.insert(topic.clone(), key);
        (key, true)
    }

    /// Adds a subscriber; gives its place.
    pub(crate) fn add(&mut self, key: TopicKey, form: Form, slot: u32) -> u32 {
        let entry = &mut self.entries[key as usize];
        let list = &mut entry.subscribers[form as usize];
        list.push(slot);
        if let Some(count) = &entry.count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.subscriptions += 1;
        u32::try_from(list.len() - 1).expect("fewer subscribers than four thousand million")
    }

    /// Removes the subscriber at `place`; gives the slot that stands there now, if one was moved.
    pub(crate) fn remove(&mut self, key: TopicKey, form: Form, place: u32) -> Option<u32> {
        let entry = &mut self.entries[key as usize];
        let list = &mut entry.subscribers[form as usize];
        list.swap_remove(place as usize);
        let moved = list.get(place as usize).copied();
        if list.is_empty() {
            *list = Vec::new();
        }
        if let Some(count) = &entry.count {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.subscriptions -= 1;
        moved
    }

    /// A session has its answer about the topic.
    pub(crate) fn waits_no_more(&mut self, key: TopicKey, session: SessionId) {
        if let Some(entry) = self.entries.get_mut(key as usize) {
            entry.waiters.retain(|waiter| *waiter != session);
        }
    }

    /// Forgets the topic if nobody has it and nobody waits for it; gives its name then.
    pub(crate) fn release(&mut self, key: TopicKey) -> Option<Topic> {
        let entry = self.entries.get(key as usize)?;
        if entry.len() > 0 || !entry.waiters.is_empty() {
            return None;
        }
        let entry = self.entries.remove(key as usize);
        self.keys.remove(&entry.topic);
        Some(entry.topic)
    }

    /// Notes how the topic stands, and the node-wide count it is part of.
    pub(crate) fn set_interest(&mut self, key: TopicKey, count: Arc<AtomicU64>, live: bool) {
        let entry = &mut self.entries[key as usize];
        entry.live = live;
        if entry.count.is_none() {
            count.fetch_add(entry.len() as u64, Ordering::Relaxed);
            entry.count = Some(count);
        }
    }

    pub(crate) fn set_live(&mut self, key: TopicKey) {
        self.entries[key as usize].live = true;
    }

    /// No topic is live any more; gives the keys of those that sessions wait for.
    pub(crate) fn all_down(&mut self) -> Vec<TopicKey> {
        let mut waited = Vec::new();
        for (key, entry) in &mut self.entries {
            entry.live = false;
            if !entry.waiters.is_empty() {
                waited.push(TopicKey::try_from(key).expect("a key made by ensure"));
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
