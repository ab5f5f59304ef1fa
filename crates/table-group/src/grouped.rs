//! The rows of a grouped view, in some order.

use std::cmp::Ordering;
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_table::{
    Cell, CellFormat, CellWriter, Control, Error, Export, Limits, Page, Query, Reading, Row, SortBy, View,
};

use crate::budget::Budget;
use crate::group::Group;
use crate::measure::ESTIMATE;
use crate::tally::{GroupRow, Snapshot, Spec, Tally};

/// The groups of a reading at one moment. Updates and other orders share its state.
#[derive(Debug)]
pub struct Grouped {
    reading: Arc<Reading>,
    spec: Arc<Spec>,
    sort: Vec<SortBy>,
    tally: Arc<Mutex<Tally>>,
    rows: Vec<Arc<GroupRow>>,
    header: Arc<[String]>,
    clipped: u64,
}

impl Grouped {
    /// Groups the rows that meet the conditions of `query`, on the threads of the current rayon pool. The columns of its
    /// sort are those of the grouped view; without one, rows are sorted by their groups.
    ///
    /// # Errors
    /// As [`Reading::view`]; [`Error::Measure`] for a sum or a mean of a column without numbers, [`Error::TooMany`],
    /// [`Error::TooLarge`] and [`Error::Full`] beyond the limits of groups.
    pub fn new(
        reading: &Arc<Reading>,
        query: &Query,
        group: &Group,
        budget: &Budget,
        control: Control<'_>,
    ) -> Result<Self, Error> {
        check_sort(&query.sort, group)?;
        let spec = Spec { query: Query { sort: Vec::new(), ..query.clone() }, group: group.clone() };
        let mut tally = Tally::new(budget.clone());
        let snapshot = tally.update(reading, &spec, true, control)?;
        let header = header(reading, group)?;
        let tally = Arc::new(Mutex::new(tally));
        Ok(Self::from_snapshot(reading, Arc::new(spec), query.sort.clone(), tally, snapshot, header))
    }

    fn from_snapshot(
        reading: &Arc<Reading>,
        spec: Arc<Spec>,
        sort: Vec<SortBy>,
        tally: Arc<Mutex<Tally>>,
        Snapshot { rows, clipped }: Snapshot,
        header: Arc<[String]>,
    ) -> Self {
        let formats = lock(&tally).result_formats();
        let rows = sorted(rows, &spec.group, &sort, &formats);
        Self { reading: Arc::clone(reading), spec, sort, tally, rows, header, clipped }
    }

