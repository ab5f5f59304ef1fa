//! Budgets of bytes: for all stored state together, and for the histories of one namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory of a stored result or member besides its texts.
pub(super) const RECORD_OVERHEAD: usize = 320;

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

    /// Reserves bytes; returns `false` and reserves nothing when they are not available.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= self.limit)
        });
        taken.is_ok()
    }

    /// Releases reserved bytes.
    pub(super) fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// The limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExceededBudget {
    /// Of the namespace.
    Namespace,
    /// Of all stored state.
    Total,
}

/// The budgets of a history: its namespace's, and the total.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) namespace: Arc<Budget>,
    pub(super) total: Arc<Budget>,
}

impl Account {
    /// Reserves bytes in both.
    ///
    /// # Errors
    /// The budget that lacks the bytes; then none are reserved.
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), ExceededBudget> {
        if !self.namespace.reserve(bytes) {
            return Err(ExceededBudget::Namespace);
        }
        if !self.total.reserve(bytes) {
            self.namespace.release(bytes);
            return Err(ExceededBudget::Total);
        }
        Ok(())
    }

    pub(super) fn release(&self, bytes: usize) {
        self.namespace.release(bytes);
        self.total.release(bytes);
    }
}
