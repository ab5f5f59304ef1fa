//! One file, read with one dialect: its text, its index, and what readers see of both.
//!
//! A reading grows while one thread appends; any number of others read it at the same time. What they see are
//! whole rows, and the last one without a line break once the file has ended.
//!
//! Invariants:
//! - The numbers that one lock hold gives belong together; the text up to their `end` is on disk before they
//!   are published, and never changes afterwards except that a last open row may grow.
//! - Inside the engine rows are counted as *lines*, the header included; what goes out is counted without it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::dialect::Dialect;
use crate::disk::{Folder, Nameless};
use crate::index::{Block, Tally};
use crate::limits::Limits;

/// UTF-8 in a file.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    file: Source,
    /// Where the text starts: after a byte order mark and the lines above the table.
    start: u64,
}

/// The file that holds a text.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The one that was received.
    Original(Arc<File>),
    /// One of UTF-8 beside it.
    Beside(Arc<Nameless>),
}

impl Source {
    fn file(&self) -> &File {
        match self {
            Self::Original(file) => file,
            Self::Beside(nameless) => nameless.file(),
        }
    }
}

impl Text {
    pub(crate) const fn new(file: Source, start: u64) -> Self {
        Self { file, start }
    }

    /// Fills `buffer` with the bytes at `offset` of the text, as far as the file goes; gives how many.
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

    /// Has the system fetch what it has not in memory of these bytes, which are read next, and goes on meanwhile
    /// (`posix_fadvise(2)`): of many places a disk fetches some at the same time.
    pub(crate) fn prefetch(&self, offset: u64, length: u64) {
        #[cfg(target_os = "linux")]
        {
            use std::num::NonZeroU64;

            use rustix::fs::{Advice, fadvise};
            // Advice that is not taken costs time alone.
            let _ = fadvise(self.file.file(), self.start + offset, NonZeroU64::new(length), Advice::WillNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, length);
    }
}

/// What is known of a table at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The bytes of the file that have been received.
    pub received: u64,
    /// Whether the file has ended; more may be appended all the same.
    pub finished: bool,
    /// The bytes of text that the rows take, unpacked and in UTF-8.
    pub text: u64,
    /// The rows, without empty lines and without the header.
    pub rows: u64,
    /// The rows, with the header.
    pub lines: u64,
    /// The cells of the first line.
    pub columns: u64,
    /// The cells of the widest line.
    pub widest: u64,
    /// The lines that have not as many cells as the first one.
    pub ragged: u64,
    /// Whether some bytes mean nothing in the encoding and are shown as U+FFFD.
    pub lossy: bool,
    /// Whether the text ends within quotes: a quote that was never closed makes all that follows one cell.
    pub open_quote: bool,
}

/// One file, read with one dialect. Kept alive by its views, also when the dialect is changed.
#[derive(Debug)]
pub struct Reading {
    dialect: Dialect,
    limits: Limits,
    text: Text,
    /// Where temporary files go.
    folder: Folder,
    state: RwLock<State>,
}

/// What changes while a file grows.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) blocks: Vec<Block>,
    /// What readers see.
    pub(crate) tally: Tally,
    /// The lines that will not change any more: all, or all but a last one without a line break.
    pub(crate) settled: u64,
    pub(crate) received: u64,
    pub(crate) finished: bool,
    pub(crate) lossy: bool,
    pub(crate) open_quote: bool,
    /// Whether there are cells such as `"a"b`.
    pub(crate) sloppy: bool,
}

impl Reading {
    pub(crate) fn new(dialect: Dialect, limits: Limits, text: Text, folder: Folder) -> Self {
        Self { dialect, limits, text, folder, state: RwLock::default() }
    }

    /// How the file is read.
    pub const fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// The bounds that this table is held to.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is known at this moment.
    pub fn summary(&self) -> Summary {
        let state = self.state();
        Summary {
            received: state.received,
            finished: state.finished,
            text: state.tally.end,
            rows: state.tally.rows.saturating_sub(self.first_line()),
            lines: state.tally.rows,
            columns: state.tally.columns,
            widest: state.tally.widest,
            ragged: state.tally.ragged,
            lossy: state.lossy,
            open_quote: state.open_quote,
        }
    }

    /// The bytes of the table on disk at this moment: the original file, the UTF-8 beside it when it is packed or in
    /// another encoding, and the temporary data of sorted and filtered views (of every reading that is still alive).
    /// All but the first are removed with the last handle of the table. The few hundred bytes of
    /// [`DIALECT`](crate::DIALECT) are not counted; the index is in memory.
    pub fn disk_bytes(&self) -> u64 {
        self.state().received + self.folder.nameless_bytes()
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

    /// The state, which is plain data and valid after a panic of another thread.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The nearest entry at or before `line`, and where the text of its block ends.
    pub(crate) fn locate(&self, line: u64) -> (Block, u64) {
        let after = self.blocks.partition_point(|block| block.row <= line);
        let block = after.checked_sub(1).map_or(Block { offset: 0, row: 0 }, |at| self.blocks[at]);
        let end = self.blocks.get(after).map_or(self.tally.end, |next| next.offset);
        (block, end.min(self.tally.end))
    }
}
