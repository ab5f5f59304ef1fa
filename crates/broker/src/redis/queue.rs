//! The queue of the publisher connection: publications and function calls, in order, bounded in bytes.
//!
//! Invariants:
//! - Every request completes exactly once, however it leaves the queue: see [`PendingReply`].
//! - No request waits without a connection: it completes as `Unavailable` at once.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redis::{Pipeline, Value};
use tidings_log_throttle::LogThrottle;
use tidings_wire::Channel;
use tokio::sync::Notify;

use super::counters::Counters;
use super::envelope::bytes;
use super::library::Function;
use super::names::Names;
use crate::{BrokerError, PublishCallback, Published, lock};

/// Most requests in one pipeline.
pub(super) const BATCH: usize = 512;
/// Most bytes in one pipeline; the last request may exceed it.
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// Memory of a request besides its texts: the entry, the callback, the frame of the command.
const OVERHEAD: usize = 192;

/// Requests on their way to Redis.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    pub(super) pushed: Notify,
    budget: u64,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<PendingRequest>,
    /// Whether there is a connection to send on.
    open: bool,
}

/// A command to Redis.
#[derive(Debug)]
pub(super) enum Request {
    /// A plain `PUBLISH`.
    Plain(Channel, Bytes),
    /// An envelope to the channel's name for envelopes.
    Envelope(Channel, Bytes),
    /// A function of the library for a channel, with its arguments.
    Call(Function, Channel, Vec<Arg>),
    /// `CLUSTER NODES`.
    Nodes,
}

/// An argument of a function.
#[derive(Clone, Debug)]
pub(super) enum Arg {
    Bytes(Bytes),
    Number(u64),
}

