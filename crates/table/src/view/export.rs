//! Downloads of views: all rows and cells, complete.

use std::io::Write;

use super::View;
use crate::cursor::Cursor;
use crate::encode::{write_cell, write_within_quotes};
use crate::syntax::{Event, Syntax};
use crate::value::{DecimalMark, Kind};
use crate::{Control, Error};

/// The format of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Commas, quotes where necessary, `\n` (RFC 4180 except for its `\r\n`).
    Csv,
    /// Like `Csv`, with tabs.
    Tsv,
}

impl Format {
    fn syntax(self) -> Syntax {
        let delimiter = if matches!(self, Self::Csv) { b',' } else { b'\t' };
        Syntax::new(delimiter, Some(b'"'), None).expect("three bytes that differ")
    }
}

/// The format of a download, and changes of its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// The format.
    pub format: Format,
    /// Whether formulas are disarmed by an apostrophe: in cells that begin with `=`, `+`, `-`, `@` (also in full
    /// width), a tab or a line break, unless they are numbers. Cells in which such a character follows a possible row
    /// separator of a spreadsheet get quotes (OWASP, "CSV Injection").
    pub disarm_formulas: bool,
}

impl From<Format> for Export {
    /// Without changes of cells.
    fn from(format: Format) -> Self {
        Self { format, disarm_formulas: false }
    }
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whether a spreadsheet that splits an unquoted cell, whatever the file's delimiter, may find a formula in a later
/// part.
fn may_hide_formula(cell: &[u8]) -> bool {
    let pieces = cell.split(|byte| matches!(byte, b';' | b'\t' | b',' | b'|'));
    pieces.skip(1).any(|piece| may_be_formula(piece.trim_ascii_start()))
}

/// Whether a spreadsheet may interpret a cell as a formula.
fn may_be_formula(cell: &[u8]) -> bool {
    let is_number = |decimal_mark| {
        matches!(Kind::classify(cell, decimal_mark), Kind::Integer | Kind::Decimal | Kind::Missing)
    };
    // A mark at the start of a file is its byte order mark, so the text after it counts.
    let cell = cell.strip_prefix(BYTE_ORDER_MARK).unwrap_or(cell);
    match cell {
        [b'=' | b'@' | b'\t' | b'\r' | b'\n', ..] => true,
        // U+FF0B, U+FF0D, U+FF1D, U+FF20.
        [0xEF, 0xBC, 0x8B | 0x8D | 0x9D | 0xA0, ..] => true,
        [b'+' | b'-', ..] => !(is_number(DecimalMark::Point) || is_number(DecimalMark::Comma)),
        _ => false,
    }
}

/// The largest cell that is buffered to decide about quotes; longer cells are always quoted.
const MAX_BUFFERED: usize = 64 << 10;

/// The size of one write.
const PIECE_SIZE: usize = 64 << 10;

/// The number of rows of a sorted view that are fetched together, in the order of the file: few at first, so that
/// output starts soon, then more, so that each block of the file is read once for several rows.
const MIN_FETCHED_ROWS: u64 = 4 << 10;
const MOST: u64 = 256 << 10;

/// The memory for rows that are fetched together. Further rows are fetched individually.
const FETCHED_BYTES: usize = 32 << 20;

impl View {
    /// Writes the header, if there is one, and all rows to `out`, in UTF-8 and in pieces of about 64 KiB.
    ///
    /// It holds at most that much of a cell, and up to 48 MiB of rows of a sorted view. On one core 1 GB takes about 4
    /// s in the order of the file, and about 20 s sorted.
    ///
    /// # Errors
    /// [`Error::Io`] of the table or of `out`; [`Error::Cancelled`].
    pub fn write(
        &self,
        export: impl Into<Export>,
        out: &mut impl Write,
        control: Control<'_>,
    ) -> Result<(), Error> {
        let rows = RowWriter::new(export.into());
        let mut export = Exporter { cursor: Cursor::new(&self.reading), rows, out };
        let order = self.order();
        let total = order.as_ref().map_or_else(|| self.total(), |order| order.len());
        if self.first() > 0 && self.reading.state().tally.rows > 0 {
            let mut result = Ok(());
            let Exporter { rows, out, .. } = &mut export;
            self.read_header(|event| {
                if result.is_ok() {
                    result = rows.take(event).and_then(|()| rows.flush_above(PIECE_SIZE, *out));
                }
            })?;
            result?;
        }
        let (mut at, mut step) = (0, MIN_FETCHED_ROWS);
        while at < total {
            control.check()?;
            control.report(at, total, (0.0, 1.0));
            let next = (at + step).min(total);
            match &order {
                None => (at..next).try_for_each(|row| export.row(row + self.first()))?,
                Some(order) if self.query.sort.is_empty() && !order.is_live() && !self.is_overlaid => {
                    order.get(at..next)?.into_iter().try_for_each(|line| export.row(u64::from(line)))?;
                }
                Some(order) => {
                    let fitted = export.scattered(&order.get(at..next)?, control)?;
                    step = if fitted { (2 * step).min(MOST) } else { (step / 2).max(MIN_FETCHED_ROWS) };
                }
            }
            at = next;
        }
        export.flush_above(0)?;
        control.report(1, 1, (0.0, 1.0));
        Ok(())
    }
}

/// Writes rows of cells that are in memory.
pub struct CellWriter<W> {
    rows: RowWriter,
    out: W,
}

impl<W: Write> CellWriter<W> {
    /// A writer of rows to `out`, in UTF-8 and in pieces of about 64 KiB.
    pub fn new(export: impl Into<Export>, out: W) -> Self {
        Self { rows: RowWriter::new(export.into()), out }
    }

