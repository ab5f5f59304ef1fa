//! Guesses whether the first row names the columns.

use std::collections::HashSet;

use super::guess::{CELLS, HEAD_BYTES};
use crate::syntax::{Layout, Syntax};
use crate::value::{Kind, Style};

/// Of so many cells one at least is the first one again, and two in all, where that is a value as they are.
const AGAIN: usize = 20;

/// Whether the first row of `text` is a header. `whole`: nothing follows `text`.
///
/// It is none if there is no name or one is a value itself. (Some may be missing, as above the row numbers that
/// programs write.) Beyond that columns vote: for a header where the first cell is a word above numbers, dates or
/// booleans; against it where it is written just as the cells below (`item-1` above `item-2`) or comes again often. Without
/// a vote a table of several columns has one, as most files do, unless a name is there twice.
pub(super) fn guess(text: &[u8], whole: bool, syntax: Syntax) -> bool {
    let mut layout = Layout::default();
    layout.fill(syntax, text, CELLS);
    if !whole && layout.len() > 2 {
        // The last row may be cut.
        layout.truncate(layout.len() - 1);
    }
    // One row alone is a row; but if all that is seen is a part of the first one, it is judged by its names.
    if layout.len() == 0 || layout.len() == 1 && (whole || text.len() < HEAD_BYTES / 4) {
        return false;
    }
    let first = layout.line(text, 0);
    let mut scratch = Vec::new();
    let names: Vec<Vec<u8>> =
        (0..first.len()).map(|column| syntax.unquote(first.raw(column), &mut scratch).to_vec()).collect();
    let is_value = |cell: &[u8]| {
        let is = |style| !matches!(Kind::of(cell, style), Kind::Text);
        is(Style::Point) || is(Style::Comma)
    };
    let named = || names.iter().filter(|name| !name.is_empty());
    let distinct: HashSet<&Vec<u8>> = named().collect();
    if distinct.is_empty() || named().any(|name| is_value(name)) {
        return false;
    }
    let mut votes = 0;
    for (column, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let (mut cells, mut values, mut alike, mut again) = (0, 0, 0, 0);
        for row in 1..layout.len() {
            let line = layout.line(text, row);
            let cell = syntax.unquote(line.raw(column), &mut scratch);
            if !cell.is_empty() {
                cells += 1;
                values += usize::from(is_value(cell));
                alike += usize::from(shape(cell).eq(shape(name)));
                again += usize::from(cell == name);
            }
        }
        // Words are alike too easily; digits and signs at the same places are not.
        let is_marked = name.iter().any(u8::is_ascii_digit);
        // A value comes again and again; a name may by chance, or where files were joined.
        let is_one_of_them = again > 1 && again * AGAIN >= cells;
        if cells > 0 && values * 10 >= cells * 9 {
            votes += 1;
        } else if cells > 0 && (is_one_of_them || is_marked && alike * 10 >= cells * 9) {
            votes -= 1;
        }
    }
    votes > 0 || votes == 0 && names.len() > 1 && distinct.len() == named().count()
}

/// How a cell is written: each run of letters and each run of digits as one sign.
fn shape(cell: &[u8]) -> impl Iterator<Item = u8> {
    let classes = cell.iter().map(|byte| match byte {
        b'0'..=b'9' => b'9',
        b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => b'a',
        other => *other,
    });
    let mut before = None;
    classes.filter(move |class| before.replace(*class) != Some(*class))
}
