//! Guesses the dialect of a text from its first bytes.
//!
//! Every delimiter is tried with every style of quoting, by parsing the table with it. The score rises when rows have
//! the same number of cells, quoted cells are well-formed, and cells look like values without other delimiters. One odd
//! line costs its share only.

use std::sync::Arc;

use super::head::{CELLS, HEAD_BYTES, ROWS, fill};
use super::preamble::{self, RowShape};
use super::quoting::{Quoting, is_sound};
use super::{Choice, Dialect, LineEnd, StoredDialect, header};
use crate::conversion::FormatFacts;
use crate::syntax::{Layout, Syntax, is_break};
use crate::value::Kind;
use crate::{Compression, Encoding, Error, Evidence, FileFormat, encoding};

/// The delimiters and their weights. Characters that are common in text and times need a higher score.
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

/// Delimiters that rarely have another meaning. With one of them, rows of similar width also count: trailing cells are
/// often omitted.
const PLAIN: [u8; 6] = [b'\t', b',', b';', b'|', 0x1F, 0x01];

/// The weight of a row with a similar width, multiplied by the similarity.
const SIMILAR_WIDTH: f64 = 0.5;

/// The lowest score of a delimiter; below it the text is one column.
const MIN_SCORE: f64 = 0.35;

/// The lowest score of a usual delimiter if the file name implies one.
const MIN_SCORE_WHEN_NAMED: f64 = 0.15;

/// The lowest score if each line is a value, such as the time 12:30:00.
const MIN_SCORE_FOR_VALUES: f64 = 0.5;

/// The weight of a table that begins below other lines.
const BELOW_OTHER_LINES: f64 = 0.97;

/// The score of text without delimiters as a value.
const CLEAN_TEXT: f64 = 0.8;

/// File formats that users confuse with tables, by their first bytes.
const NOT_TEXT: [(&[u8], &str); 7] = [
    (
        b"PK\x03\x04",
        "a ZIP archive, or a spreadsheet of another format than XLSX (save it as XLSX or CSV first)",
    ),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old spreadsheet or document (save it as XLSX or CSV first)"),
    (b"%PDF-", "a PDF"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1\x15", "a Parquet file"),
    (b"\x89PNG\r\n\x1A\n", "an image"),
    (b"\xFF\xD8\xFF\xE0", "an image"),
];

/// The least number of NUL bytes of a binary file, and the part of its head that they are. Text has none, except in
/// UTF-16; some exports contain a few.
const BINARY_NULS: usize = 16;
const BINARY_PART: usize = 512;

/// The inputs of a guess besides the text.
#[derive(Clone, Debug)]
pub(crate) struct GuessContext {
    pub(crate) choice: Choice,
    /// The encoding that was detected after the head, although the head is ASCII.
    pub(crate) later: Option<Encoding>,
    pub(crate) compression: Compression,
    /// The dialect that was found when the file was complete.
    pub(crate) stored: Option<StoredDialect>,
    /// The format of the file that the text was converted from.
    pub(crate) format: FileFormat,
    pub(crate) facts: Arc<FormatFacts>,
}

impl GuessContext {
    /// Whether the encoding is final.
    pub(crate) fn is_sure(&self) -> bool {
        self.format != FileFormat::Text
            || self.stored.as_ref().is_some_and(|stored| stored.encoding(&self.choice).is_some())
    }
}

/// Guesses the dialect of a file whose decompressed bytes start with `head`. `whole`: nothing follows. Also returns
/// whether a longer head than [`HEAD_BYTES`] could change the guess.
///
/// # Errors
/// [`Error::NotText`] for the bytes of another format, [`Error::Dialect`] for an invalid choice.
pub(crate) fn guess(head: &[u8], whole: bool, known: &GuessContext) -> Result<(Dialect, bool), Error> {
    let GuessContext { choice, later, compression, stored, format, .. } = known;
    choice.check()?;
    if *format != FileFormat::Text {
        return Ok((converted(head, whole, known), false));
    }
    let is_checked = stored.is_none() && !choice.is_text;
    if is_checked && let Some((_, what)) = NOT_TEXT.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(Error::NotText(what));
    }
    let kept_encoding = stored.as_ref().and_then(|stored| stored.encoding(choice));
    let (encoding, evidence) = match (choice.encoding, kept_encoding, later) {
        (Some(encoding), ..) => (encoding, Evidence::Given),
        (None, Some(stored), _) => stored,
        (None, None, Some(later)) => (*later, Evidence::Guessed),
        (None, None, None) => encoding::guess(head, whole),
    };
    // Only the final head decides, so that the answer does not depend on how the file arrives.
    let checked = &head[..head.len().min(HEAD_BYTES)];
    if is_checked
        && (whole || checked.len() == HEAD_BYTES)
        && evidence != Evidence::Given
        && !encoding.is_utf_16()
    {
        let nuls = memchr::memchr_iter(0, checked).count();
        if nuls >= BINARY_NULS.max(checked.len() / BINARY_PART) {
            return Err(Error::NotText("a binary file (it has NUL bytes)"));
        }
    }
    let kept_syntax = stored.as_ref().and_then(|stored| stored.syntax(choice));
    let kept_header = stored.as_ref().and_then(|stored| stored.header(choice));
    let line_end = stored.as_ref().map(|stored| stored.dialect.line_end);
    let mut text = Vec::new();
    if kept_syntax.is_none() || kept_header.is_none() && choice.header.is_none() {
        text.reserve(head.len());
        encoding::Decoder::new(encoding).decode(head, whole, |piece| {
            text.extend_from_slice(piece);
            Ok(())
        })?;
    }
    let TableStart { syntax, open, skip, start } = match (stored, kept_syntax) {
        (Some(stored), Some(syntax)) => TableStart {
            syntax,
            open: false,
            skip: stored.dialect.skip,
            start: stored.dialect.start as usize,
        },
        _ => guess_table(&text, whole, choice)?,
    };
    // A chosen number of lines above the header implies a header.
    let is_named = choice.skip.is_some_and(|lines| lines > 0).then_some(true);
    let table = text.get(start..).unwrap_or_default();
    let header =
        (choice.header.or(kept_header).or(is_named)).unwrap_or_else(|| header::guess(table, whole, syntax));
    let line_end = line_end.unwrap_or_else(|| guess_line_end(&text));
    let (start, compression, format) = (start as u64, *compression, *format);
    let dialect = Dialect { syntax, skip, start, header, line_end, encoding, evidence, compression, format };
    Ok((dialect, open && !whole))
}

