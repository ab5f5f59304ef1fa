//! The retained messages of a deployment, which the broker stores for all nodes.
//!
//! Invariants:
//! - A message is stored before it is published. Publications of this node in its channel that follow it meanwhile wait, so that
//!   their order stays.
//! - A subscriber gets no retained message behind a later one of the same topic: the topics of retained messages that are
//!   delivered during a read are omitted from its result ([`RetainedReads`]).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_broker::{
    BrokerError, Retain, RetainOutcome, RetainedPage, RetainedQuery, RetainedTotals, Stateful,
};
use tidings_metrics::{Collect, MetricWriter};
use tidings_mqtt::topic::Filter;
use tidings_wire::{Channel, Publication};

use super::reads::{ReadId, RetainedReads};
use super::{Limits, RetainedFull, lifetime, with_lifetime};

/// Most bytes of publications that wait for a retained message of their channel, with an allowance for each.
const MAX_WAITING: usize = 16 << 20;
/// Allowance for a publication that waits, besides its texts.
const WAITING_OVERHEAD: usize = 256;
/// The time between two reads of the totals.
const TOTALS_INTERVAL: Duration = Duration::from_secs(10);

/// Publishes, or reports that the message is not retained. Called exactly once, from any thread; must not block.
pub type Continuation = Box<dyn FnOnce(Result<(), BrokerError>) + Send>;

/// The retained messages that match a filter, or the reason why they cannot be read.
pub type ReadResult = Result<Vec<Arc<Publication>>, BrokerError>;

/// The retained messages of a deployment.
pub struct SharedRetained {
    broker: Arc<dyn Stateful>,
    store: Channel,
    limits: Limits,
    reads: Arc<RetainedReads>,
    /// The channels with a message that is being stored, and the publications that wait for it.
    storing: Mutex<Storing>,
    /// The number of these channels, to be read without the lock.
    channels_storing: AtomicUsize,
    messages: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Storing {
    channels: HashMap<Channel, VecDeque<Step>>,
    bytes: usize,
}

/// A publication that waits.
struct Step {
    /// The message, if it is retained.
    retained: Option<Publication>,
    cost: usize,
    publish: Continuation,
}

impl fmt::Debug for SharedRetained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRetained").field("store", &self.store).finish_non_exhaustive()
    }
}

impl SharedRetained {
    /// The messages that `broker` has under the name `store`. `reads` gets the deliveries of this node.
    pub fn new(broker: Arc<dyn Stateful>, store: Channel, limits: Limits, reads: Arc<RetainedReads>) -> Self {
        let (storing, messages, bytes) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        let channels_storing = AtomicUsize::new(0);
        Self { broker, store, limits, reads, storing, channels_storing, messages, bytes }
    }

