//! Failover: when the broker is unavailable for a long time, clients of channels with a history are disconnected, so
//! that they reconnect to a node that reaches the broker.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use tidings_hub::{CloseReason, SessionId};
use tidings_wire::{Topic, code};

use crate::metrics::add;
use crate::shard::{Shard, TimerEvent};

impl Shard {
    /// Schedules the reconnect of each subscriber of a topic at its own time within `over`, so that the other nodes do
    /// not get all clients at once.
    pub(crate) fn schedule_failover(&mut self, topic: &Topic, over: Duration) {
        let spread = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
        let hasher = BuildHasherDefault::<DefaultHasher>::new();
        for id in self.hub.sessions_to_fail_over(topic) {
            // The time depends on the session's id, so that a session with several channels has one time.
            let at = hasher.hash_one((self.index, id)) % spread;
            self.start(Duration::from_millis(at), TimerEvent::Failover(id));
        }
    }

    /// Disconnects a session at its time, unless the broker is available again.
    pub(crate) fn fail_over(&mut self, id: SessionId) {
        if self.hub.is_current(id) && self.hub.needs_failover(id.slot) {
            let reason = format!("{}: broker unavailable", code::FORCE_RECONNECT.text);
            let reason = CloseReason::Code(code::FORCE_RECONNECT.number, reason);
            add(&self.metrics.moved, 1);
            self.hub.end(id.slot, &reason, &mut self.fx);
            self.apply_effects();
        }
    }
}
