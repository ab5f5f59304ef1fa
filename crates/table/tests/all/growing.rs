//! A table grows while it is read, keeps its rows when an operation fails, and is read again in another dialect.

use std::sync::atomic::{AtomicBool, Ordering};

use tidings_table::{
    Cancel, Choice, Control, DIALECT, Encoding, Error, Filter, Format, Limits, LineEnd, ORIGINAL, Op, Query,
    Syntax, View, Writer,
};

use crate::support::{TestTable, in_pieces, rows};

fn choice(header: bool) -> Choice {
    Choice { header: Some(header), ..Choice::default() }
}

#[test]
fn rows_are_available_as_soon_as_they_are_complete() {
    let mut made = TestTable::empty(choice(true), Limits::default());
    for (bytes, expected) in [("a\tb", 0), ("\n1", 0), ("\t2\n", 1), ("3\t4\n5", 2), ("\n", 3), ("6\t7", 3)] {
        let summary = made.writer.append(bytes.as_bytes()).unwrap();
        assert_eq!((summary.rows, summary.finished), (expected, false), "after {bytes:?}");
    }
    let summary = made.writer.finish().unwrap();
    assert_eq!((summary.rows, summary.lines, summary.finished), (4, 5, true));
    // A file that has ended may continue, even within a row.
    assert_eq!(made.writer.append(b"89\n").unwrap().rows, 4);
    assert_eq!(made.rows()[3], ["6", "789"]);
}

#[test]
fn the_guess_improves_with_more_text() {
    let mut made = TestTable::empty(Choice::default(), Limits::default());
    made.writer.append(b"one, two and three; that is the title\n").unwrap();
    for i in 0..100 {
        made.writer.append(format!("{i};{};{}\n", i * 2, i * 3).as_bytes()).unwrap();
    }
    assert_eq!(made.reading().dialect().syntax.delimiter(), b';');
    assert_eq!(made.writer.finish().unwrap().ragged, 100);
    assert_eq!(made.reading().summary().lines, 101);
}

#[test]
fn the_guess_continues_after_an_end_with_at_most_one_line() {
    let mut made = TestTable::empty(Choice::default(), Limits::default());
    made.writer.append(b"time;place\n").unwrap();
    // A single line names no columns yet.
    assert_eq!(made.writer.finish().unwrap().rows, 1);
    assert!(!made.reading().dialect().header);
    made.writer.append_rows([["12:30", "Oslo"], ["12:31", "Rome"]]).unwrap();
    assert_eq!(made.rows(), [["12:30", "Oslo"], ["12:31", "Rome"]]);
    // An empty file determines nothing.
    let mut empty = TestTable::whole(b"", Choice::default());
    empty.writer.append(b"a|b|c\n1|2|3\n").unwrap();
    assert_eq!(empty.writer.finish().unwrap().columns, 3);
    for made in [made, empty] {
        let folder = made.folder.path();
        let again = Writer::open(folder, Choice::default(), Limits::default(), Control::default(), |_| {});
        assert_eq!(again.unwrap().table().reading().dialect(), made.reading().dialect());
    }
}

