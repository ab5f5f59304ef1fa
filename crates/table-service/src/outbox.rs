//! The outgoing queue of one viewer: its responses, and its position in the broadcast of its table.
//!
//! This is the one queue of a table's WebSocket, and its writer (`session/write.rs`) the one place that sends pings and closes
//! the connection. It is not the queue of a shard, because an upload blocks on the disk, which no shard may do. It keeps
//! the same promises: control frames and responses are never dropped, a slow viewer gets the newest view (`latest`), the
//! bytes are bounded, and a Close frame is the last frame.
//!
//! Invariant: input is read from a viewer only while its responses fit into [`LIMIT`], so a viewer cannot make the server hold
//! more, and no response is dropped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_wire::ws::CloseCode;
use tokio::sync::{Notify, watch};

use super::broadcast::{ViewBroadcast, ViewCursor};

/// The bytes of queued responses at which reading from the viewer stops. One more response may be queued on top.
const LIMIT: usize = 1 << 20;

/// The queue of one viewer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Wakes the writer.
    something: Notify,
    /// Wakes the reader.
    room: Notify,
}

/// A broadcast, and the viewer's position in it.
pub(super) type BroadcastReceiver = (watch::Receiver<ViewBroadcast>, ViewCursor);

/// The content of the queue.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) frames: VecDeque<Bytes>,
    bytes: usize,
    /// The broadcast, once the viewer has joined a room.
    pub(super) board: Option<BroadcastReceiver>,
    /// How the connection is closed once the rest is written; `Some(None)`: without a Close frame.
    pub(super) closing: Option<Option<(CloseCode, String)>>,
}

impl Outbox {
    /// Queues a response.
    pub(super) fn push(&self, frame: Bytes) {
        let mut waiting = self.lock();
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.something.notify_one();
    }

    /// Makes the writer send this broadcast from now on.
    pub(super) fn watch(&self, board: BroadcastReceiver) {
        self.lock().board = Some(board);
        self.something.notify_one();
    }

    /// Makes the writer close the connection once the queue is written. The first call decides.
    pub(super) fn close(&self, with: Option<(CloseCode, String)>) {
        self.lock().closing.get_or_insert(with);
        self.something.notify_one();
    }

    /// Takes the content of the queue.
    pub(super) fn take(&self) -> Waiting {
        let taken = std::mem::take(&mut *self.lock());
        self.room.notify_one();
        taken
    }

    /// Waits until the queue may have content. For the writer.
    pub(super) async fn wait_for_output(&self) {
        self.something.notified().await;
    }

    /// Waits until another response fits. For the reader.
    pub(super) async fn has_room(&self) {
        while self.lock().bytes > LIMIT {
            self.room.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
