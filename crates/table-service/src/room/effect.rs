//! What a room orders ([`Effect`]) and what it learns ([`Event`]): the seam between the state machine and the task that runs
//! it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tidings_table::{Cancel, Choice, Error, Writer};
use tokio::sync::oneshot;

use super::work::{Work, WorkResult};
use super::{RoomRequest, SnapshotReply, SnapshotState};
use crate::failure::Failure;
use crate::node_messages::NodeStatus;
use crate::page::{Page, Wanted};
use crate::quota::Quota;
use crate::record::Record;
use crate::store::{Reserved, Saved, StoreError};
use crate::upload::{Upload, UploadProgress};

/// What has happened.
pub(super) enum Event {
    /// A request from a viewer, an upload or another node.
    Request(RoomRequest),
    /// [`Effect::Render`] has ended; `None`: it has panicked.
    Rendered(Option<Result<Page, Error>>),
    /// [`Effect::Work`] has ended; `None`: it has panicked.
    WorkDone(Option<Box<WorkResult>>),
    /// [`Effect::Save`] has ended; `None`: it has panicked.
    Saved(Option<SaveOutcome>),
    /// Time has passed.
    Tick,
}

/// What became of a record that was to be written, and the files that must still be removed.
pub(super) type SaveOutcome = (Result<Saved, StoreError>, Vec<String>);

/// What the task does for the room, outside of it.
pub(super) enum Effect {
    /// Makes a page, on a thread that may block. At most one at a time.
    Render(RenderJob),
    /// Works with the table's writer, on a thread that may block. At most one at a time.
    Work(Box<WorkJob>),
    /// Writes the record and then removes files, on a thread that may block. At most one at a time.
    Save(SaveJob),
    /// Makes a folder and an empty file for an upload, on a thread that may block, and reports [`RoomRequest::FileCreated`].
    CreateFile(CreateJob),
    /// Starts an upload into a file that was created, and gives it to the uploader.
    StartUpload {
        file: Box<CreatedFile>,
        number: u64,
        is_first: bool,
        size: Option<u64>,
        progress: Arc<UploadProgress>,
        reply: UploadReply,
    },
    /// Removes a file that did not become the table's.
    Discard(String),
    /// Tells the store that the table is in use.
    Touch,
    /// Gives a snapshot, with the file's place.
    Snapshot(SnapshotReply, Box<SnapshotState>),
    /// Sends the table's state to the other nodes.
    Notify(NodeStatus, Box<Record>),
    /// Publishes a view in the table's channel.
    Publish(String),
    /// The table is deleted: the next request looks for it anew.
    Forget,
    /// Removes the table from the store, once a record that is being written is.
    Delete,
}

/// The response to an upload's announcement.
pub(super) type UploadReply = oneshot::Sender<Result<Upload, Failure>>;

/// A page that is to be made.
pub(super) struct RenderJob {
    pub(super) wanted: Wanted,
    pub(super) cancel: Cancel,
    /// The part that is done, as the bits of an `f32`.
    pub(super) done: Arc<AtomicU32>,
}

/// Work for the table's writer.
pub(super) struct WorkJob {
    pub(super) work: Work,
    pub(super) file: String,
    /// `None`: the file must be opened.
    pub(super) writer: Option<Writer>,
    pub(super) choice: Choice,
    /// The key of the quota that appended rows count to.
    pub(super) uploader: String,
    pub(super) cancel: Cancel,
    /// The part that is done, as the bits of an `f32`.
    pub(super) done: Arc<AtomicU32>,
}

/// A record that is to be written, or removed.
pub(super) struct SaveJob {
    pub(super) record: Record,
    /// Whether there is a table; else the record of a first upload that failed is removed.
    pub(super) is_table: bool,
    /// Files that no record names once this one is written.
    pub(super) obsolete: Vec<String>,
}

/// A file that is to be created.
pub(super) struct CreateJob {
    pub(super) number: u64,
    pub(super) quota: Quota,
    pub(super) choice: Choice,
    pub(super) reply: UploadReply,
}

/// A file that was created for an upload.
pub(crate) struct CreatedFile {
    pub(super) name: String,
    pub(super) writer: Writer,
    pub(super) reserved: Reserved,
}
