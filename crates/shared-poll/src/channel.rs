//! One channel: its keys, its subscribers, and the times of its requests.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque, hash_map};
use std::mem;
use std::sync::Arc;

use tidings_hub::PollNamespace;
use tidings_wire::Channel;

use crate::delivery::{Sink, Subscriber, Update};
use crate::entry::Entry;
use crate::{Limits, RETRY};

/// The longest time between two requests while the application fails, unless the interval is longer, in milliseconds.
const LONGEST_BACKOFF: u64 = 30_000;
/// The least time between two requests for new keys of a channel, in milliseconds: keys that are tracked meanwhile share a
/// request.
const COLD_GAP: u64 = 20;
/// Most doublings of the interval.
const MAX_DOUBLINGS: u32 = 10;

/// A subscriber.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// The keys that it tracks.
    pub(crate) keys: HashSet<Arc<str>>,
    /// Whether it gets deltas.
    pub(crate) delta: bool,
    /// When its bytes were last counted from zero.
    window: u64,
    /// The bytes that it got since then.
    sent: usize,
}

/// A channel with subscribers, or one that had some lately.
#[derive(Debug)]
pub(crate) struct PollChannel<S> {
    pub(crate) channel: Channel,
    pub(crate) options: PollNamespace,
    /// The epoch of the application's versions.
    pub(crate) epoch: String,
    pub(crate) entries: HashMap<Arc<str>, Entry<S>>,
    pub(crate) subscribers: HashMap<S, Subscription>,
    /// The number of subscribers with deltas.
    pub(crate) deltas: usize,
    /// Keys with a value that a subscriber does not have, or whose removal it has not been notified of.
    pub(crate) undelivered: BTreeSet<Arc<str>>,
    /// When they are delivered.
    pub(crate) retries_at: u64,
    /// Keys whose value is requested before the next cycle.
    pub(crate) cold: Vec<Arc<str>>,
    /// When they may be requested.
    pub(crate) cold_at: u64,
    /// The parts of the cycle that are not due yet, with their times.
    pub(crate) parts: VecDeque<(u64, Vec<Arc<str>>)>,
    /// Requests of the cycle without a response, and parts that are not due.
    pub(crate) outstanding: usize,
    /// When the next cycle begins.
    pub(crate) cycle_at: u64,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Until when no request is made for keys without a value, because the application fails.
    pub(crate) fails_until: u64,
    /// When the first tracker ends, in Unix seconds.
    pub(crate) first_expiry: Option<u64>,
    /// When a channel without subscribers is dropped.
    pub(crate) drops_at: u64,
    /// The time under which the channel is scheduled.
    pub(crate) scheduled: u64,
}

impl<S: Subscriber> PollChannel<S> {
    pub(crate) fn new(channel: Channel, options: PollNamespace, now: u64) -> Self {
        let cycle_at = now.saturating_add(millis(options.interval));
        let drops_at = now.saturating_add(millis(options.shutdown_delay));
        Self {
            channel,
            options,
            epoch: String::new(),
            entries: HashMap::new(),
            subscribers: HashMap::new(),
            deltas: 0,
            undelivered: BTreeSet::new(),
            retries_at: 0,
            cold: Vec::new(),
            cold_at: 0,
            parts: VecDeque::new(),
            outstanding: 0,
            cycle_at,
            failures: 0,
            fails_until: 0,
            first_expiry: None,
            drops_at,
            scheduled: u64::MAX,
        }
    }

    /// Adds a subscriber without keys, if it is not one already.
    pub(crate) fn join(&mut self, subscriber: S, delta: bool) {
        if let hash_map::Entry::Vacant(vacant) = self.subscribers.entry(subscriber) {
            vacant.insert(Subscription { keys: HashSet::new(), delta, window: 0, sent: 0 });
            self.deltas += usize::from(delta);
        }
    }

    /// Ends the tracking of a key by a subscriber; returns the bytes that this frees.
    pub(crate) fn untrack(&mut self, subscriber: S, key: &str) -> usize {
        if let Some(subscription) = self.subscribers.get_mut(&subscriber) {
            subscription.keys.remove(key);
        }
        let Some(entry) = self.entries.get_mut(key) else { return 0 };
        entry.trackers.remove(&subscriber);
        if !entry.trackers.is_empty() {
            return 0;
        }
        self.undelivered.remove(key);
        self.entries.remove(key).map_or(0, |entry| entry.size())
    }

