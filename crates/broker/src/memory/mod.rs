//! The broker of a single process: what is published here is heard here.
//!
//! Channels are spread over stripes by their name. A publication is handed to the sink while its channel's stripe is
//! locked, so everybody sees the publications of one channel in one order, while publishers of other channels
//! mostly go about undisturbed. What a channel remembers stands in its stripe as well, under the same lock, so that
//! a publication gets its position, is kept and is handed over in one step.
//!
//! | module | holds |
//! |---|---|
//! | `history` | the window of one channel's newest publications |
//! | `stripe` | histories, results and members of the channels of one stripe |
//! | `budget` | the bytes that all of it may take together |
//!
//! Invariants:
//! - The sink is called under the lock of one stripe at most, never under one that all publishers share.
//! - It is always up: `live` is said within `subscribe`, and a publication has been delivered when `done` is called.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_wire::{Channel, ClientInfo, Delivery, Epoch, Extra, Pattern, Position, Publication, Topic};

use crate::{
    Broker, BrokerError, Change, Done, HistoryDone, HistoryQuery, MAX_IDEMPOTENCY_KEY, PresenceDone,
    PublishOptions, Published, Settled, SharedSink, Stateful, StatsDone, lock,
};

mod budget;
mod history;
mod stripe;

use budget::Budget;
use history::Window;
use stripe::{Stripe, result_cost};

/// Into how many parts the channels are divided: many more than there are threads that publish.
const STRIPES: usize = 64;
/// At most this often a publisher sweeps a stripe, one after the other: a round takes 64 times as long, while
/// anything is published at all.
const SWEEP: Duration = Duration::from_millis(50);

/// How much a [`Memory`] broker may remember. Every entry counts with an allowance for its keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one channel's history; the oldest publications go.
    pub channel_bytes: usize,
    /// Bytes of all histories, positions, results and members together. At this limit a channel that publishes gives
    /// up its own oldest publications, down to none; a new position, result or member is `Overloaded`.
    pub total_bytes: u64,
}

impl Default for Limits {
    /// 4 MiB a channel, 128 MiB together.
    fn default() -> Self {
        Self { channel_bytes: 4 << 20, total_bytes: 128 << 20 }
    }
}

/// The broker that lives in the process itself. Its publications do not survive it.
pub struct Memory {
    sink: SharedSink,
    stripes: [Mutex<Stripe>; STRIPES],
    hasher: RandomState,
    limits: Limits,
    budget: Budget,
    started: Instant,
    /// When the last sweep was, in milliseconds since the start, and how many there were.
    swept: AtomicU64,
    sweeps: AtomicU64,
    epochs: AtomicU64,
    /// The patterns subscribed to; replaced as a whole, so that publishing holds the lock for one clone only.
    patterns: RwLock<Arc<[Pattern]>>,
}

impl Memory {
    /// A broker without any subscription that hands what is published to `sink`, which it tells at once that it is
    /// up.
    pub fn new(sink: SharedSink) -> Arc<Self> {
        Self::with_limits(sink, Limits::default())
    }

    /// The same with limits of one's own.
    pub fn with_limits(sink: SharedSink, limits: Limits) -> Arc<Self> {
        sink.up();
        Arc::new(Self {
            sink,
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            limits,
            budget: Budget::new(limits.total_bytes),
            started: Instant::now(),
            swept: AtomicU64::new(0),
            sweeps: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
            patterns: RwLock::default(),
        })
    }

    /// Bytes of all that is remembered, for the metrics page.
    pub fn bytes(&self) -> u64 {
        self.budget.used()
    }

    fn stripe(&self, channel: &Channel) -> &Mutex<Stripe> {
        let hash = self.hasher.hash_one(channel);
        &self.stripes[usize::try_from(hash % STRIPES as u64).unwrap_or_default()]
    }

