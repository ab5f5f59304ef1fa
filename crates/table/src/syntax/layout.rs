//! Where the rows and cells of a chunk in memory lie.

use std::ops::Range;

use super::{Scanner, Syntax, is_break};

/// The positions of the rows and of their first cells in one chunk of whole rows; used again for the next
/// chunk, so that nothing is allocated per chunk.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// The ends of the cells that are kept, row after row.
    ends: Vec<u32>,
    rows: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    /// Its first byte.
    start: u32,
    /// The byte after its last one.
    end: u32,
    /// Its first cell in `ends`.
    first: u32,
}

/// One row of a [`Layout`].
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    chunk: &'a [u8],
    span: Span,
    ends: &'a [u32],
}

impl Layout {
    /// Lays out `chunk`, below 4 GiB, which starts at the start of a row. A last row without a line break
    /// counts. Of each row the first `keep` cells are laid out.
    pub(crate) fn fill(&mut self, syntax: Syntax, chunk: &[u8], keep: usize) {
        self.ends.clear();
        self.rows.clear();
        let mut scanner = Scanner::new(syntax);
        let mut row = Span { start: 0, end: 0, first: 0 };
        let Self { ends, rows } = self;
        scanner.scan(chunk, |base, marks| {
            let base = base as u32;
            let (mut cells, mut breaks) = (marks.cells, marks.rows);
            while breaks != 0 {
                let end = breaks.trailing_zeros();
                // The marks below this break, which belong to its row.
                let below = cells & ((1 << end) - 1);
                push(ends, base, below, room(ends, &row, keep));
                cells ^= below;
                breaks &= breaks - 1;
                row.end = base + end;
                if room(ends, &row, keep) > 0 {
                    ends.push(row.end);
                }
                rows.push(row);
                row = Span { start: row.end + 1, end: 0, first: ends.len() as u32 };
            }
            push(ends, base, cells, room(ends, &row, keep));
        });
        if scanner.is_in_row() {
            row.end = chunk.len() as u32;
            if room(ends, &row, keep) > 0 {
                ends.push(row.end);
            }
            rows.push(row);
        }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Forgets the rows after the first `rows`.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if let Some(row) = self.rows.get(rows) {
            self.ends.truncate(row.first as usize);
            self.rows.truncate(rows);
        }
    }

    /// The row with this number; `chunk` is the text of the layout.
    pub(crate) fn line<'a>(&'a self, chunk: &'a [u8], row: usize) -> Line<'a> {
        let mut span = self.rows[row];
        let last = self.rows.get(row + 1).map_or(self.ends.len(), |next| next.first as usize);
        // Before a row may stand the rest of a line break and empty lines.
        while is_break(chunk[span.start as usize]) {
            span.start += 1;
        }
        Line { chunk, span, ends: &self.ends[span.first as usize..last] }
    }

    /// The row that has the byte at `position`, which is not before row `from`, or the first one after it; the
    /// number of rows if there is none.
    pub(crate) fn row_at(&self, from: usize, position: usize) -> usize {
        /// Finds are near each other or far apart: a few steps, then a jump.
        const STEPS: usize = 8;
        let is_before = |row: &Span| row.end as usize <= position;
        let rows = &self.rows[from..];
        from + match rows.iter().take(STEPS).position(|row| !is_before(row)) {
            Some(steps) => steps,
            None => rows.partition_point(is_before),
        }
    }
}

impl<'a> Line<'a> {
    /// The cells that were kept, with their quotes.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The cell in `column` as it is written, with its quotes; empty when the row has fewer cells or it was
    /// not kept.
    #[inline]
    pub(crate) fn raw(&self, column: usize) -> &'a [u8] {
        let Some(end) = self.ends.get(column) else { return b"" };
        let start = column.checked_sub(1).map_or(self.span.start, |before| self.ends[before] + 1);
        &self.chunk[start as usize..*end as usize]
    }

    /// Where it lies in the chunk, without its line break.
    pub(crate) fn range(&self) -> Range<usize> {
        self.span.start as usize..self.span.end as usize
    }
}

/// How many more cells of `row` may be kept.
fn room(ends: &[u32], row: &Span, keep: usize) -> usize {
    keep - (ends.len() - row.first as usize).min(keep)
}

/// Keeps the first `room` of the positions in `marks`.
#[inline]
fn push(ends: &mut Vec<u32>, base: u32, mut marks: u64, room: usize) {
    for _ in 0..room.min(marks.count_ones() as usize) {
        ends.push(base + marks.trailing_zeros());
        marks &= marks - 1;
    }
}
