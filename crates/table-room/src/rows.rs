//! Rows that a backend appends, replaces or removes, before they are written: lines in the table's dialect, cells, or keys.

mod json;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_table::{Event, Reader, Syntax};
use tidings_table_live::Counts;
use tokio::sync::OwnedSemaphorePermit;

use crate::failure::Failure;

/// Rows to append.
pub struct Rows {
    content: Content,
    needs_key: bool,
    /// Their share of the append budget.
    held: Option<AppendPermit>,
}

/// The form of rows.
#[derive(Debug)]
pub enum Content {
    /// Lines in the table's dialect.
    Lines(Bytes),
    /// Cells, which are written in the table's dialect.
    Cells(Cells),
    /// Objects: the names of columns, each before the content of its cell.
    Objects(Cells),
    /// The keys of rows to remove.
    Keys(Cells),
}

/// Rows of cells in one buffer, no larger than their JSON. Each cell and each row is followed by a byte that cannot
/// occur in UTF-8.
#[derive(Debug, Default)]
pub struct Cells {
    flat: Vec<u8>,
    cells: u64,
    rows: u64,
}

const CELL_END: u8 = 0xFF;
const ROW_END: u8 = 0xFE;

/// The share of one request in the append budget, released on drop.
#[derive(Debug)]
pub struct AppendPermit {
    _share: OwnedSemaphorePermit,
    conversion_lock: Option<Arc<Mutex<()>>>,
}

impl AppendPermit {
    /// A share of the budget; with the lock of conversions, if the rows are large.
    pub const fn new(share: OwnedSemaphorePermit, conversion_lock: Option<Arc<Mutex<()>>>) -> Self {
        Self { _share: share, conversion_lock }
    }

    fn conversion_lock(&self) -> Option<MutexGuard<'_, ()>> {
        self.conversion_lock
            .as_ref()
            .map(|conversion_lock| conversion_lock.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The result of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendReport {
    /// The number of rows that were written.
    pub rows: u64,
    /// The changes of a table with a key.
    pub changes: Option<Counts>,
    /// The new size of the file in bytes.
    pub size: u64,
}

impl Rows {
    /// Lines in the table's dialect.
    pub fn lines(body: Bytes, held: Option<AppendPermit>) -> Self {
        Self { content: Content::Lines(body), needs_key: false, held }
    }

    /// Cells from a JSON array of arrays or objects. The text of numbers and booleans is their JSON, null is an empty
    /// cell. Blocks, and converts large arrays one at a time.
    ///
    /// # Errors
    /// 400 for any other JSON.
    pub fn from_json(body: &[u8], held: Option<AppendPermit>) -> Result<Self, Failure> {
        let turn = held.as_ref().and_then(AppendPermit::conversion_lock);
        let content = json::rows(body)?;
        drop(turn);
        Ok(Self { content, needs_key: false, held })
    }

    /// The keys of rows to remove, from a JSON array: a value for a key of one column, otherwise an array of them. As
    /// [`Self::from_json`].
    ///
    /// # Errors
    /// 400 for any other JSON.
    pub fn keys_from_json(body: &[u8], held: Option<AppendPermit>) -> Result<Self, Failure> {
        let turn = held.as_ref().and_then(AppendPermit::conversion_lock);
        let content = json::keys(body)?;
        drop(turn);
        Ok(Self { content, needs_key: true, held })
    }

    /// The rows replace those with the same keys: the table must have a key.
    #[must_use]
    pub fn replacing(self) -> Self {
        Self { needs_key: true, ..self }
    }

    /// Whether the table must have a key.
    pub const fn needs_key(&self) -> bool {
        self.needs_key
    }

    /// The size of their text in bytes.
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Lines(lines) => lines.len() as u64,
            Content::Cells(cells) | Content::Objects(cells) | Content::Keys(cells) => cells.size(),
        }
    }

    /// The most bytes by which a file with this many columns may grow.
    pub fn most(&self, columns: u64) -> u64 {
        match &self.content {
            // An encoding or compression may need more; the excess is released.
            Content::Lines(lines) => lines.len() as u64 * 4 + 64,
            Content::Cells(cells) => cells.size() * 4 + cells.cells * 12 + cells.rows * 16,
            // Cells of columns that an object or a removal does not name are empty.
            Content::Objects(cells) | Content::Keys(cells) => {
                cells.size() * 4 + cells.cells * 12 + cells.rows * (16 + columns)
            }
        }
    }

    /// The rows themselves.
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// Waits until no other large rows are converted, if these are large. Blocks.
    pub fn conversion_lock(&self) -> Option<MutexGuard<'_, ()>> {
        self.held.as_ref().and_then(AppendPermit::conversion_lock)
    }
}

impl Cells {
    fn push(&mut self, cell: &str) {
        self.flat.extend_from_slice(cell.as_bytes());
        self.flat.push(CELL_END);
        self.cells += 1;
    }

    fn end_row(&mut self) {
        self.flat.push(ROW_END);
        self.rows += 1;
    }

