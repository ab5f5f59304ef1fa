//! The groups of one part of the file, by their cells as they are written.
//!
//! Invariant: a group takes no allocation of its own, except for different values and for sums beyond 128 bits. A part may
//! have as many groups as rows.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};

use tidings_table::{CellFormat, CellValue, ColumnType, RowCells};
use tidings_table_value::distinct::{DistinctHashes, IdentityHasher, hash};

use crate::group::Function;
use crate::measure::{MAX_EXACT, MAX_EXTREME, MeasureFormat};
use crate::sum::Sum;

/// The groups of a part, in the order of their first rows.
pub(crate) struct Part {
    /// The last group with a hash.
    index: HashMap<u64, u32, BuildHasherDefault<IdentityHasher>>,
    /// Keyed, so that no file has groups of equal hashes.
    random: RandomState,
    groups: Vec<PartGroup>,
    /// Those of all groups, as many for each as there are measures.
    measures: Vec<PartMeasure>,
    /// The cells of the groups, and the extremes of their measures.
    bytes: Vec<u8>,
    /// The cells of the row that is added.
    cells: Vec<u8>,
    /// Scratch memory for a key.
    key: Vec<u8>,
}

/// A group of a part.
#[derive(Clone, Copy)]
pub(crate) struct PartGroup {
    start: u32,
    end: u32,
    pub(crate) rows: u32,
    /// An earlier group with the same hash, plus 1; 0: none.
    other: u32,
}

/// The values of a measure in a group of a part.
pub(crate) enum PartMeasure {
    Count(u64),
    Sum { sum: Sum, count: u64 },
    Extreme(Option<Span>),
    Distinct(DistinctHashes),
}

/// The place of an extreme: its key, then its cell.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: u32,
    key: u32,
    cell: u32,
}

impl Span {
    fn key(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..][..self.key as usize]
    }

    /// The key and the cell.
    pub(crate) fn key_and_cell(self, bytes: &[u8]) -> (&[u8], &[u8]) {
        bytes[self.start as usize..][..(self.key + self.cell) as usize].split_at(self.key as usize)
    }
}

impl Part {
    pub(crate) fn new(random: RandomState) -> Self {
        Self {
            index: HashMap::default(),
            random,
            groups: Vec::new(),
            measures: Vec::new(),
            bytes: Vec::new(),
            cells: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Adds a later row.
    pub(crate) fn add(
        &mut self,
        by: &[(usize, CellFormat)],
        measures: &[MeasureFormat],
        row: &RowCells<'_>,
        scratch: &mut Vec<u8>,
    ) {
        self.cells.clear();
        for (column, _) in by {
            let cell = row.cell(*column, scratch);
            self.cells.extend_from_slice(&(cell.len() as u32).to_le_bytes());
            self.cells.extend_from_slice(cell);
        }
        let group = self.group(measures);
        self.groups[group].rows += 1;
        let states = &mut self.measures[group * measures.len()..][..measures.len()];
        for (format, state) in measures.iter().zip(states) {
            if let Some((column, cells)) = &format.column {
                let cell = row.cell(*column, scratch);
                add_cell(format.function, cells, state, cell, &mut self.key, &mut self.bytes);
            }
        }
    }

    /// The place of the group with the cells of the row.
    fn group(&mut self, measures: &[MeasureFormat]) -> usize {
        let hash = self.random.hash_one(&self.cells[..]);
        let newest = self.index.get(&hash).copied();
        let mut place = newest.map(|place| place as usize);
        while let Some(found) = place {
            let group = self.groups[found];
            if self.cells_of(group) == self.cells {
                return found;
            }
            place = (group.other as usize).checked_sub(1);
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&self.cells);
        let (place, end) = (self.groups.len(), self.bytes.len() as u32);
        let other = newest.map_or(0, |place| place + 1);
        self.groups.push(PartGroup { start, end, rows: 0, other });
        self.measures.extend(measures.iter().map(|format| PartMeasure::new(format.function)));
        self.index.insert(hash, place as u32);
        place
    }

    fn cells_of(&self, group: PartGroup) -> &[u8] {
        &self.bytes[group.start as usize..group.end as usize]
    }

    /// Calls `take` for each group with its cells, its measures, and the bytes of their extremes, until an error.
    pub(crate) fn drain<E>(
        mut self,
        mut take: impl FnMut(PartGroup, &[u8], &mut dyn Iterator<Item = PartMeasure>, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let count = self.measures.len().checked_div(self.groups.len()).unwrap_or(0);
        let mut measures = std::mem::take(&mut self.measures).into_iter();
        self.groups.iter().try_for_each(|group| {
            take(*group, self.cells_of(*group), &mut measures.by_ref().take(count), &self.bytes)
        })
    }
}

impl PartMeasure {
    fn new(function: Function) -> Self {
        match function {
            Function::Count => Self::Count(0),
            Function::Sum | Function::Mean => Self::Sum { sum: Sum::default(), count: 0 },
            Function::Min | Function::Max => Self::Extreme(None),
            Function::Distinct => Self::Distinct(DistinctHashes::default()),
        }
    }
}

/// Adds a cell to a measure. `key` is scratch memory; `bytes` has the extremes.
#[inline]
fn add_cell(
    function: Function,
    format: &CellFormat,
    state: &mut PartMeasure,
    cell: &[u8],
    key: &mut Vec<u8>,
    bytes: &mut Vec<u8>,
) {
    key.clear();
    match state {
        PartMeasure::Count(count) => {
            let is_text = matches!(format.column_type(), ColumnType::Text | ColumnType::Empty);
            let is_value = match is_text {
                true => !cell.is_empty(),
                false => format.write_key(cell, key) == CellValue::Value,
            };
            *count += u64::from(is_value);
        }
        PartMeasure::Sum { sum, count } => {
            if let Some(number) = format.number(cell) {
                sum.add(&number);
                *count += 1;
            }
        }
        PartMeasure::Extreme(extreme) => {
            let cell = &cell[..cell.len().min(MAX_EXTREME)];
            if format.write_key(cell, key) == CellValue::Value
                && extreme.is_none_or(|extreme| function.is_beyond(key, extreme.key(bytes)))
            {
                *extreme = Some(store(*extreme, key, cell, bytes));
            }
        }
        PartMeasure::Distinct(distinct) => {
            if format.write_key(cell, key) == CellValue::Value {
                distinct.insert(hash(key), MAX_EXACT);
            }
        }
    }
}

/// Writes an extreme to the place of the one before, if it is not longer, otherwise to the end.
fn store(before: Option<Span>, key: &[u8], cell: &[u8], bytes: &mut Vec<u8>) -> Span {
    let length = key.len() + cell.len();
    let start = match before {
        Some(before) if length <= (before.key + before.cell) as usize => before.start as usize,
        _ => {
            let end = bytes.len();
            bytes.resize(end + length, 0);
            end
        }
    };
    let (first, second) = bytes[start..start + length].split_at_mut(key.len());
    first.copy_from_slice(key);
    second.copy_from_slice(cell);
    Span { start: start as u32, key: key.len() as u32, cell: cell.len() as u32 }
}
