//! Views of a table: some of its rows, in some order.
//!
//! Invariants:
//! - A view without sort, filter and search costs nothing and grows with the table. Any other view shows the rows at
//!   the time of its computation, and [`View::refresh`] updates it.
//! - A view does not depend on the number of threads, the memory limits and the state of caches.

mod export;
mod filter;
mod rows;
mod select;
mod sort;

use std::io;
use std::ops::Range;
use std::sync::Arc;

pub use export::{CellWriter, Export, Format};
pub use filter::{Filter, Op, UnknownOp};
pub use rows::{LineCells, RowKeys};

use crate::cursor::Cursor;
use crate::index::BLOCK_BYTES;
use crate::order::{OrderBuilder, RowOrder};
use crate::overlay::{LineOrder, Overlay};
use crate::page::RowBuilder;
use crate::reading::Reading;
use crate::syntax::Event;
use crate::{Control, Error, Page, Row, TypeChoices, scan};
pub(crate) use select::Selection;

/// The selection and the order of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The columns to sort by, the most significant first. Rows that are equal in all of them stay in the order of the
    /// file.
    ///
    /// A column of numbers, dates or booleans ([`ColumnType`](crate::ColumnType), determined by a sample of the file
    /// unless [`Self::types`] sets it) is sorted by value; any other by its text: by letters without case and accents,
    /// which decide only between equal letters. Cells without a value of the column's type follow those with one, and
    /// empty cells are last, ascending and descending.
    pub sort: Vec<SortBy>,
    /// Conditions that all rows meet.
    pub filter: Vec<Filter>,
    /// A text that some cell contains, in any case and any Unicode form (NFKC); empty: no condition.
    pub search: String,
    /// Whether the search also finds letters with other accents (`cafe` in `Café`).
    pub ignore_accents: bool,
    /// The types of columns, for those that are not determined by their cells.
    pub types: TypeChoices,
    /// Whether the header counts as a row, as on the article's page. It is then an ordinary row.
    pub header_is_row: bool,
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SortBy {
    /// The column, counted from 0.
    pub column: usize,
    /// Whether the order is descending.
    pub desc: bool,
    /// Whether numbers within text are compared by value: `file2` before `file10`.
    pub natural: bool,
}

/// Rows of a table in some order.
#[derive(Debug)]
pub struct View {
    reading: Arc<Reading>,
    query: Query,
    /// `None`: all rows in the order of the file.
    order: Option<Arc<RowOrder>>,
    /// Whether the lines are rows of an [`Overlay`], in any order.
    is_overlaid: bool,
    /// The number of final lines that were considered.
    settled: u64,
    clipped: u64,
}

/// The fraction of the time for reading before a sort.
const SCAN: f32 = 0.7;

impl Reading {
    /// Computes the view of `query`, on the threads of the current rayon pool.
    ///
    /// It takes [`Limits::sort_bytes`](crate::Limits::sort_bytes) of memory while it sorts, otherwise little more than
    /// [`Limits::order_bytes`](crate::Limits::order_bytes), and temporary disk space of the keys' size. A server with
    /// many clients should compute one such view at a time.
    ///
    /// # Errors
    /// [`Error::NoColumn`], [`Error::Pattern`], [`Error::Value`], [`Error::TooMany`] ([`Query::SORTS`],
    /// [`Query::FILTERS`]), [`Error::Cancelled`], [`Error::Io`].
    pub fn view(self: &Arc<Self>, query: &Query, control: Control<'_>) -> Result<View, Error> {
        self.view_again(query, true, self.overlay(), control)
    }

    /// As [`Self::view`], with the rows of an overlay that this reading has or had. `strictly`: as for [`Self::row_keys`].
    ///
    /// # Errors
    /// As [`Self::view`].
    pub fn view_of(
        self: &Arc<Self>,
        query: &Query,
        overlay: &Arc<Overlay>,
        strictly: bool,
        control: Control<'_>,
    ) -> Result<View, Error> {
        self.view_again(query, strictly, Some(Arc::clone(overlay)), control)
    }

