//! Sorts rows by keys: bytes that compare as the rows do.
//!
//! A key holds the columns one after the other; no key is the beginning of a different one, so that keys
//! compare byte by byte whatever their lengths.
//!
//! Invariants:
//! - Keys take at most [`Limits::sort_bytes`](crate::Limits::sort_bytes) of memory (one key more than that if
//!   it alone is larger); past that they are sorted, written to a nameless file and merged at the end.
//! - Equal keys stay in the order of the file.

mod keys;
mod runs;

use super::select::Selection;
use super::{SCAN, SortBy};
use crate::column::{Nature, Natures};
use crate::order::Order;
use crate::reading::Reading;
use crate::scan::Chunk;
use crate::syntax::{Line, Syntax};
use crate::value::text;
use crate::{Control, Error};
use keys::Keys;
use runs::Sorter;

/// The lines from `first` on that are selected, sorted; and how many of them were too long to see whole.
pub(super) fn sort(
    reading: &Reading,
    by: &[SortBy],
    natures: &Natures,
    chunks: &[Chunk],
    selection: &Selection,
    first: u64,
    control: Control<'_>,
) -> Result<(Order, u64), Error> {
    let maker = KeyMaker::new(by, natures, reading.dialect().syntax);
    let mut sorter = Sorter::new(reading);
    let clipped = reading.scan(
        chunks,
        control,
        (0.0, SCAN),
        |chunk, bytes, scratch| {
            let (mut keys, mut key) = (Keys::default(), Vec::new());
            selection.select(bytes, maker.keep, scratch, |row, line, spare| {
                let number = chunk.line + row as u64;
                if number >= first {
                    maker.write(line, spare, &mut key);
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

/// The first byte of a cell's key, as are those of values ([`Nature::write_key`]). Inverted, they sort the other way round;
/// those of a cell that has no value of its column's type and of an empty one never are, and are above all of them.
const TEXT: u8 = 0x20;
const NO_VALUE: u8 = 0xFC;
const EMPTY: u8 = 0xFE;

/// Makes keys of rows.
struct KeyMaker {
    syntax: Syntax,
    columns: Vec<Column>,
    /// How many cells of a row it looks at.
    keep: usize,
}

struct Column {
    column: usize,
    desc: bool,
    natural: bool,
    nature: Nature,
}

impl KeyMaker {
    fn new(by: &[SortBy], natures: &Natures, syntax: Syntax) -> Self {
        let column = |by: &SortBy| {
            let nature = natures.get(by.column);
            Column { column: by.column, desc: by.desc, natural: by.natural, nature }
        };
        // A column that is there again decides nothing any more.
        let by: Vec<&SortBy> = (by.iter().enumerate())
            .filter(|(i, again)| by[..*i].iter().all(|before| before.column != again.column))
            .map(|(_, by)| by)
            .collect();
        let keep = by.iter().map(|by| by.column + 1).max().unwrap_or(0);
        Self { syntax, columns: by.into_iter().map(column).collect(), keep }
    }

    fn write(&self, line: Line<'_>, spare: &mut Vec<u8>, key: &mut Vec<u8>) {
        for Column { column, desc, natural, nature } in &self.columns {
            let cell = self.syntax.unquote(line.raw(*column), spare);
            let start = key.len();
            if cell.is_empty() {
                key.push(EMPTY);
                continue;
            }
            let mut inverted = start;
            if nature.is_text() {
                key.push(TEXT);
                text::write_key(cell, *natural, key);
            } else if !nature.write_key(cell, key) {
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
