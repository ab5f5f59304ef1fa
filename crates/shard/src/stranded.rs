//! A broker that is unavailable for long: clients of channels with a history are disconnected, to reconnect to a node that
//! reaches the broker.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use tidings_hub::{CloseReason, SessionId};
use tidings_wire::{Topic, code};

use crate::metrics::add;
use crate::shard::{Due, Shard};

impl Shard {
    /// Has each subscriber of a topic reconnect at a moment of its own within `over`, so that they do not all arrive at
    /// the other nodes at once.
    pub(crate) fn strand(&mut self, topic: &Topic, over: Duration) {
        let spread = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
        let hasher = BuildHasherDefault::<DefaultHasher>::new();
        for id in self.hub.stranded(topic) {
            // By its id, so that a session has one moment, whatever number of its channels is away.
            let at = hasher.hash_one((self.index, id)) % spread;
            self.start(Duration::from_millis(at), Due::Move(id));
        }
    }

    /// The moment of a session: it is disconnected, unless the broker is available again.
    pub(crate) fn move_on(&mut self, id: SessionId) {
        if self.hub.is_current(id) && self.hub.is_stranded(id.slot) {
            let reason = format!("{}: broker unavailable", code::FORCE_RECONNECT.text);
            let ending = CloseReason::Code(code::FORCE_RECONNECT.number, reason);
            add(&self.metrics.moved, 1);
            self.hub.end(id.slot, &ending, &mut self.fx);
            self.apply_effects();
        }
    }
}
