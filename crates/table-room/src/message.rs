//! Messages to viewers, as whole WebSocket frames: encoded once and shared by all receivers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_table::{Dialect, Evidence, LineEnd, Page, Reading, Row};
use tidings_table_group::Group;
use tidings_table_store::{ColumnLayout, Condition, Locks, Sort, TableId, ViewSettings};
use tidings_wire::ws::{self, Opcode};

use crate::failure::Failure;
use crate::people::{ChangedBy, Person};

/// The rows of a page, encoded for messages.
#[derive(Debug)]
pub struct PageText {
    /// The number of the page, from 1.
    pub page_no: u64,
    /// The number of rows in the view.
    pub total: u64,
    data: Box<RawValue>,
    header: Box<RawValue>,
    cuts: Cuts,
    /// The columns of a page that does not have all of them.
    columns: Option<ViewColumns>,
}

/// Cells that changed in place.
#[derive(Debug)]
pub struct CellChanges {
    page_no: u64,
    /// Row within the page, column, and content.
    cells: Vec<(u64, usize, Box<RawValue>)>,
}

/// A message about cells may have this part of the cells of a page: each of its cells takes four times as many bytes.
const MAX_CHANGED_SHARE: usize = 4;

/// The columns of a view that has not all columns of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ViewColumns {
    #[serde(rename = "columns_from")]
    /// The first column.
    pub from: usize,
    #[serde(rename = "columns_count")]
    /// The number of columns.
    pub count: usize,
    #[serde(rename = "columns_total")]
    /// The number of columns of the table.
    pub total: usize,
}

/// The cells and rows of a page that are not shown completely. Empty lists are left out of messages.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Cuts {
    /// Truncated cells: row and column in `data`, and the number of characters of the cell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cut: Vec<[u64; 3]>,
    /// Truncated rows: row in `data`, and the number of cells of the row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    wide: Vec<[u64; 2]>,
}

impl PageText {
    /// A table without rows.
    pub fn empty() -> Self {
        let (data, header) = (raw(&[(); 0]), raw(&()));
        Self { page_no: 1, total: 0, data, header, cuts: Cuts::default(), columns: None }
    }

    /// The text of a page, with the header of the table.
    pub fn new(page_no: u64, page: &Page, header: Option<&Row>) -> Self {
        let mut cuts = Cuts::default();
        for (row, at) in page.rows.iter().zip(0..) {
            let cut = row.cells.iter().zip(0..).filter_map(|(cell, column)| Some([at, column, cell.cut?]));
            cuts.cut.extend(cut);
            if row.width > row.cells.len() as u64 {
                cuts.wide.push([at, row.width]);
            }
        }
        let header = header.map(cells);
        let data: Vec<_> = page.rows.iter().map(cells).collect();
        Self { page_no, total: page.total, data: raw(&data), header: raw(&header), cuts, columns: None }
    }

    /// The cells that differ from those of `before`; `None` when anything else differs, when a cell of the key of a row
    /// does, as where rows have moved, or when so many do that the page is smaller. Both have the same settings.
    pub fn changes_since(&self, before: &Self, key: &[String]) -> Option<CellChanges> {
        let is_same = self.page_no == before.page_no
            && self.total == before.total
            && self.header.get() == before.header.get()
            && self.columns == before.columns
            && self.cuts == before.cuts;
        if !is_same {
            return None;
        }
        let (now, old) = (raw_cells(&self.data)?, raw_cells(&before.data)?);
        let header: Vec<&str> = serde_json::from_str(self.header.get()).unwrap_or_default();
        let is_key = |column: usize| header.get(column).is_some_and(|name| key.iter().any(|key| key == name));
        let (mut cells, mut total) = (Vec::new(), 0);
        for ((now, old), row) in now.iter().zip(&old).zip(0..) {
            if now.len() != old.len() {
                return None;
            }
            total += now.len();
            for ((now, old), column) in now.iter().zip(old).zip(0..) {
                if now.get() == old.get() {
                    continue;
                }
                if is_key(column) {
                    return None;
                }
                cells.push((row, column, (*now).to_owned()));
            }
        }
        (now.len() == old.len() && cells.len() <= total / MAX_CHANGED_SHARE)
            .then_some(CellChanges { page_no: self.page_no, cells })
    }

