//! A broker that is away for long: clients that count on a history are asked to reconnect, to a node that has it.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use tidings_hub::{Ending, SessionId};
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

    /// Its moment has come. A broker that is back meanwhile changes the plan.
    pub(crate) fn move_on(&mut self, id: SessionId) {
        if self.hub.is_current(id) && self.hub.is_stranded(id.slot) {
            let reason = format!("{}: broker unavailable", code::FORCE_RECONNECT.text);
            let ending = Ending::Verdict(code::FORCE_RECONNECT.number, reason);
            add(&self.metrics.moved, 1);
            self.hub.end(id.slot, &ending, &mut self.fx);
            self.settle();
        }
    }
}
