//! Computes pages: the order of the rows, and one page of them. Blocks on the disk.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use tidings_table::{Control, Error, Reading, Summary, View};
use tidings_table_group::{Budget as GroupBudget, Group, Grouped};
use tidings_table_live::{Budget, LiveView};
use tidings_table_store::ViewSettings;

use crate::broadcast::ViewFormat;
use crate::message::{self, CellChanges, FileFacts, PageText, ViewColumns, Window, WindowColumns};
use crate::view_rows::ViewRows;

/// The number of columns that a view always has.
const VIEW_COLUMNS: usize = 100;
/// The number of cells up to which a view has more columns. Viewers request further columns as they show them.
const VIEW_CELLS: usize = 20_000;

/// A view, and the state of the file that it is based on.
#[derive(Clone, Debug)]
pub struct CachedView {
    /// The rows.
    pub view: ViewRows,
    of: Summary,
    /// The rows of a table with a key, which are updated row by row.
    live: Option<Arc<Mutex<LiveView>>>,
}

/// A page, before encoding.
#[derive(Debug)]
pub struct Page {
    /// By form; the article's form only on request.
    pub made: [Option<CachedView>; 2],
    /// The text by form.
    pub text: [Option<Arc<PageText>>; 2],
    /// The facts about the file.
    pub facts: FileFacts,
    /// The size of the file when the page was computed.
    pub summary: Summary,
    /// The number of the page, which exists.
    pub page: u64,
    /// The cells that differ from the page before, if only cells have changed, in place.
    pub changes: Option<CellChanges>,
}

/// A page that is requested.
pub struct PageRequest {
    /// The state of the file.
    pub reading: Arc<Reading>,
    /// The settings of the page.
    pub shown: ViewSettings,
    /// The previous views, which are reused for the same query.
    pub before: [Option<CachedView>; 2],
    /// Whether the article's form is requested too.
    pub article: bool,
    /// The memory of live views.
    pub live: Budget,
    /// The memory of groups.
    pub groups: GroupBudget,
    /// The page that viewers have, with the key of its rows, if the settings are the same.
    pub replaces: Option<(Arc<PageText>, Vec<String>)>,
}

impl CachedView {
    /// Whether the current rows follow from these by the changed rows alone.
    pub fn can_follow(&self, reading: &Arc<Reading>) -> bool {
        // A view that is locked is being computed.
        self.live.as_ref().is_some_and(|live| live.try_lock().is_ok_and(|live| live.can_follow(reading)))
    }

    /// Whether these are the rows of these settings, in their order, now or before they changed.
    pub fn has_rows_of(&self, reading: &Arc<Reading>, shown: &ViewSettings) -> bool {
        match (&self.view, &shown.group) {
            (ViewRows::File(view), None) => {
                Arc::ptr_eq(view.reading(), reading) && *view.query() == shown.query(false)
            }
            (ViewRows::Groups { .. }, Some(group)) => self.groups_of(reading, shown, group).is_some(),
            _ => false,
        }
    }

    /// The groups, if they are those of these settings, in any order.
    fn groups_of(
        &self,
        reading: &Arc<Reading>,
        shown: &ViewSettings,
        group: &Group,
    ) -> Option<&Arc<Grouped>> {
        let ViewRows::Groups { view, .. } = &self.view else { return None };
        (Arc::ptr_eq(view.reading(), reading) && view.has_groups_of(&shown.query(false), group))
            .then_some(view)
    }
}

/// Whether a page needs a computation over all rows of its table. Otherwise its rows are only read: they are computed
/// already, or the changed rows alone are examined.
pub fn needs_query(request: &PageRequest) -> bool {
    let PageRequest { reading, shown, before, .. } = request;
    let is_computed = |made: &CachedView| {
        made.has_rows_of(reading, shown) && (made.of == reading.summary() || made.can_follow(reading))
    };
    !shown.is_plain() && !before[ViewFormat::Tables as usize].as_ref().is_some_and(is_computed)
}

/// Computes a page. For a number past the last page, it is the last page.
///
/// # Errors
/// As [`Reading::view`] and [`View::page`].
pub fn make(request: &PageRequest, control: Control<'_>) -> Result<Page, Error> {
    let PageRequest { reading, shown, before, article, live, groups, replaces } = request;
    let summary = reading.summary();
    let (mut made, mut text) = ([None, None], [None, None]);
    let (mut page, mut changes) = (1, None);
    for form in [ViewFormat::Tables, ViewFormat::Article] {
        if form == ViewFormat::Article && !article {
            continue;
        }
        let before = before[form as usize].as_ref();
        let (view, live_view) = match (&shown.group, &made[ViewFormat::Tables as usize]) {
            // The article's page shows the same groups.
            (Some(_), Some(CachedView { view: ViewRows::Groups { view, .. }, .. })) => {
                (ViewRows::Groups { view: Arc::clone(view), header_is_row: true }, None)
            }
            (Some(group), _) => {
                let view = grouped(reading, shown, group, before, summary, groups, control)?;
                (ViewRows::Groups { view, header_is_row: false }, None)
            }
            (None, _) => {
                let (view, live) = rows(reading, shown, form, before, summary, live, control)?;
                (ViewRows::File(view), live)
            }
        };
        let columns = match form {
            ViewFormat::Tables => {
                view_columns(reading, view.total().min(shown.page_size as u64) as usize, view.width())
            }
            ViewFormat::Article => None,
        };
        let range = columns.map_or(0..usize::MAX, |columns| 0..columns.count);
        let mut number = shown.page.min(shown.pages(view.total()));
        let mut rows = rows_of(&view, shown, number, range.clone())?;
        // Rows may have arrived since the number was computed, so the last page may have changed.
        if rows.rows.is_empty() && number > 1 {
            number = shown.page.min(shown.pages(rows.total));
            rows = rows_of(&view, shown, number, range.clone())?;
        }
        page = page.max(number);
        let made_text = PageText::new(number, &rows, view.header()?.as_ref()).with_columns(columns);
        if let Some((replaced, key)) = replaces.as_ref().filter(|_| form == ViewFormat::Tables) {
            changes = made_text.changes_since(replaced, key);
        }
        text[form as usize] = Some(Arc::new(made_text));
        made[form as usize] = Some(CachedView { view, of: summary, live: live_view });
    }
    Ok(Page { made, text, facts: FileFacts::of(reading), summary, page, changes })
}