    /// Computes a view. `strictly`: the values of filters must be of their columns' types; otherwise a value of another
    /// type equals no cell, as after later rows have changed the type of a column.
    fn view_again(
        self: &Arc<Self>,
        query: &Query,
        strictly: bool,
        overlay: Option<Arc<Overlay>>,
        control: Control<'_>,
    ) -> Result<View, Error> {
        query.check()?;
        let columns = query.columns();
        self.check_columns(&columns)?;
        if query.is_plain() {
            return Ok(View::plain(self, query.header_is_row));
        }
        let column_formats = self.column_formats(&columns, &query.types, control)?;
        let (chunks, settled) = {
            let state = self.state();
            (scan::chunks(&state, 0), state.settled)
        };
        let selection = Selection::new(self, query, &column_formats, strictly)?;
        let first = self.first_shown(query);
        let is_overlaid = overlay.is_some();
        // The rows of an overlay are sorted by their places too.
        let (order, clipped) = if query.sort.is_empty() && !is_overlaid {
            let mut collector = OrderBuilder::new(self.folder(), self.limits().order_bytes);
            let clipped = self.filter(&chunks, &selection, first, control, &mut collector)?;
            (collector.finish()?, clipped)
        } else {
            let maker = sort::KeyMaker::new(&query.sort, &column_formats, self.dialect().syntax, overlay);
            sort::sort(self, &maker, &chunks, &selection, first, control)?
        };
        Ok(View {
            reading: Arc::clone(self),
            query: query.clone(),
            order: Some(Arc::new(order)),
            is_overlaid,
            settled,
            clipped,
        })
    }

    /// Collects the selected lines from `first` on.
    fn filter(
        &self,
        chunks: &[scan::Chunk],
        selection: &Selection,
        first: u64,
        control: Control<'_>,
        collector: &mut OrderBuilder<'_>,
    ) -> Result<u64, Error> {
        self.scan(
            chunks,
            control,
            (0.0, 1.0),
            |chunk, bytes, scratch| {
                let mut lines = Vec::new();
                selection.select(bytes, 0, scratch, |row, _, _| {
                    let line = chunk.line + row as u64;
                    if line >= first {
                        lines.push(line as u32);
                    }
                });
                lines
            },
            |lines| Ok(lines.into_iter().try_for_each(|line| collector.push(line))?),
        )
    }

    /// The first line that a query may show.
    fn first_shown(&self, query: &Query) -> u64 {
        if query.header_is_row { 0 } else { self.first_line() }
    }

    pub(crate) fn check_columns(&self, columns: &[usize]) -> Result<(), Error> {
        let most = self.state().tally.widest as usize;
        match columns.iter().find(|column| **column >= most) {
            Some(column) => Err(Error::NoColumn { column: *column, columns: most }),
            None => Ok(()),
        }
    }
}

impl Query {
    /// The most columns to sort by: the key of a row contains a copy of each.
    pub const SORTS: usize = 16;

    /// The most values of one condition ([`Op::In`]).
    pub const VALUES: usize = 1_000;

    /// The most conditions: each may hold a compiled regular expression of one mebibyte.
    pub const FILTERS: usize = 64;

    pub(crate) fn check(&self) -> Result<(), Error> {
        let check_count = |count: usize, limit: usize, what| {
            if count > limit { Err(Error::TooMany { what, limit: limit as u64 }) } else { Ok(()) }
        };
        check_count(self.sort.len(), Self::SORTS, "columns to sort by")?;
        check_count(self.filter.len(), Self::FILTERS, "filters")?;
        let values = self.filter.iter().map(|filter| filter.others.len() + 1).max().unwrap_or(0);
        check_count(values, Self::VALUES, "values of a filter")
    }

    fn is_plain(&self) -> bool {
        self.sort.is_empty() && self.filter.is_empty() && self.search.is_empty()
    }

    /// All columns of the query.
    fn columns(&self) -> Vec<usize> {
        let sorted = self.sort.iter().map(|by| by.column);
        sorted.chain(self.filter.iter().map(|filter| filter.column)).collect()
    }
}