    /// The view after rows were appended. Only those are examined.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn refresh(&self, control: Control<'_>) -> Result<Self, Error> {
        let snapshot = lock(&self.tally).update(&self.reading, &self.spec, false, control)?;
        Ok(Self::from_snapshot(
            &self.reading,
            Arc::clone(&self.spec),
            self.sort.clone(),
            Arc::clone(&self.tally),
            snapshot,
            Arc::clone(&self.header),
        ))
    }

    /// The same rows in another order.
    ///
    /// # Errors
    /// [`Error::NoColumn`].
    pub fn sorted(&self, sort: &[SortBy]) -> Result<Self, Error> {
        check_sort(sort, &self.spec.group)?;
        Ok(Self::from_snapshot(
            &self.reading,
            Arc::clone(&self.spec),
            sort.to_vec(),
            Arc::clone(&self.tally),
            Snapshot { rows: self.rows.clone(), clipped: self.clipped },
            Arc::clone(&self.header),
        ))
    }

    /// Whether the view has the groups of this query and these settings, in any order.
    pub fn has_groups_of(&self, query: &Query, group: &Group) -> bool {
        let Query { sort: _, filter, search, ignore_accents, types, header_is_row: _ } = &self.spec.query;
        (filter, search, types) == (&query.filter, &query.search, &query.types)
            && *ignore_accents == query.ignore_accents
            && self.spec.group.same_rows(group)
    }

    /// The order of the rows.
    pub fn sort(&self) -> &[SortBy] {
        &self.sort
    }

    /// The reading of the view.
    pub const fn reading(&self) -> &Arc<Reading> {
        &self.reading
    }

    /// The number of groups.
    pub fn total(&self) -> u64 {
        self.rows.len() as u64
    }

    /// The number of rows of the table that were too long to be examined completely.
    pub const fn clipped(&self) -> u64 {
        self.clipped
    }

    /// The names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// Up to `count` groups from position `from` on, with the cells of these columns; truncated like those of
    /// [`View::window`].
    pub fn window(&self, from: u64, count: usize, columns: Range<usize>) -> Page {
        let total = self.total();
        let limits = self.reading.limits();
        let start = from.min(total) as usize;
        let shown = &self.rows[start..self.rows.len().min(start.saturating_add(count.min(limits.page_rows)))];
        let rows = shown.iter().zip(from..).map(|(row, number)| {
            let cells = row.cells.iter().map(|cell| &**cell);
            shown_row(cells, number, &columns, limits, shown.len())
        });
        Page { from, total, rows: rows.collect() }
    }

    /// The names of these columns, truncated like cells.
    pub fn header_of(&self, columns: Range<usize>) -> Row {
        shown_row(self.header.iter().map(String::as_str), 0, &columns, self.reading.limits(), 1)
    }

    /// Writes the names of the columns and all groups to `out`, complete and in UTF-8.
    ///
    /// # Errors
    /// [`Error::Io`] of `out`; [`Error::Cancelled`].
    pub fn write(
        &self,
        export: impl Into<Export>,
        out: &mut impl Write,
        control: Control<'_>,
    ) -> Result<(), Error> {
        /// The number of rows between two checks for cancellation.
        const STEP: usize = 1_000;
        let mut writer = CellWriter::new(export, out);
        writer.row(self.header.iter().map(String::as_str))?;
        for rows in self.rows.chunks(STEP) {
            control.check()?;
            rows.iter().try_for_each(|row| writer.row(row.cells.iter().map(|cell| &**cell)))?;
        }
        writer.finish()
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    // An update that panicked leaves a state that is complete up to its last part.
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_sort(sort: &[SortBy], group: &Group) -> Result<(), Error> {
    let columns = group.width();
    match sort.iter().find(|by| by.column >= columns) {
        Some(by) => Err(Error::NoColumn { column: by.column, columns }),
        None => Ok(()),
    }
}

/// The names of the columns of a grouped view: those of the table, or their numbers counted from 1.
fn header(reading: &Arc<Reading>, group: &Group) -> Result<Arc<[String]>, Error> {
    let plain = View::plain(reading, false);
    let name = |column: usize| {
        let name = plain.header_of(column..column + 1)?.and_then(|mut header| header.cells.pop());
        Ok::<_, Error>(name.map_or_else(String::new, |cell| cell.text))
    };
    let name = |column: usize| {
        let name = name(column)?;
        Ok::<_, Error>(if name.is_empty() { format!("column {}", column + 1) } else { name })
    };
    let mut names = group.by.iter().map(|column| name(*column)).collect::<Result<Vec<_>, _>>()?;
    for measure in &group.measures {
        let function = measure.function.as_str();
        names.push(match measure.column {
            Some(column) => format!("{function} of {}", name(column)?),
            None => function.to_owned(),
        });
    }
    Ok(names.into())
}

/// Sorts by the columns, then by the groups. Cells without a value of the column's type, then empty cells, are last in
/// both directions.
fn sorted(
    mut rows: Vec<Arc<GroupRow>>,
    group: &Group,
    sort: &[SortBy],
    formats: &[CellFormat],
) -> Vec<Arc<GroupRow>> {
    rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    // The least significant column first: sorting is stable.
    for by in sort.iter().rev() {
        rows.sort_by_cached_key(|row| SortKey::new(row, *by, group, formats));
    }
    rows
}

/// The key of a row in one column.
#[derive(PartialEq, Eq)]
struct SortKey {
    key: Vec<u8>,
    /// Whether the cell has no value of the column's type.
    is_last: bool,
    desc: bool,
}

impl SortKey {
    fn new(row: &GroupRow, by: SortBy, group: &Group, formats: &[CellFormat]) -> Self {
        let mut key = Vec::new();
        match by.column.checked_sub(group.by.len()) {
            None if by.natural && row.part(by.column).first() == Some(&CellFormat::TEXT) => {
                CellFormat::write_natural_key(row.cells[by.column].as_bytes(), &mut key);
            }
            None => key.extend_from_slice(row.part(by.column)),
            Some(measure) => {
                let cell = row.cells[by.column].trim_start_matches(ESTIMATE);
                formats[measure].write_key(cell.as_bytes(), &mut key);
            }
        }
        let is_last = key.first().is_some_and(|first| *first >= CellFormat::OTHER);
        Self { key, is_last, desc: by.desc }
    }
}

impl Ord for SortKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let keys = self.key.cmp(&other.key);
        let keys = if self.desc && !self.is_last { keys.reverse() } else { keys };
        self.is_last.cmp(&other.is_last).then(keys)
    }
}

impl PartialOrd for SortKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The length of the complete characters in the first `limit` bytes.
fn whole_characters(text: &str, limit: usize) -> usize {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// A row for display on a page of `rows` rows.
fn shown_row<'a>(
    cells: impl ExactSizeIterator<Item = &'a str>,
    number: u64,
    columns: &Range<usize>,
    limits: &Limits,
    rows: usize,
) -> Row {
    let width = cells.len() as u64;
    let mut left = limits.page_bytes / rows.max(1);
    let shown = limits.shown_columns(rows).min(columns.len());
    let cells = cells.skip(columns.start).take(shown).map(|text| {
        let end = whole_characters(text, limits.cell_bytes.min(left));
        left -= end;
        let cut = (end < text.len()).then(|| text.chars().count() as u64);
        Cell { text: text[..end].to_owned(), cut }
    });
    Row { number, cells: cells.collect(), width }
}
