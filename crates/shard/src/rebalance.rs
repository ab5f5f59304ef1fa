//! Rebalancing: a number of clients is disconnected evenly over a time, so that they connect to nodes with fewer
//! connections.
//!
//! Only clients that lose nothing are moved ([`tidings_hub::Hub::is_movable`]), without unsent bytes, and with a
//! connection of their own (no stream of HTTP/2) that is older than `Limits::move_age`: a client that was moved, or was
//! requested to reconnect by a node that stopped, is not moved again at once. The oldest connections are moved first, because
//! younger ones are more likely to have reconnected recently.

use std::collections::VecDeque;
use std::time::Duration;

use tidings_hub::{CloseReason, Slot};

use crate::counters::TransportKind;
use crate::drain::Schedule;
use crate::metrics::add;
use crate::shard::{Shard, TimerEvent};

/// Most sessions that are examined before other events are handled.
const SCAN: usize = 16_384;
/// Number of marks within [`SessionAges::age`].
const MARKS: u64 = 16;

/// Clients to move, and their schedule.
#[derive(Debug)]
pub(crate) struct Rebalance {
    /// Distinguishes its timer from those of earlier ones.
    serial: u32,
    /// The sessions that are not examined yet, the oldest last.
    slots: Vec<Slot>,
    schedule: Schedule,
    moved: usize,
    /// The start, in milliseconds of the shard's clock.
    began: u64,
}

/// The ages of sessions, without memory for each of them: generations in the order of time.
///
/// A session is opened before the mark of a later session, and at most one interval after the last mark. So a session counts
/// as old when it has this age, and at the latest this age after the first session that was opened an interval later.
#[derive(Debug)]
pub(crate) struct SessionAges {
    /// Milliseconds after which a session is old.
    age: u64,
    /// Times, and the latest generation before each.
    marks: VecDeque<(u64, u32)>,
}

impl SessionAges {
    pub(crate) fn new(age: Duration) -> Self {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self { age, marks: VecDeque::from([(0, 0)]) }
    }

    fn interval(&self) -> u64 {
        (self.age / MARKS).max(1)
    }

    /// Callback before a session is opened; `latest` is the generation of the session before it.
    pub(crate) fn before_open(&mut self, now: u64, latest: u32) {
        if self.marks.back().is_some_and(|(time, _)| now < time + self.interval()) {
            return;
        }
        while self.marks.get(1).is_some_and(|(time, _)| time.saturating_add(self.age) <= now) {
            self.marks.pop_front();
        }
        self.marks.push_back((now, latest));
    }

    /// The latest generation of an old session, if there is one; `latest` is that of the latest session.
    fn latest_old(&self, now: u64, latest: u32) -> Option<u32> {
        let is_old = |time: u64| time.saturating_add(self.age) <= now;
        if self.marks.back().is_some_and(|(time, _)| is_old(time + self.interval())) {
            return Some(latest);
        }
        self.marks.iter().rev().find(|(time, _)| is_old(*time)).map(|(_, generation)| *generation)
    }
}

/// Whether a generation is at or before another one. They wrap around after 2³² sessions.
fn is_at_or_before(generation: u32, other: u32) -> bool {
    other.wrapping_sub(generation) < 1 << 31
}

impl Shard {
    /// Moves at most `clients` clients, evenly over this time. Replaces the present order; zero clients end it.
    pub(crate) fn begin_rebalance(&mut self, clients: usize, over: Duration) {
        let serial = self.rebalance_serial.wrapping_add(1);
        self.rebalance_serial = serial;
        self.rebalance = None;
        if clients == 0 || self.drain.is_some() {
            return;
        }
        let schedule = Schedule { clients, shard: (self.index, self.mailboxes.len()), over };
        let (hub, latest) = (&self.hub, self.hub.latest_generation());
        let mut slots = hub.slots();
        // `rebalance_step` takes them from the end.
        slots.sort_by_cached_key(|slot| {
            hub.get_session_id(*slot).map(|id| latest.wrapping_sub(id.generation))
        });
        self.rebalance = Some(Rebalance { serial, slots, schedule, moved: 0, began: self.now() });
        self.rebalance_step(serial);
    }

    /// Moves the clients that are due, unless the order was replaced.
    pub(crate) fn rebalance_step(&mut self, serial: u32) {
        let now = self.now();
        let Some(mut rebalance) = self.rebalance.take_if(|rebalance| rebalance.serial == serial) else {
            return;
        };
        let Some(latest_old) = self.ages.latest_old(now, self.hub.latest_generation()) else { return };
        let elapsed = Duration::from_millis(now.saturating_sub(rebalance.began));
        let due = rebalance.schedule.due(elapsed);
        let mut examined = 0;
        while rebalance.moved < due && examined < SCAN {
            let Some(slot) = rebalance.slots.pop() else { return };
            examined += 1;
            if self.may_move(slot, latest_old) {
                rebalance.moved += 1;
                self.move_client(slot);
            }
        }
        if rebalance.moved < rebalance.schedule.clients {
            let next = rebalance.schedule.time(rebalance.moved).saturating_sub(elapsed);
            self.rebalance = Some(rebalance);
            self.start(next.max(Duration::from_millis(1)), TimerEvent::Rebalance(serial));
        }
    }

    fn may_move(&self, slot: Slot, latest_old: u32) -> bool {
        self.hub.get_session_id(slot).is_some_and(|id| is_at_or_before(id.generation, latest_old))
            && self.hub.is_movable(slot)
            && self.conns.get(slot.index()).and_then(Option::as_ref).is_some_and(|conn| {
                // A new stream of the same HTTP/2 connection would reach this node again.
                conn.queue.is_none() && TransportKind::from(&conn.socket) != TransportKind::Http2
            })
    }

    fn move_client(&mut self, slot: Slot) {
        self.process.returns.on_move(self.client_address(slot), self.process.clock.nanos());
        add(&self.metrics.rebalanced, 1);
        self.hub.end(slot, &CloseReason::moved(), &mut self.fx);
        self.apply_effects();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_old_after_its_age_and_not_before() {
        let mut ages = SessionAges::new(Duration::from_secs(16));
        let mut opened = vec![];
        let mut random = fastrand::Rng::with_seed(7);
        let (mut now, mut latest) = (0, 0);
        for _ in 0..2_000 {
            now += if random.u8(..) == 0 { 60_000 } else { random.u64(0..700) };
            if random.bool() {
                ages.before_open(now, latest);
                latest += 1;
                opened.push((latest, now));
            }
            assert!(ages.marks.len() <= MARKS as usize + 3, "{}", ages.marks.len());
            let bound = ages.latest_old(now, latest);
            for (generation, at) in opened.iter().rev().take(200) {
                let is_old = bound.is_some_and(|bound| is_at_or_before(*generation, bound));
                assert!(!is_old || now - at >= 16_000, "{generation} is {} ms old", now - at);
                // The next mark is that of the first session which is opened an interval later.
                let mark = opened.iter().map(|(_, time)| *time).find(|time| *time >= at + 1_000);
                let old = mark.unwrap_or(at + 1_000) + 16_000;
                assert!(is_old || now <= old, "{generation} is {} ms old", now - at);
            }
        }
    }

    #[test]
    fn generations_wrap_around() {
        assert!(is_at_or_before(5, 5) && is_at_or_before(4, 5) && !is_at_or_before(6, 5));
        assert!(is_at_or_before(u32::MAX, 3) && !is_at_or_before(3, u32::MAX));
    }
}
