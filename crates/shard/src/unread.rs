//! Answers that a peer does not take.
//!
//! Answers are never dropped, so they fill `client.queue_max_total` as long as their peers like, and reads of other clients are
//! refused meanwhile. A connection that leaves more than [`BACKLOG`] bytes of answers unread is therefore looked at once a
//! second.
//!
//! Invariants:
//! - A connection ends for this only while all queues together are full, and only when its peer has taken nothing for a
//!   whole [`ROUND`].
//! - What is queued for it is given back at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_hub::{CloseReason, SessionId, Slot};

use crate::conn::Phase;
use crate::metrics::add;
use crate::shard::{BACKLOG, Due, Shard};

/// How often such a connection is looked at.
const ROUND: Duration = Duration::from_secs(1);

impl Shard {
    /// Answers were queued for a connection: from now on it is looked at, if they are many.
    pub(crate) fn watch_unread(&mut self, slot: Slot) {
        let Some(Some(conn)) = self.conns.get_mut(slot.index()) else { return };
        let Some(queue) = conn.queue.as_mut().filter(|queue| queue.control() > BACKLOG) else { return };
        if !std::mem::replace(&mut queue.watched, true)
            && let Some(id) = self.hub.id(slot)
        {
            self.start(ROUND, Due::Unread(id));
        }
    }

    /// Ends a connection that takes nothing while there is no room; looks at it again otherwise.
    pub(crate) fn end_unread(&mut self, id: SessionId) {
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
            self.start(ROUND, Due::Unread(id));
        } else {
            add(&self.metrics.cut, 1);
            self.hub.end(id.slot, &CloseReason::Slow(0), &mut self.fx);
            // Nothing of what is queued would be read in time, the reason included.
            self.lose(id.slot);
        }
    }
}
