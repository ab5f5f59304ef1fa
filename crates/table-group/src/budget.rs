//! The memory of all grouped views of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_table::Error;

/// The most bytes that all grouped views of a process hold.
pub const MAX_TOTAL_BYTES: u64 = 256 << 20;

/// The bytes of all grouped views, of at most [`MAX_TOTAL_BYTES`]. Clones share them.
#[derive(Clone, Debug)]
pub struct Budget(Arc<State>);

#[derive(Debug)]
struct State {
    used: AtomicU64,
    limit: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(MAX_TOTAL_BYTES)
    }
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(State { used: AtomicU64::new(0), limit }))
    }

    /// The reserved bytes.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }
}

/// The bytes of one view, released on drop.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: Budget,
    bytes: u64,
}

impl Reserved {
    pub(crate) const fn new(budget: Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    pub(crate) fn budget(&self) -> Budget {
        self.budget.clone()
    }

    /// Changes the reservation.
    ///
    /// # Errors
    /// [`Error::Full`] when all views together would exceed the budget.
    pub(crate) fn set(&mut self, bytes: u64) -> Result<(), Error> {
        let State { used, limit } = &*self.budget.0;
        if bytes <= self.bytes {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        } else {
            let more = bytes - self.bytes;
            let grown = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more).filter(|used| used <= limit)
            });
            grown.map_err(|_| Error::Full { what: "all grouped views together", limit: *limit })?;
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_share_a_budget_and_release_their_part() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (Reserved::new(budget.clone()), Reserved::new(budget.clone()));
        a.set(60).expect("fits");
        assert!(matches!(b.set(41), Err(Error::Full { limit: 100, .. })));
        a.set(30).expect("shrinks");
        b.set(41).expect("fits now");
        assert_eq!(budget.used(), 71);
        drop(a);
        assert_eq!(budget.used(), 41);
    }
}