impl View {
    /// All rows in the order of the file, at no cost.
    pub fn plain(reading: &Arc<Reading>, header_is_row: bool) -> Self {
        let query = Query { header_is_row, ..Query::default() };
        Self { reading: Arc::clone(reading), query, order: None, is_overlaid: false, settled: 0, clipped: 0 }
    }

    /// The rows of an [`Overlay`] that `query` selects, in this order, which was computed from the keys of its
    /// rows ([`RowKeys`]).
    pub fn of_lines(reading: &Arc<Reading>, query: &Query, order: LineOrder) -> Self {
        let order = RowOrder::live(Arc::new(order), false);
        Self {
            reading: Arc::clone(reading),
            query: query.clone(),
            order: Some(Arc::new(order)),
            is_overlaid: true,
            settled: 0,
            clipped: 0,
        }
    }

    /// The order of the lines; `None`: all of them, in the order of the file.
    fn order(&self) -> Option<Arc<RowOrder>> {
        let plain = || Some(Arc::clone(self.reading.overlay()?.order(self.with_header_row())));
        self.order.clone().or_else(plain)
    }

    /// Whether the first row is the header of the file.
    fn with_header_row(&self) -> bool {
        self.query.header_is_row && self.reading.dialect().header
    }

    /// The query of the view.
    pub const fn query(&self) -> &Query {
        &self.query
    }

    /// The reading of the view.
    pub const fn reading(&self) -> &Arc<Reading> {
        &self.reading
    }

    /// The number of rows.
    pub fn total(&self) -> u64 {
        match self.order() {
            Some(order) => order.len(),
            None => self.reading.state().tally.rows.saturating_sub(self.first()),
        }
    }

    /// The number of rows that were too long to be examined completely
    /// ([`Limits::scan_row_bytes`](crate::Limits::scan_row_bytes)).
    pub const fn clipped(&self) -> u64 {
        self.clipped
    }

    /// Its bytes in memory and on disk, without those of the table.
    pub fn bytes(&self) -> (u64, u64) {
        self.order.as_ref().map_or((0, 0), |order| order.bytes())
    }

