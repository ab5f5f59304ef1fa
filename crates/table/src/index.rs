//! Where rows lie in the text: an entry for each block of rows, built while the bytes arrive.
//!
//! Invariants:
//! - An entry stands at the start of a row (or at line breaks before it), outside quotes; the first one stands
//!   at the start of the text. Reading from an entry gives the same rows as reading from the start.
//! - A row starts less than two [`BLOCK_BYTES`] after its entry, so it is found by skipping less than that,
//!   whatever lies around it. Several entries may name the same row, when many empty lines stand before it:
//!   the last one is the nearest.
//! - The entries take at most 16 bytes for each [`BLOCK_BYTES`] of text, however many rows there are.

use crate::syntax::{Scanner, Syntax};
use crate::{Error, Limits};

/// How far apart the entries are at least, in bytes of text.
pub(crate) const BLOCK_BYTES: u64 = 16 << 10;

/// A position where a row starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// In bytes from the start of the text.
    pub(crate) offset: u64,
    /// The number of the row, the first of the text being 0.
    pub(crate) row: u64,
}

/// What is known of all rows so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The rows, those that are not empty lines; the first is a header perhaps.
    pub(crate) rows: u64,
    /// Where the last of them ends, with the first byte of its line break: how much text they take.
    pub(crate) end: u64,
    /// The cells of the first row.
    pub(crate) columns: u64,
    /// The cells of the widest row.
    pub(crate) widest: u64,
    /// The rows that have not as many cells as the first one.
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

/// Moves over text and finds its rows.
#[derive(Debug)]
pub(crate) struct Indexer {
    scanner: Scanner,
    tally: Tally,
    /// The bytes seen.
    seen: u64,
    /// The delimiters seen in the row that is not whole yet.
    delimiters: u64,
    /// A row that starts here or later gets an entry.
    next_block: u64,
    /// The entries that have not been taken yet.
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

    /// Moves over the bytes that follow.
    ///
    /// # Errors
    /// [`Error::TooMany`]; the rows before are known.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(BLOCK_BYTES as usize) {
            if self.seen >= self.next_block && !self.scanner.is_in_row() {
                self.enter(self.seen);
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
        // What changes with every group is kept out of memory: this is the innermost loop of an upload.
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

    /// Enters a block for the next row, which starts at `offset` or after line breaks there.
    fn enter(&mut self, offset: u64) {
        self.fresh.push(Block { offset, row: self.tally.rows });
        self.next_block = offset + BLOCK_BYTES;
    }

    /// The entries since the last call.
    pub(crate) fn take_fresh(&mut self) -> std::vec::Drain<'_, Block> {
        self.fresh.drain(..)
    }

    /// What is known of the whole rows.
    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    /// What is known if the text ends here: a last row without a line break counts.
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

    /// Whether some cell's content does not stand in the text in one piece, besides doubled quotes.
    pub(crate) fn is_sloppy(&self) -> bool {
        self.scanner.is_sloppy()
    }

    /// Whether the text so far ends within a row.
    pub(crate) fn is_in_row(&self) -> bool {
        self.scanner.is_in_row()
    }
}
