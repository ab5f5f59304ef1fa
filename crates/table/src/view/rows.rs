//! Single lines: cells for a key index, and sort keys for views that are updated line by line.

use std::sync::Arc;

use super::Query;
use super::select::Selection;
use super::sort::KeyMaker;
use crate::column::ColumnFormats;
use crate::reading::{Reading, ReadingState};
use crate::scan::{self, Chunk};
use crate::syntax::{Line, Scanner, Syntax};
use crate::{Control, Error};

/// The cells of one line.
pub struct LineCells<'a> {
    number: u32,
    syntax: Syntax,
    line: Line<'a>,
    spare: &'a mut Vec<u8>,
}

impl LineCells<'_> {
    /// The number of the line, counted from 0, with the header.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The content of a cell; empty when the line has fewer cells.
    pub fn cell(&mut self, column: usize) -> &[u8] {
        self.syntax.unquote(self.line.raw(column), self.spare)
    }
}

impl Reading {
    /// Passes the first `columns` cells of each line from `from` on, without the header, to `work`, on the threads of
    /// the current rayon pool, and its results to `collect`, in the order of the lines. Lines that are no rows any more
    /// are included.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Io`], and errors of `collect`.
    pub fn map_lines<T: Send>(
        &self,
        from: u64,
        columns: usize,
        control: Control<'_>,
        work: impl Fn(LineCells<'_>) -> T + Sync,
        mut collect: impl FnMut(T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let chunks = scan::chunks(&self.state(), from);
        let (syntax, first) = (self.dialect().syntax, self.first_line().max(from));
        self.scan(
            &chunks,
            control,
            (0.0, 1.0),
            |chunk, bytes, scratch| {
                scratch.layout.fill(syntax, bytes, columns);
                let skipped = first.saturating_sub(chunk.line) as usize;
                let mut results = Vec::with_capacity(scratch.layout.len().saturating_sub(skipped));
                for row in skipped..scratch.layout.len() {
                    let (line, number) = (scratch.layout.line(bytes, row), (chunk.line + row as u64) as u32);
                    results.push(work(LineCells { number, syntax, line, spare: &mut scratch.spare }));
                }
                results
            },
            |results| results.into_iter().try_for_each(&mut collect),
        )?;
        Ok(())
    }

    /// Compiles a query for single lines. The types of its columns are those of the current rows. `strictly`: values of
    /// filters must be of their columns' types; otherwise they select no row.
    ///
    /// # Errors
    /// As [`Reading::view`].
    pub fn row_keys(
        self: &Arc<Self>,
        query: &Query,
        strictly: bool,
        control: Control<'_>,
    ) -> Result<RowKeys, Error> {
        query.check()?;
        let columns = query.columns();
        self.check_columns(&columns)?;
        let formats = self.column_formats(&columns, &query.types, control)?;
        Ok(RowKeys {
            reading: Arc::clone(self),
            selection: Selection::new(self, query, &formats, strictly)?,
            maker: KeyMaker::new(&query.sort, &formats, self.dialect().syntax, None),
            formats,
        })
    }
}

/// A query for single lines of a reading.
pub struct RowKeys {
    reading: Arc<Reading>,
    selection: Selection,
    maker: KeyMaker,
    formats: ColumnFormats,
}

impl RowKeys {
    /// Whether both interpret their columns alike, so that their keys of a row are equal.
    pub fn has_same_types(&self, other: &Self) -> bool {
        self.formats == other.formats
    }

    /// The reading of the lines.
    pub const fn reading(&self) -> &Arc<Reading> {
        &self.reading
    }

    /// The keys of those lines that the query selects: bytes that compare as the rows, empty without a sort. No key is a
    /// prefix of a different one. `lines`: which lines to examine, ascending; `None`: all. The results are ascending.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Io`], and errors of `collect`.
    pub fn select(
        &self,
        lines: Option<&[u32]>,
        control: Control<'_>,
        mut collect: impl FnMut(u32, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let first = self.reading.first_line();
        let chunks = {
            let state = self.reading.state();
            match lines {
                Some(lines) => blocks_of(&state, lines),
                None => scan::chunks(&state, 0),
            }
        };
        self.reading.scan(
            &chunks,
            control,
            (0.0, 1.0),
            |chunk, bytes, scratch| {
                let (mut found, mut keys) = (Vec::new(), Vec::new());
                let mut examine = |start: u64, bytes: &[u8]| {
                    self.selection.select(bytes, self.maker.keep, scratch, |row, line, spare| {
                        let number = start + row as u64;
                        if number >= first {
                            self.maker.write_cells(line, spare, &mut keys);
                            found.push((number as u32, keys.len()));
                        }
                    });
                };
                match lines {
                    None => examine(chunk.line, bytes),
                    Some(lines) => {
                        runs_of(chunk.line, bytes, lines, self.reading.dialect().syntax, examine);
                    }
                }
                (found, keys)
            },
            |(found, keys)| {
                let mut start = 0;
                found.into_iter().try_for_each(|(line, end)| {
                    let key = &keys[start..end];
                    start = end;
                    collect(line, key)
                })
            },
        )?;
        Ok(())
    }
}

/// Passes the bytes of those `lines` that are in a block to `examine`, each run of consecutive lines with the number of its
/// first one. The other lines of the block are skipped, which is several times as fast. `first`: the first line of the block.
fn runs_of(first: u64, bytes: &[u8], lines: &[u32], syntax: Syntax, mut examine: impl FnMut(u64, &[u8])) {
    let from = lines.partition_point(|line| u64::from(*line) < first);
    let mut wanted = lines[from..].iter().map(|line| u64::from(*line)).peekable();
    let (mut scanner, mut at, mut next) = (Scanner::new(syntax), 0, first);
    while let Some(line) = wanted.next() {
        let mut skipped = line - next;
        at += scanner.skip(&bytes[at..], &mut skipped);
        if skipped > 0 || at == bytes.len() {
            // The line is in a later block.
            return;
        }
        next = line + 1;
        while wanted.next_if_eq(&next).is_some() {
            next += 1;
        }
        let length = scanner.skip(&bytes[at..], &mut (next - line));
        examine(line, &bytes[at..at + length]);
        at += length;
    }
}

/// The blocks that contain these lines, which ascend.
fn blocks_of(state: &ReadingState, lines: &[u32]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for line in lines {
        let (block, end) = state.locate(u64::from(*line));
        if chunks.last().is_none_or(|last| last.line != block.row) {
            chunks.push(Chunk {
                offset: block.offset,
                length: end.saturating_sub(block.offset),
                line: block.row,
            });
        }
    }
    chunks
}
