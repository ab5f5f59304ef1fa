//! Stopping: clients are told to go elsewhere, a few at a time, so that they do not all come back at once.

use std::time::Duration;

use tidings_hub::Ending;

use crate::shard::{Due, Shard};

/// Clients told to go elsewhere at least, per step of a drain.
const DRAIN_LEAST: usize = 100;
/// Length of a step of a drain.
const DRAIN_STEP: Duration = Duration::from_millis(50);

impl Shard {
    pub(crate) fn begin_drain(&mut self, over: Duration) {
        self.listeners.clear();
        let slots = self.hub.slots();
        let steps = (over.as_millis() / DRAIN_STEP.as_millis()).max(1);
        let step = slots.len().div_ceil(usize::try_from(steps).unwrap_or(1)).max(DRAIN_LEAST);
        self.drain = Some((slots, step));
        self.drain_step();
    }

    pub(crate) fn drain_step(&mut self) {
        let Some((slots, step)) = &mut self.drain else { return };
        let now: Vec<u32> = slots.split_off(slots.len().saturating_sub(*step));
        let more = !slots.is_empty();
        for slot in now {
            // A slot whose tenant has left since is empty: nothing new is let in.
            if self.hub.id(slot).is_some() {
                self.hub.end(slot, &Ending::Shutdown, &mut self.fx);
                self.settle();
            }
        }
        if more {
            self.start(DRAIN_STEP, Due::Drain);
        }
    }
}
