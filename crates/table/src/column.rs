//! The type of a column, derived from counts of its cells.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use crate::reading::Reading;
use crate::scan;
use crate::value::{self, DateOrder, DecimalMark, Kind, Number, date, fold, text};
use crate::{CellValue, Control, Error};

/// The number of cells of each kind in a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Empty cells, and rows that are too short.
    pub empty: u64,
    /// Signs and words for a missing value, such as `N/A` and `-`.
    pub missing: u64,
    /// Whole numbers.
    pub integer: u64,
    /// Other numbers.
    pub decimal: u64,
    /// Dates and times.
    pub date: u64,
    /// Booleans.
    pub boolean: u64,
    /// Anything else.
    pub text: u64,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// All cells are empty.
    Empty,
    /// Whole numbers.
    Integer,
    /// Numbers.
    Decimal,
    /// Dates or times.
    Date,
    /// Booleans.
    Boolean,
    /// Text.
    Text,
}

impl ColumnType {
    /// Whether it sorts by number.
    pub const fn is_numeric(self) -> bool {
        matches!(self, Self::Integer | Self::Decimal)
    }
}

impl Kinds {
    pub(crate) fn count(&mut self, kind: Kind) {
        *match kind {
            Kind::Empty => &mut self.empty,
            Kind::Missing => &mut self.missing,
            Kind::Integer => &mut self.integer,
            Kind::Decimal => &mut self.decimal,
            Kind::Date => &mut self.date,
            Kind::Boolean => &mut self.boolean,
            Kind::Text => &mut self.text,
        } += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.empty += other.empty;
        self.missing += other.missing;
        self.integer += other.integer;
        self.decimal += other.decimal;
        self.date += other.date;
        self.boolean += other.boolean;
        self.text += other.text;
    }

    /// The number of cells that are numbers.
    pub const fn numbers(&self) -> u64 {
        self.integer + self.decimal
    }

    /// The type of at least three quarters of the cells with a value: some words do not turn a column of numbers into
    /// text. Booleans require nine tenths, because `yes` and `no` also occur among other answers.
    pub fn column_type(&self) -> ColumnType {
        let filled = self.numbers() + self.date + self.boolean + self.text;
        let most = |count: u64| count * 4 >= filled * 3;
        if filled == 0 {
            if self.missing > 0 { ColumnType::Text } else { ColumnType::Empty }
        } else if most(self.integer) && self.decimal == 0 {
            ColumnType::Integer
        } else if most(self.numbers()) {
            ColumnType::Decimal
        } else if most(self.date) {
            ColumnType::Date
        } else if self.boolean * 10 >= filled * 9 {
            ColumnType::Boolean
        } else {
            ColumnType::Text
        }
    }
}

/// A chosen type of a column.
///
/// Its text form is `text`, `number`, `number:.` or `number:,` (with the decimal mark), `boolean`, `date`,
/// `date:d/m/Y`, `date:m/d/Y` or `date:Y-m-d` (the order of day and month; any separators).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeChoice {
    /// Text, whatever the cells look like.
    Text,
    /// Numbers, with this decimal mark if it is given.
    Number(Option<DecimalMark>),
    /// Dates and times, in this order if it is given.
    Date(Option<DateOrder>),
    /// Booleans.
    Boolean,
}

/// The chosen types, by column.
pub type TypeChoices = BTreeMap<usize, TypeChoice>;

/// A text that is not a [`TypeChoice`].
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "must be text, number, number:. or number:, (the decimal mark), boolean, date, date:d/m/Y, date:m/d/Y or date:Y-m-d"
)]
pub struct UnknownType;

impl FromStr for TypeChoice {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let (name, format) = text.split_once(':').map_or((text, None), |(name, format)| (name, Some(format)));
        Ok(match (name, format) {
            ("text", None) => Self::Text,
            ("number" | "integer" | "decimal", None) => Self::Number(None),
            ("number" | "integer" | "decimal", Some(".")) => Self::Number(Some(DecimalMark::Point)),
            ("number" | "integer" | "decimal", Some(",")) => Self::Number(Some(DecimalMark::Comma)),
            ("boolean", None) => Self::Boolean,
            ("date", None) => Self::Date(None),
            ("date", Some(format)) => {
                let letters: String = format
                    .chars()
                    .filter(char::is_ascii_alphabetic)
                    .map(|letter| letter.to_ascii_lowercase())
                    .collect();
                Self::Date(Some(match &letters[..3.min(letters.len())] {
                    "dmy" => DateOrder::DayFirst,
                    "mdy" => DateOrder::MonthFirst,
                    "ymd" => DateOrder::YearFirst,
                    _ => return Err(UnknownType),
                }))
            }
            _ => return Err(UnknownType),
        })
    }
}

