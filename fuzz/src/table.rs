//! The invariants of the table engine for any file, as functions that panic on a violation.
//!
//! They run in two ways, like those of `lib.rs`: in cargo-fuzz (`fuzz_targets/table_*.rs`), and in the ordinary test
//! `crates/table/tests/fuzz_corpus.rs` over the committed inputs of `seeds/` and mutations of them.

use std::ops::ControlFlow;
use std::sync::Arc;

use tidings_table::{
    Choice, Control, Dialect, Event, Filter, Format, Limits, Op, Query, Reader, Reading, SortBy, Summary,
    Syntax, TypeChoices, View, Writer,
};

/// Small limits, so that small files reach them.
const LIMITS: Limits = Limits {
    original_bytes: 1 << 20,
    text_bytes: 1 << 22,
    unpack_ratio: 100,
    cell_bytes: 1 << 20,
    row_cells: 1 << 20,
    page_bytes: 1 << 28,
    page_cells: 1 << 26,
    page_rows: 64,
    scan_row_bytes: 1 << 20,
    sort_bytes: 256,
    order_bytes: 64,
};

/// A table is independent of the division of its file, and the same when it is opened again, also after rows were appended;
/// appended rows change no earlier row. Its download reads back as the same table.
///
/// The first byte is the size of the pieces.
pub fn file(data: &[u8]) {
    let (size, data) = data.split_first().map_or((1, data), |(size, rest)| (usize::from(*size).max(1), rest));
    let whole = read(data, data.len().max(1), Choice::default());
    let pieces = read(data, size, Choice::default());
    let (whole, pieces) = match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => (whole, pieces),
        (Err(_), Err(_)) => return,
        (whole, pieces) => panic!("whole {:?}, in pieces {:?}", whole.err(), pieces.err()),
    };
    assert_eq!(whole.dialect, pieces.dialect);
    assert_eq!(whole.summary, pieces.summary);
    assert_eq!(whole.rows, pieces.rows);
    assert_eq!(whole.rows.len() as u64, whole.summary.lines);

    grow(&pieces);
    let syntax = Syntax::new(b',', Some(b'"'), None).expect("three bytes that differ");
    let mut written = Vec::new();
    let view = View::plain(&whole.reading, true);
    view.write(Format::Csv, &mut written, Control::default()).expect("memory does not fail");
    assert_eq!(shown(&cells(&written, syntax)), whole.rows, "from {}", written.escape_ascii());
}

/// A JSON, XLSX or Parquet file is read in the same way however it arrives and when it is opened again, or it is refused.
pub fn formats(data: &[u8]) {
    let whole = read(data, data.len().max(1), Choice::default());
    let pieces = read(data, 37, Choice::default());
    let (whole, pieces) = match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => (whole, pieces),
        (Err(_), Err(_)) => return,
        (whole, pieces) => panic!("whole {:?}, in pieces {:?}", whole.err(), pieces.err()),
    };
    assert_eq!((&whole.dialect, whole.summary, &whole.rows), (&pieces.dialect, pieces.summary, &pieces.rows));
    let header = View::plain(&whole.reading, false).header().expect("a file can be read");
    let folder = whole.folder.path();
    let opened = Writer::open(folder, Choice::default(), LIMITS, Control::default(), |_| {});
    let opened = opened.expect("it was read before").table().reading();
    assert_eq!(opened.dialect(), &whole.dialect);
    assert_eq!(all_rows(&opened).expect("a file can be read"), whole.rows);
    assert_eq!(View::plain(&opened, false).header().expect("a file can be read"), header);
}

/// Appends to a file that has ended.
fn grow(table: &Read) {
    let folder = table.folder.path();
    let open =
        || Writer::open(folder, Choice::default(), LIMITS, Control::default(), |_| {}).expect("it was read");
    let mut writer = open();
    let reading = writer.table().reading();
    assert_eq!((reading.dialect(), reading.summary()), (&table.dialect, table.summary));
    if writer.append_rows([["a;b;c", "d\te", "1,5 \"x\""]; 3]).is_err() {
        return;
    }
    let after = all_rows(&writer.table().reading()).expect("a file can be read");
    // A file with one line or none does not determine its dialect.
    let fixed = if table.summary.lines > 1 { &table.rows[..] } else { &[] };
    assert_eq!(after[..fixed.len()], *fixed);
    assert_eq!(all_rows(&open().table().reading()).expect("a file can be read"), after);
}

