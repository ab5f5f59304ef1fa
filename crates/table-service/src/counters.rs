//! Counters for the metrics.

use std::sync::atomic::AtomicU64;

use tidings_table_store::{CounterKey, CountersBy};

/// Counters of all tables of this process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Open tables.
    pub open: AtomicU64,
    /// Connected viewers.
    pub viewers: AtomicU64,
    /// Ended uploads by outcome.
    pub uploads: CountersBy<UploadEnd>,
    /// Received bytes of files and rows.
    pub bytes: AtomicU64,
    /// Rows of complete uploads, and appended rows.
    pub rows: AtomicU64,
    /// Encoded views. Each is sent to any number of viewers.
    pub views: AtomicU64,
    /// Uploads that were rejected without permission.
    pub unauthorized: AtomicU64,
    /// Errors sent to viewers.
    pub errors: AtomicU64,
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadEnd {
    /// The file is complete.
    Whole,
    /// The client aborted it or disconnected.
    Aborted,
    /// The file could not be stored.
    Failed,
}

impl CounterKey for UploadEnd {
    const ALL: &'static [Self] = &[Self::Whole, Self::Aborted, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

/// The limit for which an upload was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadLimit {
    /// The number of all uploads.
    Total,
    /// The number of uploads of one requester.
    Requester,
}

impl CounterKey for UploadLimit {
    const ALL: &'static [Self] = &[Self::Total, Self::Requester];

    fn label(self) -> &'static str {
        match self {
            Self::Total => "uploads",
            Self::Requester => "own_uploads",
        }
    }
}