#[test]
fn readers_on_other_threads_see_complete_rows_while_a_table_grows() {
    let mut made = TestTable::empty(choice(false), Limits::default());
    let (table, ended) = (made.writer.table().clone(), AtomicBool::new(false));
    let row = |i: u64| format!("{i}\t\"{}\n{i}\"\r\n", "x".repeat((i % 300) as usize));
    let text: String = (0..20_000).map(row).collect();
    std::thread::scope(|scope| {
        for reader in 0..2_u64 {
            let (table, ended) = (table.clone(), &ended);
            scope.spawn(move || {
                let (mut seen, mut random) = (0, crate::support::Random(reader + 1));
                while !ended.load(Ordering::Relaxed) {
                    let view = View::plain(&table.reading(), false);
                    let total = view.total();
                    assert!(total >= seen);
                    seen = total;
                    if total > 0 {
                        let number = random.below(total);
                        let page = view.page(number, 2).unwrap();
                        for (row, number) in page.rows.iter().zip(number..) {
                            let expected = format!("{}\n{number}", "x".repeat((number % 300) as usize));
                            assert_eq!(row.cells[0].text, number.to_string());
                            assert_eq!(row.cells[1].text, expected);
                        }
                    }
                }
            });
        }
        in_pieces(text.as_bytes(), &[10_000, 333, 70_000], |piece| {
            made.writer.append(piece).unwrap();
        });
        made.writer.finish().unwrap();
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(made.reading().summary().rows, 20_000);
}

#[test]
fn a_file_above_the_limit_is_rejected_and_earlier_rows_stay() {
    let limits = Limits { original_bytes: 20, ..Limits::default() };
    let mut made = TestTable::empty(choice(false), limits);
    made.writer.append(b"1\t2\n3\t4\n").unwrap();
    let result = made.writer.append(b"5\t6\n7\t8\n9\t10\n");
    assert!(matches!(result, Err(Error::TooLarge { what: "the file", limit: 20 })));
    assert_eq!(made.rows(), [["1", "2"], ["3", "4"]]);
    assert_eq!(std::fs::read(made.folder.path().join(ORIGINAL)).unwrap(), b"1\t2\n3\t4\n");
    assert!(matches!(made.writer.append(b"x"), Err(Error::Broken)));
    assert!(matches!(made.writer.append_rows([["x"]]), Err(Error::Broken)));
    assert!(matches!(made.writer.reread(choice(true), Control::default()), Err(Error::Broken)));
}

#[test]
fn the_original_is_kept_byte_for_byte() {
    let bytes = b"\xEF\xBB\xBFa;b\r\n\r\n1;\"x\"\"y\"\r\n";
    let mut made = TestTable::of(bytes, &[3], Choice::default(), Limits::default());
    made.writer.reread(Choice { delimiter: Some(b','), ..Choice::default() }, Control::default()).unwrap();
    assert_eq!(std::fs::read(made.folder.path().join(ORIGINAL)).unwrap(), bytes);
    // The folder contains only the file and its dialect.
    let mut names: Vec<_> =
        made.folder.path().read_dir().unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [DIALECT, ORIGINAL]);
}

#[test]
fn appended_rows_are_written_in_the_dialect_of_the_file() {
    let cells = ["1,5", "say \"hi\"", "two\nlines", "", "Ö"];
    let utf_16 = |text: &str| {
        [&[0xFF, 0xFE], &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()[..]].concat()
    };
    let legacy = encoding_rs::WINDOWS_1252.encode("a;b;ä;ö;ü\r\nd;e;ß;g;h").0.into_owned();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, b"a,b,c,d,e\n1,2,3,4,5").unwrap();
        encoder.finish().unwrap()
    };
    let zstd = ruzstd::encoding::compress_to_vec(
        &b"a|b|c|d|e\n1|2|3|4|5\n"[..],
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    let escaped = br#"a,b,c,d,e
"1 \"x\"","y\\z",3,4,5
"#;
    let files: [(&[u8], LineEnd); 7] = [
        (b"a,b,c,d,e\n1,2,3,4,5\n", LineEnd::Lf),
        (b"a\tb\tc\td\te\r\n1\t2\t3\t4\t5", LineEnd::CrLf),
        (&utf_16("a\tb\tc\td\te\r1\t2\t3\t4\t5\r"), LineEnd::Cr),
        (&legacy, LineEnd::CrLf),
        (&gzip, LineEnd::Lf),
        (&zstd, LineEnd::Lf),
        (escaped, LineEnd::Lf),
    ];
    for (file, line_end) in files {
        let mut made = TestTable::whole(file, choice(true));
        assert_eq!(made.reading().dialect().line_end, line_end);
        assert_eq!(made.reading().summary().rows, 1);
        let summary = made.writer.append_rows([cells, ["v", "w", "x", "y", "z"]]).unwrap();
        assert_eq!((summary.rows, summary.ragged, summary.finished, summary.lossy), (3, 0, true, false));
        assert_eq!(made.rows()[1..], [cells, ["v", "w", "x", "y", "z"]]);
        // They are in the file: reading it again gives the same rows.
        made.writer.reread(choice(true), Control::default()).unwrap();
        assert_eq!(made.rows()[1..], [cells, ["v", "w", "x", "y", "z"]]);
    }
}

