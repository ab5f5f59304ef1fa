//! Conditions on the cells of one column.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use crate::Error;
use crate::column::{ColumnFormat, boolean_key, group_key};
use crate::value::fold::{self, Folding, Needle};
use crate::value::{self, DecimalMark, Number, date, text};

/// The memory limit of one compiled regular expression.
const PATTERN_BYTES: usize = 1 << 20;

/// The most characters of a value in an error message.
const SHOWN: usize = 60;

/// A condition on the cells of a column.
///
/// In a column of numbers, dates or booleans all operations except [`Op::Contains`] and [`Op::Matches`] compare values:
/// 5 equals 5.0. A date value is a span: `2010` equals all dates of that year. Cells without a value of the column's
/// type, including empty ones, never match an order. In other columns text is compared, in the order of a sort; texts
/// are equal if their composed forms (NFC) are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The column, counted from 0.
    pub column: usize,
    /// The comparison.
    pub op: Op,
    /// The value; ignored by [`Op::Empty`].
    pub value: String,
    /// The upper end of [`Op::Between`]; without it the value is both ends. More values of [`Op::In`].
    pub others: Vec<String>,
}

/// A comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Op {
    /// The cell contains the value as text, in upper or lower case and in any Unicode form.
    #[default]
    Contains,
    /// The cell equals the value. An empty cell equals the empty value; a cell for a missing value (`N/A`) equals its
    /// text.
    Equals,
    /// The cell does not equal the value.
    Not,
    /// The cell is less.
    Less,
    /// The cell is less or equal.
    LessOrEqual,
    /// The cell is greater.
    Greater,
    /// The cell is greater or equal.
    GreaterOrEqual,
    /// The cell is between two values, inclusive.
    Between,
    /// The cell equals one of some values.
    In,
    /// The cell is in the same group as the value: the same value of the column's type, or the same text (in NFC)
    /// without one. A date is an instant and no span.
    Same,
    /// The cell is empty, or the row is too short.
    Empty,
    /// The regular expression (syntax of the crate `regex`) matches a part of the cell as it is written.
    Matches,
}

impl Op {
    /// All comparisons, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Contains,
        Self::Equals,
        Self::Not,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::Between,
        Self::In,
        Self::Same,
        Self::Empty,
        Self::Matches,
    ];

    /// Its name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::Equals => "equals",
            Self::Not => "not",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Between => "between",
            Self::In => "in",
            Self::Same => "same",
            Self::Empty => "empty",
            Self::Matches => "regex",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not an [`Op`].
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be contains, equals, not, <, <=, >, >=, between, in, same, empty or regex")]
pub struct UnknownOp;

impl FromStr for Op {
    type Err = UnknownOp;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|op| op.as_str() == word).ok_or(UnknownOp)
    }
}

/// A compiled filter.
#[derive(Clone, Debug)]
pub(super) struct CompiledFilter {
    pub(super) column: usize,
    format: ColumnFormat,
    condition: Condition,
}

#[derive(Clone, Debug)]
enum Condition {
    Empty,
    Contains(Contains),
    Matches(Regex),
    /// The cell is one of these composed, sorted texts, or none of them.
    Texts {
        texts: Vec<String>,
        none: bool,
    },
    /// The cell is in one of these sorted, disjoint ranges, or in none.
    Ranges {
        ranges: Vec<KeyRange>,
        none: bool,
    },
    /// The cell is on one of some sides of a value.
    Side {
        bound: Bound,
        sides: &'static [Side],
    },
    Between(Bound, Bound),
    /// The cell has this key.
    Same(Vec<u8>),
}

/// A range of keys: from a key on, up to an exclusive key; without it, only the first key.
type KeyRange = (Vec<u8>, Option<Vec<u8>>);

/// The value that cells are compared with.
#[derive(Clone, Debug)]
enum Bound {
    /// A number, as a double and exactly.
    Number(f64, Vec<u8>),
    /// A value or a span as keys; in a column of text a text.
    Range(KeyRange),
    /// A value that no cell equals.
    Nothing,
}

/// The position of a cell relative to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    Within,
    After,
}

impl From<Ordering> for Side {
    fn from(order: Ordering) -> Self {
        match order {
            Ordering::Less => Self::Before,
            Ordering::Equal => Self::Within,
            Ordering::Greater => Self::After,
        }
    }
}

