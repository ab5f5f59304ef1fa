//! The counts of one column.

use super::distinct::Counter;
use super::histogram::Histogram;
use crate::column::{ColumnFormat, ColumnType, Kinds};
use crate::value::{DateOrder, DecimalMark, Kind, Number, date};

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
        }
    }

    /// An empty tally of the same column for other rows.
    pub(super) fn beside(&self) -> Self {
        Self { distinct: self.distinct.beside(), ..Self::new(self.format) }
    }

    /// Counts a cell of `line`.
    pub(super) fn add(&mut self, cell: &[u8], line: u32) {
        let (kind, number) = Kind::with_number(cell, self.format.decimal_mark);
        self.kinds.count(kind);
        if kind == Kind::Empty {
            return;
        }
        self.distinct.add(cell, line);
        self.texts.add(cell);
        if let Some(number) = number {
            let value = number.value();
            self.numbers.add(cell, value, &number, self.format.decimal_mark);
            self.histogram.add(value);
        }
        if kind == Kind::Date || self.format.column_type == ColumnType::Date {
            self.dates.add(cell, self.format.order);
        }
    }

    /// Adds the tally of later rows.
    pub(super) fn merge(&mut self, later: Self) {
        self.kinds.add(&later.kinds);
        self.distinct.merge(later.distinct);
        self.numbers.merge(later.numbers, self.format.decimal_mark);
        self.dates.merge(later.dates);
        self.texts.merge(&later.texts);
        self.histogram.merge(&later.histogram);
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
    fn add(&mut self, cell: &[u8], value: f64, number: &Number<'_>, decimal_mark: DecimalMark) {
        self.count += 1;
        self.sum += value;
        let Some([min, max]) = &mut self.extremes else {
            self.extremes = Some([(cell.to_vec(), value), (cell.to_vec(), value)]);
            return;
        };
        if is_less(number, value, min, decimal_mark) {
            *min = (cell.to_vec(), value);
        }
        if value >= max.1
            && Number::parse(&max.0, decimal_mark).is_some_and(|max| max.compare(number).is_lt())
        {
            *max = (cell.to_vec(), value);
        }
    }

    fn merge(&mut self, later: Self, decimal_mark: DecimalMark) {
        let (count, sum) = (self.count + later.count, self.sum + later.sum);
        for (cell, value) in later.extremes.into_iter().flatten() {
            let number = Number::parse(&cell, decimal_mark).expect("was a number");
            self.add(&cell, value, &number, decimal_mark);
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

/// Whether a number is less than the minimum.
fn is_less(number: &Number<'_>, value: f64, min: &(Vec<u8>, f64), decimal_mark: DecimalMark) -> bool {
    value <= min.1 && Number::parse(&min.0, decimal_mark).is_some_and(|min| number.compare(&min).is_lt())
}

/// The dates of a column.
#[derive(Default)]
pub(super) struct Dates {
    /// The keys of the minimum and the maximum, and their text.
    extremes: Option<[(Vec<u8>, Vec<u8>); 2]>,
}

impl Dates {
    fn add(&mut self, cell: &[u8], order: DateOrder) {
        let Some(instant) = date::parse(cell, order) else { return };
        let mut key = Vec::with_capacity(16);
        instant.write_key(&mut key);
        self.add_key(key, cell);
    }

    fn add_key(&mut self, key: Vec<u8>, cell: &[u8]) {
        match &mut self.extremes {
            None => self.extremes = Some([(key.clone(), cell.to_vec()), (key, cell.to_vec())]),
            Some([min, _]) if key < min.0 => *min = (key, cell.to_vec()),
            Some([_, max]) if key > max.0 => *max = (key, cell.to_vec()),
            Some(_) => {}
        }
    }

    fn merge(&mut self, later: Self) {
        later.extremes.into_iter().flatten().for_each(|(key, cell)| self.add_key(key, &cell));
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
}

impl Texts {
    fn add(&mut self, cell: &[u8]) {
        let cell = &cell[..cell.len().min(TEXT)];
        match &mut self.extremes {
            None => self.extremes = Some([cell.to_vec(), cell.to_vec()]),
            Some([min, _]) if cell < &min[..] => *min = cell.to_vec(),
            Some([_, max]) if cell > &max[..] => *max = cell.to_vec(),
            Some(_) => {}
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
