//! A file on its way to disk: pieces come from a connection, and one blocking thread writes and indexes them.
//!
//! At most [`PIECES`] pieces wait between the two; past that the connection is not read from. Whoever drops an
//! [`Upload`] before [`Upload::finish`] aborts it; others stop it by [`Far::stop`].
//!
//! There are at most [`UPLOADS`] at once. When there are as many, the one that has stood still longest gives way to a
//! new one, if it has for [`STILL`]: whoever only holds uploads open keeps nobody from uploading.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tidings_table::{Table, Writer};
use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;
use super::room::Ask;
use super::store::{Place, Reserved, Store, TABLE};

/// How many files may come in at once.
const UPLOADS: usize = 64;
/// How long an upload may stand still while others wait to begin.
const STILL: Duration = Duration::from_secs(5);
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
    /// [`Far::stop`] has said why.
    Stop,
}

/// How far an upload is, for all to see, and the way to stop it.
#[derive(Debug)]
pub(super) struct Far {
    pub(super) received: AtomicU64,
    pub(super) rows: AtomicU64,
    /// When the last of it came.
    moved: Mutex<Instant>,
    /// Why it was stopped from outside.
    stopped: OnceLock<Failure>,
    /// Wakes who writes it.
    wake: OnceLock<mpsc::WeakSender<Piece>>,
}

impl Far {
    /// Stops the upload: whatever else comes of it, it fails with these words. The first ones count.
    pub(super) fn stop(&self, why: Failure) {
        let _ = self.stopped.set(why);
        if let Some(pieces) = self.wake.get().and_then(mpsc::WeakSender::upgrade) {
            // One that has pieces to write looks before each of them.
            let _ = pieces.try_send(Piece::Stop);
        }
    }

    /// Why it was stopped, if it was.
    pub(super) fn stopped(&self) -> Option<&Failure> {
        self.stopped.get()
    }

    fn still(&self) -> Duration {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn moves(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// All uploads of this process that are under way.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<Vec<Weak<Far>>>);

impl UnderWay {
    /// Takes a place for another one, which it has until what this gives is dropped.
    ///
    /// # Errors
    /// 503 when there are too many, all of which move.
    pub(super) fn enter(&self) -> Result<Arc<Far>, Failure> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moving: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        moving.retain(|far| far.stopped().is_none());
        if moving.len() >= UPLOADS {
            let stillest = moving.iter().max_by_key(|far| far.still()).filter(|far| far.still() >= STILL);
            let Some(stillest) = stillest else {
                return Err(Failure::new(503, "too many uploads are under way; try again"));
            };
            let seconds = stillest.still().as_secs();
            let why =
                format!("nothing came for {seconds} s, and others wait to upload; the upload was given up");
            stillest.stop(Failure::new(408, why));
        }
        let far = Arc::new(Far {
            received: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            moved: Mutex::new(Instant::now()),
            stopped: OnceLock::new(),
            wake: OnceLock::new(),
        });
        all.retain(|far| far.strong_count() > 0);
        all.push(Arc::downgrade(&far));
        Ok(far)
    }
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
    /// Whether it makes a table that was not there, which takes room too.
    pub(super) is_first: bool,
    /// How many bytes were announced.
    pub(super) size: Option<u64>,
    pub(super) far: Arc<Far>,
    pub(super) room: mpsc::Sender<Ask>,
}

/// Starts an upload; its room hears of the first page, and how it ended.
pub(super) fn start(job: Job) -> Upload {
    let (pieces, incoming) = mpsc::channel(PIECES);
    let (written, spare) = mpsc::channel(PIECES);
    let (end, ended) = oneshot::channel();
    let _ = job.far.wake.set(pieces.downgrade());
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

    /// Whether it takes no more; its uploader is told why.
    pub(super) fn has_ended(&self) -> bool {
        self.pieces.is_closed()
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
        let Self { number, writer, store, place, file, reserved, room, .. } = self;
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
        // A room that is gone has taken the table's folder along.
        let _ = room.blocking_send(Ask::UploadEnded { number, outcome, reserved, end });
    }

    /// Writes what comes; gives whether it came whole.
    fn take(
        &mut self,
        mut incoming: mpsc::Receiver<Piece>,
        written: &mpsc::Sender<Vec<u8>>,
    ) -> Result<bool, Failure> {
        if self.is_first {
            self.reserved.grow(TABLE)?;
        }
        let (mut came, mut shown) = (0, false);
        while let Some(piece) = incoming.blocking_recv() {
            if let Some(why) = self.far.stopped() {
                return Err(why.clone());
            }
            let bytes = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::End => {
                    if let Some(size) = self.size.filter(|size| *size != came) {
                        return Err(announced(size, &format!("{came} came")));
                    }
                    let summary = self.writer.finish()?;
                    self.far.rows.store(summary.rows, Ordering::Relaxed);
                    return Ok(true);
                }
                Piece::Stop => continue,
            };
            came += bytes.len() as u64;
            if let Some(size) = self.size.filter(|size| *size < came) {
                return Err(announced(size, "more came"));
            }
            self.reserved.grow(bytes.len() as u64)?;
            let summary = self.writer.append(&bytes)?;
            self.far.moves();
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

/// What came is not the file that was announced.
fn announced(size: u64, came: &str) -> Failure {
    Failure::new(422, format!("the file was announced with {size} bytes, but {came}; it is not taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(far: &Far, by: Duration) {
        *far.moved.lock().expect("no panic") = Instant::now().checked_sub(by).expect("a time");
    }

    #[test]
    fn who_only_holds_uploads_open_keeps_nobody_from_uploading() {
        let under_way = UnderWay::default();
        let mut held: Vec<_> = (0..UPLOADS).map(|_| under_way.enter().expect("a place")).collect();
        // All of them move.
        assert_eq!(under_way.enter().map(|_| ()).expect_err("no place").code, 503);
        age(&held[7], STILL);
        age(&held[9], 2 * STILL);
        held.push(under_way.enter().expect("a place"));
        assert_eq!(held[9].stopped().map(|why| why.code), Some(408));
        held.push(under_way.enter().expect("a place"));
        assert!(held[7].stopped().is_some());
        assert_eq!(under_way.enter().map(|_| ()).expect_err("no place").code, 503);
        held.swap_remove(0);
        under_way.enter().expect("a place");
    }
}
