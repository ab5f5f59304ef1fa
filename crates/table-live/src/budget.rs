//! The memory of key indexes and live views.
//!
//! Invariants:
//! - The sum of all shares is at most the limit, except for the rows that other nodes add to an open table.
//! - Views take at most three quarters together with the keys. The last quarter is for keys alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of memory that many tables share. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// The bytes of one holder, released on drop.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    /// The sum of all shares up to which this one may grow.
    limit: usize,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { used: Arc::default(), limit }
    }

    /// The limit in bytes.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A share without bytes.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), limit: self.limit, bytes: 0 }
    }

    /// A share of a view, without bytes: it does not grow into the last quarter of the budget.
    pub(crate) fn view_share(&self) -> Share {
        Share { budget: self.clone(), limit: self.limit / 4 * 3, bytes: 0 }
    }
}

impl Share {
    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Sets the bytes of the holder if the limit permits it, and returns whether it does. Fewer bytes are always permitted.
    pub fn try_set(&mut self, bytes: usize) -> bool {
        let (used, limit) = (&self.budget.used, self.limit);
        let is_set = bytes <= self.bytes
            || used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                    let next = used - self.bytes + bytes;
                    (next <= limit).then_some(next)
                })
                .is_ok();
        if is_set {
            if bytes <= self.bytes {
                used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            }
            self.bytes = bytes;
        }
        is_set
    }

    /// Sets the bytes of the holder, also above the limit.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_limit_and_are_released() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (budget.share(), budget.share());
        assert!(first.try_set(70) && !second.try_set(31) && second.try_set(30));
        assert!(first.try_set(10), "fewer bytes are always permitted");
        assert!(second.try_set(90) && !first.try_set(11));
        drop(second);
        assert_eq!(budget.used(), 10);
        first.set(200);
        assert!(!budget.share().try_set(1));
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn views_leave_a_quarter_of_the_memory_to_keys() {
        let budget = Budget::new(100);
        let (mut keys, mut view) = (budget.share(), budget.view_share());
        assert!(keys.try_set(20) && !view.try_set(56) && view.try_set(55));
        assert!(keys.try_set(45) && !view.try_set(56) && view.try_set(50));
    }
}
