//! A file that is read with one dialect: its text, its index, and the state for readers.
//!
//! A reading grows while one thread appends. Other threads read it concurrently. Readers see complete rows, and a last
//! row without a line break once the file has ended.
//!
//! Invariants:
//! - The numbers read under one lock are consistent. The text up to their `end` is on disk before they are published,
//!   and does not change except that a last open row may grow.
//! - Inside the engine rows are counted as *lines*, including the header; public numbers exclude it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::conversion::FormatFacts;
use crate::dialect::Dialect;
use crate::disk::{Folder, UnlinkedFile};
use crate::index::{Block, Tally};
use crate::limits::Limits;
use crate::overlay::Overlay;
use crate::{FileFormat, TypeChoices};

/// UTF-8 text in a file.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    file: Source,
    /// The start of the text: after a byte order mark and the skipped lines.
    start: u64,
}

/// The file of a text.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The received file.
    Original(Arc<File>),
    /// A decoded copy in UTF-8.
    Beside(Arc<UnlinkedFile>),
}

impl Source {
    fn file(&self) -> &File {
        match self {
            Self::Original(file) => file,
            Self::Beside(unlinked) => unlinked.file(),
        }
    }
}

impl Text {
    pub(crate) const fn new(file: Source, start: u64) -> Self {
        Self { file, start }
    }

    /// The offset in the file at which the text begins.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// The file that contains the text.
    pub(crate) fn file(&self) -> &File {
        self.file.file()
    }

    /// Fills `buffer` with the bytes at `offset` of the text, up to the end of the file. Returns their number.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (file, mut filled) = (self.file.file(), 0);
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], self.start + offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Asks the system to fetch these bytes without waiting (`posix_fadvise(2)`), before they are read: disks fetch
    /// several places concurrently.
    pub(crate) fn prefetch(&self, offset: u64, length: u64) {
        #[cfg(target_os = "linux")]
        {
            use std::num::NonZeroU64;

            use rustix::fs::{Advice, fadvise};
            // A failure only costs time.
            let _ = fadvise(self.file.file(), self.start + offset, NonZeroU64::new(length), Advice::WillNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, length);
    }
}

/// The state of a table at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The received bytes of the file.
    pub received: u64,
    /// Whether the file has ended. More may be appended.
    pub finished: bool,
    /// The bytes of text in rows, decompressed and in UTF-8.
    pub text: u64,
    /// The number of rows, without empty lines and the header.
    pub rows: u64,
    /// The number of rows, with the header.
    pub lines: u64,
    /// The cells of the first line.
    pub columns: u64,
    /// The cells of the widest line.
    pub widest: u64,
    /// The number of lines with another number of cells than the first one.
    pub ragged: u64,
    /// Whether some bytes are invalid in the encoding and are shown as U+FFFD.
    pub lossy: bool,
    /// Whether the text ends within quotes: an unclosed quote makes the rest of the file one cell.
    pub open_quote: bool,
    /// The number of lines that the [`Overlay`] considers; 0 without one.
    pub applied: u64,
}

/// A file that is read with one dialect. Its views keep it alive, also after a change of the dialect.
#[derive(Debug)]
pub struct Reading {
    dialect: Dialect,
    limits: Limits,
    text: Text,
    /// The folder of temporary files.
    folder: Folder,
    facts: Arc<FormatFacts>,
    state: RwLock<ReadingState>,
    /// `None`: all lines are rows.
    overlay: RwLock<Option<Arc<Overlay>>>,
}

/// The mutable state of a growing file.
#[derive(Debug, Default)]
pub(crate) struct ReadingState {
    pub(crate) blocks: Vec<Block>,
    /// The counts for readers.
    pub(crate) tally: Tally,
    /// The lines that will not change: all except a last one without a line break.
    pub(crate) settled: u64,
    pub(crate) received: u64,
    pub(crate) finished: bool,
    pub(crate) lossy: bool,
    pub(crate) open_quote: bool,
    /// Whether there are cells such as `"a"b`.
    pub(crate) sloppy: bool,
    /// The names of the columns, if there may be more than in the first line.
    pub(crate) names: Option<Arc<Vec<String>>>,
}

impl Reading {
    pub(crate) fn new(
        dialect: Dialect,
        limits: Limits,
        text: Text,
        folder: Folder,
        facts: Arc<FormatFacts>,
    ) -> Self {
        Self { dialect, limits, text, folder, facts, state: RwLock::default(), overlay: RwLock::default() }
    }

    /// The names of the sheets of a workbook; none for other files.
    pub fn sheets(&self) -> &[String] {
        &self.facts.sheets
    }

    /// The name of the sheet that this reading shows.
    pub fn sheet(&self) -> Option<&str> {
        self.facts.sheets.get(self.facts.sheet?).map(|name| &**name)
    }

    /// The types of columns that the file declares. They apply where no type is chosen.
    pub fn declared_types(&self) -> &TypeChoices {
        &self.facts.types
    }

    /// The dialect.
    pub const fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// The limits of this table.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The current state.
    pub fn summary(&self) -> Summary {
        let overlay = self.overlay();
        let (rows, applied) = overlay.map_or((None, 0), |overlay| (Some(overlay.rows()), overlay.applied()));
        let state = self.state();
        let rows = rows.unwrap_or_else(|| state.tally.rows.saturating_sub(self.first_line()));
        Summary {
            received: state.received,
            finished: state.finished,
            text: state.tally.end,
            rows,
            lines: if applied > 0 { rows + self.first_line() } else { state.tally.rows },
            columns: state.tally.columns,
            widest: state.tally.widest,
            // The rows of other formats have no number of cells of their own.
            ragged: if self.dialect.format == FileFormat::Text { state.tally.ragged } else { 0 },
            lossy: state.lossy,
            open_quote: state.open_quote,
            applied,
        }
    }

    /// The number of lines of the file, with the header, and with lines that are no rows any more.
    pub fn file_lines(&self) -> u64 {
        self.state().tally.rows
    }

    /// Which lines are rows; `None`: all of them.
    pub fn overlay(&self) -> Option<Arc<Overlay>> {
        self.overlay.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// States which lines are rows, for all later views; `None`: all of them. Views that were computed stay as they are.
    pub fn set_overlay(&self, overlay: Option<Arc<Overlay>>) {
        *self.overlay.write().unwrap_or_else(PoisonError::into_inner) = overlay;
    }

    /// The bytes of the table on disk: the original file, its decoded text if it is compressed or in another encoding,
    /// and temporary data of sorted and filtered views (of all live readings). All but the original are removed with
    /// the last handle of the table. The few hundred bytes of [`DIALECT`](crate::DIALECT) are not counted; the index is
    /// in memory.
    pub fn disk_bytes(&self) -> u64 {
        self.state().received + self.folder.unlinked_bytes()
    }

    /// The line of the first row: 1 after a header.
    pub(crate) fn first_line(&self) -> u64 {
        u64::from(self.dialect.header)
    }

    pub(crate) const fn text(&self) -> &Text {
        &self.text
    }

    pub(crate) const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The state. It is plain data and valid after a panic of another thread.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, ReadingState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, ReadingState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadingState {
    /// The nearest entry at or before `line`, and the end of its block.
    pub(crate) fn locate(&self, line: u64) -> (Block, u64) {
        let after = self.blocks.partition_point(|block| block.row <= line);
        let block = after.checked_sub(1).map_or(Block { offset: 0, row: 0 }, |at| self.blocks[at]);
        let end = self.blocks.get(after).map_or(self.tally.end, |next| next.offset);
        (block, end.min(self.tally.end))
    }
}
