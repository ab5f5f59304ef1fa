//! Publications that are being added to the sessions, in steps of bounded size.
//!
//! Invariants:
//! - The sessions get the publications of one topic and this node in their order. The first steps follow each other without waiting
//!   for responses, which keep their order. A publication that needs several steps is added to nobody by its first one: its topic is
//!   ordered before the next one. In an ordered topic one publication is added at a time, and the others wait in their order; bytes
//!   of these are bounded.
//! - A later publication would need several steps too, unless subscribers end between the two steps: a message with smaller
//!   steps than others keeps later ones waiting until its first response.
//! - `done` is called after the last step.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_broker::{BrokerError, SessionFunction};
use tidings_mqtt::Qos;
use tidings_wire::{Channel, Publication};

use super::{SharedSessions, calls};

/// Most bytes of publications that wait, with an allowance for each.
const MAX_WAITING: usize = 16 << 20;
/// Allowance for a publication that waits, besides its texts.
const WAITING_OVERHEAD: usize = 512;
/// The argument with which a step continues.
const PROGRESS: usize = 7;
/// The argument for an addition for which others of its topic wait.
const IS_ORDERED: usize = 8;

/// Called once with the number of copies, from any thread; must not block.
type AddedCallback = Box<dyn FnOnce(Result<u64, BrokerError>) + Send>;

/// The publications that are being added.
#[derive(Default)]
pub(super) struct Adding {
    /// Their number, and that of those that wait.
    count: AtomicU64,
    topics: Mutex<Topics>,
}

#[derive(Default)]
struct Topics {
    /// The topics in which publications wait, or would.
    ordered: HashMap<Channel, Ordered>,
    bytes: usize,
    /// The number of the last publication.
    last: u64,
}

/// A topic in which later publications wait.
#[derive(Default)]
struct Ordered {
    /// The publication whose steps are carried out.
    first: Option<u64>,
    /// A publication with small steps whose first response has not arrived.
    asked: Option<u64>,
    waiting: BTreeMap<u64, Addition>,
}

/// A publication that is being added, or waits.
struct Addition {
    /// Its place in the order of all publications of the node.
    number: u64,
    channel: Channel,
    args: Vec<Bytes>,
    cost: usize,
    has_small_steps: bool,
    done: AddedCallback,
}

