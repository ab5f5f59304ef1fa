//! All channels: the operations of subscribers and of the application, and the requests that are under way.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tidings_hub::PollNamespace;
use tidings_wire::Channel;

use crate::Limits;
use crate::channel::{PollChannel, earliest};
use crate::counters::Counters;
use crate::delivery::{Batch, Sink, Subscriber};
use crate::entry::{Entry, Tracker};

/// The longest key in bytes.
pub const MAX_KEY: usize = 255;

/// A key that a subscriber tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedKey {
    /// The key.
    pub key: String,
    /// The version that the subscriber has; 0 for none.
    pub version: u64,
    /// When its signature expires, in Unix seconds.
    pub expires: Option<u64>,
}

/// Why keys are not tracked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TrackError {
    /// The subscriber is not subscribed to the channel.
    #[error("not subscribed to the channel")]
    NotSubscribed,
    /// A key is empty or too long.
    #[error("a key has 1 to {MAX_KEY} bytes, and not {0}")]
    Key(usize),
    /// A bound is exceeded.
    #[error("{0}")]
    Limit(String),
    /// The application does not respond, and a key has no value yet.
    #[error("the application does not respond with values for this channel")]
    Unanswered,
}

/// The shared polls of a node.
#[derive(Debug)]
pub struct Polls<S> {
    pub(crate) channels: HashMap<Channel, PollChannel<S>>,
    /// The channels by the time of their next work.
    times: BTreeSet<(u64, Channel)>,
    pub(crate) limits: Limits,
    /// The epoch of the versions that this node gives.
    epoch: String,
    /// The last version that this node gave.
    pub(crate) version: u64,
    /// Bytes of all values.
    pub(crate) bytes: usize,
    /// Requests that are due, in their order. `true` for those of a cycle.
    ready: VecDeque<(Channel, Vec<Arc<str>>, bool)>,
    /// Requests without a response, with the channel and whether they belong to a cycle.
    pub(crate) in_flight: HashMap<u64, (Channel, bool)>,
    next_id: u64,
    pub(crate) counters: Arc<Counters>,
}

impl<S: Subscriber> Polls<S> {
    /// No channels. `epoch` is unique for this run of the node, with 8 characters.
    pub fn new(limits: Limits, epoch: String, counters: Arc<Counters>) -> Self {
        Self {
            channels: HashMap::new(),
            times: BTreeSet::new(),
            limits,
            epoch,
            version: 0,
            bytes: 0,
            ready: VecDeque::new(),
            in_flight: HashMap::new(),
            next_id: 0,
            counters,
        }
    }

    /// Replaces the limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Adds a subscriber without keys; returns the epoch of the versions.
    pub fn join(
        &mut self,
        now: u64,
        channel: &Channel,
        options: &PollNamespace,
        subscriber: S,
        delta: bool,
    ) -> String {
        let new = || PollChannel::new(channel.clone(), options.clone(), now);
        let poll = self.channels.entry(channel.clone()).or_insert_with(new);
        if poll.subscribers.is_empty() {
            poll.options = options.clone();
        }
        poll.join(subscriber, delta);
        let epoch = if poll.options.versioned { &poll.epoch } else { &self.epoch }.clone();
        self.schedule(channel);
        epoch
    }

    /// Ends a subscription. Has no effect without one.
    pub fn leave(&mut self, now: u64, channel: &Channel, subscriber: S) {
        if let Some(poll) = self.channels.get_mut(channel) {
            self.bytes -= poll.leave(subscriber, now);
            self.schedule(channel);
        }
    }

    /// Tracks keys, of which the last of equal ones counts, then ends the tracking of others. Values that the subscriber does not
    /// have are delivered by [`Self::advance`].
    ///
    /// # Errors
    /// [`TrackError`]; nothing has changed then.
    pub fn track(
        &mut self,
        now: u64,
        channel: &Channel,
        subscriber: S,
        keys: &[TrackedKey],
        untrack: &[String],
    ) -> Result<(), TrackError> {
        let poll = self.channels.get_mut(channel).ok_or(TrackError::NotSubscribed)?;
        let subscription = poll.subscribers.get(&subscriber).ok_or(TrackError::NotSubscribed)?;
        let ended: HashSet<&str> = untrack.iter().map(String::as_str).collect();
        let mut distinct: HashMap<&str, &TrackedKey> = HashMap::with_capacity(keys.len());
        for key in keys {
            if key.key.is_empty() || key.key.len() > MAX_KEY {
                return Err(TrackError::Key(key.key.len()));
            }
            distinct.insert(&key.key, key);
        }
        distinct.retain(|key, _| !ended.contains(key));
        let kept = subscription.keys.iter().filter(|key| !ended.contains(&***key)).count();
        let added = distinct.keys().filter(|key| !subscription.keys.contains(**key)).count();
        let limit = poll.options.keys_per_subscriber;
        if kept + added > limit {
            let text = format!(
                "{limit} keys of a channel for each connection (shared_poll.max_keys_per_connection)"
            );
            return Err(TrackError::Limit(text));
        }
        let new = distinct.keys().filter(|key| !poll.entries.contains_key(**key)).count();
        if new > 0 && poll.entries.len() + new > poll.options.keys {
            let text = format!("{} keys of a channel (shared_poll.max_keys)", poll.options.keys);
            return Err(TrackError::Limit(text));
        }
        let has_value = |key: &str| poll.entries.get(key).is_some_and(|entry| entry.current.is_some());
        if poll.is_failing(now) && distinct.keys().any(|key| !has_value(key)) {
            return Err(TrackError::Unanswered);
        }
        for key in distinct.into_values() {
            poll.first_expiry = earliest(poll.first_expiry, key.expires);
            let shared = poll.entries.get_key_value(&*key.key).map(|(shared, _)| Arc::clone(shared));
            let shared = shared.unwrap_or_else(|| key.key.as_str().into());
            let entry: &mut Entry<S> = poll.entries.entry(Arc::clone(&shared)).or_default();
            let before = entry.trackers.get(&subscriber).copied();
            // A client that has the version that was delivered can still apply deltas to it.
            let delivered = before.is_some_and(|before| before.delivered && before.version == key.version);
            let tracker = Tracker { version: key.version, delivered, expires: key.expires };
            entry.trackers.insert(subscriber, tracker);
            let is_behind = entry.version > key.version;
            if key.version == 0 && !mem::replace(&mut entry.is_requested, true) {
                poll.cold.push(Arc::clone(&shared));
            }
            if is_behind {
                poll.undelivered.insert(Arc::clone(&shared));
                poll.retries_at = 0;
            }
            if let Some(subscription) = poll.subscribers.get_mut(&subscriber) {
                subscription.keys.insert(shared);
            }
        }
        for key in untrack {
            self.bytes -= poll.untrack(subscriber, key);
        }
        self.schedule(channel);
        Ok(())
    }

