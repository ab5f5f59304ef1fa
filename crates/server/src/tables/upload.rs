//! A file on its way to disk: pieces come from a connection, and one blocking thread writes and indexes them.
//!
//! At most [`PIECES`] pieces wait between the two; past that the connection is not read from. Whoever drops an
//! [`Upload`] before [`Upload::finish`] aborts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_table::{Table, Writer};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::failure::Failure;
use super::room::Ask;
use super::store::{Place, Reserved, Store};

/// How many pieces may wait to be written; a piece is what one read from a socket gave.
const PIECES: usize = 8;
/// Rows that make a first page.
pub(super) const FIRST: u64 = 100;

/// The end of an upload that gets the bytes.
#[derive(Debug)]
pub(super) struct Upload {
    pieces: mpsc::Sender<Piece>,
    /// Pieces that are written, to be filled again.
    spare: mpsc::Receiver<Vec<u8>>,
    ended: oneshot::Receiver<()>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// How far an upload is, for all to see.
#[derive(Debug, Default)]
pub(super) struct Far {
    pub(super) received: AtomicU64,
    pub(super) rows: AtomicU64,
}

/// How an upload ended.
pub(super) enum Outcome {
    /// The file is whole.
    Whole(Box<Writer>),
    /// Its sender did not want it, or has gone.
    Aborted,
    /// It cannot be kept.
    Failed(Failure),
}

/// What an upload needs.
pub(super) struct Job {
    /// Which one of its room it is.
    pub(super) number: u64,
    pub(super) writer: Writer,
    /// Where the file goes.
    pub(super) store: Arc<Store>,
    pub(super) place: Arc<Place>,
    pub(super) file: String,
    pub(super) reserved: Reserved,
    pub(super) far: Arc<Far>,
    pub(super) room: mpsc::Sender<Ask>,
    /// Held while it runs: there are not too many at once.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Starts an upload; its room hears of the first page, and how it ended.
pub(super) fn start(job: Job) -> Upload {
    let (pieces, incoming) = mpsc::channel(PIECES);
    let (written, spare) = mpsc::channel(PIECES);
    let (end, ended) = oneshot::channel();
    tokio::task::spawn_blocking(move || job.run(incoming, &written, end));
    Upload { pieces, spare, ended }
}

impl Upload {
    /// Hands over the bytes that follow, and leaves an empty buffer in their place. Waits while too many wait to be
    /// written.
    ///
    /// # Errors
    /// When the upload has ended already; the room has told why.
    pub(super) async fn write(&mut self, bytes: &mut Vec<u8>) -> Result<(), Ended> {
        let mut next = self.spare.try_recv().unwrap_or_default();
        next.clear();
        self.pieces.send(Piece::Bytes(std::mem::replace(bytes, next))).await.map_err(|_| Ended)
    }

    /// Says that the file is whole, and waits until it is shown or refused.
    pub(super) async fn finish(self) {
        // One that has ended already has told so.
        let _ = self.pieces.send(Piece::End).await;
        let _ = self.ended.await;
    }

    /// Gives it up, and waits until nothing is left of it.
    pub(super) async fn abort(self) {
        drop(self.pieces);
        let _ = self.ended.await;
    }
}

/// An upload that takes no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended;

impl Job {
    fn run(
        mut self,
        incoming: mpsc::Receiver<Piece>,
        written: &mpsc::Sender<Vec<u8>>,
        end: oneshot::Sender<()>,
    ) {
        let taken = self.take(incoming, written);
        let Self { number, writer, store, place, file, reserved, room, permit, .. } = self;
        // Nobody is told that it is whole before all can have it.
        let taken = taken.and_then(|is_whole| {
            if is_whole {
                store.publish(&place, &file)?;
            }
            Ok(is_whole)
        });
        let (outcome, reserved) = match taken {
            Ok(true) => (Outcome::Whole(Box::new(writer)), Some(reserved)),
            Ok(false) => (Outcome::Aborted, None),
            Err(failure) => (Outcome::Failed(failure), None),
        };
        drop(permit);
        // A room that is gone has taken the table's folder along.
        let _ = room.blocking_send(Ask::UploadEnded { number, outcome, reserved, end });
    }

    /// Writes what comes; gives whether it came whole.
    fn take(
        &mut self,
        mut incoming: mpsc::Receiver<Piece>,
        written: &mpsc::Sender<Vec<u8>>,
    ) -> Result<bool, Failure> {
        let mut shown = false;
        while let Some(piece) = incoming.blocking_recv() {
            let bytes = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::End => {
                    let summary = self.writer.finish()?;
                    self.far.rows.store(summary.rows, Ordering::Relaxed);
                    return Ok(true);
                }
            };
            self.reserved.grow(bytes.len() as u64)?;
            let summary = self.writer.append(&bytes)?;
            self.far
                .received
                .store(summary.received.max(self.far.received.load(Ordering::Relaxed)), Ordering::Relaxed);
            self.far.rows.store(summary.rows, Ordering::Relaxed);
            let _ = written.try_send(bytes);
            if !shown && summary.rows >= FIRST {
                shown = true;
                let table: Table = self.writer.table().clone();
                let _ = self.room.blocking_send(Ask::FirstRows { number: self.number, table });
            }
        }
        Ok(false)
    }
}
