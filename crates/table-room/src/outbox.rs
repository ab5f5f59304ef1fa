//! The outgoing queue of one viewer: its responses, and its position in the broadcast of its table.
//!
//! The only queue of a table's WebSocket. Its writer (`session/write.rs`) is the only place that sends pings and closes
//! the connection. It is not the queue of a shard, because an upload blocks on the disk, which no shard may do. The
//! guarantees are the same: control frames and responses are never dropped, a slow viewer receives the newest view
//! (`latest`), the bytes are bounded, and a Close frame is the last frame.
//!
//! Invariants:
//! - Input of a viewer is read only while its responses fit into [`LIMIT`]. So the queue is bounded and no response is
//!   dropped.
//! - The responses to all viewers are counted until they are written ([`UnreadResponses`]). While they exceed [`TOTAL`],
//!   requests for rows and facts are refused; other responses are small.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_wire::ws::CloseCode;
use tokio::sync::{Notify, watch};

use crate::broadcast::{ViewBroadcast, ViewCursor};

/// The bytes of queued responses from which on no input is read. One more response may be queued.
const LIMIT: usize = 1 << 20;

/// The bytes of responses to all viewers from which on no rows and facts are read for them.
const TOTAL: usize = 64 << 20;

/// The bytes of responses to all viewers that are not written yet.
#[derive(Clone, Debug, Default)]
pub struct UnreadResponses(Arc<AtomicUsize>);

impl UnreadResponses {
    /// The bytes.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether further large responses must be refused.
    pub fn is_full(&self) -> bool {
        self.bytes() >= TOTAL
    }
}

/// Bytes of responses that count until this is dropped.
#[derive(Debug, Default)]
pub struct Unread {
    all: UnreadResponses,
    bytes: usize,
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The queue of one viewer.
#[derive(Debug, Default)]
pub struct Outbox {
    all: UnreadResponses,
    waiting: Mutex<PendingOutput>,
    /// Wakes the writer.
    something: Notify,
    /// Wakes the reader.
    room: Notify,
}

/// A broadcast, and the viewer's position in it.
pub type BroadcastReceiver = (watch::Receiver<ViewBroadcast>, ViewCursor);

/// The content of the queue.
#[derive(Debug, Default)]
pub struct PendingOutput {
    /// The responses, in order.
    pub frames: VecDeque<Bytes>,
    /// The newest page of the viewer's private view, written after the frames.
    pub private: Option<Bytes>,
    /// The bytes of all of them.
    pub unread: Unread,
    /// The broadcast, once the viewer has joined a room.
    pub broadcast: Option<BroadcastReceiver>,
    /// The Close frame that ends the connection after the queue; `Some(None)`: without a Close frame.
    pub closing: Option<Option<(CloseCode, String)>>,
}

impl Outbox {
    /// An empty queue, whose responses count in `all`.
    pub fn new(all: UnreadResponses) -> Self {
        Self { all, ..Self::default() }
    }

    /// Queues a response.
    pub fn push(&self, frame: Bytes) {
        let mut waiting = self.lock();
        self.all.0.fetch_add(frame.len(), Ordering::Relaxed);
        waiting.unread.all = self.all.clone();
        waiting.unread.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.something.notify_one();
    }

    /// Replaces the page of the viewer's private view that is not written yet.
    pub fn set_private(&self, frame: Bytes) {
        let mut waiting = self.lock();
        let before = waiting.private.as_ref().map_or(0, Bytes::len);
        self.all.0.fetch_add(frame.len(), Ordering::Relaxed);
        self.all.0.fetch_sub(before, Ordering::Relaxed);
        waiting.unread.all = self.all.clone();
        waiting.unread.bytes = waiting.unread.bytes + frame.len() - before;
        waiting.private = Some(frame);
        drop(waiting);
        self.something.notify_one();
    }

    /// Whether a page of the viewer's private view waits.
    pub fn has_private(&self) -> bool {
        self.lock().private.is_some()
    }

    /// Sends this broadcast from now on.
    pub fn watch(&self, broadcast: BroadcastReceiver) {
        self.lock().broadcast = Some(broadcast);
        self.something.notify_one();
    }

    /// Closes the connection after the queue was written. The first call decides.
    pub fn close(&self, with: Option<(CloseCode, String)>) {
        self.lock().closing.get_or_insert(with);
        self.something.notify_one();
    }

    /// Takes the content of the queue.
    pub fn take(&self) -> PendingOutput {
        let taken = std::mem::take(&mut *self.lock());
        self.room.notify_one();
        taken
    }

    /// Waits until the queue may have content. Used by the writer.
    pub async fn wait_for_output(&self) {
        self.something.notified().await;
    }

    /// Waits until another response fits. Used by the reader.
    pub async fn has_room(&self) {
        while self.lock().unread.bytes > LIMIT {
            self.room.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, PendingOutput> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_page_of_a_private_view_waits() {
        let all = UnreadResponses::default();
        let outbox = Outbox::new(all.clone());
        outbox.set_private(Bytes::from_static(&[0; 100]));
        outbox.push(Bytes::from_static(&[0; 10]));
        outbox.set_private(Bytes::from_static(&[0; 30]));
        assert_eq!(all.bytes(), 40);
        let taken = outbox.take();
        assert_eq!((taken.frames.len(), taken.private.as_ref().map(Bytes::len)), (1, Some(30)));
        drop(taken);
        assert_eq!(all.bytes(), 0);
    }

    #[test]
    fn responses_count_until_they_are_written_or_the_viewer_has_left() {
        let all = UnreadResponses::default();
        let (first, second) = (Outbox::new(all.clone()), Outbox::new(all.clone()));
        first.push(Bytes::from_static(&[0; 100]));
        first.push(Bytes::from_static(&[0; 50]));
        second.push(Bytes::from_static(&[0; 7]));
        assert_eq!(all.bytes(), 157);
        let taken = first.take();
        assert_eq!(all.bytes(), 157, "taken, and not written yet");
        drop(taken);
        assert_eq!(all.bytes(), 7);
        drop(second);
        assert_eq!(all.bytes(), 0);
        assert!(!all.is_full());
        first.push(vec![0; TOTAL].into());
        assert!(all.is_full());
    }
}
