//! The broker of a single process: what is published here is heard here.
//!
//! Channels are spread over stripes by their name. A publication is handed to the sink while its channel's stripe is
//! locked, so everybody sees the publications of one channel in one order, while publishers of other channels
//! mostly go about undisturbed. What a channel will remember belongs into its stripe as well, under the same lock.
//!
//! Invariants:
//! - The sink is called under the lock of one stripe at most, never under one that all publishers share.
//! - It is always up: `live` is said within `subscribe`, and a publication has been delivered when `done` is called.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use tidings_wire::{Channel, Delivery, Pattern, Publication, Topic};

use crate::{Broker, Done, Published, SharedSink, lock};

/// Into how many parts the channels are divided: many more than there are threads that publish.
const STRIPES: usize = 64;

/// The broker that lives in the process itself. Its publications do not survive it.
pub struct Memory {
    sink: SharedSink,
    stripes: [Mutex<Stripe>; STRIPES],
    hasher: RandomState,
    /// The patterns subscribed to; replaced as a whole, so that publishing holds the lock for one clone only.
    patterns: RwLock<Arc<[Pattern]>>,
}

/// The channels that fell into one part.
#[derive(Default)]
struct Stripe {
    subscribed: HashSet<Channel>,
    /// The deliveries of one publication, kept for its capacity; empty whenever the stripe is unlocked.
    batch: Vec<Delivery>,
}

impl Memory {
    /// A broker without any subscription that hands what is published to `sink`, which it tells at once that it is
    /// up.
    pub fn new(sink: SharedSink) -> Arc<Self> {
        sink.up();
        Arc::new(Self {
            sink,
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            patterns: RwLock::default(),
        })
    }

    fn stripe(&self, channel: &Channel) -> &Mutex<Stripe> {
        let hash = self.hasher.hash_one(channel);
        &self.stripes[usize::try_from(hash % STRIPES as u64).unwrap_or_default()]
    }

    fn patterns(&self) -> Arc<[Pattern]> {
        Arc::clone(&self.patterns.read().unwrap_or_else(PoisonError::into_inner))
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
        let publication = Arc::new(Publication::new(channel.clone(), body));
        let patterns = self.patterns();
        let receivers = {
            let mut stripe = lock(self.stripe(channel));
            let stripe = &mut *stripe;
            let deliver = |topic| Delivery { topic, publication: Arc::clone(&publication) };
            if stripe.subscribed.contains(channel) {
                stripe.batch.push(deliver(Topic::Channel(channel.clone())));
            }
            let matching = patterns.iter().filter(|pattern| pattern.matches(channel.as_str()));
            stripe.batch.extend(matching.map(|pattern| deliver(Topic::Pattern(pattern.clone()))));
            let receivers = if stripe.batch.is_empty() { 0 } else { self.sink.deliver(&mut stripe.batch) };
            stripe.batch.clear();
            receivers
        };
        done(Ok(Published { receivers, ..Published::default() }));
    }

    fn reset(&self, _reason: &str) {
        // There is no connection to drop.
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
