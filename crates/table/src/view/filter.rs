//! Conditions on the cells of one column.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use crate::Error;
use crate::column::{Nature, boolean_key};
use crate::value::fold::{self, Needle};
use crate::value::{self, Number, Style, date, text};

/// The memory that one regular expression may take, compiled.
const PATTERN_BYTES: usize = 1 << 20;

/// How much of a value an error shows, in characters.
const SHOWN: usize = 60;

/// A condition on the cells of a column.
///
/// In a column of numbers, dates or booleans all operations but [`Op::Contains`] and [`Op::Matches`] compare values: 5
/// equals 5.0. A value names a span among dates: `2010` equals all of that year. Cells without a value of that type,
/// and empty ones, never match an order. In other columns text is compared, in the order of a sort; texts are equal if
/// their composed forms (NFC) are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Counted from 0.
    pub column: usize,
    /// What is compared.
    pub op: Op,
    /// With what; not looked at by [`Op::Empty`].
    pub value: String,
    /// The upper end of [`Op::Between`], which is the value itself without it; more values of [`Op::In`].
    pub others: Vec<String>,
}

/// How cells are compared with a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Op {
    /// The cell contains the value as text, in upper or lower case and in any Unicode form.
    #[default]
    Contains,
    /// The cell is the value; an empty cell is the empty value, one that says that it has none (`N/A`) is what it says.
    Equals,
    /// The cell is not the value.
    Not,
    /// The cell is less.
    Less,
    /// The cell is less or equal.
    LessOrEqual,
    /// The cell is greater.
    Greater,
    /// The cell is greater or equal.
    GreaterOrEqual,
    /// The cell is between two values or one of them.
    Between,
    /// The cell is one of some values.
    In,
    /// The cell is empty, or its row too short.
    Empty,
    /// The regular expression (syntax of the crate `regex`) matches somewhere in the cell as it is written.
    Matches,
}

impl Op {
    /// Every operation, in the order in which they are documented.
    pub const ALL: [Self; 11] = [
        Self::Contains,
        Self::Equals,
        Self::Not,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::Between,
        Self::In,
        Self::Empty,
        Self::Matches,
    ];

    /// The word that stands for it in a message.
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

/// A word that is not the name of an [`Op`].
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be contains, equals, not, <, <=, >, >=, between, in, empty or regex")]
pub struct UnknownOp;

impl FromStr for Op {
    type Err = UnknownOp;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|op| op.as_str() == word).ok_or(UnknownOp)
    }
}

/// A filter that is ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Test {
    pub(super) column: usize,
    nature: Nature,
    condition: Condition,
}

#[derive(Clone, Debug)]
enum Condition {
    Empty,
    Contains(Contains),
    Matches(Regex),
    /// The cell is one of these texts, composed and in order, or is none.
    Texts {
        texts: Vec<String>,
        none: bool,
    },
    /// The cell is in one of these ranges, which are in order and apart, or in none.
    Ranges {
        ranges: Vec<Range>,
        none: bool,
    },
    /// The cell is on one of some sides of a value.
    Side {
        bound: Bound,
        sides: &'static [Side],
    },
    Between(Bound, Bound),
}

/// Keys of values from one on, and up to another one that is none of them; to that one alone without it.
type Range = (Vec<u8>, Option<Vec<u8>>);

/// What a cell is compared with.
#[derive(Clone, Debug)]
enum Bound {
    /// A number, as a double and exactly.
    Number(f64, Vec<u8>),
    /// A value or a span by keys; in a column of text a text.
    Range(Range),
    /// What no cell is like.
    Nothing,
}

/// Where a cell is, seen from a value.
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

impl Test {
    /// `strictly`: a value that is not of the column's type is an error, else like no cell.
    pub(super) fn new(filter: &Filter, nature: Nature, strictly: bool) -> Result<Self, Error> {
        let Filter { column, op, value, others } = filter;
        let bound = |value: &str| match bound(value, nature) {
            Some(bound) => Ok(bound),
            None if !strictly => Ok(Bound::Nothing),
            None => {
                let (column, column_type) = (*column, nature.column_type);
                Err(Error::Value { column, column_type, value: value.chars().take(SHOWN).collect() })
            }
        };
        let side = |sides| Ok::<_, Error>(Condition::Side { bound: bound(value)?, sides });
        let all = || std::iter::once(value).chain(others);
        let condition = match op {
            Op::Empty => Condition::Empty,
            Op::Contains => Condition::Contains(Contains::new(value)?),
            Op::Matches => Condition::Matches(pattern(value, false)?),
            Op::Less => side(&[Side::Before])?,
            Op::LessOrEqual => side(&[Side::Before, Side::Within])?,
            Op::Greater => side(&[Side::After])?,
            Op::GreaterOrEqual => side(&[Side::After, Side::Within])?,
            Op::Between => {
                let (low, high) = (bound(value)?, bound(others.first().unwrap_or(value))?);
                // Whoever says the upper end first means the same.
                if low.is_above(&high) {
                    Condition::Between(high, low)
                } else {
                    Condition::Between(low, high)
                }
            }
            Op::Equals if !nature.is_text() && !value.is_empty() && !value::is_missing(value.as_bytes()) => {
                side(&[Side::Within])?
            }
            Op::Equals | Op::Not | Op::In => {
                let (values, none) =
                    (if *op == Op::In { all().collect() } else { vec![value] }, *op == Op::Not);
                if nature.is_text() {
                    let mut texts: Vec<String> =
                        values.into_iter().map(|value| fold::compose(value)).collect();
                    texts.sort_unstable();
                    Condition::Texts { texts, none }
                } else {
                    // An empty cell has no key.
                    let keys = |value: &String| match &value[..] {
                        "" => Ok(Bound::Range((Vec::new(), None))),
                        // Cells that say that they have no value are named by what they say.
                        value if value::is_missing(value.as_bytes()) => {
                            Ok(Bound::Range((missing_key(value.as_bytes()), None)))
                        }
                        value => bound(value),
                    };
                    let bounds: Vec<Bound> = values.into_iter().map(keys).collect::<Result<_, _>>()?;
                    Condition::Ranges {
                        ranges: apart(bounds.into_iter().filter_map(Bound::range).collect()),
                        none,
                    }
                }
            }
        };
        Ok(Self { column: *column, nature, condition })
    }

