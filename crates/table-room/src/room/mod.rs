//! One live table: the state that all its viewers share, as a state machine.
//!
//! ```text
//! state.rs    the room: `now` and events in ([`Event`]), effects out ([`Effect`])
//! timers.rs   its deadlines
//! members.rs  viewers and their commands        uploads.rs    incoming files
//! writing.rs  the queue of work                 work.rs       items of it, and their results
//! rendering.rs  pages
//! nodes.rs    the table on other nodes          saving.rs     its record
//! people.rs   names, colours and cursors        private.rs    private views of viewers
//! history.rs  undo and redo                     previous.rs   the file that can be restored
//! keys.rs     rows that are replaced and removed by key    compaction.rs  its log
//! ```
//!
//! Viewers, uploads and HTTP requests send [`RoomRequest`]s. The room is the one place where a table changes.
//!
//! Invariants:
//! - The room takes the time as an argument and uses no disk, no network and no other task: a task carries out its
//!   effects, and their results return as events. So it is tested without a disk and without waiting.
//! - One page is computed at a time, and one item of work has the table's writer. A newer request cancels the
//!   computation of rows that it replaces.
//! - Private views are computed besides the shared one, a few at a time, and never delay its pages for long.
//! - The old file stays until the new one is complete. An incomplete file is removed.

mod compaction;
mod effect;
mod history;
mod keys;
mod members;
mod nodes;
mod people;
mod previous;
mod private;
mod rendering;
mod saving;
mod state;
#[cfg(test)]
mod tests;
mod timers;
mod uploads;
mod work;
mod writing;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_table::{Error, Table, TypeChoices};
use tidings_table_store::{Quota, Reserved, TableFolder};
use tidings_wire::ws::CloseCode;
use tokio::sync::oneshot;

use crate::broadcast::ViewFormat;
use crate::command::{Command, UploadOptions};
use crate::failure::Failure;
use crate::message::TableInfo;
use crate::node_messages::NodeMessage;
use crate::outbox::Outbox;
use crate::page::Page;
use crate::people::Actor;
use crate::rows::{AppendReport, Rows};
use crate::summary::TableSummary;
use crate::upload::{Upload, UploadOutcome, UploadReport};
use crate::view_rows::ViewRows;

pub use compaction::PreparedLog;
pub use effect::{
    CompactJob, CreateJob, CreatedFile, Effect, Event, PrivateJob, RenderJob, SaveJob, SaveResult,
    UploadReply, WorkJob,
};
pub use members::ViewerHandle;
pub use state::{Room, Settings};
pub use work::{KeyRequest, PendingAppend, RereadReply, Work, WorkOutcome, WorkResult};

/// The capacity of the queue of requests. Senders wait while it is full.
pub const MAX_REQUESTS: usize = 256;
/// The close code for a table that does not exist.
pub const CLOSE_NO_TABLE: CloseCode = CloseCode(4404);
/// The close code of a server that stops or restarts (RFC 6455's registry: 1012).
pub const CLOSE_RESTART: CloseCode = CloseCode(1012);