impl Arg {
    pub(super) fn text(text: &str) -> Self {
        Self::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl Request {
    /// Bytes of the request's texts.
    fn size(&self) -> usize {
        match self {
            Self::Plain(channel, body) | Self::Envelope(channel, body) => channel.as_str().len() + body.len(),
            Self::Call(_, channel, args) => {
                let arg = |arg: &Arg| if let Arg::Bytes(bytes) = arg { bytes.len() + 16 } else { 16 };
                channel.as_str().len() + args.iter().map(arg).sum::<usize>()
            }
            Self::Nodes => 0,
        }
    }

    /// Appends the command to a pipeline.
    pub(super) fn put(&self, names: &Names, pipeline: &mut Pipeline) {
        match self {
            // Messages between nodes of a cluster are sharded: they are subscribed at the primary of their slot alone.
            Self::Plain(channel, body) if names.sharded() && names.is_own(channel) => {
                pipeline.cmd("SPUBLISH").arg(&*names.channel(channel)).arg(&body[..]);
            }
            Self::Plain(channel, body) => {
                pipeline.cmd("PUBLISH").arg(&*names.channel(channel)).arg(&body[..]);
            }
            Self::Envelope(channel, body) if names.sharded() => {
                pipeline.cmd("SPUBLISH").arg(names.sharded_envelopes(channel)).arg(&body[..]);
            }
            Self::Envelope(channel, body) => {
                pipeline.cmd("PUBLISH").arg(names.envelopes(channel)).arg(&body[..]);
            }
            Self::Nodes => {
                pipeline.cmd("CLUSTER").arg("NODES");
            }
            Self::Call(function, channel, args) => {
                if names.sharded() {
                    pipeline.cmd("FCALL").arg(function.keyed).arg(1).arg(names.key(function.key, channel));
                } else {
                    pipeline.cmd("FCALL").arg(function.name).arg(1).arg(&*names.channel(channel));
                }
                for arg in args {
                    match arg {
                        Arg::Bytes(bytes) => pipeline.arg(&bytes[..]),
                        Arg::Number(number) => pipeline.arg(*number),
                    };
                }
            }
        }
    }
}

/// The callback of a request.
pub(super) enum Reply {
    /// Of a publication.
    Published(PublishCallback),
    /// Of a request that returns a value.
    Value(Box<dyn FnOnce(Result<Value, BrokerError>) + Send>),
}

impl Reply {
    /// Completes at once: no server is known for the request.
    pub(super) fn unavailable(self, counters: &Arc<Counters>) {
        PendingReply { reply: Some(self), cost: 0, counters: Arc::clone(counters) }
            .fail(BrokerError::Unavailable);
    }
}

/// A request in the queue or in flight.
pub(super) struct PendingRequest {
    pub(super) request: Request,
    pub(super) reply: PendingReply,
    /// How often the request was forwarded to another node.
    pub(super) hops: u8,
    /// Whether the request goes to a node that is importing the slot (`ASKING`).
    pub(super) asking: bool,
}

/// The callback of a request and its bytes in the budget. Dropped without a result, it completes as `Unavailable`: the
/// request was not sent, or its result is unknown.
pub(super) struct PendingReply {
    reply: Option<Reply>,
    cost: u64,
    counters: Arc<Counters>,
}

impl PendingReply {
    /// Completes with the response of Redis.
    pub(super) fn complete(mut self, value: Value) {
        let outcome = self.counters.failures.result(value);
        self.settle(outcome);
    }

    fn fail(mut self, error: BrokerError) {
        self.settle(Err(error));
    }

    fn settle(&mut self, outcome: Result<Value, BrokerError>) {
        let Some(reply) = self.reply.take() else { return };
        self.counters.bytes_waiting.fetch_sub(self.cost, Ordering::Relaxed);
        match reply {
            Reply::Published(done) => {
                let outcome = outcome.and_then(|value| published(&value));
                let failed = outcome.is_err();
                let count = if failed { &self.counters.publish_failures } else { &self.counters.published };
                count.fetch_add(1, Ordering::Relaxed);
                done(outcome);
            }
            Reply::Value(done) => done(outcome),
        }
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.settle(Err(BrokerError::Unavailable));
    }
}

impl Queue {
    pub(super) fn new(budget: u64, counters: Arc<Counters>) -> Self {
        Self { state: Mutex::default(), pushed: Notify::new(), budget, counters }
    }

    /// Adds a request, or completes it at once with an error.
    pub(super) fn push(&self, request: Request, reply: Reply) {
        self.enter(request, reply, false);
    }

    /// As [`Queue::push`], for a node that is importing the slot.
    pub(super) fn push_asking(&self, request: Request, reply: Reply) {
        self.enter(request, reply, true);
    }

    fn enter(&self, request: Request, reply: Reply, asking: bool) {
        let cost = (request.size() + OVERHEAD) as u64;
        let waiting = self.counters.bytes_waiting.fetch_add(cost, Ordering::Relaxed) + cost;
        let pending = PendingReply { reply: Some(reply), cost, counters: Arc::clone(&self.counters) };
        let mut state = lock(&self.state);
        if !state.open {
            drop(state);
            pending.fail(BrokerError::Unavailable);
        } else if waiting > self.budget {
            drop(state);
            pending.fail(BrokerError::Overloaded);
        } else {
            state.waiting.push_back(PendingRequest { request, reply: pending, hops: 0, asking });
            drop(state);
            self.pushed.notify_one();
        }
    }

    /// Adds a request that another node has redirected. Its bytes are counted already.
    pub(super) fn push_forwarded(&self, waiting: PendingRequest) {
        let mut state = lock(&self.state);
        if state.open {
            state.waiting.push_back(waiting);
            drop(state);
            self.pushed.notify_one();
        }
    }

    /// Whether there is a connection to send on.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.state).open
    }

    /// Accepts requests before the first connection: they wait until it is made, or until the attempt fails and the
    /// queue closes. A server that has just started is not reported as one without Redis.
    pub(super) fn await_first_connection(&self) {
        lock(&self.state).open = true;
    }

    /// Closes the queue, and completes all waiting requests as `Unavailable`.
    pub(super) fn close(&self) {
        let left = {
            let mut state = lock(&self.state);
            state.open = false;
            std::mem::take(&mut state.waiting)
        };
        // Each completes when dropped, after the lock is released.
        drop(left);
    }

    /// Opens the queue for the lifetime of the guard.
    pub(super) fn open(&self) -> Open<'_> {
        lock(&self.state).open = true;
        Open(self)
    }

    /// The next batch, in order; may be empty.
    pub(super) fn take(&self) -> Vec<PendingRequest> {
        let mut state = lock(&self.state);
        let mut bytes = 0;
        let fits = state.waiting.iter().take(BATCH).take_while(|waiting| {
            let room = bytes < BATCH_BYTES;
            bytes += waiting.request.size();
            room
        });
        let count = fits.count();
        state.waiting.drain(..count).collect()
    }
}

/// Closes the queue when dropped, however the task ends.
pub(super) struct Open<'a>(&'a Queue);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Logs a response of an unexpected type, and returns the error for it.
pub(super) fn unexpected(reply: &Value) -> BrokerError {
    static LINES: LogThrottle = LogThrottle::new();
    // Without the response itself: it may contain bodies of publications.
    if let Some(times) = LINES.count() {
        tracing::warn!(
            times,
            "redis: an unexpected kind of reply ({}): is another library named tidings loaded?",
            kind(reply)
        );
    }
    BrokerError::Failed("reply")
}

/// Parses the response to `PUBLISH` or to the publishing function.
fn published(reply: &Value) -> Result<Published, BrokerError> {
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    match reply {
        Value::Int(receivers) => Ok(Published { receivers: count(*receivers), ..Published::default() }),
        Value::Array(parts) => {
            let [Value::Int(receivers), offset, epoch, Value::Int(repeated)] = &parts[..] else {
                return Err(unexpected(reply));
            };
            let position = read_position(epoch, offset).ok_or_else(|| unexpected(reply))?;
            let position = (position.offset > 0).then_some(position);
            Ok(Published { receivers: count(*receivers), position, repeated: *repeated == 1 })
        }
        other => Err(unexpected(other)),
    }
}

