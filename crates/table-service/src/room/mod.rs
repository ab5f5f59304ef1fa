//! One live table: the state that all viewers at its link share, and the task that runs it.
//!
//! ```text
//! task.rs     the task: receives requests, runs effects on other threads, and sleeps until the next deadline
//! state.rs    the room: `now` and events in ([`effect::Event`]), effects out ([`effect::Effect`])
//! timers.rs   its deadlines
//! members.rs  viewers and their commands        uploads.rs    incoming files
//! writing.rs  work with the table's writer      rendering.rs  pages
//! nodes.rs    the table on other nodes          saving.rs     its record
//! ```
//!
//! Viewers, uploads and HTTP requests send [`Ask`]s. The room is the one place where a table changes.
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
mod writing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_table::{Table, Types, View};
use tidings_wire::ws::CloseCode;
use tokio::sync::oneshot;

use super::board::Form;
use super::command::Command;
use super::failure::Failure;
use super::message::About;
use super::news::News;
use super::outbox::Outbox;
use super::quota::Quota;
use super::rows::{Added, Rows};
use super::store::{Place, Reserved};
use super::upload::{Outcome, Upload};
use effect::{CreatedFile, UploadReply};

pub(super) use members::Seat;
pub(super) use task::start;

/// The queue of requests, in requests. A sender waits while it is full.
const ASKS: usize = 256;
/// The close code of a connection whose table does not exist.
pub(super) const GONE: CloseCode = CloseCode(4404);
/// The close code of a server that stops or restarts (RFC 6455's registry: 1012).
pub(super) const RESTART: CloseCode = CloseCode(1012);

/// What a room is asked.
pub(super) enum Ask {
    /// Somebody comes.
    Join(Join),
    /// A viewer goes.
    Leave(u64),
    /// A viewer wants something for everybody.
    Do { viewer: u64, command: Command, done: Done },
    /// A viewer begins to upload.
    Upload {
        viewer: u64,
        name: String,
        size: Option<u64>,
        quota: Quota,
        reply: oneshot::Sender<Result<Upload, Failure>>,
    },
    /// A viewer shows what it says is the owner's secret.
    Own { viewer: u64, secret: String, reply: Done },
    /// The file of an upload is created, or cannot be.
    FileCreated { number: u64, created: Box<Result<CreatedFile, Failure>>, reply: UploadReply },
    /// An upload has rows enough for a page.
    FirstRows { number: u64, table: Table },
    /// An upload has ended. What it `reserved` is there when it is whole.
    UploadEnded { number: u64, outcome: Outcome, reserved: Option<Reserved>, end: oneshot::Sender<()> },
    /// The file on disk is being opened, and can be looked at.
    Opening(Table),
    /// A backend has rows, if this is the owner's secret.
    MayAppend { secret: String, reply: Done },
    /// Rows from a backend.
    Append { rows: Arc<Rows>, secret: String, reply: oneshot::Sender<Result<Added, Failure>> },
    /// Somebody wants to look at more than the page.
    Look(LookReply),
    /// Another node has said something.
    News(Box<News>),
    /// Room is needed on disk: if nobody uses the table it is put away, and this dropped once it is; else at once.
    PutAway(std::sync::mpsc::Sender<()>),
    /// The server stops; viewers are to go within this time.
    Stop(Duration),
}

/// Somebody who comes.
pub(super) struct Join {
    pub(super) form: Form,
    /// What they say is the owner's secret.
    pub(super) secret: Option<String>,
    /// Whether the table was made for them; then there is nothing to show before their file comes.
    pub(super) is_creator: bool,
    pub(super) outbox: Arc<Outbox>,
    pub(super) reply: oneshot::Sender<Seat>,
}

/// Answers whether something was done.
pub(super) type Done = oneshot::Sender<Result<(), Failure>>;

/// A table at one moment, for private windows and HTTP.
pub(super) struct Look {
    pub(super) view: Arc<View>,
    /// The view of the article's page, if it is open.
    pub(super) article: Option<Arc<View>>,
    pub(super) about: About,
    /// The folder of the file.
    pub(super) folder: PathBuf,
    pub(super) facts: FactsCache,
    /// Keeps the table from being evicted while the snapshot is in use.
    pub(super) place: Arc<Place>,
}

/// A snapshot without the file's place, which the room does not know.
pub(in crate::room) struct LookState {
    view: Arc<View>,
    article: Option<Arc<View>>,
    about: About,
    file: String,
    facts: FactsCache,
}

/// The response to a request for a snapshot.
pub(super) type LookReply = oneshot::Sender<Result<Look, Failure>>;

/// Column facts, with the bytes of the file and the types of columns that they were made of. The task that makes them holds
/// the lock; concurrent requests wait for it and find them made.
pub(super) type FactsCache = Arc<tokio::sync::Mutex<Option<((u64, Types), Bytes)>>>;