    /// The page with these columns alone.
    pub fn with_columns(self, columns: Option<ViewColumns>) -> Self {
        Self { columns, ..self }
    }
}

fn cells(row: &Row) -> Vec<&str> {
    row.cells.iter().map(|cell| &*cell.text).collect()
}

/// The cells of rows, as JSON.
fn raw_cells(data: &RawValue) -> Option<Vec<Vec<&RawValue>>> {
    serde_json::from_str(data.get()).ok()
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("text in lists")
}

/// The description of a table in a view, without its rows.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// The id of the table.
    pub id: TableId,
    /// The uploader's name for the file.
    pub name: String,
    /// The size of the file in bytes.
    pub size: u64,
    /// Whether rows are still arriving.
    pub loading: bool,
    /// The number of viewers on all nodes.
    pub viewers: u64,
    /// The version of the view.
    pub version: u64,
    /// The settings of the shown rows.
    pub shown: ViewSettings,
    /// The facts about the file; `None` without a file.
    pub file: Option<FileFacts>,
    /// The fields that the article's page does not have.
    pub shared: Option<SharedFields>,
}

/// Fields of views that the views of the article's page do not have.
#[derive(Clone, Debug, Serialize)]
pub struct SharedFields {
    /// The author of the last change; `None`: no change since the table was opened.
    pub changed_by: Option<ChangedBy>,
    /// The numbers of changes that can be undone and redone.
    pub history: HistoryLength,
    /// The layout of the columns.
    pub columns: Option<ColumnLayout>,
    /// The columns to group by and the measures.
    pub group: Option<Group>,
    /// The file that can be restored.
    pub previous: Option<PreviousName>,
    /// The names of the columns that are the key of a row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// The number of compactions of the log since the table was opened: the size may be smaller after one.
    #[serde(skip_serializing_if = "is_zero")]
    pub compacted: u64,
}

/// Whether a field is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A file that can be restored.
#[derive(Clone, Debug, Serialize)]
pub struct PreviousName {
    /// The uploader's name for it.
    pub name: String,
    /// The time until which it is stored, in seconds since 1970.
    pub until: u64,
}

/// The numbers of changes that can be undone and redone.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HistoryLength {
    /// Changes that can be undone.
    pub undo: usize,
    /// Changes that can be redone.
    pub redo: usize,
}

/// The dialect of a file and the findings of its analysis.
#[derive(Clone, Debug)]
pub struct FileFacts {
    dialect: Dialect,
    lossy: bool,
    open_quote: bool,
    ragged: u64,
    sheets: Sheets,
    /// The types that the file declares.
    types: BTreeMap<usize, String>,
}

/// The sheets of a workbook. The fields are left out of the views of other files.
#[derive(Clone, Debug, Serialize)]
struct Sheets {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    sheets: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sheet: Option<String>,
}

impl FileFacts {
    /// The facts about the file that is read.
    pub fn of(reading: &Reading) -> Self {
        let summary = reading.summary();
        Self {
            dialect: reading.dialect().clone(),
            lossy: summary.lossy,
            open_quote: summary.open_quote,
            ragged: summary.ragged,
            sheets: Sheets { sheets: reading.sheets().to_vec(), sheet: reading.sheet().map(str::to_owned) },
            types: reading
                .declared_types()
                .iter()
                .map(|(column, declared)| (*column, declared.to_string()))
                .collect(),
        }
    }
}

#[derive(Serialize)]
struct DialectText {
    delimiter: String,
    quote: String,
    escape: String,
    /// Whether spaces before a cell are skipped.
    skip_initial_space: bool,
    /// The number of skipped lines above the header.
    skip: u64,
    header: bool,
    line_end: &'static str,
    encoding: &'static str,
    /// Whether the encoding was guessed.
    guessed: bool,
    /// Whether some bytes are invalid in the encoding.
    lossy: bool,
    /// Whether the file ends within quotes.
    open_quote: bool,
    compression: String,
    /// The format of the file. Of others than `text`, the other fields describe the text of its cells.
    format: &'static str,
}

