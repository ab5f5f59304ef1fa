//! Computes pages: the order of the rows, and one page of them. Blocks on the disk.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use bytes::Bytes;

use tidings_table::{Control, Error, Overlay, Reading, Summary, View};
use tidings_table_group::{Budget as GroupBudget, Group, Grouped};
use tidings_table_live::{Budget, LiveView, NearRows, WindowView};
use tidings_table_store::ViewSettings;

use crate::broadcast::ViewFormat;
use crate::message::{self, CellChanges, FileFacts, PageText, ViewColumns, Window, WindowColumns};
use crate::view_rows::{ViewRows, WholeRows};

/// The number of columns that a view always has.
const VIEW_COLUMNS: usize = 100;
/// The number of cells up to which a view has more columns. Viewers request further columns as they show them.
const VIEW_CELLS: usize = 20_000;

/// The rows before and after a page that are updated with it, where not all rows are. More than a page has, and more than the
/// browser's page shows around it.
const NEAR_ROWS: u64 = 1_024;

/// A view, and the state of the file that it is based on.
#[derive(Clone, Debug)]
pub struct CachedView {
    /// The rows.
    pub view: ViewRows,
    of: Summary,
    /// The rows of a table with a key, which are updated row by row.
    live: Option<Arc<Mutex<LiveView>>>,
    /// Those rows near the page alone.
    window: Option<Arc<Mutex<WindowView>>>,
}

/// Which rows of a view of a table with a key are updated row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All rows. Without memory for them, they are computed again after changes.
    Whole,
    /// All rows. Without memory for them, those near the page.
    WholeIfItFits,
    /// Those near the page ([`WindowView`]). The others are as they were when all rows were computed last.
    Near,
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
    /// The rows that are updated row by row.
    pub extent: Extent,
    /// Whether the page must follow from the rows before by the changed rows alone; otherwise it is [`Error::Cancelled`].
    pub changes_only: bool,
    /// The page that viewers have, with the key of its rows, if the settings are the same.
    pub replaces: Option<(Arc<PageText>, Vec<String>)>,
}

impl CachedView {
    /// Whether the current rows of the page with these settings follow from these by the changed rows alone.
    pub fn can_follow(&self, reading: &Arc<Reading>, shown: &ViewSettings) -> bool {
        let is_followed = |window: &WindowView| window.can_follow(reading, |total| positions(shown, total));
        // A view that is locked may be being computed; a window that is locked is being updated by the changed rows alone.
        self.live.as_ref().is_some_and(|live| live.try_lock().is_ok_and(|live| live.can_follow(reading)))
            || self.window.as_ref().is_some_and(|window| match window.try_lock() {
                Ok(window) => is_followed(&window),
                Err(error) => matches!(error, TryLockError::WouldBlock),
            })
    }

