//! Rows as delimited text.

/// The byte between cells.
pub const DELIMITER: u8 = b',';

/// The byte around cells that contain delimiters, quotes or line breaks. It is doubled within.
pub const QUOTE: u8 = b'"';

/// The size from which text is passed on.
const PIECE_BYTES: usize = 64 << 10;

/// Writes rows.
#[derive(Debug, Default)]
pub(crate) struct RowWriter {
    text: Vec<u8>,
    cells: usize,
    row_start: usize,
}

impl RowWriter {
    /// Appends a cell to the current row.
    pub(crate) fn cell(&mut self, content: &str) {
        if self.cells > 0 {
            self.text.push(DELIMITER);
        }
        self.cells += 1;
        let content = content.as_bytes();
        let is_special = memchr::memchr3(DELIMITER, b'\n', b'\r', content).is_some();
        if !is_special && memchr::memchr(QUOTE, content).is_none() {
            self.text.extend_from_slice(content);
            return;
        }
        self.text.push(QUOTE);
        for part in content.split_inclusive(|byte| *byte == QUOTE) {
            self.text.extend_from_slice(part);
            if part.ends_with(&[QUOTE]) {
                self.text.push(QUOTE);
            }
        }
        self.text.push(QUOTE);
    }

    /// Completes the row, with empty cells up to this width.
    pub(crate) fn end_row(&mut self, width: usize) {
        while self.cells < width {
            self.cell("");
        }
        if self.text.len() == self.row_start {
            // An empty line is not a row.
            self.text.extend_from_slice(&[QUOTE, QUOTE]);
        }
        self.text.push(b'\n');
        (self.cells, self.row_start) = (0, self.text.len());
    }

    /// Passes the complete rows on when they are many, or `at_last`.
    ///
    /// # Errors
    /// The error of `sink`.
    pub(crate) fn flush<E>(
        &mut self,
        at_last: bool,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.row_start >= PIECE_BYTES || at_last && self.row_start > 0 {
            sink(&self.text[..self.row_start])?;
            self.text.drain(..self.row_start);
            self.row_start = 0;
        }
        Ok(())
    }

    /// The bytes that were not passed on.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_need_it_and_a_row_is_never_an_empty_line() {
        let mut rows = RowWriter::default();
        for row in [&["a", "b,c", "say \"x\""][..], &["two\nlines"], &[""], &["", "x"]] {
            row.iter().for_each(|cell| rows.cell(cell));
            rows.end_row(row.len());
        }
        rows.end_row(3);
        let mut text = Vec::new();
        rows.flush(true, &mut |piece| {
            text.extend_from_slice(piece);
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "a,\"b,c\",\"say \"\"x\"\"\"\n\"two\nlines\"\n\"\"\n,x\n,,\n"
        );
    }
}
