//! The counts of one column.

use std::cmp::Ordering;

use super::distinct::Counter;
use super::histogram::Histogram;
use crate::column::{ColumnFormat, ColumnType, Kinds};
use crate::value::date::{self, Instant};
use crate::value::distinct::first_bytes;
use crate::value::{self, CellValue, DecimalMark, Kind, Number};

/// The most bytes of a cell that are stored as minimum or maximum.
const TEXT: usize = 1024;

/// The counts of one column so far.
pub(super) struct ColumnTally {
    pub(super) format: ColumnFormat,
    pub(super) kinds: Kinds,
    pub(super) distinct: Counter,
    pub(super) numbers: Numbers,
    pub(super) dates: Dates,
    pub(super) texts: Texts,
    pub(super) histogram: Histogram,
    /// The kind of the last cell whose form was not that of the cell before.
    last: Kind,
}

impl ColumnTally {
    pub(super) fn new(format: ColumnFormat) -> Self {
        Self {
            format,
            kinds: Kinds::default(),
            distinct: Counter::default(),
            numbers: Numbers::default(),
            dates: Dates::default(),
            texts: Texts::default(),
            histogram: Histogram::default(),
            last: Kind::Empty,
        }
    }

    /// An empty tally of the same column for other rows.
    pub(super) fn beside(&self) -> Self {
        Self { distinct: self.distinct.beside(), last: self.last, ..Self::new(self.format) }
    }

    /// Counts a cell of `line`.
    #[inline]
    pub(super) fn add(&mut self, cell: &[u8], line: u32) {
        if cell.is_empty() {
            self.kinds.empty += 1;
            return;
        }
        self.distinct.add(cell, line);
        self.texts.add(cell);
        // Most cells have the form of the one before.
        match self.last {
            Kind::Text if value::is_surely_text(cell) => {
                self.kinds.text += 1;
                return;
            }
            Kind::Date => {
                if let Some(instant) = date::parse_iso_day(cell) {
                    self.kinds.date += 1;
                    self.dates.add(cell, &instant);
                    return;
                }
            }
            Kind::Integer | Kind::Decimal if self.format.column_type != ColumnType::Date => {
                if let Some((is_integer, value)) = Number::short_value(cell, self.format.decimal_mark) {
                    self.kinds.count(if is_integer { Kind::Integer } else { Kind::Decimal });
                    self.add_number(cell, value);
                    return;
                }
            }
            _ => {}
        }
        self.add_any(cell);
    }

    /// Counts the value of a cell that is not empty.
    fn add_any(&mut self, cell: &[u8]) {
        let ColumnFormat { decimal_mark, order, column_type } = self.format;
        let (kind, value) = Kind::with_value(cell, decimal_mark, order);
        self.kinds.count(kind);
        self.last = kind;
        match value {
            Some(CellValue::Number(number)) => {
                self.add_number(cell, number.value());
            }
            Some(CellValue::Instant(instant)) if kind == Kind::Date || column_type == ColumnType::Date => {
                self.dates.add(cell, &instant);
                return;
            }
            Some(CellValue::Instant(_)) | None => {}
        }
        // The parser of dates has not examined these cells.
        if column_type == ColumnType::Date
            && kind != Kind::Text
            && let Some(instant) = date::parse(cell, order)
        {
            self.dates.add(cell, &instant);
        }
    }

    #[inline]
    fn add_number(&mut self, cell: &[u8], value: f64) {
        self.numbers.add(cell, value, self.format.decimal_mark);
        self.histogram.add(value);
    }

    /// Adds the tally of later rows.
    pub(super) fn merge(&mut self, later: Self) {
        self.kinds.add(&later.kinds);
        self.distinct.merge(later.distinct);
        self.numbers.merge(later.numbers, self.format.decimal_mark);
        self.dates.merge(later.dates);
        self.texts.merge(&later.texts);
        self.histogram.merge(&later.histogram);
        self.last = later.last;
    }
}

/// The numbers of a column.
#[derive(Default)]
pub(super) struct Numbers {
    count: u64,
    sum: f64,
    /// The minimum and the maximum, as written, with their values.
    extremes: Option<[(Vec<u8>, f64); 2]>,
}

impl Numbers {
    #[inline]
    fn add(&mut self, cell: &[u8], value: f64, decimal_mark: DecimalMark) {
        self.count += 1;
        self.sum += value;
        let is_within = |[min, max]: &[(Vec<u8>, f64); 2]| min.1 < value && value < max.1;
        if !self.extremes.as_ref().is_some_and(is_within) {
            self.add_extreme(cell, value, decimal_mark);
        }
    }