    /// The numbers of the lines at these positions, as far as they exist.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lines(&self, positions: Range<u64>) -> Result<Vec<u32>, Error> {
        let Some(order) = self.order() else {
            let end = positions.end.min(self.total());
            return Ok((positions.start.min(end)..end).map(|line| (line + self.first()) as u32).collect());
        };
        let end = positions.end.min(order.len());
        Ok(order.get(positions.start.min(end)..end)?)
    }

    /// Up to `count` rows from position `from` on, at most [`Limits::page_rows`](crate::Limits::page_rows); none after
    /// the end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn page(&self, from: u64, count: usize) -> Result<Page, Error> {
        self.window(from, count, 0..usize::MAX)
    }

    /// As [`Self::page`], with the cells of these columns alone: at most [`Limits::shown_columns`](crate::Limits::shown_columns)
    /// from the first one on.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn window(&self, from: u64, count: usize, columns: Range<usize>) -> Result<Page, Error> {
        let order = self.order();
        let total = order.as_ref().map_or_else(|| self.total(), |order| order.len());
        let most = count.min(self.reading.limits().page_rows) as u64;
        let positions = from.min(total)..from.saturating_add(most).min(total);
        let mut wanted: Vec<(u64, usize)> = match &order {
            Some(order) => order.get(positions)?.into_iter().map(u64::from).zip(0..).collect(),
            None => positions.map(|position| position + self.first()).zip(0..).collect(),
        };
        // In the order of the file, so that each block is read once for all its rows.
        wanted.sort_unstable();
        if order.is_some() {
            self.prefetch(&wanted);
        }
        let mut rows = vec![Row::default(); wanted.len()];
        let (mut cursor, mut shaper) =
            (Cursor::new(&self.reading), RowBuilder::new(self.reading.limits(), wanted.len(), &columns));
        for (line, slot) in wanted {
            cursor.read(line, |event| shaper.take(event))?;
            rows[slot] = shaper.row(line - self.first());
        }
        Ok(Page { from, total, rows })
    }

    /// Prefetches the blocks of consecutive lines.
    fn prefetch(&self, lines: &[(u64, usize)]) {
        let blocks: Vec<(u64, u64)> = {
            let state = self.reading.state();
            let located = lines.iter().map(|(line, _)| state.locate(*line));
            located
                .map(|(block, end)| (block.offset, end.saturating_sub(block.offset).min(2 * BLOCK_BYTES)))
                .collect()
        };
        for (offset, length) in blocks.chunk_by(|a, b| a == b).map(|same| same[0]) {
            self.reading.text().prefetch(offset, length);
        }
    }

    /// The names of the columns; `None` when the file has no header or it counts as a row.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn header(&self) -> Result<Option<Row>, Error> {
        self.header_of(0..usize::MAX)
    }

    /// As [`Self::header`], with the names of these columns alone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn header_of(&self, columns: Range<usize>) -> Result<Option<Row>, Error> {
        if self.first() == 0 || self.reading.state().tally.rows == 0 {
            return Ok(None);
        }
        let mut shaper = RowBuilder::new(self.reading.limits(), 1, &columns);
        self.read_header(|event| shaper.take(event))?;
        let mut row = shaper.row(0);
        for cell in &mut row.cells {
            // A byte order mark is not part of a name; it may occur where files were concatenated.
            let marks = cell.text.len() - cell.text.trim_start_matches('\u{FEFF}').len();
            cell.text.drain(..marks);
        }
        Ok(Some(row))
    }

    /// Passes the names of the columns to `take`, as the cells of a row.
    fn read_header(&self, mut take: impl FnMut(Event<'_>)) -> io::Result<()> {
        let names = self.reading.state().names.clone();
        let Some(names) = names.filter(|names| !names.is_empty()) else {
            return Cursor::new(&self.reading).read(0, take);
        };
        for (column, name) in names.iter().enumerate() {
            if column > 0 {
                take(Event::Cell);
            }
            take(Event::Content(name.as_bytes()));
        }
        take(Event::Row);
        Ok(())
    }

    /// The view with the rows that were appended since. Without a sort only those are examined.
    ///
    /// # Errors
    /// As [`Reading::view`].
    pub fn refresh(&self, control: Control<'_>) -> Result<Self, Error> {
        let Some(order) = self.order.as_ref().filter(|_| self.query.sort.is_empty() && !self.is_overlaid)
        else {
            return self.reading.view_again(&self.query, false, self.reading.overlay(), control);
        };
        let column_formats =
            self.reading.column_formats(&self.query.columns(), &self.query.types, control)?;
        let (chunks, settled) = {
            let state = self.reading.state();
            (scan::chunks(&state, self.settled), state.settled)
        };
        let selection = Selection::new(&self.reading, &self.query, &column_formats, false)?;
        let mut collector = OrderBuilder::new(self.reading.folder(), self.reading.limits().order_bytes);
        copy(order, self.settled, &mut collector)?;
        let first = self.settled.max(self.first());
        let clipped = self.reading.filter(&chunks, &selection, first, control, &mut collector)?;
        Ok(Self {
            reading: Arc::clone(&self.reading),
            query: self.query.clone(),
            order: Some(Arc::new(collector.finish()?)),
            is_overlaid: false,
            settled,
            clipped: self.clipped + clipped,
        })
    }

    fn first(&self) -> u64 {
        self.reading.first_shown(&self.query)
    }
}

/// Copies the lines of an order that precede `end`. The lines are in the order of the file.
fn copy(order: &RowOrder, end: u64, collector: &mut OrderBuilder<'_>) -> io::Result<()> {
    /// The number of lines that are copied at once.
    const STEP: u64 = 64 << 10;
    let mut at = 0;
    while at < order.len() {
        let next = (at + STEP).min(order.len());
        for line in order.get(at..next)? {
            if u64::from(line) < end {
                collector.push(line)?;
            }
        }
        at = next;
    }
    Ok(())
}
