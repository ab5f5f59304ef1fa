//! What waits to be written to one viewer: answers to what it asked, and the board it looks at.
//!
//! A viewer is read from only while its answers fit into [`LIMIT`]; so it cannot make the server hold more, and no
//! answer is dropped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_wire::ws::CloseCode;
use tokio::sync::{Notify, watch};

use super::board::{Board, Seen};

/// How many bytes of answers may wait before the viewer is not read from. One more answer may come on top.
const LIMIT: usize = 1 << 20;

/// Answers on their way to one viewer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Wakes who writes.
    something: Notify,
    /// Wakes who reads.
    room: Notify,
}

/// A board, and what of it has been seen.
pub(super) type Watched = (watch::Receiver<Board>, Seen);

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) frames: VecDeque<Bytes>,
    bytes: usize,
    /// The board, once there is one.
    pub(super) board: Option<Watched>,
    /// How the connection is to be closed once the rest is written; `None` as a code: without a word.
    pub(super) closing: Option<Option<(CloseCode, String)>>,
}

impl Outbox {
    /// Adds an answer.
    pub(super) fn push(&self, frame: Bytes) {
        let mut waiting = self.lock();
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.something.notify_one();
    }

    /// Has the writer look at this board from now on.
    pub(super) fn look_at(&self, board: Watched) {
        self.lock().board = Some(board);
        self.something.notify_one();
    }

    /// Has the writer close the connection when it has written what waits. The first word counts.
    pub(super) fn close(&self, with: Option<(CloseCode, String)>) {
        self.lock().closing.get_or_insert(with);
        self.something.notify_one();
    }

    /// Takes all that waits.
    pub(super) fn take(&self) -> Waiting {
        let taken = std::mem::take(&mut *self.lock());
        self.room.notify_one();
        taken
    }

    /// Waits until there may be something to take. For the one who writes.
    pub(super) async fn something(&self) {
        self.something.notified().await;
    }

    /// Waits until another answer fits. For the one who reads.
    pub(super) async fn has_room(&self) {
        while self.lock().bytes > LIMIT {
            self.room.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
