//! Rows of a followed file: divided and sent in the dialect in which the server reads the table.
//! ¶ Invariants:
//! - Output is complete rows in UTF-8 (or, of a UTF-8 file, the bytes as they are), cut outside of quotes.
//! - A row whose quotes do not close is held, up to [`HELD`] bytes; then its first line is a row by itself.
//! - A line of more than [`MAX_LINE`] bytes is left out.

use std::ops::ControlFlow;

use encoding_rs::{Decoder, Encoding, UTF_8};
use tidings_client::table::{Content, Dialect};
use tidings_table::{Event, Reader, Syntax};

/// Most bytes of a row that is held until its quotes close.
const HELD: usize = 1 << 20;
/// The longest line, in bytes; more would not be taken by a server.
const MAX_LINE: usize = 16 << 20;

/// Rows that go to a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Lines of the table's dialect.
    Lines(Vec<u8>),
    /// One row as cells; quotes in them are ordinary characters.
    Cells(Vec<String>),
    /// A line of more than so many bytes, which is not there.
    TooLong(usize),
}

/// Tells the rows of a file apart as they come.
pub(super) struct Splitter {
    syntax: Syntax,
    /// Of a file that is not UTF-8.
    decoder: Option<Decoder>,
    encoding: &'static Encoding,
    header: Option<Vec<String>>,
    /// What has come and is not given out.
    waiting: Vec<u8>,
    /// How much of it has been read, and where the last whole row in it ends.
    read: usize,
    whole: usize,
    reader: Reader,
    /// Whether the next row may be the header again.
    begins: bool,
    /// Whether the next bytes belong to a line that is left out.
    skips: bool,
}

impl Splitter {
    /// For a file that the server reads like this.
    pub(super) fn new(dialect: &Dialect, header: Option<Vec<String>>) -> Self {
        let byte = |text: &str| text.bytes().next();
        let plain = Syntax::new(b',', Some(b'"'), None).expect("three bytes that differ");
        let syntax = byte(&dialect.delimiter)
            .and_then(|delimiter| Syntax::new(delimiter, byte(&dialect.quote), byte(&dialect.escape)).ok())
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
    pub(super) const fn syntax(&self) -> Syntax {
        self.syntax
    }

    /// By how many bytes the table's file grows with this, where that is known.
    pub(super) fn length(&self, content: &Content) -> Option<u64> {
        match content {
            Content::Lines(lines) if self.decoder.is_none() => Some(lines.len() as u64),
            _ => None,
        }
    }

    /// Adds bytes of the file.
    pub(super) fn push(&mut self, bytes: &[u8]) {
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

    /// The file has ended: the next bytes begin a row.
    pub(super) fn end(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            decode(decoder, b"", true, &mut self.waiting);
            // A new file may begin with a mark of its byte order.
            *decoder = self.encoding.new_decoder_with_bom_removal();
        }
        if self.waiting.last().is_some_and(|last| !is_break(last)) {
            self.waiting.push(b'\n');
        }
        self.skips = false;
    }

    /// Another file begins, and all of the one before has been given out: the first row is left out where it is the header.
    pub(super) fn begin_again(&mut self) {
        self.begins = true;
    }

    /// Whole rows, at most about `most` bytes of them unless one is longer; `None` when none is whole. `at_end`: nothing
    /// more comes, so that quotes that are open never close.
    pub(super) fn next(&mut self, most: usize, at_end: bool) -> Option<Rows> {
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
            // `\r` and `\n` belong together, though they came apart.
            if is_row {
                self.whole = self.read;
                full = self.whole >= most;
            }
        }
        if self.whole > 0 {
            let mut lines: Vec<u8> = self.waiting.drain(..self.whole).collect();
            self.read -= self.whole;
            self.whole = 0;
            // The second half of a line break is of no row.
            let breaks = self.waiting.iter().take_while(|byte| is_break(byte)).count();
            lines.extend(self.waiting.drain(..breaks));
            self.restart();
            return Some(Rows::Lines(lines));
        }
        let has_line = || self.waiting.iter().any(is_break);
        if at_end && !self.waiting.is_empty() || self.waiting.len() > HELD && has_line() {
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

    /// The first line of what waits, as a row by itself: quotes were opened in it that do not close.
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

    /// Leaves out a first row that is the header; gives whether that is known.
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
        if !is_whole && !at_end && self.waiting.len() <= HELD {
            return false;
        }
        self.begins = false;
        if is_whole && cells == *header {
            self.waiting.drain(..end);
            self.restart();
        }
        true
    }

    /// Reads what waits from its beginning.
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
    // What means nothing in the encoding is U+FFFD, as the server shows it.
    let _ = decoder.decode_to_string(bytes, &mut text, last);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

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
    fn rows_are_held_until_their_quotes_close() {
        let mut rows = Splitter::new(&dialect(",", "UTF-8"), None);
        rows.push(b"1,a\n2,\"x\n");
        assert_eq!(rows.next(MOST, false), lines("1,a\n"));
        assert_eq!(rows.next(MOST, false), None);
        rows.push(b"y\"\r");
        assert_eq!(rows.next(MOST, false), lines("2,\"x\ny\"\r"));
        rows.push(b"\n3,c\r\n4,");
        assert_eq!(rows.next(MOST, false), lines("\n3,c\r\n"));
        assert_eq!(rows.next(MOST, false), None);
        rows.end();
        assert_eq!(rows.next(MOST, true), lines("4,\n"));
    }

    #[test]
    fn a_quote_that_never_closes_holds_back_so_much_and_no_more() {
        let mut rows = Splitter::new(&dialect(",", "UTF-8"), None);
        rows.push(b"1,\"open\n");
        rows.push(&b"2,b\n".repeat(HELD / 4));
        let Some(Rows::Cells(first)) = rows.next(MOST, false) else { panic!("a row by itself") };
        assert_eq!(first, ["1", "\"open"]);
        let Some(Rows::Lines(rest)) = rows.next(usize::MAX, false) else { panic!("the others") };
        assert_eq!(rest.len(), HELD / 4 * 4);
        rows.push(b"3,\"end");
        rows.end();
        assert_eq!(rows.next(MOST, true), Some(Rows::Cells(vec!["3".into(), "\"end".into()])));
        assert_eq!(rows.next(MOST, true), None);
    }

    #[test]
    fn a_file_is_decoded_in_its_encoding_and_cut_at_its_own_line_ends() {
        let mut rows = Splitter::new(&dialect(";", "windows-1252"), None);
        rows.push(b"\xC5sa;Malm\xF6\r");
        assert_eq!(rows.next(MOST, false), lines("Åsa;Malmö\r"));
        let mut rows = Splitter::new(&dialect("\t", "UTF-16LE"), None);
        let bytes: Vec<u8> = "Åsa\t1\n€\t2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for piece in bytes.chunks(3) {
            rows.push(piece);
        }
        assert_eq!(rows.next(MOST, false), lines("Åsa\t1\n€\t2\n"));
        // Of a UTF-8 file every byte goes through.
        let mut rows = Splitter::new(&dialect(",", "UTF-8"), None);
        rows.push(b"\xFF,1\n");
        assert_eq!(rows.next(MOST, false), Some(Rows::Lines(b"\xFF,1\n".to_vec())));
    }