/// These columns of the rows of a page. Pages are counted from 1.
pub fn rows_of(
    view: &ViewRows,
    shown: &ViewSettings,
    number: u64,
    columns: Range<usize>,
) -> Result<tidings_table::Page, Error> {
    view.window((number - 1).saturating_mul(shown.page_size as u64), shown.page_size, columns)
}

/// A window of a view as a message, with these columns alone; with the version of the view, and whether it is private.
///
/// # Errors
/// As [`View::page`].
pub fn window(
    view: &ViewRows,
    from: u64,
    count: usize,
    columns: Option<Range<usize>>,
    (version, private): (u64, bool),
) -> Result<Bytes, Error> {
    let range = columns.clone().unwrap_or(0..usize::MAX);
    let page = view.window(from, count, range.clone())?;
    let header = if columns.is_some() { view.header_of(range)? } else { None };
    let columns = columns.map(|columns| {
        let total = view.width();
        let shown = view.reading().limits().shown_columns(page.rows.len());
        let count = columns.len().min(shown).min(total.saturating_sub(columns.start));
        WindowColumns { from: columns.start, count, total }
    });
    // The header has no other columns than the rows.
    let header = header.map(|mut header| {
        header.cells.truncate(columns.map_or(usize::MAX, |columns| columns.count));
        header
    });
    Ok(message::rows(&Window { from, columns, version, private }, &page, header.as_ref()))
}

/// The columns of a view with pages of `rows` rows, of a table with `total` columns; `None`: all of them.
fn view_columns(reading: &Reading, rows: usize, total: usize) -> Option<ViewColumns> {
    let most = (VIEW_CELLS / rows.max(1)).max(VIEW_COLUMNS);
    let count = most.min(reading.limits().shown_columns(rows));
    (total > count).then_some(ViewColumns { from: 0, count, total })
}

/// The groups of a view.
fn grouped(
    reading: &Arc<Reading>,
    shown: &ViewSettings,
    group: &Group,
    before: Option<&CachedView>,
    now: Summary,
    budget: &GroupBudget,
    control: Control<'_>,
) -> Result<Arc<Grouped>, Error> {
    let query = shown.query(false);
    let same = before.and_then(|made| Some((made, made.groups_of(reading, shown, group)?)));
    let view = match same {
        Some((made, view)) if made.of == now => Arc::clone(view),
        Some((_, view)) => Arc::new(view.refresh(control)?),
        None => return Ok(Arc::new(Grouped::new(reading, &query, group, budget, control)?)),
    };
    Ok(if view.sort() == query.sort { view } else { Arc::new(view.sorted(&query.sort)?) })
}

/// The rows of a view, and their keys if the view is updated row by row.
type LiveRows = (Arc<View>, Option<Arc<Mutex<LiveView>>>);

fn rows(
    reading: &Arc<Reading>,
    shown: &ViewSettings,
    form: ViewFormat,
    before: Option<&CachedView>,
    now: Summary,
    budget: &Budget,
    control: Control<'_>,
) -> Result<LiveRows, Error> {
    let header_is_row = form == ViewFormat::Article;
    if shown.is_plain() {
        return Ok((Arc::new(View::plain(reading, header_is_row)), None));
    }
    let query = shown.query(header_is_row);
    // The log of the rows was compacted: their keys are those of the former file.
    let is_of = |view: &View, reading: &Arc<Reading>| Arc::ptr_eq(view.reading(), reading);
    let is_moved = |made: &CachedView, view: &View| {
        made.live.is_some() && reading.overlay().is_some_and(|now| now.moved_from(view.reading()).is_some())
    };
    let same = before.and_then(|made| match &made.view {
        ViewRows::File(view) if *view.query() == query && (is_of(view, reading) || is_moved(made, view)) => {
            Some((made, view))
        }
        _ => None,
    });
    if let Some((made, view)) = same {
        if made.of == now && is_of(view, reading) {
            return Ok((Arc::clone(view), made.live.clone()));
        }
        if let Some(live) = &made.live {
            let view = live.lock().unwrap_or_else(PoisonError::into_inner).refresh(reading, control)?;
            return Ok((Arc::new(view), Some(Arc::clone(live))));
        }
    }
    // The values of filters were checked when the view was requested.
    let is_new = same.is_none();
    if let Some(mut live) = LiveView::build(reading, &query, budget, is_new, control)? {
        let view = live.refresh(reading, control)?;
        return Ok((Arc::new(view), Some(Arc::new(Mutex::new(live)))));
    }
    Ok((
        Arc::new(match same {
            Some((_, view)) => view.refresh(control)?,
            None => reading.view(&query, control)?,
        }),
        None,
    ))
}