    /// Whether these are the rows of these settings, in their order, now or before they changed.
    pub fn has_rows_of(&self, reading: &Arc<Reading>, shown: &ViewSettings) -> bool {
        match (&self.view, &shown.group) {
            (ViewRows::File(view) | ViewRows::Near { near: NearRows { view, .. }, .. }, None) => {
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
    let PageRequest { reading, shown, before, extent, .. } = request;
    let is_computed = |made: &CachedView| {
        if made.window.is_some() && *extent == Extent::Whole {
            return false;
        }
        let is_unchanged = made.window.is_none() && made.of == reading.summary();
        made.has_rows_of(reading, shown) && (is_unchanged || made.can_follow(reading, shown))
    };
    !shown.is_plain() && !before[ViewFormat::Tables as usize].as_ref().is_some_and(is_computed)
}

/// Computes a page. For a number past the last page, it is the last page.
///
/// # Errors
/// As [`Reading::view`] and [`View::page`].
pub fn make(request: &PageRequest, control: Control<'_>) -> Result<Page, Error> {
    let PageRequest { reading, shown, before, article, groups, replaces, .. } = request;
    let summary = reading.summary();
    let (mut made, mut text) = ([None, None], [None, None]);
    let (mut page, mut changes) = (1, None);
    for form in [ViewFormat::Tables, ViewFormat::Article] {
        if form == ViewFormat::Article && !article {
            continue;
        }
        let before = before[form as usize].as_ref();
        let cached = |view| CachedView { view, of: summary, live: None, window: None };
        let found = match (&shown.group, &made[ViewFormat::Tables as usize]) {
            // The article's page shows the same groups.
            (Some(_), Some(CachedView { view: ViewRows::Groups { view, .. }, .. })) => {
                cached(ViewRows::Groups { view: Arc::clone(view), header_is_row: true })
            }
            (Some(group), _) => {
                let view = grouped(reading, shown, group, before, summary, groups, control)?;
                cached(ViewRows::Groups { view, header_is_row: false })
            }
            (None, _) => rows(request, form, before, summary, control)?,
        };
        let view = &found.view;
        let columns = match form {
            ViewFormat::Tables => {
                view_columns(reading, view.total().min(shown.page_size as u64) as usize, view.width())
            }
            ViewFormat::Article => None,
        };
        let range = columns.map_or(0..usize::MAX, |columns| 0..columns.count);
        let mut number = shown.page.min(shown.pages(view.total()));
        let mut rows = rows_of(view, shown, number, range.clone())?;
        // Rows may have arrived since the number was computed, so the last page may have changed.
        if rows.rows.is_empty() && number > 1 {
            number = shown.page.min(shown.pages(rows.total));
            rows = rows_of(view, shown, number, range.clone())?;
        }
        page = page.max(number);
        let made_text = PageText::new(number, &rows, view.header()?.as_ref()).with_columns(columns);
        if let Some((replaced, key)) = replaces.as_ref().filter(|_| form == ViewFormat::Tables) {
            changes = made_text.changes_since(replaced, key);
        }
        text[form as usize] = Some(Arc::new(made_text));
        made[form as usize] = Some(found);
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

/// The positions of the rows of a page in a view with `total` rows.
fn positions(shown: &ViewSettings, total: u64) -> Range<u64> {
    let size = shown.page_size as u64;
    let start = (shown.page.min(shown.pages(total)).max(1) - 1).saturating_mul(size);
    start..start.saturating_add(size)
}

/// The rows of a view that has no groups.
fn rows(
    request: &PageRequest,
    form: ViewFormat,
    before: Option<&CachedView>,
    now: Summary,
    control: Control<'_>,
) -> Result<CachedView, Error> {
    let PageRequest { reading, shown, live: budget, extent, changes_only, .. } = request;
    let header_is_row = form == ViewFormat::Article;
    let cached =
        |view, live| CachedView { view: ViewRows::File(Arc::new(view)), of: now, live, window: None };
    if shown.is_plain() {
        return Ok(cached(View::plain(reading, header_is_row), None));
    }
    let query = shown.query(header_is_row);
    // The log of the rows was compacted: their keys are those of the former file.
    let is_of = |view: &View, reading: &Arc<Reading>| Arc::ptr_eq(view.reading(), reading);
    let is_moved = |made: &CachedView, view: &View| {
        (made.live.is_some() || made.window.is_some())
            && reading.overlay().is_some_and(|now| now.moved_from(view.reading()).is_some())
    };
    let before = before.filter(|made| made.window.is_none() || *extent != Extent::Whole);
    let same = before.and_then(|made| match &made.view {
        ViewRows::File(view) | ViewRows::Near { near: NearRows { view, .. }, .. }
            if *view.query() == query && (is_of(view, reading) || is_moved(made, view)) =>
        {
            Some((made, view))
        }
        _ => None,
    });
    match same {
        Some((made, _)) if made.window.is_some() && made.can_follow(reading, shown) => {
            return follow_near(request, made, now, control);
        }
        // The rows near another page do not show this one.
        Some((made, _)) if made.window.is_some() => {
            // The page is turned, and no row has changed: the order of all rows is known.
            if !*changes_only
                && let ViewRows::Near { whole: Some(whole), .. } = &made.view
                && Arc::ptr_eq(whole.view.reading(), reading)
                && let Some(overlay) = reading.overlay().filter(|now| now.applied() == whole.applied)
                && let Some(near) = near_page(request, whole.clone(), &overlay, now, control)?
            {
                return Ok(near);
            }
        }
        Some((made, view)) if made.of == now && is_of(view, reading) => return Ok(made.clone()),
        Some((CachedView { live: Some(live), .. }, _)) => {
            let mut rows = live.lock().unwrap_or_else(PoisonError::into_inner);
            let view = match changes_only {
                true => rows.update(reading, control)?.ok_or(Error::Cancelled)?,
                false => rows.refresh(reading, control)?,
            };
            drop(rows);
            return Ok(cached(view, Some(Arc::clone(live))));
        }
        _ => {}
    }
    if *changes_only {
        return Err(Error::Cancelled);
    }
    // The values of filters were checked when the view was requested.
    let is_new = same.is_none();
    if *extent != Extent::Near
        && let Some(mut live) = LiveView::build(reading, &query, budget, is_new, control)?
    {
        let view = live.refresh(reading, control)?;
        return Ok(cached(view, Some(Arc::new(Mutex::new(live)))));
    }
    if *extent != Extent::Whole
        && !header_is_row
        && let Some(overlay) = reading.overlay()
    {
        let view = Arc::new(reading.view_of(&query, &overlay, is_new, control)?);
        let whole = WholeRows { view: Arc::clone(&view), applied: overlay.applied() };
        let near = near_page(request, whole, &overlay, now, control)?;
        let whole = CachedView { view: ViewRows::File(view), of: now, live: None, window: None };
        return Ok(near.unwrap_or(whole));
    }
    let view = match same {
        Some((CachedView { view: ViewRows::File(view), .. }, _)) => view.refresh(control)?,
        _ => reading.view(&query, control)?,
    };
    Ok(cached(view, None))
}

/// The rows near a page of a view of all rows, which was computed from this overlay; `None` if they cannot be followed.
fn near_page(
    request: &PageRequest,
    whole: WholeRows,
    overlay: &Overlay,
    now: Summary,
    control: Control<'_>,
) -> Result<Option<CachedView>, Error> {
    let PageRequest { reading, shown, live: budget, .. } = request;
    let page_at = |total| positions(shown, total);
    let window = WindowView::build(&whole.view, overlay, budget, NEAR_ROWS, page_at, control)?;
    let Some(mut window) = window else { return Ok(None) };
    let Some(near) = window.refresh(reading, page_at, control)? else { return Ok(None) };
    let view = ViewRows::Near { near, whole: Some(whole) };
    Ok(Some(CachedView { view, of: now, live: None, window: Some(Arc::new(Mutex::new(window))) }))
}

/// The rows near a page after changes.
fn follow_near(
    request: &PageRequest,
    made: &CachedView,
    now: Summary,
    control: Control<'_>,
) -> Result<CachedView, Error> {
    let PageRequest { reading, shown, .. } = request;
    let (Some(window), ViewRows::Near { whole, .. }) = (&made.window, &made.view) else {
        return Err(Error::Cancelled);
    };
    let near = window.lock().unwrap_or_else(PoisonError::into_inner).refresh(
        reading,
        |total| positions(shown, total),
        control,
    )?;
    // Otherwise the next attempt computes all rows, with a permit for that.
    let near = near.ok_or(Error::Cancelled)?;
    // A replaced file must not stay open.
    let whole = whole.clone().filter(|whole| Arc::ptr_eq(whole.view.reading(), reading));
    let view = ViewRows::Near { near, whole };
    Ok(CachedView { view, of: now, live: None, window: Some(Arc::clone(window)) })
}
