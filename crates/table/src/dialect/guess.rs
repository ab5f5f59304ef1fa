//! Guesses how a text is written from its first bytes.
//!
//! Every delimiter is tried with every way of quoting, as the table would be read with it. What counts is that
//! rows have the same number of cells, that quoted cells are quoted well, and that cells look like values and
//! do not hold other delimiters. One odd line costs its share and no more.

use super::{Choice, Dialect, LineEnd, header};
use crate::syntax::{Layout, Scanner, Syntax, is_break};
use crate::value::{Kind, Style};
use crate::{Compression, Encoding, Error, Evidence, encoding};

/// How many bytes a guess looks at; it is final when so many have come, or the end.
pub(crate) const HEAD_BYTES: usize = 64 << 10;

/// How many rows a guess looks at, and how many cells of each.
const ROWS: usize = 300;
pub(super) const CELLS: usize = 100;

/// The delimiters that are tried, and how far each is believed: what stands within text and times easily has
/// to be more convincing.
const DELIMITERS: [(u8, f64); 10] = [
    (b'\t', 1.2),
    (b',', 1.0),
    (b';', 1.0),
    (b'|', 1.0),
    (0x1F, 1.2),
    (0x01, 1.2),
    (b'~', 0.8),
    (b'^', 0.8),
    (b':', 0.6),
    (b' ', 0.6),
];

/// A delimiter that scores less is none: the text is one column.
const ENOUGH: f64 = 0.35;

/// The same where each line is one value as it stands, such as the time 12:30:00.
const ENOUGH_FOR_VALUES: f64 = 0.5;

/// File formats that people take for tables, by their first bytes.
const NOT_TEXT: [(&[u8], &str); 7] = [
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet (save it as CSV first)"),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old spreadsheet or document (save it as CSV first)"),
    (b"%PDF-", "a PDF"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1\x15", "a Parquet file"),
    (b"\x89PNG\r\n\x1A\n", "an image"),
    (b"\xFF\xD8\xFF\xE0", "an image"),
];

/// Guesses the dialect of a file whose unpacked bytes start with `head`. `whole`: nothing follows them.
/// `later`: what bytes after the head were found to be in, though the head is ASCII.
///
/// # Errors
/// [`Error::NotText`] when they are those of another format, [`Error::Dialect`] when `choice` cannot be.
pub(crate) fn guess(
    head: &[u8],
    whole: bool,
    choice: &Choice,
    later: Option<Encoding>,
    compression: Compression,
) -> Result<Dialect, Error> {
    choice.check()?;
    if let Some((_, what)) = NOT_TEXT.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(Error::NotText(what));
    }
    let (encoding, evidence) = match (choice.encoding, later) {
        (Some(encoding), _) => (encoding, Evidence::Given),
        (None, Some(encoding)) => (encoding, Evidence::Guessed),
        (None, None) => encoding::guess(head, whole),
    };
    let mut text = Vec::with_capacity(head.len());
    encoding::Decoder::new(encoding).decode(head, whole, |piece| {
        text.extend_from_slice(piece);
        Ok(())
    })?;
    let text = &text[encoding::mark(&text) as usize..];
    let syntax = guess_syntax(text, whole, choice)?;
    let header = choice.header.unwrap_or_else(|| header::guess(text, whole, syntax));
    Ok(Dialect { syntax, header, line_end: guess_line_end(text), encoding, evidence, compression })
}

fn guess_line_end(text: &[u8]) -> LineEnd {
    let count = |byte| memchr::memchr_iter(byte, text).count();
    let both = memchr::memmem::find_iter(text, b"\r\n").count();
    let (lf, cr) = (count(b'\n') - both, count(b'\r') - both);
    match both.max(lf).max(cr) {
        0 => LineEnd::Lf,
        most if most == both => LineEnd::CrLf,
        most if most == lf => LineEnd::Lf,
        _ => LineEnd::Cr,
    }
}

