//! What has happened to tables, for the metrics.

use std::sync::atomic::AtomicU64;

/// Numbers of all tables of this process together.
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
    /// Uploads that were refused for want of the right.
    pub unauthorized: AtomicU64,
    /// Errors that viewers were told.
    pub errors: AtomicU64,
}
