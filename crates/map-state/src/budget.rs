//! A limit of bytes for all maps of a broker.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count of bytes with a limit, shared by several [`Maps`](crate::Maps).
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    /// The reserved bytes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Reserves bytes; returns `false` and reserves nothing when they are not available.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes as u64).filter(|sum| *sum <= self.limit)
        });
        taken.is_ok()
    }

    /// Releases reserved bytes.
    pub(crate) fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}
