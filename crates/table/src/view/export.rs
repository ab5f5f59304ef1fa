//! A view as a file: every row whole, however long.

use std::io::{self, Write};

use super::View;
use crate::cursor::Cursor;
use crate::encode::{write_cell, write_within_quotes};
use crate::syntax::{Event, Syntax};
use crate::{Control, Error};

/// How a view is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Commas, quotes where they are needed, `\n` (RFC 4180 but for its `\r\n`).
    Csv,
    /// Tabs, else the same.
    Tsv,
}

impl Format {
    fn syntax(self) -> Syntax {
        let delimiter = if matches!(self, Self::Csv) { b',' } else { b'\t' };
        Syntax::new(delimiter, Some(b'"'), None).expect("three bytes that differ")
    }
}

/// A cell up to this size is quoted only if it must be; a longer one is not held, so it always is.
const HELD: usize = 64 << 10;

/// How many rows are looked up at once.
const ROWS: u64 = 4 << 10;

impl View {
    /// Writes the header, if there is one, and all rows to `out`, in UTF-8; holds no more than 64 KiB of a
    /// cell. In the order of the file this goes as fast as the file is read; sorted, each row is fetched by
    /// itself, some microseconds each.
    ///
    /// # Errors
    /// [`Error::Io`] of the table or of `out`; [`Error::Cancelled`].
    pub fn write(&self, format: Format, out: &mut impl Write, control: Control<'_>) -> Result<(), Error> {
        let mut cursor = Cursor::new(&self.reading);
        let mut writer =
            RowWriter { syntax: format.syntax(), cell: Vec::new(), open: false, first: true, out };
        let total = self.total();
        if self.first() > 0 && self.reading.state().tally.rows > 0 {
            writer.row(&mut cursor, 0)?;
        }
        let mut at = 0;
        while at < total {
            control.check()?;
            control.tell(at, total, (0.0, 1.0));
            let next = (at + ROWS).min(total);
            match &self.order {
                Some(order) => {
                    for line in order.get(at..next)? {
                        writer.row(&mut cursor, u64::from(line))?;
                    }
                }
                None => (at..next).try_for_each(|row| writer.row(&mut cursor, row + self.first()))?,
            }
            at = next;
        }
        control.tell(1, 1, (0.0, 1.0));
        Ok(())
    }
}

struct RowWriter<'a, W> {
    syntax: Syntax,
    /// The cell so far, as long as it is held.
    cell: Vec<u8>,
    /// Whether the cell is too long to be held, and its opening quote is written.
    open: bool,
    /// Whether the cell is the first of its row.
    first: bool,
    out: &'a mut W,
}

impl<W: Write> RowWriter<'_, W> {
    fn row(&mut self, cursor: &mut Cursor<'_>, line: u64) -> Result<(), Error> {
        let mut result = Ok(());
        cursor.read(line, |event| {
            if result.is_ok() {
                result = self.take(event);
            }
        })?;
        result
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        match event {
            Event::Content(content) => {
                self.cell.extend_from_slice(content);
                if self.cell.len() > HELD {
                    if !self.open {
                        self.out.write_all(b"\"")?;
                    }
                    self.open = true;
                    self.pass()?;
                }
            }
            Event::Cell => {
                self.end_cell(false)?;
                self.out.write_all(&[self.syntax.delimiter()])?;
                self.first = false;
            }
            Event::Row => {
                self.end_cell(self.first)?;
                self.out.write_all(b"\n")?;
                self.first = true;
            }
        }
        Ok(())
    }

    /// `alone`: it is the only cell of its row, which would be an empty line if it were empty.
    fn end_cell(&mut self, alone: bool) -> Result<(), Error> {
        if self.open {
            self.pass()?;
            self.out.write_all(b"\"")?;
            self.open = false;
        } else if alone && self.cell.is_empty() {
            self.out.write_all(b"\"\"")?;
        } else {
            let mut written = Vec::with_capacity(self.cell.len());
            write_cell(&self.cell, self.syntax, &mut written)?;
            self.out.write_all(&written)?;
        }
        self.cell.clear();
        Ok(())
    }

    /// Writes what is held of an open cell.
    fn pass(&mut self) -> io::Result<()> {
        let mut written = Vec::with_capacity(self.cell.len());
        write_within_quotes(&self.cell, b'"', None, &mut written);
        self.cell.clear();
        self.out.write_all(&written)
    }
}
