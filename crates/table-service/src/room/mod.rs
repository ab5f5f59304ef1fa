//! One live table: the state that all its viewers share, and the task that runs it.
//!
//! ```text
//! task.rs     the task: receives requests, executes effects on other threads, and sleeps until the next deadline
//! state.rs    the room: `now` and events in ([`effect::Event`]), effects out ([`effect::Effect`])
//! timers.rs   its deadlines
//! members.rs  viewers and their commands        uploads.rs    incoming files
//! writing.rs  the queue of work                 work.rs       one item of it, on a thread
//! rendering.rs  pages
//! upload_thread.rs  the thread of an upload
//! nodes.rs    the table on other nodes          saving.rs     its record
//! people.rs   names, colours and cursors        private.rs    private views of viewers
//! history.rs  undo and redo                     previous.rs   the file that can be restored
//! ```
//!
//! Viewers, uploads and HTTP requests send [`RoomRequest`]s. The room is the one place where a table changes.
//!
//! Invariants:
//! - The room takes the time as an argument and uses no disk, no network and no other task: results of effects return
//!   as events. So it is tested without a disk and without waiting.
//! - One page is computed at a time, and one item of work has the table's writer. A newer request cancels the
//!   computation of rows that it replaces.
//! - Private views are computed besides the shared one, a few at a time, and never delay its pages for long.
//! - The old file stays until the new one is complete. An incomplete file is removed.

mod effect;
mod history;
mod members;
mod nodes;
mod people;
mod previous;
mod private;
mod rendering;
mod saving;
mod state;
mod task;
#[cfg(test)]
mod tests;
mod timers;
mod upload_thread;
mod uploads;
mod work;
mod writing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_table::{Error, Table, TypeChoices, View};
use tidings_table_store::{Quota, Reserved, TableFolder};
use tidings_wire::ws::CloseCode;
use tokio::sync::oneshot;

use super::broadcast::ViewFormat;
use super::command::{Command, UploadOptions};
use super::failure::Failure;
use super::message::TableInfo;
use super::node_messages::NodeMessage;
use super::outbox::Outbox;
use super::page::Page;
use super::people::Actor;
use super::rows::{AppendReport, Rows};
use super::summary::TableSummary;
use super::upload::{Upload, UploadOutcome};
use effect::{CreatedFile, UploadReply};

pub(super) use members::ViewerHandle;
pub(super) use task::start;

/// The capacity of the queue of requests. Senders wait while it is full.
const MAX_REQUESTS: usize = 256;
/// The close code for a table that does not exist.
pub(super) const CLOSE_NO_TABLE: CloseCode = CloseCode(4404);
/// The close code of a server that stops or restarts (RFC 6455's registry: 1012).
pub(super) const CLOSE_RESTART: CloseCode = CloseCode(1012);

/// A request to a room.
pub(super) enum RoomRequest {
    /// A viewer joins.
    Join(JoinRequest),
    /// A viewer leaves.
    Leave(u64),
    /// A viewer changes the table or its view.
    Command { viewer: u64, command: Command, done: CommandReply },
    /// A viewer begins to upload.
    Upload {
        viewer: u64,
        options: UploadOptions,
        quota: Quota,
        reply: oneshot::Sender<Result<Upload, Failure>>,
    },
    /// A viewer claims ownership.
    ClaimOwnership { viewer: u64, secret: String, reply: CommandReply },
    /// The file of an upload is created, or cannot be.
    FileCreated { number: u64, created: Box<Result<CreatedFile, Failure>>, reply: UploadReply },
    /// An upload has enough rows for a page.
    FirstRows { number: u64, table: Table },
    /// An upload has ended. `reserved` is set when the file is complete.
    UploadEnded { number: u64, outcome: UploadOutcome, reserved: Option<Reserved>, end: oneshot::Sender<()> },
    /// The file on the disk is being opened, and its first rows are available.
    Opening(Table),
    /// A backend requests permission to append, with the owner's secret.
    CheckAppend { secret: String, reply: CommandReply },
    /// A backend appends rows.
    Append { rows: Arc<Rows>, secret: String, reply: oneshot::Sender<Result<AppendReport, Failure>> },
    /// A session or an HTTP request requests a snapshot of the table.
    Snapshot(SnapshotReply),
    /// A viewer requests the rows of its private view, with the version of the view.
    PrivateRows { viewer: u64, reply: oneshot::Sender<Result<(Arc<View>, u64), Failure>> },
    /// The page of a private view is computed; `None`: that panicked.
    PrivateRendered { viewer: u64, number: u64, made: Option<Box<Result<Page, Error>>> },
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
pub(super) struct JoinRequest {
    pub(super) form: ViewFormat,
    /// The secret with which the viewer claims ownership.
    pub(super) secret: Option<String>,
    /// The kind of the client.
    pub(super) actor: Actor,
    /// Whether the table was created for this viewer, and has no content before its upload.
    pub(super) is_creator: bool,
    pub(super) outbox: Arc<Outbox>,
    pub(super) reply: oneshot::Sender<ViewerHandle>,
}

/// The response to a command.
pub(super) type CommandReply = oneshot::Sender<Result<(), Failure>>;

/// The state of a table at one moment, for private windows and HTTP.
pub(super) struct Snapshot {
    pub(super) view: Arc<View>,
    /// The view of the article's page, if it is open.
    pub(super) article: Option<Arc<View>>,
    pub(super) info: TableInfo,
    /// The folder of the file.
    pub(super) folder: PathBuf,
    pub(super) facts: FactsCache,
    /// Protects the table from eviction while the snapshot is in use.
    pub(super) table_folder: Arc<TableFolder>,
}

/// A snapshot without the folder of the file, which the task adds.
pub(in crate::room) struct SnapshotState {
    view: Arc<View>,
    article: Option<Arc<View>>,
    info: TableInfo,
    file: String,
    facts: FactsCache,
}

/// The response to a request for a snapshot.
pub(super) type SnapshotReply = oneshot::Sender<Result<Snapshot, Failure>>;

/// Column facts, with the size of the file and the types of columns that they were computed from. The task that
/// computes them holds the lock; concurrent requests wait for the lock and find the result.
pub(super) type FactsCache = Arc<tokio::sync::Mutex<Option<((u64, TypeChoices), Bytes)>>>;