#[test]
fn a_row_that_cannot_be_written_changes_nothing() {
    let unquoted = Choice { quote: Some(None), ..choice(true) };
    let latin = Choice { encoding: Encoding::named("latin1"), ..choice(true) };
    for (choice, cell) in [(unquoted.clone(), "a\tb"), (unquoted, "two\nlines"), (latin, "漢字")] {
        let mut made = TestTable::whole(b"a\tb\n1\t2\n", choice);
        assert!(matches!(made.writer.append_rows([["x", cell]]), Err(Error::Unwritable(_))));
        assert_eq!(made.writer.append_rows([["x", "y"]]).unwrap().rows, 2);
        assert_eq!(made.rows(), [["1", "2"], ["x", "y"]]);
    }
}

#[test]
fn an_appended_empty_row_is_a_row() {
    let mut made = TestTable::whole(b"a\n1\n", choice(true));
    assert_eq!(made.writer.append_rows([[""], [""]]).unwrap().rows, 3);
    assert_eq!(made.rows(), [["1"], [""], [""]]);
}

#[test]
fn a_change_of_dialect_reads_the_same_file_again() {
    let mut made =
        TestTable::whole(b"a,b;c\n1,2;3\n4,5;6\n", Choice { delimiter: Some(b';'), ..choice(true) });
    let old = made.reading();
    assert_eq!(made.rows(), [["1,2", "3"], ["4,5", "6"]]);
    let to_commas = Choice { delimiter: Some(b','), ..choice(false) };
    let summary = made.writer.reread(to_commas, Control::default()).unwrap();
    assert_eq!((summary.rows, summary.finished), (3, true));
    assert_eq!(made.rows(), [["a", "b;c"], ["1", "2;3"], ["4", "5;6"]]);
    // A view of the old reading is unchanged.
    assert_eq!(rows(&View::plain(&old, false)), [["1,2", "3"], ["4,5", "6"]]);
    made.writer.append(b"7,8;9\n").unwrap();
    assert_eq!(made.rows().last().unwrap(), &["7", "8;9"]);
}

#[test]
fn the_dialect_may_change_in_the_middle_of_an_upload() {
    let text = "a,b;c\n".repeat(30_000);
    let (first, rest) = text.as_bytes().split_at(100_001);
    let mut made = TestTable::empty(choice(false), Limits::default());
    made.writer.append(first).unwrap();
    let other = if made.reading().dialect().syntax.delimiter() == b',' { b';' } else { b',' };
    made.writer.reread(Choice { delimiter: Some(other), ..choice(false) }, Control::default()).unwrap();
    assert_eq!(made.reading().summary().rows, 100_001 / 6);
    made.writer.append(rest).unwrap();
    let summary = made.writer.finish().unwrap();
    assert_eq!((summary.rows, summary.ragged, summary.received), (30_000, 0, text.len() as u64));
    assert_eq!(made.reading().dialect().syntax.delimiter(), other);
}

#[test]
fn an_invalid_or_cancelled_change_of_dialect_has_no_effect() {
    let mut made = TestTable::whole(&b"a,b\n1,2\n".repeat(10), choice(true));
    let wrong = Choice { delimiter: Some(b'\n'), ..choice(true) };
    assert!(matches!(made.writer.reread(wrong, Control::default()), Err(Error::Dialect(_))));
    let cancel = Cancel::default();
    cancel.cancel();
    let control = Control::default().cancelled_by(&cancel);
    assert!(matches!(made.writer.reread(choice(false), control), Err(Error::Cancelled)));
    assert_eq!(made.reading().summary().rows, 19);
    assert_eq!(made.writer.append_rows([["x", "y"]]).unwrap().rows, 20);
}