fn guess_syntax(text: &[u8], whole: bool, choice: &Choice) -> Result<Syntax, Error> {
    let has = |byte: u8| memchr::memchr(byte, text).is_some();
    let quotes: Vec<Option<u8>> = match choice.quote {
        Some(quote) => vec![quote],
        None => {
            let mut quotes = vec![Some(b'"')];
            quotes.extend((has(b'"') || choice.delimiter == Some(b'"')).then_some(None));
            quotes.extend(has(b'\'').then_some(Some(b'\'')));
            quotes
        }
    };
    let escapes = match choice.escape {
        Some(escape) => vec![escape],
        None if has(b'\\') => vec![None, Some(b'\\')],
        None => vec![None],
    };
    let delimiters = match choice.delimiter {
        Some(delimiter) => vec![(delimiter, 1.0)],
        None => DELIMITERS.to_vec(),
    };
    let (mut best, mut layout) = (None, Layout::default());
    for (delimiter, belief) in delimiters {
        // A delimiter that is not there is worth trying only if it is the one.
        if choice.delimiter.is_none() && !has(delimiter) {
            continue;
        }
        let mut is_well_quoted = false;
        for (quote, escape) in
            quotes.iter().flat_map(|quote| escapes.iter().map(move |escape| (*quote, *escape)))
        {
            let Ok(syntax) = Syntax::new(delimiter, quote, escape.filter(|_| quote.is_some())) else {
                continue;
            };
            if quote.is_none() && is_well_quoted {
                continue;
            }
            let hint = if choice.hint == Some(delimiter) { 1.5 } else { 1.0 };
            let score = belief * hint * score(text, whole, syntax, &mut layout);
            // Quotes speak for one way of quoting against another, not for or against the delimiter.
            let is_one_of_many = quotes.len() * escapes.len() > 1;
            let quoting =
                if is_one_of_many { Quoting::of(text, whole, syntax, &layout) } else { Quoting::default() };
            is_well_quoted |= quoting.is_good();
            let quoting = if is_one_of_many { quoting.score() } else { 1.0 };
            if best.is_none_or(|(most, _, _)| score * quoting > most) {
                best = Some((score * quoting, score, syntax));
            }
        }
    }
    let enough = if is_all_values(text, whole) { ENOUGH_FOR_VALUES } else { ENOUGH };
    match best {
        Some((_, score, syntax)) if choice.delimiter.is_some() || score >= enough => Ok(syntax),
        _ => fallback(text, whole, choice, &quotes, &escapes, &mut layout),
    }
}

/// Whether nine in ten lines, read as one cell each, are values.
fn is_all_values(text: &[u8], whole: bool) -> bool {
    let mut lines: Vec<&[u8]> =
        text.split(|byte| is_break(*byte)).filter(|line| !line.is_empty()).take(ROWS).collect();
    if !whole && lines.len() > 1 {
        lines.pop();
    }
    let values = lines.iter().filter(|line| cleanness(line) == 1.0).count();
    values * 10 >= lines.len() * 9
}

/// The syntax of a text of one column: a delimiter that does not occur, tabs if possible, and the quote that
/// fits best.
fn fallback(
    text: &[u8],
    whole: bool,
    choice: &Choice,
    quotes: &[Option<u8>],
    escapes: &[Option<u8>],
    layout: &mut Layout,
) -> Result<Syntax, Error> {
    let absent =
        [b'\t', b',', b';', b'|', 0x1F].into_iter().find(|byte| memchr::memchr(*byte, text).is_none());
    let delimiter = choice.delimiter.or(absent).unwrap_or(b'\t');
    let candidates = quotes.iter().flat_map(|quote| escapes.iter().map(move |escape| (*quote, *escape)));
    let mut best: Option<(f64, Syntax)> = None;
    for (quote, escape) in candidates {
        let Ok(syntax) = Syntax::new(delimiter, quote, escape.filter(|_| quote.is_some())) else { continue };
        fill(text, whole, syntax, layout);
        let quoting = Quoting::of(text, whole, syntax, layout).score();
        if best.is_none_or(|(most, _)| quoting > most) {
            best = Some((quoting, syntax));
        }
    }
    best.map(|(_, syntax)| syntax).ok_or(Error::Dialect("delimiter, quote and escape do not go together"))
}

/// Lays out the whole rows of the head.
fn fill(text: &[u8], whole: bool, syntax: Syntax, layout: &mut Layout) {
    layout.fill(syntax, text, CELLS);
    if !whole && layout.len() > 1 {
        let mut scanner = Scanner::new(syntax);
        scanner.scan(text, |_, _| {});
        layout.truncate(layout.len() - usize::from(scanner.is_in_row()));
    }
    layout.truncate(ROWS);
}

