//! Splits the rows of a followed file in the table's dialect.
//!
//! Invariants:
//! - Output is complete rows in UTF-8 (or, for a UTF-8 file, the original bytes), split outside of quotes.
//! - A row with unclosed quotes is buffered, up to [`MAX_BUFFERED`] bytes; then its first line is a row of its own.
//! - A line of more than [`MAX_LINE`] bytes is skipped.

use std::ops::ControlFlow;

use encoding_rs::{Decoder, Encoding, UTF_8};
use tidings_client::table::{Content, Dialect};
use tidings_table::{Event, Reader, Syntax};

/// The most bytes of a row that are buffered until its quotes close.
const MAX_BUFFERED: usize = 1 << 20;
/// The longest line, in bytes; servers reject longer ones.
const MAX_LINE: usize = 16 << 20;

/// Rows to append to a table.
#[derive(Debug, PartialEq, Eq)]
pub enum Rows {
    /// Lines in the table's dialect.
    Lines(Vec<u8>),
    /// One row as cells; quotes in them are ordinary characters.
    Cells(Vec<String>),
    /// A skipped line of this many bytes.
    TooLong(usize),
}

/// Splits a file into rows, incrementally.
pub struct RowSplitter {
    syntax: Syntax,
    /// For a file that is not UTF-8.
    decoder: Option<Decoder>,
    encoding: &'static Encoding,
    header: Option<Vec<String>>,
    /// The input that was not returned yet.
    waiting: Vec<u8>,
    /// The parsed part of it, and the end of the last complete row in it.
    read: usize,
    whole: usize,
    reader: Reader,
    /// Whether the next row may be a repeated header.
    begins: bool,
    /// Whether the next bytes belong to a skipped line.
    skips: bool,
}

impl RowSplitter {
    /// For a file in this dialect.
    pub fn new(dialect: &Dialect, header: Option<Vec<String>>) -> Self {
        let byte = |text: &str| text.bytes().next();
        let plain = Syntax::new(b',', Some(b'"'), None).expect("three bytes that differ");
        // A JSON object per line has no quotes that could contain line breaks.
        let quote = byte(&dialect.quote).filter(|_| dialect.format != "json");
        let syntax = byte(&dialect.delimiter)
            .and_then(|delimiter| Syntax::new(delimiter, quote, byte(&dialect.escape)).ok())
            .map_or(plain, |syntax| syntax.skipping_spaces(dialect.skip_initial_space));
        let encoding = Encoding::for_label(dialect.encoding.as_bytes()).unwrap_or(UTF_8);
        Self {
            syntax,
            decoder: (encoding != UTF_8).then(|| encoding.new_decoder_without_bom_handling()),
            encoding,
            header,
            waiting: Vec::new(),
            read: 0,
            whole: 0,
            reader: Reader::new(syntax),
            begins: false,
            skips: false,
        }
    }

    /// The table's syntax.
    pub const fn syntax(&self) -> Syntax {
        self.syntax
    }

    /// The number of bytes by which this content extends the table's file, if it is known.
    pub fn length(&self, content: &Content) -> Option<u64> {
        match content {
            Content::Lines(lines) if self.decoder.is_none() => Some(lines.len() as u64),
            _ => None,
        }
    }

