//! Counters for the metrics.

use std::sync::atomic::AtomicU64;

/// Counters of all tables of this process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Tables in memory now.
    pub open: AtomicU64,
    /// Viewers now.
    pub viewers: AtomicU64,
    /// Uploads that have ended: whole, aborted, failed.
    pub uploads: [AtomicU64; 3],
    /// Bytes of files that were uploaded, whole or not.
    pub bytes: AtomicU64,
    /// Rows of files that were uploaded whole, and rows that were appended.
    pub rows: AtomicU64,
    /// Views that were encoded; each is sent to any number of viewers.
    pub views: AtomicU64,
    /// Uploads that were refused without permission.
    pub unauthorized: AtomicU64,
    /// Errors that were sent to viewers.
    pub errors: AtomicU64,
}
