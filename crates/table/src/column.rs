//! What kind of values a column has, from counts of its cells.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use crate::reading::Reading;
use crate::scan;
use crate::value::{self, DateOrder, Kind, Number, Style, date};
use crate::{Control, Error};

/// How many cells of each kind a column has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Cells without a byte, and rows that are too short.
    pub empty: u64,
    /// Signs and words that stand for a missing value, such as `N/A` and `-`.
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

/// What kind of values a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Nothing but empty cells.
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

    /// The cells that are numbers.
    pub const fn numbers(&self) -> u64 {
        self.integer + self.decimal
    }

    /// The type that at least three in four of the cells have that hold a value: some words make no column of numbers a
    /// column of text. Of booleans it takes nine in ten, since `yes` and `no` are answers beside others too.
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

/// What the values of a column are to be understood as, where that is not left to a look at them.
///
/// As text it is `text`, `number`, `number:.` or `number:,` (the decimal mark), `boolean`, `date`, `date:d/m/Y`,
/// `date:m/d/Y` or `date:Y-m-d` (which number is the day; any signs between the letters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeChoice {
    /// Text, whatever it looks like.
    Text,
    /// Numbers, written in this style if it is given.
    Number(Option<Style>),
    /// Dates and times, in this order if it is given.
    Date(Option<DateOrder>),
    /// Booleans.
    Boolean,
}

/// The types that were chosen, by column.
pub type Types = BTreeMap<usize, TypeChoice>;

/// A text that is not the name of a [`TypeChoice`].
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
            ("number" | "integer" | "decimal", Some(".")) => Self::Number(Some(Style::Point)),
            ("number" | "integer" | "decimal", Some(",")) => Self::Number(Some(Style::Comma)),
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

/// How the values of a column are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nature {
    pub(crate) style: Style,
    pub(crate) order: DateOrder,
    pub(crate) column_type: ColumnType,
}

impl Nature {
    /// Appends bytes that compare as the values of cells do, for a column that has other values than text; gives whether
    /// `cell` has one. No such key is the beginning of another one's.
    pub(crate) fn write_key(&self, cell: &[u8], key: &mut Vec<u8>) -> bool {
        match self.column_type {
            ColumnType::Integer | ColumnType::Decimal => {
                Number::parse(cell, self.style).map(|number| number.write_key(key)).is_some()
            }
            ColumnType::Date => date::parse(cell, self.order).map(|instant| instant.write_key(key)).is_some(),
            ColumnType::Boolean => value::boolean(cell).map(|is| key.push(boolean_key(is))).is_some(),
            ColumnType::Empty | ColumnType::Text => false,
        }
    }

    /// Whether its cells have no values but text.
    pub(crate) const fn is_text(&self) -> bool {
        matches!(self.column_type, ColumnType::Empty | ColumnType::Text)
    }
}

/// The key of a boolean: between those of instants and the least that is more than any value.
pub(crate) const fn boolean_key(is: bool) -> u8 {
    if is { 0x1D } else { 0x1C }
}

/// The natures of some columns.
pub(crate) struct Natures(HashMap<usize, Nature>);

impl Natures {
    /// The nature of a column that was asked for.
    pub(crate) fn get(&self, column: usize) -> Nature {
        self.0[&column]
    }
}

/// How many blocks speak for a column: a mebibyte at most, some milliseconds.
const SAMPLE: usize = 64;

impl Reading {
    /// How the values of these columns are to be understood: as was chosen in `types`, else from blocks spread over the
    /// whole file, for the same file always the same.
    pub(crate) fn natures(
        &self,
        columns: &[usize],
        types: &Types,
        control: Control<'_>,
    ) -> Result<Natures, Error> {
        let keep = columns.iter().max().map_or(0, |most| most + 1);
        let (chunks, first) = (scan::sample(&self.state(), SAMPLE), self.first_line());
        let syntax = self.dialect().syntax;
        let mut samples = vec![Sample::default(); columns.len()];
        self.scan(
            &chunks,
            control,
            (0.0, 0.0),
            |chunk, bytes, scratch| {
                let mut samples = vec![Sample::default(); columns.len()];
                scratch.layout.fill(syntax, bytes, keep);
                for row in (first.saturating_sub(chunk.line) as usize)..scratch.layout.len() {
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
        let natures = columns.iter().zip(&samples).map(|(column, sample)| {
            (*column, sample.nature(syntax.delimiter() == b';', types.get(column).copied()))
        });
        Ok(Natures(natures.collect()))
    }
}

/// What some cells of a column look like.
#[derive(Clone, Copy, Default)]
struct Sample {
    /// With a decimal point, and with a decimal comma.
    kinds: [Kinds; 2],
    /// Dates that can have their day first, and their month first.
    orders: [u64; 2],
}

impl Sample {
    fn count(&mut self, cell: &[u8]) {
        let kind = Kind::classify(cell, Style::Point);
        self.kinds[0].count(kind);
        let has_mark = matches!(kind, Kind::Integer | Kind::Decimal | Kind::Text | Kind::Date);
        self.kinds[1].count(if has_mark { Kind::classify(cell, Style::Comma) } else { kind });
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

    /// `semicolons`: the cells are divided by semicolons, as where commas are decimal marks.
    fn nature(&self, semicolons: bool, choice: Option<TypeChoice>) -> Nature {
        let [point, comma] = &self.kinds;
        // A comma is a decimal mark where more cells are numbers with it; `1,234` alone is grouped. Where all are numbers
        // either way, `1.234` is grouped if all such cells can be and the file is one with decimal commas.
        let is_comma = comma.numbers() > point.numbers()
            || semicolons && comma.numbers() == point.numbers() && comma.integer > point.integer;
        let mut style = if is_comma { Style::Comma } else { Style::Point };
        // Where no day is above 12, the day comes first, as in most of the world.
        let mut order =
            if self.orders[1] > self.orders[0] { DateOrder::MonthFirst } else { DateOrder::DayFirst };
        let mut column_type = if is_comma { comma } else { point }.column_type();
        match choice {
            Some(TypeChoice::Text) => column_type = ColumnType::Text,
            Some(TypeChoice::Boolean) => column_type = ColumnType::Boolean,
            Some(TypeChoice::Number(chosen)) => {
                style = chosen.unwrap_or(style);
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
        Nature { style, order, column_type }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_chosen_by_its_name() {
        for (text, choice) in [
            ("text", TypeChoice::Text),
            ("number", TypeChoice::Number(None)),
            ("decimal:,", TypeChoice::Number(Some(Style::Comma))),
            ("date", TypeChoice::Date(None)),
            ("date:d/m/Y", TypeChoice::Date(Some(DateOrder::DayFirst))),
            ("date:m-d-y", TypeChoice::Date(Some(DateOrder::MonthFirst))),
            ("date:Y-m-d H:M", TypeChoice::Date(Some(DateOrder::YearFirst))),
            ("boolean", TypeChoice::Boolean),
        ] {
            assert_eq!(text.parse(), Ok(choice), "{text}");
        }
        for text in ["", "money", "date:", "date:x", "number:;", "text:x"] {
            assert_eq!(text.parse::<TypeChoice>(), Err(UnknownType), "{text}");
        }
    }
}
