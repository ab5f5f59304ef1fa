//! The score of a style of quoting in a text.

use super::head::HEAD_BYTES;
use crate::syntax::{Layout, Scanner, Syntax, is_break};

/// The number of well-formed cells per broken cell below which no quotes are considered.
const SOUND_FOR_BROKEN: usize = 20;

/// The quoted cells of a text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quoting {
    quote: u8,
    /// Cells with an opening and a closing quote that are well-formed in between.
    sound: usize,
    /// Cells with an opening quote that are not well-formed.
    broken: usize,
    cells: usize,
    /// The fraction of the text after an unclosed quote.
    swallowed: f64,
    /// Whether that quote may be closed in text that follows.
    open: bool,
}

impl Quoting {
    /// Examines `text`, laid out in `layout` with this syntax; `None` without quotes.
    pub(super) fn examine(text: &[u8], whole: bool, syntax: Syntax, layout: &Layout) -> Option<Self> {
        let quote = syntax.quote()?;
        let mut quoting = Self { quote, ..Self::default() };
        for row in (0..layout.len()).map(|row| layout.line(text, row)) {
            for raw in (0..row.len()).map(|column| syntax.trim(row.raw(column))) {
                quoting.cells += 1;
                // A quote after a space is broken if spaces are part of cells.
                if raw.first() == Some(&quote) || raw.first() == Some(&b' ') && is_indented(raw, quote) {
                    let is_sound = is_sound(raw, quote, syntax.escape());
                    *(if is_sound { &mut quoting.sound } else { &mut quoting.broken }) += 1;
                }
            }
        }
        let (mut scanner, mut read) = (Scanner::new(syntax), 0);
        scanner.scan(text, |base, marks| {
            if marks.rows != 0 {
                read = base + marks.rows.ilog2() as usize;
            }
        });
        if scanner.is_in_quotes() {
            // An unclosed quote swallows all that follows. In an incomplete head it may still be closed, unless the
            // following text is long and continues in rows like the first one, which long cells rarely do.
            let rest = &text[read..];
            let is_lost = whole
                || rest.len() > HEAD_BYTES / 4 && {
                    let first = if layout.len() > 0 { layout.line(text, 0).range() } else { 0..0 };
                    goes_on_in_rows(&text[first], rest, syntax.delimiter())
                };
            if is_lost {
                quoting.swallowed = rest.len() as f64 / text.len() as f64;
                quoting.open = !whole;
            }
        }
        Some(quoting)
    }

    /// Whether the quote is the usual one.
    pub(super) const fn is_usual(&self) -> bool {
        self.quote == b'"'
    }

    /// Whether more text could change the score: a quote that has swallowed much may still be closed.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether quotes are used and nearly all well-formed.
    pub(super) fn is_good(&self) -> bool {
        self.is_usual()
            && self.sound > 0
            && self.broken * SOUND_FOR_BROKEN <= self.sound
            && self.swallowed == 0.0
    }

    /// From 0 if all quotes are broken to 1 if all are well-formed; more for an unusual quote that is used throughout.
    pub(super) fn score(&self) -> f64 {
        let (sound, broken, cells) = (self.sound as f64, self.broken as f64, self.cells as f64);
        match self.quote {
            // Each broken cell costs its share only.
            b'"' => (sound + 1.0) / (sound + 1.0 + broken) * (1.0 - 0.5 * self.swallowed.sqrt()),
            // Other quotes must be used throughout: the cell 'tis is not quoted.
            _ if broken + self.swallowed > 0.0 || sound * 5.0 < cells => 0.0,
            _ => 1.2,
        }
    }

    /// The score of the text without quotes, in which well-formed quotes are counter-evidence. (Without quotes the cell
    /// `"x, y"` is two parts without evidence.)
    pub(super) fn score_without(&self) -> f64 {
        let share = self.sound as f64 / self.cells.max(1) as f64;
        1.0 - 0.6 * share - if self.sound > self.broken { 0.1 } else { 0.01 }
    }
}

/// Whether at least half of the lines of `rest` after its first one have as many delimiters as `row`.
fn goes_on_in_rows(row: &[u8], rest: &[u8], delimiter: u8) -> bool {
    let delimiters = |line: &[u8]| memchr::memchr_iter(delimiter, line).count();
    let expected = delimiters(row);
    let lines = rest.split(|byte| is_break(*byte)).filter(|line| !line.is_empty()).skip(1);
    let (mut alike, mut all) = (0, 0);
    for line in lines {
        alike += usize::from(delimiters(line) == expected);
        all += 1;
    }
    all > 0 && alike * 2 >= all
}

/// Whether `raw` is a quoted cell after spaces.
fn is_indented(raw: &[u8], quote: u8) -> bool {
    let inside = raw.trim_ascii();
    inside.len() > 1 && inside.first() == Some(&quote) && inside.last() == Some(&quote)
}

/// Whether quotes enclose `raw` and every quote in between is doubled or escaped.
pub(super) fn is_sound(raw: &[u8], quote: u8, escape: Option<u8>) -> bool {
    let [first, inside @ .., last] = raw else { return false };
    if *first != quote {
        return false;
    }
    let mut bytes = inside.iter();
    while let Some(byte) = bytes.next() {
        if Some(*byte) == escape {
            bytes.next();
        } else if *byte == quote && bytes.next() != Some(&quote) {
            return false;
        }
    }
    *last == quote
}
