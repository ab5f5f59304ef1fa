//! The cells of a worksheet (ECMA-376 Part 1 §18.3.1).
//!
//! Invariant: one row is in memory, of at most [`MAX_ROW`].

use std::borrow::Cow;

use quick_xml::events::{BytesStart, Event};

use super::format::Epoch;
use super::strings::{Strings, Texts};
use super::styles::Styles;
use super::xml::{self, Part, attribute};
use super::{invalid, too_large};
use crate::FormatError;
use crate::text::RowWriter;

/// The columns of a worksheet: up to XFD.
const MAX_COLUMNS: usize = 16_384;

/// The most bytes of a row.
const MAX_ROW: usize = 64 << 20;

/// The events between two calls of the sink, which may cancel.
const STEP: u64 = 1 << 16;

/// Converts a worksheet.
pub(super) struct Cells<'a, 'b> {
    part: Part<'a>,
    strings: &'b Strings,
    styles: &'b Styles,
    epoch: Epoch,
    state: State,
}

#[derive(Default)]
struct State {
    cell: Cell,
    /// The text of the current element.
    text: String,
    /// Whether the text of the current element belongs to the cell.
    is_text: bool,
    inline: Texts,
    /// The cells of the row so far, and the column of the next one.
    row: Vec<String>,
    row_bytes: usize,
    next: usize,
    /// The width of the widest row so far.
    width: usize,
    rows: RowWriter,
}

/// A cell before it is complete.
#[derive(Default)]
struct Cell {
    column: usize,
    kind: Kind,
    style: usize,
    value: Option<String>,
    formula: String,
    inline: String,
}

/// The type of a cell (§18.18.11).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Number,
    Shared,
    Boolean,
    /// A string, an error or an ISO date as it is written.
    Text,
    Inline,
}

impl<'a, 'b> Cells<'a, 'b> {
    pub(super) fn new(part: Part<'a>, strings: &'b Strings, styles: &'b Styles, epoch: Epoch) -> Self {
        Self { part, strings, styles, epoch, state: State::default() }
    }

    /// Passes all rows to `sink`.
    pub(super) fn write<E: From<FormatError>>(
        mut self,
        sink: &mut impl FnMut(&[u8], f32) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut events = 0_u64;
        loop {
            let (state, strings, styles, epoch) = (&mut self.state, self.strings, self.styles, self.epoch);
            let more = self.part.next(|event| {
                state.take(event, strings, styles, epoch)?;
                Ok(!matches!(event, Event::Eof))
            })?;
            let part = self.part.progress();
            self.state.rows.flush(!more, &mut |text: &[u8]| sink(text, part))?;
            if !more {
                return Ok(());
            }
            events += 1;
            if events.is_multiple_of(STEP) {
                sink(b"", part)?;
            }
        }
    }
}

