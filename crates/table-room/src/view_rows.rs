//! The rows of a view: those of the file in some order, or groups of them.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use tidings_table::{Control, Error, Export, Page, Reading, Row, View};
use tidings_table_group::Grouped;
use tidings_table_live::NearRows;

/// All rows of a view of a table with a key, as they were when they were computed.
#[derive(Clone, Debug)]
pub struct WholeRows {
    /// The rows.
    pub view: Arc<View>,
    /// The number of lines of the file that were considered.
    pub applied: u64,
}

impl WholeRows {
    /// Whether no row has changed since.
    pub fn is_current(&self) -> bool {
        self.view.reading().overlay().is_some_and(|overlay| overlay.applied() == self.applied)
    }
}

/// The rows of a view.
#[derive(Clone, Debug)]
pub enum ViewRows {
    /// Rows of the file.
    File(Arc<View>),
    /// Rows of the file near a page. The other rows are as they were when all rows were computed last.
    Near {
        /// The rows near the page.
        near: NearRows,
        /// All rows, as they were; `None` after their file was replaced.
        whole: Option<WholeRows>,
    },
    /// Groups.
    Groups {
        /// The groups.
        view: Arc<Grouped>,
        /// Whether the header counts as the first row, as on the article's page.
        header_is_row: bool,
    },
}

impl ViewRows {
    /// The reading of the rows.
    pub fn reading(&self) -> &Arc<Reading> {
        match self {
            Self::File(view) | Self::Near { near: NearRows { view, .. }, .. } => view.reading(),
            Self::Groups { view, .. } => view.reading(),
        }
    }

    /// The number of rows.
    pub fn total(&self) -> u64 {
        match self {
            Self::File(view) => view.total(),
            Self::Near { near, .. } => near.total,
            Self::Groups { view, header_is_row } => view.total() + u64::from(*header_is_row),
        }
    }

    /// The number of columns: cells of the widest row.
    pub fn width(&self) -> usize {
        match self {
            Self::File(view) | Self::Near { near: NearRows { view, .. }, .. } => {
                view.reading().summary().widest as usize
            }
            Self::Groups { view, .. } => view.header().len(),
        }
    }

    /// Up to `count` rows from position `from` on, with the cells of these columns.
    ///
    /// # Errors
    /// As [`View::window`].
    pub fn window(&self, from: u64, count: usize, columns: Range<usize>) -> Result<Page, Error> {
        match self {
            Self::File(view) => view.window(from, count, columns),
            Self::Near { near, whole } => {
                let positions = from..from.saturating_add(count as u64);
                let page = match whole {
                    _ if near.covers(&positions) => return near.window(from, count, columns),
                    Some(whole) => whole.view.window(from, count, columns)?,
                    None => Page::default(),
                };
                Ok(Page { from, total: near.total, ..page })
            }
            Self::Groups { view, header_is_row: false } => Ok(view.window(from, count, columns)),
            Self::Groups { view, .. } => {
                let has_header = from == 0 && count > 0;
                let rest = count - usize::from(has_header);
                let mut page = view.window(from.saturating_sub(1), rest, columns.clone());
                if has_header {
                    page.rows.insert(0, view.header_of(columns));
                }
                Ok(Page { from, total: page.total + 1, ..page })
            }
        }
    }

    /// Whether the rows at these positions are current.
    pub fn is_current(&self, positions: &Range<u64>) -> bool {
        match self {
            Self::Near { near, whole } => {
                near.covers(positions) || whole.as_ref().is_some_and(WholeRows::is_current)
            }
            _ => true,
        }
    }

    /// The names of the columns; `None` without a header, or when it counts as a row.
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
        match self {
            Self::File(view) | Self::Near { near: NearRows { view, .. }, .. } => view.header_of(columns),
            Self::Groups { header_is_row: true, .. } => Ok(None),
            Self::Groups { view, .. } => Ok(Some(view.header_of(columns))),
        }
    }

    /// Writes the header and all rows, complete. Those of [`Self::Near`] are as they were when all rows were computed last.
    ///
    /// # Errors
    /// As [`View::write`]; [`Error::Cancelled`] if not all rows are known.
    pub fn write(&self, export: Export, out: &mut impl Write, control: Control<'_>) -> Result<(), Error> {
        match self {
            Self::File(view) => view.write(export, out, control),
            Self::Near { whole, .. } => {
                whole.as_ref().ok_or(Error::Cancelled)?.view.write(export, out, control)
            }
            Self::Groups { view, .. } => view.write(export, out, control),
        }
    }
}