impl CompiledFilter {
    /// `strictly`: a value that is not of the column's type is an error; otherwise no cell equals it.
    pub(super) fn new(filter: &Filter, format: ColumnFormat, strictly: bool) -> Result<Self, Error> {
        let Filter { column, op, value, others } = filter;
        let bound = |value: &str| match bound(value, format) {
            Some(bound) => Ok(bound),
            None if !strictly => Ok(Bound::Nothing),
            None => {
                let (column, column_type) = (*column, format.column_type);
                Err(Error::Value { column, column_type, value: value.chars().take(SHOWN).collect() })
            }
        };
        let side = |sides| Ok::<_, Error>(Condition::Side { bound: bound(value)?, sides });
        let all = || std::iter::once(value).chain(others);
        let condition = match op {
            Op::Empty => Condition::Empty,
            Op::Same => {
                let mut key = Vec::new();
                group_key(&format, value.as_bytes(), &mut key);
                Condition::Same(key)
            }
            Op::Contains => Condition::Contains(Contains::new(value, Folding::Case)?),
            Op::Matches => Condition::Matches(pattern(value, false)?),
            Op::Less => side(&[Side::Before])?,
            Op::LessOrEqual => side(&[Side::Before, Side::Within])?,
            Op::Greater => side(&[Side::After])?,
            Op::GreaterOrEqual => side(&[Side::After, Side::Within])?,
            Op::Between => {
                let (low, high) = (bound(value)?, bound(others.first().unwrap_or(value))?);
                // The ends may be given in either order.
                if low.is_above(&high) {
                    Condition::Between(high, low)
                } else {
                    Condition::Between(low, high)
                }
            }
            Op::Equals if !format.is_text() && !value.is_empty() && !value::is_missing(value.as_bytes()) => {
                side(&[Side::Within])?
            }
            Op::Equals | Op::Not | Op::In => {
                let (values, none) =
                    (if *op == Op::In { all().collect() } else { vec![value] }, *op == Op::Not);
                if format.is_text() {
                    let mut texts: Vec<String> =
                        values.into_iter().map(|value| fold::compose(value)).collect();
                    texts.sort_unstable();
                    Condition::Texts { texts, none }
                } else {
                    // An empty cell has no key.
                    let keys = |value: &String| match &value[..] {
                        "" => Ok(Bound::Range((Vec::new(), None))),
                        // Cells for a missing value are matched by their text.
                        value if value::is_missing(value.as_bytes()) => {
                            Ok(Bound::Range((missing_key(value.as_bytes()), None)))
                        }
                        value => bound(value),
                    };
                    let bounds: Vec<Bound> = values.into_iter().map(keys).collect::<Result<_, _>>()?;
                    Condition::Ranges {
                        ranges: union_of_ranges(bounds.into_iter().filter_map(Bound::range).collect()),
                        none,
                    }
                }
            }
        };
        Ok(Self { column: *column, format, condition })
    }

    /// A text that every matching cell of stable characters contains, and whether its case matters; empty if there is
    /// none.
    pub(super) fn needle(&self) -> (&[u8], bool) {
        match &self.condition {
            Condition::Contains(contains) => (contains.text.as_bytes(), false),
            Condition::Texts { texts, none: false } if texts.len() == 1 => (texts[0].as_bytes(), true),
            _ => (b"", true),
        }
    }

    /// Whether the filter matches this cell.
    #[inline]
    pub(super) fn matches_cell(&self, cell: &[u8]) -> bool {
        match &self.condition {
            Condition::Empty => cell.is_empty(),
            Condition::Same(same) => {
                let mut key = Vec::with_capacity(same.len());
                group_key(&self.format, cell, &mut key);
                key == *same
            }
            Condition::Contains(contains) => contains.is_in(cell),
            Condition::Matches(pattern) => pattern.is_match(cell),
            Condition::Texts { texts, none } => is_one_of(cell, texts) != *none,
            Condition::Ranges { ranges, none } => self.is_within(cell, ranges) != *none,
            Condition::Side { bound, sides } => {
                self.side(cell, bound).is_some_and(|side| sides.contains(&side))
            }
            Condition::Between(low, high) => {
                self.side(cell, low).is_some_and(|side| side != Side::Before)
                    && self.side(cell, high).is_some_and(|side| side != Side::After)
            }
        }
    }

    /// The position of the cell relative to `bound`; `None` for an empty cell or one of another type.
    fn side(&self, cell: &[u8], bound: &Bound) -> Option<Side> {
        if cell.is_empty() {
            return None;
        }
        let (from, to) = match bound {
            Bound::Nothing => return None,
            Bound::Number(value, key) => {
                return Some(Number::parse(cell, self.format.decimal_mark)?.compare_with(*value, key).into());
            }
            Bound::Range((from, to)) => (from, to),
        };
        let mut key = Vec::with_capacity(32);
        if self.format.is_text() {
            text::write_key(cell, false, &mut key);
        } else if !self.format.write_key(cell, &mut key) {
            return None;
        }
        Some(side_of(&key, from, to.as_deref()))
    }

    fn is_within(&self, cell: &[u8], ranges: &[KeyRange]) -> bool {
        let mut key = Vec::with_capacity(32);
        if !cell.is_empty() && !self.format.write_key(cell, &mut key) {
            if !value::is_missing(cell) {
                return false;
            }
            key = missing_key(cell);
        }
        let after = ranges.partition_point(|(from, _)| from[..] <= key[..]);
        let range = after.checked_sub(1).map(|at| &ranges[at]);
        range.is_some_and(|(from, to)| side_of(&key, from, to.as_deref()) == Side::Within)
    }
}