    #[test]
    fn a_first_row_that_is_the_header_again_is_left_out() {
        let header = || Some(vec!["id".to_owned(), "name".to_owned()]);
        for (begin, rest) in [
            ("id,name\n9,z\n", "\n9,z\n"),
            ("\u{FEFF}\"id\",name\r\n9,z\n", "\n9,z\n"),
            ("9,z\n", "9,z\n"),
            ("id,other\n9,z\n", "id,other\n9,z\n"),
        ] {
            let mut rows = Splitter::new(&dialect(",", "UTF-8"), header());
            rows.begin_again();
            for byte in begin.bytes().take(3) {
                rows.push(&[byte]);
            }
            rows.push(&begin.as_bytes()[3..]);
            let Some(Rows::Lines(given)) = rows.next(MOST, false) else { panic!("{begin:?}") };
            let given = String::from_utf8(given).expect("text");
            assert_eq!(given.trim_start(), rest.trim_start(), "{begin:?}");
            // Once only: within the file it is a row.
            rows.push(b"id,name\n");
            assert_eq!(rows.next(MOST, false), lines("id,name\n"));
        }
    }

    #[test]
    fn a_line_that_no_server_takes_is_left_out_and_the_next_one_is_not() {
        let mut rows = Splitter::new(&dialect(",", "UTF-8"), None);
        rows.push(&vec![b'x'; MAX_LINE + 1]);
        assert_eq!(rows.next(MOST, false), Some(Rows::TooLong(MAX_LINE)));
        rows.push(b"more of it");
        assert_eq!(rows.next(MOST, false), None);
        rows.push(b" and its end\n1,2\n");
        assert_eq!(rows.next(MOST, false), lines("\n1,2\n"));
    }

    #[test]
    fn rows_are_given_out_in_pieces() {
        let mut rows = Splitter::new(&dialect(",", "UTF-8"), None);
        rows.push(&b"1,2\n".repeat(10));
        assert_eq!(rows.next(8, false), lines("1,2\n1,2\n"));
        assert_eq!(rows.next(4, false), lines("1,2\n"));
        assert_eq!(rows.next(MOST, false), lines(&"1,2\n".repeat(7)));
        assert_eq!(rows.next(MOST, false), None);
    }
}
