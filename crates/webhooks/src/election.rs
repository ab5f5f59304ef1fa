//! Which node observes the deployment: one at a time.
//!
//! The observing node sends a message after each observation. A node that has received none for the lease begins to observe if its
//! uid is the smallest of the nodes that are alive. If two nodes observe, the one with the greater uid stops.

use std::time::{Duration, Instant};

/// The shortest lease. An observation waits up to 3 s for the answers of the other nodes.
const MIN_LEASE: Duration = Duration::from_secs(8);
/// The lease in intervals between observations.
const LEASE_INTERVALS: u32 = 5;

/// This node's view of the election.
#[derive(Debug)]
pub(crate) struct Election {
    uid: String,
    /// The observing node, if it is another one.
    observer: Option<String>,
    /// When it sent its last message; before the first, the start of this node.
    last: Instant,
    is_observer: bool,
    /// Time without a message after which another node observes.
    lease: Duration,
}

impl Election {
    /// The election as the node with this uid starts, with an observation in each `interval`. Without other nodes on its
    /// broker it observes at once.
    pub(crate) fn new(uid: &str, is_shared: bool, interval: Duration, now: Instant) -> Self {
        let lease = (interval * LEASE_INTERVALS).max(MIN_LEASE);
        Self { uid: uid.to_owned(), observer: None, last: now, is_observer: !is_shared, lease }
    }

    /// A message of an observing node has arrived. Returns whether it is the one that this node follows.
    pub(crate) fn on_message(&mut self, from: &str, now: Instant) -> bool {
        if from == self.uid {
            return false;
        }
        if self.is_observer {
            if from > self.uid.as_str() {
                return false;
            }
            self.is_observer = false;
            self.observer = None;
        }
        if self.observer.as_deref().is_some_and(|observer| observer != from)
            && now.duration_since(self.last) < self.lease
            && self.observer.as_deref() < Some(from)
        {
            return false;
        }
        (self.observer, self.last) = (Some(from.to_owned()), now);
        true
    }

    /// Whether this node observes now. `alive` are the uids of the other nodes that are alive.
    pub(crate) fn observes(&mut self, alive: &[String], now: Instant) -> bool {
        let is_due = now.duration_since(self.last) >= self.lease;
        if !self.is_observer && is_due && alive.iter().all(|other| *other > self.uid) {
            self.is_observer = true;
        }
        self.is_observer
    }

    /// Whether a node observes from which this node gets changes.
    pub(crate) fn follows(&self) -> bool {
        !self.is_observer && self.observer.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);
    const LEASE: Duration = MIN_LEASE;

    #[test]
    fn a_node_without_others_observes_at_once_and_a_shared_one_after_the_lease() {
        let now = Instant::now();
        assert!(Election::new("b", false, INTERVAL, now).observes(&[], now));
        let mut shared = Election::new("b", true, INTERVAL, now);
        assert!(!shared.observes(&[], now));
        assert!(!shared.observes(&["a".into()], now + LEASE));
        assert!(shared.observes(&["c".into()], now + LEASE));
    }

    #[test]
    fn a_new_node_follows_the_observer_and_takes_over_when_its_messages_end() {
        let now = Instant::now();
        let mut election = Election::new("a", true, INTERVAL, now);
        assert!(election.on_message("b", now));
        assert!(election.follows());
        let later = now + LEASE;
        assert!(election.on_message("b", later));
        assert!(!election.observes(&["b".into()], later));
        assert!(election.observes(&["b".into()], later + LEASE));
        assert!(!election.follows());
    }

    #[test]
    fn of_two_observers_the_one_with_the_greater_uid_stops() {
        let now = Instant::now();
        let observing = |uid: &str| {
            let mut election = Election::new(uid, true, INTERVAL, now);
            assert!(election.observes(&[], now + LEASE));
            election
        };
        let (mut a, mut b) = (observing("a"), observing("b"));
        assert!(!a.on_message("b", now + LEASE));
        assert!(!a.on_message("a", now + LEASE), "its own message");
        assert!(b.on_message("a", now + LEASE));
        assert!(a.observes(&["b".into()], now + LEASE));
        assert!(!b.observes(&["a".into()], now + LEASE));
        // A third node follows the one with the smaller uid.
        let mut c = Election::new("c", true, INTERVAL, now);
        assert!(c.on_message("b", now));
        assert!(c.on_message("a", now));
        assert!(!c.on_message("b", now));
    }
}
