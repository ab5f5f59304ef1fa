//! What kind of values a column has, from counts of its cells.

use std::collections::HashMap;

use crate::reading::Reading;
use crate::scan;
use crate::value::{Kind, Style};
use crate::{Control, Error};

/// How many cells of each kind a column has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Cells without a byte, and rows that are too short.
    pub empty: u64,
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
            Kind::Integer => &mut self.integer,
            Kind::Decimal => &mut self.decimal,
            Kind::Date => &mut self.date,
            Kind::Boolean => &mut self.boolean,
            Kind::Text => &mut self.text,
        } += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.empty += other.empty;
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

    /// The type that at least nine in ten of the cells have that are not empty: a few `n/a` make no column of
    /// numbers a column of text.
    pub fn column_type(&self) -> ColumnType {
        let filled = self.numbers() + self.date + self.boolean + self.text;
        let most = |count: u64| count * 10 >= filled * 9;
        if filled == 0 {
            ColumnType::Empty
        } else if most(self.integer) && self.decimal == 0 {
            ColumnType::Integer
        } else if most(self.numbers()) {
            ColumnType::Decimal
        } else if most(self.date) {
            ColumnType::Date
        } else if most(self.boolean) {
            ColumnType::Boolean
        } else {
            ColumnType::Text
        }
    }
}

/// How the values of a column are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nature {
    pub(crate) style: Style,
    pub(crate) column_type: ColumnType,
}

/// The natures of some columns.
pub(crate) struct Natures(HashMap<usize, Nature>);

impl Natures {
    /// The nature of a column that was asked for.
    pub(crate) fn of(&self, column: usize) -> Nature {
        self.0[&column]
    }
}

/// How many blocks speak for a column: a mebibyte at most, some milliseconds.
const SAMPLE: usize = 64;

impl Reading {
    /// How the values of these columns are to be understood, from blocks spread over the whole file: for the
    /// same file always the same.
    pub(crate) fn natures(&self, columns: &[usize], control: Control<'_>) -> Result<Natures, Error> {
        let keep = columns.iter().max().map_or(0, |most| most + 1);
        let (chunks, first) = (scan::sample(&self.state(), SAMPLE), self.first_line());
        let syntax = self.dialect().syntax;
        let mut counts = vec![[Kinds::default(); 2]; columns.len()];
        self.scan(
            &chunks,
            control,
            (0.0, 0.0),
            |chunk, bytes, scratch| {
                let mut counts = vec![[Kinds::default(); 2]; columns.len()];
                scratch.layout.fill(syntax, bytes, keep);
                for row in (first.saturating_sub(chunk.line) as usize)..scratch.layout.len() {
                    let line = scratch.layout.line(bytes, row);
                    for (column, counts) in columns.iter().zip(&mut counts) {
                        let cell = syntax.unquote(line.raw(*column), &mut scratch.spare);
                        counts[0].count(Kind::of(cell, Style::Point));
                        counts[1].count(Kind::of(cell, Style::Comma));
                    }
                }
                counts
            },
            |found| {
                for (counts, found) in counts.iter_mut().flatten().zip(found.iter().flatten()) {
                    counts.add(found);
                }
                Ok(())
            },
        )?;
        let nature = |[point, comma]: &[Kinds; 2]| {
            // A comma is a decimal mark where more cells are numbers with it; `1,234` alone is grouped.
            let (style, kinds) =
                if comma.numbers() > point.numbers() { (Style::Comma, comma) } else { (Style::Point, point) };
            Nature { style, column_type: kinds.column_type() }
        };
        Ok(Natures(columns.iter().copied().zip(counts.iter().map(nature)).collect()))
    }
}
