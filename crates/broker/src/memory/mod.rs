//! The broker of a single process: publications reach the subscribers of the same process.
//!
//! Channels are divided into stripes by their names. A publication is handed to the sink while its channel's stripe is
//! locked, so all subscribers receive the publications of one channel in one order, while publishers in other stripes
//! are not delayed. The state of a channel is in its stripe too, under the same lock, so that a publication gets its
//! position, is stored and is handed over in one step.
//!
//! | module | holds |
//! |---|---|
//! | `history` | the window of one channel's newest publications |
//! | `histories` | the histories of the channels of one stripe, and their eviction |
//! | `presence` | the members of the channels of one stripe |
//! | `maps` | operations on maps, whose state is in `tidings-map-state`, and the expiry of their keys |
//! | `idempotency` | the results of publications with an idempotency key |
//! | `stripe` | the state of the channels of one stripe |
//! | `budget` | limits in bytes |
//!
//! Invariants:
//! - The sink is called under the lock of one stripe at most, never under a lock that all publishers share.
//! - The broker is always up: `live` is called within `subscribe`, and a publication has been delivered when `done` is
//!   called.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_map_state::StateQuery;
use tidings_wire::{Channel, ClientInfo, Delivery, Epoch, Pattern, Position, Publication, Topic};

use crate::{
    Broker, BrokerError, Change, CompletionCallback, HistoryCallback, HistoryOptions, KeyCountCallback,
    MAX_IDEMPOTENCY_KEY, MapChange, MapChangeCallback, MapStateCallback, PresenceCallback,
    PresenceStatsCallback, PublishCallback, PublishOptions, Published, SharedSink, Stateful, lock,
};
use tidings_wire::{History, HistoryPage, HistoryQuery};

mod budget;
mod histories;
mod history;
mod idempotency;
mod maps;
mod presence;
mod stripe;

use budget::{Account, Budget, ExceededBudget};
use histories::Histories;
use history::Window;
use idempotency::result_cost;
pub use maps::MapCounters;
use maps::SharedMaps;
use stripe::Stripe;

/// Number of stripes: many more than there are threads that publish.
const STRIPES: usize = 64;
/// Shortest time between two sweeps. Publishers sweep one stripe after the other, so all stripes are swept within 64 times
/// this time while publications arrive.
const SWEEP: Duration = Duration::from_millis(50);
/// Shortest time between two log lines about evictions.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Limits of a [`Memory`] broker. Each entry counts its bytes and a fixed allowance for its structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all maps together, besides `total_bytes`. At this limit a value that takes more is refused.
    pub map_bytes: u64,
    /// Bytes of one channel's history; beyond it the oldest publications are dropped.
    pub channel_bytes: usize,
    /// Bytes of all histories of one namespace's channels. At this limit, its histories without publications are
    /// evicted first; then a publishing channel drops its own oldest publications, down to none, and a channel without
    /// a history evicts one of the oldest: that of the first stripe that is not locked.
    pub namespace_bytes: u64,
    /// Bytes of all histories, positions, results and members together. At this limit histories are evicted in the same
    /// way, of any namespace; a new result or member is `Overloaded`.
    pub total_bytes: u64,
}

impl Default for Limits {
    /// 4 MiB for a channel, 96 MiB for a namespace, 128 MiB in total, and 128 MiB for maps.
    fn default() -> Self {
        Self {
            map_bytes: 128 << 20,
            channel_bytes: 4 << 20,
            namespace_bytes: 96 << 20,
            total_bytes: 128 << 20,
        }
    }
}

/// The kind of an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EvictionKind {
    /// A history without publications.
    Empty,
    /// A history with publications.
    Nonempty,
    /// A publication of a history that stays.
    Publication,
}

