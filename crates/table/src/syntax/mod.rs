//! The grammar of delimited text: which bytes end a cell or a row, and what a cell holds.
//!
//! RFC 4180 as it is met in the wild, and as the `csv` crate reads it: a quote opens a quoted cell only as the
//! first byte of the cell; inside, a doubled quote stands for one; what follows the closing quote is taken as
//! it is. `\r`, `\n` and `\r\n` each end a row outside quotes, so a file may mix them, and empty lines are no
//! rows. With an escape byte, it and the byte after it never end a quoted cell.
//!
//! Two things are further from RFC 4180 and read at a quarter of the speed, byte by byte. The escape may work everywhere
//! ([`Syntax::escaping_everywhere`], as MySQL's `SELECT … INTO OUTFILE` writes): before a delimiter, a quote, a line break
//! or itself it gives way to that, before anything else it is content, so that `\N` is shown as written. And spaces before
//! a cell may belong to the delimiter ([`Syntax::skipping_spaces`]): `a, "b, c"` has two cells.
//!
//! The grammar is written down once, in [`State::after`]. On top of it stand three readers for three needs:
//! [`Scanner`] finds ends 64 bytes at a time (the index), [`Layout`] lays out the cells of a chunk in memory
//! (sorting, filtering), [`Reader`] gives contents piece by piece, whatever their length (pages, downloads).
//!
//! Invariants, which the property tests check against the `csv` crate:
//! - Every reader gives the same rows and cells, however the text is cut into pieces.
//! - No reader holds text: they hold a state of a few bytes and the positions of a chunk.

mod group;
mod layout;
mod reader;
mod scanner;

pub(crate) use layout::{Layout, Line};
pub use reader::{Event, Reader};
pub(crate) use scanner::Scanner;

use std::ops::ControlFlow;

use crate::Error;

/// The bytes that have a meaning in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    escapes_everywhere: bool,
    skips_spaces: bool,
}

impl Syntax {
    /// A syntax with this `delimiter`, this `quote` (`None`: quotes have no meaning, as in plain TSV) and this
    /// `escape` within quotes (`None`: a quote is escaped by doubling alone). Without a quote the escape works everywhere.
    ///
    /// # Errors
    /// [`Error::Dialect`] when one is a line break or not ASCII, or two are the same.
    pub fn new(delimiter: u8, quote: Option<u8>, escape: Option<u8>) -> Result<Self, Error> {
        Self::check(Some(delimiter), quote, escape)?;
        let escapes_everywhere = quote.is_none() && escape.is_some();
        Ok(Self { delimiter, quote, escape, escapes_everywhere, skips_spaces: false })
    }

    /// The same with an escape, if there is one, that works outside quotes too, or not.
    #[must_use]
    pub fn escaping_everywhere(self, everywhere: bool) -> Self {
        Self { escapes_everywhere: self.escape.is_some() && (everywhere || self.quote.is_none()), ..self }
    }

    /// The same where spaces before a cell, and after a closing quote, are no part of it, or are. Where spaces divide cells
    /// or there are no quotes, they always are.
    #[must_use]
    pub fn skipping_spaces(self, skips: bool) -> Self {
        Self { skips_spaces: skips && self.quote.is_some() && self.delimiter != b' ', ..self }
    }

    /// An error if these bytes, those that are given, cannot be used together.
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

    /// The byte that takes the meaning from the next one in a quoted cell.
    pub const fn escape(&self) -> Option<u8> {
        self.escape
    }

    /// Whether that byte does so outside quotes too.
    pub const fn escapes_everywhere(&self) -> bool {
        self.escapes_everywhere
    }

    /// Whether spaces before a cell are no part of it.
    pub const fn skips_spaces(&self) -> bool {
        self.skips_spaces
    }

    /// Whether a byte is content after an escape, which is none itself then.
    fn is_escaped(&self, byte: u8) -> bool {
        byte == self.delimiter || is_break(byte) || Some(byte) == self.quote || Some(byte) == self.escape
    }

    /// A cell as it is written, without what stands around it before its quote or its content.
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

    /// What a cell holds: `raw` without its quotes and escapes. Copies into `scratch` only when it must.
    pub(crate) fn unquote<'a>(&self, raw: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
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
            // A raw cell holds no end outside its quotes, so contents are all that comes.
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

/// Where in the grammar a byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Before the first byte of a row; line breaks here make no row.
    RowStart,
    /// Before the first byte of a cell that is not the first of its row.
    CellStart,
    /// After spaces before a cell that are no part of it.
    Spaces,
    /// In a cell where quotes have no meaning.
    Plain,
    /// The same, after the escape byte.
    PlainEscaped,
    /// Between quotes.
    Quoted,
    /// Between quotes, after the escape byte.
    Escaped,
    /// After a quote that closed, unless another one follows.
    Closed,
    /// After spaces behind such a quote that are no part of the cell.
    ClosedSpaces,
}

/// What a byte ends.
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
    /// The state after `byte`, and what the byte ended.
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

/// Whether `byte` breaks a line.
#[inline]
pub(crate) const fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}
