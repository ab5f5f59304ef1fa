//! One live table: the state that all viewers at its link share, and the task that runs it.
//!
//! ```text
//! task.rs     the task: receives requests, runs effects on other threads, and sleeps until the next deadline
//! state.rs    the room: `now` and events in ([`effect::Event`]), effects out ([`effect::Effect`])
//! timers.rs   its deadlines
//! members.rs  viewers and their commands        uploads.rs    incoming files
//! writing.rs  the queue of work                 work.rs       one piece of it, on a thread
//! rendering.rs  pages
//! nodes.rs    the table on other nodes          saving.rs     its record
//! ```
//!
//! Viewers, uploads and HTTP requests send [`RoomRequest`]s. The room is the one place where a table changes.
//!
//! Invariants:
//! - The room takes the time as an argument and touches no disk, no network and no other task: what it orders comes back
//!   as an event. So it is tested without a disk and without waiting.
//! - One page is made at a time, and one piece of work has the table's writer. A newer request cancels the making of rows
//!   that it would replace.
//! - The old file stays until the new one is complete; an incomplete file leaves nothing behind.

mod effect;
mod members;
mod nodes;
mod rendering;
mod saving;
mod state;
mod task;
#[cfg(test)]
mod tests;
mod timers;
mod uploads;
mod work;
mod writing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_table::{Table, Types, View};
use tidings_wire::ws::CloseCode;
use tokio::sync::oneshot;

use super::broadcast::Form;
use super::command::Command;
use super::failure::Failure;
use super::message::About;
use super::node_messages::NodeMessage;
use super::outbox::Outbox;
use super::quota::Quota;
use super::rows::{Added, Rows};
use super::store::{Reserved, TableFolder};
use super::upload::{Upload, UploadOutcome};
use effect::{CreatedFile, UploadReply};

pub(super) use members::ViewerHandle;
pub(super) use task::start;

/// The queue of requests, in requests. A sender waits while it is full.
const ASKS: usize = 256;
/// The close code of a connection whose table does not exist.
pub(super) const GONE: CloseCode = CloseCode(4404);
/// The close code of a server that stops or restarts (RFC 6455's registry: 1012).
pub(super) const RESTART: CloseCode = CloseCode(1012);

/// A request to a room.
pub(super) enum RoomRequest {
    /// A viewer joins.
    Join(JoinRequest),
    /// A viewer leaves.
    Leave(u64),
    /// A viewer changes the table or its view.
    Do { viewer: u64, command: Command, done: CommandReply },
    /// A viewer begins to upload.
    Upload {
        viewer: u64,
        name: String,
        size: Option<u64>,
        quota: Quota,
        reply: oneshot::Sender<Result<Upload, Failure>>,
    },
    /// A viewer claims ownership.
    Own { viewer: u64, secret: String, reply: CommandReply },
    /// The file of an upload is created, or cannot be.
    FileCreated { number: u64, created: Box<Result<CreatedFile, Failure>>, reply: UploadReply },
    /// An upload has enough rows for a page.
    FirstRows { number: u64, table: Table },
    /// An upload has ended. `reserved` is set when the file is complete.
    UploadEnded { number: u64, outcome: UploadOutcome, reserved: Option<Reserved>, end: oneshot::Sender<()> },
    /// The file on disk is being opened, and its first rows can be viewed.
    Opening(Table),
    /// A backend asks for permission to append, with the owner's secret.
    MayAppend { secret: String, reply: CommandReply },
    /// A backend appends rows.
    Append { rows: Arc<Rows>, secret: String, reply: oneshot::Sender<Result<Added, Failure>> },
    /// A session or an HTTP request needs a snapshot of the table.
    Snapshot(SnapshotReply),
    /// Another node has sent a message.
    NodeMessage(Box<NodeMessage>),
    /// Other tables need bytes on the disk: an unused table is closed, and the sender dropped once it is; else at once.
    PutAway(std::sync::mpsc::Sender<()>),
    /// The server stops; viewers are disconnected within this time.
    Stop(Duration),
}

/// A viewer that joins.
pub(super) struct JoinRequest {
    pub(super) form: Form,
    /// The secret that the viewer sends to claim ownership.
    pub(super) secret: Option<String>,
    /// Whether the table was created for this viewer; then there is nothing to show before its upload.
    pub(super) is_creator: bool,
    pub(super) outbox: Arc<Outbox>,
    pub(super) reply: oneshot::Sender<ViewerHandle>,
}

/// The response to a command.
pub(super) type CommandReply = oneshot::Sender<Result<(), Failure>>;

/// A table at one moment, for private windows and HTTP.
pub(super) struct Snapshot {
    pub(super) view: Arc<View>,
    /// The view of the article's page, if it is open.
    pub(super) article: Option<Arc<View>>,
    pub(super) about: About,
    /// The folder of the file.
    pub(super) folder: PathBuf,
    pub(super) facts: FactsCache,
    /// Keeps the table from being evicted while the snapshot is in use.
    pub(super) place: Arc<TableFolder>,
}

/// A snapshot without the folder of the file, which the task adds.
pub(in crate::room) struct SnapshotState {
    view: Arc<View>,
    article: Option<Arc<View>>,
    about: About,
    file: String,
    facts: FactsCache,
}

/// The response to a request for a snapshot.
pub(super) type SnapshotReply = oneshot::Sender<Result<Snapshot, Failure>>;

/// Column facts, with the bytes of the file and the types of columns that they were made of. The task that makes them holds
/// the lock; concurrent requests wait for it and find them made.
pub(super) type FactsCache = Arc<tokio::sync::Mutex<Option<((u64, Types), Bytes)>>>;