/// A request to a room.
pub enum RoomRequest {
    /// A viewer joins.
    Join(JoinRequest),
    /// A viewer leaves.
    Leave(u64),
    /// A viewer changes the table or its view.
    Command {
        /// The number of the viewer.
        viewer: u64,
        /// The command.
        command: Command,
        /// The channel of the response.
        done: CommandReply,
    },
    /// A viewer begins to upload.
    Upload {
        /// The number of the viewer.
        viewer: u64,
        /// The options of the upload.
        options: UploadOptions,
        /// The quota that the file counts for.
        quota: Quota,
        /// The channel of the handle.
        reply: oneshot::Sender<Result<Upload, Failure>>,
    },
    /// A viewer claims ownership.
    ClaimOwnership {
        /// The number of the viewer.
        viewer: u64,
        /// The secret that it has.
        secret: String,
        /// The channel of the response.
        reply: CommandReply,
    },
    /// The file of an upload is created, or cannot be.
    FileCreated {
        /// The number of the upload.
        number: u64,
        /// The file.
        created: Box<Result<CreatedFile, Failure>>,
        /// The channel of the handle of the upload.
        reply: UploadReply,
    },
    /// An upload has enough rows for a page.
    FirstRows {
        /// The number of the upload.
        number: u64,
        /// The rows so far.
        table: Table,
    },
    /// An upload has ended.
    UploadEnded {
        /// The number of the upload.
        number: u64,
        /// Its outcome.
        outcome: UploadOutcome,
        /// The reserved bytes of a complete file.
        reserved: Option<Reserved>,
        /// Receives the outcome when it is applied.
        end: UploadReport,
    },
    /// The file on the disk is being opened, and its first rows are available.
    Opening(Table),
    /// A backend requests permission to append, with the owner's secret.
    CheckAppend {
        /// The secret.
        secret: String,
        /// The channel of the response.
        reply: CommandReply,
    },
    /// A backend appends rows.
    Append {
        /// The rows.
        rows: Arc<Rows>,
        /// The owner's secret.
        secret: String,
        /// The channel of the response.
        reply: oneshot::Sender<Result<AppendReport, Failure>>,
    },
    /// A session or an HTTP request requests a snapshot of the table.
    Snapshot(SnapshotReply),
    /// A viewer requests the rows of its private view.
    PrivateRows {
        /// The number of the viewer.
        viewer: u64,
        /// The positions of the rows that it will be shown.
        positions: Range<u64>,
        /// The channel of the rows, with the version of the view.
        reply: oneshot::Sender<Result<(ViewRows, u64), Failure>>,
    },
    /// The page of a private view is computed.
    PrivateRendered {
        /// The number of the viewer.
        viewer: u64,
        /// The number of the computation.
        number: u64,
        /// Whether it was a computation of its own, and not a part of a round.
        is_full: bool,
        /// The page; `None`: the computation panicked.
        made: Option<Box<Result<Page, Error>>>,
    },
    /// The new file of a log is prepared; `None`: another process compacts the log.
    LogPrepared {
        /// The name of the table's file.
        file: String,
        /// The new file.
        prepared: Box<Result<Option<PreparedLog>, Failure>>,
    },
    /// An operator requests a summary of the table.
    Summary(oneshot::Sender<TableSummary>),
    /// An operator deletes the table.
    Delete(oneshot::Sender<()>),
    /// Another node has sent a message.
    NodeMessage(Box<NodeMessage>),
    /// Other tables need bytes on the disk: an unused table is closed and then drops the sender; a used one drops it at
    /// once.
    CloseIdle(std::sync::mpsc::Sender<()>),
    /// The server stops. Viewers are disconnected within this time.
    Stop(Duration),
}

/// A viewer that joins.
pub struct JoinRequest {
    /// The endpoint.
    pub form: ViewFormat,
    /// The secret with which the viewer claims ownership.
    pub secret: Option<String>,
    /// The kind of the client.
    pub actor: Actor,
    /// Whether the table was created for this viewer, and has no content before its upload.
    pub is_creator: bool,
    /// The queue of the viewer.
    pub outbox: Arc<Outbox>,
    /// The channel of its handle.
    pub reply: oneshot::Sender<ViewerHandle>,
}

/// The response to a command.
pub type CommandReply = oneshot::Sender<Result<(), Failure>>;

/// The state of a table at one moment, for private windows and HTTP.
pub struct Snapshot {
    /// The rows.
    pub view: ViewRows,
    /// The view of the article's page, if it is open.
    pub article: Option<ViewRows>,
    /// The fields of a view.
    pub info: TableInfo,
    /// The folder of the file.
    pub folder: PathBuf,
    /// The cached column facts.
    pub facts: FactsCache,
    /// Protects the table from eviction while the snapshot is in use.
    pub table_folder: Arc<TableFolder>,
}

/// A snapshot without the folder of the file, which the task adds.
pub struct SnapshotState {
    /// The rows.
    pub view: ViewRows,
    /// The view of the article's page, if it is open.
    pub article: Option<ViewRows>,
    /// The fields of a view.
    pub info: TableInfo,
    /// The name of the file.
    pub file: String,
    /// The cached column facts.
    pub facts: FactsCache,
}

/// The response to a request for a snapshot.
pub type SnapshotReply = oneshot::Sender<Result<Snapshot, Failure>>;

/// Column facts, with the size of the file and the types of columns that they were computed from. The task that
/// computes them holds the lock; concurrent requests wait for the lock and find the result.
pub type FactsCache = Arc<tokio::sync::Mutex<Option<((u64, TypeChoices), Bytes)>>>;