/// The dialect of the text of a converted file. Its syntax is known. A sheet may have lines above its header, or none.
fn converted(text: &[u8], whole: bool, known: &GuessContext) -> Dialect {
    let GuessContext { choice, compression, stored, format, .. } = known;
    let syntax = Syntax::new(tidings_table_formats::DELIMITER, Some(tidings_table_formats::QUOTE), None)
        .expect("a valid syntax");
    let (mut skip, mut start, mut header) = (0, 0, true);
    if *format == FileFormat::Xlsx {
        let kept = stored.as_ref().filter(|stored| stored.is_of_sheet(choice));
        (skip, start, header) = match (kept, choice.skip) {
            (Some(stored), _) => {
                let Dialect { skip, start, header, .. } = stored.dialect;
                (skip, start as usize, header)
            }
            (None, Some(lines)) => {
                (lines, preamble::after_lines(text, lines).unwrap_or(text.len()), lines > 0)
            }
            (None, None) => {
                let start = preamble::above(text, whole, syntax, &mut Layout::default());
                (preamble::lines(&text[..start]), start, false)
            }
        };
        if kept.is_none() {
            header |= header::guess(&text[start..], whole, syntax);
        }
        header = choice.header.unwrap_or(header);
    }
    Dialect {
        syntax,
        skip,
        start: start as u64,
        header,
        line_end: LineEnd::Lf,
        encoding: Encoding::UTF_8,
        evidence: Evidence::Valid,
        compression: *compression,
        format: *format,
    }
}

/// The start of the table in a text, and its syntax.
struct TableStart {
    syntax: Syntax,
    /// Whether more text could change the result.
    open: bool,
    /// The number of lines above the table.
    skip: u64,
    /// The offset of the table.
    start: usize,
}