impl State {
    fn take(
        &mut self,
        event: &Event<'_>,
        strings: &Strings,
        styles: &Styles,
        epoch: Epoch,
    ) -> Result<(), FormatError> {
        match event {
            Event::Start(element) => match element.local_name().as_ref() {
                b"row" => self.next = 0,
                b"c" => self.begin_cell(element)?,
                b"v" | b"f" => {
                    self.text.clear();
                    self.is_text = true;
                }
                b"is" => self.inline = Texts::default(),
                _ if self.cell.kind == Kind::Inline => self.inline.take(event, &mut self.cell.inline)?,
                _ => {}
            },
            Event::End(element) => match element.local_name().as_ref() {
                b"row" => self.end_row()?,
                b"c" => self.end_cell(strings, styles, epoch)?,
                b"v" => {
                    self.cell.value = Some(std::mem::take(&mut self.text));
                    self.is_text = false;
                }
                b"f" => {
                    self.cell.formula = std::mem::take(&mut self.text);
                    self.is_text = false;
                }
                _ if self.cell.kind == Kind::Inline => self.inline.take(event, &mut self.cell.inline)?,
                _ => {}
            },
            // An empty cell has a style alone.
            Event::Empty(element) if element.local_name().as_ref() == b"c" => {
                self.begin_cell(element)?;
                self.next = self.cell.column + 1;
            }
            _ if self.is_text => {
                xml::text(event, &mut self.text)?;
                check_row(self.text.len())?;
            }
            _ if self.cell.kind == Kind::Inline => {
                self.inline.take(event, &mut self.cell.inline)?;
                check_row(self.cell.inline.len())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn begin_cell(&mut self, element: &BytesStart<'_>) -> Result<(), FormatError> {
        let column = match attribute(element, "r") {
            Some(place) => column(&place).ok_or_else(|| invalid(&format!("a cell at {place:?}")))?,
            None => self.next,
        };
        if column >= MAX_COLUMNS || column < self.next {
            return Err(invalid(&format!("a cell in column {} after column {}", column + 1, self.next)));
        }
        let kind = match attribute(element, "t").as_deref() {
            None | Some("n") => Kind::Number,
            Some("s") => Kind::Shared,
            Some("b") => Kind::Boolean,
            Some("inlineStr") => Kind::Inline,
            Some(_) => Kind::Text,
        };
        let style = attribute(element, "s").and_then(|style| style.parse().ok()).unwrap_or(0);
        self.cell = Cell { column, kind, style, ..Cell::default() };
        Ok(())
    }

    fn end_cell(&mut self, strings: &Strings, styles: &Styles, epoch: Epoch) -> Result<(), FormatError> {
        let cell = std::mem::take(&mut self.cell);
        self.next = cell.column + 1;
        let text = cell.text(strings, styles, epoch)?;
        if text.is_empty() {
            return Ok(());
        }
        self.row_bytes += text.len() + 1;
        check_row(self.row_bytes)?;
        let text = text.into_owned();
        self.row.resize(cell.column, String::new());
        self.row.push(text);
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), FormatError> {
        self.next = 0;
        if self.row.is_empty() {
            return Ok(());
        }
        self.width = self.width.max(self.row.len());
        self.row.iter().for_each(|cell| self.rows.cell(cell));
        self.rows.end_row(self.width);
        (self.row_bytes, self.row) = (0, Vec::new());
        Ok(())
    }
}

impl Cell {
    fn text<'a>(
        &'a self,
        strings: &'a Strings,
        styles: &Styles,
        epoch: Epoch,
    ) -> Result<Cow<'a, str>, FormatError> {
        if self.kind == Kind::Inline {
            return Ok(Cow::Borrowed(&self.inline));
        }
        let Some(value) = self.value.as_deref().filter(|value| !value.is_empty()) else {
            // A formula without a stored result.
            let formula = &self.formula;
            return Ok(if formula.is_empty() { Cow::Borrowed("") } else { format!("={formula}").into() });
        };
        Ok(match self.kind {
            Kind::Shared => {
                let string = value.trim().parse().ok().and_then(|number| strings.get(number));
                Cow::Borrowed(string.ok_or_else(|| invalid(&format!("no shared string {value}")))?)
            }
            Kind::Boolean => Cow::Borrowed(if value.trim() == "0" { "FALSE" } else { "TRUE" }),
            Kind::Text | Kind::Inline => Cow::Borrowed(value),
            Kind::Number => match value.trim().parse::<f64>() {
                Ok(number) => {
                    let mut out = String::new();
                    styles.get(self.style).show(number, value.trim(), epoch, &mut out);
                    Cow::Owned(out)
                }
                Err(_) => Cow::Borrowed(value),
            },
        })
    }
}

fn check_row(bytes: usize) -> Result<(), FormatError> {
    if bytes > MAX_ROW {
        return Err(too_large("a longer row", &format!("{MAX_ROW} bytes")));
    }
    Ok(())
}

/// The column of a reference such as `AB12`, counted from 0.
fn column(place: &str) -> Option<usize> {
    let letters = place.bytes().take_while(u8::is_ascii_alphabetic).take(4);
    let number = letters
        .fold(0_usize, |number, letter| number * 26 + usize::from(letter.to_ascii_uppercase() - b'A') + 1);
    number.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::column;

    #[test]
    fn a_reference_names_a_column() {
        for (place, number) in [("A1", 0), ("Z9", 25), ("AA10", 26), ("XFD1048576", 16_383)] {
            assert_eq!(column(place), Some(number));
        }
        assert_eq!(column("12"), None);
    }
}