    /// Ends a subscription; returns the bytes that this frees.
    pub(crate) fn leave(&mut self, subscriber: S, now: u64) -> usize {
        let Some(subscription) = self.subscribers.get_mut(&subscriber) else { return 0 };
        let keys = mem::take(&mut subscription.keys);
        let freed = keys.iter().map(|key| self.untrack(subscriber, key)).sum();
        let ended = self.subscribers.remove(&subscriber);
        self.deltas -= usize::from(ended.is_some_and(|ended| ended.delta));
        if self.subscribers.is_empty() {
            self.drops_at = now.saturating_add(millis(self.options.shutdown_delay));
        }
        freed
    }

    /// Ends the trackers whose signature has expired; returns the bytes that this frees.
    pub(crate) fn expire(&mut self, time: u64) -> usize {
        if self.first_expiry.is_none_or(|first| first > time) {
            return 0;
        }
        let mut ended: Vec<(S, Arc<str>)> = Vec::new();
        self.first_expiry = None;
        for (key, entry) in &self.entries {
            for (subscriber, tracker) in &entry.trackers {
                match tracker.expires {
                    Some(expires) if expires <= time => ended.push((*subscriber, Arc::clone(key))),
                    expires => self.first_expiry = earliest(self.first_expiry, expires),
                }
            }
        }
        ended.into_iter().map(|(subscriber, key)| self.untrack(subscriber, &key)).sum()
    }

    /// Whether the application fails, so that keys without a value get none for now.
    pub(crate) fn is_failing(&self, now: u64) -> bool {
        self.failures > 0 && now < self.fails_until
    }

    /// The new keys to request now, in their order.
    pub(crate) fn take_cold(&mut self, now: u64) -> Vec<Arc<str>> {
        if self.cold.is_empty() || now < self.cold_at {
            return Vec::new();
        }
        self.cold_at = now.saturating_add(COLD_GAP);
        let mut cold = mem::take(&mut self.cold);
        cold.sort_unstable();
        cold
    }

    /// Records that a request has failed.
    pub(crate) fn on_failure(&mut self, now: u64) {
        // Several requests of one cycle count once.
        if self.is_failing(now) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let interval = millis(self.options.interval);
        let backoff = interval.saturating_mul(1 << self.failures.min(MAX_DOUBLINGS));
        self.fails_until = now.saturating_add(backoff.min(LONGEST_BACKOFF.max(interval)));
        self.cycle_at = self.cycle_at.max(self.fails_until);
    }

    /// Records a response of the application.
    pub(crate) fn on_success(&mut self, now: u64) {
        if mem::take(&mut self.failures) > 0 {
            self.cycle_at = self.cycle_at.min(now.saturating_add(millis(self.options.interval)));
        }
    }

    /// Begins a cycle if it is due and the one before has ended: divides the keys into parts, spread over the interval. Returns
    /// the bytes of keys that are not tracked any more.
    pub(crate) fn begin_cycle(&mut self, now: u64, time: u64) -> usize {
        if self.outstanding > 0 || now < self.cycle_at || self.entries.is_empty() {
            return 0;
        }
        let freed = self.expire(time);
        let interval = millis(self.options.interval);
        self.cycle_at = now.saturating_add(interval);
        let mut keys: Vec<Arc<str>> = Vec::with_capacity(self.entries.len());
        for (key, entry) in &mut self.entries {
            if !mem::take(&mut entry.is_fresh) && entry.removed.is_none() {
                entry.is_requested = true;
                keys.push(Arc::clone(key));
            }
        }
        keys.sort_unstable();
        let parts = keys.chunks(self.options.batch.max(1)).count() as u64;
        for (at, part) in keys.chunks(self.options.batch.max(1)).enumerate() {
            let after = interval.saturating_mul(at as u64) / parts;
            self.parts.push_back((now.saturating_add(after), part.to_vec()));
            self.outstanding += 1;
        }
        freed
    }

