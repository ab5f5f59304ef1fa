//! Finds the rows of a chunk that a query selects.
//!
//! Where some text must be in every row that is found, the chunk is searched for it as it lies there, many
//! bytes at a time, and only rows that have it are looked at closely.

use memchr::memmem;
use regex::bytes::Regex;

use super::Query;
use super::filter::{Test, containing};
use crate::Error;
use crate::column::Natures;
use crate::reading::Reading;
use crate::scan::Scratch;
use crate::syntax::{Line, Syntax, is_break};

/// The conditions of a query, ready to be asked.
pub(super) struct Selection {
    syntax: Syntax,
    tests: Vec<Test>,
    search: Option<Regex>,
    scout: Option<Scout>,
    /// Whether what the scout finds is found by the search, without a closer look.
    scout_is_enough: bool,
    /// How many cells of a row the conditions look at.
    keep: usize,
}

/// What runs ahead over the raw bytes.
enum Scout {
    AnyCase(Regex),
    Exact(Box<memmem::Finder<'static>>),
}

impl Scout {
    /// Where the next find starts, from `at` on.
    fn find(&self, bytes: &[u8], at: usize) -> Option<usize> {
        match self {
            Self::AnyCase(pattern) => pattern.find_at(bytes, at).map(|found| found.start()),
            Self::Exact(finder) => finder.find(&bytes[at..]).map(|found| at + found),
        }
    }
}

impl Selection {
    /// The conditions of `query` for the rows that `reading` has now.
    pub(super) fn new(reading: &Reading, query: &Query, natures: &Natures) -> Result<Self, Error> {
        let syntax = reading.dialect().syntax;
        let tests: Vec<Test> = query
            .filter
            .iter()
            .map(|filter| Test::new(filter, natures.of(filter.column)))
            .collect::<Result<_, _>>()?;
        let search = (!query.search.is_empty()).then(|| containing(&query.search)).transpose()?;
        let mut needles: Vec<(&[u8], bool)> = tests.iter().map(Test::needle).collect();
        needles.push((query.search.as_bytes(), false));
        let longest = needles
            .into_iter()
            .map(|(needle, exact)| (as_written(needle, syntax), exact))
            .max_by_key(|(needle, _)| needle.len())
            .filter(|(needle, _)| !needle.is_empty() && !reading.state().sloppy);
        let scout = match longest {
            Some((needle, true)) => Some(Scout::Exact(Box::new(memmem::Finder::new(needle).into_owned()))),
            Some((needle, false)) => {
                let text = std::str::from_utf8(needle).expect("divided at ASCII");
                Some(Scout::AnyCase(containing(text)?))
            }
            None => None,
        };
        let divides = |byte: &u8| *byte == syntax.delimiter() || is_break(*byte);
        let scout_is_enough = tests.is_empty()
            && longest.is_some_and(|(needle, _)| needle == query.search.as_bytes())
            && !query.search.as_bytes().iter().any(divides);
        let keep = match &search {
            Some(_) if !scout_is_enough => usize::MAX,
            _ => tests.iter().map(|test| test.column + 1).max().unwrap_or(0),
        };
        Ok(Self { syntax, tests, search, scout, scout_is_enough, keep })
    }

    /// Calls `found` with each row of a chunk that is selected: its place in the chunk, the row with at least
    /// `keep` cells laid out, and spare bytes.
    pub(super) fn select(
        &self,
        bytes: &[u8],
        keep: usize,
        scratch: &mut Scratch,
        mut found: impl FnMut(usize, Line<'_>, &mut Vec<u8>),
    ) {
        let Scratch { layout, spare, .. } = scratch;
        let mut at = 0;
        if let Some(scout) = &self.scout {
            match scout.find(bytes, 0) {
                Some(first) => at = first,
                None => return,
            }
        }
        layout.fill(self.syntax, bytes, keep.max(self.keep));
        let Some(scout) = &self.scout else {
            for row in 0..layout.len() {
                let line = layout.line(bytes, row);
                if self.holds(line, spare) {
                    found(row, line, spare);
                }
            }
            return;
        };
        let mut row = 0;
        loop {
            row = layout.row_at(row, at);
            if row == layout.len() {
                return;
            }
            let line = layout.line(bytes, row);
            if self.scout_is_enough || self.holds(line, spare) {
                found(row, line, spare);
            }
            match scout.find(bytes, line.range().end) {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    /// Whether all conditions hold for a row.
    fn holds(&self, line: Line<'_>, spare: &mut Vec<u8>) -> bool {
        let in_column =
            |test: &Test, spare: &mut Vec<u8>| test.finds(self.syntax.unquote(line.raw(test.column), spare));
        self.tests.iter().all(|test| in_column(test, spare))
            && self.search.as_ref().is_none_or(|search| {
                (0..line.len()).any(|column| search.is_match(self.syntax.unquote(line.raw(column), spare)))
            })
    }
}

/// The longest part of a cell's content that is written in a file just as it is: between quotes and escapes.
/// (Unless something follows the closing quote: [`Scanner::is_sloppy`](crate::syntax::Scanner::is_sloppy).)
fn as_written(content: &[u8], syntax: Syntax) -> &[u8] {
    let is_written_otherwise = |byte: &u8| Some(*byte) == syntax.quote() || Some(*byte) == syntax.escape();
    content.split(is_written_otherwise).max_by_key(|part| part.len()).unwrap_or_default()
}
