//! Computes pages: the order of the rows, and one page of them. Blocks on the disk.

use std::sync::Arc;

use tidings_table::{Control, Error, Reading, Summary, View};
use tidings_table_store::ViewSettings;

use super::broadcast::ViewFormat;
use super::message::{FileFacts, PageText};

/// A view, and the state of the file that it is based on.
#[derive(Clone, Debug)]
pub(super) struct CachedView {
    pub(super) view: Arc<View>,
    of: Summary,
}

/// A page, before encoding.
#[derive(Debug)]
pub(super) struct Page {
    /// By form; the article's form only on request.
    pub(super) made: [Option<CachedView>; 2],
    pub(super) text: [Option<Arc<PageText>>; 2],
    pub(super) facts: FileFacts,
    pub(super) summary: Summary,
    /// The number of the page, which exists.
    pub(super) page: u64,
}

/// A page that is requested.
pub(super) struct PageRequest {
    pub(super) reading: Arc<Reading>,
    pub(super) shown: ViewSettings,
    /// The previous views, which are reused for the same query.
    pub(super) before: [Option<CachedView>; 2],
    /// Whether the article's form is requested too.
    pub(super) article: bool,
}

/// Computes a page. For a number past the last page, it is the last page.
///
/// # Errors
/// As [`Reading::view`] and [`View::page`].
pub(super) fn make(request: &PageRequest, control: Control<'_>) -> Result<Page, Error> {
    let PageRequest { reading, shown, before, article } = request;
    let summary = reading.summary();
    let (mut made, mut text) = ([None, None], [None, None]);
    let mut page = 1;
    for form in [ViewFormat::Tables, ViewFormat::Article] {
        if form == ViewFormat::Article && !article {
            continue;
        }
        let view = rows(reading, shown, form, before[form as usize].as_ref(), summary, control)?;
        let mut number = shown.page.min(shown.pages(view.total()));
        let mut rows = rows_of(&view, shown, number)?;
        // Rows may have arrived since the number was computed, so the last page may have changed.
        if rows.rows.is_empty() && number > 1 {
            number = shown.page.min(shown.pages(rows.total));
            rows = rows_of(&view, shown, number)?;
        }
        page = page.max(number);
        text[form as usize] = Some(Arc::new(PageText::new(number, &rows, view.header()?.as_ref())));
        made[form as usize] = Some(CachedView { view, of: summary });
    }
    Ok(Page { made, text, facts: FileFacts::of(reading), summary, page })
}

/// The rows of a page. Pages are counted from 1.
pub(super) fn rows_of(view: &View, shown: &ViewSettings, number: u64) -> Result<tidings_table::Page, Error> {
    view.page((number - 1).saturating_mul(shown.page_size as u64), shown.page_size)
}

fn rows(
    reading: &Arc<Reading>,
    shown: &ViewSettings,
    form: ViewFormat,
    before: Option<&CachedView>,
    now: Summary,
    control: Control<'_>,
) -> Result<Arc<View>, Error> {
    let header_is_row = form == ViewFormat::Article;
    if shown.is_plain() {
        return Ok(Arc::new(View::plain(reading, header_is_row)));
    }
    let query = shown.query(header_is_row);
    let same = before.filter(|made| Arc::ptr_eq(made.view.reading(), reading) && *made.view.query() == query);
    Ok(match same {
        Some(made) if made.of == now => Arc::clone(&made.view),
        Some(made) => Arc::new(made.view.refresh(control)?),
        None => Arc::new(reading.view(&query, control)?),
    })
}
