//! Values of cells: numbers, dates, booleans, text. They are used to sort, to compare, to group and to compute facts; the
//! cells themselves are not changed.
//!
//! ```text
//! number.rs, amount.rs  numbers as programs and people write them
//! date.rs               dates and times         text.rs, fold.rs  the order and the equality of text
//! reject.rs             cells that are no values, by their bytes
//! distinct.rs           numbers of different values
//! ```
//!
//! The crate parses bytes of memory: it uses no file, thread or clock.
//!
//! Invariants: a key compares byte by byte like its value, and no key is a prefix of a different one.

mod amount;
pub mod date;
pub mod distinct;
pub mod fold;
mod number;
mod reject;
pub mod text;

pub use date::DateOrder;
pub use number::Number;
pub use reject::is_surely_text;

/// The kind of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No bytes.
    Empty,
    /// A sign or word for a missing value: `N/A`, `-`, `null`.
    Missing,
    /// A whole number, leading zeros allowed: `-12`, `007`, `1,234,567`, `12 €`.
    Integer,
    /// A number with a fraction or an exponent: `1.5`, `1,5` (see [`DecimalMark`]), `6e23`, `(1,250.00)`.
    Decimal,
    /// A date, a time, or both ([`date`] lists the forms).
    Date,
    /// `true`, `false`, `yes` or `no` in any case.
    Boolean,
    /// Anything else.
    Text,
}

/// The value of a cell.
#[derive(Clone, Copy, Debug)]
pub enum CellValue<'a> {
    /// A number.
    Number(Number<'a>),
    /// A date, a time, or both.
    Instant(date::Instant<'a>),
}

/// The decimal mark of a column's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecimalMark {
    /// `1.5` and `1,234.5`.
    #[default]
    Point,
    /// `1,5` and `1.234,5`.
    Comma,
}

impl DecimalMark {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Point => b'.',
            Self::Comma => b',',
        }
    }
}

/// The longest cell that is parsed as an amount, a date or a word for a missing value, in bytes.
const MAX_CELL: usize = 64;

/// Words and signs for a missing value, in lower case.
const MISSING: [&str; 28] = [
    "n/a", "na", "#n/a", "n.a.", "n. a.", "nan", "null", "(null)", "<null>", "nil", "none", "\\n", "-", "--",
    "---", "–", "—", "?", ".", "..", "...", "…", "k.a.", "k. a.", "#value!", "#div/0!", "#ref!", "tbd",
];

impl Kind {
    /// The kind of `cell` with this decimal mark.
    pub fn classify(cell: &[u8], decimal_mark: DecimalMark) -> Self {
        Self::with_value(cell, decimal_mark, DateOrder::DayFirst).0
    }

    /// The kind of `cell`, and its number, or its instant with days in this order, if it is one.
    #[inline]
    pub fn with_value(
        cell: &[u8],
        decimal_mark: DecimalMark,
        order: DateOrder,
    ) -> (Self, Option<CellValue<'_>>) {
        let Some(first) = cell.first() else { return (Self::Empty, None) };
        match first {
            b'0'..=b'9' | b'+' | b'-' | b'.' | b',' | b' ' => {
                if let Some(number) = Number::parse_plain(cell, decimal_mark) {
                    return Self::of_number(number);
                }
            }
            b't' | b'T' | b'f' | b'F' | b'y' | b'Y' | b'n' | b'N' if boolean(cell).is_some() => {
                return (Self::Boolean, None);
            }
            _ => {}
        }
        if cell.len() > MAX_CELL {
            return (Self::Text, None);
        }
        if let Some(number) = amount::parse(cell, decimal_mark) {
            return Self::of_number(number);
        }
        if is_missing(cell) {
            return (Self::Missing, None);
        }
        if !reject::may_be_date(cell) {
            return (Self::Text, None);
        }
        // A cell that is a date only with its year first is text.
        let (is_date, instant) = match order {
            DateOrder::YearFirst => (date::is_date(cell), date::parse(cell, order)),
            DateOrder::DayFirst | DateOrder::MonthFirst => match date::parse(cell, order) {
                None => (date::is_date(cell), None),
                instant => (true, instant),
            },
        };
        let kind = if is_date { Self::Date } else { Self::Text };
        (kind, instant.map(CellValue::Instant))
    }

    const fn of_number(number: Number<'_>) -> (Self, Option<CellValue<'_>>) {
        let kind = if number.is_integer() { Self::Integer } else { Self::Decimal };
        (kind, Some(CellValue::Number(number)))
    }

    /// Whether `cell` is a value in a form that programs write, with any decimal mark. Only these forms are evidence
    /// for a delimiter: `12 500 300` is one number, or three cells separated by spaces.
    pub fn is_plain_value(cell: &[u8]) -> bool {
        let is_number = |decimal_mark| Number::parse_plain(cell, decimal_mark).is_some();
        match cell.first() {
            None => true,
            Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b',' | b' ') => {
                is_number(DecimalMark::Point) || is_number(DecimalMark::Comma) || date::is_iso(cell)
            }
            Some(_) => boolean(cell).is_some(),
        }
    }
}

/// The value of a cell that is a boolean.
pub fn boolean(cell: &[u8]) -> Option<bool> {
    let is = |word: &[u8]| cell.eq_ignore_ascii_case(word);
    if is(b"true") || is(b"yes") { Some(true) } else { (is(b"false") || is(b"no")).then_some(false) }
}

/// Whether a cell stands for a missing value.
#[inline]
pub fn is_missing(cell: &[u8]) -> bool {
    let cell = cell.trim_ascii();
    cell.len() <= 8
        && reject::may_be_missing(cell)
        && MISSING.iter().any(|word| cell.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether a character is a space within or around values, including no-break and narrow spaces.
pub const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{A0}' | '\u{2007}' | '\u{2009}' | '\u{202F}' | '\u{FEFF}')
}
