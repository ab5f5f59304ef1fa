//! How many bytes everything remembered may take together, and what the histories of one namespace may take of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count of bytes with a limit, shared by all stripes.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    /// Takes that many bytes, or none when so many are not left.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= self.limit)
        });
        taken.is_ok()
    }

    /// Gives back what was taken.
    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Which limit leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// That of the namespace.
    Namespace,
    /// That of everything.
    Total,
}

/// The budgets of a history: its namespace's, and that of everything.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) namespace: Arc<Budget>,
    pub(super) total: Arc<Budget>,
}

impl Account {
    /// Takes that many bytes from both.
    ///
    /// # Errors
    /// Which of them has not so many left; then none are taken.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Full> {
        if !self.namespace.take(bytes) {
            return Err(Full::Namespace);
        }
        if !self.total.take(bytes) {
            self.namespace.give(bytes);
            return Err(Full::Total);
        }
        Ok(())
    }

    pub(super) fn give(&self, bytes: usize) {
        self.namespace.give(bytes);
        self.total.give(bytes);
    }
}
