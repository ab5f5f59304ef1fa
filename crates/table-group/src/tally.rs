//! The state of all groups of a view, and its updates by appended lines.
//!
//! Invariants:
//! - The tally contains the rows of all lines before `next`, whatever interrupted an update.
//! - Its bytes are reserved in the budget after each part of the file.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;

use tidings_table::{CellFormat, Control, Error, Lines, Query, Reading, RowCells};

use crate::budget::{Budget, Reserved};
use crate::group::Group;
use crate::measure::{MeasureFormat, MeasureState};
use crate::part::{Part, PartGroup, PartMeasure};

/// The most groups of a view.
pub const MAX_GROUPS: usize = 100_000;
/// The most bytes of a view in memory.
pub const MAX_BYTES: u64 = 64 << 20;

/// A row of the grouped view.
#[derive(Debug)]
pub(crate) struct GroupRow {
    /// The keys of its columns to group by, and their ends. Rows compare like their keys.
    pub(crate) key: Arc<[u8]>,
    ends: Box<[u32]>,
    /// The cells of all columns.
    pub(crate) cells: Box<[Box<str>]>,
}

impl GroupRow {
    /// The key of a column to group by.
    pub(crate) fn part(&self, column: usize) -> &[u8] {
        let start = column.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.key[start..self.ends[column] as usize]
    }
}

/// The query and the settings of a view.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The conditions and the types of columns.
    pub(crate) query: Query,
    pub(crate) group: Group,
}

/// All groups of a view.
#[derive(Debug)]
pub(crate) struct Tally {
    by: Vec<(usize, CellFormat)>,
    measures: Vec<MeasureFormat>,
    /// The formats of all columns that the query refers to.
    formats: Vec<CellFormat>,
    index: HashMap<Arc<[u8]>, u32>,
    groups: Vec<GroupState>,
    rows: Vec<Arc<GroupRow>>,
    /// The groups whose rows are outdated.
    changed: Vec<u32>,
    /// The first line that was not examined.
    next: u64,
    /// Whether later lines may replace and remove rows.
    may_change: bool,
    clipped: u64,
    /// The bytes of all groups.
    bytes: u64,
    reserved: Reserved,
}

/// The state of one group.
#[derive(Clone, Debug)]
struct GroupState {
    rows: u64,
    measures: Box<[MeasureState]>,
    is_changed: bool,
}

/// The rows of a tally at one moment.
pub(crate) struct Snapshot {
    pub(crate) rows: Vec<Arc<GroupRow>>,
    pub(crate) clipped: u64,
}