fn guess_table(text: &[u8], whole: bool, choice: &Choice) -> Result<TableStart, Error> {
    let mark = encoding::mark(text);
    let separator = preamble::separator(&text[mark..]);
    let mut start = mark;
    match choice.skip {
        Some(lines) => match preamble::after_lines(&text[mark..], lines) {
            Some(bytes) => start += bytes,
            None if !whole && text.len() >= HEAD_BYTES => {
                return Err(Error::Dialect("the lines to skip must end within the first 64 KiB of the file"));
            }
            // All lines that have arrived are skipped.
            None => start = text.len(),
        },
        None => start += separator.map_or(0, |(_, bytes)| bytes),
    }
    start += encoding::mark(&text[start..]);
    let delimiter = choice.delimiter.or(separator.map(|(delimiter, _)| delimiter));
    let known = Choice { delimiter, ..choice.clone() };
    // The delimiter that the file names may be the chosen quote.
    let known = if known.check().is_ok() { known } else { choice.clone() };
    let (syntax, open) = guess_syntax(&text[start..], whole, &known)?;
    if choice.skip.is_none() {
        start += preamble::above(&text[start..], whole, syntax, &mut Layout::default());
        start += encoding::mark(&text[start..]);
    }
    let skip = choice.skip.unwrap_or_else(|| preamble::lines(&text[mark..start]));
    Ok(TableStart { syntax, open, skip, start })
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

/// The delimiters, quotes and escapes to try.
struct SyntaxSpace {
    delimiters: Vec<(u8, f64)>,
    quotes: Vec<Option<u8>>,
    /// Escapes, and whether they also apply outside quotes.
    escapes: Vec<(Option<u8>, bool)>,
    /// Whether spaces before a cell are skipped.
    spaces: Vec<bool>,
}

impl SyntaxSpace {
    fn choose(text: &[u8], choice: &Choice) -> Self {
        let has = |byte: u8| memchr::memchr(byte, text).is_some();
        let quotes = match choice.quote {
            Some(quote) => vec![quote],
            None => {
                // No quotes are tried after the usual quotes, and scored by how well-formed those are.
                let mut quotes = vec![Some(b'"')];
                quotes.extend((has(b'"') || choice.delimiter == Some(b'"')).then_some(None));
                quotes.extend(has(b'\'').then_some(Some(b'\'')));
                quotes
            }
        };
        let mut escapes = match choice.escape {
            Some(escape) => vec![(escape, false)],
            None if has(b'\\') => vec![(None, false), (Some(b'\\'), false)],
            None => vec![(None, false)],
        };
        if let Some((escape @ Some(_), _)) = escapes.last().copied() {
            match choice.escapes_everywhere {
                Some(everywhere) => escapes.iter_mut().for_each(|(_, is)| *is = everywhere),
                None => escapes.push((escape, true)),
            }
        }
        let spaces = match choice.skips_spaces {
            Some(skips) => vec![skips],
            None if memchr::memmem::find(text, b" \"").is_some() => vec![false, true],
            None => vec![false],
        };
        let delimiters = match choice.delimiter {
            Some(delimiter) => vec![(delimiter, 1.0)],
            // A delimiter that does not occur is tried only if it is chosen.
            None => DELIMITERS.into_iter().filter(|(delimiter, _)| has(*delimiter)).collect(),
        };
        Self { delimiters, quotes, escapes, spaces }
    }

    /// The valid syntaxes with this delimiter, without duplicates, the simplest first.
    fn syntaxes(&self, delimiter: u8) -> Vec<Syntax> {
        let mut syntaxes = Vec::new();
        for quote in &self.quotes {
            for spaces in &self.spaces {
                for (escape, everywhere) in &self.escapes {
                    // Without quotes an escape applies everywhere.
                    let escape = escape.filter(|_| quote.is_some() || *everywhere || self.escapes.len() == 1);
                    let Ok(syntax) = Syntax::new(delimiter, *quote, escape) else { continue };
                    let syntax = syntax.escaping_everywhere(*everywhere).skipping_spaces(*spaces);
                    if !syntaxes.contains(&syntax) {
                        syntaxes.push(syntax);
                    }
                }
            }
        }
        syntaxes
    }
}

/// A syntax and its score.
#[derive(Clone, Copy)]
struct Candidate {
    syntax: Syntax,
    /// The score of rows and cells.
    score: f64,
    /// The score including quoting.
    total: f64,
    /// Whether more text could change the score of quoting.
    open: bool,
}

/// The syntax of a text, and whether more text could change it.
fn guess_syntax(text: &[u8], whole: bool, choice: &Choice) -> Result<(Syntax, bool), Error> {
    let tried = SyntaxSpace::choose(text, choice);
    let (mut best, mut layout): (Option<Candidate>, _) = (None, Layout::default());
    let is_all_values = is_all_values(text, whole);
    for (delimiter, belief) in &tried.delimiters {
        let Some(candidate) = best_quoting(text, whole, *delimiter, &tried, &mut layout) else { continue };
        // `.csv` implies a comma weakly: files with semicolons and tabs have this name too.
        let hint = if choice.hint == Some(*delimiter) && *delimiter != b',' { 1.5 } else { 1.0 };
        let (score, total) = (candidate.score * belief * hint, candidate.total * belief * hint);
        let is_enough = choice.delimiter.is_some()
            || score > 0.0 && score >= min_score(*delimiter, choice, is_all_values);
        if is_enough && best.is_none_or(|best| total > best.total) {
            best = Some(Candidate { total, ..candidate });
        }
    }
    match best {
        Some(best) => Ok((best.syntax, best.open)),
        None => fallback(text, whole, choice, &tried, &mut layout),
    }
}

/// The best style of quoting with this delimiter.
fn best_quoting(
    text: &[u8],
    whole: bool,
    delimiter: u8,
    tried: &SyntaxSpace,
    layout: &mut Layout,
) -> Option<Candidate> {
    let (mut best, mut quoted): (Option<Candidate>, Option<Quoting>) = (None, None);
    let (mut open, syntaxes) = (false, tried.syntaxes(delimiter));
    let is_quoting_open = syntaxes.len() > 1;
    for syntax in syntaxes {
        if syntax.quote().is_none() && quoted.is_some_and(|quoted| quoted.is_good()) {
            continue;
        }
        let score = score(text, whole, syntax, layout);
        let mut weight = 1.0;
        if is_quoting_open {
            weight = quoting_weight(Quoting::examine(text, whole, syntax, layout), &mut quoted);
            open |= quoted.is_some_and(|quoted| quoted.is_open());
        }
        let candidate = Candidate { syntax, score, total: score * weight, open: false };
        if best.is_none_or(|best| candidate.total > best.total) {
            best = Some(candidate);
        }
    }
    best.map(|best| Candidate { open, ..best })
}

/// The weight of a style of quoting. `quoted` is the best one with the usual quotes so far, which determines the weight
/// of no quotes.
fn quoting_weight(quoting: Option<Quoting>, quoted: &mut Option<Quoting>) -> f64 {
    let Some(quoting) = quoting else { return quoted.map_or(1.0, |quoted| quoted.score_without()) };
    if quoted.is_none_or(|quoted| quoting.score() > quoted.score()) && quoting.is_usual() {
        *quoted = Some(quoting);
    }
    quoting.score()
}

/// The lowest score of a delimiter. Below it the text is one column.
fn min_score(delimiter: u8, choice: &Choice, is_all_values: bool) -> f64 {
    match choice.hint {
        // The file name implies tabs.
        Some(b'\t') if delimiter == b'\t' => 0.0,
        Some(b',') if PLAIN.contains(&delimiter) => MIN_SCORE_WHEN_NAMED,
        _ if is_all_values => MIN_SCORE_FOR_VALUES,
        _ => MIN_SCORE,
    }
}

/// Whether nine tenths of the lines are values as a whole.
fn is_all_values(text: &[u8], whole: bool) -> bool {
    let mut lines: Vec<&[u8]> =
        text.split(|byte| is_break(*byte)).filter(|line| !line.is_empty()).take(ROWS).collect();
    if !whole && lines.len() > 1 {
        lines.pop();
    }
    let values = lines.iter().filter(|line| cleanness(line) == 1.0).count();
    values * 10 >= lines.len() * 9
}

/// The syntax of a text of one column: the delimiter of the hint or one that does not occur, preferably a tab, and the
/// best quote.
fn fallback(
    text: &[u8],
    whole: bool,
    choice: &Choice,
    tried: &SyntaxSpace,
    layout: &mut Layout,
) -> Result<(Syntax, bool), Error> {
    let named = choice.hint.filter(|hint| *hint != b',');
    let others = choice.hint.into_iter().chain([b'\t', b',', b';', b'|', 0x1F]);
    let absent = || others.into_iter().find(|byte| memchr::memchr(*byte, text).is_none());
    let delimiter = choice.delimiter.or(named).or_else(absent).unwrap_or(b'\t');
    let (mut best, mut quoted): (Option<(f64, Syntax)>, _) = (None, None);
    let syntaxes = tried.syntaxes(delimiter);
    let is_quoting_open = syntaxes.len() > 1;
    for syntax in syntaxes {
        fill(text, whole, syntax, layout);
        let weight = quoting_weight(Quoting::examine(text, whole, syntax, layout), &mut quoted);
        if best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, syntax));
        }
    }
    let open = is_quoting_open && quoted.is_some_and(|quoted| quoted.is_open());
    best.map(|(_, syntax)| (syntax, open))
        .ok_or(Error::Dialect("delimiter, quote and escape cannot be combined"))
}

