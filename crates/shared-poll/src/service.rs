//! The task that has the state of the shared polls, and the messages to it.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidings_hub::{
    Failure, PollNamespace, PollPublication, PollRequest, PollSubscriber, Rejection, TrackedKeys,
};
use tidings_session::Response;
use tidings_shard::{Mailbox, PollDelivery, Reply, ShardMessage};
use tidings_wire::{Channel, code};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::Limits;
use crate::channel::{earliest, millis};
use crate::counters::{Counters, ItemOutcome, TrackOutcome};
use crate::delivery::{Batch, Sink, Update, Values};
use crate::polls::{Polls, TrackError, TrackedKey};
use crate::signature::{SignatureError, SignatureKeys};
use crate::values::Published;

/// Most messages that wait for the task. Further requests of sessions get a temporary error, and values from other nodes are
/// dropped, because the next request to the application has them too. Other messages are bounded by their senders.
const MAX_WAITING: usize = 65_536;

/// The application, which has the values.
pub trait Application: Send + Sync + 'static {
    /// Requests values; `None` without a valid response. The result is bounded in time and bytes.
    fn values(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Option<Values>> + Send>>;
}

/// The shards.
pub trait Mailboxes: Send + Sync + 'static {
    /// The mailbox of the shard with this index.
    fn mailbox(&self, shard: usize) -> Option<&Mailbox>;
}

/// A message to the task.
enum Message {
    /// A request of a subscriber.
    Request {
        channel: Channel,
        options: Box<PollNamespace>,
        subscriber: PollSubscriber,
        request: Box<PollRequest>,
        reply: Reply,
    },
    /// A subscription has ended.
    Left(Channel, PollSubscriber),
    /// A value of the application.
    Publish(Box<PollPublication>, Option<oneshot::Sender<Published>>),
    /// The response to a request, or `None`.
    Values(u64, Option<Values>),
    /// Other options.
    Configure(Limits, Box<SignatureKeys>),
}

/// The messages that wait for the task.
#[derive(Default)]
struct Queue {
    messages: Mutex<VecDeque<Message>>,
    arrived: Notify,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).len() >= MAX_WAITING
    }

    fn push(&self, message: Message) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Option<Message> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// The next message. For one task alone.
    async fn next(&self) -> Message {
        loop {
            if let Some(message) = self.pop() {
                return message;
            }
            self.arrived.notified().await;
        }
    }
}

/// Passes messages to the task.
#[derive(Clone)]
pub struct SharedPolls {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
}

/// The task before it runs.
pub struct PollTask {
    queue: Arc<Queue>,
    polls: Polls<PollSubscriber>,
    keys: SignatureKeys,
    counters: Arc<Counters>,
}

impl SharedPolls {
    /// The shared polls of a node, and the task that serves them.
    pub fn new(limits: Limits, keys: SignatureKeys, counters: Arc<Counters>) -> (Self, PollTask) {
        let queue = Arc::<Queue>::default();
        let polls = Polls::new(limits, epoch(), Arc::clone(&counters));
        let task = PollTask { queue: Arc::clone(&queue), polls, keys, counters: Arc::clone(&counters) };
        (Self { queue, counters }, task)
    }

    /// A request of a subscriber. `options` are those of the channel.
    pub fn request(
        &self,
        channel: Channel,
        options: PollNamespace,
        subscriber: PollSubscriber,
        request: Box<PollRequest>,
        reply: Reply,
    ) {
        if self.queue.is_full() {
            return reply.send(Response::Failed(Failure::Overloaded));
        }
        let options = Box::new(options);
        self.queue.push(Message::Request { channel, options, subscriber, request, reply });
    }

    /// A subscription has ended.
    pub fn leave(&self, channel: Channel, subscriber: PollSubscriber) {
        self.queue.push(Message::Left(channel, subscriber));
    }

    /// Applies a value that the application publishes.
    pub async fn publish(&self, publication: PollPublication) -> Published {
        let (done, outcome) = oneshot::channel();
        self.queue.push(Message::Publish(Box::new(publication), Some(done)));
        outcome.await.unwrap_or(Published::Ignored)
    }

    /// Applies a value that another node has received from the application.
    pub fn apply(&self, publication: PollPublication) {
        if self.queue.is_full() {
            self.counters.items.add(ItemOutcome::Refused);
            return;
        }
        self.queue.push(Message::Publish(Box::new(publication), None));
    }

    /// Uses other options from now on.
    pub fn configure(&self, limits: Limits, keys: SignatureKeys) {
        self.queue.push(Message::Configure(limits, Box::new(keys)));
    }
}

/// An epoch of versions: 8 characters that differ between runs.
fn epoch() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{:08x}", random >> 32)
}

