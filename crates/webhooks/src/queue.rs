//! The events that wait for one receiver.
//!
//! Invariant: the bytes of the waiting events are bounded. An event that does not fit replaces the oldest ones.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// Bytes of an event in the queue besides its text.
const OVERHEAD: usize = 64;

/// An event, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// The event as JSON.
    pub(crate) json: String,
    /// When it was added.
    pub(crate) since: Instant,
}

impl Waiting {
    fn cost(&self) -> usize {
        self.json.len() + OVERHEAD
    }
}

/// A queue that is bounded in bytes.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    added: Notify,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Waiting>,
    bytes: usize,
    /// Events that the sender has taken and not delivered yet.
    taken: usize,
}

impl Queue {
    /// A queue of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), added: Notify::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event. Returns the number of events that are lost for it, itself included if it exceeds the limit alone.
    pub(crate) fn push(&self, json: String, now: Instant) -> u64 {
        let event = Waiting { json, since: now };
        let mut state = self.lock();
        if event.cost() > self.limit {
            return 1;
        }
        state.bytes += event.cost();
        state.events.push_back(event);
        let mut lost = 0;
        while state.bytes > self.limit
            && let Some(oldest) = state.events.pop_front()
        {
            state.bytes -= oldest.cost();
            lost += 1;
        }
        drop(state);
        self.added.notify_one();
        lost
    }

    /// Waits for events.
    pub(crate) async fn wait(&self) {
        while self.lock().events.is_empty() {
            self.added.notified().await;
        }
    }

    /// Takes the oldest events, at most `count` and about `bytes`; at least one if there is any.
    pub(crate) fn take(&self, count: usize, bytes: usize) -> Vec<Waiting> {
        let mut state = self.lock();
        let (mut taken, mut size) = (Vec::new(), 0);
        while taken.len() < count
            && (size < bytes)
            && let Some(event) = state.events.pop_front()
        {
            size += event.cost();
            taken.push(event);
        }
        state.bytes -= size;
        state.taken = taken.len();
        taken
    }

    /// The events that were taken are delivered, or lost.
    pub(crate) fn settle(&self) {
        self.lock().taken = 0;
    }

    /// The bytes of the waiting events.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether no event waits, and none is being delivered.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.events.is_empty() && state.taken == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_its_oldest_events_and_counts_them() {
        let queue = Queue::new(3 * (OVERHEAD + 10));
        let now = Instant::now();
        for i in 0..3 {
            assert_eq!(queue.push(format!("{i:010}"), now), 0);
        }
        assert_eq!(queue.push("x".repeat(20), now), 2);
        assert_eq!(queue.push("y".repeat(1000), now), 1);
        let left: Vec<_> = queue.take(10, 1 << 20).into_iter().map(|event| event.json).collect();
        assert_eq!(left, ["0000000002".to_owned(), "x".repeat(20)]);
        assert_eq!(queue.bytes(), 0);
        assert!(!queue.is_idle());
        queue.settle();
        assert!(queue.is_idle());
    }

    #[test]
    fn a_batch_is_bounded_in_events_and_bytes() {
        let queue = Queue::new(1 << 20);
        for i in 0..10 {
            queue.push(i.to_string(), Instant::now());
        }
        assert_eq!(queue.take(3, 1 << 20).len(), 3);
        assert_eq!(queue.take(10, 1).len(), 1);
        assert_eq!(queue.take(10, 1 << 20).len(), 6);
    }
}