/// How well `text` reads in this syntax: 0 to about 1.
fn score(text: &[u8], whole: bool, syntax: Syntax, layout: &mut Layout) -> f64 {
    fill(text, whole, syntax, layout);
    let rows = || (0..layout.len()).map(|row| layout.line(text, row));
    // The width that most rows have; of two the larger one.
    let mut counts = [0_u32; CELLS + 1];
    rows().for_each(|row| counts[row.len()] += 1);
    let Some((width, count)) = counts.iter().enumerate().max_by_key(|(_, count)| **count) else { return 0.0 };
    if width < 2 {
        return 0.0;
    }
    let consistency = f64::from(*count) / layout.len() as f64;
    let (mut clean, mut cells, mut scratch) = (0.0, 0.0, Vec::new());
    for row in rows().filter(|row| row.len() == width) {
        for column in 0..width {
            clean += cleanness(syntax.unquote(row.raw(column), &mut scratch));
            cells += 1.0;
        }
    }
    let columns = 1.0 - 1.0 / (width + 1) as f64;
    consistency * columns * (clean / cells)
}

/// How much a cell looks like one value: 1 for a number or a date, 0 for what a tab should have divided.
fn cleanness(cell: &[u8]) -> f64 {
    let is_value = |style| Kind::of(cell, style) != Kind::Text;
    if is_value(Style::Point) || is_value(Style::Comma) {
        1.0
    } else if cell.contains(&b'\t') {
        0.0
    } else if cell.contains(&b';') || cell.contains(&b'|') {
        0.4
    } else if cell.contains(&b',') {
        0.7
    } else {
        0.8
    }
}

/// How the cells of a text are quoted.
#[derive(Clone, Copy, Debug, Default)]
struct Quoting {
    quote: Option<u8>,
    /// Cells that a quote opens and closes, and that are sound in between.
    sound: usize,
    /// Cells that a quote opens and that are not.
    broken: usize,
    cells: usize,
    /// How much of the text stands after a quote that does not close.
    swallowed: f64,
}

impl Quoting {
    fn of(text: &[u8], whole: bool, syntax: Syntax, layout: &Layout) -> Self {
        let mut quoting = Self { quote: syntax.quote(), ..Self::default() };
        // Without quotes: what would have been sound with them speaks against it.
        let quote = syntax.quote().unwrap_or(b'"');
        for row in (0..layout.len()).map(|row| layout.line(text, row)) {
            for raw in (0..row.len()).map(|column| row.raw(column)) {
                quoting.cells += 1;
                if raw.first() == Some(&quote) {
                    let is_sound = is_sound(raw, quote, syntax.escape());
                    *(if is_sound { &mut quoting.sound } else { &mut quoting.broken }) += 1;
                }
            }
        }
        if syntax.quote().is_some() {
            let (mut scanner, mut read) = (Scanner::new(syntax), 0);
            scanner.scan(text, |base, marks| {
                if marks.rows != 0 {
                    read = base + marks.rows.ilog2() as usize;
                }
            });
            // A quote that never closes has swallowed all that follows. In a head that goes on it may still close,
            // unless what follows is long and goes on in rows as the first one: a long cell does not.
            let rest = &text[read..];
            let is_lost = whole
                || rest.len() > HEAD_BYTES / 4 && {
                    let first = if layout.len() > 0 { layout.line(text, 0).range() } else { 0..0 };
                    goes_on_in_rows(&text[first], rest, syntax.delimiter())
                };
            if scanner.is_in_quotes() && is_lost {
                quoting.swallowed = rest.len() as f64 / text.len() as f64;
            }
        }
        quoting
    }

    /// Whether quotes are used and always well.
    fn is_good(&self) -> bool {
        self.quote == Some(b'"') && self.sound > 0 && self.broken == 0 && self.swallowed == 0.0
    }

    /// From 0 for quotes that are all broken to 1 for what is in order.
    fn score(&self) -> f64 {
        let (sound, broken, cells) = (self.sound as f64, self.broken as f64, self.cells as f64);
        match self.quote {
            None => 1.0 - 0.6 * sound / cells.max(1.0) - if sound > broken { 0.1 } else { 0.01 },
            Some(b'"') => (sound + 1.0) / (sound + 1.0 + 4.0 * broken) * (1.0 - 0.5 * self.swallowed.sqrt()),
            // Another quote must be used throughout to be believed: the cell 'tis is none.
            Some(_) if broken + self.swallowed > 0.0 || sound * 5.0 < cells => 0.0,
            Some(_) => 1.2,
        }
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

/// Whether a quote opens and closes `raw` and every quote in between is doubled or escaped.
fn is_sound(raw: &[u8], quote: u8, escape: Option<u8>) -> bool {
    let [_, inside @ .., last] = raw else { return false };
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
