//! Writes the current rows of a file in which later lines replace earlier ones, as a file of the same dialect.
//!
//! Rows of text are copied byte by byte, so their cells stay as they are written. Rows of JSON become objects of the texts
//! of their cells, which are read as the same cells.

use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::overlay::Overlay;
use crate::reading::Reading;
use crate::syntax::Event;
use crate::{Compression, Control, Encoding, Error, FileFormat, View};

/// The size of one write.
const PIECE_SIZE: usize = 256 << 10;
/// The most rows that are fetched together, in the order of the file, so that each block is read once for many rows.
const MAX_FETCHED_ROWS: u64 = 256 << 10;
/// The memory for rows that are fetched together. Larger rows are copied individually.
const FETCHED_BYTES: usize = 16 << 20;

impl Reading {
    /// Whether [`Self::copy_rows`] supports the file: delimited text in UTF-8 that does not end within quotes, or JSON, not
    /// compressed. A JSON file needs a row, because its rows name the columns.
    pub fn can_copy_rows(&self, overlay: &Overlay) -> bool {
        let dialect = self.dialect();
        let is_supported = match dialect.format {
            FileFormat::Text => dialect.encoding == Encoding::UTF_8 && !self.state().open_quote,
            FileFormat::Json => overlay.rows() > 0,
            FileFormat::Xlsx | FileFormat::Parquet => false,
        };
        is_supported && dialect.compression == Compression::None
    }

    /// Writes the beginning of the file up to the first row, and then the rows of `overlay`, each with a line break. Needs
    /// [`Self::can_copy_rows`]. It holds up to 16 MiB of rows in memory.
    ///
    /// # Errors
    /// [`Error::Io`] of the table or of `out`; [`Error::Cancelled`].
    pub fn copy_rows(
        self: &Arc<Self>,
        overlay: &Overlay,
        out: &mut impl Write,
        control: Control<'_>,
    ) -> Result<(), Error> {
        let objects = match self.dialect().format {
            FileFormat::Json => {
                let header = View::plain(self, false).header()?;
                let names = header.into_iter().flat_map(|header| header.cells).map(|cell| cell.text);
                let first = overlay.lines(0..overlay.rows().min(1)).first().copied();
                Some(Objects { names: names.collect(), first: first.unwrap_or(0) })
            }
            _ => None,
        };
        let line_end = match &objects {
            Some(_) => "\n",
            None => self.dialect().line_end.as_str(),
        };
        let is_text = objects.is_none();
        let mut copier = Copier {
            cursor: Cursor::new(self),
            objects,
            line_end: line_end.as_bytes(),
            fetched: Vec::new(),
            pending: Vec::new(),
            out,
        };
        if is_text {
            copier.pending.resize(self.text().start() as usize, 0);
            self.text().file().read_exact_at(&mut copier.pending, 0)?;
            if self.first_line() > 0 && overlay.applied() > 0 {
                copier.row(0)?;
            }
        }
        let (mut at, mut step) = (0, MAX_FETCHED_ROWS);
        while at < overlay.rows() {
            control.check()?;
            control.report(at, overlay.rows(), (0.0, 1.0));
            let end = (at + step).min(overlay.rows());
            let copied = copier.rows(&overlay.lines(at..end), control)?;
            // Later rows have about the same length.
            step = if copied < end - at { copied.max(1) } else { (2 * step).min(MAX_FETCHED_ROWS) };
            at += copied;
        }
        copier.flush_above(0)
    }
}

/// Copies rows.
struct Copier<'a, W> {
    cursor: Cursor<'a>,
    /// For rows of JSON.
    objects: Option<Objects>,
    line_end: &'a [u8],
    /// Rows in the order of the file.
    fetched: Vec<u8>,
    /// The output that was not written yet.
    pending: Vec<u8>,
    out: &'a mut W,
}

