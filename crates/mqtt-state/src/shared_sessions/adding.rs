//! Publications that are being added to the sessions, in steps of bounded size.
//!
//! Invariants:
//! - The sessions get the publications of one topic and this node in their order: while one is added that may need several steps,
//!   those of its topic that follow wait, and bytes of these are bounded. One may need several steps if there are enough sessions,
//!   unless the last one of its topic had few subscribers.
//! - `done` is called after the last step.

use std::collections::{HashMap, VecDeque};
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
/// Most topics whose number of subscribers is known.
const MAX_KNOWN: usize = 10_000;
/// The argument with which a step continues.
const PROGRESS: usize = 7;

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
    /// The publications that wait for one of their topic.
    waiting: HashMap<Channel, VecDeque<Addition>>,
    bytes: usize,
    /// The number of subscribers that the last publication of a topic had, while there are enough sessions.
    subscribers: HashMap<Channel, u64>,
}

/// A publication that is being added, or waits.
struct Addition {
    channel: Channel,
    args: Vec<Bytes>,
    cost: usize,
    /// It needs several steps from about so many subscribers on; `None` if there are not as many sessions.
    long_from: Option<u64>,
    /// Others of its topic wait for it.
    is_ordered: bool,
    done: AddedCallback,
}

impl Adding {
    /// Whether a publication is being added.
    pub(super) fn is_busy(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        // The topics are valid at every step.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Addition {
    fn may_be_long(&self, subscribers: Option<u64>) -> bool {
        self.long_from.is_some_and(|most| subscribers.is_none_or(|subscribers| subscribers >= most))
    }
}

impl Topics {
    /// Begins an addition: returns it if it need not wait, or with an error if there is no room for it to wait.
    fn begin(&mut self, mut addition: Addition) -> Option<(Addition, Result<(), BrokerError>)> {
        if let Some(waiting) = self.waiting.get_mut(&addition.channel) {
            if self.bytes + addition.cost > MAX_WAITING {
                return Some((addition, Err(BrokerError::Overloaded)));
            }
            self.bytes += addition.cost;
            waiting.push_back(addition);
            return None;
        }
        if addition.may_be_long(self.subscribers.get(&addition.channel).copied()) {
            self.order(&mut addition);
        }
        Some((addition, Ok(())))
    }

    /// The number of subscribers of a topic.
    fn note(&mut self, channel: &Channel, subscribers: u64) {
        if self.subscribers.len() >= MAX_KNOWN && !self.subscribers.contains_key(channel) {
            self.subscribers.clear();
        }
        self.subscribers.insert(channel.clone(), subscribers);
    }

    /// The publications that follow in the topic wait from now on.
    fn order(&mut self, addition: &mut Addition) {
        if !self.waiting.contains_key(&addition.channel) {
            self.waiting.insert(addition.channel.clone(), VecDeque::new());
            addition.is_ordered = true;
        }
    }

    /// The next publication of a topic.
    fn next(&mut self, channel: &Channel) -> Option<Addition> {
        let next = self.waiting.get_mut(channel).and_then(VecDeque::pop_front);
        match &next {
            Some(next) => self.bytes -= next.cost,
            None => drop(self.waiting.remove(channel)),
        }
        next
    }

    /// All that wait in a topic.
    fn take(&mut self, channel: &Channel) -> VecDeque<Addition> {
        let waiting = self.waiting.remove(channel).unwrap_or_default();
        self.bytes -= waiting.iter().map(|addition| addition.cost).sum::<usize>();
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
        // Their number may grow meanwhile.
        let long_from = Some(tidings_mqtt_redis::step_subscribers(message.len()) / 2);
        let long_from = long_from.filter(|most| self.count() >= *most);
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
        ];
        self.adding.count.fetch_add(1, Ordering::AcqRel);
        let addition = Addition { channel, args, cost, long_from, is_ordered: false, done: Box::new(done) };
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
                    shared.adding.lock().order(&mut addition);
                    shared.add_step(addition);
                }
                None => {
                    if let Some(subscribers) =
                        calls::read(&answer, 2).filter(|_| addition.long_from.is_some())
                    {
                        shared.adding.lock().note(&addition.channel, subscribers);
                    }
                    shared.finish(addition, Ok(calls::read(&answer, 0).unwrap_or(0)));
                }
            },
            Err(error) => shared.finish(addition, Err(error)),
        });
    }

    fn finish(self: &Arc<Self>, addition: Addition, outcome: Result<u64, BrokerError>) {
        let Addition { channel, is_ordered, done, .. } = addition;
        if let Ok(copies) = outcome {
            self.totals.added.fetch_add(copies, Ordering::Relaxed);
        }
        // Without a connection the publications that wait would fail one in another.
        let is_away = matches!(outcome, Err(BrokerError::Unavailable | BrokerError::Overloaded));
        let failed = if is_ordered && is_away { self.adding.lock().take(&channel) } else { VecDeque::new() };
        for addition in failed {
            (addition.done)(outcome.clone());
            self.adding.count.fetch_sub(1, Ordering::AcqRel);
        }
        done(outcome);
        self.adding.count.fetch_sub(1, Ordering::AcqRel);
        if is_ordered && !is_away {
            let next = self.adding.lock().next(&channel);
            if let Some(next) = next {
                self.add_step(Addition { is_ordered: true, ..next });
            }
        }
    }
}
