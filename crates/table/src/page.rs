//! Rows for display: cells as text, exactly as written, truncated if they are too long.

use std::ops::Range;

use crate::Limits;
use crate::syntax::Event;

/// A window of rows of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The position of the first row in the view, counted from 0.
    pub from: u64,
    /// The number of rows of the view.
    pub total: u64,
    /// The rows; fewer than requested at the end of the view.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its position in the file, counted from 0, without the header (unless the view counts that as a row).
    pub number: u64,
    /// Its first cells, or those from the first requested column on: at most [`Limits::row_cells`], and its share of
    /// [`Limits::page_cells`].
    pub cells: Vec<Cell>,
    /// The number of all its cells.
    pub width: u64,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The content, without quotes; bytes that are not UTF-8 are U+FFFD.
    pub text: String,
    /// The number of characters of a truncated cell.
    pub cut: Option<u64>,
}

/// Builds rows from the events of a reader.
pub(crate) struct RowBuilder {
    cell_bytes: usize,
    /// The number of cells before the first shown one.
    skipped: u64,
    row_cells: usize,
    row_bytes: usize,
    cells: Vec<Cell>,
    width: u64,
    /// The remaining bytes for cells of the row.
    left: usize,
    /// The beginning of the current cell.
    start: Vec<u8>,
    /// The length of the current cell in bytes and in characters.
    bytes: u64,
    characters: u64,
}

impl RowBuilder {
    /// A builder for these columns of a page of `rows` rows.
    pub(crate) fn new(limits: &Limits, rows: usize, columns: &Range<usize>) -> Self {
        let row_bytes = limits.page_bytes / rows.max(1);
        Self {
            cell_bytes: limits.cell_bytes,
            skipped: columns.start as u64,
            row_cells: limits.shown_columns(rows).min(columns.len()),
            row_bytes,
            cells: Vec::new(),
            width: 0,
            left: row_bytes,
            start: Vec::new(),
            bytes: 0,
            characters: 0,
        }
    }

    pub(crate) fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Content(content) => {
                self.bytes += content.len() as u64;
                self.characters += characters(content);
                if self.is_shown() {
                    // One byte more than is shown, to see whether the last character is complete.
                    let room = (self.limit() + 1).saturating_sub(self.start.len());
                    self.start.extend_from_slice(&content[..content.len().min(room)]);
                }
            }
            Event::Cell | Event::Row => self.end_cell(),
        }
    }

    /// Completes the current row.
    pub(crate) fn row(&mut self, number: u64) -> Row {
        self.left = self.row_bytes;
        let row = Row { number, cells: std::mem::take(&mut self.cells), width: self.width };
        self.cells.reserve(row.cells.len());
        self.width = 0;
        row
    }

    fn limit(&self) -> usize {
        self.cell_bytes.min(self.left)
    }

    /// Truncates the cell to the bytes that are left for it. Returns whether it was longer.
    fn truncate_cell(&mut self) -> bool {
        let limit = self.limit();
        let is_longer = self.bytes > limit as u64;
        if is_longer {
            self.start.truncate(whole_characters(&self.start, limit));
        }
        is_longer
    }

    /// Whether the current cell is shown.
    const fn is_shown(&self) -> bool {
        self.width >= self.skipped && self.cells.len() < self.row_cells
    }

    fn end_cell(&mut self) {
        let is_shown = self.is_shown();
        self.width += 1;
        if is_shown {
            let is_cut = self.truncate_cell();
            self.left -= self.start.len();
            let text = match String::from_utf8(std::mem::take(&mut self.start)) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            };
            self.cells.push(Cell { text, cut: is_cut.then_some(self.characters) });
        }
        self.start.clear();
        (self.bytes, self.characters) = (0, 0);
    }
}

/// The number of characters that start in `bytes`.
fn characters(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| !is_continuation(**byte)).count() as u64
}

/// The length of the complete characters in the first `limit` bytes.
fn whole_characters(bytes: &[u8], limit: usize) -> usize {
    let mut end = limit.min(bytes.len());
    let lowest = end.saturating_sub(3);
    while end > lowest && bytes.get(end).is_some_and(|byte| is_continuation(*byte)) {
        end -= 1;
    }
    end
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}
