//! Responses that a peer leaves unread.
//!
//! Responses are never dropped. Unread ones occupy `client.queue_max_total`, so reads of other clients are refused
//! meanwhile. A connection with more than [`BACKLOG`] bytes of unread responses is therefore checked once per second.
//!
//! Invariants:
//! - A connection is ended for this reason only while all queues together are full, and its peer has read nothing
//!   during a whole [`CHECK_INTERVAL`].
//! - Its queue is freed at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_hub::{CloseReason, SessionId, Slot};

use crate::conn::Phase;
use crate::metrics::add;
use crate::shard::{BACKLOG, Shard, TimerEvent};

/// The time between two checks of a connection.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

impl Shard {
    /// Responses were queued for a connection: starts the checks if there are many.
    pub(crate) fn watch_unread_responses(&mut self, slot: Slot) {
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        let Some(queue) = conn.queue.as_mut().filter(|queue| queue.control() > BACKLOG) else { return };
        if !std::mem::replace(&mut queue.watched, true)
            && let Some(id) = self.hub.get_session_id(slot)
        {
            self.start(CHECK_INTERVAL, TimerEvent::CheckUnread(id));
        }
    }

    /// Ends a connection that reads nothing while all queues are full; otherwise schedules the next check.
    pub(crate) fn end_unread_connection(&mut self, id: SessionId) {
        let is_full = self.process.queued.load(Ordering::Relaxed) >= self.limits.queues;
        let Some(Some(conn)) = self.conns.get_mut(id.slot.index()) else { return };
        if !self.hub.is_current(id) || conn.phase != Phase::Open {
            return;
        }
        let Some(queue) = &mut conn.queue else { return };
        let progressed = queue.has_progressed();
        if queue.control() <= BACKLOG {
            queue.watched = false;
        } else if progressed || !is_full {
            self.start(CHECK_INTERVAL, TimerEvent::CheckUnread(id));
        } else {
            add(&self.metrics.cut, 1);
            self.hub.end(id.slot, &CloseReason::Slow(0), &mut self.fx);
            // The queue, including the reason, would not be read in time.
            self.disconnect(id.slot);
        }
    }
}
