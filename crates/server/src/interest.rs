//! Which shards want which topics, and what the broker has confirmed: where subscribing and publishing meet.
//!
//! Locks are taken in one order only: the order of interest, then the broker's own, then the table; and the table is
//! never locked while the broker is called.
//!
//! Invariants:
//! - Mail about a topic is posted while the table is locked, so it comes in the order in which it was decided: what is
//!   published after a shard was told that a topic is live finds the shard in the table.
//! - A topic in the table is subscribed at the broker, or is about to be; what a sweep takes out, the broker is told
//!   before anybody can put it in again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidings_hub::Interest;
use tidings_wire::Topic;

use crate::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Topics for which memory is kept whatever their number.
const SPARE: usize = 4096;

/// For how long a topic that was live is kept, and tried again, when the broker refuses it and its subscribers have gone:
/// those that come back are told that it is temporary. SDKs pause for 20 seconds at most between two attempts.
const LAPSED: Duration = Duration::from_secs(60);
/// Most shards: one bit each in a route.
pub(crate) const MAX_SHARDS: usize = 64;

/// Several shards, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSet(u64);

impl ShardSet {
    /// Those of either.
    pub(crate) fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Their indices.
    pub(crate) fn indices(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
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
pub(crate) struct Route {
    /// Those that have subscribers or wait for some.
    pub(crate) shards: ShardSet,
    /// The broker has confirmed it.
    live: bool,
    /// Subscribers on all shards together; the shards keep it.
    subscribers: Arc<AtomicU64>,
    /// The broker has confirmed it before, on this connection or an earlier one.
    was_live: bool,
    /// The broker has refused it since it was last confirmed.
    refused: Option<Refused>,
    /// Since when its subscribers have been without it, where they have not been asked to reconnect yet.
    lost_since: Option<Instant>,
    /// Since when no shard wants it.
    idle_since: Option<Instant>,
}

/// How the broker has refused a topic.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// Whether this keeps the node from being ready: see [`Table::refused`].
    counts: bool,
}

/// What a refusal is to the subscribers of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// It is the first one since the topic was live, or since it was wanted.
    pub(crate) is_first: bool,
    /// The topic was live before.
    pub(crate) was_live: bool,
}

impl Route {
    /// It is not live any more.
    fn lose(&mut self, now: Instant) {
        if std::mem::replace(&mut self.live, false) {
            self.lost_since = Some(now);
        }
    }

    /// Subscribers on all shards together.
    pub(crate) fn subscribers(&self) -> u64 {
        self.subscribers.load(Ordering::Relaxed)
    }
}

/// All topics of this node.
#[derive(Debug)]
pub(crate) struct Table {
    /// Why there is no broker, if there is none.
    down: Option<String>,
    topics: HashMap<Topic, Route>,
    /// How many of them are refused and count.
    refused: usize,
    /// Whether any of them may be lost.
    has_lost: bool,
}

impl Table {
    /// The topic is refused so from now on, or not any more. Gives whether it was before.
    fn set_refused(&mut self, topic: &Topic, refused: Option<Refused>) -> bool {
        let Some(route) = self.topics.get_mut(topic) else { return false };
        let counts = |refused: &Option<Refused>| usize::from(refused.is_some_and(|refused| refused.counts));
        self.refused = self.refused + counts(&refused) - counts(&route.refused);
        std::mem::replace(&mut route.refused, refused).is_some()
    }

    /// Why the broker is away, if it is.
    pub(crate) fn down_reason(&self) -> Option<&str> {
        self.down.as_deref()
    }

    /// A topic, if anybody wants it or did lately.
    pub(crate) fn route(&self, topic: &Topic) -> Option<&Route> {
        self.topics.get(topic)
    }

    /// Topics at the broker: those wanted, and those that linger.
    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Topics that the broker does not subscribe although it should: those that it did subscribe before, and those that it
    /// refuses for another reason than that its rules do not permit the name. A name that was never permitted does not
    /// count: any client can ask for one.
    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    /// The topics that have subscribers, and how many.
    pub(crate) fn subscribed(&self) -> impl Iterator<Item = (&Topic, u64)> {
        self.topics.iter().map(|(topic, route)| (topic, route.subscribers())).filter(|(_, count)| *count > 0)
    }