    /// Delivers the values and removals that subscribers do not have. What cannot be delivered now is tried again. Returns the
    /// bytes of keys that are not tracked any more.
    pub(crate) fn deliver(&mut self, now: u64, limits: &Limits, sink: &mut impl Sink<S>) -> usize {
        if now < self.retries_at {
            return 0;
        }
        let mut freed = 0;
        for key in mem::take(&mut self.undelivered) {
            if self.entries.get(&key).is_some_and(|entry| entry.removed.is_some()) {
                freed += self.deliver_removal(&key, now, sink);
            } else if !self.deliver_value(&key, now, limits, sink) {
                self.undelivered.insert(key);
            }
        }
        self.retries_at = if self.undelivered.is_empty() { 0 } else { now.saturating_add(RETRY) };
        freed
    }

    /// Notifies the subscribers of a removed key, and drops it. The subscription of a subscriber that cannot be notified ends, so
    /// that it subscribes again.
    fn deliver_removal(&mut self, key: &Arc<str>, now: u64, sink: &mut impl Sink<S>) -> usize {
        let Some(entry) = self.entries.remove(key) else { return 0 };
        let mut shards: HashMap<u32, Vec<S>> = HashMap::new();
        for subscriber in entry.trackers.keys() {
            if let Some(subscription) = self.subscribers.get_mut(subscriber) {
                subscription.keys.remove(key);
            }
            shards.entry(subscriber.shard()).or_default().push(*subscriber);
        }
        let Some(publication) = &entry.removed else { return 0 };
        let mut freed = entry.size();
        for (shard, full) in shards {
            let all = full.clone();
            let publication = Arc::clone(publication);
            if !sink.deliver(Update { shard, publication, base: None, full, deltas: Vec::new() }) {
                for subscriber in all {
                    freed += self.leave(subscriber, now);
                    sink.end(&self.channel, subscriber);
                }
            }
        }
        freed
    }

    /// Delivers the value of a key to the subscribers that have an earlier one; returns whether all of them got it.
    fn deliver_value(&mut self, key: &str, now: u64, limits: &Limits, sink: &mut impl Sink<S>) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return true };
        let Some(current) = &entry.current else { return true };
        let mut shards: HashMap<u32, (Vec<S>, Vec<S>)> = HashMap::new();
        let mut is_complete = true;
        for (subscriber, tracker) in &entry.trackers {
            if tracker.version >= entry.version {
                continue;
            }
            let Some(subscription) = self.subscribers.get_mut(subscriber) else { continue };
            if !subscription.takes(current.body.len(), now, limits) {
                is_complete = false;
                continue;
            }
            let has_base = subscription.delta
                && tracker.delivered
                && entry.previous.as_ref().is_some_and(|(version, _)| *version == tracker.version);
            let (full, deltas) = shards.entry(subscriber.shard()).or_default();
            if has_base { deltas } else { full }.push(*subscriber);
        }
        for (shard, (full, deltas)) in shards {
            let all: Vec<S> = full.iter().chain(&deltas).copied().collect();
            let base = entry.previous.as_ref().map(|(_, previous)| Arc::clone(previous));
            let base = base.filter(|_| !deltas.is_empty());
            if !sink.deliver(Update { shard, publication: Arc::clone(current), base, full, deltas }) {
                is_complete = false;
                continue;
            }
            for subscriber in all {
                if let Some(tracker) = entry.trackers.get_mut(&subscriber) {
                    (tracker.version, tracker.delivered) = (entry.version, true);
                }
            }
        }
        is_complete
    }

    /// When the channel has work to do next.
    pub(crate) fn next_at(&self) -> u64 {
        let mut next = u64::MAX;
        if !self.cold.is_empty() {
            next = self.cold_at;
        }
        if !self.undelivered.is_empty() {
            next = next.min(self.retries_at);
        }
        if let Some((at, _)) = self.parts.front() {
            next = next.min(*at);
        }
        if self.outstanding == 0 && !self.entries.is_empty() {
            next = next.min(self.cycle_at);
        }
        if self.subscribers.is_empty() {
            next = next.min(self.drops_at);
        }
        next
    }
}

impl Subscription {
    /// Counts the bytes of a value, if the subscriber may get them now.
    fn takes(&mut self, bytes: usize, now: u64, limits: &Limits) -> bool {
        if now.saturating_sub(self.window) >= RETRY {
            (self.window, self.sent) = (now, 0);
        }
        if self.sent > 0 && self.sent.saturating_add(bytes) > limits.burst {
            return false;
        }
        self.sent = self.sent.saturating_add(bytes);
        true
    }
}

/// The earlier of two times.
pub(crate) fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