    fn add_extreme(&mut self, cell: &[u8], value: f64, decimal_mark: DecimalMark) {
        let Some([min, max]) = &mut self.extremes else {
            self.extremes = Some([(cell.to_vec(), value), (cell.to_vec(), value)]);
            return;
        };
        // Rounding may make two numbers equal, but never reverses their order.
        let compare = |other: &[u8]| {
            let number = |cell| Number::parse(cell, decimal_mark);
            number(cell).zip(number(other)).map(|(number, other)| number.compare(&other))
        };
        if value < min.1 || value == min.1 && compare(&min.0) == Some(Ordering::Less) {
            replace(&mut min.0, cell);
            min.1 = value;
        }
        if value > max.1 || value == max.1 && compare(&max.0) == Some(Ordering::Greater) {
            replace(&mut max.0, cell);
            max.1 = value;
        }
    }

    fn merge(&mut self, later: Self, decimal_mark: DecimalMark) {
        let (count, sum) = (self.count + later.count, self.sum + later.sum);
        for (cell, value) in later.extremes.into_iter().flatten() {
            self.add(&cell, value, decimal_mark);
        }
        (self.count, self.sum) = (count, sum);
    }

    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The minimum and the maximum.
    pub(super) fn extremes(&self) -> [Option<String>; 2] {
        [0, 1].map(|i| self.extremes.as_ref().map(|both| shown(&both[i].0)))
    }
}

/// The first eight bytes as a number, which compares like them.
#[inline]
fn prefix(cell: &[u8]) -> u64 {
    first_bytes(cell).swap_bytes()
}

/// Replaces text in place, because sorted columns have a new maximum in every row.
fn replace(text: &mut Vec<u8>, new: &[u8]) {
    text.clear();
    text.extend_from_slice(new);
}

/// The dates of a column.
#[derive(Default)]
pub(super) struct Dates {
    /// The keys of the minimum and the maximum, and their text.
    extremes: Option<[(Vec<u8>, Vec<u8>); 2]>,
    /// Scratch memory for a key.
    key: Vec<u8>,
}

impl Dates {
    fn add(&mut self, cell: &[u8], instant: &Instant<'_>) {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        instant.write_key(&mut key);
        self.add_key(&key, cell);
        self.key = key;
    }

    fn add_key(&mut self, key: &[u8], cell: &[u8]) {
        let Some([min, max]) = &mut self.extremes else {
            self.extremes = Some([(key.to_vec(), cell.to_vec()), (key.to_vec(), cell.to_vec())]);
            return;
        };
        if key < &min.0[..] {
            replace(&mut min.0, key);
            replace(&mut min.1, cell);
        } else if key > &max.0[..] {
            replace(&mut max.0, key);
            replace(&mut max.1, cell);
        }
    }

    fn merge(&mut self, later: Self) {
        later.extremes.into_iter().flatten().for_each(|(key, cell)| self.add_key(&key, &cell));
    }

    /// The minimum and the maximum.
    pub(super) fn extremes(&self) -> [Option<String>; 2] {
        [0, 1].map(|i| self.extremes.as_ref().map(|both| shown(&both[i].1)))
    }
}

/// The texts of a column.
#[derive(Default)]
pub(super) struct Texts {
    extremes: Option<[Vec<u8>; 2]>,
    /// The first bytes of the minimum and of the maximum: most cells differ from both in these.
    prefixes: [u64; 2],
}

impl Texts {
    #[inline]
    fn add(&mut self, cell: &[u8]) {
        let prefix = prefix(cell);
        if self.extremes.is_none() || prefix <= self.prefixes[0] || prefix >= self.prefixes[1] {
            self.add_extreme(cell, prefix);
        }
    }

    #[inline(never)]
    fn add_extreme(&mut self, cell: &[u8], prefix: u64) {
        let cell = &cell[..cell.len().min(TEXT)];
        let Some([min, max]) = &mut self.extremes else {
            self.extremes = Some([cell.to_vec(), cell.to_vec()]);
            self.prefixes = [prefix; 2];
            return;
        };
        if cell < &min[..] {
            replace(min, cell);
            self.prefixes[0] = prefix;
        } else if cell > &max[..] {
            replace(max, cell);
            self.prefixes[1] = prefix;
        }
    }

    fn merge(&mut self, later: &Self) {
        for cell in later.extremes.iter().flatten() {
            self.add(cell);
        }
    }

    /// The minimum and the maximum.
    pub(super) fn extremes(&self) -> [Option<String>; 2] {
        [0, 1].map(|i| self.extremes.as_ref().map(|both| shown(&both[i])))
    }
}

fn shown(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).into_owned()
}
