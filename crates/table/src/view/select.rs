//! Finds the rows of a chunk that a query selects.
//!
//! Where some text must be in every row that is found, the chunk is searched for it as it lies there, many
//! bytes at a time, and only rows that have it are looked at closely; and those with characters that may be written in
//! another form ([`fold`]).

use memchr::memmem;
use regex::bytes::Regex;

use super::Query;
use super::filter::{Contains, Test, containing};
use crate::Error;
use crate::column::Natures;
use crate::reading::Reading;
use crate::scan::Scratch;
use crate::syntax::{Line, Syntax, is_break};
use crate::value::fold;

/// The conditions of a query, ready to be asked.
pub(super) struct Selection {
    syntax: Syntax,
    tests: Vec<Test>,
    search: Option<Contains>,
    scout: Option<Scout>,
    /// Whether what the scout finds is found by the search, without a closer look.
    scout_is_enough: bool,
    /// How many cells of a row the conditions look at where the scout finds all there is.
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
    /// `strictly`: see [`Test::new`].
    pub(super) fn new(
        reading: &Reading,
        query: &Query,
        natures: &Natures,
        strictly: bool,
    ) -> Result<Self, Error> {
        let syntax = reading.dialect().syntax;
        let tests: Vec<Test> = query
            .filter
            .iter()
            .map(|filter| Test::new(filter, natures.get(filter.column), strictly))
            .collect::<Result<_, _>>()?;
        let search = (!query.search.is_empty()).then(|| Contains::new(&query.search)).transpose()?;
        let searched = search.as_ref().map_or("", |search| &search.text).as_bytes();
        let mut needles: Vec<(&[u8], bool)> = tests.iter().map(Test::needle).collect();
        needles.push((searched, false));
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
            && longest.is_some_and(|(needle, _)| needle == searched)
            && !searched.iter().any(divides)
            // Spaces may be there that are part of no cell.
            && !syntax.skips_spaces();
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
        let Some(scout) = &self.scout else {
            layout.fill(self.syntax, bytes, keep.max(self.keep));
            for row in 0..layout.len() {
                let line = layout.line(bytes, row);
                if self.holds(line, spare) {
                    found(row, line, spare);
                }
            }
            return;
        };
        // Where the text is next, and where it may be in another form.
        let (mut sure, mut other) = (scout.find(bytes, 0), fold::next_unstable(bytes, 0));
        if sure.is_none() && other.is_none() {
            return;
        }
        // What the scout finds may be enough, what it cannot find takes a look at each cell.
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
            if self.scout_is_enough && !is_other || self.holds(line, spare) {
                found(row, line, spare);
            }
            if sure.is_some_and(|sure| sure < end) {
                sure = scout.find(bytes, end);
            }
            if is_other {
                other = fold::next_unstable(bytes, end);
            }
        }
    }

    /// Whether all conditions hold for a row.
    fn holds(&self, line: Line<'_>, spare: &mut Vec<u8>) -> bool {
        let in_column =
            |test: &Test, spare: &mut Vec<u8>| test.finds(self.syntax.unquote(line.raw(test.column), spare));
        self.tests.iter().all(|test| in_column(test, spare))
            && self.search.as_ref().is_none_or(|search| {
                (0..line.len()).any(|column| search.is_in(self.syntax.unquote(line.raw(column), spare)))
            })
    }
}

/// The longest part of a cell's content that is written in a file just as it is: between quotes and escapes.
/// (Unless something follows the closing quote: [`Scanner::is_sloppy`](crate::syntax::Scanner::is_sloppy).)
fn as_written(content: &[u8], syntax: Syntax) -> &[u8] {
    let is_escaped = |byte: u8| syntax.escapes_everywhere() && (byte == syntax.delimiter() || is_break(byte));
    let is_written_otherwise =
        |byte: &u8| Some(*byte) == syntax.quote() || Some(*byte) == syntax.escape() || is_escaped(*byte);
    content.split(is_written_otherwise).max_by_key(|part| part.len()).unwrap_or_default()
}
