//! Column facts, from one pass over all cells.
//!
//! Invariants:
//! - Facts do not depend on the number of threads: partial results are merged in the order of the file, and do not
//!   depend on how it was split.
//! - A column takes about 50 KB while facts are computed, and its different values 9 to 18 bytes each: at most [`EXACT`]
//!   of a column, [`EXACT_OF_ALL`] of all columns. Columns after [`COLUMNS`] have no facts.

mod distinct;
mod histogram;
mod tally;

use std::sync::{Mutex, PoisonError};

pub use crate::value::distinct::Distinct;
pub use histogram::Bin;

use crate::column::{ColumnFormat, ColumnType, Kinds, TypeChoices};
use crate::cursor::Cursor;
use crate::page::RowBuilder;
use crate::reading::Reading;
use crate::{Control, DateOrder, DecimalMark, Error, scan};
use distinct::EXACT;
use tally::ColumnTally;

/// The most columns with facts.
const COLUMNS: usize = 256;

/// The most different values of all columns that are counted exactly: up to 75 MB. Beyond it, the number of the column
/// with the most values is estimated.
const EXACT_OF_ALL: usize = 4 * EXACT;

/// Facts about the columns of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The number of examined rows. Later rows are not included.
    pub rows: u64,
    /// One for each column, at most 256.
    pub columns: Vec<ColumnFacts>,
    /// The number of rows that were too long to be examined completely
    /// ([`Limits::scan_row_bytes`](crate::Limits::scan_row_bytes)).
    pub clipped: u64,
}

/// Facts about one column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnFacts {
    /// The type of most cells, or the chosen type.
    pub column_type: ColumnType,
    /// The decimal mark of its numbers, if it has any.
    pub decimal_mark: DecimalMark,
    /// The order of day and month in its dates, if it has any.
    pub order: DateOrder,
    /// The number of cells of each kind, including empty ones.
    pub kinds: Kinds,
    /// The number of different values, without the empty one.
    pub distinct: Distinct,
    /// The minimum as it is written: by value in a column of numbers or dates, otherwise by text, byte by byte (its
    /// first 1,024 bytes).
    pub min: Option<String>,
    /// The maximum.
    pub max: Option<String>,
    /// The mean, in a column of numbers.
    pub mean: Option<f64>,
    /// The distribution, in a column of numbers: up to 24 bins of equal width.
    pub histogram: Vec<Bin>,
    /// Up to 10 of the most frequent values with their counts, if there are at most 1,024 different values.
    pub top: Vec<(String, u64)>,
}

impl Reading {
    /// Examines every cell of every current row: about 170 MB of text per second on one core.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Io`].
    pub fn facts(&self, control: Control<'_>) -> Result<Facts, Error> {
        self.facts_as(&TypeChoices::new(), control)
    }