    /// Number of messages, as last read.
    pub fn count(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Whether publications may have to wait: a message is being stored.
    pub fn is_storing(&self) -> bool {
        self.channels_storing.load(Ordering::Acquire) > 0
    }

    /// Stores `retained`, if the publication is retained, and calls `publish` afterwards. Without it, calls `publish` at once
    /// unless a message of the channel is being stored. `size` is that of the publication.
    pub fn store_then_publish(
        self: &Arc<Self>,
        channel: &Channel,
        retained: Option<Publication>,
        size: usize,
        publish: Continuation,
    ) {
        let cost = WAITING_OVERHEAD + channel.as_str().len() + size;
        let mut storing = self.lock();
        let Storing { channels, bytes } = &mut *storing;
        match (channels.entry(channel.clone()), retained) {
            (Entry::Occupied(_), _) if *bytes + cost > MAX_WAITING => {
                drop(storing);
                publish(Err(BrokerError::Overloaded));
            }
            (Entry::Occupied(mut waiting), retained) => {
                *bytes += cost;
                waiting.get_mut().push_back(Step { retained, cost, publish });
            }
            (Entry::Vacant(none), Some(message)) => {
                none.insert(VecDeque::new());
                self.channels_storing.store(channels.len(), Ordering::Release);
                drop(storing);
                self.store(message, publish);
            }
            (Entry::Vacant(_), None) => {
                drop(storing);
                publish(Ok(()));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Storing> {
        // The channels are valid at every step.
        self.storing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(self: &Arc<Self>, publication: Publication, publish: Continuation) {
        let Limits { messages: max_messages, bytes: max_bytes } = self.limits;
        let (shared, channel) = (Arc::clone(self), publication.channel.clone());
        let ttl = lifetime(&publication);
        let change = Retain { publication, ttl, max_messages, max_bytes };
        let done = Box::new(move |outcome: Result<RetainOutcome, BrokerError>| {
            let outcome = outcome.and_then(|outcome| shared.checked(outcome));
            // Without a connection the publications that wait would fail one in another.
            let is_away = matches!(outcome, Err(BrokerError::Unavailable | BrokerError::Overloaded));
            publish(outcome.clone());
            if is_away {
                shared.fail_waiting(&channel, &outcome);
            } else {
                shared.continue_with(&channel);
            }
        });
        self.broker.retain(&self.store, change, done);
    }

    fn checked(&self, outcome: RetainOutcome) -> Result<(), BrokerError> {
        let full = match outcome {
            RetainOutcome::Stored(totals) => {
                self.set_totals(totals);
                return Ok(());
            }
            RetainOutcome::TooManyMessages => RetainedFull::Messages(self.limits.messages),
            RetainOutcome::TooManyBytes => RetainedFull::Bytes(self.limits.bytes),
        };
        Err(BrokerError::Full(full.to_string()))
    }

    fn set_totals(&self, totals: RetainedTotals) {
        self.messages.store(totals.messages, Ordering::Relaxed);
        self.bytes.store(totals.bytes, Ordering::Relaxed);
    }

    fn fail_waiting(&self, channel: &Channel, outcome: &Result<(), BrokerError>) {
        let waiting = {
            let mut storing = self.lock();
            let waiting = storing.channels.remove(channel).unwrap_or_default();
            storing.bytes -= waiting.iter().map(|step| step.cost).sum::<usize>();
            self.channels_storing.store(storing.channels.len(), Ordering::Release);
            waiting
        };
        for step in waiting {
            (step.publish)(outcome.clone());
        }
    }

    /// Publishes what waits in a channel, up to the next retained message.
    fn continue_with(self: &Arc<Self>, channel: &Channel) {
        loop {
            let step = {
                let mut storing = self.lock();
                let step = storing.channels.get_mut(channel).and_then(VecDeque::pop_front);
                match &step {
                    Some(step) => storing.bytes -= step.cost,
                    None => {
                        storing.channels.remove(channel);
                        self.channels_storing.store(storing.channels.len(), Ordering::Release);
                    }
                }
                step
            };
            match step {
                Some(Step { retained: Some(message), publish, .. }) => return self.store(message, publish),
                Some(Step { publish, .. }) => publish(Ok(())),
                None => return,
            }
        }
    }

    /// Reads the messages that match a filter, ordered by topic. The lifetime of each is what is left of it. A result of more than
    /// `max_bytes` is [`BrokerError::LimitExceeded`].
    pub fn read(
        self: &Arc<Self>,
        filter: &str,
        max_bytes: usize,
        take: impl FnOnce(ReadResult) + Send + 'static,
    ) {
        let id = self.reads.begin(filter);
        let query = RetainedQuery { filter: filter.into(), after: String::new(), max_bytes };
        let read = Read { id, found: Vec::new(), left: max_bytes, take: Box::new(take) };
        self.read_page(query, read, max_bytes);
    }

    fn read_page(self: &Arc<Self>, query: RetainedQuery, mut read: Read, max_bytes: usize) {
        let (shared, filter) = (Arc::clone(self), query.filter.clone());
        let done = Box::new(move |page: Result<RetainedPage, BrokerError>| {
            let RetainedPage { messages, next, totals } = match page {
                Ok(page) => page,
                Err(error) => {
                    let error = match error {
                        BrokerError::LimitExceeded(_) => BrokerError::LimitExceeded(max_bytes),
                        error => error,
                    };
                    return shared.reads.end(read.id, |_| (read.take)(Err(error)));
                }
            };
            shared.set_totals(totals);
            for (publication, left) in messages {
                read.left = read.left.saturating_sub(super::cost(&publication));
                read.found.push(with_lifetime(publication, left));
            }
            if let Some(after) = next {
                let query = RetainedQuery { filter, after, max_bytes: read.left };
                return shared.read_page(query, read, max_bytes);
            }
            shared.reads.end(read.id, |delivered| {
                let Some(delivered) = delivered else {
                    return (read.take)(Err(BrokerError::Overloaded));
                };
                let filter = Filter::new(&filter).ok();
                let is_match = |found: &Publication| {
                    let matches = |filter: &Filter<'_>| filter.matches(found.channel.as_str());
                    filter.as_ref().is_some_and(matches) && !delivered.contains(&found.channel)
                };
                let found = read.found.into_iter().filter(|found| is_match(found)).map(Arc::new);
                (read.take)(Ok(found.collect()));
            });
        });
        self.broker.retained(&self.store, query, done);
    }

    /// Reads the totals every ten seconds.
    pub async fn watch_totals(self: Arc<Self>) {
        loop {
            let shared = Arc::clone(&self);
            // No topic is empty, so that no message is read.
            let query = RetainedQuery { filter: "".into(), after: String::new(), max_bytes: 0 };
            let done = Box::new(move |page: Result<RetainedPage, BrokerError>| {
                if let Ok(page) = page {
                    shared.set_totals(page.totals);
                }
            });
            self.broker.retained(&self.store, query, done);
            tokio::time::sleep(TOTALS_INTERVAL).await;
        }
    }
}

/// A read in progress.
struct Read {
    id: ReadId,
    found: Vec<Publication>,
    /// Bytes that the rest may have.
    left: usize,
    take: Box<dyn FnOnce(ReadResult) + Send>,
}

impl Collect for SharedRetained {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        super::write_metrics(self.count(), self.bytes.load(Ordering::Relaxed), out)
    }
}
