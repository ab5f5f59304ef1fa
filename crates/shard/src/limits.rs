//! The bounds of a shard, and the room in its queues.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Bounds of a shard.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes in the queue of one connection.
    pub queue: usize,
    /// Most bytes in all queues of the process.
    pub queues: usize,
    /// Most connections of the process.
    pub connections: usize,
    /// Most bytes of publications in a mailbox.
    pub mailbox: usize,
    /// Most bytes of large responses (histories, presence) that one shard requests at a time. At least the bound of a
    /// queue.
    pub reads: usize,
    /// The time in which an ended connection must read its queue.
    pub close_delay: Duration,
    /// The compression level of publications for WebSockets, from 1 (fast) to 9 (small).
    pub compression_level: u8,
    /// Messages with fewer bytes are not compressed.
    pub compression_min_size: usize,
    /// The least age of a connection that is moved to another node.
    pub move_age: Duration,
}

impl Limits {
    /// The bound of a queue that contains `mine` bytes, when all queues contain `all`. If all queues together are full,
    /// each of them counts as full.
    pub(crate) fn queue_bound(&self, mine: usize, all: usize) -> usize {
        self.queue.min((self.queues + mine).saturating_sub(all))
    }

    /// Reserves room among all queues, which contain `all` bytes, for at most `most` more bytes of a queue that contains `mine`.
    /// Shards do this at the same time: what one has reserved is no room for another. Returns the bound of the queue, and the
    /// reserved bytes, which are a part of `all` from now on.
    pub(crate) fn reserve(&self, all: &AtomicUsize, mine: usize, most: usize) -> (usize, usize) {
        let most = most.min(self.queue.saturating_sub(mine));
        let room = |all: usize| most.min(self.queues.saturating_sub(all));
        let update = all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all + room(all)));
        let (Ok(all) | Err(all)) = update;
        (self.queue_bound(mine, all), room(all))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn shards_that_reserve_at_the_same_time_stay_within_the_bound_of_all_queues() {
        let limits = Limits {
            queue: 1 << 20,
            queues: 100,
            connections: 1,
            mailbox: 0,
            reads: 0,
            close_delay: Duration::ZERO,
            compression_level: 1,
            compression_min_size: 0,
            move_age: Duration::ZERO,
        };
        let all = AtomicUsize::new(0);
        thread::scope(|scope| {
            for most in [40, 60, 70] {
                let (limits, all) = (&limits, &all);
                scope.spawn(move || {
                    for _ in 0..100_000 {
                        let (bound, reserved) = limits.reserve(all, 0, most);
                        assert!(reserved <= most && reserved <= bound);
                        assert!(all.load(Ordering::Relaxed) <= limits.queues);
                        all.fetch_sub(reserved, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(all.into_inner(), 0);
        let nearly_full = AtomicUsize::new(90);
        assert_eq!(limits.reserve(&nearly_full, 20, 50), (30, 10));
        assert_eq!(limits.reserve(&nearly_full, 30, 50), (30, 0));
    }
}
