//! How a file is written: its delimiter, quotes, line ends, encoding and packing, and whether it has a header.
//!
//! A dialect is guessed from the first [`HEAD_BYTES`] of the text (from [`LONG_HEAD_BYTES`] when those end within a
//! quote that may be unclosed); a [`Choice`] of the user replaces each guessed property. Once the file is complete, the
//! dialect is stored beside it ([`DIALECT`]) and applies to all later rows.

mod guess;
mod header;
mod kept;
mod names;
mod preamble;
mod quoting;

pub(crate) use guess::{HEAD_BYTES, Known, LONG_HEAD_BYTES, guess};
pub use kept::DIALECT;
pub(crate) use kept::{Given, Kept};

use crate::syntax::Syntax;
use crate::{Compression, Encoding, Error, Evidence};

/// How a file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Delimiter, quote and escape.
    pub syntax: Syntax,
    /// How many lines stand above the header, or the first row, and are left out: titles, comments, Excel's `sep=;`.
    pub skip: u64,
    /// How many bytes of the text in UTF-8 those lines take, with byte order marks before and after them.
    pub(crate) start: u64,
    /// Whether the first row names the columns.
    pub header: bool,
    /// How its lines end, for rows that are appended; every kind of line end is read.
    pub line_end: LineEnd,
    /// The encoding of the text.
    pub encoding: Encoding,
    /// What speaks for the encoding.
    pub evidence: Evidence,
    /// How the file is packed.
    pub compression: Compression,
}

/// What ends a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnd {
    /// `\n`.
    #[default]
    Lf,
    /// `\r\n`.
    CrLf,
    /// `\r`.
    Cr,
}

impl LineEnd {
    /// The characters themselves.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
            Self::Cr => "\r",
        }
    }
}

/// What is known of a dialect beforehand; the rest is guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The byte between cells.
    pub delimiter: Option<u8>,
    /// The quote; `Some(None)`: quotes have no meaning.
    pub quote: Option<Option<u8>>,
    /// The escape; `Some(None)`: quotes are escaped by doubling alone.
    pub escape: Option<Option<u8>>,
    /// Whether the escape works outside quotes too.
    pub escapes_everywhere: Option<bool>,
    /// Whether spaces before a cell are no part of it.
    pub skips_spaces: Option<bool>,
    /// How many lines stand above the header. The first one after them is one then, unless [`Self::header`] says other, or
    /// they are none.
    pub skip: Option<u64>,
    /// Whether the first row names the columns.
    pub header: Option<bool>,
    /// The encoding.
    pub encoding: Option<Encoding>,
    /// A delimiter that the name of the file speaks for, which is no proof ([`Self::hinted_by`]): tabs are believed when
    /// there are any, a comma says only that there are several columns.
    pub hint: Option<u8>,
}

impl Choice {
    /// A choice that leaves everything to the guess, with the hint that a file's name gives: `.tsv` and `.tab`
    /// speak for tabs, `.csv` for some delimiter.
    pub fn hinted_by(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
        let hint = match name.rsplit_once('.') {
            Some((_, "tsv" | "tab")) => Some(b'\t'),
            Some((_, "csv")) => Some(b','),
            _ => None,
        };
        Self { hint, ..Self::default() }
    }

    /// Tab-separated values, whatever they look like: as Python's `csv.reader(lines, delimiter="\t")` reads them, with
    /// `"` around cells that hold tabs or line breaks and doubled within, and all lines are rows. The header and the
    /// encoding are guessed.
    pub fn tab_separated() -> Self {
        Self {
            delimiter: Some(b'\t'),
            quote: Some(Some(b'"')),
            escape: Some(None),
            skips_spaces: Some(false),
            skip: Some(0),
            hint: Some(b'\t'),
            ..Self::default()
        }
    }

    /// An error if no file can be written so.
    pub(crate) fn check(&self) -> Result<(), Error> {
        Syntax::check(self.delimiter, self.quote.flatten(), self.escape.flatten())
    }
}