impl fmt::Display for TypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Number(None) => "number",
            Self::Number(Some(DecimalMark::Point)) => "number:.",
            Self::Number(Some(DecimalMark::Comma)) => "number:,",
            Self::Date(None) => "date",
            Self::Date(Some(DateOrder::DayFirst)) => "date:d/m/Y",
            Self::Date(Some(DateOrder::MonthFirst)) => "date:m/d/Y",
            Self::Date(Some(DateOrder::YearFirst)) => "date:Y-m-d",
            Self::Boolean => "boolean",
        })
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Date => "date",
            Self::Boolean => "boolean",
            Self::Text => "text",
        })
    }
}

/// How the cells of a column are interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnFormat {
    pub(crate) decimal_mark: DecimalMark,
    pub(crate) order: DateOrder,
    pub(crate) column_type: ColumnType,
}

impl ColumnFormat {
    /// Appends a sort key of a cell, for a column of another type than text. Keys compare as bytes like the values.
    /// Returns whether the cell has a value. No key is a prefix of a different one.
    pub(crate) fn write_key(&self, cell: &[u8], key: &mut Vec<u8>) -> bool {
        match self.column_type {
            ColumnType::Integer | ColumnType::Decimal => {
                Number::parse(cell, self.decimal_mark).map(|number| number.write_key(key)).is_some()
            }
            ColumnType::Date => date::parse(cell, self.order).map(|instant| instant.write_key(key)).is_some(),
            ColumnType::Boolean => value::boolean(cell).map(|is| key.push(boolean_key(is))).is_some(),
            ColumnType::Empty | ColumnType::Text => false,
        }
    }

    /// Whether cells are compared as text.
    pub(crate) const fn is_text(&self) -> bool {
        matches!(self.column_type, ColumnType::Empty | ColumnType::Text)
    }
}

/// Appends the key of a cell that groups have in common; see [`CellFormat::write_key`](crate::CellFormat::write_key).
pub(crate) fn group_key(format: &ColumnFormat, cell: &[u8], key: &mut Vec<u8>) -> CellValue {
    if cell.is_empty() {
        key.push(EMPTY_KEY);
        return CellValue::Empty;
    }
    let is_text = format.is_text();
    if !is_text && format.write_key(cell, key) {
        return CellValue::Value;
    }
    key.push(if is_text { TEXT_KEY } else { OTHER_KEY });
    let shown = String::from_utf8_lossy(cell);
    match fold::next_unstable(shown.as_bytes(), 0, fold::Folding::Case) {
        None => text::write_key(shown.as_bytes(), false, key),
        Some(_) => text::write_key(fold::compose(&shown).as_bytes(), false, key),
    }
    if is_text { CellValue::Value } else { CellValue::Other }
}

/// The first bytes of keys of groups that are no values of a type: above those of values.
pub(crate) const TEXT_KEY: u8 = 0x20;
pub(crate) const OTHER_KEY: u8 = 0xFE;
const EMPTY_KEY: u8 = 0xFF;

/// The key of a boolean: between instants and the smallest byte above all values.
pub(crate) const fn boolean_key(is: bool) -> u8 {
    if is { 0x1D } else { 0x1C }
}

/// The formats of some columns.
#[derive(PartialEq, Eq)]
pub(crate) struct ColumnFormats(HashMap<usize, ColumnFormat>);

impl ColumnFormats {
    /// The format of a requested column.
    pub(crate) fn get(&self, column: usize) -> ColumnFormat {
        self.0[&column]
    }
}

/// The number of sampled blocks: at most one mebibyte, which takes some milliseconds.
const SAMPLE: usize = 64;

impl Reading {
    /// The formats of these columns: as chosen in `types`, otherwise from blocks that are spread over the file. The
    /// result for a file is always the same.
    pub(crate) fn column_formats(
        &self,
        columns: &[usize],
        types: &TypeChoices,
        control: Control<'_>,
    ) -> Result<ColumnFormats, Error> {
        let keep = columns.iter().max().map_or(0, |most| most + 1);
        let (chunks, first) = (scan::sample(&self.state(), SAMPLE), self.first_line());
        let (syntax, overlay) = (self.dialect().syntax, self.overlay());
        let mut samples = vec![Sample::default(); columns.len()];
        self.scan(
            &chunks,
            control,
            (0.0, 0.0),
            |chunk, bytes, scratch| {
                let mut samples = vec![Sample::default(); columns.len()];
                scratch.layout.fill(syntax, bytes, keep);
                for row in (first.saturating_sub(chunk.line) as usize)..scratch.layout.len() {
                    if overlay.as_ref().is_some_and(|overlay| !overlay.is_row(chunk.line + row as u64)) {
                        continue;
                    }
                    let line = scratch.layout.line(bytes, row);
                    for (column, sample) in columns.iter().zip(&mut samples) {
                        sample.count(syntax.unquote(line.raw(*column), &mut scratch.spare));
                    }
                }
                samples
            },
            |found| {
                samples.iter_mut().zip(&found).for_each(|(sample, found)| sample.add(found));
                Ok(())
            },
        )?;
        let column_formats = columns.iter().zip(&samples).map(|(column, sample)| {
            let choice = types.get(column).or_else(|| self.declared_types().get(column)).copied();
            (*column, sample.format(syntax.delimiter() == b';', choice))
        });
        Ok(ColumnFormats(column_formats.collect()))
    }
}