    /// Writes one row.
    ///
    /// # Errors
    /// [`Error::Io`] of `out`.
    pub fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
        for (i, cell) in cells.into_iter().enumerate() {
            if i > 0 {
                self.rows.take(Event::Cell)?;
            }
            self.rows.take(Event::Content(cell.as_bytes()))?;
        }
        self.rows.take(Event::Row)?;
        self.rows.flush_above(PIECE_SIZE, &mut self.out)
    }

    /// Writes the rest.
    ///
    /// # Errors
    /// [`Error::Io`] of `out`.
    pub fn finish(mut self) -> Result<(), Error> {
        self.rows.flush_above(0, &mut self.out)
    }
}

/// A download in progress.
struct Exporter<'a, W> {
    cursor: Cursor<'a>,
    rows: RowWriter,
    out: &'a mut W,
}

impl<W: Write> Exporter<'_, W> {
    /// Writes one row.
    fn row(&mut self, line: u64) -> Result<(), Error> {
        let Self { cursor, rows, out } = self;
        let mut result = Ok(());
        cursor.read(line, |event| {
            if result.is_ok() {
                result = rows.take(event).and_then(|()| rows.flush_above(PIECE_SIZE, *out));
            }
        })?;
        result
    }

    /// Writes rows at scattered positions of the file. Returns whether they fitted into memory.
    fn scattered(&mut self, lines: &[u32], control: Control<'_>) -> Result<bool, Error> {
        let mut wanted: Vec<(u32, usize)> = lines.iter().copied().zip(0..).collect();
        wanted.sort_unstable();
        let mut fetched = RowWriter::new(self.rows.export);
        let (mut places, mut fitted) = (vec![0..0; lines.len()], true);
        for (i, (line, slot)) in wanted.into_iter().enumerate() {
            if i % MIN_FETCHED_ROWS as usize == 0 {
                control.check()?;
            }
            let start = fetched.written.len();
            if start < FETCHED_BYTES
                && fetched.row_within(&mut self.cursor, u64::from(line), FETCHED_BYTES)?
            {
                places[slot] = start..fetched.written.len();
            } else {
                fitted = false;
            }
        }
        for (line, place) in lines.iter().zip(places) {
            // Every row has at least a line break.
            if place.is_empty() {
                self.row(u64::from(*line))?;
            } else {
                self.rows.written.extend_from_slice(&fetched.written[place]);
                self.flush_above(PIECE_SIZE)?;
            }
        }
        Ok(fitted)
    }

    fn flush_above(&mut self, least: usize) -> Result<(), Error> {
        self.rows.flush_above(least, self.out)
    }
}

