//! The state that the threads of a bench run share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest sleep of a publisher before it checks whether the run was stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Counters and signals of one run. All counts are over all threads.
#[derive(Debug)]
pub(super) struct BenchRun {
    /// Distinguishes messages of this run from others in the channel.
    pub(super) id: u32,
    /// The origin of times in payloads.
    pub(super) started: Instant,
    subscribers: u64,
    window: u64,
    /// Messages that publishers have started to write.
    pub(super) sent: AtomicU64,
    /// Messages with a response of the server.
    pub(super) answered: AtomicU64,
    /// Deliveries that arrived, and those that cannot arrive any more.
    pub(super) settled: AtomicU64,
    /// Deliveries that arrived.
    pub(super) delivered: AtomicU64,
    /// The time of the last delivery, in nanoseconds since `started`.
    pub(super) last_delivery: AtomicU64,
    /// Subscribers with a confirmed subscription.
    pub(super) subscribed: AtomicU64,
    /// Subscribers that the server has disconnected.
    pub(super) disconnected: AtomicU64,
    /// Publishers that have stopped writing.
    pub(super) finished: AtomicU64,
    /// Whether publishers must stop writing.
    no_more: AtomicBool,
    /// Whether all threads must end.
    over: AtomicBool,
    /// The first error, of the server or of a connection.
    first_error: Mutex<Option<String>>,
    /// The number of publishers that wait for room in the window.
    waiting: AtomicU64,
    /// The lock of `room`.
    turn: Mutex<()>,
    /// Notified when the window has room, and at the end.
    room: Condvar,
}

impl BenchRun {
    /// A run with this many subscribers, and at most this many messages in flight.
    pub(super) fn new(subscribers: u64, window: u64) -> Self {
        Self {
            id: fastrand::u32(..),
            started: Instant::now(),
            subscribers,
            window,
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            last_delivery: AtomicU64::new(0),
            subscribed: AtomicU64::new(0),
            disconnected: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            no_more: AtomicBool::new(false),
            over: AtomicBool::new(false),
            first_error: Mutex::new(None),
            waiting: AtomicU64::new(0),
            turn: Mutex::new(()),
            room: Condvar::new(),
        }
    }

    /// Nanoseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Reserves up to `most` messages in the window. Waits while the window is full. `None` when the run was stopped.
    pub(super) fn take_room(&self, most: u64) -> Option<u64> {
        loop {
            if self.is_stopped() {
                return None;
            }
            let sent = self.sent.load(Ordering::SeqCst);
            let room = self.room_behind(sent).min(most);
            if room > 0 {
                let taken = self.sent.compare_exchange(sent, sent + room, Ordering::SeqCst, Ordering::SeqCst);
                if taken.is_ok() {
                    return Some(room);
                }
                continue;
            }
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            // Checked again under the lock that `progressed` takes, so that no wakeup is lost.
            if self.room_behind(self.sent.load(Ordering::SeqCst)) == 0 && !self.is_stopped() {
                drop(self.room.wait_timeout(turn, POLL_INTERVAL));
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Signals that `settled` or `answered` has grown, so that there may be room.
    pub(super) fn progressed(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 && self.room_behind(self.sent.load(Ordering::SeqCst)) > 0 {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.room.notify_all();
        }
    }

    /// A message is in flight until it is confirmed and every subscriber has it.
    fn room_behind(&self, sent: u64) -> u64 {
        let mut done = self.answered.load(Ordering::SeqCst);
        if let Some(delivered) = self.settled.load(Ordering::SeqCst).checked_div(self.subscribers) {
            done = done.min(delivered);
        }
        (done + self.window).saturating_sub(sent)
    }

    /// Whether publishers have stopped, and every message is confirmed.
    pub(super) fn is_answered(&self) -> bool {
        self.is_stopped() && self.answered.load(Ordering::SeqCst) >= self.sent.load(Ordering::SeqCst)
    }

    /// Whether every message is confirmed and has reached every subscriber.
    pub(super) fn is_complete(&self) -> bool {
        let sent = self.sent.load(Ordering::SeqCst);
        self.answered.load(Ordering::SeqCst) >= sent
            && self.settled.load(Ordering::SeqCst) >= sent.saturating_mul(self.subscribers)
    }

    /// Stops the publishers; messages in flight may still arrive.
    pub(super) fn stop(&self) {
        self.no_more.store(true, Ordering::SeqCst);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.room.notify_all();
    }

    /// Whether publishers must stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.no_more.load(Ordering::SeqCst)
    }

    /// Ends all threads.
    pub(super) fn end(&self) {
        self.stop();
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether all threads must end.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Records an error of the server or of a connection. Later errors are discarded.
    pub(super) fn record_error(&self, text: String) {
        self.first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }

    /// The first recorded error.
    pub(super) fn first_error(&self) -> Option<String> {
        self.first_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn no_more_messages_are_reserved_than_the_window_allows() {
        let run = BenchRun::new(2, 3);
        assert_eq!(run.take_room(2), Some(2));
        assert_eq!(run.take_room(2), Some(1));
        run.answered.store(3, Ordering::SeqCst);
        run.settled.store(5, Ordering::SeqCst);
        assert_eq!(run.take_room(9), Some(2));
        assert!(!run.is_complete());
    }

    #[test]
    fn without_subscribers_the_confirmation_makes_room() {
        let run = BenchRun::new(0, 1);
        assert_eq!(run.take_room(9), Some(1));
        run.answered.store(1, Ordering::SeqCst);
        assert!(run.is_complete());
        assert_eq!(run.take_room(9), Some(1));
    }

    #[test]
    fn waiting_publishers_are_woken_by_progress_and_by_the_end() {
        let run = Arc::new(BenchRun::new(1, 1));
        assert_eq!(run.take_room(1), Some(1));
        let waiter = thread::spawn({
            let run = Arc::clone(&run);
            move || (run.take_room(1), run.take_room(1))
        });
        run.answered.store(1, Ordering::SeqCst);
        run.settled.store(1, Ordering::SeqCst);
        run.progressed();
        while run.sent.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        run.stop();
        assert_eq!(waiter.join().unwrap(), (Some(1), None));
    }
}
