//! The dialect of a file: delimiter, quotes, line ends, encoding, compression, and whether it has a header.
//!
//! A dialect is guessed from the first [`HEAD_BYTES`] of the text (from [`LONG_HEAD_BYTES`] when those end within a
//! quote that may be unclosed); a [`Choice`] of the user replaces each guessed property. Once the file is complete, the
//! dialect is stored beside it ([`DIALECT`]) and applies to all later rows.

mod guess;
mod head;
mod header;
mod names;
mod preamble;
mod quoting;
mod stored;

pub(crate) use guess::{GuessContext, guess};
pub(crate) use head::{HEAD_BYTES, LONG_HEAD_BYTES};
pub use stored::DIALECT;
pub(crate) use stored::{ChosenFields, StoredDialect};

use std::sync::Arc;

use crate::syntax::Syntax;
use crate::{Compression, Encoding, Error, Evidence, FileFormat};

/// The dialect of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Delimiter, quote and escape.
    pub syntax: Syntax,
    /// The number of skipped lines above the header or the first row: titles, comments, Excel's `sep=;`.
    pub skip: u64,
    /// The size of those lines in UTF-8, with byte order marks before and after them.
    pub(crate) start: u64,
    /// Whether the first row contains the names of the columns.
    pub header: bool,
    /// The line break of appended rows. All line breaks are read.
    pub line_end: LineEnd,
    /// The encoding of the text.
    pub encoding: Encoding,
    /// The evidence for the encoding.
    pub evidence: Evidence,
    /// The compression of the file.
    pub compression: Compression,
    /// The format of the file. The other fields describe the text that it was converted to.
    pub format: FileFormat,
}

/// A line break.
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
    /// The characters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
            Self::Cr => "\r",
        }
    }
}

/// The chosen properties of a dialect; the others are guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The byte between cells.
    pub delimiter: Option<u8>,
    /// The quote; `Some(None)`: quotes have no meaning.
    pub quote: Option<Option<u8>>,
    /// The escape; `Some(None)`: quotes are escaped by doubling alone.
    pub escape: Option<Option<u8>>,
    /// Whether the escape also applies outside quotes.
    pub escapes_everywhere: Option<bool>,
    /// Whether spaces before a cell are skipped.
    pub skips_spaces: Option<bool>,
    /// The number of skipped lines. If it is above 0, the first line after them is a header unless [`Self::header`] is
    /// set.
    pub skip: Option<u64>,
    /// Whether the first row contains the names of the columns.
    pub header: Option<bool>,
    /// The encoding.
    pub encoding: Option<Encoding>,
    /// Whether the file is read as text even if its bytes look like those of a binary format.
    pub is_text: bool,
    /// The name of the sheet of a workbook; `None`: the first visible one.
    pub sheet: Option<Arc<str>>,
    /// The delimiter that the file name suggests ([`Self::hinted_by`]), which is weak evidence: tabs are used if there
    /// are any, a comma only implies several columns.
    pub hint: Option<u8>,
}

impl Choice {
    /// A choice without chosen properties, with the hint of a file name: `.tsv` and `.tab` suggest tabs, `.csv` some
    /// delimiter.
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

    /// Tab-separated values, as Python's `csv.reader(lines, delimiter="\t")` reads them: `"` around cells that contain
    /// tabs or line breaks, doubled within; no skipped lines. The header and the encoding are guessed.
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

    /// Returns an error if no file can have these properties.
    pub(crate) fn check(&self) -> Result<(), Error> {
        Syntax::check(self.delimiter, self.quote.flatten(), self.escape.flatten())
    }
}