/// Writes rows into memory, cell by cell.
struct RowWriter {
    export: Export,
    syntax: Syntax,
    /// The buffered part of the current cell.
    cell: Vec<u8>,
    /// Whether the cell is too long to be buffered, and its opening quote was written.
    open: bool,
    /// Whether the cell is the first of its row.
    first: bool,
    /// The output that was not passed on yet.
    written: Vec<u8>,
}

impl RowWriter {
    fn new(export: Export) -> Self {
        let syntax = export.format.syntax();
        Self { export, syntax, cell: Vec::new(), open: false, first: true, written: Vec::new() }
    }

    /// Adds an apostrophe to the buffered beginning of a cell if it may be a formula.
    fn disarm(&mut self) {
        if self.export.disarm_formulas && may_be_formula(&self.cell) {
            self.cell.insert(0, b'\'');
        }
    }

    /// Passes the output on if it exceeds `least` bytes.
    fn flush_above(&mut self, least: usize, out: &mut impl Write) -> Result<(), Error> {
        if self.written.len() > least {
            out.write_all(&self.written)?;
            self.written.clear();
        }
        Ok(())
    }

    /// Writes a row unless the output would exceed `most` bytes. Returns whether it was written.
    fn row_within(&mut self, cursor: &mut Cursor<'_>, line: u64, most: usize) -> Result<bool, Error> {
        let (start, mut result) = (self.written.len(), Ok(()));
        cursor.read(line, |event| {
            if result.is_ok() && self.written.len() <= most {
                result = self.take(event);
            }
        })?;
        result?;
        let fits = self.written.len() <= most;
        if !fits {
            self.written.truncate(start);
            self.cell.clear();
            (self.open, self.first) = (false, true);
        }
        Ok(fits)
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        match event {
            Event::Content(content) => {
                self.cell.extend_from_slice(content);
                if self.cell.len() > MAX_BUFFERED {
                    if !self.open {
                        self.disarm();
                        self.written.push(b'"');
                    }
                    self.open = true;
                    self.write_open_cell();
                }
            }
            Event::Cell => {
                self.end_cell(false)?;
                self.written.push(self.syntax.delimiter());
                self.first = false;
            }
            Event::Row => {
                self.end_cell(self.first)?;
                self.written.push(b'\n');
                self.first = true;
            }
        }
        Ok(())
    }

    /// `alone`: the cell is the only one of its row, and must not be written as an empty line.
    fn end_cell(&mut self, alone: bool) -> Result<(), Error> {
        if self.open {
            self.write_open_cell();
            self.written.push(b'"');
            self.open = false;
        } else if alone && self.cell.is_empty() {
            self.written.extend_from_slice(b"\"\"");
        } else {
            self.disarm();
            if self.export.disarm_formulas && may_hide_formula(&self.cell) {
                self.written.push(b'"');
                self.write_open_cell();
                self.written.push(b'"');
            } else {
                write_cell(&self.cell, self.syntax, &mut self.written)?;
            }
        }
        self.cell.clear();
        Ok(())
    }

    /// Writes the buffered part of an open cell.
    fn write_open_cell(&mut self) {
        write_within_quotes(&self.cell, b'"', None, &mut self.written);
        self.cell.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_distinguished_from_numbers_and_dates() {
        for cell in [
            "=1+1",
            "@SUM(A1)",
            "+cmd|' /C calc'!A0",
            "-2+3",
            "\t=1",
            "\r=1",
            "--5",
            "-a",
            "=5",
            "\n=1",
            "\u{ff1d}1",
            "\u{feff}=1",
        ] {
            assert!(may_be_formula(cell.as_bytes()), "{cell:?}");
        }
        for cell in ["", "-", "-5", "+3.2", "-1,5", "-1.234,5", "-$5", "+5 %", "a=1", "'=1", "5-3"] {
            assert!(!may_be_formula(cell.as_bytes()), "{cell:?}");
        }
        for cell in ["a;=1", "a, =1", "a|@b", "1\t-a", ";=1"] {
            assert!(may_hide_formula(cell.as_bytes()), "{cell:?}");
        }
        for cell in ["b, c", "1;-5", "a=1", "a-b", ""] {
            assert!(!may_hide_formula(cell.as_bytes()), "{cell:?}");
        }
    }
}
