//! The cells of selected rows as values, for engines that aggregate them.
//!
//! Invariant: results are collected in the order of the file, whatever the number of threads.

use std::ops::Range;
use std::sync::Arc;

use crate::column::{ColumnFormat, OTHER_KEY, TEXT_KEY, group_key};
use crate::overlay::Overlay;
use crate::reading::Reading;
use crate::syntax::{Line, Syntax};
use crate::value::{Number, text};
use crate::view::{Query, Selection};
use crate::{ColumnType, Control, DateOrder, DecimalMark, Error, TypeChoices, scan};

/// How the cells of one column are interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellFormat(ColumnFormat);

/// What a cell is in a column of some type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellValue {
    /// A value of the column's type.
    Value,
    /// Text that is no value of the type.
    Other,
    /// No bytes.
    Empty,
}

impl CellFormat {
    /// Numbers with a decimal point.
    pub const NUMBER: Self = Self(ColumnFormat {
        decimal_mark: DecimalMark::Point,
        order: DateOrder::DayFirst,
        column_type: ColumnType::Decimal,
    });

    /// The first byte of the keys of texts.
    pub const TEXT: u8 = TEXT_KEY;

    /// The least first byte of keys of cells that are not of their column's type. Keys of empty cells begin with a larger
    /// byte, all other keys with a smaller one.
    pub const OTHER: u8 = OTHER_KEY;

    /// The type of the column.
    pub const fn column_type(&self) -> ColumnType {
        self.0.column_type
    }

    /// Whether both interpret every cell in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        match (a.column_type, b.column_type) {
            (a_type, b_type) if a_type.is_numeric() && b_type.is_numeric() => {
                a.decimal_mark == b.decimal_mark
            }
            (ColumnType::Date, ColumnType::Date) => a.order == b.order,
            _ => a.is_text() && b.is_text() || a.column_type == b.column_type,
        }
    }

    /// Appends a key of a cell. Keys are equal for cells of the same value, or of the same text in NFC where they have
    /// no value, and compare like the cells in a sort: cells without a value after those with one, empty cells last. No
    /// key is a prefix of a different one.
    pub fn write_key(&self, cell: &[u8], key: &mut Vec<u8>) -> CellValue {
        group_key(&self.0, cell, key)
    }

    /// Appends the key of a cell of a column of text, in which numbers are compared by value.
    pub fn write_natural_key(cell: &[u8], key: &mut Vec<u8>) {
        key.push(TEXT_KEY);
        text::write_key(cell, true, key);
    }

    /// The number of a cell; `None` for any other cell, and in a column of another type.
    pub fn number<'a>(&self, cell: &'a [u8]) -> Option<Number<'a>> {
        if self.0.column_type.is_numeric() { Number::parse(cell, self.0.decimal_mark) } else { None }
    }
}

/// The cells of one row.
#[derive(Clone, Copy)]
pub struct RowCells<'a> {
    line: Line<'a>,
    syntax: Syntax,
}

impl RowCells<'_> {
    /// The cell in a column, without quotes; empty if the row is too short. `scratch` may hold its bytes.
    #[inline]
    pub fn cell<'b>(&'b self, column: usize, scratch: &'b mut Vec<u8>) -> &'b [u8] {
        self.syntax.unquote(self.line.raw(column), scratch)
    }
}

/// The lines of a reading at one moment, with the header.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The line of the first row: 1 after a header.
    pub first: u64,
    /// The number of lines that do not change: all except a last one without a line break.
    pub settled: u64,
    /// The number of lines.
    pub all: u64,
    overlay: Option<Arc<Overlay>>,
}

impl Lines {
    /// Whether later lines may replace and remove the rows of earlier ones.
    pub const fn may_change(&self) -> bool {
        self.overlay.is_some()
    }

    /// Whether rows of the first `lines` lines may have been replaced or removed since these were all lines.
    pub fn have_changed_since(&self, lines: u64) -> bool {
        let Some(overlay) = &self.overlay else { return false };
        overlay.superseded_since(lines).is_none_or(|mut changed| changed.next().is_some())
    }
}

impl Reading {
    /// The current lines.
    pub fn lines(&self) -> Lines {
        let (first, overlay) = (self.first_line(), self.overlay());
        if let Some(overlay) = overlay {
            let applied = overlay.applied();
            return Lines { first, settled: applied, all: applied, overlay: Some(overlay) };
        }
        let state = self.state();
        Lines { first, settled: state.settled, all: state.tally.rows, overlay }
    }

    /// The formats of these columns: as chosen in `types`, otherwise from a sample of the file.
    ///
    /// # Errors
    /// [`Error::NoColumn`], [`Error::Cancelled`], [`Error::Io`].
    pub fn cell_formats(
        &self,
        columns: &[usize],
        types: &TypeChoices,
        control: Control<'_>,
    ) -> Result<Vec<CellFormat>, Error> {
        self.check_columns(columns)?;
        let formats = self.column_formats(columns, types, control)?;
        Ok(columns.iter().map(|column| CellFormat(formats.get(*column))).collect())
    }

    /// Folds the rows in `range` of these lines that meet the conditions of `query`, whose sort is ignored: `new` makes an
    /// accumulator for a part of the lines, `add` adds a row with at least the first `keep` cells, and `collect`
    /// receives each accumulator, in order, with the line after its part. `strictly`: as for [`Reading::view`]; otherwise
    /// a filter's value of another type equals no cell. Returns the number of rows that were not examined completely.
    ///
    /// A part has up to two mebibytes of text. The larger the parts, the fewer accumulators have to be joined. About one part
    /// per thread of the current rayon pool exists at a time.
    ///
    /// # Errors
    /// As [`Reading::view`], and those of `collect`.
    #[expect(clippy::too_many_arguments, reason = "two values of the query, and the steps of the fold")]
    pub fn fold<T: Send>(
        &self,
        query: &Query,
        strictly: bool,
        lines: &Lines,
        range: Range<u64>,
        keep: usize,
        control: Control<'_>,
        new: impl Fn() -> T + Sync,
        add: impl Fn(&mut T, &RowCells<'_>, &mut Vec<u8>) + Sync,
        mut collect: impl FnMut(T, u64) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        query.check()?;
        let filtered: Vec<usize> = query.filter.iter().map(|filter| filter.column).collect();
        self.check_columns(&filtered)?;
        let formats = self.column_formats(&filtered, &query.types, control)?;
        let selection = Selection::new(self, query, &formats, strictly)?;
        if range.is_empty() {
            return Ok(0);
        }
        let chunks: Vec<_> = {
            let chunks = scan::chunks(&self.state(), range.start);
            chunks.into_iter().take_while(|chunk| chunk.line < range.end).collect()
        };
        let is_row = |line: u32| lines.overlay.as_ref().is_none_or(|overlay| overlay.place(line).is_some());
        let syntax = self.dialect().syntax;
        let end_of = |count: usize| chunks.get(count).map_or(range.end, |chunk| chunk.line);
        self.scan_runs(
            &chunks,
            scan::CHUNKS_PER_THREAD,
            control,
            (0.0, 1.0),
            new,
            |part, chunk, bytes, scratch| {
                selection.select(bytes, keep, scratch, |row, line, spare| {
                    let number = chunk.line + row as u64;
                    if range.contains(&number) && is_row(number as u32) {
                        add(part, &RowCells { line, syntax }, spare);
                    }
                });
            },
            |part, count| collect(part, end_of(count)),
        )
    }
}
