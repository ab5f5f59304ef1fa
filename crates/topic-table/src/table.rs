//! The table; see the crate documentation for its invariants.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidings_hub::Interest;
use tidings_wire::{NameMap, Topic};

use crate::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Capacity, in topics, below which the table is never shrunk.
const MIN_CAPACITY: usize = 4096;

/// How long a topic without subscribers stays in the table if it was live and the broker rejects it now. Within this
/// time the broker is tried again, and a subscriber that returns gets a temporary error. SDKs pause for at most 20 seconds
/// between two attempts.
const REJECTED_LINGER: Duration = Duration::from_secs(60);
/// Most shards: one bit each in a [`ShardSet`].
pub const MAX_SHARDS: usize = 62;
/// The bit of the tables of channels: they get the publications of a topic as a shard does.
pub const FEEDS: usize = MAX_SHARDS;
/// The bit of the sessions of MQTT whose clients are away, and of shared subscriptions: they get the publications of a topic as a shard does.
pub const SESSIONS: usize = FEEDS + 1;

/// A set of shards, one bit each, one for the sessions of MQTT without a connection, and one for the tables of channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// The shards that are in either set.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sessions of MQTT without a connection are in it.
    pub fn has_sessions(self) -> bool {
        self.0 >> SESSIONS != 0
    }

    /// Whether the tables of channels are in it.
    pub fn has_feeds(self) -> bool {
        self.0 >> FEEDS & 1 != 0
    }

    /// The indices of the shards, ascending.
    pub fn indices(self) -> impl Iterator<Item = usize> {
        let mut left = self.0 & !(1 << SESSIONS | 1 << FEEDS);
        std::iter::from_fn(move || {
            (left != 0).then(|| {
                let index = left.trailing_zeros() as usize;
                left &= left - 1;
                index
            })
        })
    }
}

/// One topic on this node.
#[derive(Debug, Default)]
pub struct Route {
    /// The shards with subscribers, or with subscribers that wait for the broker's confirmation.
    pub shards: ShardSet,
    /// The broker has confirmed the topic.
    live: bool,
    /// Subscribers on all shards together; the shards update the count.
    subscribers: Arc<AtomicU64>,
    /// The broker has confirmed the topic before, on this connection or an earlier one.
    was_live: bool,
    /// The broker has rejected the topic since it last confirmed it.
    rejected: Option<RejectedTopic>,
    /// When the topic stopped being live; `None` if it is live, or [`TopicTable::take_stranded`] has returned it.
    lost_since: Option<Instant>,
    /// When the last shard unsubscribed.
    idle_since: Option<Instant>,
}

/// The state of a topic that the broker rejects.
#[derive(Clone, Copy, Debug)]
struct RejectedTopic {
    /// Whether the node is not ready because of it: see [`Topics::rejected`].
    affects_readiness: bool,
}

/// A rejection of a topic by the broker, as its subscribers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRejection {
    /// The first rejection since the topic was live, or since it was added.
    pub is_first: bool,
    /// The topic was live before.
    pub was_live: bool,
}

impl Route {
    /// The topic is not live any more.
    fn set_lost(&mut self, now: Instant) {
        if std::mem::replace(&mut self.live, false) {
            self.lost_since = Some(now);
        }
    }

    /// Subscribers on all shards together.
    pub fn subscribers(&self) -> u64 {
        self.subscribers.load(Ordering::Relaxed)
    }
}

/// All topics of this node.
#[derive(Debug)]
pub struct Topics {
    /// Why the broker is unavailable; `None` while it is connected.
    down: Option<String>,
    routes: NameMap<Topic, Route>,
    /// Number of rejected topics that affect readiness.
    rejected: usize,
    /// Whether any topic may have [`Route::lost_since`].
    has_lost: bool,
}

impl Topics {
    /// Sets or clears the rejection of a topic. Returns whether the topic was rejected before.
    fn set_rejected(&mut self, topic: &Topic, rejected: Option<RejectedTopic>) -> bool {
        let Some(route) = self.routes.get_mut(topic) else { return false };
        let counted =
            |rejected: &Option<RejectedTopic>| usize::from(rejected.is_some_and(|r| r.affects_readiness));
        self.rejected = self.rejected + counted(&rejected) - counted(&route.rejected);
        std::mem::replace(&mut route.rejected, rejected).is_some()
    }

