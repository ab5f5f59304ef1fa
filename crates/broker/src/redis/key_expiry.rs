//! The times at which keys of maps expire, and the task that removes them.
//!
//! Keys expire in Redis by a function that removes them and publishes the removals in one step, so several nodes may call it:
//! each key is removed once. A node calls it for the maps that it has subscribed, at the earliest recorded deadline; the answer
//! has the next one. It records the deadlines of the changes that it receives, and reads them when a client
//! begins to follow a map and after changes were missed. A map without subscribers is left as it is: the next call that
//! reads or changes it removes what has expired.
//!
//! Invariants:
//! - From the first subscription on, the deadline of a map is later here than the deadline in Redis by the latency of the message
//!   at most.
//! - At most one call for each map is in flight.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tidings_wire::Channel;
use tokio::sync::Notify;

use super::Redis;
use crate::lock;

/// The shortest time between two calls for one map, unless a call has left expired keys.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// The time until a call that failed is repeated.
const RETRY: Duration = Duration::from_secs(1);

/// The deadlines of maps.
#[derive(Debug, Default)]
pub(super) struct KeyDeadlines {
    table: Mutex<Table>,
    /// Notified when a deadline is the earliest one.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Table {
    channels: HashMap<Channel, Deadline>,
    order: BTreeSet<(Instant, Channel)>,
}

/// The deadline of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    /// The call is due then.
    Due(Instant),
    /// A call is in flight; another one is due then.
    InFlight(Option<Instant>),
}

impl KeyDeadlines {
    /// Sets the deadline of a map, unless it has an earlier one.
    pub(super) fn set(&self, channel: &Channel, at: Instant) {
        let mut table = lock(&self.table);
        match table.channels.get_mut(channel) {
            Some(Deadline::InFlight(next)) => *next = Some(next.map_or(at, |next| next.min(at))),
            Some(Deadline::Due(before)) if *before <= at => {}
            _ => {
                table.set_due(channel, at);
                if table.order.first().is_some_and(|(first, of)| *first == at && of == channel) {
                    self.earlier.notify_one();
                }
            }
        }
    }

    /// The earliest deadline.
    fn next(&self) -> Option<Instant> {
        lock(&self.table).order.first().map(|(at, _)| *at)
    }

    /// A map whose deadline has come; a call for it is in flight from now on.
    fn take_due(&self, now: Instant) -> Option<Channel> {
        let mut table = lock(&self.table);
        let (_, channel) = table.order.first().filter(|(at, _)| *at <= now)?.clone();
        table.order.pop_first();
        table.channels.insert(channel.clone(), Deadline::InFlight(None));
        Some(channel)
    }

    /// Ends a call, with the next deadline of the map.
    fn finish(&self, channel: &Channel, next: Option<Instant>) {
        let mut table = lock(&self.table);
        let set = match table.channels.remove(channel) {
            Some(Deadline::InFlight(set)) => set,
            // The table has one entry for each call in flight.
            Some(Deadline::Due(_)) | None => None,
        };
        if let Some(at) = [set, next].into_iter().flatten().min() {
            table.set_due(channel, at);
            drop(table);
            self.earlier.notify_one();
        }
    }

    /// Wakes the task.
    pub(super) fn wake(&self) {
        self.earlier.notify_one();
    }
}

impl Table {
    fn set_due(&mut self, channel: &Channel, at: Instant) {
        if let Some(Deadline::Due(before)) = self.channels.insert(channel.clone(), Deadline::Due(at)) {
            self.order.remove(&(before, channel.clone()));
        }
        self.order.insert((at, channel.clone()));
    }
}

/// Removes expired keys when they are due. Ends with the broker.
pub(super) async fn run(redis: Weak<Redis>, deadlines: Arc<KeyDeadlines>) {
    loop {
        let earlier = deadlines.earlier.notified();
        match deadlines.next() {
            Some(at) => drop(tokio::time::timeout_at(at.into(), earlier).await),
            None => earlier.await,
        }
        let Some(redis) = redis.upgrade() else { return };
        while let Some(channel) = deadlines.take_due(Instant::now()) {
            let (deadlines, of) = (Arc::clone(&deadlines), channel.clone());
            if !redis.is_subscribed(&channel) {
                deadlines.finish(&channel, None);
                continue;
            }
            redis.expire_keys(&channel, move |next| {
                let pause = match next {
                    Ok(next) => next.map(|next| if next.is_zero() { next } else { next.max(MIN_PAUSE) }),
                    Err(_) => Some(RETRY),
                };
                deadlines.finish(&of, pause.map(|pause| Instant::now() + pause));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_taken_once_and_the_earliest_one_counts() {
        let deadlines = KeyDeadlines::default();
        let (a, b) = (Channel::new("a").unwrap(), Channel::new("b").unwrap());
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        deadlines.set(&a, at(5));
        deadlines.set(&b, at(3));
        deadlines.set(&a, at(2));
        deadlines.set(&a, at(9));
        assert_eq!(deadlines.next(), Some(at(2)));
        assert_eq!(deadlines.take_due(at(1)), None);
        assert_eq!(deadlines.take_due(at(4)), Some(a.clone()));
        assert_eq!(deadlines.take_due(at(4)), Some(b.clone()));
        assert_eq!(deadlines.take_due(at(99)), None, "calls for both are in flight");
        deadlines.set(&a, at(8));
        deadlines.set(&a, at(7));
        assert_eq!(deadlines.next(), None, "no second call while one is in flight");
        deadlines.finish(&a, Some(at(10)));
        deadlines.finish(&b, None);
        assert_eq!(deadlines.next(), Some(at(7)));
        assert_eq!(lock(&deadlines.table).channels.len(), 1, "a map without deadlines is not kept");
    }
}
