//! The grammar of delimited text: the ends of cells and rows, and the content of cells.
//!
//! RFC 4180 with common deviations, as the `csv` crate reads it: a quote opens a quoted cell only as the first byte of
//! the cell; inside, a doubled quote stands for one; text after the closing quote is content. `\r`, `\n` and `\r\n` each
//! end a row outside quotes, so a file may mix them, and empty lines are not rows. An escape byte and the byte
//! after it never end a quoted cell.
//!
//! Two options deviate further and are read byte by byte, at a quarter of the speed. The escape may apply everywhere
//! ([`Syntax::escaping_everywhere`], as MySQL's `SELECT … INTO OUTFILE` writes): before a delimiter, a quote, a line
//! break or itself it yields that byte, before any other byte it is content, so that `\N` is shown as written. And
//! spaces before a cell may be skipped ([`Syntax::skipping_spaces`]): `a, "b, c"` has two cells.
//!
//! The grammar is defined once, in [`State::after`]. Three readers use it: [`Scanner`] finds ends 64 bytes at a time
//! (the index), [`Layout`] lays out the cells of a chunk in memory (sorting, filtering), [`Reader`] returns content
//! incrementally, whatever its length (pages, downloads).
//!
//! Invariants, which property tests check against the `csv` crate:
//! - Every reader yields the same rows and cells, however the text is split.
//! - No reader holds text: only a state of a few bytes, and the positions of a chunk.

mod group;
mod layout;
mod reader;
mod scanner;

pub(crate) use layout::{Layout, Line};
pub use reader::{Event, Reader};
pub(crate) use scanner::Scanner;

use std::ops::ControlFlow;

use crate::Error;

/// The bytes with a meaning in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    escapes_everywhere: bool,
    skips_spaces: bool,
}

impl Syntax {
    /// A syntax with this `delimiter`, this `quote` (`None`: no quotes, as in plain TSV) and this `escape` within
    /// quotes (`None`: quotes are only escaped by doubling). Without a quote the escape applies everywhere.
    ///
    /// # Errors
    /// [`Error::Dialect`] when one is a line break or not ASCII, or two are the same.
    pub fn new(delimiter: u8, quote: Option<u8>, escape: Option<u8>) -> Result<Self, Error> {
        Self::check(Some(delimiter), quote, escape)?;
        let escapes_everywhere = quote.is_none() && escape.is_some();
        Ok(Self { delimiter, quote, escape, escapes_everywhere, skips_spaces: false })
    }

    /// Sets whether an escape also applies outside quotes.
    #[must_use]
    pub fn escaping_everywhere(self, everywhere: bool) -> Self {
        Self { escapes_everywhere: self.escape.is_some() && (everywhere || self.quote.is_none()), ..self }
    }

    /// Sets whether spaces before a cell and after a closing quote are skipped. They are always part of cells if spaces
    /// are the delimiter or there are no quotes.
    #[must_use]
    pub fn skipping_spaces(self, skips: bool) -> Self {
        Self { skips_spaces: skips && self.quote.is_some() && self.delimiter != b' ', ..self }
    }

    /// Checks that the given bytes can be combined.
    pub(crate) fn check(delimiter: Option<u8>, quote: Option<u8>, escape: Option<u8>) -> Result<(), Error> {
        let usable = |byte: u8| byte.is_ascii() && !is_break(byte);
        if !delimiter.into_iter().chain(quote).chain(escape).all(usable) {
            return Err(Error::Dialect("delimiter, quote and escape must be ASCII and no line breaks"));
        }
        let same = |a: Option<u8>, b: Option<u8>| a.is_some() && a == b;
        if same(delimiter, quote) || same(delimiter, escape) || same(quote, escape) {
            return Err(Error::Dialect("delimiter, quote and escape must differ"));
        }
        Ok(())
    }

    /// The byte between two cells.
    pub const fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// The byte around a quoted cell.
    pub const fn quote(&self) -> Option<u8> {
        self.quote
    }

    /// The byte that escapes the next byte in a quoted cell.
    pub const fn escape(&self) -> Option<u8> {
        self.escape
    }

    /// Whether the escape also applies outside quotes.
    pub const fn escapes_everywhere(&self) -> bool {
        self.escapes_everywhere
    }

    /// Whether spaces before a cell are skipped.
    pub const fn skips_spaces(&self) -> bool {
        self.skips_spaces
    }

