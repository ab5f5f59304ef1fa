//! Pages show cells as they are written, truncated if they are too long, with their length.

use std::io::Write;

use tidings_table::{Choice, Control, Format, Limits, Query, SortBy, View};

use crate::support::{TestTable, commas, exactly, rows};

#[test]
fn a_page_ends_where_the_view_ends() {
    let made = TestTable::whole(b"n\n1\n2\n3\n4\n5\n", Choice { header: Some(true), ..Choice::default() });
    let view = View::plain(&made.reading(), false);
    let page = view.page(3, 100).unwrap();
    assert_eq!((page.from, page.total, page.rows.len(), page.rows[1].number), (3, 5, 2, 4));
    for (from, count) in [(5, 1), (u64::MAX, 1), (0, 0), (u64::MAX - 1, usize::MAX)] {
        assert!(view.page(from, count).unwrap().rows.is_empty());
    }
    assert_eq!(view.header().unwrap().unwrap().cells[0].text, "n");
}

#[test]
fn the_header_is_a_row_on_request() {
    let made = TestTable::whole(b"n\tm\n1\t2\n", Choice { header: Some(true), ..Choice::default() });
    let view = View::plain(&made.reading(), true);
    assert_eq!(rows(&view), [["n", "m"], ["1", "2"]]);
    assert_eq!(view.header().unwrap(), None);
    assert_eq!(view.page(0, 2).unwrap().rows[1].number, 1);
}

#[test]
fn a_long_cell_is_truncated_between_characters_and_its_length_reported() {
    let limits = Limits { cell_bytes: 10, ..Limits::default() };
    let text = format!(
        "{}\t{}\t\"{}\"\t{}\n",
        "x".repeat(10),
        "ä".repeat(300_000),
        "a\"\"".repeat(50),
        "abcdefghi€"
    );
    let made = TestTable::of(
        text.as_bytes(),
        &[70_000],
        Choice { header: Some(false), ..Choice::default() },
        limits,
    );
    let page = View::plain(&made.reading(), false).page(0, 1).unwrap();
    let cells: Vec<_> = page.rows[0].cells.iter().map(|cell| (&cell.text[..], cell.cut)).collect();
    assert_eq!(
        cells,
        [
            ("xxxxxxxxxx", None),
            ("äääää", Some(300_000)),
            ("a\"a\"a\"a\"a\"", Some(100)),
            ("abcdefghi", Some(10)),
        ]
    );
}

#[test]
fn a_wide_row_shows_its_first_cells_and_reports_their_number() {
    let limits = Limits { row_cells: 3, ..Limits::default() };
    let made = TestTable::of(b"a,b,c,d,e\n1,2,3,4,5\n", &[usize::MAX], Choice::default(), limits);
    let page = View::plain(&made.reading(), false).page(0, 1).unwrap();
    assert_eq!((page.rows[0].cells.len(), page.rows[0].width), (3, 5));
}

#[test]
fn a_page_never_exceeds_its_limit() {
    let limits = Limits { page_bytes: 1_000, page_rows: 10, ..Limits::default() };
    let row = format!("{}\t{}\t{}\n", "a".repeat(80), "b".repeat(80), "c".repeat(80));
    let made = TestTable::of(row.repeat(20).as_bytes(), &[usize::MAX], Choice::default(), limits);
    let page = View::plain(&made.reading(), true).page(0, 20).unwrap();
    assert_eq!(page.rows.len(), 10);
    for row in &page.rows {
        let cells: Vec<_> = row.cells.iter().map(|cell| (cell.text.len(), cell.cut)).collect();
        assert_eq!(cells, [(80, None), (20, Some(80)), (0, Some(80))]);
    }
}

#[test]
fn a_page_of_many_wide_rows_shows_an_equal_share_of_each() {
    let limits = Limits { page_cells: 100, ..Limits::default() };
    let text = format!("{}\n", ";".repeat(49)).repeat(20);
    let made = TestTable::of(text.as_bytes(), &[usize::MAX], Choice::default(), limits);
    let view = View::plain(&made.reading(), true);
    for (rows, cells) in [(1, 50), (4, 25), (20, 5)] {
        let page = view.page(0, rows).unwrap();
        assert_eq!(page.rows.len(), rows);
        assert!(page.rows.iter().all(|row| (row.cells.len(), row.width) == (cells, 50)));
    }
}

