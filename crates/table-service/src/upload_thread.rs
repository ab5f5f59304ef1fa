//! The thread of an upload: writes and indexes the pieces that its connection sends, and reports to the room.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tidings_table::{Error, Table, Writer};
use tidings_table_store::{Reserved, Store, TABLE_OVERHEAD, TableFolder};
use tokio::sync::mpsc;

use super::failure::Failure;
use super::room::RoomRequest;
use super::upload::{Piece, Upload, UploadInput, UploadOutcome, UploadProgress};

/// The rows of a first page.
pub(super) const FIRST_PAGE_ROWS: u64 = 100;

/// The parameters of an upload.
pub(super) struct UploadJob {
    /// Its number in its room.
    pub(super) number: u64,
    pub(super) writer: Writer,
    /// The store of the file.
    pub(super) store: Arc<dyn Store>,
    pub(super) table_folder: Arc<TableFolder>,
    pub(super) file: String,
    pub(super) reserved: Reserved,
    /// Whether it creates the table, which also counts bytes.
    pub(super) is_first: bool,
    /// The announced size in bytes.
    pub(super) size: Option<u64>,
    pub(super) progress: Arc<UploadProgress>,
    pub(super) room: mpsc::Sender<RoomRequest>,
}

/// Starts an upload. It reports its first page and its end to the room.
pub(super) fn start(job: UploadJob) -> Upload {
    let (upload, input) = Upload::new(&job.progress);
    tokio::task::spawn_blocking(move || job.run(input));
    upload
}

impl UploadJob {
    fn run(mut self, UploadInput { pieces, written, end }: UploadInput) {
        let taken = self.take(pieces, &written);
        let Self { number, writer, store, table_folder, file, reserved, room, .. } = self;
        // The file is visible to all nodes before its upload is reported as complete.
        let taken = taken.and_then(|is_whole| {
            if is_whole {
                store.publish(&table_folder, &file)?;
            }
            Ok(is_whole)
        });
        let (outcome, reserved) = match taken {
            Ok(true) => (UploadOutcome::Whole(Box::new(writer)), Some(reserved)),
            Ok(false) => (UploadOutcome::Aborted, None),
            Err(failure) => (UploadOutcome::Failed(failure), None),
        };
        // A room that has ended has removed the table's folder.
        let _ = room.blocking_send(RoomRequest::UploadEnded { number, outcome, reserved, end });
    }

    /// Writes the pieces. Returns whether the file is complete.
    fn take(
        &mut self,
        mut pieces: mpsc::Receiver<Piece>,
        written: &mpsc::Sender<Vec<u8>>,
    ) -> Result<bool, Failure> {
        if self.is_first {
            self.reserved.grow(TABLE_OVERHEAD)?;
        }
        let (mut came, mut shown) = (0, false);
        while let Some(piece) = pieces.blocking_recv() {
            let length = if let Piece::Bytes(bytes) = &piece { bytes.len() as u64 } else { 0 };
            self.progress.meter.advance(length, Instant::now());
            if let Some(why) = self.progress.stopped() {
                return Err(why.clone());
            }
            let bytes = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::End => {
                    if let Some(size) = self.size.filter(|size| *size != came) {
                        return Err(size_mismatch(size, &format!("{came} arrived")));
                    }
                    return self.finish(&pieces, &mut shown);
                }
                Piece::Stop => continue,
            };
            came += bytes.len() as u64;
            if let Some(size) = self.size.filter(|size| *size < came) {
                return Err(size_mismatch(size, "more arrived"));
            }
            self.reserved.grow(bytes.len() as u64)?;
            let summary = self.writer.append(&bytes)?;
            self.progress.received.store(came, Ordering::Relaxed);
            self.progress.rows.store(summary.rows, Ordering::Relaxed);
            let _ = written.try_send(bytes);
            if !shown && summary.rows >= FIRST_PAGE_ROWS {
                shown = true;
                show(&self.room, self.number, self.writer.table());
            }
            self.progress.meter.wait(Instant::now());
        }
        Ok(false)
    }

    /// Completes the file, which converts a file of some formats. Its first rows are shown meanwhile. Returns whether
    /// the file is complete; a conversion is aborted when its client has disconnected.
    fn finish(&mut self, pieces: &mpsc::Receiver<Piece>, shown: &mut bool) -> Result<bool, Failure> {
        let Self { writer, progress, room, number, .. } = self;
        let table = writer.table().clone();
        let summary = writer.finish_observed(&mut |summary| {
            if progress.stopped().is_some() || pieces.is_closed() {
                return Err(Error::Cancelled);
            }
            progress.rows.store(summary.rows, Ordering::Relaxed);
            if !*shown && summary.rows >= FIRST_PAGE_ROWS {
                *shown = true;
                show(room, *number, &table);
            }
            Ok(())
        });
        match (summary, progress.stopped()) {
            (Ok(summary), _) => {
                progress.rows.store(summary.rows, Ordering::Relaxed);
                Ok(true)
            }
            (Err(_), Some(why)) => Err(why.clone()),
            (Err(Error::Cancelled), None) => Ok(false),
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// Reports the first rows to the room.
fn show(room: &mpsc::Sender<RoomRequest>, number: u64, table: &Table) {
    let _ = room.blocking_send(RoomRequest::FirstRows { number, table: table.clone() });
}

/// The error of a file with another size than announced.
fn size_mismatch(size: u64, difference: &str) -> Failure {
    Failure::new(422, format!("the file was announced with {size} bytes, but {difference}; it was rejected"))
}