    /// Computes facts with these chosen types.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn facts_as(&self, types: &TypeChoices, control: Control<'_>) -> Result<Facts, Error> {
        let (chunks, tally) = {
            let state = self.state();
            (scan::chunks(&state, 0), state.tally)
        };
        let count = (tally.widest as usize).min(COLUMNS);
        let places: Vec<usize> = (0..count).collect();
        let column_formats = self.column_formats(&places, types, control)?;
        let (first, syntax, overlay) = (self.first_line(), self.dialect().syntax, self.overlay());
        let columns: Mutex<Vec<_>> =
            Mutex::new(places.iter().map(|column| ColumnTally::new(column_formats.get(*column))).collect());
        let columns = || columns.lock().unwrap_or_else(PoisonError::into_inner);
        let clipped = self.scan(
            &chunks,
            control,
            (0.0, 1.0),
            |chunk, bytes, scratch| {
                let mut found: Vec<_> = columns().iter().map(ColumnTally::beside).collect();
                scratch.layout.fill(syntax, bytes, count);
                for row in (first.saturating_sub(chunk.line) as usize)..scratch.layout.len() {
                    let number = (chunk.line + row as u64) as u32;
                    if overlay.as_ref().is_some_and(|overlay| overlay.place(number).is_none()) {
                        continue;
                    }
                    let line = scratch.layout.line(bytes, row);
                    for (column, tally) in found.iter_mut().enumerate() {
                        let cell = syntax.unquote(line.raw(column), &mut scratch.spare);
                        tally.add(cell, number);
                    }
                }
                found
            },
            |found| {
                let mut columns = columns();
                columns.iter_mut().zip(found).for_each(|(column, found)| column.merge(found));
                fit(&mut columns, EXACT_OF_ALL);
                Ok(())
            },
        )?;
        let rows = overlay.map_or(tally.rows.saturating_sub(first), |overlay| overlay.rows());
        let columns = columns();
        let facts = columns.iter().enumerate().map(|(i, column)| {
            let chosen = types.contains_key(&i) || self.declared_types().contains_key(&i);
            self.conclude(i, column, chosen)
        });
        Ok(Facts { rows, columns: facts.collect::<Result<_, _>>()?, clipped })
    }

    /// `chosen`: the type was chosen.
    fn conclude(&self, column: usize, tally: &ColumnTally, chosen: bool) -> Result<ColumnFacts, Error> {
        let ColumnFormat { decimal_mark, order, column_type } = tally.format;
        let column_type = if chosen { column_type } else { tally.kinds.column_type() };
        let is_numeric = column_type.is_numeric();
        let [min, max] = match column_type {
            _ if is_numeric => tally.numbers.extremes(),
            ColumnType::Date => tally.dates.extremes(),
            _ => tally.texts.extremes(),
        };
        let mut top = Vec::new();
        for (line, count) in tally.distinct.top() {
            top.push((self.cell(u64::from(line), column)?, count));
        }
        Ok(ColumnFacts {
            column_type,
            decimal_mark,
            order,
            kinds: tally.kinds,
            distinct: tally.distinct.count(),
            min,
            max,
            mean: is_numeric.then(|| tally.numbers.mean()).flatten(),
            histogram: if is_numeric { tally.histogram.bins() } else { Vec::new() },
            top,
        })
    }

    /// The text of a cell.
    fn cell(&self, line: u64, column: usize) -> Result<String, Error> {
        let mut shaper = RowBuilder::new(self.limits(), 1, &(0..usize::MAX));
        Cursor::new(self).read(line, |event| shaper.take(event))?;
        let mut row = shaper.row(line);
        Ok(row.cells.get_mut(column).map(|cell| std::mem::take(&mut cell.text)).unwrap_or_default())
    }
}

/// Estimates the numbers of the columns with the most different values until the others have at most `most` together.
fn fit(columns: &mut [ColumnTally], most: usize) {
    let mut all: usize = columns.iter().map(|column| column.distinct.exact_len()).sum();
    while all > most
        && let Some(largest) = columns.iter_mut().max_by_key(|column| column.distinct.exact_len())
    {
        all -= largest.distinct.exact_len();
        largest.distinct.become_estimate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_of_all_columns_the_largest_numbers_are_estimated() {
        let integers = ColumnFormat {
            decimal_mark: DecimalMark::Point,
            order: DateOrder::DayFirst,
            column_type: ColumnType::Integer,
        };
        let mut columns: Vec<_> = [2_000, 5_000, 10, 4_000]
            .map(|count: u32| {
                let mut column = ColumnTally::new(integers);
                (0..count).for_each(|i| column.add(i.to_string().as_bytes(), i));
                column
            })
            .into();
        let exact = |columns: &[ColumnTally]| -> Vec<bool> {
            columns.iter().map(|column| column.distinct.count().exact).collect()
        };
        fit(&mut columns, 11_000);
        assert_eq!(exact(&columns), [true; 4]);
        fit(&mut columns, 6_000);
        assert_eq!(exact(&columns), [true, false, true, true]);
        fit(&mut columns, 1_999);
        assert_eq!(
            exact(&columns),
            [false, false, true, false],
            "frequencies of few values have their own bound"
        );
    }
}
