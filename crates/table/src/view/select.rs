//! Selects the rows of a chunk that match a query.
//!
//! If every matching row must contain some text, the raw chunk is searched for it, many bytes at a time, and only rows
//! with it are examined; and rows with characters that may have another form ([`fold`]).

use memchr::memmem;
use regex::bytes::Regex;

use super::Query;
use super::filter::{CompiledFilter, Contains, containing};
use crate::Error;
use crate::column::ColumnFormats;
use crate::reading::Reading;
use crate::scan::Scratch;
use crate::syntax::{Line, Syntax, is_break};
use crate::value::fold::{self, Folding};

/// The compiled conditions of a query.
pub(crate) struct Selection {
    syntax: Syntax,
    tests: Vec<CompiledFilter>,
    search: Option<Contains>,
    prefilter: Option<Prefilter>,
    /// Whether a match of the prefilter is a match of the search, without further examination.
    prefilter_suffices: bool,
    /// The number of cells that the conditions examine, if the prefilter finds all candidates.
    keep: usize,
}

/// A search in the raw bytes of a chunk.
enum Prefilter {
    AnyCase(Regex),
    Exact(Box<memmem::Finder<'static>>),
}

impl Prefilter {
    /// The position of the next match from `at` on.
    fn find(&self, bytes: &[u8], at: usize) -> Option<usize> {
        match self {
            Self::AnyCase(pattern) => pattern.find_at(bytes, at).map(|found| found.start()),
            Self::Exact(finder) => finder.find(&bytes[at..]).map(|found| at + found),
        }
    }
}

impl Selection {
    /// Compiles the conditions of `query` for the current rows of `reading`.
    /// `strictly`: see [`CompiledFilter::new`].
    pub(crate) fn new(
        reading: &Reading,
        query: &Query,
        column_formats: &ColumnFormats,
        strictly: bool,
    ) -> Result<Self, Error> {
        let syntax = reading.dialect().syntax;
        let tests: Vec<CompiledFilter> = query
            .filter
            .iter()
            .map(|filter| CompiledFilter::new(filter, column_formats.get(filter.column), strictly))
            .collect::<Result<_, _>>()?;
        let folding = if query.ignore_accents { Folding::Accents } else { Folding::Case };
        let search = (!query.search.is_empty()).then(|| Contains::new(&query.search, folding)).transpose()?;
        let searched = search.as_ref().map_or("", |search| &search.text).as_bytes();
        let mut needles: Vec<(&[u8], bool)> = tests.iter().map(CompiledFilter::needle).collect();
        needles.push((searched, false));
        let longest = needles
            .into_iter()
            .map(|(needle, exact)| (as_written(needle, syntax), exact))
            .max_by_key(|(needle, _)| needle.len())
            .filter(|(needle, _)| !needle.is_empty() && !reading.state().sloppy);
        let prefilter = match longest {
            Some((needle, true)) => {
                Some(Prefilter::Exact(Box::new(memmem::Finder::new(needle).into_owned())))
            }
            Some((needle, false)) => {
                let text = std::str::from_utf8(needle).expect("divided at ASCII");
                Some(Prefilter::AnyCase(containing(text)?))
            }
            None => None,
        };
        let divides = |byte: &u8| *byte == syntax.delimiter() || is_break(*byte);
        let prefilter_suffices = tests.is_empty()
            && longest.is_some_and(|(needle, _)| needle == searched)
            && !searched.iter().any(divides)
            // Skipped spaces are not part of a cell.
            && !syntax.skips_spaces();
        let keep = match &search {
            Some(_) if !prefilter_suffices => usize::MAX,
            _ => tests.iter().map(|test| test.column + 1).max().unwrap_or(0),
        };
        Ok(Self { syntax, tests, search, prefilter, prefilter_suffices, keep })
    }

    /// Calls `found` with each matching row of a chunk: its index in the chunk, the row with at least `keep` cells laid
    /// out, and scratch memory.
    pub(crate) fn select(
        &self,
        bytes: &[u8],
        keep: usize,
        scratch: &mut Scratch,
        mut found: impl FnMut(usize, Line<'_>, &mut Vec<u8>),
    ) {
        let Scratch { layout, spare, .. } = scratch;
        let Some(prefilter) = &self.prefilter else {
            layout.fill(self.syntax, bytes, keep.max(self.keep));
            for row in 0..layout.len() {
                let line = layout.line(bytes, row);
                if self.holds(line, spare) {
                    found(row, line, spare);
                }
            }
            return;
        };
        // The next match of the text, and the next character that may have another form.
        let folding = self.search.as_ref().map_or(Folding::Case, |search| search.folding);
        let (mut sure, mut other) = (prefilter.find(bytes, 0), fold::next_unstable(bytes, 0, folding));
        if sure.is_none() && other.is_none() {
            return;
        }
        // Matches of the prefilter may suffice; other candidates require all cells.
        let most = if other.is_some() && self.search.is_some() { usize::MAX } else { self.keep };
        layout.fill(self.syntax, bytes, keep.max(most));
        let mut row = 0;
        while let Some(at) = sure.into_iter().chain(other).min() {
            row = layout.row_at(row, at);
            if row == layout.len() {
                return;
            }
            let line = layout.line(bytes, row);
            let end = line.range().end;
            let is_other = other.is_some_and(|other| other < end);
            if self.prefilter_suffices && !is_other || self.holds(line, spare) {
                found(row, line, spare);
            }
            if sure.is_some_and(|sure| sure < end) {
                sure = prefilter.find(bytes, end);
            }
            if is_other {
                other = fold::next_unstable(bytes, end, folding);
            }
        }
    }

    /// Whether a row meets all conditions.
    fn holds(&self, line: Line<'_>, spare: &mut Vec<u8>) -> bool {
        let in_column = |test: &CompiledFilter, spare: &mut Vec<u8>| {
            test.matches_cell(self.syntax.unquote(line.raw(test.column), spare))
        };
        self.tests.iter().all(|test| in_column(test, spare))
            && self.search.as_ref().is_none_or(|search| {
                (0..line.len()).any(|column| search.is_in(self.syntax.unquote(line.raw(column), spare)))
            })
    }
}

/// The longest part of a cell's content that is written unchanged in the file: between quotes and escapes. (Unless
/// content follows the closing quote: [`Scanner::is_sloppy`](crate::syntax::Scanner::is_sloppy).)
fn as_written(content: &[u8], syntax: Syntax) -> &[u8] {
    let is_escaped = |byte: u8| syntax.escapes_everywhere() && (byte == syntax.delimiter() || is_break(byte));
    let is_written_otherwise =
        |byte: &u8| Some(*byte) == syntax.quote() || Some(*byte) == syntax.escape() || is_escaped(*byte);
    content.split(is_written_otherwise).max_by_key(|part| part.len()).unwrap_or_default()
}
