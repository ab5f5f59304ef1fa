//! Work with a table's writer, and its results.

use std::sync::Arc;

use tidings_table::{Choice, Writer};
use tidings_table_store::{DialectOptions, StoreError};
use tokio::sync::oneshot;

use super::{CommandReply, PreparedLog};
use crate::failure::Failure;
use crate::people::ChangedBy;
use crate::rows::{AppendReport, Rows};

/// An item of work for the writer.
pub enum Work {
    /// Open the file that the record names.
    Open,
    /// Read rows that other nodes appended.
    CatchUp,
    /// Read the file in another dialect.
    Reread(DialectOptions, Choice, RereadReply),
    /// Append rows.
    Append(Vec<PendingAppend>),
    /// Read the keys of the rows.
    Key(KeyRequest),
    /// Replace the log by a new file.
    ReplaceLog(Box<PreparedLog>),
}

/// A request to identify rows by a key.
pub struct KeyRequest {
    /// The names of the columns of the key.
    pub key: Vec<String>,
    /// The viewer that receives an error without a channel of a response.
    pub viewer: u64,
    /// The author of the change.
    pub author: Option<ChangedBy>,
    /// The channel of the response; `None`: the key came with a file.
    pub done: Option<CommandReply>,
}

/// The viewer that changed the dialect, and the channel of its response.
pub struct RereadReply {
    /// The viewer.
    pub author: Option<ChangedBy>,
    /// The channel of the response.
    pub done: CommandReply,
}

/// Rows to append, and the channel of the response.
pub struct PendingAppend {
    /// The rows.
    pub rows: Arc<Rows>,
    /// The channel of the response.
    pub reply: oneshot::Sender<Result<AppendReport, Failure>>,
}

/// The result of an item of work.
pub struct WorkResult {
    /// `None`: the writer is unusable, and the file must be opened again.
    pub writer: Option<Writer>,
    /// The outcome.
    pub answer: WorkOutcome,
}

impl WorkResult {
    /// The result when the file could not be opened.
    #[cfg(test)]
    pub const fn not_opened(error: StoreError) -> Self {
        Self { writer: None, answer: WorkOutcome::Opened(Err(error)) }
    }
}

/// The outcome by kind of work, with the channels of its responses.
pub enum WorkOutcome {
    /// The file was opened.
    Opened(Result<(), StoreError>),
    /// Rows of other nodes were read.
    CaughtUp(Result<(), StoreError>),
    /// The file was read in another dialect.
    Reread(DialectOptions, Result<(), Failure>, RereadReply),
    /// Rows were appended.
    Appended(Vec<(Result<AppendReport, Failure>, PendingAppend)>),
    /// The keys of the rows were read.
    Keyed(Result<(), Failure>, KeyRequest),
    /// The log was replaced, with the bytes of both files, or stays.
    Compacted(Result<(u64, u64), Failure>),
}