impl<W: Write> Copier<'_, W> {
    /// Writes the first of these lines, as many as fit into memory but at least one. Returns their number.
    fn rows(&mut self, lines: &[u32], control: Control<'_>) -> Result<u64, Error> {
        let mut wanted: Vec<(u32, usize)> = lines.iter().copied().zip(0..).collect();
        wanted.sort_unstable();
        self.fetched.clear();
        let mut places = vec![0..0; lines.len()];
        for (done, (line, slot)) in wanted.into_iter().enumerate() {
            if done.is_multiple_of(4096) {
                control.check()?;
            }
            let (start, fetched) = (self.fetched.len(), &mut self.fetched);
            let copied = copy_line(&mut self.cursor, self.objects.as_ref(), line, |piece| {
                if fetched.len() + piece.len() > FETCHED_BYTES {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                fetched.extend_from_slice(piece);
                Ok(())
            });
            match copied {
                Ok(()) => places[slot] = start..self.fetched.len(),
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    if let [only] = lines {
                        self.row(*only)?;
                        return Ok(1);
                    }
                    // Fewer rows are fetched together.
                    return self.rows(&lines[..lines.len() / 2], control);
                }
                Err(error) => return Err(error.into()),
            }
        }
        for place in places {
            self.pending.extend_from_slice(&self.fetched[place]);
            self.pending.extend_from_slice(self.line_end);
            self.flush_above(PIECE_SIZE)?;
        }
        Ok(lines.len() as u64)
    }

    /// Writes one row of any length.
    fn row(&mut self, line: u32) -> Result<(), Error> {
        let Self { cursor, objects, pending, out, .. } = self;
        copy_line(cursor, objects.as_ref(), line, |piece| {
            pending.extend_from_slice(piece);
            if pending.len() > PIECE_SIZE {
                out.write_all(pending)?;
                pending.clear();
            }
            Ok(())
        })?;
        self.pending.extend_from_slice(self.line_end);
        Ok(())
    }

    fn flush_above(&mut self, least: usize) -> Result<(), Error> {
        if self.pending.len() > least {
            self.out.write_all(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

/// The rows of a JSON file as objects.
struct Objects {
    /// The names of all columns.
    names: Vec<String>,
    /// The line of the first row, which names all columns, so that they keep their order.
    first: u32,
}

/// Passes a line to `sink`, in pieces.
fn copy_line(
    cursor: &mut Cursor<'_>,
    objects: Option<&Objects>,
    line: u32,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Some(Objects { names, first }) = objects else { return cursor.copy(u64::from(line), sink) };
    let (mut column, mut is_open, mut object, mut result) = (0, false, b"{".to_vec(), Ok(()));
    let begin = |object: &mut Vec<u8>, column: usize| {
        if object.len() > 1 || object.first() != Some(&b'{') {
            object.push(b',');
        }
        object.push(b'"');
        write_json(names.get(column).map_or(&[], |name| name.as_bytes()), object);
        object.extend_from_slice(b"\":\"");
    };
    cursor.read(u64::from(line), |event| match event {
        Event::Content(content) => {
            if !std::mem::replace(&mut is_open, true) {
                begin(&mut object, column);
            }
            write_json(content, &mut object);
            if object.len() > PIECE_SIZE && result.is_ok() {
                result = sink(&object);
                object.clear();
            }
        }
        Event::Cell | Event::Row => {
            if !is_open && line == *first && column < names.len() {
                is_open = true;
                begin(&mut object, column);
            }
            if std::mem::take(&mut is_open) {
                object.push(b'"');
            }
            column += 1;
        }
    })?;
    result?;
    // The line of a row may end before its last columns.
    for column in column..if line == *first { names.len() } else { 0 } {
        begin(&mut object, column);
        object.push(b'"');
    }
    if object == b"{" {
        begin(&mut object, 0);
        object.push(b'"');
    }
    object.push(b'}');
    sink(&object)
}

/// Appends text as the content of a JSON string. A piece may end within a character.
fn write_json(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
}
