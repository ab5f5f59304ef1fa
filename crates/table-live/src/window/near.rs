//! Pages of the rows that a window has.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tidings_table::{Error, LineOrder, Page, Row, View};

/// The most bytes of cached rows, and the most columns of their table.
pub(super) const CACHED_BYTES: usize = 64 << 10;
const CACHED_COLUMNS: u64 = 100;

/// Rows near a page.
#[derive(Clone, Debug)]
pub struct NearRows {
    /// The rows.
    pub view: Arc<View>,
    /// The position of the first of them in the whole view.
    pub from: u64,
    /// The number of rows of the whole view.
    pub total: u64,
    pub(super) cache: Arc<Mutex<RowCache>>,
}

/// The rows of the last page, by their lines, which do not change: a page after changes reads the changed rows alone.
#[derive(Debug, Default)]
pub(super) struct RowCache {
    columns: Range<usize>,
    rows: HashMap<u32, Row>,
}

impl NearRows {
    /// Up to `count` rows from this position of the whole view on, which must be among these rows, with the cells of these
    /// columns.
    ///
    /// # Errors
    /// As [`View::window`].
    pub fn window(&self, from: u64, count: usize, columns: Range<usize>) -> Result<Page, Error> {
        let reading = self.view.reading();
        let start = from.saturating_sub(self.from);
        // The number of rows of a read decides how much of a wide row is shown.
        if reading.summary().widest > CACHED_COLUMNS {
            return Ok(Page { from, total: self.total, ..self.view.window(start, count, columns)? });
        }
        let lines = self.view.lines(start..start + count.min(reading.limits().page_rows) as u64)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = std::mem::take(&mut cache.rows);
        if cache.columns != columns {
            known.clear();
        }
        let missing: Vec<u32> = lines.iter().copied().filter(|line| !known.contains_key(line)).collect();
        let order = LineOrder::new(vec![Arc::new(missing.clone())]);
        let read = View::of_lines(reading, self.view.query(), order);
        let read = read.window(0, missing.len(), columns.clone())?;
        known.extend(missing.into_iter().zip(read.rows));
        let rows: Vec<Row> = lines.iter().filter_map(|line| known.get(line).cloned()).collect();
        let bytes =
            |row: &Row| row.cells.iter().map(|cell| cell.text.len() + size_of_val(cell)).sum::<usize>();
        if rows.iter().map(bytes).sum::<usize>() <= CACHED_BYTES {
            let shown: HashSet<u32> = lines.into_iter().collect();
            known.retain(|line, _| shown.contains(line));
            *cache = RowCache { columns, rows: known };
        }
        Ok(Page { from, total: self.total, rows })
    }

    /// Whether these are all rows of the view at these positions.
    pub fn covers(&self, positions: &Range<u64>) -> bool {
        let end = positions.end.min(self.total);
        positions.start >= end || (positions.start >= self.from && end <= self.from + self.view.total())
    }
}
