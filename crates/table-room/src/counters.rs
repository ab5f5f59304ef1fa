//! Counters for the metrics.

use std::sync::atomic::AtomicU64;

use tidings_metrics::{KeyedCounters, labels};

/// Counters of all tables of this process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Open tables.
    pub open: AtomicU64,
    /// Connected viewers.
    pub viewers: AtomicU64,
    /// Viewers that are not in a list of people, because it is full.
    pub unlisted: AtomicU64,
    /// Private views of viewers.
    pub private_views: AtomicU64,
    /// Ended uploads by outcome.
    pub uploads: KeyedCounters<UploadEnd>,
    /// Received bytes of files and rows.
    pub bytes: AtomicU64,
    /// Rows of complete uploads, and appended rows.
    pub rows: AtomicU64,
    /// Rows that were replaced by key.
    pub updated_rows: AtomicU64,
    /// Rows that were removed by key.
    pub removed_rows: AtomicU64,
    /// Compactions of logs of rows with a key, by outcome.
    pub compactions: KeyedCounters<CompactionEnd>,
    /// The bytes by which compactions have made logs smaller.
    pub compacted_bytes: AtomicU64,
    /// Encoded messages about cells that changed in place.
    pub cell_messages: AtomicU64,
    /// Encoded views. Each is sent to any number of viewers.
    pub views: AtomicU64,
    /// Uploads that were rejected without permission.
    pub unauthorized: AtomicU64,
    /// Errors sent to viewers.
    pub errors: AtomicU64,
}

labels! {
    /// How an upload ended.
    pub enum UploadEnd {
        /// The file is complete.
        Whole => "whole",
        /// The client aborted it or disconnected.
        Aborted => "aborted",
        /// The file could not be stored.
        Failed => "failed",
    }
}

labels! {
    /// How a compaction ended.
    pub enum CompactionEnd {
        /// The new file has replaced the log.
        Done => "done",
        /// The log stays as it is.
        Failed => "failed",
    }
}

labels! {
    /// The limit for which an upload was rejected.
    pub enum UploadLimit {
        /// The number of all uploads.
        Total => "uploads",
        /// The number of uploads of one requester.
        Requester => "own_uploads",
    }
}