impl Tally {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            by: Vec::new(),
            measures: Vec::new(),
            formats: Vec::new(),
            index: HashMap::new(),
            groups: Vec::new(),
            rows: Vec::new(),
            changed: Vec::new(),
            next: 0,
            may_change: false,
            clipped: 0,
            bytes: 0,
            reserved: Reserved::new(budget),
        }
    }

    /// The formats in which the measures compare.
    pub(crate) fn result_formats(&self) -> Vec<CellFormat> {
        self.measures.iter().map(MeasureFormat::result_format).collect()
    }

    /// Examines the lines that were not examined yet. `strictly`: a measure that needs numbers of another column is an
    /// error; otherwise it has no values.
    ///
    /// # Errors
    /// As [`Reading::view`]; [`Error::Measure`], [`Error::TooMany`], [`Error::TooLarge`], [`Error::Full`].
    pub(crate) fn update(
        &mut self,
        reading: &Reading,
        spec: &Spec,
        strictly: bool,
        control: Control<'_>,
    ) -> Result<Snapshot, Error> {
        let lines = reading.lines();
        // The measures of a group do not tell what they were without a row.
        if lines.may_change() != self.may_change || lines.have_changed_since(self.next) {
            self.clear();
            self.may_change = lines.may_change();
        }
        self.set_formats(reading, spec, strictly, control)?;
        self.next = self.next.max(lines.first);
        if let Err(error) = self.fold(reading, spec, strictly, &lines, control) {
            // A view beyond the limits starts again, so that it takes no memory meanwhile.
            if !matches!(error, Error::Cancelled) {
                self.clear();
            }
            return Err(error);
        }
        self.render();
        let mut rows = self.rows.clone();
        // A last line without a line break may still grow, so only this snapshot contains it.
        if self.next < lines.all {
            self.add_open_lines(reading, spec, &lines, &mut rows)?;
        }
        Ok(Snapshot { rows, clipped: self.clipped })
    }

    /// Sets the formats of the columns. If a type has changed, all lines must be examined again.
    fn set_formats(
        &mut self,
        reading: &Reading,
        spec: &Spec,
        strictly: bool,
        control: Control<'_>,
    ) -> Result<(), Error> {
        let Spec { query, group } = spec;
        let filtered = query.filter.iter().map(|filter| filter.column);
        let columns: Vec<usize> = group.columns().chain(filtered).collect();
        let formats = reading.cell_formats(&columns, &query.types, control)?;
        let is_same = formats.len() == self.formats.len()
            && formats.iter().zip(&self.formats).all(|(a, b)| a.is_same(b));
        if is_same {
            return Ok(());
        }
        self.clear();
        let mut next = columns.into_iter().zip(formats.iter().copied());
        self.by = next.by_ref().take(group.by.len()).collect();
        self.measures = group
            .measures
            .iter()
            .map(|measure| {
                let column = measure.column.and_then(|_| next.next());
                MeasureFormat { function: measure.function, column }
            })
            .collect();
        for MeasureFormat { function, column } in &self.measures {
            if let Some((column, format)) = column
                && function.needs_numbers()
                && !format.column_type().is_numeric()
                && strictly
            {
                return Err(Error::Measure {
                    function: function.as_str(),
                    column: *column,
                    column_type: format.column_type(),
                });
            }
        }
        self.formats = formats;
        Ok(())
    }

    /// Removes all groups.
    fn clear(&mut self) {
        let (budget, may_change) = (self.reserved.budget(), self.may_change);
        *self = Self { may_change, ..Self::new(budget) };
    }

    fn fold(
        &mut self,
        reading: &Reading,
        spec: &Spec,
        strictly: bool,
        lines: &Lines,
        control: Control<'_>,
    ) -> Result<(), Error> {
        let (by, measures) = (self.by.clone(), self.measures.clone());
        let (new, add, keep) = folder(&by, &measures);
        let range = self.next..lines.settled;
        let clipped =
            reading.fold(&spec.query, strictly, lines, range, keep, control, new, add, |part, end| {
                self.merge(part)?;
                self.next = end;
                Ok(())
            })?;
        self.clipped += clipped;
        Ok(())
    }

    /// Adds the groups of the next part of the file.
    fn merge(&mut self, part: Part) -> Result<(), Error> {
        let (mut key, mut ends) = (Vec::new(), Vec::new());
        // A group is shown as its first row is written.
        part.drain(|later, cells, measures, bytes| {
            write_key(&self.by, cells, &mut key, &mut ends);
            if let Some(&place) = self.index.get(&key[..]) {
                let group = &mut self.groups[place as usize];
                let before = group.bytes();
                group.merge(&self.measures, later, measures, bytes);
                self.bytes = (self.bytes + group.bytes()).saturating_sub(before);
                if !std::mem::replace(&mut group.is_changed, true) {
                    self.changed.push(place);
                }
                return Ok(());
            }
            if self.groups.len() >= MAX_GROUPS {
                return Err(Error::TooMany { what: "groups", limit: MAX_GROUPS as u64 });
            }
            let place = self.groups.len() as u32;
            let mut group = GroupState::new(&self.measures);
            group.merge(&self.measures, later, measures, bytes);
            group.is_changed = true;
            let key: Arc<[u8]> = key[..].into();
            let row = GroupRow { key: Arc::clone(&key), ends: ends[..].into(), cells: texts(cells) };
            self.bytes += row_bytes(&row, self.measures.len()) + group.bytes();
            self.index.insert(key, place);
            self.groups.push(group);
            self.rows.push(Arc::new(row));
            self.changed.push(place);
            Ok(())
        })?;
        if self.bytes > MAX_BYTES {
            return Err(Error::TooLarge { what: "the grouped view", limit: MAX_BYTES });
        }
        self.reserved.set(self.bytes)
    }

    /// Writes the measures of changed groups into their rows.
    fn render(&mut self) {
        for place in std::mem::take(&mut self.changed) {
            let (group, row) = (&mut self.groups[place as usize], &mut self.rows[place as usize]);
            group.is_changed = false;
            *row = Arc::new(rendered(row, self.by.len(), group, &self.measures));
        }
    }

    /// Adds the last line to a snapshot.
    fn add_open_lines(
        &self,
        reading: &Reading,
        spec: &Spec,
        lines: &Lines,
        rows: &mut Vec<Arc<GroupRow>>,
    ) -> Result<(), Error> {
        let (new, add, keep) = folder(&self.by, &self.measures);
        let mut parts = Vec::new();
        let control = Control::default();
        reading.fold(
            &spec.query,
            false,
            lines,
            self.next..lines.all,
            keep,
            control,
            new,
            add,
            |part: Part, _| {
                parts.push(part);
                Ok(())
            },
        )?;
        let (mut key, mut ends) = (Vec::new(), Vec::new());
        for part in parts {
            part.drain(|later, cells, measures, bytes| {
                write_key(&self.by, cells, &mut key, &mut ends);
                let known = self.index.get(&key[..]).map(|place| *place as usize);
                let (row, mut group) = match known {
                    Some(place) => (Arc::clone(&rows[place]), self.groups[place].clone()),
                    None => {
                        let row =
                            GroupRow { key: key[..].into(), ends: ends[..].into(), cells: texts(cells) };
                        (Arc::new(row), GroupState::new(&self.measures))
                    }
                };
                group.merge(&self.measures, later, measures, bytes);
                let row = Arc::new(rendered(&row, self.by.len(), &group, &self.measures));
                match known {
                    Some(place) => rows[place] = row,
                    None => rows.push(row),
                }
                Ok::<_, Error>(())
            })?;
        }
        Ok(())
    }
}

