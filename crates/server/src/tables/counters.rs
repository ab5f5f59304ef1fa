//! What has happened to tables, for the metrics.

use std::sync::atomic::AtomicU64;

/// Numbers of all tables of this process together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Tables in memory now.
    pub(crate) open: AtomicU64,
    /// Viewers now.
    pub(crate) viewers: AtomicU64,
    /// Uploads that have ended: whole, aborted, failed.
    pub(crate) uploads: [AtomicU64; 3],
    /// Bytes of files that were uploaded, whole or not.
    pub(crate) bytes: AtomicU64,
    /// Rows of files that were uploaded whole, and rows that were appended.
    pub(crate) rows: AtomicU64,
    /// Views that were encoded; each is sent to any number of viewers.
    pub(crate) views: AtomicU64,
    /// Uploads that were refused for want of the right.
    pub(crate) unauthorized: AtomicU64,
    /// Errors that viewers were told.
    pub(crate) errors: AtomicU64,
}
