//! Draining: clients are disconnected evenly over the drain time, so that they do not all reconnect at once.
//!
//! With `n` clients on this shard, client `i` is disconnected at `(i + f) / n` of the time. The offset `f` is `s / S`
//! for shard `s` of `S`, so that the shards do not disconnect clients at the same moments.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tidings_hub::{CloseReason, Slot};

use crate::shard::{Shard, TimerEvent};

/// The shortest and the longest delay before a reconnect, as sent to clients of the line port.
const RECONNECT: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(5_000)];

/// The clients that are still connected, and their schedule.
#[derive(Debug)]
pub(crate) struct Drain {
    /// Their slots, in reverse order.
    slots: Vec<Slot>,
    schedule: Schedule,
    /// The start, in milliseconds of the shard's clock.
    began: u64,
    jitter: RandomState,
}

/// The times at which clients are disconnected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) clients: usize,
    /// The index of this shard, and the number of shards.
    pub(crate) shard: (usize, usize),
    pub(crate) over: Duration,
}

impl Schedule {
    /// The time at which client `i` is disconnected, from the start of the drain.
    pub(crate) fn time(&self, i: usize) -> Duration {
        let (index, shards) = self.shard;
        let part = (i as f64 + index as f64 / shards.max(1) as f64) / self.clients.max(1) as f64;
        self.over.mul_f64(part.min(1.0))
    }

    /// How many clients are disconnected after this time.
    pub(crate) fn due(&self, elapsed: Duration) -> usize {
        if elapsed >= self.over {
            return self.clients;
        }
        let part = elapsed.as_secs_f64() / self.over.as_secs_f64();
        // A rounded estimate, corrected with the exact times.
        let mut due = ((part * self.clients as f64) as usize).min(self.clients);
        while due < self.clients && self.time(due) <= elapsed {
            due += 1;
        }
        while due > 0 && self.time(due - 1) > elapsed {
            due -= 1;
        }
        due
    }
}

impl Shard {
    pub(crate) fn begin_drain(&mut self, over: Duration) {
        self.listeners.clear();
        self.rebalance = None;
        let slots = self.hub.slots();
        let schedule = Schedule { clients: slots.len(), shard: (self.index, self.mailboxes.len()), over };
        self.drain = Some(Drain { slots, schedule, began: self.now(), jitter: RandomState::new() });
        self.drain_step();
    }

    pub(crate) fn drain_step(&mut self) {
        let now = self.now();
        let Some(drain) = &mut self.drain else { return };
        let elapsed = Duration::from_millis(now.saturating_sub(drain.began));
        let schedule = drain.schedule;
        let disconnected = schedule.clients - drain.slots.len();
        let due = schedule.due(elapsed).saturating_sub(disconnected);
        let batch = drain.slots.split_off(drain.slots.len().saturating_sub(due));
        let next = (!drain.slots.is_empty()).then(|| schedule.time(disconnected + batch.len()));
        let delays: Vec<_> = batch.iter().map(|slot| reconnect_delay(drain.jitter.hash_one(slot))).collect();
        for (slot, delay) in batch.into_iter().zip(delays) {
            // The session may have ended. Its slot is not reused, because no connections are accepted.
            if self.hub.get_session_id(slot).is_some() {
                self.hub.end(slot, &CloseReason::Shutdown(delay), &mut self.fx);
                self.apply_effects();
            }
        }
        if let Some(next) = next {
            self.start(next.saturating_sub(elapsed).max(Duration::from_millis(1)), TimerEvent::Drain);
        }
    }
}

/// The delay before a reconnect for a random number.
pub(crate) fn reconnect_delay(random: u64) -> Duration {
    let [least, most] = RECONNECT;
    least + (most - least).mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(clients: usize, shard: (usize, usize)) -> Schedule {
        Schedule { clients, shard, over: Duration::from_secs(5) }
    }

    #[test]
    fn few_clients_are_spread_as_evenly_as_many() {
        for clients in [1, 2, 7, 100, 20_000] {
            for shard in [(0, 1), (0, 2), (1, 2)] {
                let schedule = schedule(clients, shard);
                let by = |tenths: u32| schedule.due(schedule.over * tenths / 10);
                for tenths in 0..=10 {
                    let even = clients as f64 * f64::from(tenths) / 10.0;
                    assert!(
                        (by(tenths) as f64 - even).abs() <= 1.0,
                        "{clients} {shard:?} {tenths}: {}",
                        by(tenths)
                    );
                }
                assert_eq!(by(10), clients);
            }
        }
    }

    #[test]
    fn a_client_is_disconnected_at_its_time_and_not_before() {
        let schedule = schedule(333, (1, 3));
        for i in 0..333 {
            let at = schedule.time(i);
            assert!(schedule.due(at) > i, "{i}");
            assert!(schedule.due(at.saturating_sub(Duration::from_micros(1))) <= i, "{i}");
        }
        assert_eq!(Schedule { over: Duration::ZERO, ..schedule }.due(Duration::ZERO), 333);
    }

    #[test]
    fn clients_get_different_reconnect_delays() {
        assert_eq!(reconnect_delay(0), RECONNECT[0]);
        assert!(reconnect_delay(u64::MAX) <= RECONNECT[1]);
        assert!(reconnect_delay(u64::MAX / 2) > reconnect_delay(u64::MAX / 4));
    }
}
