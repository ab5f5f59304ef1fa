//! Guesses whether the first row contains the names of the columns.
//!
//! Every column votes, and the votes are summed: one name that looks like a value is no veto.

use std::collections::HashSet;

use super::head::{CELLS, HEAD_BYTES};
use super::names;
use crate::syntax::{Layout, Syntax};
use crate::value::{DecimalMark, Kind};

/// The ratio of cells per repetition of the first cell from which on the first cell is a value; at least two
/// repetitions are required.
const CELLS_PER_REPETITION: usize = 20;

/// The years that count as names of columns.
const YEARS: std::ops::RangeInclusive<i64> = 1_900..=2_100;

/// Whether the first row of `text` is a header. `whole`: nothing follows `text`.
///
/// Columns vote ([`votes`]). Without votes in either direction, a table of several columns has a header unless a name
/// occurs twice or looks like a value: most files have one.
pub(super) fn guess(text: &[u8], whole: bool, syntax: Syntax) -> bool {
    let Some(FirstRows { names, votes }) = FirstRows::parse(text, whole, syntax) else { return false };
    let named = || names.iter().filter(|name| !name.is_empty());
    let distinct: HashSet<&Vec<u8>> = named().collect();
    if distinct.is_empty() {
        return false;
    }
    let is_distinct = names.len() > 1 && distinct.len() == named().count();
    votes > 0 || votes == 0 && is_distinct && named().all(|name| Family::classify(name) == Family::Text)
}

/// The sum of votes of the columns. It is a header if the sum is above 0.
///
/// - 3 for a word above numbers, dates or booleans; 2 for a value above values of another kind (`No` above numbers, a
///   date above numbers, a whole number above fractions).
/// - 2 for years or consecutive numbers, one per column, above cells that are none ([`is_series`]).
/// - 1 for a usual name of a column ([`names`]), 1 for a name without the signs that all cells below contain (`email`
///   above addresses), 1 for a lower-case name above words that begin in upper case.
/// - 2 against it for a value above values of its kind, and for a word that is repeated often; 1 for a name that is
///   written like the cells below it (`item-1` above `item-2`).
pub(super) fn votes(text: &[u8], whole: bool, syntax: Syntax) -> i32 {
    FirstRows::parse(text, whole, syntax).map_or(0, |rows| rows.votes)
}

/// The first row, and the votes of the columns on it.
struct FirstRows {
    names: Vec<Vec<u8>>,
    votes: i32,
}

/// Kinds of values, independent of number styles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Empty,
    Missing,
    Integer,
    Decimal,
    Date,
    Boolean,
    Text,
}

impl Family {
    fn classify(cell: &[u8]) -> Self {
        let kind = match Kind::classify(cell, DecimalMark::Point) {
            Kind::Text | Kind::Date => Kind::classify(cell, DecimalMark::Comma),
            kind => kind,
        };
        match kind {
            Kind::Empty => Self::Empty,
            Kind::Missing => Self::Missing,
            Kind::Integer => Self::Integer,
            Kind::Decimal => Self::Decimal,
            Kind::Date => Self::Date,
            Kind::Boolean => Self::Boolean,
            Kind::Text => Self::Text,
        }
    }

    const fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Decimal)
    }
}

/// The common properties of the cells of a column without the first row.
#[derive(Default)]
struct ColumnBelow {
    filled: usize,
    integers: usize,
    decimals: usize,
    dates: usize,
    booleans: usize,
    /// Whole numbers that may be years.
    years: usize,
    /// Cells that are written like the name.
    alike: usize,
    /// Cells that equal the name.
    again: usize,
    /// Cells that begin with an upper-case letter.
    capitalized: usize,
    /// The signs that all cells contain, as bits of ASCII.
    signs: u128,
}

impl ColumnBelow {
    fn examine(name: &[u8], cells: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut below = Self { signs: u128::MAX, ..Self::default() };
        for cell in cells {
            let family = Family::classify(&cell);
            if matches!(family, Family::Empty | Family::Missing) {
                continue;
            }
            below.filled += 1;
            below.integers += usize::from(family == Family::Integer);
            below.decimals += usize::from(family == Family::Decimal);
            below.dates += usize::from(family == Family::Date);
            below.booleans += usize::from(family == Family::Boolean);
            below.years += usize::from(integer(&cell).is_some_and(|year| YEARS.contains(&year)));
            below.alike += usize::from(shape(&cell).eq(shape(name)));
            below.again += usize::from(cell == name);
            below.capitalized += usize::from(cell[0].is_ascii_uppercase());
            below.signs &= signs(&cell);
        }
        below
    }

    /// Whether nine tenths of the cells have a property.
    const fn most(&self, count: usize) -> bool {
        self.filled > 0 && count * 10 >= self.filled * 9
    }

    const fn numbers(&self) -> usize {
        self.integers + self.decimals
    }
}