    /// Ends the tracking of keys.
    ///
    /// # Errors
    /// [`TrackError::NotSubscribed`].
    pub fn untrack(&mut self, channel: &Channel, subscriber: S, keys: &[String]) -> Result<(), TrackError> {
        let poll = self.channels.get_mut(channel).ok_or(TrackError::NotSubscribed)?;
        if !poll.subscribers.contains_key(&subscriber) {
            return Err(TrackError::NotSubscribed);
        }
        for key in keys {
            self.bytes -= poll.untrack(subscriber, key);
        }
        self.schedule(channel);
        Ok(())
    }

    /// Does everything that is due: delivers values, begins cycles, drops channels. Returns the requests to send now, and the
    /// time of the next call.
    pub fn advance(&mut self, now: u64, time: u64, sink: &mut impl Sink<S>) -> (Vec<Batch>, Option<u64>) {
        while let Some((at, channel)) = self.times.first().cloned() {
            if at > now {
                break;
            }
            self.times.pop_first();
            self.step(&channel, now, time, sink);
        }
        let mut batches = Vec::new();
        while self.in_flight.len() < self.limits.requests {
            let Some((channel, keys, of_cycle)) = self.ready.pop_front() else { break };
            batches.extend(self.request(channel, &keys, of_cycle));
        }
        self.counters.set_gauges(self.channels.len(), self.bytes, self.in_flight.len(), self.ready.len());
        (batches, self.times.first().map(|(at, _)| *at))
    }

    fn step(&mut self, channel: &Channel, now: u64, time: u64, sink: &mut impl Sink<S>) {
        let Some(poll) = self.channels.get_mut(channel) else { return };
        poll.scheduled = u64::MAX;
        self.bytes -= poll.deliver(now, &self.limits, sink);
        for keys in poll.take_cold(now).chunks(poll.options.batch.max(1)) {
            self.ready.push_back((channel.clone(), keys.to_vec(), false));
        }
        self.bytes -= poll.begin_cycle(now, time);
        while poll.parts.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, keys)) = poll.parts.pop_front() {
                self.ready.push_back((channel.clone(), keys, true));
            }
        }
        if poll.subscribers.is_empty() && now >= poll.drops_at {
            self.channels.remove(channel);
            self.ready.retain(|(other, ..)| other != channel);
            self.in_flight
                .values_mut()
                .filter(|(other, _)| other == channel)
                .for_each(|(_, of_cycle)| *of_cycle = false);
            return;
        }
        self.schedule(channel);
    }

    /// The request for the values of those of `keys` that are still tracked; `None` without any.
    fn request(&mut self, channel: Channel, keys: &[Arc<str>], of_cycle: bool) -> Option<Batch> {
        let poll = self.channels.get_mut(&channel)?;
        let version = |key: &Arc<str>| poll.entries.get(key).map(|entry| (Arc::clone(key), entry.version));
        let items: Vec<_> = keys.iter().filter_map(version).collect();
        if items.is_empty() {
            if of_cycle {
                poll.outstanding = poll.outstanding.saturating_sub(1);
                self.schedule(&channel);
            }
            return None;
        }
        let (hook, versioned) = (poll.options.hook.clone(), poll.options.versioned);
        self.next_id += 1;
        let id = self.next_id;
        self.in_flight.insert(id, (channel.clone(), of_cycle));
        self.counters.add_request(items.len());
        Some(Batch { id, channel, hook, versioned, items })
    }

    /// Schedules a channel for its next work.
    pub(crate) fn schedule(&mut self, channel: &Channel) {
        let Some(poll) = self.channels.get_mut(channel) else { return };
        let next = poll.next_at();
        if next == poll.scheduled {
            return;
        }
        if poll.scheduled != u64::MAX {
            self.times.remove(&(poll.scheduled, channel.clone()));
        }
        poll.scheduled = next;
        if next != u64::MAX {
            self.times.insert((next, channel.clone()));
        }
    }

    /// The value of a key with its version, for tests and reports.
    pub fn value(&self, channel: &Channel, key: &str) -> Option<(u64, Bytes)> {
        let entry = self.channels.get(channel)?.entries.get(key)?;
        entry.current.as_ref().map(|current| (entry.version, current.body.clone()))
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The numbers of channels, and of keys in them.
    pub fn counts(&self) -> (usize, usize) {
        (self.channels.len(), self.channels.values().map(|poll| poll.entries.len()).sum())
    }
}