    /// Why the broker is unavailable; `None` while it is connected.
    pub fn down_reason(&self) -> Option<&str> {
        self.down.as_deref()
    }

    /// The route of a topic with subscribers, or of one that lingers.
    pub fn route(&self, topic: &Topic) -> Option<&Route> {
        self.routes.get(topic)
    }

    /// Topics subscribed at the broker: those with subscribers, and those that linger.
    pub fn count(&self) -> usize {
        self.routes.len()
    }

    /// Topics that the broker rejects although it should not: topics that were live before, and topics that it rejects
    /// for another reason than its access rules. A name that the rules never permitted is not counted, because any
    /// client can request one.
    pub fn rejected(&self) -> usize {
        self.rejected
    }

    /// The topics that have subscribers, and how many.
    pub fn subscribed(&self) -> impl Iterator<Item = (&Topic, u64)> {
        self.routes.iter().map(|(topic, route)| (topic, route.subscribers())).filter(|(_, count)| *count > 0)
    }

    /// The sessions of MQTT without a connection get the publications of a topic from now on. A shard is subscribed to it.
    pub fn add_sessions(&mut self, topic: &Topic) {
        self.add_shard(SESSIONS, topic);
    }

    /// They do not get them any more.
    pub fn remove_sessions(&mut self, topic: &Topic, now: Instant) {
        self.remove_shard(SESSIONS, topic, now);
    }

    fn remove_shard(&mut self, shard: usize, topic: &Topic, now: Instant) {
        if let Some(route) = self.routes.get_mut(topic) {
            route.shards.0 &= !(1 << shard);
            if route.shards == ShardSet::default() {
                route.idle_since = Some(now);
            }
        }
    }

    /// Adds a shard to a topic that is in the table. Returns the topic's state and its number of subscribers.
    pub fn add_shard(&mut self, shard: usize, topic: &Topic) -> Option<(Interest, Arc<AtomicU64>)> {
        let down = self.down.is_some();
        let route = self.routes.get_mut(topic)?;
        route.shards.0 |= 1 << shard;
        route.idle_since = None;
        let state = match (down, route.live) {
            (true, _) => Interest::Unavailable,
            (false, true) => Interest::Live,
            (false, false) => Interest::Pending,
        };
        Some((state, Arc::clone(&route.subscribers)))
    }
}

/// The topics of this node, shared by shards and broker.
#[derive(Debug)]
pub struct TopicTable {
    /// Held while a topic is added or removed here and at the broker, so that both agree.
    order: Mutex<()>,
    topics: RwLock<Topics>,
}

/// A table without topics, while the broker is not connected yet.
impl Default for TopicTable {
    fn default() -> Self {
        let topics = Topics {
            down: Some("starting".into()),
            routes: NameMap::default(),
            rejected: 0,
            has_lost: false,
        };
        Self { order: Mutex::new(()), topics: RwLock::new(topics) }
    }
}

impl TopicTable {
    /// Locks the topics for reading. Messages that are posted to shards under this lock keep their order.
    pub fn read(&self) -> RwLockReadGuard<'_, Topics> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the broker is unavailable; `None` while it is connected.
    pub fn down_reason(&self) -> Option<String> {
        self.read().down_reason().map(str::to_owned)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Topics> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes a shard to a topic. `subscribe` requests the topic from the broker if it is not live; it may call
    /// [`TopicTable::on_confirmed`] before it returns. Returns the topic's state and its number of subscribers.
    pub fn subscribe(
        &self,
        shard: usize,
        topic: &Topic,
        subscribe: impl FnOnce(&Topic),
    ) -> (Interest, Arc<AtomicU64>) {
        match self.write().add_shard(shard, topic) {
            // A topic that is not live is requested again: the broker may have rejected it before.
            None | Some((Interest::Pending, _)) => {}
            Some(joined) => return joined,
        }
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.write().routes.entry(topic.clone()).or_default().shards.0 |= 1 << shard;
        subscribe(topic);
        // The broker may have confirmed the topic during the call.
        self.write()
            .add_shard(shard, topic)
            .expect("only a sweep removes topics, and it waits for this order")
    }

    /// Unsubscribes a shard from a topic. If it was the last shard, the topic lingers from `now` on.
    pub fn unsubscribe(&self, shard: usize, topic: &Topic, now: Instant) {
        self.write().remove_shard(shard, topic, now);
    }

    /// Changes the routes of several topics in one step. Messages that are posted meanwhile are behind all earlier publications
    /// and before all later ones.
    pub fn exchange(&self, change: impl FnOnce(&mut Topics)) {
        change(&mut self.write());
    }

    /// Removes the topics that have had no subscribing shard for `linger`, and calls `unsubscribe` with each.
    pub fn sweep(&self, now: Instant, linger: Duration, mut unsubscribe: impl FnMut(&Topic)) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = Vec::new();
        {
            let topics = &mut *self.write();
            topics.routes.retain(|topic, route| {
                let is_interrupted = route.was_live && route.rejected.is_some();
                let linger = if is_interrupted { linger.max(REJECTED_LINGER) } else { linger };
                let is_over = route.idle_since.is_some_and(|since| now.duration_since(since) >= linger);
                if is_over {
                    removed.push(topic.clone());
                    topics.rejected -= usize::from(route.rejected.is_some_and(|r| r.affects_readiness));
                }
                !is_over
            });
            // Returns the memory to the allocator after many topics were removed.
            let len = topics.routes.len();
            if topics.routes.capacity() > MIN_CAPACITY.max(4 * len) {
                topics.routes.shrink_to(2 * len);
            }
        }
        for topic in &removed {
            unsubscribe(topic);
        }
    }