impl FirstRows {
    fn parse(text: &[u8], whole: bool, syntax: Syntax) -> Option<Self> {
        let mut layout = Layout::default();
        layout.fill(syntax, text, CELLS);
        if !whole && layout.len() > 2 {
            // The last row may be incomplete.
            layout.truncate(layout.len() - 1);
        }
        // A single row is a data row; but if the text is only a part of the first row, its names decide.
        if layout.len() == 0 || layout.len() == 1 && (whole || text.len() < HEAD_BYTES / 4) {
            return None;
        }
        let cell = |row: usize, column: usize| {
            let mut scratch = Vec::new();
            syntax.unquote(layout.line(text, row).raw(column), &mut scratch).to_vec()
        };
        let names: Vec<Vec<u8>> = (0..layout.line(text, 0).len()).map(|column| cell(0, column)).collect();
        let below: Vec<ColumnBelow> = (names.iter().enumerate())
            .map(|(column, name)| ColumnBelow::examine(name, (1..layout.len()).map(|row| cell(row, column))))
            .collect();
        let is_series = is_series(&names, &below);
        let votes = names.iter().zip(&below).map(|(name, below)| vote(name, below, is_series)).sum();
        Some(Self { names, votes })
    }
}

/// The vote of one column. `is_series`: the numbers among the names are a series.
fn vote(name: &[u8], below: &ColumnBelow, is_series: bool) -> i32 {
    let family = Family::classify(name);
    if below.filled == 0 || family == Family::Empty {
        return 0;
    }
    let are_values = below.most(below.numbers() + below.dates + below.booleans);
    let is_one_of_them = match family {
        Family::Integer | Family::Decimal => below.most(below.numbers()),
        Family::Date => below.most(below.dates),
        Family::Boolean => below.most(below.booleans),
        _ => false,
    };
    match family {
        Family::Missing => -2,
        Family::Integer if is_series || below.most(below.decimals) => 2,
        _ if is_one_of_them => -2,
        Family::Text if are_values => 3,
        Family::Text => vote_of_word(name, below),
        // A value above text is only unusual.
        _ => {
            if are_values {
                2
            } else {
                0
            }
        }
    }
}

/// The vote of a column with a word as name.
fn vote_of_word(name: &[u8], below: &ColumnBelow) -> i32 {
    // Values are repeated; names are repeated only by chance or where files were concatenated.
    if below.again > 1 && below.again * CELLS_PER_REPETITION >= below.filled {
        return -2;
    }
    // Words are similar too often; digits and signs at the same positions are evidence.
    if name.iter().any(u8::is_ascii_digit) && below.most(below.alike) {
        return -1;
    }
    let lacks_signs = below.signs != 0 && below.signs & signs(name) == 0;
    let is_lower =
        name.first().is_some_and(u8::is_ascii_lowercase) && !name.iter().any(u8::is_ascii_uppercase);
    let is_lower_alone = is_lower && below.filled > 1 && below.capitalized == below.filled;
    i32::from(below.again == 0 && names::is_usual(name)) + i32::from(lacks_signs) + i32::from(is_lower_alone)
}

/// Whether the numbers among the names form a series that the cells below do not: ascending years, or numbers of equal
/// distance.
fn is_series(names: &[Vec<u8>], below: &[ColumnBelow]) -> bool {
    let all = || names.iter().zip(below).filter(|(name, _)| Family::classify(name).is_number());
    let numbers: Option<Vec<i64>> = all().map(|(name, _)| integer(name)).collect();
    let Some(numbers) = numbers.filter(|numbers| numbers.len() > 1) else { return false };
    let steps: Vec<i64> = numbers.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let is_even = steps.iter().all(|step| *step == steps[0] && *step != 0);
    let is_rising = steps.iter().all(|step| *step > 0);
    // Numbers alone are ambiguous.
    let has_other_names =
        names.iter().any(|name| matches!(Family::classify(name), Family::Text | Family::Empty));
    if numbers.iter().all(|number| YEARS.contains(number)) {
        let are_years_below = all().all(|(_, below)| below.most(below.years));
        return !are_years_below
            && (is_rising || is_even)
            && (has_other_names || steps[0].abs() == 1 && is_even);
    }
    is_even && has_other_names && numbers.len() > 2
}

/// A whole number of a few digits.
fn integer(cell: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(cell).ok()?.trim();
    let is_short = text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_short.then(|| text.parse().ok()).flatten()
}

/// The signs of a cell that are not letters, digits or spaces, as bits.
fn signs(cell: &[u8]) -> u128 {
    let signs = cell.iter().filter(|byte| byte.is_ascii_punctuation() && **byte != b'_');
    signs.fold(0, |signs, byte| signs | 1 << byte)
}

/// The shape of a cell: each run of letters and each run of digits as one sign.
fn shape(cell: &[u8]) -> impl Iterator<Item = u8> {
    let classes = cell.iter().map(|byte| match byte {
        b'0'..=b'9' => b'9',
        b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => b'a',
        other => *other,
    });
    let mut before = None;
    classes.filter(move |class| before.replace(*class) != Some(*class))
}