/// The score of `text` in this syntax, from 0 to about 1.
fn score(text: &[u8], whole: bool, syntax: Syntax, layout: &mut Layout) -> f64 {
    fill(text, whole, syntax, layout);
    let all = score_rows(text, syntax, layout, 0, false);
    // Titles and comments above a table do not lower its score. (With spaces as delimiter, text above a header looks
    // the same.)
    let narrow =
        (0..layout.len()).take_while(|row| RowShape::examine(text, layout, *row).is_narrow()).count();
    let rows = layout.len() - narrow;
    if narrow == 0 || rows < 2 || rows < narrow.min(3) || !PLAIN.contains(&syntax.delimiter()) {
        return all;
    }
    all.max(score_rows(text, syntax, layout, narrow, true) * BELOW_OTHER_LINES)
}

/// The score of the rows from `first` on. `strictly`: all must have the same number of cells, without prose in them.
fn score_rows(text: &[u8], syntax: Syntax, layout: &Layout, first: usize, strictly: bool) -> f64 {
    let rows = || (first..layout.len()).map(|row| layout.line(text, row));
    let mut counts = [0_u32; CELLS + 1];
    rows().for_each(|row| counts[row.len()] += 1);
    // The most frequent width; of several that of the first row, otherwise the largest.
    let Some((mut width, count)) = counts.iter().enumerate().max_by_key(|(_, count)| **count) else {
        return 0.0;
    };
    let count = *count;
    if let Some(first) = rows().next()
        && first.len() > 1
        && counts[first.len()] == count
    {
        width = first.len();
    }
    if width < 2 || strictly && (count as usize) < layout.len() - first {
        return 0.0;
    }
    let is_plain = PLAIN.contains(&syntax.delimiter());
    let (mut consistency, mut clean, mut cells, mut scratch) = (0.0, 0.0, 0.0, Vec::new());
    for row in rows() {
        if row.len() == width {
            consistency += 1.0;
        } else if is_plain && row.len() > 1 {
            consistency += SIMILAR_WIDTH * (row.len().min(width) as f64 / row.len().max(width) as f64);
        } else {
            continue;
        }
        for (column, raw) in (0..row.len()).map(|column| (column, row.raw(column))) {
            let raw = syntax.trim(raw);
            let is_quoted = syntax
                .quote()
                .is_some_and(|quote| raw.first() == Some(&quote) && is_sound(raw, quote, syntax.escape()));
            // In sentences a space follows a comma.
            if strictly && column > 0 && raw.first() == Some(&b' ') {
                return 0.0;
            }
            let found = cleanness(syntax.unquote(raw, &mut scratch));
            // Quoted text may contain anything.
            clean += if is_quoted { found.max(CLEAN_TEXT) } else { found };
            cells += 1.0;
        }
    }
    let columns = 1.0 - 1.0 / (width + 1) as f64;
    consistency / (layout.len() - first) as f64 * columns * (clean / cells)
}

/// The score of a cell as one value: 1 for a number or a date, 0 for text that contains a tab.
fn cleanness(cell: &[u8]) -> f64 {
    if Kind::is_plain_value(cell) {
        1.0
    } else if cell.contains(&b'\t') {
        0.0
    } else if cell.contains(&b';') || cell.contains(&b'|') {
        0.4
    } else if cell.contains(&b',') {
        0.7
    } else {
        CLEAN_TEXT
    }
}