    /// The broker has confirmed a topic. `post` notifies the subscribed shards.
    pub fn on_confirmed(&self, topic: &Topic, post: impl FnOnce(ShardSet)) {
        let mut topics = self.write();
        topics.set_rejected(topic, None);
        if let Some(route) = topics.routes.get_mut(topic) {
            (route.live, route.was_live, route.lost_since) = (true, true, None);
            // Called under the lock, so that no later publication overtakes the notification.
            post(route.shards);
        }
    }

    /// The broker has rejected a topic: because its access rules do not permit the name (`not_permitted`), or for
    /// another reason. `post` notifies the subscribed shards.
    pub fn on_rejected(
        &self,
        topic: &Topic,
        not_permitted: bool,
        post: impl FnOnce(ShardSet, TopicRejection),
    ) {
        let mut topics = self.write();
        let Some(route) = topics.routes.get_mut(topic) else { return };
        route.live = false;
        let (shards, was_live) = (route.shards, route.was_live);
        let rejected = RejectedTopic { affects_readiness: was_live || !not_permitted };
        let is_first = !topics.set_rejected(topic, Some(rejected));
        post(shards, TopicRejection { is_first, was_live });
    }

    /// A topic is no longer subscribed at the broker, or cannot be subscribed now. `post` notifies the subscribed shards.
    pub fn on_unavailable(&self, topic: &Topic, post: impl FnOnce(ShardSet)) {
        let mut topics = self.write();
        if let Some(route) = topics.routes.get_mut(topic) {
            route.set_lost(Instant::now());
            post(route.shards);
            topics.has_lost = true;
        }
    }

    /// Calls `post` with each topic that has not been live for `delay` and for which `concerns` is true, once for each
    /// time that the topic is lost. `post` notifies the subscribed shards.
    pub fn take_stranded(
        &self,
        now: Instant,
        delay: Duration,
        concerns: impl Fn(&Topic) -> bool,
        mut post: impl FnMut(&Topic, ShardSet),
    ) {
        if !self.read().has_lost {
            return;
        }
        let mut topics = self.write();
        let mut is_left = false;
        for (topic, route) in &mut topics.routes {
            let Some(since) = route.lost_since else { continue };
            if now.duration_since(since) < delay {
                is_left = true;
                continue;
            }
            route.lost_since = None;
            if concerns(topic) {
                post(topic, route.shards);
            }
        }
        topics.has_lost = is_left;
    }

    /// The broker is connected.
    pub fn on_broker_up(&self) {
        self.write().down = None;
    }

    /// The broker is unavailable, and no topic is live. `post` notifies the shards. Returns whether the reason differs from
    /// the last one.
    pub fn on_broker_down(&self, reason: &str, post: impl FnOnce()) -> bool {
        let mut topics = self.write();
        let is_new = topics.down.as_deref() != Some(reason);
        topics.down = Some(reason.to_owned());
        let now = Instant::now();
        for route in topics.routes.values_mut() {
            route.set_lost(now);
        }
        topics.has_lost = true;
        post();
        is_new
    }
}
