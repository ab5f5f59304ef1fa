//! What waits for the publishing connection: publications and questions, in order, bounded in bytes.
//!
//! Invariants:
//! - Every request is answered exactly once, by whatever way it leaves: see [`Answer`].
//! - Nothing waits while there is no connection: it is answered `Unavailable` at once.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redis::{Pipeline, Value};
use tidings_log_throttle::LogThrottle;
use tidings_wire::Channel;
use tokio::sync::Notify;

use super::Counters;
use super::envelope::bytes;
use super::library::Function;
use super::names::Names;
use crate::{BrokerError, Done, Published, lock};

/// How many requests go out in one pipeline.
pub(super) const BATCH: usize = 512;
/// How many bytes of them do, give or take the last one.
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// What keeping a request costs besides its texts: the entry, the callback, the command's frame.
const OVERHEAD: usize = 192;

/// Requests on their way to Redis.
pub(super) struct Queue {
    state: Mutex<State>,
    pub(super) pushed: Notify,
    budget: u64,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Whether there is a connection to send on.
    open: bool,
}

/// What Redis is to do.
#[derive(Debug)]
pub(super) enum Request {
    /// A plain `PUBLISH`.
    Plain(Channel, Bytes),
    /// An envelope to where those go.
    Envelope(Channel, Bytes),
    /// A function of the library, for a channel, with its arguments.
    Call(Function, Channel, Vec<Arg>),
    /// What a node knows of its cluster.
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
    /// Bytes of its texts.
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

    /// Appends its command.
    pub(super) fn put(&self, names: &Names, pipeline: &mut Pipeline) {
        match self {
            // Whom the nodes of a cluster speak to among themselves is subscribed at the slot's primary alone.
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

/// Who wants to know what became of a request.
pub(super) enum Reply {
    /// The publisher.
    Published(Done),
    /// Whoever reads the value.
    Value(Box<dyn FnOnce(Result<Value, BrokerError>) + Send>),
}

impl Reply {
    /// Answers at once: there is nobody to send the request to.
    pub(super) fn unavailable(self, counters: &Arc<Counters>) {
        Answer { reply: Some(self), cost: 0, counters: Arc::clone(counters) }.fail(BrokerError::Unavailable);
    }
}

/// One request.
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) answer: Answer,
    /// How often it was sent on to another node.
    pub(super) hops: u8,
    /// Whether it is to be answered by a node to which the slot is only on its way (`ASKING`).
    pub(super) asking: bool,
}

/// Owes somebody the outcome, and the queue its bytes. Dropped without one, the outcome is `Unavailable`: the request
/// was never sent, or nobody knows what became of it.
pub(super) struct Answer {
    reply: Option<Reply>,
    cost: u64,
    counters: Arc<Counters>,
}

impl Answer {
    /// Answers with what Redis has said.
    pub(super) fn give(mut self, value: Value) {
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

impl Drop for Answer {
    fn drop(&mut self) {
        self.settle(Err(BrokerError::Unavailable));
    }
}

impl Queue {
    pub(super) fn new(budget: u64, counters: Arc<Counters>) -> Self {
        Self { state: Mutex::default(), pushed: Notify::new(), budget, counters }
    }

    /// Takes a request, or answers at once why not.
    pub(super) fn push(&self, request: Request, reply: Reply) {
        self.enter(request, reply, false);
    }

    /// The same for a node to which the slot is only on its way.
    pub(super) fn push_asking(&self, request: Request, reply: Reply) {
        self.enter(request, reply, true);
    }

    fn enter(&self, request: Request, reply: Reply, asking: bool) {
        let cost = (request.size() + OVERHEAD) as u64;
        let waiting = self.counters.bytes_waiting.fetch_add(cost, Ordering::Relaxed) + cost;
        let answer = Answer { reply: Some(reply), cost, counters: Arc::clone(&self.counters) };
        let mut state = lock(&self.state);
        if !state.open {
            drop(state);
            answer.fail(BrokerError::Unavailable);
        } else if waiting > self.budget {
            drop(state);
            answer.fail(BrokerError::Overloaded);
        } else {
            state.waiting.push_back(Waiting { request, answer, hops: 0, asking });
            drop(state);
            self.pushed.notify_one();
        }
    }

    /// Takes a request that another node has not answered. Its bytes are still counted.
    pub(super) fn push_on(&self, waiting: Waiting) {
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

    /// Takes requests before the first connection: they wait until it stands, or the attempt fails and the queue is closed.
    /// A server that has just been started is not one without Redis.
    pub(super) fn await_first_connection(&self) {
        lock(&self.state).open = true;
    }

    /// Takes no more, and answers `Unavailable` to all that wait.
    pub(super) fn close(&self) {
        let left = {
            let mut state = lock(&self.state);
            state.open = false;
            std::mem::take(&mut state.waiting)
        };
        // Each answers as it is dropped, with the lock released.
        drop(left);
    }

    /// Opens for as long as the guard lives.
    pub(super) fn open(&self) -> Open<'_> {
        lock(&self.state).open = true;
        Open(self)
    }

    /// What goes out next, in order; perhaps nothing.
    pub(super) fn take(&self) -> Vec<Waiting> {
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

/// Closes the queue when it goes, however the task ends.
pub(super) struct Open<'a>(&'a Queue);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the server has answered, when it is not what was asked for.
pub(super) fn unexpected(reply: &Value) -> BrokerError {
    static LINES: LogThrottle = LogThrottle::new();
    // Without the reply itself: it may hold bodies of publications.
    if let Some(times) = LINES.count() {
        tracing::warn!(
            times,
            "redis: an unexpected kind of reply ({}): is another library named tidings loaded?",
            kind(reply)
        );
    }
    BrokerError::Failed("reply")
}

/// What a reply to `PUBLISH` or to the publishing function means.
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

/// A position as the functions give it.
pub(super) fn read_position(epoch: &Value, offset: &Value) -> Option<tidings_wire::Position> {
    let text = |value| std::str::from_utf8(bytes(value)?).ok();
    Some(tidings_wire::Position { offset: text(offset)?.parse().ok()?, epoch: text(epoch)?.into() })
}

/// The type of a reply, for the log.
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
    fn what_is_published_before_the_first_connection_waits_for_it_and_fails_with_it() {
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
            waiting.answer.give(Value::Int(7));
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
    fn an_error_reply_is_an_error_without_the_words_of_redis() {
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
