//! The state of one measure of a group.

use tidings_table::{CellFormat, CellValue, ColumnType};
use tidings_table_value::distinct::{Distinct, DistinctHashes, hash};

use crate::group::Function;
use crate::sum::{Sum, number_text};

/// The most different values of a group that are counted exactly.
pub const MAX_EXACT: usize = 10_000;

/// The most bytes of a cell that are considered and stored as minimum or maximum.
const MAX_EXTREME: usize = 1024;

/// A function of a column, with the format of its cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MeasureFormat {
    pub(crate) function: Function,
    /// `None`: the measure counts rows.
    pub(crate) column: Option<(usize, CellFormat)>,
}

/// The values so far.
#[derive(Clone, Debug)]
pub(crate) enum MeasureState {
    Count(u64),
    Sum { sum: Box<Sum>, count: u64 },
    Extreme(Option<Box<Extreme>>),
    Distinct(DistinctHashes),
}

/// The smallest or the largest value so far.
#[derive(Clone, Debug)]
pub(crate) struct Extreme {
    key: Box<[u8]>,
    cell: Box<[u8]>,
}

impl MeasureFormat {
    pub(crate) fn new_state(&self) -> MeasureState {
        match self.function {
            Function::Count => MeasureState::Count(0),
            Function::Sum | Function::Mean => MeasureState::Sum { sum: Box::default(), count: 0 },
            Function::Min | Function::Max => MeasureState::Extreme(None),
            Function::Distinct => MeasureState::Distinct(DistinctHashes::default()),
        }
    }

    /// The format in which the results compare.
    pub(crate) fn result_format(&self) -> CellFormat {
        match (self.function, self.column) {
            (Function::Min | Function::Max, Some((_, format))) => format,
            _ => CellFormat::NUMBER,
        }
    }

    /// Adds a cell. `key` is scratch memory.
    #[inline]
    pub(crate) fn add(&self, state: &mut MeasureState, cell: &[u8], key: &mut Vec<u8>) {
        let Some((_, format)) = &self.column else { return };
        key.clear();
        match state {
            MeasureState::Count(count) => {
                let is_text = matches!(format.column_type(), ColumnType::Text | ColumnType::Empty);
                let is_value = match is_text {
                    true => !cell.is_empty(),
                    false => format.write_key(cell, key) == CellValue::Value,
                };
                *count += u64::from(is_value);
            }
            MeasureState::Sum { sum, count } => {
                if let Some(number) = format.number(cell) {
                    sum.add(&number);
                    *count += 1;
                }
            }
            MeasureState::Extreme(extreme) => {
                let cell = &cell[..cell.len().min(MAX_EXTREME)];
                if format.write_key(cell, key) == CellValue::Value {
                    self.consider(extreme, key, cell);
                }
            }
            MeasureState::Distinct(distinct) => {
                if format.write_key(cell, key) == CellValue::Value {
                    distinct.insert(hash(key), MAX_EXACT);
                }
            }
        }
    }

    /// Of equal values, the first one stays.
    fn consider(&self, extreme: &mut Option<Box<Extreme>>, key: &[u8], cell: &[u8]) {
        let is_beyond = extreme.as_ref().is_none_or(|extreme| match self.function {
            Function::Max => *key > *extreme.key,
            _ => *key < *extreme.key,
        });
        if is_beyond {
            *extreme = Some(Box::new(Extreme { key: key.into(), cell: cell.into() }));
        }
    }

    /// Adds the state of later rows.
    pub(crate) fn merge(&self, state: &mut MeasureState, later: MeasureState) {
        match (state, later) {
            (MeasureState::Count(count), MeasureState::Count(later)) => *count += later,
            (MeasureState::Sum { sum, count }, MeasureState::Sum { sum: later, count: more }) => {
                sum.merge(&later);
                *count += more;
            }
            (MeasureState::Extreme(extreme), MeasureState::Extreme(Some(later))) => {
                self.consider(extreme, &later.key, &later.cell);
            }
            (MeasureState::Distinct(distinct), MeasureState::Distinct(later)) => {
                distinct.merge(later, MAX_EXACT);
            }
            _ => {}
        }
    }

    /// The result as text, in a group of `rows` rows; empty without a value.
    pub(crate) fn text(&self, state: &MeasureState, rows: u64) -> String {
        match state {
            MeasureState::Count(_) if self.column.is_none() => rows.to_string(),
            MeasureState::Count(count) => count.to_string(),
            MeasureState::Sum { count: 0, .. } | MeasureState::Extreme(None) => String::new(),
            MeasureState::Sum { sum, .. } if self.function == Function::Sum => sum.text(),
            MeasureState::Sum { sum, count } => number_text(sum.value() / *count as f64),
            MeasureState::Extreme(Some(extreme)) => String::from_utf8_lossy(&extreme.cell).into_owned(),
            MeasureState::Distinct(distinct) => match distinct.count() {
                Distinct { count, exact: true } => count.to_string(),
                Distinct { count, exact: false } => format!("{ESTIMATE}{count}"),
            },
        }
    }
}

/// Precedes an estimated number.
pub(crate) const ESTIMATE: char = '≈';

impl MeasureState {
    /// The bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Count(_) | Self::Extreme(None) => 0,
            Self::Sum { sum, .. } => size_of::<Sum>() + sum.bytes(),
            Self::Extreme(Some(extreme)) => size_of::<Extreme>() + extreme.key.len() + extreme.cell.len(),
            Self::Distinct(distinct) => distinct.bytes(),
        }
    }
}
