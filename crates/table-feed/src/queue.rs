//! The queue between the thread that reads from the broker and the task that writes the table.
//!
//! Invariants:
//! - It has at most [`LIMIT`] bytes. At the limit the oldest publications are dropped: the newest values of a row count.
//! - While it is closed, publications are ignored: another process writes the table.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The most bytes of the publications, with [`OVERHEAD`] for each.
pub(crate) const LIMIT: usize = 8 << 20;
/// The allowance for a publication besides its bytes.
const OVERHEAD: usize = 64;

/// The publications of a channel that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    something: Notify,
}

#[derive(Debug, Default)]
struct State {
    bodies: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// The bytes of the publications that were taken and are being written.
    taken: usize,
    is_open: bool,
    is_live: bool,
    /// Whether publications may have been missed before those in the queue.
    needs_history: bool,
}

impl Queue {
    /// Accepts publications from now on; those before are in the history, which is read once the channel is live.
    pub(crate) fn open(&self) {
        let mut state = self.lock();
        (state.is_open, state.needs_history) = (true, state.is_live);
        drop(state);
        self.something.notify_one();
    }

    /// Adds a publication. Returns the number of dropped ones.
    pub(crate) fn push(&self, body: &[u8]) -> u64 {
        let mut state = self.lock();
        if !state.is_open {
            return 0;
        }
        state.bytes += body.len() + OVERHEAD;
        state.bodies.push_back(body.into());
        let mut dropped = 0;
        while state.bytes > LIMIT
            && let Some(oldest) = state.bodies.pop_front()
        {
            state.bytes -= oldest.len() + OVERHEAD;
            dropped += 1;
        }
        drop(state);
        self.something.notify_one();
        dropped
    }

    /// The channel is subscribed, perhaps again: publications before now may be missing.
    pub(crate) fn request_history(&self) {
        let mut state = self.lock();
        (state.is_live, state.needs_history) = (true, true);
        drop(state);
        self.something.notify_one();
    }

    /// Waits until there is something, and returns whether the history must be read. The publications stay, so that those that
    /// arrive meanwhile follow the history.
    pub(crate) async fn wait(&self) -> bool {
        loop {
            {
                let mut state = self.lock();
                if state.is_open && (state.needs_history || !state.bodies.is_empty()) {
                    return std::mem::take(&mut state.needs_history);
                }
            }
            self.something.notified().await;
        }
    }

    /// Takes all publications. They count as waiting until [`Self::on_written`].
    pub(crate) fn take(&self) -> VecDeque<Box<[u8]>> {
        let mut state = self.lock();
        state.taken = std::mem::take(&mut state.bytes);
        std::mem::take(&mut state.bodies)
    }

    /// The taken publications are written, or skipped.
    pub(crate) fn on_written(&self) {
        self.lock().taken = 0;
    }

    /// The bytes of the publications that are not written yet, with [`OVERHEAD`] for each.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let state = self.lock();
        state.bytes + state.taken
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limit_the_oldest_publications_are_dropped_and_counted() {
        let queue = Queue::default();
        assert_eq!(queue.push(b"ignored"), 0);
        queue.open();
        let large = vec![b'x'; LIMIT / 4];
        let dropped: u64 = (0..6).map(|number| queue.push(&[&large[..], &[number]].concat())).sum();
        assert_eq!(dropped, 3);
        assert_eq!(
            queue.take().iter().filter_map(|body| body.last().copied()).collect::<Vec<_>>(),
            [3, 4, 5]
        );
        assert_eq!(queue.push(b"a"), 0);
        assert_eq!(queue.take().len(), 1);
    }

    #[test]
    fn publications_count_as_waiting_until_they_are_written() {
        let queue = Queue::default();
        queue.open();
        queue.push(b"abc");
        assert_eq!(queue.waiting_bytes(), 3 + OVERHEAD);
        queue.take();
        queue.push(b"d");
        assert_eq!(queue.waiting_bytes(), 4 + 2 * OVERHEAD);
        queue.on_written();
        assert_eq!(queue.waiting_bytes(), 1 + OVERHEAD);
    }
}