#[test]
fn invalid_bytes_are_shown_as_such_and_reported() {
    let made = TestTable::whole("é\tb\n1\t".as_bytes(), Choice { header: Some(false), ..Choice::default() });
    assert!(!made.reading().summary().lossy);
    let made = TestTable::whole(
        b"\xC3\xA9\tb\n1\t\xFF\xFEx\n",
        Choice { header: Some(false), encoding: Some(tidings_table::Encoding::UTF_8), ..Choice::default() },
    );
    assert!(made.reading().summary().lossy);
    assert_eq!(made.rows()[1], ["1", "\u{FFFD}\u{FFFD}x"]);
}

#[test]
fn a_download_has_complete_cells_and_is_read_back_unchanged() {
    let long = "long \"quoted\" cell,".repeat(20_000);
    let text = format!(
        "id\tname\tnote\n007\t\"two\nlines\"\t{long}\n8\t,\n\n\"\"\n9\t\" a \"\t'\n",
        long = format_args!("\"{}\"", long.replace('"', "\"\""))
    );
    let made = TestTable::whole(text.as_bytes(), Choice::default());
    let view = View::plain(&made.reading(), false);
    for (format, delimiter) in [(Format::Csv, b','), (Format::Tsv, b'\t')] {
        let mut written = Vec::new();
        view.write(format, &mut written, Control::default()).unwrap();
        let syntax = tidings_table::Syntax::new(delimiter, Some(b'"'), None).unwrap();
        let expected = vec![
            vec!["id".to_owned(), "name".to_owned(), "note".to_owned()],
            vec!["007".to_owned(), "two\nlines".to_owned(), long.clone()],
            vec!["8".to_owned(), ",".to_owned()],
            vec![String::new()],
            vec!["9".to_owned(), " a ".to_owned(), "'".to_owned()],
        ];
        assert_eq!(crate::support::text_by_csv(&written, syntax), expected);
    }
}

#[test]
fn a_sorted_download_is_in_order_also_for_rows_that_exceed_memory() {
    let long = "x, ".repeat(12 << 20);
    let row = |i: u64| if i == 9_000 { format!("{i}\t{long}\n") } else { format!("{i}\tnumber {i}\n") };
    let text: String = (0..20_000).map(|i| row(i * 7_919 % 20_000)).collect();
    let made = TestTable::whole(text.as_bytes(), Choice { header: Some(false), ..Choice::default() });
    let query = Query { sort: vec![SortBy { column: 0, desc: true, natural: false }], ..Query::default() };
    let view = made.reading().view(&query, Control::default()).unwrap();
    let mut written = Vec::new();
    view.write(Format::Tsv, &mut written, Control::default()).unwrap();
    // A cell of this length is always quoted.
    let expected: String =
        (0..20_000).rev().map(row).collect::<String>().replacen(&long, &format!("\"{long}\""), 1);
    assert!(written == expected.as_bytes(), "{} bytes instead of {}", written.len(), expected.len());
}

#[test]
fn a_download_ends_when_its_reader_disconnects() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let made = TestTable::whole(b"a\tb\n1\t2\n", Choice::default());
    let result = View::plain(&made.reading(), false).write(Format::Csv, &mut Gone, Control::default());
    assert!(
        matches!(result, Err(tidings_table::Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe)
    );
}

#[test]
fn a_window_shows_the_requested_columns_of_a_page() {
    let limits = Limits { row_cells: 3, ..Limits::default() };
    let made = TestTable::of(b"a,b,c,d,e\n1,2,3,4,5\n6\n", &[usize::MAX], exactly(commas(), true), limits);
    let view = View::plain(&made.reading(), false);
    let cells = |row: &tidings_table::Row| row.cells.iter().map(|cell| cell.text.clone()).collect::<Vec<_>>();
    for (columns, header, first) in [
        (0..2, vec!["a", "b"], vec!["1", "2"]),
        (1..usize::MAX, vec!["b", "c", "d"], vec!["2", "3", "4"]),
        (4..9, vec!["e"], vec!["5"]),
        (7..9, vec![], vec![]),
    ] {
        let page = view.window(0, 2, columns.clone()).unwrap();
        assert_eq!(
            (cells(&page.rows[0]), page.rows[0].width),
            (first.iter().map(|cell| (*cell).to_owned()).collect(), 5)
        );
        assert_eq!(page.rows[1].cells.len(), usize::from(columns.start == 0));
        assert_eq!(cells(&view.header_of(columns).unwrap().unwrap()), header);
    }
}
