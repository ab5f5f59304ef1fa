//! The outgoing queue of one viewer: its responses, and its position in the broadcast of its table.
//!
//! The only queue of a table's WebSocket. Its writer (`session/write.rs`) is the only place that sends pings and closes
//! the connection. It is not the queue of a shard, because an upload blocks on the disk, which no shard may do. The
//! guarantees are the same: control frames and responses are never dropped, a slow viewer receives the newest view
//! (`latest`), the bytes are bounded, and a Close frame is the last frame.
//!
//! Invariant: input of a viewer is read only while its responses fit into [`LIMIT`]. So the queue is bounded and no
//! response is dropped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_wire::ws::CloseCode;
use tokio::sync::{Notify, watch};

use super::broadcast::{ViewBroadcast, ViewCursor};

/// The bytes of queued responses from which on no input is read. One more response may be queued.
const LIMIT: usize = 1 << 20;

/// The queue of one viewer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<PendingOutput>,
    /// Wakes the writer.
    something: Notify,
    /// Wakes the reader.
    room: Notify,
}

/// A broadcast, and the viewer's position in it.
pub(super) type BroadcastReceiver = (watch::Receiver<ViewBroadcast>, ViewCursor);

/// The content of the queue.
#[derive(Debug, Default)]
pub(super) struct PendingOutput {
    pub(super) frames: VecDeque<Bytes>,
    bytes: usize,
    /// The broadcast, once the viewer has joined a room.
    pub(super) broadcast: Option<BroadcastReceiver>,
    /// The Close frame that ends the connection after the queue; `Some(None)`: without a Close frame.
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

    /// Sends this broadcast from now on.
    pub(super) fn watch(&self, broadcast: BroadcastReceiver) {
        self.lock().broadcast = Some(broadcast);
        self.something.notify_one();
    }

    /// Closes the connection after the queue was written. The first call decides.
    pub(super) fn close(&self, with: Option<(CloseCode, String)>) {
        self.lock().closing.get_or_insert(with);
        self.something.notify_one();
    }

    /// Takes the content of the queue.
    pub(super) fn take(&self) -> PendingOutput {
        let taken = std::mem::take(&mut *self.lock());
        self.room.notify_one();
        taken
    }

    /// Waits until the queue may have content. Used by the writer.
    pub(super) async fn wait_for_output(&self) {
        self.something.notified().await;
    }

    /// Waits until another response fits. Used by the reader.
    pub(super) async fn has_room(&self) {
        while self.lock().bytes > LIMIT {
            self.room.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, PendingOutput> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
