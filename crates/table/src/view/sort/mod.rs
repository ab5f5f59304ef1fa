//! Sorts rows by keys: bytes that compare like the rows.
//!
//! A key contains the columns one after the other. No key of a cell is a prefix of a different one, so that keys
//! compare byte by byte at any length.
//!
//! Invariants:
//! - Keys take at most [`Limits::sort_bytes`](crate::Limits::sort_bytes) of memory (or one larger key). Further keys
//!   are sorted, written to an unlinked file and merged at the end.
//! - Equal keys stay in the order of the file.

mod keys;
mod runs;

use super::select::Selection;
use super::{SCAN, SortBy};
use std::sync::Arc;

use crate::column::{ColumnFormat, ColumnFormats};
use crate::order::RowOrder;
use crate::overlay::Overlay;
use crate::reading::Reading;
use crate::scan::Chunk;
use crate::syntax::{Line, Syntax};
use crate::value::text;
use crate::{Control, Error};
use keys::Keys;
use runs::Sorter;

/// The selected lines from `first` on, sorted by their keys, and the number of those that were too long to be examined completely.
pub(super) fn sort(
    reading: &Reading,
    maker: &KeyMaker,
    chunks: &[Chunk],
    selection: &Selection,
    first: u64,
    control: Control<'_>,
) -> Result<(RowOrder, u64), Error> {
    let mut sorter = Sorter::new(reading);
    let clipped = reading.scan(
        chunks,
        control,
        (0.0, SCAN),
        |chunk, bytes, scratch| {
            let (mut keys, mut key) = (Keys::default(), Vec::new());
            selection.select(bytes, maker.keep, scratch, |row, line, spare| {
                let number = chunk.line + row as u64;
                if number >= first && maker.write(number as u32, line, spare, &mut key) {
                    keys.push(number as u32, &key);
                    key.clear();
                }
            });
            keys
        },
        |keys| sorter.take(&keys, control),
    )?;
    Ok((sorter.finish(control)?, clipped))
}

/// The first byte of the key of a text; for values see [`ColumnFormat::write_key`]. Descending order inverts it. The
/// bytes of cells without a value of the column's type and of empty cells are never inverted and are above all others.
const TEXT: u8 = 0x20;
const NO_VALUE: u8 = 0xFC;
const EMPTY: u8 = 0xFE;

/// Builds the keys of rows.
pub(super) struct KeyMaker {
    syntax: Syntax,
    overlay: Option<Arc<Overlay>>,
    columns: Vec<Column>,
    /// The number of cells of a row that are examined.
    pub(super) keep: usize,
}

struct Column {
    column: usize,
    desc: bool,
    natural: bool,
    format: ColumnFormat,
}

impl KeyMaker {
    pub(super) fn new(
        by: &[SortBy],
        column_formats: &ColumnFormats,
        syntax: Syntax,
        overlay: Option<Arc<Overlay>>,
    ) -> Self {
        let column = |by: &SortBy| {
            let format = column_formats.get(by.column);
            Column { column: by.column, desc: by.desc, natural: by.natural, format }
        };
        // A repeated column has no effect.
        let by: Vec<&SortBy> = (by.iter().enumerate())
            .filter(|(i, again)| by[..*i].iter().all(|before| before.column != again.column))
            .map(|(_, by)| by)
            .collect();
        let keep = by.iter().map(|by| by.column + 1).max().unwrap_or(0);
        Self { syntax, overlay, columns: by.into_iter().map(column).collect(), keep }
    }

    /// Appends the key of a line: its cells and, with an overlay, its place. Returns false, without a key, when the line
    /// is no current row.
    pub(super) fn write(&self, number: u32, line: Line<'_>, spare: &mut Vec<u8>, key: &mut Vec<u8>) -> bool {
        let place = match &self.overlay {
            Some(overlay) => overlay.place(number).map(Some),
            None => Some(None),
        };
        let Some(place) = place else { return false };
        self.write_cells(line, spare, key);
        key.extend(place.into_iter().flat_map(u32::to_be_bytes));
        true
    }

    /// Appends the key of the cells of a line.
    pub(super) fn write_cells(&self, line: Line<'_>, spare: &mut Vec<u8>, key: &mut Vec<u8>) {
        for Column { column, desc, natural, format } in &self.columns {
            let cell = self.syntax.unquote(line.raw(*column), spare);
            let start = key.len();
            if cell.is_empty() {
                key.push(EMPTY);
                continue;
            }
            let mut inverted = start;
            if format.is_text() {
                key.push(TEXT);
                text::write_key(cell, *natural, key);
            } else if !format.write_key(cell, key) {
                key.push(NO_VALUE);
                inverted += 1;
                text::write_key(cell, *natural, key);
            }
            if *desc {
                key[inverted..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
    }
}