/// Counts of evictions since the start.
#[derive(Debug, Default)]
pub struct Evictions {
    /// Histories without publications.
    pub empty: AtomicU64,
    /// Histories with publications.
    pub nonempty: AtomicU64,
    /// Publications of histories that stay.
    pub publications: AtomicU64,
    /// Time of the last log line, and the number of evictions then.
    logged: Mutex<Option<(Instant, u64)>>,
}

impl Evictions {
    fn note(&self, kind: EvictionKind, count: u64) {
        if count == 0 {
            return;
        }
        let counter = match kind {
            EvictionKind::Empty => &self.empty,
            EvictionKind::Nonempty => &self.nonempty,
            EvictionKind::Publication => &self.publications,
        };
        counter.fetch_add(count, Ordering::Relaxed);
        let now = Instant::now();
        let Ok(mut logged) = self.logged.try_lock() else { return };
        let (at, before) = logged.map_or((None, 0), |(at, before)| (Some(at), before));
        if at.is_some_and(|at| now - at < LOG_INTERVAL) {
            return;
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (empty, nonempty, publications) =
            (read(&self.empty), read(&self.nonempty), read(&self.publications));
        let all = empty + nonempty + publications;
        *logged = Some((now, all));
        tracing::warn!(
            since_the_last_warning = all - before,
            empty_histories = empty,
            histories = nonempty,
            publications,
            "the memory broker is full and evicts histories; returning clients cannot recover their missed \
             publications. Raise memory.max_namespace or memory.max_total, or reduce history_size or history_ttl"
        );
    }
}

/// The broker within the process. Its publications do not survive the process.
pub struct Memory {
    sink: SharedSink,
    stripes: [Mutex<Stripe>; STRIPES],
    hasher: RandomState,
    limits: Limits,
    budget: Arc<Budget>,
    /// The budgets of namespaces with histories.
    namespaces: Mutex<HashMap<Box<str>, Arc<Budget>>>,
    evictions: Evictions,
    started: Instant,
    /// Time of the last sweep in milliseconds since the start, and the number of sweeps.
    swept: AtomicU64,
    sweeps: AtomicU64,
    /// The key of the digests that serve as epochs.
    epochs: RandomState,
    maps: SharedMaps,
    /// The subscribed patterns; replaced as a whole, so that a publisher holds the lock for one clone only.
    patterns: RwLock<Arc<[Pattern]>>,
}

impl Memory {
    /// A broker without subscriptions that hands publications to `sink`, and calls [`Sink::up`](crate::Sink::up) at
    /// once.
    pub fn new(sink: SharedSink) -> Arc<Self> {
        Self::with_limits(sink, Limits::default())
    }

    /// As [`Memory::new`], with other limits.
    pub fn with_limits(sink: SharedSink, limits: Limits) -> Arc<Self> {
        sink.up();
        let maps = SharedMaps::new(limits.map_bytes);
        Arc::new(Self {
            sink,
            stripes: std::array::from_fn(|_| Mutex::new(Stripe::new(&maps.budget))),
            maps,
            hasher: RandomState::new(),
            limits,
            budget: Arc::new(Budget::new(limits.total_bytes)),
            namespaces: Mutex::default(),
            evictions: Evictions::default(),
            started: Instant::now(),
            swept: AtomicU64::new(0),
            sweeps: AtomicU64::new(0),
            epochs: RandomState::new(),
            patterns: RwLock::default(),
        })
    }

    /// Bytes of the stored state, for the metrics.
    pub fn bytes(&self) -> u64 {
        self.budget.used()
    }

    /// Counts of evictions, for the metrics.
    pub fn evictions(&self) -> &Evictions {
        &self.evictions
    }

    fn stripe(&self, channel: &Channel) -> &Mutex<Stripe> {
        let hash = self.hasher.hash_one(channel);
        &self.stripes[usize::try_from(hash % STRIPES as u64).unwrap_or_default()]
    }

