//! Uploads: a connection passes pieces to a blocking thread, which writes and indexes them.
//!
//! Invariants:
//! - At most [`PIECES`] pieces are queued; while the queue is full the connection is not read.
//! - Dropping an [`Upload`] before [`Upload::finish`] aborts it. [`UploadProgress::stop`] stops it from another task.
//! - At most [`MAX_UPLOADS`] uploads are running, and a part of them for one requester. At the limit the slowest upload
//!   is ended for a new one if it is slower than `tables.min_data_rate`: slow uploads block no other upload.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use tidings_metrics::KeyedCounters;
use tidings_otel::Span;
use tidings_table::Writer;
use tidings_table_store::{MAX_UPLOADS, Quota};
use tokio::sync::{mpsc, oneshot};

use crate::counters::UploadLimit;
use crate::failure::Failure;
use crate::rate::{self, RateMeter};

/// The capacity of the queue in pieces. A piece is the result of one read from a socket.
const PIECES: usize = 8;

/// The connection's handle of an upload.
#[derive(Debug)]
pub struct Upload {
    pieces: mpsc::Sender<Piece>,
    /// Written pieces, for reuse of their buffers.
    spare: mpsc::Receiver<Vec<u8>>,
    ended: oneshot::Receiver<Result<(), Failure>>,
    /// Ends with the upload.
    pub span: Span,
}

/// A part of an upload, for its thread.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of the file.
    Bytes(Vec<u8>),
    /// The file is complete.
    End,
    /// [`UploadProgress::stop`] holds the reason.
    Stop,
}

/// The progress of an upload, shared with other tasks, and the means to stop it.
#[derive(Debug)]
pub struct UploadProgress {
    /// The received bytes.
    pub received: AtomicU64,
    /// The received rows.
    pub rows: AtomicU64,
    /// Measures its data rate.
    pub meter: RateMeter,
    requester: Arc<str>,
    /// The error with which it was stopped from another task.
    stopped: OnceLock<Failure>,
    /// Wakes the thread of the upload.
    wake: OnceLock<mpsc::WeakSender<Piece>>,
}

impl UploadProgress {
    /// Stops the upload: it fails with this error. The first call decides.
    pub fn stop(&self, why: Failure) {
        let _ = self.stopped.set(why);
        if let Some(pieces) = self.wake.get().and_then(mpsc::WeakSender::upgrade) {
            // A thread with queued pieces checks before each of them.
            let _ = pieces.try_send(Piece::Stop);
        }
    }

    /// The error with which it was stopped, if it was.
    pub fn stopped(&self) -> Option<&Failure> {
        self.stopped.get()
    }

    /// Stops the upload in favour of another one.
    fn give_way(&self, rate: f64, least: u64) {
        let why = format!(
            "the file arrived with {rate:.0} bytes per second, less than the {least} of tables.min_data_rate, while others wait \
             to upload; the upload was aborted"
        );
        self.stop(Failure::new(408, why));
    }
}

/// The running uploads of this process.
#[derive(Debug)]
pub struct ActiveUploads {
    all: Mutex<Vec<Weak<UploadProgress>>>,
    /// The rate in bytes per second below which an upload may be ended for another one.
    least: u64,
    /// Uploads that were ended in favour of other uploads.
    pub gave_way: AtomicU64,
    /// Rejected uploads by reason.
    pub refused: KeyedCounters<UploadLimit>,
}

impl ActiveUploads {
    /// No running uploads. `least`: the rate in bytes per second below which an upload may be ended for another one.
    pub fn new(least: u64) -> Self {
        Self { all: Mutex::default(), least, gave_way: AtomicU64::new(0), refused: KeyedCounters::default() }
    }

    /// Admits an upload of a requester. It counts until the returned value is dropped.
    ///
    /// # Errors
    /// 429 when the requester has too many uploads, 503 when there are too many in total and none is slow.
    pub fn admit(&self, requester: &Quota) -> Result<Arc<UploadProgress>, Failure> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moving: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        moving.retain(|progress| progress.stopped().is_none());
        let own = moving.iter().filter(|progress| progress.requester == requester.key);
        if own.clone().count() >= requester.uploads && !self.make_room(own) {
            self.refused.add(UploadLimit::Requester);
            let (most, option) = (requester.uploads, requester.uploads_option);
            return Err(Failure::new(
                429,
                format!("{most} of your uploads are running ({option}); wait until one has ended"),
            ));
        }
        moving.retain(|progress| progress.stopped().is_none());
        if moving.len() >= MAX_UPLOADS && !self.make_room(moving.iter()) {
            self.refused.add(UploadLimit::Total);
            return Err(Failure::new(503, "too many uploads are running; try again"));
        }
        let progress = Arc::new(UploadProgress {
            received: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            meter: RateMeter::new(u64::MAX, Instant::now()),
            requester: Arc::clone(&requester.key),
            stopped: OnceLock::new(),
            wake: OnceLock::new(),
        });
        all.retain(|progress| progress.strong_count() > 0);
        all.push(Arc::downgrade(&progress));
        Ok(progress)
    }

    /// Stops the slowest of these uploads if it is too slow. Returns whether it did.
    fn make_room<'a>(&self, of: impl Iterator<Item = &'a Arc<UploadProgress>>) -> bool {
        let slow = rate::slowest(of.map(|progress| (&progress.meter, progress)), self.least, Instant::now());
        if let Some((rate, progress)) = &slow {
            self.gave_way.fetch_add(1, Ordering::Relaxed);
            progress.give_way(*rate, self.least);
        }
        slow.is_some()
    }

    /// Stops an upload in favour of another one to the same table, if it is too slow.
    pub fn give_way(&self, progress: &Arc<UploadProgress>) {
        if progress.stopped().is_none() {
            self.make_room([progress].into_iter());
        }
    }
}