impl From<&FileFacts> for DialectText {
    fn from(facts: &FileFacts) -> Self {
        let FileFacts { dialect, lossy, open_quote, .. } = facts;
        let text = |byte: Option<u8>| byte.map(|byte| char::from(byte).to_string()).unwrap_or_default();
        Self {
            delimiter: text(Some(dialect.syntax.delimiter())),
            quote: text(dialect.syntax.quote()),
            escape: text(dialect.syntax.escape()),
            skip_initial_space: dialect.syntax.skips_spaces(),
            skip: dialect.skip,
            header: dialect.header,
            line_end: match dialect.line_end {
                LineEnd::Lf => "\n",
                LineEnd::CrLf => "\r\n",
                LineEnd::Cr => "\r",
            },
            encoding: dialect.encoding.name(),
            guessed: dialect.evidence == Evidence::Guessed,
            lossy: *lossy,
            open_quote: *open_quote,
            compression: format!("{:?}", dialect.compression).to_ascii_lowercase(),
            format: dialect.format.name(),
        }
    }
}

/// The fields of a view, in the documented order.
#[derive(Serialize)]
struct View<'a> {
    uuid: String,
    page_no: u64,
    total_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    page_size: usize,
    header: &'a RawValue,
    name: &'a str,
    size: u64,
    loading: bool,
    viewers: u64,
    version: u64,
    sort: &'a [Sort],
    filter: &'a [Condition],
    search: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ignore_accents: bool,
    dialect: Option<DialectText>,
    ragged: u64,
    /// The types of columns that are chosen, or declared by the file.
    types: Cow<'a, BTreeMap<usize, String>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    sheets: Option<&'a Sheets>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    shared: Option<&'a SharedFields>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    columns: Option<ViewColumns>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    cuts: Option<&'a Cuts>,
}

/// The view as JSON; without rows for channels.
pub fn view(info: &TableInfo, page: &PageText, with_rows: bool) -> String {
    let view = View {
        uuid: info.id.to_string(),
        page_no: page.page_no,
        total_number: page.total,
        data: with_rows.then_some(&*page.data),
        page_size: info.shown.page_size,
        header: &page.header,
        name: &info.name,
        size: info.size,
        loading: info.loading,
        viewers: info.viewers,
        version: info.version,
        sort: &info.shown.sort,
        filter: &info.shown.filter,
        search: &info.shown.search,
        ignore_accents: info.shown.ignore_accents,
        dialect: info.file.as_ref().map(Into::into),
        ragged: info.file.as_ref().map_or(0, |facts| facts.ragged),
        types: types(info),
        sheets: info.file.as_ref().map(|facts| &facts.sheets).filter(|sheets| sheets.sheet.is_some()),
        shared: info.shared.as_ref(),
        columns: page.columns,
        cuts: with_rows.then_some(&page.cuts),
    };
    serde_json::to_string(&view).expect("text and numbers")
}

/// Cells of the shared view that changed in place, and its new version. Rows are counted in the view.
pub fn changed_cells(changes: &CellChanges, page_size: usize, version: u64) -> Bytes {
    #[derive(Serialize)]
    struct Cell<'a> {
        row: u64,
        column: usize,
        value: &'a RawValue,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        cells: Vec<Cell<'a>>,
        version: u64,
    }
    let first = (changes.page_no - 1).saturating_mul(page_size as u64);
    let cells =
        changes.cells.iter().map(|(row, column, value)| Cell { row: first + row, column: *column, value });
    frame(&serde_json::to_string(&Message { cells: cells.collect(), version }).expect("text and numbers"))
}

/// The types of columns: declared ones, and chosen ones instead of them.
fn types(info: &TableInfo) -> Cow<'_, BTreeMap<usize, String>> {
    match &info.file {
        Some(facts) if !facts.types.is_empty() => {
            let mut types = facts.types.clone();
            types.extend(info.shown.types.clone());
            Cow::Owned(types)
        }
        _ => Cow::Borrowed(&info.shown.types),
    }
}

/// The private view of a viewer.
pub fn private(info: &TableInfo, page: &PageText) -> Bytes {
    frame(&format!("{{\"private\":{}}}", view(info, page, true)))
}

/// The end of a private view.
pub fn no_private() -> Bytes {
    frame("{\"private\":null}")
}

/// A text frame.
pub fn frame(text: &str) -> Bytes {
    let mut frame = Vec::new();
    ws::frame(Opcode::Text, text.as_bytes(), &mut frame);
    frame.into()
}

