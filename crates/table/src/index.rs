//! The index of row positions in the text: an entry for each block of rows, created while bytes arrive.
//!
//! Invariants:
//! - An entry is at the start of a row (or at line breaks before it), outside quotes; the first one is at the start of
//!   the text. Reading from an entry yields the same rows as reading from the start.
//! - A row starts less than two [`BLOCK_BYTES`] after its entry, so finding it skips less than that. Several entries
//!   may refer to the same row if many empty lines precede it; the last one is the nearest.
//! - The entries take at most 16 bytes for each [`BLOCK_BYTES`] of text, however many rows there are.

use crate::syntax::{Scanner, Syntax};
use crate::{Error, Limits};

/// The least distance of two entries in bytes of text.
pub(crate) const BLOCK_BYTES: u64 = 16 << 10;

/// A position at which a row starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The offset in the text in bytes.
    pub(crate) offset: u64,
    /// The number of the row, counted from 0.
    pub(crate) row: u64,
}

/// The counts of all rows so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The number of rows, without empty lines; the first may be a header.
    pub(crate) rows: u64,
    /// The end of the last row, after the first byte of its line break.
    pub(crate) end: u64,
    /// The cells of the first row.
    pub(crate) columns: u64,
    /// The cells of the widest row.
    pub(crate) widest: u64,
    /// The number of rows with another number of cells than the first one.
    pub(crate) ragged: u64,
}

impl Tally {
    fn add(&mut self, cells: u64, end: u64) {
        if self.rows == 0 {
            self.columns = cells;
        }
        self.widest = self.widest.max(cells);
        self.ragged += u64::from(cells != self.columns);
        self.rows += 1;
        self.end = end;
    }
}

/// Scans text and records its rows.
#[derive(Debug)]
pub(crate) struct Indexer {
    scanner: Scanner,
    tally: Tally,
    /// The scanned bytes.
    seen: u64,
    /// The delimiters in the incomplete row.
    delimiters: u64,
    /// The next row at or after this offset gets an entry.
    next_block: u64,
    /// The entries that were not taken yet.
    fresh: Vec<Block>,
}

impl Indexer {
    /// An indexer at the start of a text.
    pub(crate) fn new(syntax: Syntax) -> Self {
        Self {
            scanner: Scanner::new(syntax),
            tally: Tally::default(),
            seen: 0,
            delimiters: 0,
            next_block: BLOCK_BYTES,
            fresh: vec![Block { offset: 0, row: 0 }],
        }
    }

    /// Scans the following bytes.
    ///
    /// # Errors
    /// [`Error::TooMany`]. Earlier rows remain recorded.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(BLOCK_BYTES as usize) {
            if self.seen >= self.next_block && !self.scanner.is_in_row() {
                self.add_block(self.seen);
            }
            self.append_piece(piece);
            if self.tally.rows >= Limits::ROWS {
                return Err(Error::TooMany { what: "rows", limit: Limits::ROWS });
            }
        }
        Ok(())
    }

    fn append_piece(&mut self, bytes: &[u8]) {
        let Self { scanner, fresh, .. } = self;
        // State that changes with every group is kept in registers: this is the innermost loop of an upload.
        let (mut tally, mut delimiters, mut next_block) = (self.tally, self.delimiters, self.next_block);
        let seen = self.seen;
        scanner.scan(bytes, |base, marks| {
            let (mut cells, mut breaks) = (marks.cells, marks.rows);
            while breaks != 0 {
                let end = breaks.trailing_zeros();
                let below = cells & ((1 << end) - 1);
                cells ^= below;
                breaks &= breaks - 1;
                let next = seen + base as u64 + u64::from(end) + 1;
                tally.add(delimiters + u64::from(below.count_ones()) + 1, next);
                delimiters = 0;
                if next >= next_block {
                    fresh.push(Block { offset: next, row: tally.rows });
                    next_block = next + BLOCK_BYTES;
                }
            }
            delimiters += u64::from(cells.count_ones());
        });
        (self.tally, self.delimiters, self.next_block) = (tally, delimiters, next_block);
        self.seen += bytes.len() as u64;
    }

    /// Adds an entry for the next row, which starts at `offset` or after line breaks there.
    fn add_block(&mut self, offset: u64) {
        self.fresh.push(Block { offset, row: self.tally.rows });
        self.next_block = offset + BLOCK_BYTES;
    }

    /// The entries since the last call.
    pub(crate) fn take_fresh(&mut self) -> std::vec::Drain<'_, Block> {
        self.fresh.drain(..)
    }

    /// The counts of the complete rows.
    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    /// The counts if the text ends here: a last row without a line break counts.
    pub(crate) fn tally_at_end(&self) -> Tally {
        let mut tally = self.tally;
        if self.scanner.is_in_row() {
            tally.add(self.delimiters + 1, self.seen);
        }
        tally
    }

    /// Whether the text so far ends within quotes.
    pub(crate) fn is_in_quotes(&self) -> bool {
        self.scanner.is_in_quotes()
    }

    /// Whether the content of some cell is not contiguous in the text, apart from doubled quotes.
    pub(crate) fn is_sloppy(&self) -> bool {
        self.scanner.is_sloppy()
    }

    /// Whether the text so far ends within a row.
    pub(crate) fn is_in_row(&self) -> bool {
        self.scanner.is_in_row()
    }
}
