//! The state of one measure of a group.

use std::cmp::Ordering;

use tidings_table::CellFormat;
use tidings_table_value::distinct::{Distinct, DistinctHashes, first_bytes};

use crate::group::Function;
use crate::part::PartMeasure;
use crate::sum::{Sum, number_text};

/// The most different values of a group that are counted exactly.
pub const MAX_EXACT: usize = 10_000;

/// The most bytes of a cell that are considered and stored as minimum or maximum.
pub(crate) const MAX_EXTREME: usize = 1024;

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
    Extreme(Option<Extreme>),
    Distinct(DistinctHashes),
}

/// The smallest or the largest value so far.
#[derive(Clone, Debug)]
pub(crate) struct Extreme {
    /// The first bytes of the key as a number, which compares like them: most comparisons need no other memory.
    first: u64,
    /// Its key, then its cell.
    bytes: Box<[u8]>,
    /// The length of the key.
    key: u32,
}

impl Extreme {
    fn new(key: &[u8], cell: &[u8]) -> Self {
        Self { first: first_of(key), bytes: [key, cell].concat().into(), key: key.len() as u32 }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.key as usize]
    }

    fn cell(&self) -> &[u8] {
        &self.bytes[self.key as usize..]
    }

    /// Whether the value of `key` is more extreme.
    fn is_exceeded(&self, function: Function, key: &[u8]) -> bool {
        match first_of(key).cmp(&self.first) {
            Ordering::Less => function != Function::Max,
            Ordering::Greater => function == Function::Max,
            Ordering::Equal => function.is_beyond(key, self.key()),
        }
    }
}

fn first_of(key: &[u8]) -> u64 {
    first_bytes(key).swap_bytes()
}

impl Function {
    /// Whether the value of `key` is more extreme than another one. Of equal values, the first one stays.
    #[inline]
    pub(crate) fn is_beyond(self, key: &[u8], other: &[u8]) -> bool {
        match self {
            Self::Max => key > other,
            _ => key < other,
        }
    }
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

    /// Adds the values of later rows. `bytes` has the extremes of their part.
    pub(crate) fn merge(&self, state: &mut MeasureState, later: PartMeasure, bytes: &[u8]) {
        match (state, later) {
            (MeasureState::Count(count), PartMeasure::Count(later)) => *count += later,
            (MeasureState::Sum { sum, count }, PartMeasure::Sum { sum: later, count: more }) => {
                sum.merge(&later);
                *count += more;
            }
            (MeasureState::Extreme(extreme), PartMeasure::Extreme(Some(later))) => {
                let (key, cell) = later.key_and_cell(bytes);
                if extreme.as_ref().is_none_or(|extreme| extreme.is_exceeded(self.function, key)) {
                    *extreme = Some(Extreme::new(key, cell));
                }
            }
            (MeasureState::Distinct(distinct), PartMeasure::Distinct(later)) => {
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
            MeasureState::Extreme(Some(extreme)) => String::from_utf8_lossy(extreme.cell()).into_owned(),
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
            Self::Extreme(Some(extreme)) => extreme.bytes.len(),
            Self::Distinct(distinct) => distinct.bytes(),
        }
    }
}