/// The current time in Unix seconds.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Serves the shared polls as long as the process runs.
pub async fn run(task: PollTask, application: Arc<dyn Application>, mailboxes: Arc<dyn Mailboxes>) {
    let PollTask { queue, mut polls, mut keys, counters } = task;
    let began = Instant::now();
    let mut sink = ShardSink(mailboxes);
    let mut next = None;
    loop {
        let message = match next {
            None => Some(queue.next().await),
            Some(at) => {
                let due = began.checked_add(Duration::from_millis(at)).unwrap_or(began);
                tokio::select! {
                    message = queue.next() => Some(message),
                    () = tokio::time::sleep_until(due) => None,
                }
            }
        };
        let (now, time) = (millis(began.elapsed()), unix_time());
        match message {
            None => {}
            Some(Message::Configure(limits, new)) => {
                polls.set_limits(limits);
                keys = *new;
            }
            Some(Message::Left(channel, subscriber)) => polls.leave(now, &channel, subscriber),
            Some(Message::Values(id, values)) => polls.respond(now, id, values, &mut sink),
            Some(Message::Publish(publication, done)) => {
                let PollPublication { channel, value, epoch } = *publication;
                let published = polls.publish(now, &channel, value, &epoch, &mut sink);
                if let Some(done) = done {
                    let _ = done.send(published);
                }
            }
            Some(Message::Request { channel, options, subscriber, request, reply }) => {
                let response = match *request {
                    PollRequest::Join { delta } => {
                        Response::PollJoined(polls.join(now, &channel, &options, subscriber, delta))
                    }
                    PollRequest::Untrack(untracked) => {
                        let outcome = polls.untrack(&channel, subscriber, &untracked);
                        outcome.map_or_else(|error| refused(&error), |()| Response::Tracked(None))
                    }
                    PollRequest::Track { user, batches, untrack } => {
                        let from = (channel.as_str(), user.as_str());
                        match verify(&keys, from, batches, millis(options.expired_delay) / 1000, time) {
                            Err(error) => {
                                counters.tracks.add(outcome_of(error));
                                unauthorized(error)
                            }
                            Ok((tracked, expires)) => {
                                let outcome = polls.track(now, &channel, subscriber, &tracked, &untrack);
                                counters.tracks.add(match &outcome {
                                    Ok(()) => TrackOutcome::Tracked,
                                    Err(TrackError::Unanswered) => TrackOutcome::Unanswered,
                                    Err(TrackError::Limit(_)) => TrackOutcome::Limit,
                                    Err(_) => TrackOutcome::Invalid,
                                });
                                outcome.map_or_else(|error| refused(&error), |()| Response::Tracked(expires))
                            }
                        }
                    }
                };
                // Before the values, which are posted by the next step.
                reply.send_in_order(response);
            }
        }
        let (batches, at) = polls.advance(now, time, &mut sink);
        next = at;
        for batch in batches {
            let (id, values, queue) = (batch.id, application.values(batch), Arc::clone(&queue));
            tokio::spawn(async move { queue.push(Message::Values(id, values.await)) });
        }
    }
}

/// Verifies the signatures of keys. Returns the keys, and when the first signature expires.
fn verify(
    keys: &SignatureKeys,
    from: (&str, &str),
    batches: Vec<TrackedKeys>,
    expired_delay: u64,
    time: u64,
) -> Result<(Vec<TrackedKey>, Option<u64>), SignatureError> {
    let (mut tracked, mut first) = (Vec::new(), None);
    for TrackedKeys { signature, items } in batches {
        let signed = items.iter().map(|(key, _)| key.as_str());
        let expires = keys.verify(&signature, from, signed, time)?;
        first = earliest(first, expires);
        let ends = expires.map(|expires| expires.saturating_add(expired_delay));
        let keys = items.into_iter().map(|(key, version)| TrackedKey { key, version, expires: ends });
        tracked.extend(keys);
    }
    Ok((tracked, first))
}

fn outcome_of(error: SignatureError) -> TrackOutcome {
    if error == SignatureError::Expired { TrackOutcome::Expired } else { TrackOutcome::Invalid }
}

fn unauthorized(error: SignatureError) -> Response {
    rejected(
        match error {
            SignatureError::Expired => code::TOKEN_EXPIRED,
            SignatureError::Invalid => code::PERMISSION_DENIED,
            SignatureError::NoKey => code::NOT_AVAILABLE,
        },
        &error,
    )
}

fn refused(error: &TrackError) -> Response {
    rejected(
        match error {
            TrackError::NotSubscribed => code::PERMISSION_DENIED,
            TrackError::Key(_) => code::BAD_REQUEST,
            TrackError::Limit(_) => code::LIMIT_EXCEEDED,
            TrackError::Unanswered => code::INTERNAL,
        },
        error,
    )
}

fn rejected(code: code::Code, why: &impl std::fmt::Display) -> Response {
    let text = format!("{}: {why}", code.text);
    Response::Failed(Failure::Error(Rejection { text, ..code.into() }))
}

/// Posts updates to the mailboxes of the shards.
struct ShardSink(Arc<dyn Mailboxes>);

impl Sink<PollSubscriber> for ShardSink {
    fn deliver(&mut self, update: Update<PollSubscriber>) -> bool {
        let Update { shard, publication, base, full, deltas } = update;
        // The sessions of a shard that does not exist do not exist either.
        let Some(mailbox) = self.0.mailbox(shard as usize) else { return true };
        let sessions = |all: Vec<PollSubscriber>| all.into_iter().map(|one| one.session).collect();
        let delivery = PollDelivery { publication, base, full: sessions(full), deltas: sessions(deltas) };
        let is_accepted = mailbox.deliver_poll(delivery);
        if is_accepted {
            mailbox.wake();
        }
        is_accepted
    }

    fn end(&mut self, channel: &Channel, subscriber: PollSubscriber) {
        if let Some(mailbox) = self.0.mailbox(subscriber.shard as usize) {
            mailbox.post(ShardMessage::PollEnded(channel.clone(), subscriber.session));
        }
    }
}