impl GroupState {
    fn new(measures: &[MeasureFormat]) -> Self {
        let measures = measures.iter().map(MeasureFormat::new_state).collect();
        Self { rows: 0, measures, is_changed: false }
    }

    /// Adds the rows of a later part, whose extremes are in `bytes`.
    fn merge(
        &mut self,
        formats: &[MeasureFormat],
        later: PartGroup,
        measures: &mut dyn Iterator<Item = PartMeasure>,
        bytes: &[u8],
    ) {
        self.rows += u64::from(later.rows);
        let states = self.measures.iter_mut().zip(measures);
        for (format, (state, later)) in formats.iter().zip(states) {
            format.merge(state, later, bytes);
        }
    }

    fn bytes(&self) -> u64 {
        self.measures.iter().map(MeasureState::bytes).sum::<usize>() as u64
    }
}

/// The steps of a fold, and the number of cells of a row that they need.
fn folder<'a>(
    by: &'a [(usize, CellFormat)],
    measures: &'a [MeasureFormat],
) -> (impl Fn() -> Part, impl Fn(&mut Part, &RowCells<'_>, &mut Vec<u8>) + 'a, usize) {
    let random = RandomState::new();
    let new = move || Part::new(random.clone());
    let add = move |part: &mut Part, row: &RowCells<'_>, scratch: &mut Vec<u8>| {
        part.add(by, measures, row, scratch);
    };
    let columns = by.iter().map(|(column, _)| *column);
    let measured = measures.iter().filter_map(|measure| Some(measure.column?.0));
    let keep = columns.chain(measured).max().map_or(0, |last| last + 1);
    (new, add, keep)
}

/// The cells of a group of a [`Part`].
fn split(mut cells: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = cells.split_first_chunk::<4>()?;
        let (cell, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        cells = rest;
        Some(cell)
    })
}

/// Writes the key of a group, and the ends of its parts.
fn write_key(by: &[(usize, CellFormat)], cells: &[u8], key: &mut Vec<u8>, ends: &mut Vec<u32>) {
    key.clear();
    ends.clear();
    for ((_, format), cell) in by.iter().zip(split(cells)) {
        format.write_key(cell, key);
        ends.push(key.len() as u32);
    }
}

fn texts(cells: &[u8]) -> Box<[Box<str>]> {
    split(cells).map(|cell| String::from_utf8_lossy(cell).into()).collect()
}

/// A row with the measures of its group.
fn rendered(row: &GroupRow, by: usize, group: &GroupState, measures: &[MeasureFormat]) -> GroupRow {
    let results = measures.iter().zip(&group.measures);
    let results = results.map(|(format, state)| format.text(state, group.rows).into_boxed_str());
    GroupRow {
        key: Arc::clone(&row.key),
        ends: row.ends.clone(),
        cells: row.cells[..by].iter().cloned().chain(results).collect(),
    }
}

/// The bytes of a group without those of its measures: its row, also as it was before the last update, and its place in
/// the index.
fn row_bytes(row: &GroupRow, measures: usize) -> u64 {
    /// A result of a measure as text, with the pointers to it.
    const RESULT: usize = 48;
    let cells: usize = row.cells.iter().map(|cell| cell.len() + size_of::<Box<str>>()).sum();
    let shown = size_of::<GroupRow>() + cells + row.ends.len() * 4 + measures * RESULT;
    let state = size_of::<GroupState>() + measures * size_of::<MeasureState>();
    (2 * shown + state + row.key.len() + 128) as u64
}
