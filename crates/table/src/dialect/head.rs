//! The head of a text, from which its dialect is guessed: its bounds, and its rows.

use crate::syntax::{Layout, Scanner, Syntax};

/// The bytes that a guess examines. It is final when that many bytes, or the end, have arrived.
pub(crate) const HEAD_BYTES: usize = 64 << 10;

/// The bytes that a guess examines when the first [`HEAD_BYTES`] end within a quote that may be unclosed.
pub(crate) const LONG_HEAD_BYTES: usize = 1 << 20;

/// The most rows that a guess examines, and the most cells of each.
pub(super) const ROWS: usize = 300;
pub(super) const CELLS: usize = 100;

/// Lays out the complete rows of the head.
pub(super) fn fill(text: &[u8], whole: bool, syntax: Syntax, layout: &mut Layout) {
    layout.fill(syntax, text, CELLS);
    if !whole && layout.len() > 1 {
        let mut scanner = Scanner::new(syntax);
        scanner.scan(text, |_, _| {});
        layout.truncate(layout.len() - usize::from(scanner.is_in_row()));
    }
    layout.truncate(ROWS);
}
