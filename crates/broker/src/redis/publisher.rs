//! The queue before the publishing connection, and the task that empties it.
//!
//! Everything that waits goes out as one pipeline, and the next one when that is answered: one round trip per up to
//! 512 publications, their order kept, nothing to sort out when the connection breaks.
//!
//! Invariants:
//! - `done` is called exactly once for every publication, by whatever way it leaves: see [`Answer`].
//! - Nothing waits while there is no connection: it is answered `Unavailable` at once.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, ServerError, ServerErrorKind, Value};
use tidings_wire::Channel;
use tokio::sync::{Notify, watch};

use super::Counters;
use super::dial::{Backoff, Dialer};
use super::link::next_reset;
use super::names::Names;
use crate::{BrokerError, Done, Published, lock};

/// How many publications go out in one pipeline.
const BATCH: usize = 512;
/// How many bytes of bodies do, give or take the last one.
const BATCH_BYTES: usize = 1 << 20;
/// What keeping a publication costs besides its name and body: the entry, the callback, the command's frame.
const OVERHEAD: usize = 192;

/// Publications on their way to Redis, bounded in bytes.
pub(super) struct Queue {
    state: Mutex<State>,
    pushed: Notify,
    budget: u64,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Whether there is a connection to send on.
    open: bool,
}

/// One publication.
struct Waiting {
    channel: Channel,
    body: Bytes,
    answer: Answer,
}

/// Owes its publisher the outcome, and the queue its bytes. Dropped without one, the outcome is `Unavailable`: the
/// publication was never sent, or nobody knows what became of it.
struct Answer {
    done: Option<Done>,
    cost: u64,
    counters: Arc<Counters>,
}

impl Answer {
    fn give(mut self, outcome: Result<Published, BrokerError>) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Result<Published, BrokerError>) {
        let Some(done) = self.done.take() else { return };
        self.counters.bytes_waiting.fetch_sub(self.cost, Ordering::Relaxed);
        let count = if outcome.is_ok() { &self.counters.published } else { &self.counters.publish_failures };
        count.fetch_add(1, Ordering::Relaxed);
        done(outcome);
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

    /// Takes a publication, or answers at once why not.
    pub(super) fn push(&self, channel: &Channel, body: Bytes, done: Done) {
        let cost = (channel.as_str().len() + body.len() + OVERHEAD) as u64;
        let waiting = self.counters.bytes_waiting.fetch_add(cost, Ordering::Relaxed) + cost;
        let answer = Answer { done: Some(done), cost, counters: Arc::clone(&self.counters) };
        let mut state = lock(&self.state);
        if !state.open {
            drop(state);
            answer.give(Err(BrokerError::Unavailable));
        } else if waiting > self.budget {
            drop(state);
            answer.give(Err(BrokerError::Overloaded));
        } else {
            state.waiting.push_back(Waiting { channel: channel.clone(), body, answer });
            drop(state);
            self.pushed.notify_one();
        }
    }

    /// Takes no more, and answers `Unavailable` to all that wait.
    fn close(&self) {
        let left = {
            let mut state = lock(&self.state);
            state.open = false;
            std::mem::take(&mut state.waiting)
        };
        // Each answers as it is dropped, with the lock released.
        drop(left);
    }

    /// Opens for as long as the guard lives.
    fn open(&self) -> Open<'_> {
        lock(&self.state).open = true;
        Open(self)
    }

    /// What goes out next, in order; perhaps nothing.
    fn take(&self) -> Vec<Waiting> {
        let mut state = lock(&self.state);
        let mut bytes = 0;
        let fits = state.waiting.iter().take(BATCH).take_while(|waiting| {
            let room = bytes < BATCH_BYTES;
            bytes += waiting.body.len();
            room
        });
        let count = fits.count();
        state.waiting.drain(..count).collect()
    }
}

/// Closes the queue when it goes, however the task ends.
struct Open<'a>(&'a Queue);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The task's belongings.
pub(super) struct Publisher {
    pub(super) dialer: Dialer,
    pub(super) names: Arc<Names>,
    pub(super) queue: Arc<Queue>,
    pub(super) resets: watch::Receiver<String>,
    pub(super) ping_interval: Duration,
    pub(super) response_timeout: Duration,
}