    /// Whether the byte after an escape is content without the escape.
    fn is_escaped(&self, byte: u8) -> bool {
        byte == self.delimiter || is_break(byte) || Some(byte) == self.quote || Some(byte) == self.escape
    }

    /// A cell as it is written, without skipped spaces.
    pub(crate) fn trim<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        if !self.skips_spaces {
            return raw;
        }
        let start = raw.iter().position(|byte| *byte != b' ').unwrap_or(raw.len());
        let raw = &raw[start..];
        match raw.iter().rposition(|byte| *byte != b' ') {
            Some(last) if last > 0 && Some(raw[last]) == self.quote && raw.first().copied() == self.quote => {
                &raw[..=last]
            }
            _ => raw,
        }
    }

    /// The content of a cell: `raw` without its quotes and escapes. Copies into `scratch` only if necessary.
    #[inline]
    pub(crate) fn unquote<'a>(&self, raw: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let is_plain = !self.skips_spaces && !self.escapes_everywhere;
        if is_plain && (self.quote.is_none() || raw.first().copied() != self.quote) {
            return raw;
        }
        self.unquote_any(raw, scratch)
    }

    fn unquote_any<'a>(&self, raw: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let raw = self.trim(raw);
        if let Some(quote) = self.quote.filter(|quote| raw.first() == Some(quote)) {
            if let [_, inside @ .., last] = raw
                && *last == quote
                && memchr::memchr2(quote, self.escape.unwrap_or(quote), inside).is_none()
            {
                return inside;
            }
        } else if !(self.escapes_everywhere && raw.contains(&self.escape.unwrap_or_default())) {
            return raw;
        }
        scratch.clear();
        let mut keep = |event: Event<'_>| {
            // A raw cell contains no end outside its quotes, so there are only content events.
            if let Event::Content(content) = event {
                scratch.extend_from_slice(content);
            }
            ControlFlow::Continue(())
        };
        let mut reader = Reader::new(*self);
        reader.feed(raw, &mut keep);
        reader.finish(&mut keep);
        scratch
    }
}

/// The state of the grammar at a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Before the first byte of a row. Line breaks here end no row.
    RowStart,
    /// Before the first byte of a cell that is not the first of its row.
    CellStart,
    /// After skipped spaces before a cell.
    Spaces,
    /// In a cell in which quotes have no meaning.
    Plain,
    /// In such a cell, after the escape byte.
    PlainEscaped,
    /// Between quotes.
    Quoted,
    /// Between quotes, after the escape byte.
    Escaped,
    /// After a quote that closed the cell, unless another quote follows.
    Closed,
    /// After skipped spaces behind a closing quote.
    ClosedSpaces,
}

/// The end that a byte marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing.
    None,
    /// A cell.
    Cell,
    /// A row, or an empty line when the state before was [`State::RowStart`].
    Break,
}

impl State {
    /// The state after `byte`, and the end that the byte marks.
    #[inline]
    pub(crate) fn after(self, byte: u8, syntax: &Syntax) -> (Self, Mark) {
        let is_quote = syntax.quote == Some(byte);
        match self {
            Self::Quoted if is_quote => (Self::Closed, Mark::None),
            Self::Quoted if syntax.escape == Some(byte) => (Self::Escaped, Mark::None),
            Self::Quoted | Self::Escaped => (Self::Quoted, Mark::None),
            Self::PlainEscaped => (Self::Plain, Mark::None),
            Self::RowStart | Self::CellStart | Self::Spaces | Self::Closed if is_quote => {
                (Self::Quoted, Mark::None)
            }
            Self::RowStart | Self::CellStart | Self::Spaces if syntax.skips_spaces && byte == b' ' => {
                (Self::Spaces, Mark::None)
            }
            Self::Closed | Self::ClosedSpaces if syntax.skips_spaces && byte == b' ' => {
                (Self::ClosedSpaces, Mark::None)
            }
            _ if syntax.escapes_everywhere && syntax.escape == Some(byte) => (Self::PlainEscaped, Mark::None),
            _ if byte == syntax.delimiter => (Self::CellStart, Mark::Cell),
            _ if is_break(byte) => (Self::RowStart, Mark::Break),
            _ => (Self::Plain, Mark::None),
        }
    }
}

/// Whether `byte` is a line break.
#[inline]
pub(crate) const fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}