    /// Adds bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        match &mut self.decoder {
            None => self.waiting.extend_from_slice(bytes),
            Some(decoder) => decode(decoder, bytes, false, &mut self.waiting),
        }
        if self.skips {
            match self.waiting.iter().position(is_break) {
                Some(end) => {
                    self.waiting.drain(..end);
                    self.skips = false;
                }
                None => self.waiting.clear(),
            }
        }
    }

    /// Ends the file: the next bytes begin a row.
    pub fn end(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            decode(decoder, b"", true, &mut self.waiting);
            // A new file may begin with a byte order mark.
            *decoder = self.encoding.new_decoder_with_bom_removal();
        }
        if self.waiting.last().is_some_and(|last| !is_break(last)) {
            self.waiting.push(b'\n');
        }
        self.skips = false;
    }

    /// Starts another file, after all rows of the previous one were returned: its first row is skipped if it is the
    /// header.
    pub fn begin_again(&mut self) {
        self.begins = true;
    }

    /// Complete rows, at most about `most` bytes unless one is longer; `None` if there is none. `at_end`: no input
    /// follows, so that open quotes never close.
    pub fn next(&mut self, most: usize, at_end: bool) -> Option<Rows> {
        if self.begins && !self.skip_header(at_end) {
            return None;
        }
        let mut full = false;
        while self.read < self.waiting.len() && !full {
            let mut is_row = false;
            self.read += self.reader.feed(&self.waiting[self.read..], |event| {
                is_row = event == Event::Row;
                if is_row { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            // `\r` and `\n` belong together, even if they arrived separately.
            if is_row {
                self.whole = self.read;
                full = self.whole >= most;
            }
        }
        if self.whole > 0 {
            let mut lines: Vec<u8> = self.waiting.drain(..self.whole).collect();
            self.read -= self.whole;
            self.whole = 0;
            // The second half of a line break belongs to no row.
            let breaks = self.waiting.iter().take_while(|byte| is_break(byte)).count();
            lines.extend(self.waiting.drain(..breaks));
            self.restart();
            return Some(Rows::Lines(lines));
        }
        let has_line = || self.waiting.iter().any(is_break);
        if at_end && !self.waiting.is_empty() || self.waiting.len() > MAX_BUFFERED && has_line() {
            return self.first_line();
        }
        if self.waiting.len() > MAX_LINE {
            self.waiting.clear();
            self.restart();
            self.skips = true;
            return Some(Rows::TooLong(MAX_LINE));
        }
        None
    }

    /// The first line of the buffer, as a row of its own: its quotes do not close.
    fn first_line(&mut self) -> Option<Rows> {
        let end = self.waiting.iter().position(is_break).unwrap_or(self.waiting.len());
        let line: Vec<u8> = self.waiting.drain(..end).collect();
        let breaks = self.waiting.iter().take_while(|byte| is_break(byte)).count();
        self.waiting.drain(..breaks);
        self.restart();
        let text = String::from_utf8_lossy(&line);
        let cells = text.split(char::from(self.syntax.delimiter())).map(ToOwned::to_owned);
        Some(Rows::Cells(cells.collect()))
    }

    /// Skips a first row that is the header. Returns whether that could be decided.
    fn skip_header(&mut self, at_end: bool) -> bool {
        let mark: &[u8] = "\u{FEFF}".as_bytes();
        if self.waiting.len() < mark.len() && mark.starts_with(&self.waiting) && !at_end {
            return false;
        }
        if self.waiting.starts_with(mark) {
            self.waiting.drain(..mark.len());
        }
        let Some(header) = &self.header else {
            self.begins = false;
            return true;
        };
        let (mut cells, mut cell, mut is_whole) = (Vec::new(), Vec::new(), false);
        let end = Reader::new(self.syntax).feed(&self.waiting, |event| {
            match event {
                Event::Content(content) => cell.extend_from_slice(content),
                Event::Cell | Event::Row => {
                    cells.push(String::from_utf8_lossy(&cell).into_owned());
                    cell.clear();
                }
            }
            is_whole = event == Event::Row;
            if is_whole { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if !is_whole && !at_end && self.waiting.len() <= MAX_BUFFERED {
            return false;
        }
        self.begins = false;
        if is_whole && cells == *header {
            self.waiting.drain(..end);
            self.restart();
        }
        true
    }

    /// Parses the buffer from its beginning.
    fn restart(&mut self) {
        (self.read, self.whole, self.reader) = (0, 0, Reader::new(self.syntax));
    }
}

fn is_break(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn decode(decoder: &mut Decoder, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
    let most = decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(3 * bytes.len() + 16);
    let mut text = String::with_capacity(most);
    // Invalid bytes become U+FFFD, as on the server.
    let _ = decoder.decode_to_string(bytes, &mut text, last);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_REQUEST: usize = 1 << 20;

    fn dialect(delimiter: &str, encoding: &str) -> Dialect {
        Dialect {
            delimiter: delimiter.into(),
            quote: "\"".into(),
            encoding: encoding.into(),
            ..Dialect::default()
        }
    }

    fn lines(text: &str) -> Option<Rows> {
        Some(Rows::Lines(text.as_bytes().to_vec()))
    }

    #[test]
    fn objects_of_json_are_rows_whatever_quotes_they_have() {
        let dialect = Dialect { format: "json".into(), ..dialect(",", "UTF-8") };
        let mut rows = RowSplitter::new(&dialect, None);
        rows.push(b"{\"a\":1,\"b\":\"\\\",\"}\n{\"a\"");
        assert_eq!(rows.next(MAX_REQUEST, false), lines("{\"a\":1,\"b\":\"\\\",\"}\n"));
        assert_eq!(rows.next(MAX_REQUEST, false), None);
    }

    #[test]
    fn rows_are_buffered_until_their_quotes_close() {
        let mut rows = RowSplitter::new(&dialect(",", "UTF-8"), None);
        rows.push(b"1,a\n2,\"x\n");
        assert_eq!(rows.next(MAX_REQUEST, false), lines("1,a\n"));
        assert_eq!(rows.next(MAX_REQUEST, false), None);
        rows.push(b"y\"\r");
        assert_eq!(rows.next(MAX_REQUEST, false), lines("2,\"x\ny\"\r"));
        rows.push(b"\n3,c\r\n4,");
        assert_eq!(rows.next(MAX_REQUEST, false), lines("\n3,c\r\n"));
        assert_eq!(rows.next(MAX_REQUEST, false), None);
        rows.end();
        assert_eq!(rows.next(MAX_REQUEST, true), lines("4,\n"));
    }

    #[test]
    fn an_unclosed_quote_delays_a_bounded_number_of_bytes() {
        let mut rows = RowSplitter::new(&dialect(",", "UTF-8"), None);
        rows.push(b"1,\"open\n");
        rows.push(&b"2,b\n".repeat(MAX_BUFFERED / 4));
        let Some(Rows::Cells(first)) = rows.next(MAX_REQUEST, false) else { panic!("a row by itself") };
        assert_eq!(first, ["1", "\"open"]);
        let Some(Rows::Lines(rest)) = rows.next(usize::MAX, false) else { panic!("the others") };
        assert_eq!(rest.len(), MAX_BUFFERED / 4 * 4);
        rows.push(b"3,\"end");
        rows.end();
        assert_eq!(rows.next(MAX_REQUEST, true), Some(Rows::Cells(vec!["3".into(), "\"end".into()])));
        assert_eq!(rows.next(MAX_REQUEST, true), None);
    }

    #[test]
    fn a_file_is_decoded_and_split_at_its_line_breaks() {
        let mut rows = RowSplitter::new(&dialect(";", "windows-1252"), None);
        rows.push(b"\xC5sa;Malm\xF6\r");
        assert_eq!(rows.next(MAX_REQUEST, false), lines("Åsa;Malmö\r"));
        let mut rows = RowSplitter::new(&dialect("\t", "UTF-16LE"), None);
        let bytes: Vec<u8> = "Åsa\t1\n€\t2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for piece in bytes.chunks(3) {
            rows.push(piece);
        }
        assert_eq!(rows.next(MAX_REQUEST, false), lines("Åsa\t1\n€\t2\n"));
        // Every byte of a UTF-8 file is passed.
        let mut rows = RowSplitter::new(&dialect(",", "UTF-8"), None);
        rows.push(b"\xFF,1\n");
        assert_eq!(rows.next(MAX_REQUEST, false), Some(Rows::Lines(b"\xFF,1\n".to_vec())));
    }

    #[test]
    fn a_repeated_header_is_skipped() {
        let header = || Some(vec!["id".to_owned(), "name".to_owned()]);
        for (begin, rest) in [
            ("id,name\n9,z\n", "\n9,z\n"),
            ("\u{FEFF}\"id\",name\r\n9,z\n", "\n9,z\n"),
            ("9,z\n", "9,z\n"),
            ("id,other\n9,z\n", "id,other\n9,z\n"),
        ] {
            let mut rows = RowSplitter::new(&dialect(",", "UTF-8"), header());
            rows.begin_again();
            for byte in begin.bytes().take(3) {
                rows.push(&[byte]);
            }
            rows.push(&begin.as_bytes()[3..]);
            let Some(Rows::Lines(given)) = rows.next(MAX_REQUEST, false) else { panic!("{begin:?}") };
            let given = String::from_utf8(given).expect("text");
            assert_eq!(given.trim_start(), rest.trim_start(), "{begin:?}");
            // Only once: within the file it is a row.
            rows.push(b"id,name\n");
            assert_eq!(rows.next(MAX_REQUEST, false), lines("id,name\n"));
        }
    }

    #[test]
    fn a_line_above_the_limit_is_skipped_and_the_next_one_is_not() {
        let mut rows = RowSplitter::new(&dialect(",", "UTF-8"), None);
        rows.push(&vec![b'x'; MAX_LINE + 1]);
        assert_eq!(rows.next(MAX_REQUEST, false), Some(Rows::TooLong(MAX_LINE)));
        rows.push(b"more of it");
        assert_eq!(rows.next(MAX_REQUEST, false), None);
        rows.push(b" and its end\n1,2\n");
        assert_eq!(rows.next(MAX_REQUEST, false), lines("\n1,2\n"));
    }

    #[test]
    fn rows_are_returned_in_pieces() {
        let mut rows = RowSplitter::new(&dialect(",", "UTF-8"), None);
        rows.push(&b"1,2\n".repeat(10));
        assert_eq!(rows.next(8, false), lines("1,2\n1,2\n"));
        assert_eq!(rows.next(4, false), lines("1,2\n"));
        assert_eq!(rows.next(MAX_REQUEST, false), lines(&"1,2\n".repeat(7)));
        assert_eq!(rows.next(MAX_REQUEST, false), None);
    }
}
