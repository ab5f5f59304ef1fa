//! Conditions on the cells of one column.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use crate::Error;
use crate::column::Nature;
use crate::value::Number;

/// The memory that one regular expression may take, compiled.
const PATTERN_BYTES: usize = 1 << 20;

/// A condition on the cells of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Counted from 0.
    pub column: usize,
    /// What is compared.
    pub op: Op,
    /// With what; not looked at by [`Op::Empty`].
    pub value: String,
}

/// How cells are compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The cell contains the value, in upper or lower case.
    Contains,
    /// The cell is the value, byte by byte.
    Equals,
    /// The cell is not the value.
    Not,
    /// The cell is less: as numbers when the value is one (cells that are none are not found), else as text.
    /// Empty cells are never found by an order.
    Less,
    /// The cell is less or equal.
    LessOrEqual,
    /// The cell is greater.
    Greater,
    /// The cell is greater or equal.
    GreaterOrEqual,
    /// The cell is empty, or its row too short.
    Empty,
    /// The regular expression (syntax of the crate `regex`) matches somewhere in the cell.
    Matches,
}

impl Op {
    /// Every operation, in the order in which they are documented.
    pub const ALL: [Self; 9] = [
        Self::Contains,
        Self::Equals,
        Self::Not,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
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
#[error("must be contains, equals, not, <, <=, >, >=, empty or regex")]
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
    op: Op,
    value: Vec<u8>,
    pattern: Option<Regex>,
}

impl Test {
    pub(super) fn new(filter: &Filter, nature: Nature) -> Result<Self, Error> {
        let pattern = match filter.op {
            Op::Contains => Some(containing(&filter.value)?),
            Op::Matches => Some(pattern(&filter.value, false)?),
            _ => None,
        };
        let value = filter.value.clone().into_bytes();
        Ok(Self { column: filter.column, nature, op: filter.op, value, pattern })
    }

    /// A text that every cell that is found contains, and whether in its own case; empty when there is none.
    pub(super) fn needle(&self) -> (&[u8], bool) {
        match self.op {
            Op::Contains => (&self.value, false),
            Op::Equals => (&self.value, true),
            _ => (b"", true),
        }
    }

    /// Whether it finds this cell.
    #[inline]
    pub(super) fn finds(&self, cell: &[u8]) -> bool {
        match self.op {
            Op::Contains | Op::Matches => self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(cell)),
            Op::Equals => cell == self.value,
            Op::Not => cell != self.value,
            Op::Empty => cell.is_empty(),
            Op::Less => self.order(cell).is_some_and(Ordering::is_lt),
            Op::LessOrEqual => self.order(cell).is_some_and(Ordering::is_le),
            Op::Greater => self.order(cell).is_some_and(Ordering::is_gt),
            Op::GreaterOrEqual => self.order(cell).is_some_and(Ordering::is_ge),
        }
    }

    /// How the cell compares with the value, if it does.
    fn order(&self, cell: &[u8]) -> Option<Ordering> {
        if cell.is_empty() {
            return None;
        }
        match Number::parse(&self.value, self.nature.style) {
            Some(value) => Some(Number::parse(cell, self.nature.style)?.compare(&value)),
            None => Some(cell.cmp(&self.value)),
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