    /// A text that every cell of stable characters that is found contains, and whether in its own case; empty when there is
    /// none.
    pub(super) fn needle(&self) -> (&[u8], bool) {
        match &self.condition {
            Condition::Contains(contains) => (contains.text.as_bytes(), false),
            Condition::Texts { texts, none: false } if texts.len() == 1 => (texts[0].as_bytes(), true),
            _ => (b"", true),
        }
    }

    /// Whether it finds this cell.
    #[inline]
    pub(super) fn finds(&self, cell: &[u8]) -> bool {
        match &self.condition {
            Condition::Empty => cell.is_empty(),
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

    /// Where the cell is, seen from `bound`; `None` for one that is empty or of another type.
    fn side(&self, cell: &[u8], bound: &Bound) -> Option<Side> {
        if cell.is_empty() {
            return None;
        }
        let (from, to) = match bound {
            Bound::Nothing => return None,
            Bound::Number(value, key) => {
                return Some(Number::parse(cell, self.nature.style)?.compare_with(*value, key).into());
            }
            Bound::Range((from, to)) => (from, to),
        };
        let mut key = Vec::with_capacity(32);
        if self.nature.is_text() {
            text::write_key(cell, false, &mut key);
        } else if !self.nature.write_key(cell, &mut key) {
            return None;
        }
        Some(side_of(&key, from, to.as_deref()))
    }

    fn is_within(&self, cell: &[u8], ranges: &[Range]) -> bool {
        let mut key = Vec::with_capacity(32);
        if !cell.is_empty() && !self.nature.write_key(cell, &mut key) {
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

/// The key of a cell that stands for a missing value: above those of all values.
fn missing_key(cell: &[u8]) -> Vec<u8> {
    [&[0xFD], cell.trim_ascii()].concat().to_ascii_lowercase()
}

/// Where `key` is, seen from a range.
fn side_of(key: &[u8], from: &[u8], to: Option<&[u8]>) -> Side {
    match to {
        Some(to) if key >= from && key < to => Side::Within,
        Some(_) if key >= from => Side::After,
        _ => key.cmp(from).into(),
    }
}

/// Whether a cell is one of some texts in order.
fn is_one_of(cell: &[u8], texts: &[String]) -> bool {
    match texts {
        [text] => fold::is_composed(cell, text.as_bytes()),
        _ => {
            let has = |cell: &[u8]| texts.binary_search_by(|text| text.as_bytes().cmp(cell)).is_ok();
            has(cell)
                || fold::next_unstable(cell, 0).is_some()
                    && std::str::from_utf8(cell).is_ok_and(|cell| has(fold::compose(cell).as_bytes()))
        }
    }
}

/// The value that a filter's text is in a column of this nature.
fn bound(value: &str, nature: Nature) -> Option<Bound> {
    if nature.is_text() {
        let mut key = Vec::new();
        text::write_key(value.as_bytes(), false, &mut key);
        return Some(Bound::Range((key, None)));
    }
    let trimmed = value.trim().as_bytes();
    if nature.column_type.is_numeric() {
        // `5.0` among decimal commas can mean one thing only.
        let other = if nature.style == Style::Point { Style::Comma } else { Style::Point };
        let number = Number::parse(trimmed, nature.style).or_else(|| Number::parse(trimmed, other))?;
        return Some(Bound::Number(number.value(), number.key()));
    }
    if let Some(is) = value::boolean(trimmed).filter(|_| nature.column_type == crate::ColumnType::Boolean) {
        return Some(Bound::Range((vec![boolean_key(is)], None)));
    }
    let is_date = nature.column_type == crate::ColumnType::Date;
    let date::Span { from, to } = is_date.then(|| date::span(trimmed, nature.order)).flatten()?;
    Some(Bound::Range((from, to)))
}

impl Bound {
    fn range(self) -> Option<Range> {
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

/// Ranges in order, those joined that have values in common.
fn apart(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut apart: Vec<Range> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match apart.last_mut() {
            Some((_, Some(end))) if from < *end => *end = end.clone().max(to.unwrap_or_default()),
            Some((before, end @ None)) if *before == from => *end = to,
            _ => apart.push((from, to)),
        }
    }
    apart
}

/// A text to look for in cells, whatever its case and form.
#[derive(Clone, Debug)]
pub(super) struct Contains {
    /// The folded text.
    pub(super) text: String,
    /// It in any case, for cells of stable characters.
    pattern: Regex,
    needle: Needle,
}

impl Contains {
    pub(super) fn new(text: &str) -> Result<Self, Error> {
        let needle = Needle::new(text);
        let text = needle.text();
        Ok(Self { pattern: containing(&text)?, text, needle })
    }

    /// Whether a cell contains it.
    #[inline]
    pub(super) fn is_in(&self, cell: &[u8]) -> bool {
        match fold::next_unstable(cell, 0) {
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
    // The crate's own text has several lines, with the pattern and a marker below it; the last one says why.
    built.map_err(|error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default();
        Error::Pattern(why.strip_prefix("error: ").unwrap_or(why).to_owned())
    })
}