impl Adding {
    /// Whether a publication is being added.
    pub(super) fn is_busy(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let topics = self.lock();
        !self.is_busy() && topics.ordered.is_empty() && topics.bytes == 0
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        // The topics are valid at every step.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topics {
    /// Begins an addition: returns it if it need not wait, or with an error if there is no room for it to wait.
    fn begin(&mut self, mut addition: Addition) -> Option<(Addition, Result<(), BrokerError>)> {
        self.last += 1;
        addition.number = self.last;
        if let Some(topic) = self.ordered.get_mut(&addition.channel) {
            if self.bytes + addition.cost > MAX_WAITING {
                return Some((addition, Err(BrokerError::Overloaded)));
            }
            self.bytes += addition.cost;
            topic.waiting.insert(addition.number, addition);
            return None;
        }
        if addition.has_small_steps {
            let topic = Ordered { asked: Some(addition.number), ..Ordered::default() };
            self.ordered.insert(addition.channel.clone(), topic);
        }
        Some((addition, Ok(())))
    }

    /// An addition needs several steps: returns it if it is the first one of its topic. Otherwise it waits, beyond the bound too: its
    /// bytes were in a request.
    fn order(&mut self, addition: Addition) -> Option<Addition> {
        let topic = self.ordered.entry(addition.channel.clone()).or_default();
        if topic.asked == Some(addition.number) {
            topic.asked = None;
        }
        if *topic.first.get_or_insert(addition.number) == addition.number {
            return Some(addition);
        }
        self.bytes += addition.cost;
        topic.waiting.insert(addition.number, addition);
        None
    }

    /// An addition has ended. Returns the next one of its topic, which is the first one now.
    fn end(&mut self, channel: &Channel, number: u64) -> Option<Addition> {
        let topic = self.ordered.get_mut(channel)?;
        for place in [&mut topic.first, &mut topic.asked] {
            if *place == Some(number) {
                *place = None;
            }
        }
        if topic.first.is_some() || topic.asked.is_some() {
            return None;
        }
        let next = topic.waiting.pop_first().map(|(_, next)| next);
        topic.first = next.as_ref().map(|next| next.number);
        match &next {
            Some(next) => self.bytes -= next.cost,
            None => drop(self.ordered.remove(channel)),
        }
        next
    }

    /// All that wait in a topic for this addition.
    fn take(&mut self, channel: &Channel, number: u64) -> BTreeMap<u64, Addition> {
        let is_waited_for = |topic: &&mut Ordered| [topic.first, topic.asked].contains(&Some(number));
        let topic = self.ordered.get_mut(channel).filter(is_waited_for);
        let waiting = topic.map(|topic| std::mem::take(&mut topic.waiting)).unwrap_or_default();
        self.bytes -= waiting.values().map(|addition| addition.cost).sum::<usize>();
        waiting
    }
}

impl SharedSessions {
    /// Adds a publication to the sessions that get it; calls `done` with the number of copies. With an idempotency key that is not
    /// empty, it is added once.
    pub fn add(
        self: &Arc<Self>,
        publication: &Publication,
        qos: Qos,
        key: &str,
        done: impl FnOnce(Result<u64, BrokerError>) + Send + 'static,
    ) {
        let (channel, limits) = (publication.channel.clone(), self.limits());
        let message = calls::message(publication);
        let has_small_steps = tidings_mqtt_redis::has_small_steps(message.len());
        let cost = WAITING_OVERHEAD + channel.as_str().len() + message.len() + key.len();
        let args = vec![
            calls::text(channel.as_str()),
            calls::text(publication.origin().unwrap_or_default()),
            calls::number(qos as u8),
            calls::number(limits.queue_bytes),
            calls::number(limits.total_bytes),
            message,
            calls::text(key),
            Bytes::new(),
            Bytes::new(),
        ];
        self.adding.count.fetch_add(1, Ordering::AcqRel);
        let addition = Addition { number: 0, channel, args, cost, has_small_steps, done: Box::new(done) };
        let begun = self.adding.lock().begin(addition);
        match begun {
            None => {}
            Some((addition, Ok(()))) => self.add_step(addition),
            Some((addition, Err(error))) => self.finish(addition, Err(error)),
        }
    }

    fn add_step(self: &Arc<Self>, mut addition: Addition) {
        let shared = Arc::clone(self);
        self.call(SessionFunction::Append, addition.args.clone(), move |answer| match answer {
            Ok(answer) => match answer.get(3) {
                Some(progress) => {
                    addition.args[PROGRESS] = progress.clone();
                    let first = shared.adding.lock().order(addition);
                    if let Some(first) = first {
                        shared.add_step(first);
                    }
                }
                None => shared.finish(addition, Ok(calls::read(&answer, 0).unwrap_or(0))),
            },
            Err(error) => shared.finish(addition, Err(error)),
        });
    }

    fn finish(self: &Arc<Self>, addition: Addition, outcome: Result<u64, BrokerError>) {
        let Addition { number, channel, done, .. } = addition;
        if let Ok(copies) = outcome {
            self.totals.added.fetch_add(copies, Ordering::Relaxed);
        }
        // Without a connection the publications that wait would fail one after the other.
        let is_away = matches!(outcome, Err(BrokerError::Unavailable | BrokerError::Overloaded));
        let failed = if is_away { self.adding.lock().take(&channel, number) } else { BTreeMap::new() };
        for addition in failed.into_values() {
            (addition.done)(outcome.clone());
            self.adding.count.fetch_sub(1, Ordering::AcqRel);
        }
        done(outcome);
        self.adding.count.fetch_sub(1, Ordering::AcqRel);
        let next = self.adding.lock().end(&channel, number);
        if let Some(mut next) = next {
            next.args[IS_ORDERED] = Bytes::from_static(b"1");
            self.add_step(next);
        }
    }
}
