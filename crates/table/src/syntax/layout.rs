//! The positions of rows and cells of a chunk in memory.

use std::ops::Range;

use super::{Scanner, Syntax, is_break};

/// The positions of the rows and of their first cells in one chunk of complete rows. Reused for the next chunk, so that
/// nothing is allocated per chunk.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// The ends of the recorded cells, row after row.
    ends: Vec<u32>,
    rows: Vec<RowSpan>,
}

#[derive(Clone, Copy, Debug)]
struct RowSpan {
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
    span: RowSpan,
    ends: &'a [u32],
}

impl Layout {
    /// Lays out `chunk`, below 4 GiB, which starts at the start of a row. A last row without a line break counts.
    /// Records the first `keep` cells of each row.
    pub(crate) fn fill(&mut self, syntax: Syntax, chunk: &[u8], keep: usize) {
        self.ends.clear();
        self.rows.clear();
        let mut scanner = Scanner::new(syntax);
        let mut row = RowSpan { start: 0, end: 0, first: 0 };
        let Self { ends, rows } = self;
        scanner.scan(chunk, |base, marks| {
            let base = base as u32;
            let (mut cells, mut breaks) = (marks.cells, marks.rows);
            while breaks != 0 {
                let end = breaks.trailing_zeros();
                // The marks below this line break belong to its row.
                let below = cells & ((1 << end) - 1);
                push(ends, base, below, room(ends, &row, keep));
                cells ^= below;
                breaks &= breaks - 1;
                row.end = base + end;
                if room(ends, &row, keep) > 0 {
                    ends.push(row.end);
                }
                rows.push(row);
                row = RowSpan { start: row.end + 1, end: 0, first: ends.len() as u32 };
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

    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Removes the rows after the first `rows`.
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
        // A row may be preceded by the rest of a line break and empty lines.
        while is_break(chunk[span.start as usize]) {
            span.start += 1;
        }
        Line { chunk, span, ends: &self.ends[span.first as usize..last] }
    }

    /// The row with the byte at `position`, which is not before row `from`, or the first row after it; the number of
    /// rows if there is none.
    pub(crate) fn row_at(&self, from: usize, position: usize) -> usize {
        /// Matches are close together or far apart: a few steps, then a binary search.
        const STEPS: usize = 8;
        let is_before = |row: &RowSpan| row.end as usize <= position;
        let rows = &self.rows[from..];
        from + match rows.iter().take(STEPS).position(|row| !is_before(row)) {
            Some(steps) => steps,
            None => rows.partition_point(is_before),
        }
    }
}

impl<'a> Line<'a> {
    /// The number of recorded cells.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The cell in `column` as it is written, with its quotes; empty when the row has fewer cells or the cell was not
    /// recorded.
    #[inline]
    pub(crate) fn raw(&self, column: usize) -> &'a [u8] {
        let Some(end) = self.ends.get(column) else { return b"" };
        let start = column.checked_sub(1).map_or(self.span.start, |before| self.ends[before] + 1);
        &self.chunk[start as usize..*end as usize]
    }

    /// The range of the row in the chunk, without its line break.
    pub(crate) fn range(&self) -> Range<usize> {
        self.span.start as usize..self.span.end as usize
    }
}

/// The number of cells of `row` that may still be recorded.
fn room(ends: &[u32], row: &RowSpan, keep: usize) -> usize {
    keep - (ends.len() - row.first as usize).min(keep)
}

/// Records the first `room` of the positions in `marks`.
#[inline]
fn push(ends: &mut Vec<u32>, base: u32, mut marks: u64, room: usize) {
    for _ in 0..room.min(marks.count_ones() as usize) {
        ends.push(base + marks.trailing_zeros());
        marks &= marks - 1;
    }
}