/// A view has the matching rows in order, by filter, sort and search.
///
/// The first bytes are the query: column, operation, direction, length of the value, the value.
pub fn view(data: &[u8]) {
    let [column, op, desc, length, rest @ ..] = data else { return };
    let (value, text) = rest.split_at(rest.len().min(usize::from(*length % 16)));
    let Ok(value) = std::str::from_utf8(value) else { return };
    let syntax = Syntax::new(b',', Some(b'"'), (desc & 2 != 0).then_some(b'\\')).expect("bytes that differ");
    let choice = Choice {
        delimiter: Some(b','),
        quote: Some(Some(b'"')),
        escape: Some(syntax.escape()),
        header: Some(false),
        encoding: Some(tidings_table::Encoding::UTF_8),
        skip: Some(0),
        escapes_everywhere: Some(syntax.escapes_everywhere()),
        skips_spaces: Some(syntax.skips_spaces()),
        is_text: false,
        sheet: None,
        hint: None,
    };
    let Ok(table) = read(text, 37, choice) else { return };
    let marked = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    assert_eq!(table.rows, shown(&cells(marked, syntax)));
    let column = usize::from(column % 4);
    let filter = Filter {
        column,
        op: Op::ALL[usize::from(*op) % Op::ALL.len()],
        value: value.to_owned(),
        others: vec![],
    };
    let sort = SortBy { column, desc: desc & 1 != 0, natural: false };
    let query = |filter: &[&Filter], sort: &[SortBy], search: &str| Query {
        filter: filter.iter().copied().cloned().collect(),
        sort: sort.to_vec(),
        search: search.to_owned(),
        ignore_accents: desc & 2 != 0,
        types: TypeChoices::default(),
        header_is_row: false,
    };
    let run = |query: &Query| table.reading.view(query, Control::default()).ok().map(|view| numbers(&view));
    let Some(filtered) = run(&query(&[&filter], &[], "")) else { return };
    let Some(sorted) = run(&query(&[&filter], &[sort], "")) else { panic!("sorting fails") };
    let mut again = sorted.clone();
    again.sort_unstable();
    assert_eq!(again, filtered, "a sort keeps the rows");

    let not = Filter { op: Op::Not, ..filter.clone() };
    let equals = Filter { op: Op::Equals, ..filter.clone() };
    let (equal, other) = (run(&query(&[&equals], &[], "")), run(&query(&[&not], &[], "")));
    assert_eq!(equal.is_some(), other.is_some(), "both operations accept the value or neither");
    if let (Some(equal), Some(other)) = (equal, other) {
        assert_eq!(equal.len() + other.len(), table.rows.len());
        assert!(equal.iter().all(|row| !other.contains(row)));
    }

    let found = run(&query(&[], &[], value)).expect("text is searched");
    for (number, row) in table.rows.iter().enumerate() {
        // A non-ASCII letter may be followed by a combining accent, which makes it another letter.
        let has = row.iter().any(|cell| cell.is_ascii() && cell.contains(value));
        assert!(!has || found.contains(&(number as u64)), "{row:?} has {value:?}");
    }
}

struct Read {
    reading: Arc<Reading>,
    dialect: Dialect,
    summary: Summary,
    rows: Vec<Vec<String>>,
    folder: tempfile::TempDir,
}

fn read(bytes: &[u8], size: usize, choice: Choice) -> Result<Read, tidings_table::Error> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut writer = Writer::create(folder.path(), choice, LIMITS)?;
    for piece in bytes.chunks(size) {
        writer.append(piece)?;
    }
    let summary = writer.finish()?;
    let reading = writer.table().reading();
    let rows = all_rows(&reading)?;
    Ok(Read { dialect: reading.dialect().clone(), reading, summary, rows, folder })
}

fn all_rows(reading: &Arc<Reading>) -> Result<Vec<Vec<String>>, tidings_table::Error> {
    let (view, mut rows) = (View::plain(reading, true), Vec::new());
    while (rows.len() as u64) < view.total() {
        for row in view.page(rows.len() as u64, 64)?.rows {
            assert_eq!(row.cells.len() as u64, row.width);
            rows.push(row.cells.into_iter().map(|cell| cell.text).collect());
        }
    }
    Ok(rows)
}

fn numbers(view: &View) -> Vec<u64> {
    let mut numbers = Vec::new();
    while (numbers.len() as u64) < view.total() {
        let page = view.page(numbers.len() as u64, 64).expect("a file can be read");
        numbers.extend(page.rows.iter().map(|row| row.number));
    }
    numbers
}

/// All cells, as read by the reader.
fn cells(text: &[u8], syntax: Syntax) -> Vec<Vec<Vec<u8>>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), Vec::new());
    let mut sink = |event: Event<'_>| {
        match event {
            Event::Content(content) => cell.extend_from_slice(content),
            Event::Cell => row.push(std::mem::take(&mut cell)),
            Event::Row => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
        }
        ControlFlow::Continue(())
    };
    let mut reader = Reader::new(syntax);
    reader.feed(text, &mut sink);
    reader.finish(&mut sink);
    rows
}

fn shown(rows: &[Vec<Vec<u8>>]) -> Vec<Vec<String>> {
    let text = |cell: &Vec<u8>| String::from_utf8_lossy(cell).into_owned();
    rows.iter().map(|row| row.iter().map(text).collect()).collect()
}
