//! Tables in temporary folders, and reference rows from the `csv` crate.

use std::sync::Arc;

use tempfile::TempDir;
use tidings_table::{Choice, Limits, Reading, Syntax, View, Writer};

/// A table in a temporary folder.
pub(crate) struct TestTable {
    pub(crate) writer: Writer,
    pub(crate) folder: TempDir,
}

impl TestTable {
    pub(crate) fn empty(choice: Choice, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { writer: Writer::create(folder.path(), choice, limits).unwrap(), folder }
    }

    /// A complete file that arrives in pieces of these sizes, repeatedly.
    pub(crate) fn of(bytes: &[u8], sizes: &[usize], choice: Choice, limits: Limits) -> Self {
        let mut made = Self::empty(choice, limits);
        in_pieces(bytes, sizes, |piece| {
            made.writer.append(piece).unwrap();
        });
        made.writer.finish().unwrap();
        made
    }

    /// A complete file that arrives at once.
    pub(crate) fn whole(bytes: &[u8], choice: Choice) -> Self {
        Self::of(bytes, &[usize::MAX], choice, Limits::default())
    }

    pub(crate) fn reading(&self) -> Arc<Reading> {
        self.writer.table().reading()
    }

    /// All rows as text, without the header.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        rows(&View::plain(&self.reading(), false))
    }
}

/// All rows of a view as text.
pub(crate) fn rows(view: &View) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    while (rows.len() as u64) < view.total() {
        let page = view.page(rows.len() as u64, 100).unwrap();
        assert!(!page.rows.is_empty(), "{} of {} rows", rows.len(), view.total());
        for row in page.rows {
            assert_eq!(row.cells.len() as u64, row.width);
            rows.push(
                row.cells
                    .into_iter()
                    .map(|cell| {
                        assert_eq!(cell.cut, None);
                        cell.text
                    })
                    .collect(),
            );
        }
    }
    rows
}

/// A choice that leaves only the line break to the guess.
pub(crate) fn exactly(syntax: Syntax, header: bool) -> Choice {
    Choice {
        delimiter: Some(syntax.delimiter()),
        quote: Some(syntax.quote()),
        escape: Some(syntax.escape()),
        header: Some(header),
        encoding: Some(tidings_table::Encoding::UTF_8),
        skip: Some(0),
        escapes_everywhere: Some(syntax.escapes_everywhere()),
        skips_spaces: Some(syntax.skips_spaces()),
        is_text: false,
        sheet: None,
        hint: None,
    }
}

pub(crate) fn in_pieces(mut bytes: &[u8], sizes: &[usize], mut take: impl FnMut(&[u8])) {
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*size).clamp(1, bytes.len()));
        take(piece);
        bytes = rest;
    }
}

/// The rows according to the `csv` crate.
pub(crate) fn by_csv(text: &[u8], syntax: Syntax) -> Vec<Vec<Vec<u8>>> {
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(syntax.delimiter()).escape(syntax.escape());
    match syntax.quote() {
        Some(quote) => builder.quote(quote),
        None => builder.quoting(false),
    };
    let mut reader = builder.from_reader(text);
    let records = reader.byte_records().map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect());
    records.collect()
}

/// The rows according to the `csv` crate, as text.
pub(crate) fn text_by_csv(text: &[u8], syntax: Syntax) -> Vec<Vec<String>> {
    let shown = |cell: Vec<u8>| String::from_utf8_lossy(&cell).into_owned();
    by_csv(text, syntax).into_iter().map(|row| row.into_iter().map(shown).collect()).collect()
}

/// A xorshift generator (Marsaglia 2003) with the same sequence in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(crate) fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// CSV with commas and double quotes.
pub(crate) fn commas() -> Syntax {
    Syntax::new(b',', Some(b'"'), None).unwrap()
}
