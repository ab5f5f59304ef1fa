//! Rows that a backend appends, before they are written: lines in the table's dialect, or cells.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tidings_table::{Event, Reader, Syntax};
use tokio::sync::OwnedSemaphorePermit;

use crate::failure::Failure;

/// Rows to append.
pub struct Rows {
    content: Content,
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
    /// The number of appended rows.
    pub rows: u64,
    /// The new size of the file in bytes.
    pub size: u64,
}

impl Rows {
    /// Lines in the table's dialect.
    pub fn lines(body: Bytes, held: Option<AppendPermit>) -> Self {
        Self { content: Content::Lines(body), held }
    }

    /// Cells from a JSON array of arrays. The text of numbers and booleans is their JSON, null is an empty cell.
    /// Blocks, and converts large arrays one at a time.
    ///
    /// # Errors
    /// 400 for any other JSON.
    pub fn from_json(body: &[u8], held: Option<AppendPermit>) -> Result<Self, Failure> {
        let mut cells = Cells::default();
        {
            let _turn = held.as_ref().and_then(AppendPermit::conversion_lock);
            let mut json = serde_json::Deserializer::from_slice(body);
            let read = InTable(&mut cells).deserialize(&mut json).and_then(|()| json.end());
            read.map_err(|error| Failure::bad(format!("expected a JSON array of arrays of cells: {error}")))?;
        }
        Ok(Self { content: Content::Cells(cells), held })
    }

    /// The size of their text in bytes.
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Lines(lines) => lines.len() as u64,
            Content::Cells(cells) => cells.size(),
        }
    }

    /// The most bytes by which the file may grow.
    pub fn most(&self) -> u64 {
        match &self.content {
            // An encoding or compression may need more; the excess is released.
            Content::Lines(lines) => lines.len() as u64 * 4 + 64,
            Content::Cells(cells) => cells.size() * 4 + cells.cells * 12 + cells.rows * 16,
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

/// Reads an array of arrays of cells from JSON.
struct InTable<'a>(&'a mut Cells);
/// Reads one row.
struct InRow<'a>(&'a mut Cells);

impl<'de> DeserializeSeed<'de> for InTable<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for InTable<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while rows.next_element_seed(InRow(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for InRow<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for InRow<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of cells")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<(), A::Error> {
        // The JSON text is preserved: 1.50 stays 1.50.
        while let Some(cell) = cells.next_element::<&RawValue>()? {
            match (cell.get(), cell.get().as_bytes().first()) {
                (text, Some(b'"')) if !text.contains('\\') => self.0.push(&text[1..text.len() - 1]),
                (text, Some(b'"')) => {
                    let text: String = serde_json::from_str(text).map_err(A::Error::custom)?;
                    self.0.push(&text);
                }
                (_, Some(b'[' | b'{')) => {
                    return Err(A::Error::custom("a cell must be text, a number, a boolean or null"));
                }
                ("null", _) => self.0.push(""),
                (text, _) => self.0.push(text),
            }
        }
        self.0.end_row();
        Ok(())
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
        for body in ["{}", "[1]", "[[[]]]", "[", "[[]] 1", "[[\"\\ud800\"]]"] {
            assert_eq!(
                Rows::from_json(body.as_bytes(), None).err().map(|failure| failure.code),
                Some(400),
                "{body}"
            );
        }
    }
}