/// The outcome of an upload.
pub enum UploadOutcome {
    /// The file is complete.
    Whole(Box<Writer>),
    /// The client aborted it or disconnected.
    Aborted,
    /// The file cannot be stored.
    Failed(Failure),
}

/// The channel of the outcome of an upload: the reason when the table does not have the file.
pub type UploadReport = oneshot::Sender<Result<(), Failure>>;

/// The ends of an upload that belong to its thread.
pub struct UploadInput {
    /// The pieces.
    pub pieces: mpsc::Receiver<Piece>,
    /// Receives written pieces, for reuse of their buffers.
    pub written: mpsc::Sender<Vec<u8>>,
    /// Receives the outcome of the upload when it has been applied.
    pub end: UploadReport,
}

impl Upload {
    /// A handle of an upload, and the ends for its thread.
    pub fn new(progress: &UploadProgress) -> (Self, UploadInput) {
        let (sender, pieces) = mpsc::channel(PIECES);
        let (written, spare) = mpsc::channel(PIECES);
        let (end, ended) = oneshot::channel();
        let _ = progress.wake.set(sender.downgrade());
        (Self { pieces: sender, spare, ended, span: Span::default() }, UploadInput { pieces, written, end })
    }

    /// Passes bytes to the upload, and leaves an empty buffer in their place. Waits while the queue is full.
    ///
    /// # Errors
    /// When the upload has already ended; the room sends the reason.
    pub async fn write(&mut self, bytes: &mut Vec<u8>) -> Result<(), UploadClosed> {
        let mut next = self.spare.try_recv().unwrap_or_default();
        next.clear();
        self.pieces.send(Piece::Bytes(std::mem::replace(bytes, next))).await.map_err(|_| UploadClosed)
    }

    /// Whether the upload has ended; the room sends the reason.
    pub fn has_ended(&self) -> bool {
        self.pieces.is_closed()
    }

    /// Completes the file, and waits until the table has it, or it is rejected.
    ///
    /// # Errors
    /// The reason of the rejection, which the viewer has received from the room.
    pub async fn finish(self) -> Result<(), Failure> {
        // An upload that has already ended accepts no more pieces.
        let _ = self.pieces.send(Piece::End).await;
        self.ended.await.unwrap_or_else(|_| Err(Failure::stopping()))
    }

    /// Aborts the upload, and waits until its file is removed.
    pub async fn abort(self) {
        drop(self.pieces);
        let _ = self.ended.await;
    }
}

/// The upload has ended and accepts no more bytes.
#[derive(Clone, Copy, Debug)]
pub struct UploadClosed;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn quota(key: &str, uploads: usize) -> Quota {
        Quota { key: key.into(), uploads, uploads_option: "tables.user_upload_limit", ..Quota::unlimited() }
    }

    fn crawls(progress: &UploadProgress, bytes: u64) {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("a time");
        progress.meter.restart(ago(10));
        progress.meter.advance(bytes, ago(1));
    }

    #[test]
    fn slow_uploads_do_not_block_others_and_the_slowest_is_ended_first() {
        let active = ActiveUploads::new(1_000);
        let all = quota("all", usize::MAX);
        let mut held: Vec<_> = (0..MAX_UPLOADS).map(|_| active.admit(&all).expect("a place")).collect();
        // All of them make progress.
        for progress in &held {
            crawls(progress, 1 << 20);
        }
        assert_eq!(active.admit(&all).map(|_| ()).expect_err("no place").code, 503);
        crawls(&held[7], 4_000);
        crawls(&held[9], 1_000);
        held.push(active.admit(&all).expect("a place"));
        let why = held[9].stopped().expect("a reason");
        assert!(why.code == 408 && why.message.contains("tables.min_data_rate"), "{why:?}");
        held.push(active.admit(&all).expect("a place"));
        assert!(held[7].stopped().is_some());
        assert_eq!(active.admit(&all).map(|_| ()).expect_err("no place").code, 503);
        held.swap_remove(0);
        active.admit(&all).expect("a place");
        assert_eq!(active.gave_way.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn one_requester_may_use_a_part_of_all_uploads() {
        let active = ActiveUploads::new(1_000);
        let (ann, bob) = (quota("user:ann", 2), quota("user:bob", 2));
        let held: Vec<_> = (0..2).map(|_| active.admit(&ann).expect("a place")).collect();
        let refused = active.admit(&ann).map(|_| ()).expect_err("no place");
        assert!(refused.code == 429 && refused.message.contains("tables.user_upload_limit"), "{refused:?}");
        active.admit(&bob).expect("a place");
        crawls(&held[1], 10);
        active.admit(&ann).expect("the slow one has given way");
        assert!(held[1].stopped().is_some() && held[0].stopped().is_none());
    }
}
