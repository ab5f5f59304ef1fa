//! What is counted of one column.

use super::distinct::Counter;
use super::histogram::Histogram;
use crate::column::{ColumnType, Kinds, Nature};
use crate::value::{DateOrder, Kind, Number, Style, date};

/// How much of a cell is kept as the least or greatest text.
const TEXT: usize = 1024;

/// What was found in one column so far.
pub(super) struct ColumnTally {
    pub(super) nature: Nature,
    pub(super) kinds: Kinds,
    pub(super) distinct: Counter,
    pub(super) numbers: Numbers,
    pub(super) dates: Dates,
    pub(super) texts: Texts,
    pub(super) histogram: Histogram,
}

impl ColumnTally {
    pub(super) fn new(nature: Nature) -> Self {
        Self {
            nature,
            kinds: Kinds::default(),
            distinct: Counter::default(),
            numbers: Numbers::default(),
            dates: Dates::default(),
            texts: Texts::default(),
            histogram: Histogram::default(),
        }
    }

    /// The same for rows elsewhere in the file.
    pub(super) fn beside(&self) -> Self {
        Self { distinct: self.distinct.beside(), ..Self::new(self.nature) }
    }

    /// Counts a cell of `line`.
    pub(super) fn add(&mut self, cell: &[u8], line: u32) {
        let (kind, number) = Kind::with_number(cell, self.nature.style);
        self.kinds.count(kind);
        if kind == Kind::Empty {
            return;
        }
        self.distinct.add(cell, line);
        self.texts.add(cell);
        if let Some(number) = number {
            let value = number.value();
            self.numbers.add(cell, value, &number, self.nature.style);
            self.histogram.add(value);
        }
        if kind == Kind::Date || self.nature.column_type == ColumnType::Date {
            self.dates.add(cell, self.nature.order);
        }
    }

    /// Adds the tally of later rows.
    pub(super) fn merge(&mut self, later: Self) {
        self.kinds.add(&later.kinds);
        self.distinct.merge(later.distinct);
        self.numbers.merge(later.numbers, self.nature.style);
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
    /// The least and the greatest, as written, with their values.
    extremes: Option<[(Vec<u8>, f64); 2]>,
}

impl Numbers {
    fn add(&mut self, cell: &[u8], value: f64, number: &Number<'_>, style: Style) {
        self.count += 1;
        self.sum += value;
        let Some([min, max]) = &mut self.extremes else {
            self.extremes = Some([(cell.to_vec(), value), (cell.to_vec(), value)]);
            return;
        };
        if is_less(number, value, min, style) {
            *min = (cell.to_vec(), value);
        }
        if value >= max.1 && Number::parse(&max.0, style).is_some_and(|max| max.compare(number).is_lt()) {
            *max = (cell.to_vec(), value);
        }
    }

    fn merge(&mut self, later: Self, style: Style) {
        let (count, sum) = (self.count + later.count, self.sum + later.sum);
        for (cell, value) in later.extremes.into_iter().flatten() {
            let number = Number::parse(&cell, style).expect("was a number");
            self.add(&cell, value, &number, style);
        }
        (self.count, self.sum) = (count, sum);
    }

    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The least and the greatest.
    pub(super) fn extremes(&self) -> [Option<String>; 2] {
        [0, 1].map(|i| self.extremes.as_ref().map(|both| shown(&both[i].0)))
    }
}

/// Whether a number is less than the least so far.
fn is_less(number: &Number<'_>, value: f64, min: &(Vec<u8>, f64), style: Style) -> bool {
    value <= min.1 && Number::parse(&min.0, style).is_some_and(|min| number.compare(&min).is_lt())
}

/// The dates of a column.
#[derive(Default)]
pub(super) struct Dates {
    /// The keys of the least and the greatest, as written beside them.
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

    /// The least and the greatest.
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

    /// The least and the greatest.
    pub(super) fn extremes(&self) -> [Option<String>; 2] {
        [0, 1].map(|i| self.extremes.as_ref().map(|both| shown(&both[i])))
    }
}

fn shown(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).into_owned()
}