/// The key of a cell for a missing value: above the keys of all values.
fn missing_key(cell: &[u8]) -> Vec<u8> {
    [&[0xFD], cell.trim_ascii()].concat().to_ascii_lowercase()
}

/// The position of `key` relative to a range.
fn side_of(key: &[u8], from: &[u8], to: Option<&[u8]>) -> Side {
    match to {
        Some(to) if key >= from && key < to => Side::Within,
        Some(_) if key >= from => Side::After,
        _ => key.cmp(from).into(),
    }
}

/// Whether a cell is one of some sorted texts.
fn is_one_of(cell: &[u8], texts: &[String]) -> bool {
    match texts {
        [text] => fold::is_composed(cell, text.as_bytes()),
        _ => {
            let has = |cell: &[u8]| texts.binary_search_by(|text| text.as_bytes().cmp(cell)).is_ok();
            has(cell)
                || fold::next_unstable(cell, 0, Folding::Case).is_some()
                    && std::str::from_utf8(cell).is_ok_and(|cell| has(fold::compose(cell).as_bytes()))
        }
    }
}

/// The filter value in a column of this format.
fn bound(value: &str, format: ColumnFormat) -> Option<Bound> {
    if format.is_text() {
        let mut key = Vec::new();
        text::write_key(value.as_bytes(), false, &mut key);
        return Some(Bound::Range((key, None)));
    }
    let trimmed = value.trim().as_bytes();
    if format.column_type.is_numeric() {
        // With decimal commas, `5.0` has only one meaning.
        let other =
            if format.decimal_mark == DecimalMark::Point { DecimalMark::Comma } else { DecimalMark::Point };
        let number = Number::parse(trimmed, format.decimal_mark).or_else(|| Number::parse(trimmed, other))?;
        return Some(Bound::Number(number.value(), number.key()));
    }
    if let Some(is) = value::boolean(trimmed).filter(|_| format.column_type == crate::ColumnType::Boolean) {
        return Some(Bound::Range((vec![boolean_key(is)], None)));
    }
    let is_date = format.column_type == crate::ColumnType::Date;
    let date::Interval { from, to } = is_date.then(|| date::span(trimmed, format.order)).flatten()?;
    Some(Bound::Range((from, to)))
}

impl Bound {
    fn range(self) -> Option<KeyRange> {
        match self {
            Self::Number(_, key) => Some((key, None)),
            Self::Range(range) => Some(range),
            Self::Nothing => None,
        }
    }

    fn is_above(&self, other: &Self) -> bool {
        let key = |bound: &Self| match bound {
            Self::Number(_, key) | Self::Range((key, _)) => Some(key.clone()),
            Self::Nothing => None,
        };
        key(self).zip(key(other)).is_some_and(|(key, other)| key > other)
    }
}

/// The sorted union of ranges.
fn union_of_ranges(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.sort_unstable();
    let mut union_of_ranges: Vec<KeyRange> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match union_of_ranges.last_mut() {
            Some((_, Some(end))) if from < *end => *end = end.clone().max(to.unwrap_or_default()),
            Some((before, end @ None)) if *before == from => *end = to,
            _ => union_of_ranges.push((from, to)),
        }
    }
    union_of_ranges
}

/// A case-insensitive search for a text, in any Unicode form.
#[derive(Clone, Debug)]
pub(super) struct Contains {
    /// The folded text.
    pub(super) text: String,
    /// The pattern for cells of stable characters.
    pattern: Regex,
    needle: Needle,
    pub(super) folding: Folding,
}

impl Contains {
    pub(super) fn new(text: &str, folding: Folding) -> Result<Self, Error> {
        let needle = Needle::new(text, folding);
        let text = needle.text();
        Ok(Self { pattern: containing(&text)?, text, needle, folding })
    }

    /// Whether a cell contains the text.
    #[inline]
    pub(super) fn is_in(&self, cell: &[u8]) -> bool {
        match fold::next_unstable(cell, 0, self.folding) {
            None => self.pattern.is_match(cell),
            Some(_) => self.needle.is_in(cell),
        }
    }
}

/// A pattern that finds `text` in any case.
pub(super) fn containing(text: &str) -> Result<Regex, Error> {
    pattern(&regex::escape(text), true)
}

fn pattern(pattern: &str, any_case: bool) -> Result<Regex, Error> {
    let built = RegexBuilder::new(pattern)
        .case_insensitive(any_case)
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(PATTERN_BYTES)
        .build();
    // The crate's message has several lines, with the pattern and a marker; the last line contains the reason.
    built.map_err(|error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default();
        Error::Pattern(why.strip_prefix("error: ").unwrap_or(why).to_owned())
    })
}