    fn patterns(&self) -> Arc<[Pattern]> {
        Arc::clone(&self.patterns.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The beginning of a history, in an epoch that was never before in any process.
    fn new_window(&self, now: Instant, meta_ttl: Duration) -> Window {
        let number = self.epochs.fetch_add(1, Ordering::Relaxed);
        let epoch = Epoch::from(format!("{:016x}", self.hasher.hash_one(number)).as_str());
        Window::new(Position { offset: 0, epoch }, now, meta_ttl)
    }

    /// Publishes, under the lock of the channel's stripe from beginning to end.
    fn carry(
        &self,
        channel: &Channel,
        body: Bytes,
        options: PublishOptions,
    ) -> Result<Published, BrokerError> {
        let PublishOptions { history, idempotency_key, info, tags } = options;
        let key = idempotency_key.filter(|key| !key.is_empty()).map(|key| (channel.clone(), key));
        let history = history.filter(|history| history.size > 0);
        let mut publication = Publication::new(channel.clone(), body);
        if info.is_some() || !tags.is_empty() {
            publication.extra = Some(Box::new(Extra { info, tags }));
        }
        let patterns = self.patterns();
        let now = Instant::now();
        self.sweep(now);
        let mut stripe = lock(self.stripe(channel));
        if let Some(key) = &key {
            if key.1.len() > MAX_IDEMPOTENCY_KEY {
                let why = format!("idempotency key longer than {MAX_IDEMPOTENCY_KEY} bytes");
                return Err(BrokerError::Invalid(why));
            }
            if let Some(first) = stripe.result(key, now, &self.budget) {
                return Ok(Published { repeated: true, ..first });
            }
            if !self.budget.take(result_cost(key)) {
                return Err(BrokerError::Overloaded);
            }
        }
        let publication = match &history {
            Some(options) => {
                let begin = || self.new_window(now, options.meta_ttl);
                let Some(window) = stripe.window(channel, now, &self.budget, begin) else {
                    self.budget.give(key.as_ref().map_or(0, result_cost));
                    return Err(BrokerError::Overloaded);
                };
                window.append(publication, options, self.limits.channel_bytes, &self.budget, now)
            }
            None => Arc::new(publication),
        };
        let receivers = self.deliver(&mut stripe, &patterns, &publication);
        let published = Published { receivers, position: publication.position.clone(), repeated: false };
        if let Some(key) = key {
            stripe.remember(key, published.clone(), now);
        }
        Ok(published)
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

    /// Sweeps the next stripe, if it is time and nobody is at work in it.
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
            stripe.sweep(now, &self.budget);
        }
    }

    /// Replaces the patterns by what `change` makes of them.
    fn change_patterns(&self, change: impl FnOnce(&mut Vec<Pattern>)) {
        let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
        let mut list = patterns.to_vec();
        change(&mut list);
        *patterns = list.into();
    }
}

impl Broker for Memory {
    fn subscribe(&self, topic: &Topic) {
        match topic {
            Topic::Channel(channel) => {
                let mut stripe = lock(self.stripe(channel));
                if stripe.subscribed.insert(channel.clone()) {
                    // Within the lock, so that `live` is said before the first delivery.
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
                lock(self.stripe(channel)).subscribed.remove(channel);
            }
            Topic::Pattern(pattern) => self.change_patterns(|list| list.retain(|p| p != pattern)),
        }
    }

    fn publish(&self, channel: &Channel, body: Bytes, done: Done) {
        self.publish_with(channel, body, PublishOptions::default(), done);
    }

    fn reset(&self, _reason: &str) {
        // There is no connection to drop.
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

impl Stateful for Memory {
    fn publish_with(&self, channel: &Channel, body: Bytes, options: PublishOptions, done: Done) {
        done(self.carry(channel, body, options));
    }

    fn history(&self, channel: &Channel, query: HistoryQuery, done: HistoryDone) {
        let now = Instant::now();
        let answer = {
            let mut stripe = lock(self.stripe(channel));
            let begin = || self.new_window(now, query.meta_ttl);
            let window = stripe.window(channel, now, &self.budget, begin);
            window.map(|window| window.read(&query, &self.budget, now))
        };
        done(answer.ok_or(BrokerError::Overloaded));
    }

    fn history_remove(&self, channel: &Channel, done: Settled) {
        if let Some(window) = lock(self.stripe(channel)).windows.get_mut(channel) {
            window.clear(&self.budget);
        }
        done(Ok(()));
    }

    fn presence_add(&self, channel: &Channel, info: &ClientInfo, ttl: Duration, done: Settled) {
        let now = Instant::now();
        self.sweep(now);
        let granted = lock(self.stripe(channel)).add_member(channel, info, ttl, now, &self.budget);
        done(if granted { Ok(()) } else { Err(BrokerError::Overloaded) });
    }

    fn presence_remove(&self, channel: &Channel, client: &str, done: Settled) {
        lock(self.stripe(channel)).remove_member(channel, client, &self.budget);
        done(Ok(()));
    }

    fn presence(&self, channel: &Channel, done: PresenceDone) {
        let members = lock(self.stripe(channel)).members(channel, Instant::now());
        done(Ok(members));
    }

    fn presence_stats(&self, channel: &Channel, done: StatsDone) {
        let stats = lock(self.stripe(channel)).stats(channel, Instant::now());
        done(Ok(stats));
    }

    fn announce(&self, channel: &Channel, change: Change, done: Settled) {
        {
            let stripe = lock(self.stripe(channel));
            if stripe.subscribed.contains(channel) {
                self.sink.changed(channel, &change);
            }
        }
        done(Ok(()));
    }
}