    /// Adds a shard to a topic that is here already, and tells how it stands.
    fn join(&mut self, shard: usize, topic: &Topic) -> Option<(Interest, Arc<AtomicU64>)> {
        let down = self.down.is_some();
        let route = self.topics.get_mut(topic)?;
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

/// The table, and the order in which it and the broker are changed.
#[derive(Debug)]
pub(crate) struct Interests {
    /// Held while interest is changed here and at the broker, so that both agree.
    order: Mutex<()>,
    table: RwLock<Table>,
}

impl Interests {
    /// Nobody wants anything, and there is no broker yet.
    pub(crate) fn new() -> Self {
        let table =
            Table { down: Some("starting".into()), topics: HashMap::new(), refused: 0, has_lost: false };
        Self { order: Mutex::new(()), table: RwLock::new(table) }
    }

    /// The table, to be looked at. Mail that is posted while it is held comes in its order.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the broker is away, if it is.
    pub(crate) fn down_reason(&self) -> Option<String> {
        self.read().down_reason().map(str::to_owned)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard wants a topic; `subscribe` asks the broker for it where that is due, and may lead to
    /// [`Interests::live`] before it returns. Gives how the topic stands, and the count of its subscribers.
    pub(crate) fn want(
        &self,
        shard: usize,
        topic: &Topic,
        subscribe: impl FnOnce(&Topic),
    ) -> (Interest, Arc<AtomicU64>) {
        match self.write().join(shard, topic) {
            // One that is not live is asked for again: the broker may have refused it before.
            None | Some((Interest::Pending, _)) => {}
            Some(joined) => return joined,
        }
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.write().topics.entry(topic.clone()).or_default().shards.0 |= 1 << shard;
        subscribe(topic);
        // The broker may have confirmed it meanwhile.
        self.write().join(shard, topic).expect("only a sweep removes topics, and it waits for this order")
    }

    /// A shard wants a topic no longer; since `now` perhaps nobody does.
    pub(crate) fn unwant(&self, shard: usize, topic: &Topic, now: Instant) {
        if let Some(route) = self.write().topics.get_mut(topic) {
            route.shards.0 &= !(1 << shard);
            if route.shards == ShardSet::default() {
                route.idle_since = Some(now);
            }
        }
    }

    /// Lets go of the topics that nobody has wanted for as long as `linger`.
    pub(crate) fn sweep(&self, now: Instant, linger: Duration, mut unsubscribe: impl FnMut(&Topic)) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        {
            let table = &mut *self.write();
            table.topics.retain(|topic, route| {
                let lapsed = route.was_live && route.refused.is_some();
                let linger = if lapsed { linger.max(LAPSED) } else { linger };
                let over = route.idle_since.is_some_and(|since| now.duration_since(since) >= linger);
                if over {
                    gone.push(topic.clone());
                    table.refused -= usize::from(route.refused.is_some_and(|refused| refused.counts));
                }
                !over
            });
            // The memory of many that have left is returned to the allocator.
            let len = table.topics.len();
            if table.topics.capacity() > SPARE.max(4 * len) {
                table.topics.shrink_to(2 * len);
            }
        }
        for topic in &gone {
            unsubscribe(topic);
        }
    }

    /// The broker has confirmed a topic; `post` tells the shards that want it.
    pub(crate) fn live(&self, topic: &Topic, post: impl FnOnce(ShardSet)) {
        let mut table = self.write();
        table.set_refused(topic, None);
        if let Some(route) = table.topics.get_mut(topic) {
            (route.live, route.was_live, route.lost_since) = (true, true, None);
            // Under the lock: nothing delivered later can overtake it.
            post(route.shards);
        }
    }

    /// The broker has refused a topic, because its rules do not permit the name or for another reason; `post` tells the
    /// shards that want it.
    pub(crate) fn refused(&self, topic: &Topic, not_permitted: bool, post: impl FnOnce(ShardSet, Refusal)) {
        let mut table = self.write();
        let Some(route) = table.topics.get_mut(topic) else { return };
        route.live = false;
        let (shards, was_live) = (route.shards, route.was_live);
        let refused = Refused { counts: was_live || !not_permitted };
        let is_first = !table.set_refused(topic, Some(refused));
        post(shards, Refusal { is_first, was_live });
    }

    /// The broker has a topic no longer, or cannot have it now; `post` tells the shards that want it.
    pub(crate) fn away(&self, topic: &Topic, post: impl FnOnce(ShardSet)) {
        let mut table = self.write();
        if let Some(route) = table.topics.get_mut(topic) {
            route.lose(Instant::now());
            post(route.shards);
            table.has_lost = true;
        }
    }

    /// Takes the topics that have been lost for `delay`, among those that `concerns`; `post` tells the shards that want
    /// them. Each is taken once for each time that it is lost.
    pub(crate) fn stranded(
        &self,
        now: Instant,
        delay: Duration,
        concerns: impl Fn(&Topic) -> bool,
        mut post: impl FnMut(&Topic, ShardSet),
    ) {
        if !self.read().has_lost {
            return;
        }
        let mut table = self.write();
        let mut is_left = false;
        for (topic, route) in &mut table.topics {
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
        table.has_lost = is_left;
    }

    /// The broker is there.
    pub(crate) fn up(&self) {
        self.write().down = None;
    }

    /// The broker is away, and no topic is live; `post` tells the shards. Gives whether the reason is news.
    pub(crate) fn down(&self, reason: &str, post: impl FnOnce()) -> bool {
        let mut table = self.write();
        let news = table.down.as_deref() != Some(reason);
        table.down = Some(reason.to_owned());
        let now = Instant::now();
        for route in table.topics.values_mut() {
            route.lose(now);
        }
        table.has_lost = true;
        post();
        news
    }
}