/// Parses a position as the functions return it.
pub(super) fn read_position(epoch: &Value, offset: &Value) -> Option<tidings_wire::Position> {
    let text = |value| std::str::from_utf8(bytes(value)?).ok();
    Some(tidings_wire::Position { offset: text(offset)?.parse().ok()?, epoch: text(epoch)?.into() })
}

/// The type of a response, for the log.
fn kind(reply: &Value) -> &'static str {
    match reply {
        Value::Nil => "nil",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
        Value::Array(_) => "an array of another form",
        _ => "another type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcomes = Arc<Mutex<Vec<(usize, Result<Published, BrokerError>)>>>;

    fn push(queue: &Queue, outcomes: &Outcomes, number: usize, bytes: usize) {
        let outcomes = Arc::clone(outcomes);
        let done = Box::new(move |outcome| lock(&outcomes).push((number, outcome)));
        let request = Request::Plain(Channel::new("a").unwrap(), vec![0; bytes].into());
        queue.push(request, Reply::Published(done));
    }

    #[test]
    fn a_publication_without_a_connection_is_unavailable_at_once() {
        let queue = Queue::new(1_000, Arc::default());
        let outcomes = Outcomes::default();
        push(&queue, &outcomes, 1, 10);
        assert_eq!(lock(&outcomes)[..], [(1, Err(BrokerError::Unavailable))]);
        assert_eq!(queue.counters.bytes_waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn publications_before_the_first_connection_wait_for_it_and_fail_with_it() {
        let queue = Queue::new(1_000, Arc::default());
        let outcomes = Outcomes::default();
        queue.await_first_connection();
        push(&queue, &outcomes, 1, 10);
        assert!(lock(&outcomes).is_empty());
        queue.close();
        assert_eq!(lock(&outcomes)[..], [(1, Err(BrokerError::Unavailable))]);
        push(&queue, &outcomes, 2, 10);
        assert_eq!(lock(&outcomes).len(), 2, "from then on at once");
    }

    #[test]
    fn the_budget_counts_bytes_and_frees_them_when_they_are_answered() {
        let queue = Queue::new(2_000, Arc::default());
        let outcomes = Outcomes::default();
        let open = queue.open();
        push(&queue, &outcomes, 1, 1_000);
        push(&queue, &outcomes, 2, 1_000);
        assert_eq!(lock(&outcomes)[..], [(2, Err(BrokerError::Overloaded))]);
        let batch = queue.take();
        push(&queue, &outcomes, 3, 1_000);
        assert_eq!(lock(&outcomes)[1..], [(3, Err(BrokerError::Overloaded))], "in flight counts as well");
        for waiting in batch {
            waiting.reply.complete(Value::Int(7));
        }
        assert_eq!(lock(&outcomes)[2..], [(1, Ok(Published { receivers: 7, ..Published::default() }))]);
        push(&queue, &outcomes, 4, 1_000);
        assert_eq!(lock(&outcomes).len(), 3, "there is room again");
        drop(open);
        assert_eq!(lock(&outcomes)[3..], [(4, Err(BrokerError::Unavailable))]);
        assert_eq!(queue.counters.bytes_waiting.load(Ordering::Relaxed), 0);
        assert_eq!(queue.counters.publish_failures.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_pipeline_is_bounded_in_count_and_in_bytes() {
        let queue = Queue::new(u64::MAX, Arc::default());
        let outcomes = Outcomes::default();
        let _open = queue.open();
        for number in 0..BATCH + 1 {
            push(&queue, &outcomes, number, 1);
        }
        assert_eq!(queue.take().len(), BATCH);
        assert_eq!(queue.take().len(), 1);
        for number in 0..5 {
            push(&queue, &outcomes, number, BATCH_BYTES / 2);
        }
        assert_eq!(queue.take().len(), 2);
    }

    #[test]
    fn an_error_response_is_an_error_without_the_text_of_redis() {
        let counters = Counters::default();
        let outcome = |reply| counters.failures.result(reply).and_then(|value| published(&value));
        let error = |line: &str| redis::parse_redis_value(line.as_bytes()).unwrap();
        assert_eq!(outcome(Value::Int(3)), Ok(Published { receivers: 3, ..Published::default() }));
        assert_eq!(outcome(error("-NOPERM no way\r\n")), Err(BrokerError::NotPermitted));
        assert_eq!(outcome(error("-OOM used memory > 'maxmemory'\r\n")), Err(BrokerError::Failed("OOM")));
        assert_eq!(outcome(error("-ERR whatever\r\n")), Err(BrokerError::Failed("error")));
        assert_eq!(outcome(error("-LOADING soon\r\n")), Err(BrokerError::Unavailable));
    }
}