/// The kinds of some cells of a column.
#[derive(Clone, Copy, Default)]
struct Sample {
    /// With a decimal point, and with a decimal comma.
    kinds: [Kinds; 2],
    /// The dates that are valid with the day first, and with the month first.
    orders: [u64; 2],
}

impl Sample {
    fn count(&mut self, cell: &[u8]) {
        let kind = Kind::classify(cell, DecimalMark::Point);
        self.kinds[0].count(kind);
        let has_mark = matches!(kind, Kind::Integer | Kind::Decimal | Kind::Text | Kind::Date);
        self.kinds[1].count(if has_mark { Kind::classify(cell, DecimalMark::Comma) } else { kind });
        if kind == Kind::Date {
            let is = |order| u64::from(date::parse(cell, order).is_some());
            self.orders[0] += is(DateOrder::DayFirst);
            self.orders[1] += is(DateOrder::MonthFirst);
        }
    }

    fn add(&mut self, other: &Self) {
        self.kinds.iter_mut().zip(&other.kinds).for_each(|(kinds, other)| kinds.add(other));
        self.orders.iter_mut().zip(&other.orders).for_each(|(orders, other)| *orders += other);
    }

    /// `semicolons`: cells are separated by semicolons, as in files with decimal commas.
    fn format(&self, semicolons: bool, choice: Option<TypeChoice>) -> ColumnFormat {
        let [point, comma] = &self.kinds;
        // A comma is the decimal mark if more cells are numbers with it; `1,234` alone is a thousands group. If all
        // cells are numbers in both styles, `1.234` is a group if all such cells can be groups and the file uses
        // decimal commas.
        let is_comma = comma.numbers() > point.numbers()
            || semicolons && comma.numbers() == point.numbers() && comma.integer > point.integer;
        let mut decimal_mark = if is_comma { DecimalMark::Comma } else { DecimalMark::Point };
        // If no day is above 12, the day comes first, as in most countries.
        let mut order =
            if self.orders[1] > self.orders[0] { DateOrder::MonthFirst } else { DateOrder::DayFirst };
        let mut column_type = if is_comma { comma } else { point }.column_type();
        match choice {
            Some(TypeChoice::Text) => column_type = ColumnType::Text,
            Some(TypeChoice::Boolean) => column_type = ColumnType::Boolean,
            Some(TypeChoice::Number(chosen)) => {
                decimal_mark = chosen.unwrap_or(decimal_mark);
                if !column_type.is_numeric() || chosen.is_some() {
                    column_type = ColumnType::Decimal;
                }
            }
            Some(TypeChoice::Date(chosen)) => {
                order = chosen.unwrap_or(order);
                column_type = ColumnType::Date;
            }
            None => {}
        }
        ColumnFormat { decimal_mark, order, column_type }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_parsed_from_its_name() {
        for (text, choice) in [
            ("text", TypeChoice::Text),
            ("number", TypeChoice::Number(None)),
            ("decimal:,", TypeChoice::Number(Some(DecimalMark::Comma))),
            ("date", TypeChoice::Date(None)),
            ("date:d/m/Y", TypeChoice::Date(Some(DateOrder::DayFirst))),
            ("date:m-d-y", TypeChoice::Date(Some(DateOrder::MonthFirst))),
            ("date:Y-m-d H:M", TypeChoice::Date(Some(DateOrder::YearFirst))),
            ("boolean", TypeChoice::Boolean),
        ] {
            assert_eq!(text.parse(), Ok(choice), "{text}");
        }
        for choice in [TypeChoice::Number(Some(DecimalMark::Comma)), TypeChoice::Date(None)] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for text in ["", "money", "date:", "date:x", "number:;", "text:x"] {
            assert_eq!(text.parse::<TypeChoice>(), Err(UnknownType), "{text}");
        }
    }
}
