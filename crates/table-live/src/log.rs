//! A log without its outdated lines, in a new file, while rows are appended to the old one.
//!
//! 1. [`LogSnapshot::write`] writes the rows of one moment into a new file, on any thread.
//! 2. [`CompactLog::copy`] copies the bytes that were appended to the log since, repeatedly.
//! 3. When nothing is appended any more and all bytes are copied, the caller replaces the file, and
//!    [`CompactLog::replace`] the reading of its [`LiveRows`].
//!
//! The new file is a log of the same table at every moment: it has the rows of the first step and the changes since.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use tidings_table::{Control, Error, Overlay, Reading, Writer};

use crate::rows::LiveRows;

/// A log at one moment.
#[derive(Clone, Debug)]
pub struct LogSnapshot {
    reading: Arc<Reading>,
    overlay: Arc<Overlay>,
    file: Arc<File>,
    received: u64,
}

/// The size of one read.
const PIECE_SIZE: u64 = 256 << 10;

/// The new file of a log.
pub struct CompactLog {
    source: LogSnapshot,
    writer: Writer,
    /// The bytes of the log that the new file contains.
    copied: u64,
}

impl LogSnapshot {
    /// The current state of a log to which nothing is appended at this moment; `None` when lines are not applied yet, or the
    /// rows of the file cannot be copied ([`Reading::can_copy_rows`]).
    pub fn take(writer: &Writer) -> Option<Self> {
        let reading = writer.table().reading();
        let (overlay, received) = (reading.overlay()?, reading.summary().received);
        let is_applied = overlay.applied() == reading.file_lines();
        (is_applied && reading.can_copy_rows(&overlay)).then(|| Self {
            reading,
            overlay,
            file: writer.file(),
            received,
        })
    }

    /// Writes a log with the current rows alone.
    ///
    /// # Errors
    /// Errors of the disk and of `out`; [`Error::Cancelled`].
    pub fn write(&self, out: &mut impl Write, control: Control<'_>) -> Result<(), Error> {
        self.reading.copy_rows(&self.overlay, out, control)
    }
}

impl CompactLog {
    /// The log that [`LogSnapshot::write`] has written, opened by `writer`.
    pub const fn new(source: LogSnapshot, writer: Writer) -> Self {
        Self { copied: source.received, source, writer }
    }

    /// The bytes that were appended to the log and are not copied yet.
    pub fn pending(&self) -> u64 {
        self.source.reading.summary().received.saturating_sub(self.copied)
    }

    /// Copies at most `most` bytes that were appended to the log.
    ///
    /// # Errors
    /// As [`Writer::append`]; the copy is unusable then.
    pub fn copy(&mut self, most: u64, control: Control<'_>) -> Result<(), Error> {
        let end = self.copied + self.pending().min(most);
        let mut buffer = vec![0; (end - self.copied).min(PIECE_SIZE) as usize];
        while self.copied < end {
            control.check()?;
            let piece = &mut buffer[..(end - self.copied).min(PIECE_SIZE) as usize];
            self.source.file.read_exact_at(piece, self.copied)?;
            self.writer.append(piece)?;
            self.copied += piece.len() as u64;
        }
        Ok(())
    }

    /// Copies all bytes that were appended to the log, to which nothing is appended any more. Returns whether the new file
    /// has all changes of the log, whose current rows are `rows`.
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn complete(&mut self, rows: &LiveRows, control: Control<'_>) -> Result<bool, Error> {
        self.copy(u64::MAX, control)?;
        self.writer.finish()?;
        let Self { source, writer, .. } = self;
        let (old, new) = (source.reading.file_lines(), writer.table().reading().file_lines());
        let applied = source.overlay.applied();
        let first = u64::from(source.reading.dialect().header && applied > 0);
        let is_applied = source.reading.overlay().is_some_and(|overlay| overlay.applied() == old);
        Ok(Arc::ptr_eq(rows.reading(), &source.reading)
            && is_applied
            && new.checked_sub(source.overlay.rows() + first) == old.checked_sub(applied))
    }

    /// Continues with the new file, which must be [complete](Self::complete). Returns its writer.
    pub fn replace(self, rows: &mut LiveRows) -> Writer {
        rows.move_to(&self.writer.table().reading(), &self.source.overlay);
        self.writer
    }
}