#[test]
fn a_refreshed_view_contains_appended_rows() {
    let mut made = TestTable::empty(choice(true), Limits::default());
    made.writer.append(b"n\tw\n1\tapple\n2\tpear\n3\tapp").unwrap();
    made.writer.finish().unwrap();
    let filter = |sort| Query {
        filter: vec![Filter { column: 1, op: Op::Contains, value: "app".to_owned(), others: vec![] }],
        sort,
        ..Query::default()
    };
    let unsorted = made.reading().view(&filter(vec![]), Control::default()).unwrap();
    let by_n = vec![tidings_table::SortBy { column: 0, desc: true, natural: false }];
    let sorted = made.reading().view(&filter(by_n), Control::default()).unwrap();
    assert_eq!(rows(&unsorted), [["1", "apple"], ["3", "app"]]);
    // The incomplete row becomes one that does not match.
    made.writer.append(b"\x08\n4\tgrapple\n5\tapp\n").unwrap();
    made.writer.append(b"6\tapp\n").unwrap();
    made.writer.finish().unwrap();
    let expected = [["1", "apple"], ["3", "app\x08"], ["4", "grapple"], ["5", "app"], ["6", "app"]];
    let refreshed = unsorted.refresh(Control::default()).unwrap();
    assert_eq!(rows(&refreshed), expected);
    made.writer.append(b"7\tapp").unwrap();
    made.writer.finish().unwrap();
    let with_open = refreshed.refresh(Control::default()).unwrap();
    assert_eq!(rows(&with_open)[5], ["7", "app"]);
    made.writer.append(b"le\n").unwrap();
    assert_eq!(rows(&with_open.refresh(Control::default()).unwrap())[5], ["7", "apple"]);
    let expected = [&expected[..], &[["7", "apple"]]].concat();
    let refreshed = with_open.refresh(Control::default()).unwrap();
    assert_eq!(rows(&refreshed.refresh(Control::default()).unwrap()), expected);
    let reversed: Vec<_> = expected.into_iter().rev().collect();
    assert_eq!(rows(&sorted.refresh(Control::default()).unwrap()), reversed);
    // The earlier view is unchanged, and the plain view always contains all rows.
    assert_eq!(unsorted.total(), 2);
    assert_eq!(View::plain(&made.reading(), false).total(), 7);
}

#[test]
fn a_rejected_upload_leaves_no_file() {
    let mut made = TestTable::empty(choice(false), Limits::default());
    let archive = [&b"PK\x03\x04"[..], &[0; 22], b"\x09\0\0\0photo.jpg"].concat();
    assert!(matches!(made.writer.append(&archive), Err(Error::NotText(_))));
    assert_eq!(std::fs::read(made.folder.path().join(ORIGINAL)).unwrap(), b"");
    assert_eq!(made.reading().summary().lines, 0);
}

#[test]
fn a_stray_quote_does_not_swallow_a_long_file() {
    let text = format!("id\ttext\n1\t\"never closed\n{}", "2\tfine\n".repeat(40_000));
    let made = TestTable::of(text.as_bytes(), &[100_000], choice(true), Limits::default());
    assert_eq!((made.reading().summary().rows, made.reading().summary().open_quote), (40_001, false));
    // A long quoted text is no stray quote.
    let text = format!(
        "id,text\n1,\"{}\"\n{}",
        "long, and, so,\non; it\ngoes, with (lines)\n".repeat(2_000),
        "2,\"fine, too\"\n".repeat(9_000)
    );
    let made = TestTable::of(text.as_bytes(), &[100_000], choice(true), Limits::default());
    assert_eq!((made.reading().summary().rows, made.reading().summary().ragged), (9_001, 0));
}

