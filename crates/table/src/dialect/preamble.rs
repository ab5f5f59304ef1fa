//! Lines above a table: Excel's `sep=;`, titles, comments, empty lines.

use super::head::{self, CELLS};
use super::header;
use crate::syntax::{Layout, Syntax, is_break};

/// The most rows that a guess skips.
const MAX_ROWS: usize = 60;

/// The delimiter in the first line (`sep=;`, a convention of Excel), and the length of that line in bytes.
pub(super) fn separator(text: &[u8]) -> Option<(u8, usize)> {
    let end = text.iter().take(16).position(|byte| is_break(*byte))?;
    let line =
        text[..end].strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(&text[..end]);
    let [name @ .., delimiter] = line else { return None };
    let is_usable = delimiter.is_ascii() && !delimiter.is_ascii_alphanumeric() && *delimiter != b'"';
    (name.eq_ignore_ascii_case(b"sep=") && is_usable).then(|| (*delimiter, end + line_end(&text[end..])))
}

/// The offset after this number of lines; `None` if the text has fewer.
pub(super) fn after_lines(text: &[u8], lines: u64) -> Option<usize> {
    let mut at = 0;
    for _ in 0..lines {
        let end = memchr::memchr2(b'\n', b'\r', &text[at..])?;
        at += end + line_end(&text[at + end..]);
    }
    Some(at)
}

/// The number of lines of a text that ends with a line break or is empty.
pub(super) fn lines(text: &[u8]) -> u64 {
    let (mut at, mut lines) = (0, 0);
    while let Some(end) = memchr::memchr2(b'\n', b'\r', &text[at..]) {
        at += end + line_end(&text[at + end..]);
        lines += 1;
    }
    lines
}

/// The length of the line break that `text` starts with.
fn line_end(text: &[u8]) -> usize {
    if text.starts_with(b"\r\n") { 2 } else { 1 }
}

/// Properties of a row that show whether it is above the table.
#[derive(Clone, Copy)]
pub(super) struct RowShape {
    /// The number of cells.
    width: usize,
    /// The number of cells with content.
    filled: usize,
    /// Whether it starts like a comment.
    is_comment: bool,
}

impl RowShape {
    /// The shape of a row of a layout.
    pub(super) fn examine(text: &[u8], layout: &Layout, row: usize) -> Self {
        let line = layout.line(text, row);
        let filled = (0..line.len()).filter(|column| !line.raw(*column).trim_ascii().is_empty()).count();
        let bytes = &text[line.range()];
        let is_comment = bytes.starts_with(b"#") || bytes.starts_with(b"//") || bytes.starts_with(b"\"#");
        Self { width: line.len(), filled, is_comment }
    }

    /// Whether it may be a title, a comment, or a row that was padded with empty cells.
    pub(super) const fn is_narrow(&self) -> bool {
        self.filled < 2 || self.is_comment
    }
}

/// The bytes of `text` above its table in this syntax. `whole`: nothing follows `text`.
pub(super) fn above(text: &[u8], whole: bool, syntax: Syntax, layout: &mut Layout) -> usize {
    head::fill(text, whole, syntax, layout);
    let shapes: Vec<RowShape> = (0..layout.len()).map(|row| RowShape::examine(text, layout, row)).collect();
    let Some(mut first) = first_row(&shapes) else { return 0 };
    let mut start = layout.line(text, first).range().start;
    // A comment may have as many cells as the header below it. (Other headers begin with `#` themselves.)
    while shapes[first].is_comment
        && shapes.get(first + 1).is_some_and(|next| next.width == shapes[first].width)
    {
        let next = layout.line(text, first + 1).range().start;
        if header::votes(&text[next..], whole, syntax) <= 0 {
            break;
        }
        (first, start) = (first + 1, next);
    }
    let above = &shapes[..first];
    let width = shapes[first].width;
    let has_empty_line = text[..start].windows(2).any(|pair| pair == b"\n\n" || pair == b"\r\r")
        || text[..start].windows(4).any(|pair| pair == b"\r\n\r\n");
    let is_evident = |shape: &RowShape| {
        shape.is_comment || shape.filled < 2 && shape.width == 1 && (width > 2 || has_empty_line)
    };
    // Without evidence in the lines above, the header of the table must be the evidence.
    let is_above = above.iter().all(is_evident)
        || above.iter().all(|shape| shape.width <= width) && header::votes(&text[start..], whole, syntax) > 0;
    if first > 0 && is_above { start } else { 0 }
}

/// The first row with the most frequent width and as many cells with content as a header or data row.
fn first_row(shapes: &[RowShape]) -> Option<usize> {
    let mut counts = [0_usize; CELLS + 1];
    shapes.iter().filter(|shape| shape.filled > 1).for_each(|shape| counts[shape.width] += 1);
    let most = *counts.iter().max()?;
    if most < 2 {
        // One column, with comments above it.
        let first = shapes.iter().position(|shape| !shape.is_comment)?;
        let is_table = counts.iter().sum::<usize>() == 0 && shapes.len() > first + 1;
        let is_clear = shapes[first..].iter().all(|shape| !shape.is_comment);
        return (is_table && is_clear && first <= MAX_ROWS).then_some(first);
    }
    // Of several widths the one that occurs first.
    let width = shapes.iter().map(|shape| shape.width).find(|width| counts[*width] == most)?;
    let first = shapes.iter().position(|shape| shape.width == width && shape.filled > 1)?;
    let body = &shapes[first..];
    let alike = body.iter().filter(|shape| shape.width == width).count();
    (first <= MAX_ROWS && alike * 5 >= body.len() * 3 && body.len() > 1).then_some(first)
}
