//! Nodes that ended recently. Their members may still be present in channels.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a client stays present after its node last confirmed it.
pub const PRESENCE_TTL: Duration = Duration::from_secs(60);
/// Most nodes in the list.
const MAX_ENDED: usize = 64;

/// The nodes that have ended within the last [`PRESENCE_TTL`]; at most [`MAX_ENDED`].
#[derive(Debug, Default)]
pub struct EndedNodes {
    nodes: Mutex<Vec<(String, Instant)>>,
    /// Whether the list is not empty. Every request for presence reads it without the lock.
    any: AtomicBool,
}

impl EndedNodes {
    /// Adds the node with this uid.
    pub fn add(&self, uid: &str, now: Instant) {
        let mut nodes = self.lock();
        nodes.retain(|(other, since)| other != uid && now.duration_since(*since) < PRESENCE_TTL);
        if nodes.len() < MAX_ENDED {
            nodes.push((uid.to_owned(), now));
        }
        self.any.store(true, Ordering::Release);
    }

    /// Removes the node with this uid, because it announces itself again: its members stay from now on.
    pub fn remove(&self, uid: &str) {
        if self.any.load(Ordering::Acquire) {
            self.lock().retain(|(other, _)| other != uid);
        }
    }

    /// The uids of the nodes.
    pub fn uids(&self) -> Vec<String> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut nodes = self.lock();
        nodes.retain(|(_, since)| since.elapsed() < PRESENCE_TTL);
        self.any.store(!nodes.is_empty(), Ordering::Release);
        nodes.iter().map(|(uid, _)| uid.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Instant)>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