    fn patterns(&self) -> Arc<[Pattern]> {
        Arc::clone(&self.patterns.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The position of a channel without a history, at which its history begins. The epoch is a keyed digest of the
    /// channel's name and of the number of `ended` histories of its kind: it needs no storage, and no two histories
    /// have the same, in any process.
    fn initial_position(&self, channel: &Channel, ended: u32) -> Position {
        let digest = self.epochs.hash_one((channel, ended));
        Position { offset: 0, epoch: Epoch::from(format!("{digest:016x}").as_str()) }
    }

    /// Publishes; holds the lock of the channel's stripe throughout.
    fn publish_in_stripe(
        &self,
        channel: &Channel,
        body: Bytes,
        options: PublishOptions,
    ) -> Result<Published, BrokerError> {
        let PublishOptions { history, idempotency_key, extra } = options;
        let key = idempotency_key.filter(|key| !key.is_empty()).map(|key| (channel.clone(), key));
        let history = history.filter(|history| history.size > 0);
        let extra = extra.filter(|extra| !extra.is_empty());
        let publication = Publication { extra, ..Publication::new(channel.clone(), body) };
        let patterns = self.patterns();
        let now = Instant::now();
        self.sweep(now);
        let mut stripe = lock(self.stripe(channel));
        if let Some(key) = &key {
            if key.1.len() > MAX_IDEMPOTENCY_KEY {
                let why = format!("idempotency key longer than {MAX_IDEMPOTENCY_KEY} bytes");
                return Err(BrokerError::Invalid(why));
            }
            if let Some(first) = stripe.results.get(key, now, &self.budget) {
                return Ok(Published { repeated: true, ..first });
            }
            if !self.budget.reserve(result_cost(key)) {
                return Err(BrokerError::Overloaded);
            }
        }
        let publication = match &history {
            Some(options) => {
                let kept = self.store(&mut stripe.histories, channel, publication, options, now);
                kept.inspect_err(|_| self.budget.release(key.as_ref().map_or(0, result_cost)))?
            }
            None => Arc::new(publication),
        };
        let receivers = self.deliver(&mut stripe, &patterns, &publication);
        let published = Published { receivers, position: publication.position.clone(), repeated: false };
        if let Some(key) = key {
            stripe.results.store(key, published.clone(), now);
        }
        Ok(published)
    }

    /// Assigns a publication its position and stores it, if there is or can be made room for it.
    ///
    /// # Errors
    /// [`BrokerError::Overloaded`] when there is no room for a new history.
    fn store(
        &self,
        histories: &mut Histories,
        channel: &Channel,
        publication: Publication,
        options: &HistoryOptions,
        now: Instant,
    ) -> Result<Arc<Publication>, BrokerError> {
        if histories.get(channel, now).is_none() {
            let account = self.account(histories::namespace(channel));
            let begin = |ended, account| {
                Window::new(self.initial_position(channel, ended), account, now, options.meta_ttl)
            };
            while let Err(full) = histories.begin(channel, account.clone(), begin) {
                let evict = |own: &mut Histories, empty| self.evict(own, channel, full, empty, now);
                if !evict(histories, true) && !evict(histories, false) {
                    return Err(BrokerError::Overloaded);
                }
            }
        }
        let (cost, channel_bytes) = (Window::cost(&publication), self.limits.channel_bytes);
        if let Some(window) = histories.get(channel, now) {
            window.trim(cost, options, channel_bytes, now);
        }
        histories.move_to_end(channel);
        let mut granted = false;
        while cost <= channel_bytes
            && let Some(account) = histories.account(channel)
        {
            let Err(full) = account.reserve(cost) else {
                granted = true;
                break;
            };
            let evict = |own: &mut Histories, empty| self.evict(own, channel, full, empty, now);
            let has_own = histories.get(channel, now).is_some_and(|window| !window.is_empty());
            if !evict(histories, true) && (has_own || !evict(histories, false)) {
                break;
            }
        }
        let window = histories.get(channel, now).ok_or(BrokerError::Overloaded)?;
        let (publication, given_up) = window.append(publication, channel_bytes, now, granted);
        self.evictions.note(EvictionKind::Publication, given_up);
        Ok(publication)
    }

    /// The bytes of the histories of each namespace that has had some: the part of channel names before the first colon,
    /// empty without one.
    pub fn namespace_bytes(&self) -> Vec<(Box<str>, u64)> {
        lock(&self.namespaces).iter().map(|(name, budget)| (name.clone(), budget.used())).collect()
    }

    /// The budgets of the histories of a namespace.
    fn account(&self, namespace: &str) -> Account {
        let mut namespaces = lock(&self.namespaces);
        if !namespaces.contains_key(namespace) {
            namespaces.insert(namespace.into(), Arc::new(Budget::new(self.limits.namespace_bytes)));
        }
        Account { namespace: Arc::clone(&namespaces[namespace]), total: Arc::clone(&self.budget) }
    }

    /// Evicts a history to make room for another channel's: of the same stripe, or of one that is not locked. Returns
    /// whether one was evicted.
    fn evict(
        &self,
        own: &mut Histories,
        channel: &Channel,
        full: ExceededBudget,
        empty: bool,
        now: Instant,
    ) -> bool {
        let other = |stripe: &Mutex<Stripe>| {
            stripe.try_lock().is_ok_and(|mut stripe| stripe.histories.evict(channel, full, empty, now))
        };
        let evicted = own.evict(channel, full, empty, now) || self.stripes.iter().any(other);
        self.evictions
            .note(if empty { EvictionKind::Empty } else { EvictionKind::Nonempty }, u64::from(evicted));
        evicted
    }

    fn deliver(&self, stripe: &mut Stripe, patterns: &[Pattern], publication: &Arc<Publication>) -> u64 {
        let channel = &publication.channel;
        let delivery = |topic| Delivery { topic, publication: Arc::clone(publication) };
        if stripe.subscribed.contains(channel) {
            stripe.batch.push(delivery(Topic::Channel(channel.clone())));
        }
        let matching = patterns.iter().filter(|pattern| pattern.matches(channel.as_str()));
        stripe.batch.extend(matching.map(|pattern| delivery(Topic::Pattern(pattern.clone()))));
        let receivers = if stripe.batch.is_empty() { 0 } else { self.sink.deliver(&mut stripe.batch) };
        stripe.batch.clear();
        receivers
    }

    /// Sweeps the next stripe, if it is due and not locked.
    fn sweep(&self, now: Instant) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (now_millis, last) = (millis(now - self.started), self.swept.load(Ordering::Relaxed));
        if now_millis < last.saturating_add(millis(SWEEP))
            || self.swept.compare_exchange(last, now_millis, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let next = self.sweeps.fetch_add(1, Ordering::Relaxed) % STRIPES as u64;
        if let Ok(mut stripe) = self.stripes[usize::try_from(next).unwrap_or_default()].try_lock() {
            stripe.remove_expired(now, &self.budget);
        }
    }

    /// Replaces the patterns by the result of `change`.
    fn change_patterns(&self, change: impl FnOnce(&mut Vec<Pattern>)) {
        let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
        let mut list = patterns.to_vec();
        change(&mut list);
        *patterns = list.into();
    }
}

/// The answer to a query of a channel without a history, at this position.
fn empty_history(position: Position, query: &HistoryQuery) -> History {
    let is_here = |since: &Position| since.is_in(&position.epoch) && since.offset == 0;
    if query.since.as_ref().is_none_or(is_here) {
        History::Page(HistoryPage { position, publications: Vec::new() })
    } else {
        History::Unrecoverable(position)
    }
}

impl Broker for Memory {
    fn subscribe(&self, topic: &Topic) {
        match topic {
            Topic::Channel(channel) => {
                let mut stripe = lock(self.stripe(channel));
                if stripe.subscribed.insert(channel.clone()) {
                    // Within the lock, so that `live` is called before the first delivery.
                    self.sink.live(std::slice::from_ref(topic));
                }
            }
            Topic::Pattern(pattern) => {
                let mut new = false;
                self.change_patterns(|list| {
                    new = !list.contains(pattern);
                    list.extend(new.then(|| pattern.clone()));
                });
                if new {
                    self.sink.live(std::slice::from_ref(topic));
                }
            }
        }
    }

    fn unsubscribe(&self, topic: &Topic) {
        match topic {
            Topic::Channel(channel) => {
                lock(self.stripe(channel)).unsubscribe(channel);
            }
            Topic::Pattern(pattern) => self.change_patterns(|list| list.retain(|p| p != pattern)),
        }
    }

    fn publish(&self, channel: &Channel, body: Bytes, done: PublishCallback) {
        self.publish_with(channel, body, PublishOptions::default(), done);
    }

    fn reset(&self, _reason: &str) {
        // There is no connection to close.
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

impl Stateful for Memory {
    fn publish_with(&self, channel: &Channel, body: Bytes, options: PublishOptions, done: PublishCallback) {
        done(self.publish_in_stripe(channel, body, options));
    }

    fn history(&self, channel: &Channel, query: HistoryQuery, done: HistoryCallback) {
        let now = Instant::now();
        let answer = {
            let mut stripe = lock(self.stripe(channel));
            match stripe.histories.get(channel, now) {
                Some(window) => window.read(&query, now),
                None => {
                    empty_history(self.initial_position(channel, stripe.histories.ended(channel)), &query)
                }
            }
        };
        done(Ok(answer));
    }

    fn history_remove(&self, channel: &Channel, done: CompletionCallback) {
        if let Some(window) = lock(self.stripe(channel)).histories.get(channel, Instant::now()) {
            window.clear();
        }
        done(Ok(()));
    }

    fn presence_add(&self, channel: &Channel, info: &ClientInfo, ttl: Duration, done: CompletionCallback) {
        let now = Instant::now();
        self.sweep(now);
        let granted = lock(self.stripe(channel)).presence.add(channel, info, ttl, now, &self.budget);
        done(if granted { Ok(()) } else { Err(BrokerError::Overloaded) });
    }

    fn presence_remove(&self, channel: &Channel, client: &str, done: CompletionCallback) {
        lock(self.stripe(channel)).presence.remove(channel, client, &self.budget);
        done(Ok(()));
    }

    fn presence(&self, channel: &Channel, max_bytes: usize, done: PresenceCallback) {
        let members = lock(self.stripe(channel)).presence.members(channel, Instant::now(), max_bytes);
        done(members.ok_or(BrokerError::LimitExceeded(max_bytes)));
    }

    fn presence_stats(&self, channel: &Channel, done: PresenceStatsCallback) {
        let stats = lock(self.stripe(channel)).presence.stats(channel, Instant::now());
        done(Ok(stats));
    }

    fn map_change(&self, channel: &Channel, change: MapChange, done: MapChangeCallback) {
        done(self.change_map(channel, change));
    }

    fn map_state(&self, channel: &Channel, query: StateQuery, ordered: bool, done: MapStateCallback) {
        done(self.read_map_state(channel, &query, ordered));
    }

    fn map_stream(&self, channel: &Channel, query: HistoryQuery, done: HistoryCallback) {
        done(Ok(self.read_map_stream(channel, &query)));
    }

    fn map_key_count(&self, channel: &Channel, done: KeyCountCallback) {
        done(Ok(lock(self.stripe(channel)).maps.key_count(channel)));
    }

    fn map_clear(&self, channel: &Channel, done: CompletionCallback) {
        self.clear_map(channel);
        done(Ok(()));
    }

    fn announce(&self, channel: &Channel, change: Change, done: CompletionCallback) {
        {
            let stripe = lock(self.stripe(channel));
            if stripe.subscribed.contains(channel) {
                self.sink.changed(channel, &change);
            }
        }
        done(Ok(()));
    }
}