impl Publisher {
    /// Runs until the task is aborted.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let lost = Arc::new(Notify::new());
            let pushes = {
                let lost = Arc::clone(&lost);
                move |push: PushInfo| -> Result<(), redis::aio::SendError> {
                    if push.kind == PushKind::Disconnection {
                        lost.notify_one();
                    }
                    Ok(())
                }
            };
            match self.dialer.open("tidings-publisher", pushes).await {
                Ok(connection) => {
                    let since = Instant::now();
                    let mut resets = self.resets.clone();
                    resets.mark_unchanged();
                    let why = tokio::select! {
                        why = self.serve(connection) => why,
                        () = lost.notified() => "connection lost".to_owned(),
                        reason = next_reset(&mut resets) => reason,
                    };
                    tracing::debug!("redis: the publishing connection has ended: {why}");
                    backoff.stood(since.elapsed());
                }
                // The hearing connection has the same trouble, and says so where it is seen.
                Err(why) => tracing::debug!("redis: no publishing connection: {why}"),
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Sends what waits until the connection fails; gives why it did.
    async fn serve(&self, mut connection: MultiplexedConnection) -> String {
        let _open = self.queue.open();
        loop {
            let batch = self.queue.take();
            let mut pipeline = redis::pipe();
            if batch.is_empty() {
                if tokio::time::timeout(self.ping_interval, self.queue.pushed.notified()).await.is_ok() {
                    continue;
                }
                pipeline.cmd("PING");
            }
            for waiting in &batch {
                pipeline.cmd("PUBLISH").arg(&*self.names.channel(&waiting.channel)).arg(&waiting.body[..]);
            }
            let count = pipeline.len();
            let replies = connection.send_packed_commands(&pipeline, 0, count);
            let replies = match tokio::time::timeout(self.response_timeout, replies).await {
                Ok(Ok(replies)) => replies,
                Ok(Err(e)) => return self.dialer.words(&e),
                Err(_) => return format!("no answer within {:?}", self.response_timeout),
            };
            for (waiting, reply) in batch.into_iter().zip(replies) {
                waiting.answer.give(outcome(reply));
            }
        }
    }
}

/// What a reply to `PUBLISH` means.
fn outcome(reply: Value) -> Result<Published, BrokerError> {
    match reply {
        Value::Int(receivers) => {
            Ok(Published { receivers: u64::try_from(receivers).unwrap_or_default(), ..Published::default() })
        }
        Value::ServerError(e) if passes(&e) => Err(BrokerError::Unavailable),
        Value::ServerError(e) => Err(BrokerError::Refused(
            [e.code(), e.details().unwrap_or_default()].join(" ").trim_end().to_owned(),
        )),
        other => Err(BrokerError::Refused(format!("unexpected reply: {other:?}"))),
    }
}

/// Whether the server may take the same command later.
fn passes(error: &ServerError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly, TryAgain};
    matches!(error.kind(), Some(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcomes = Arc<Mutex<Vec<(usize, Result<Published, BrokerError>)>>>;

    fn push(queue: &Queue, outcomes: &Outcomes, number: usize, bytes: usize) {
        let outcomes = Arc::clone(outcomes);
        let done = Box::new(move |outcome| lock(&outcomes).push((number, outcome)));
        queue.push(&Channel::new("a").unwrap(), vec![0; bytes].into(), done);
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
            waiting.answer.give(Ok(Published { receivers: 7, ..Published::default() }));
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
    fn what_redis_refuses_is_told_in_its_own_words() {
        let error = |line: &str| redis::parse_redis_value(line.as_bytes()).unwrap();
        assert_eq!(outcome(Value::Int(3)), Ok(Published { receivers: 3, ..Published::default() }));
        assert_eq!(outcome(error("-NOPERM no way\r\n")), Err(BrokerError::Refused("NOPERM no way".into())));
        assert_eq!(outcome(error("-LOADING soon\r\n")), Err(BrokerError::Unavailable));
    }
}