#[test]
fn a_cell_or_row_longer_than_the_examined_head_does_not_affect_the_guess() {
    let cells = |first: &str, rest: &str| [first.to_owned(), rest.to_owned()];
    for long in ["x".repeat(300_000), "a, b; and\nso on\n".repeat(20_000)] {
        let text = format!("id,text\n1,\"{long}\"\n2,\"fine, too\"\n");
        let made = TestTable::of(text.as_bytes(), &[50_000], Choice::default(), Limits::default());
        let view = View::plain(&made.reading(), false);
        assert_eq!(view.header().unwrap().unwrap().width, 2);
        let page = view.page(0, 2).unwrap();
        assert_eq!(page.rows[0].cells[1].cut, Some(long.len() as u64));
        assert!(long.starts_with(&page.rows[0].cells[1].text));
        assert_eq!(page.rows[1].cells[1].text, "fine, too");
        let mut written = Vec::new();
        view.write(Format::Csv, &mut written, Control::default()).unwrap();
        let comma = Syntax::new(b',', Some(b'"'), None).unwrap();
        let whole = crate::support::text_by_csv(&written, comma);
        assert_eq!(whole, [cells("id", "text"), cells("1", &long), cells("2", "fine, too")]);
    }
    let names: Vec<String> = (0..30_000).map(|i| format!("name {i}")).collect();
    let text = format!("{}\n{}\n", names.join(";"), vec!["1,5"; 30_000].join(";"));
    let made = TestTable::of(text.as_bytes(), &[50_000], Choice::default(), Limits::default());
    assert_eq!((made.reading().summary().columns, made.reading().dialect().header), (30_000, true));
    let row = View::plain(&made.reading(), false).page(0, 1).unwrap().rows.swap_remove(0);
    assert_eq!((row.cells.len(), row.width, &row.cells[999].text[..]), (1_000, 30_000, "1,5"));
}

#[test]
fn a_byte_order_mark_is_not_part_of_a_cell_at_any_split() {
    let utf_8 = Choice { encoding: Some(Encoding::UTF_8), ..choice(true) };
    for sizes in [&[1][..], &[2], &[100]] {
        let made = TestTable::of(b"\xEF\xBB\xBFid\tn\n1\t2\n", sizes, utf_8.clone(), Limits::default());
        let header = View::plain(&made.reading(), false).header().unwrap().unwrap();
        assert_eq!(header.cells[0].text, "id");
    }
}

#[test]
fn an_unclosed_quote_is_reported() {
    let quoted = Choice { delimiter: Some(b'\t'), quote: Some(Some(b'"')), ..choice(true) };
    let mut made = TestTable::whole(b"a\tb\n1\t\"2\n3\t4\n", quoted);
    let summary = made.reading().summary();
    assert_eq!((summary.rows, summary.open_quote), (1, true));
    assert!(matches!(made.writer.append_rows([["x"]]), Err(Error::Unwritable(_))));
    made.writer.reread(Choice { quote: Some(None), ..choice(true) }, Control::default()).unwrap();
    assert_eq!(made.rows(), [["1", "\"2"], ["3", "4"]]);
}

#[test]
fn catching_up_reads_only_the_rows_of_another_process() {
    let mut made = TestTable::whole(b"time;place\n1;Oslo\n2;Rome", choice(true));
    let append_to = |made: &TestTable, bytes: &[u8]| {
        let path = made.folder.path().join(ORIGINAL);
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    };
    let before = made.reading();
    // Within a row, and then its end and many more rows.
    append_to(&made, b"opolis");
    assert_eq!(made.writer.catch_up(Control::default()).unwrap().rows, 1);
    let many: String = (3..50_000).map(|row| format!("\n{row};Bern")).collect();
    append_to(&made, many.as_bytes());
    made.writer.catch_up(Control::default()).unwrap();
    assert_eq!(made.writer.finish().unwrap().rows, 49_999);
    assert_eq!(made.rows()[1], ["2", "Romeopolis"]);
    assert!(std::sync::Arc::ptr_eq(&before, &made.reading()));
    // Without new bytes it does nothing, and appending continues as before.
    assert!(made.writer.catch_up(Control::default()).unwrap().finished);
    made.writer.append_rows([["50000", "Paris"]]).unwrap();
    let again = Writer::open(made.folder.path(), choice(true), Limits::default(), Control::default(), |_| {});
    assert_eq!(again.unwrap().table().reading().summary(), made.reading().summary());
    // Bytes in another encoding do not change how earlier rows are read.
    let mut ascii = TestTable::whole("a;b\n1;x\n".repeat(50_000).as_bytes(), Choice::default());
    append_to(&ascii, b"M\xfcnchen;K\xf6ln\n");
    ascii.writer.catch_up(Control::default()).unwrap();
    ascii.writer.finish().unwrap();
    assert_eq!(ascii.reading().dialect().encoding, Encoding::UTF_8);
    assert!(ascii.reading().summary().lossy);
}