fn json_frame(value: &serde_json::Value) -> Bytes {
    frame(&value.to_string())
}

/// An error message.
pub fn error(failure: &Failure) -> Bytes {
    json_frame(&serde_json::json!({"error": {"code": failure.code, "message": failure.message}}))
}

/// The payload of the ping that follows the error of a rejected or failed upload. The client sends its pong after it
/// has received the error, so later messages are sent with that knowledge.
pub const REFUSED: &[u8] = b"refused";

/// See [`REFUSED`].
pub fn refused() -> Bytes {
    let mut frame = Vec::new();
    ws::frame(Opcode::Ping, REFUSED, &mut frame);
    frame.into()
}

/// The owner's secret, for the client that created the table.
pub fn owner(secret: &str) -> Bytes {
    json_frame(&serde_json::json!({"owner": secret}))
}

/// The response to a token that permits uploads.
pub fn may_upload() -> Bytes {
    json_frame(&serde_json::json!({"rights": {"upload": true}}))
}

/// The response to the owner's secret.
pub fn is_owner() -> Bytes {
    json_frame(&serde_json::json!({"rights": {"owner": true}}))
}

/// The progress of an upload. `size` is the announced size.
pub fn progress(received: u64, size: Option<u64>, rows: u64) -> Bytes {
    json_frame(&serde_json::json!({"progress": {"received": received, "size": size, "rows": rows}}))
}

/// The progress of computing a view, from 0 to 1.
pub fn working(done: f32) -> Bytes {
    json_frame(&serde_json::json!({"progress": {"view": (f64::from(done) * 1000.0).round() / 1000.0}}))
}

/// The actions that are restricted to the owner.
pub fn locks(locks: Locks) -> Bytes {
    json_frame(&serde_json::json!({"lock": locks}))
}

/// The columns of a private window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowColumns {
    /// The first column.
    pub from: usize,
    /// The number of columns that the window has.
    pub count: usize,
    /// The number of columns of the table.
    pub total: usize,
}

/// The description of a private window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The first row.
    pub from: u64,
    /// The requested columns; `None`: the first ones.
    pub columns: Option<WindowColumns>,
    /// The version of the view.
    pub version: u64,
    /// Whether the rows are those of the receiver's private view.
    pub private: bool,
}

/// A private window.
pub fn rows(window: &Window, page: &Page, header: Option<&Row>) -> Bytes {
    let text = PageText::new(0, page, header);
    #[derive(Serialize)]
    struct WindowRows<'a> {
        from: u64,
        count: usize,
        total_number: u64,
        data: &'a RawValue,
        version: u64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        private: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        columns: Option<WindowColumns>,
        #[serde(skip_serializing_if = "Option::is_none")]
        header: Option<&'a RawValue>,
        #[serde(flatten)]
        cuts: &'a Cuts,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        rows: WindowRows<'a>,
    }
    let Window { from, columns, version, private } = *window;
    let mut cuts = text.cuts;
    if columns.is_some() {
        // The other cells of each row are missing on purpose.
        cuts.wide.clear();
    }
    let rows = WindowRows {
        from,
        count: page.rows.len(),
        total_number: page.total,
        data: &text.data,
        version,
        private,
        columns,
        header: columns.map(|_| &*text.header),
        cuts: &cuts,
    };
    frame(&serde_json::to_string(&Message { rows }).expect("text and numbers"))
}

/// The people of a table; with the id of the receiver in its first list.
pub fn people(people: &[Arc<Person>], you: Option<&str>) -> Bytes {
    #[derive(Serialize)]
    struct Message<'a> {
        people: Vec<&'a Person>,
        #[serde(skip_serializing_if = "Option::is_none")]
        you: Option<&'a str>,
    }
    let people = people.iter().map(|person| &**person).collect();
    frame(&serde_json::to_string(&Message { people, you }).expect("text and numbers"))
}

/// Changes of the people of a table, as a sequence of frames.
pub fn people_changes(changed: &[Arc<Person>], left: &[String]) -> Bytes {
    let mut frames = Vec::new();
    for id in left {
        frames.extend_from_slice(&json_frame(&serde_json::json!({"person_left": id})));
    }
    for person in changed {
        frames.extend_from_slice(&json_frame(&serde_json::json!({"person": &**person})));
    }
    frames.into()
}