    /// The size of the cells in bytes.
    fn size(&self) -> u64 {
        self.flat.len() as u64 - self.cells - self.rows
    }

    /// The number of rows.
    pub const fn count(&self) -> u64 {
        self.rows
    }

    /// The rows, as cells.
    pub fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = &str>> {
        self.flat.split_inclusive(|byte| *byte == ROW_END).map(|row| {
            let cells = row[..row.len() - 1].split_inclusive(|byte| *byte == CELL_END);
            cells.map(|cell| std::str::from_utf8(&cell[..cell.len() - 1]).unwrap_or_default())
        })
    }
}

/// The number of rows in these lines.
///
/// # Errors
/// 400 when they end within quotes.
pub fn count(lines: &[u8], syntax: Syntax) -> Result<u64, Failure> {
    let (mut rows, mut is_open) = (0, false);
    read(lines, syntax, |event| {
        is_open = event != Event::Row;
        rows += u64::from(!is_open);
    });
    if is_open { Err(Failure::bad("the rows end within quotes")) } else { Ok(rows) }
}

/// The cells of these lines. Bytes that are not UTF-8 become U+FFFD.
pub fn cells(lines: &[u8], syntax: Syntax) -> Cells {
    let (mut cells, mut cell) = (Cells::default(), Vec::new());
    read(lines, syntax, |event| {
        if let Event::Content(content) = event {
            return cell.extend_from_slice(content);
        }
        cells.push(&String::from_utf8_lossy(&cell));
        cell.clear();
        if event == Event::Row {
            cells.end_row();
        }
    });
    cells
}

/// Parses lines. The last one needs no line break.
fn read(lines: &[u8], syntax: Syntax, mut sink: impl FnMut(Event<'_>)) {
    let mut reader = Reader::new(syntax);
    let mut take = |event: Event<'_>| {
        sink(event);
        ControlFlow::Continue(())
    };
    reader.feed(lines, &mut take);
    if !lines.ends_with(b"\n") {
        reader.feed(b"\n", &mut take);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comma() -> Syntax {
        Syntax::new(b',', Some(b'"'), None).expect("a syntax")
    }

    fn listed(cells: &Cells) -> Vec<Vec<&str>> {
        cells.rows().map(Iterator::collect).collect()
    }

    #[test]
    fn lines_are_counted_as_rows_and_must_end_outside_quotes() {
        for (lines, rows) in
            [("", 0), ("\n\n", 0), ("a,b", 1), ("a,b\n", 1), ("a\r\nb\r\n", 2), ("\"a\nb\"\n", 1)]
        {
            assert_eq!(count(lines.as_bytes(), comma()), Ok(rows), "{lines:?}");
        }
        for lines in ["a\n\"b", "\"b\n", "a,\"b\n\nc"] {
            assert_eq!(count(lines.as_bytes(), comma()).expect_err(lines).code, 400);
        }
    }

    #[test]
    fn lines_are_split_in_the_dialect_of_the_file() {
        let cells = cells(b"a,\"b,c\"\n\nd,\xFF", comma());
        assert_eq!(listed(&cells), [vec!["a", "b,c"], vec!["d", "\u{FFFD}"]]);
    }

    #[test]
    fn cells_of_json_keep_their_text() {
        let rows = Rows::from_json(br#" [["a",1.50,null,true,"\u00fc\"\n"],[],[""]] "#, None).ok();
        let Some(Rows { content: Content::Cells(cells), .. }) = rows else { panic!("cells") };
        assert_eq!(listed(&cells), [vec!["a", "1.50", "", "true", "ü\"\n"], vec![], vec![""]]);
        assert_eq!((cells.size(), cells.cells, cells.rows), (13, 6, 3));
        for body in ["{}", "[1]", "[[[]]]", "[", "[[]] 1", "[[\"\\ud800\"]]", "[[],{}]", "[{\"a\":[]}]"] {
            assert_eq!(
                Rows::from_json(body.as_bytes(), None).err().map(|failure| failure.code),
                Some(400),
                "{body}"
            );
        }
    }

    #[test]
    fn objects_and_keys_of_json_keep_their_text() {
        let rows = Rows::from_json(br#"[{"id":7,"n\u0061me":"a"},{}]"#, None).ok();
        let Some(Rows { content: Content::Objects(cells), .. }) = rows else { panic!("objects") };
        assert_eq!(listed(&cells), [vec!["id", "7", "name", "a"], vec![]]);
        let rows = Rows::keys_from_json(br#"[7,"a",[1.50,null]]"#, None).ok();
        let Some(Rows { content: Content::Keys(cells), needs_key, .. }) = rows else { panic!("keys") };
        assert_eq!((listed(&cells), needs_key), (vec![vec!["7"], vec!["a"], vec!["1.50", ""]], true));
        for body in ["{}", "[{}]", "[[[]]]"] {
            assert!(Rows::keys_from_json(body.as_bytes(), None).is_err(), "{body}");
        }
    }
}
