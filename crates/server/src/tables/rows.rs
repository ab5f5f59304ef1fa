//! Rows that a backend appends: lines as they are in the file, or cells.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use serde_json::value::RawValue;
use tidings_table::{
    Compression, Encoding, Error, Event, ORIGINAL, Reader, Reading, Summary, Syntax, Writer,
};

use super::failure::Failure;

/// What is appended.
pub(super) enum Rows {
    /// Lines in the table's dialect.
    Lines(Bytes),
    /// Cells, written as the rest of the file is.
    Cells(Vec<Vec<String>>),
}

/// What became of them.
pub(super) enum Appended {
    /// So many rows more.
    Rows(u64),
    /// Nothing was written.
    Refused(Failure),
    /// The disk failed; the writer is of no use any more.
    Failed(Failure),
}

impl Rows {
    /// Cells from a JSON array of arrays. A number or a boolean is its text, null an empty cell.
    ///
    /// # Errors
    /// 400 for any other JSON.
    pub(super) fn from_json(body: &[u8]) -> Result<Self, Failure> {
        let rows: Vec<Vec<&RawValue>> = serde_json::from_slice(body)
            .map_err(|error| Failure::bad(format!("expected a JSON array of arrays of cells: {error}")))?;
        // As it is written there: 1.50 stays that.
        let cell = |cell: &RawValue| match (cell.get(), cell.get().as_bytes().first()) {
            (text, Some(b'"')) => serde_json::from_str(text).map_err(|error| Failure::bad(error.to_string())),
            (_, Some(b'[' | b'{')) => Err(Failure::bad("a cell must be text, a number, a boolean or null")),
            ("null", _) => Ok(String::new()),
            (text, _) => Ok(text.to_owned()),
        };
        let rows = rows.into_iter().map(|row| row.into_iter().map(cell).collect());
        rows.collect::<Result<_, _>>().map(Self::Cells)
    }

    /// How many bytes of text they are.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Lines(lines) => lines.len() as u64,
            Self::Cells(rows) => rows.iter().flatten().map(|cell| cell.len() as u64).sum(),
        }
    }

    /// The most bytes that the file may grow by.
    pub(super) fn most(&self) -> u64 {
        match self {
            // An encoding or packing may take more; what was too much is given back.
            Self::Lines(lines) => lines.len() as u64 * 4 + 64,
            Self::Cells(rows) => rows
                .iter()
                .map(|row| row.iter().map(|cell| cell.len() as u64 * 4 + 12).sum::<u64>() + 16)
                .sum(),
        }
    }

    /// Appends them to the file in this folder. Waits for the disk.
    pub(super) fn append(&self, writer: &mut Writer, folder: &Path) -> Appended {
        let reading = writer.table().reading();
        let outcome = match self {
            Self::Lines(lines) => {
                let syntax = reading.dialect().syntax;
                match count(lines, syntax) {
                    Ok(0) => return Appended::Rows(0),
                    Ok(rows) => append_lines(writer, &reading, folder, lines).map(|_| rows),
                    Err(failure) => return Appended::Refused(failure),
                }
            }
            Self::Cells(rows) => writer.append_rows(rows).map(|_| rows.len() as u64),
        };
        match outcome {
            Ok(rows) => Appended::Rows(rows),
            Err(error @ (Error::Unwritable(_) | Error::Broken)) => Appended::Refused(error.into()),
            Err(error) => Appended::Failed(error.into()),
        }
    }
}

/// Appends lines byte by byte where the file holds such bytes, else cell by cell.
fn append_lines(
    writer: &mut Writer,
    reading: &Reading,
    folder: &Path,
    lines: &[u8],
) -> Result<Summary, Error> {
    let dialect = reading.dialect();
    let summary = reading.summary();
    if dialect.encoding != Encoding::UTF_8 || dialect.compression != Compression::None {
        return writer.append_rows(cells(lines, dialect.syntax));
    }
    if summary.open_quote {
        return Err(Error::Unwritable("the file ends within quotes"));
    }
    if !ends_line(folder)? {
        writer.append(dialect.line_end.as_str().as_bytes())?;
    }
    writer.append(lines)?;
    writer.finish()
}

/// Whether the file is empty or ends with a line break.
fn ends_line(folder: &Path) -> io::Result<bool> {
    let file = File::open(folder.join(ORIGINAL))?;
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(matches!(byte, [b'\n' | b'\r']))
}

/// How many rows these lines are.
fn count(lines: &[u8], syntax: Syntax) -> Result<u64, Failure> {
    let (mut rows, mut is_open) = (0, false);
    read(lines, syntax, |event| {
        is_open = event != Event::Row;
        rows += u64::from(!is_open);
    });
    if is_open { Err(Failure::bad("the rows end within quotes")) } else { Ok(rows) }
}

/// What stands in these lines; bytes that are not UTF-8 are U+FFFD.
fn cells(lines: &[u8], syntax: Syntax) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), Vec::new());
    read(lines, syntax, |event| {
        if let Event::Content(content) = event {
            return cell.extend_from_slice(content);
        }
        row.push(String::from_utf8_lossy(&std::mem::take(&mut cell)).into_owned());
        if event == Event::Row {
            rows.push(std::mem::take(&mut row));
        }
    });
    rows
}

/// Reads lines, the last of which need not have an end.
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
    fn lines_are_taken_apart_as_the_file_is() {
        assert_eq!(cells(b"a,\"b,c\"\n\nd", comma()), [vec!["a", "b,c"], vec!["d"]]);
    }

    #[test]
    fn cells_of_json_are_their_text() {
        let Ok(Rows::Cells(rows)) = Rows::from_json(br#"[["a",1.50,null,true],[]]"#) else {
            panic!("cells");
        };
        assert_eq!(rows, [vec!["a", "1.50", "", "true"], vec![]]);
        for body in ["{}", "[1]", "[[[]]]", "["] {
            assert!(Rows::from_json(body.as_bytes()).is_err(), "{body}");
        }
    }
}
