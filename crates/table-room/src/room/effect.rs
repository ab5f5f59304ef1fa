//! The interface between the state machine of a room and its task: effects ([`Effect`]) and events ([`Event`]).

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tidings_table::{Cancel, Choice, Error, Writer};
use tidings_table_live::LogSnapshot;
use tidings_table_store::{Quota, Record, Reserved, SaveOutcome, StoreError};
use tokio::sync::oneshot;

use super::work::{Work, WorkResult};
use super::{RoomRequest, SnapshotReply, SnapshotState};
use crate::failure::Failure;
use crate::node_messages::NodeStatus;
use crate::page::{Page, PageRequest};
use crate::upload::{Upload, UploadProgress};

/// An event of a room.
pub enum Event {
    /// A request from a viewer, an upload or another node.
    Request(RoomRequest),
    /// [`Effect::Render`] has ended; `None`: it panicked.
    Rendered(Box<Option<Result<Page, Error>>>),
    /// [`Effect::Work`] has ended; `None`: it panicked.
    WorkDone(Option<Box<WorkResult>>),
    /// [`Effect::Save`] has ended; `None`: it panicked.
    Saved(Option<SaveResult>),
    /// A deadline has passed.
    Tick,
}

/// The result of writing a record, and the files that must still be removed.
pub type SaveResult = (Result<SaveOutcome, StoreError>, Vec<String>);

/// An operation that the task executes for the room.
pub enum Effect {
    /// Computes a page, on a blocking thread. At most one at a time.
    Render(Box<RenderJob>),
    /// Computes the page of a private view, on a blocking thread, and reports [`RoomRequest::PrivateRendered`].
    RenderPrivate(Box<PrivateJob>),
    /// Updates the pages of private views that follow changed rows, one after the other on one blocking thread, and reports
    /// each by [`RoomRequest::PrivateRendered`].
    UpdatePrivate(Vec<PrivateJob>),
    /// Works with the table's writer, on a blocking thread. At most one at a time.
    Work(Box<WorkJob>),
    /// Writes the record and then removes files, on a blocking thread. At most one at a time.
    Save(Box<SaveJob>),
    /// Writes the current rows of a log into a new file, on a blocking thread, and reports [`RoomRequest::LogPrepared`].
    CompactLog(Box<CompactJob>),
    /// Creates a folder and an empty file for an upload, on a blocking thread, and reports
    /// [`RoomRequest::FileCreated`].
    CreateFile(CreateJob),
    /// Starts an upload into a created file, and sends its handle to the uploader.
    StartUpload {
        /// The file.
        file: Box<CreatedFile>,
        /// The number of the upload in its room.
        number: u64,
        /// Whether it creates the table.
        is_first: bool,
        /// The announced size in bytes.
        size: Option<u64>,
        /// The progress that the room observes.
        progress: Arc<UploadProgress>,
        /// The channel of its handle.
        reply: UploadReply,
    },
    /// Removes a file that did not become the table's.
    Discard(String),
    /// Records in the store that the table is in use.
    Touch,
    /// Sends a snapshot.
    Snapshot(SnapshotReply, Box<SnapshotState>),
    /// Sends the table's state to the other nodes, or the people alone.
    Notify(Box<NodeStatus>, Option<Box<Record>>),
    /// Publishes a view in the table's channel.
    Publish(String),
    /// Removes the room from the open tables. The next request opens the table again.
    Unregister,
    /// Deletes the table from the store, after a running save.
    Delete,
}

/// The response to an upload command.
pub type UploadReply = oneshot::Sender<Result<Upload, Failure>>;

/// A page to compute.
pub struct RenderJob {
    /// The page.
    pub wanted: PageRequest,
    /// Cancels the computation.
    pub cancel: Cancel,
    /// The completed fraction, as the bits of an `f32`.
    pub done: Arc<AtomicU32>,
}

/// A page of a private view to compute.
pub struct PrivateJob {
    /// The number of the viewer.
    pub viewer: u64,
    /// The number of the computation.
    pub number: u64,
    /// The page.
    pub render: RenderJob,
    /// Completes when the page is not needed any more.
    pub stopped: oneshot::Receiver<()>,
}

/// Work for the table's writer.
pub struct WorkJob {
    /// The item of work.
    pub work: Work,
    /// The name of the table's file.
    pub file: String,
    /// `None`: the file must be opened first.
    pub writer: Option<Writer>,
    /// The choices with which the file is opened.
    pub choice: Choice,
    /// The names of the columns that are the key of a row; empty: none.
    pub key: Vec<String>,
    /// The key of the quota that appended rows count for.
    pub uploader: String,
    /// Cancels the work.
    pub cancel: Cancel,
    /// The completed fraction, as the bits of an `f32`.
    pub done: Arc<AtomicU32>,
}

/// A log to compact.
pub struct CompactJob {
    /// The name of the table's file.
    pub file: String,
    /// The choices with which the file is opened.
    pub choice: Choice,
    /// The rows.
    pub snapshot: LogSnapshot,
    /// About the size of the new file in bytes.
    pub expected_bytes: u64,
    /// Cancels the work.
    pub cancel: Cancel,
}

/// A record to write or remove.
pub struct SaveJob {
    /// The record.
    pub record: Record,
    /// `false`: the record of a first upload that failed is removed.
    pub is_table: bool,
    /// Files that no record names after this one is written.
    pub obsolete: Vec<String>,
}

/// A file to create.
pub struct CreateJob {
    /// The number of the upload in its room.
    pub number: u64,
    /// The quota that the file counts for.
    pub quota: Quota,
    /// The choices with which the file is read.
    pub choice: Choice,
    /// The channel of the handle of the upload.
    pub reply: UploadReply,
}

/// A file that was created for an upload.
pub struct CreatedFile {
    /// The name of the file.
    pub name: String,
    /// Its writer.
    pub writer: Writer,
    /// Its reserved bytes.
    pub reserved: Reserved,
}
