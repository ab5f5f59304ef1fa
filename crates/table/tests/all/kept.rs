//! The dialect of a complete file is final, whatever is appended and however often it is opened.

use std::fmt::Write as _;

use proptest::prelude::*;
use tidings_table::{
    Choice, Control, DIALECT, Dialect, Encoding, Evidence, Limits, ORIGINAL, Query, Reading, SortBy, View,
    Writer,
};

use crate::support::{TestTable, by_csv, rows, text_by_csv};

/// The dialect and all lines, as every reader sees them.
fn seen(reading: &std::sync::Arc<Reading>) -> (Dialect, Vec<Vec<String>>) {
    (reading.dialect().clone(), rows(&View::plain(reading, true)))
}

/// The dialect and all lines of the same folder after a restart.
fn reopened(made: &TestTable, choice: Choice) -> (Dialect, Vec<Vec<String>>) {
    let folder = made.folder.path();
    let writer = Writer::open(folder, choice, *made.reading().limits(), Control::default(), |_| {}).unwrap();
    seen(&writer.table().reading())
}

/// The appended data.
#[derive(Clone, Debug)]
enum More {
    Bytes(&'static [u8]),
    Cells(Vec<Vec<&'static str>>),
}

#[test]
fn appended_rows_are_read_in_the_dialect_of_the_table_and_change_no_earlier_row() {
    let bytes = |bytes, times| vec![More::Bytes(bytes); times];
    let cells = |rows, times| vec![More::Cells(rows); times];
    let lists = vec![vec!["hello, world, foo"], vec!["a, b, c"], vec!["d, e, f"], vec!["g, h, i"]];
    let files: [(&str, &[u8], Vec<More>); 9] = [
        ("x.csv", b"note\nx\n", cells(lists.clone(), 1)),
        ("x", b"note\nx\n", cells(lists, 1)),
        ("x.csv", b"a,b\n1,2\n", bytes(b"a;b;c,x\n", 8)),
        ("x.csv", b"a,b\n1,2\n", cells(vec![vec!["p;q;r", "s;t;u"]], 40)),
        ("x.tsv", b"city\tname\nParis\tAnn\nRome\tBob\n", cells(vec![vec!["Oslo", "name"]], 3)),
        // A rotated log that repeats its header.
        ("x.csv", b"name,city\nAnn,Oslo\nBob,Rome\n", bytes(b"name,city\nCid,Bonn\n", 3)),
        ("x.csv", b"when,what\n1,2\n", bytes(b"'a','b'\n\"c\\\"d\",e\n", 30)),
        ("x.tsv", b"a\tb\n1\t2\n", vec![More::Bytes(b"x\t\xFF\n"), More::Bytes("y\té日本\n".as_bytes())]),
        ("x.tsv", "a\tb\nä\t2\n".as_bytes(), bytes(b"x\t\xE4\xF6\xFC\n", 9)),
    ];
    for (name, file, more) in files {
        let choice = Choice::hinted_by(name);
        let mut made = TestTable::whole(file, choice.clone());
        let before = seen(&made.reading());
        for more in more {
            match &more {
                More::Bytes(bytes) => made.writer.append(bytes).and_then(|_| made.writer.finish()),
                More::Cells(rows) => made.writer.append_rows(rows),
            }
            .unwrap();
            let (dialect, rows) = seen(&made.reading());
            assert_eq!(dialect, before.0, "{more:?}");
            assert_eq!(rows[..before.1.len()], before.1, "{more:?}");
            if let More::Cells(cells) = &more {
                assert_eq!(rows[rows.len() - cells.len()..], *cells);
            }
        }
        let after = seen(&made.reading());
        assert_eq!(reopened(&made, choice.clone()), after);
        made.writer.reread(choice, Control::default()).unwrap();
        assert_eq!(seen(&made.reading()), after);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_appended_data_changes_an_earlier_cell(
        file in "([a-c]{1,3}|[0-9.]{1,4}|\"a[,;\n]b\"|é)([,;\t|][a-c]{0,3}|[,;\t][0-9.]{1,4}){0,3}\n([a-c0-9,;\t|\"é]{1,9}\n){1,20}",
        more in prop::collection::vec("([a-c0-9,;\t|\"'\\\\é ]{0,9}\r?\n){1,20}", 1..4),
        broken in any::<bool>(),
        name in prop::sample::select(vec!["a", "a.csv", "a.tsv"]),
    ) {
        let choice = Choice::hinted_by(name);
        let mut made = TestTable::whole(file.as_bytes(), choice.clone());
        let before = seen(&made.reading());
        prop_assume!(before.1.len() > 1 && !made.reading().summary().open_quote);
        for more in &more {
            let mut bytes = more.clone().into_bytes();
            if broken {
                bytes.insert(0, 0xFF);
            }
            made.writer.append(&bytes).unwrap();
            made.writer.finish().unwrap();
            let (dialect, rows) = seen(&made.reading());
            prop_assert_eq!(&dialect, &before.0);
            prop_assert_eq!(&rows[..before.1.len()], &before.1[..]);
        }
        prop_assert_eq!(made.reading().summary().lossy, broken);
        prop_assert_eq!(reopened(&made, choice), seen(&made.reading()));
    }
}

#[test]
fn invalid_bytes_are_shown_as_such_and_are_no_error() {
    let mut made = TestTable::whole(b"a\tb\n1\t2\n", Choice::default());
    made.writer.append(b"x\t\xFF\n").unwrap();
    let summary = made.writer.finish().unwrap();
    assert_eq!((summary.rows, summary.lossy), (2, true));
    assert_eq!(made.reading().dialect().encoding, Encoding::UTF_8);
    made.writer.append_rows([["日本", "é"]]).unwrap();
    assert_eq!(made.rows()[1..], [["x", "\u{FFFD}"], ["日本", "é"]]);
    assert!(std::fs::read(made.folder.path().join(ORIGINAL)).unwrap().contains(&0xFF));
}

#[test]
fn with_at_most_one_line_the_guess_continues() {
    let mut made = TestTable::whole(b"Measured in Oslo\n", Choice::default());
    made.writer.append(b"time;value\n12:30;1,5\n12:40;2,5\n").unwrap();
    made.writer.finish().unwrap();
    assert_eq!(made.reading().dialect().syntax.delimiter(), b';');
    // Cells are written in the current dialect and read in it; only the header is still open.
    for (file, rest) in [(&b"name\n"[..], 0), (b"", 1)] {
        let mut made = TestTable::whole(file, Choice::default());
        let kept = made.folder.path().join(DIALECT);
        assert!(!kept.exists());
        let cells = [["name"], ["a, b, c"], ["d, e, f"], ["1,2,3"]];
        for cells in &cells[1 - rest..] {
            made.writer.append_rows([cells]).unwrap();
            assert!(kept.exists());
            assert_eq!(reopened(&made, Choice::default()), seen(&made.reading()));
        }
        assert_eq!(seen(&made.reading()).1, cells);
    }
    let mut made = TestTable::whole(b"", Choice::default());
    made.writer.append_rows([["name", "age"]]).unwrap();
    assert!(!made.reading().dialect().header);
    made.writer.append_rows([["Ann", "30"], ["Bob", "40"]]).unwrap();
    assert!(made.reading().dialect().header);
    made.writer.append_rows(vec![["age", "name"]; 100]).unwrap();
    assert!(made.reading().dialect().header);
    assert_eq!(reopened(&made, Choice::default()), seen(&made.reading()));
}

#[test]
fn another_choice_is_guessed_from_the_file_as_it_was_when_it_ended() {
    let mut made = TestTable::whole(b"a,b\n1,2\n", Choice::default());
    for _ in 0..50 {
        made.writer.append(b"a;b;c,x\n").unwrap();
        made.writer.finish().unwrap();
    }
    let before = seen(&made.reading());
    for header in [false, true] {
        made.writer.reread(Choice { header: Some(header), ..Choice::default() }, Control::default()).unwrap();
        assert_eq!(made.reading().dialect().syntax, before.0.syntax);
    }
    let semicolons = Choice { delimiter: Some(b';'), ..Choice::default() };
    made.writer.reread(semicolons.clone(), Control::default()).unwrap();
    assert_eq!(made.rows()[49], ["a", "b", "c,x"]);
    // Another node opens it with the same choice, and then without one.
    assert_eq!(reopened(&made, semicolons), seen(&made.reading()));
    made.writer.reread(Choice::default(), Control::default()).unwrap();
    assert_eq!(seen(&made.reading()), before);
    let latin = Choice { encoding: Encoding::named("latin1"), ..Choice::default() };
    made.writer.reread(latin, Control::default()).unwrap();
    assert_eq!(made.reading().dialect().evidence, Evidence::Given);
    assert_eq!(reopened(&made, Choice::default()), before);
}

#[test]
fn a_lost_dialect_is_guessed_and_stored_again() {
    let made = TestTable::whole(b"a,b\n1,2\n", Choice::default());
    let before = seen(&made.reading());
    let kept = made.folder.path().join(DIALECT);
    let text = std::fs::read(&kept).unwrap();
    for wrong in [&b""[..], b"dialect 1\nlooked", b"\xFF\x00"] {
        std::fs::write(&kept, wrong).unwrap();
        assert_eq!(reopened(&made, Choice::default()), before);
        assert_eq!(std::fs::read(&kept).unwrap(), text);
    }
    std::fs::remove_file(&kept).unwrap();
    assert_eq!(reopened(&made, Choice::default()), before);
    assert!(kept.exists());
}

#[test]
fn every_kind_of_file_is_reopened_unchanged_with_its_appended_rows() {
    let utf_16: Vec<u8> = "\u{FEFF}a;b\n1;ä\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let legacy = encoding_rs::WINDOWS_1252.encode("name;b\nMüller;Zürich\nGröße;3\n").0.into_owned();
    let mut late = "id,text\n".to_owned();
    (0..20_000).for_each(|i| writeln!(late, "{i},x").unwrap());
    let late = [late.as_bytes(), b"20000,caf\xE9\n"].concat();
    let zstd =
        ruzstd::encoding::compress_to_vec(&b"a|b\n1|2\n"[..], ruzstd::encoding::CompressionLevel::Fastest);
    let marked = "\u{FEFF}a,b\n1,2\n".as_bytes();
    for file in [&utf_16[..], &legacy, &late, &zstd, marked] {
        let mut made = TestTable::whole(file, Choice::default());
        let (dialect, lines) = seen(&made.reading());
        made.writer.append_rows([["x, y; z|", "\"q\""]]).unwrap();
        let after = seen(&made.reading());
        assert_eq!((&after.0, &after.1[..lines.len()]), (&dialect, &lines[..]));
        assert_eq!(after.1[lines.len()], ["x, y; z|", "\"q\""]);
        assert_eq!(reopened(&made, Choice::default()), after);
    }
}

#[test]
fn rows_are_not_appended_to_an_incomplete_character() {
    let utf_16: Vec<u8> = "\u{FEFF}a;b\n1;ä\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut made = TestTable::whole(&[&utf_16[..], b"x"].concat(), Choice::default());
    let before = seen(&made.reading());
    assert!(matches!(made.writer.append_rows([["x", "y"]]), Err(tidings_table::Error::Unwritable(_))));
    assert_eq!(seen(&made.reading()), before);
}

/// Python's `csv.reader(delimiter="\t")` reads them this way; the csv crate has the same rules.
#[test]
fn the_article_s_dialect_splits_only_at_tabs() {
    let files: [&[u8]; 16] = [
        b"a b c\nd e f\n",
        b"a\tb\n1\n2\n3\t4\t5\n",
        b"a\n1\t2\n1\t2\t3\n1\t2\t3\t4\n",
        b"hello\nworld\nfoo\tbar\nbaz\nqux\n",
        b"# a comment\n# another\nx\ty\n",
        b"a,b\tc,d\n1,2\t3,4\n",
        b"a,b,c\n1,2,3\n",
        b"a;b\n1;2\n",
        b"'a'\t'b'\n'c'\t'd'\n",
        b"\"a\\\"b\"\tc\n\"d\\\"e\"\tf\n",
        b"5\" x\t7\" y\n\"q\"\tz\n",
        b"a\t\"b\nc\"\td\ne\tf\n",
        b"a\t\"b\nc\td\n",
        b"\"a\"b\tc\nd\te\n",
        b"10:20:30\n11:22:33\n",
        b" \n  \n\"\"\t\r\n",
    ];
    let tabs = tidings_table::Syntax::new(b'\t', Some(b'"'), None).unwrap();
    for file in files {
        for choice in [Choice::tab_separated(), Choice { header: Some(true), ..Choice::tab_separated() }] {
            let made = TestTable::of(file, &[3], choice, Limits::default());
            let (dialect, lines) = seen(&made.reading());
            assert_eq!(dialect.syntax, tabs);
            assert_eq!(lines, text_by_csv(file, tabs), "{}", file.escape_ascii());
            assert_eq!(lines.len(), by_csv(file, tabs).len());
        }
    }
}

#[test]
fn the_disk_bytes_of_a_table_are_reported() {
    let text: String = (0..50_000).map(|i| format!("{i}\tword {}\n", i % 977)).collect();
    let made = TestTable::whole(text.as_bytes(), Choice::default());
    assert_eq!(made.reading().disk_bytes(), text.len() as u64);
    // Compressed, with its text in an unlinked file, and with an order that exceeds the memory limit.
    let packed =
        ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
    let limits = Limits { order_bytes: 4096, sort_bytes: 100_000, ..Limits::default() };
    let mut made = TestTable::of(&packed, &[usize::MAX], Choice::default(), limits);
    let both = (packed.len() + text.len()) as u64;
    assert_eq!(made.reading().disk_bytes(), both);
    let query = Query { sort: vec![SortBy { column: 1, desc: false, natural: false }], ..Query::default() };
    let view = made.reading().view(&query, Control::default()).unwrap();
    // The runs of the sort were removed, the order exists.
    assert_eq!(made.reading().disk_bytes(), both + 4 * 50_000);
    drop(view);
    assert_eq!(made.reading().disk_bytes(), both);
    // An old reading keeps its text.
    let old = made.reading();
    made.writer.reread(Choice { delimiter: Some(b' '), ..Choice::default() }, Control::default()).unwrap();
    assert_eq!(made.reading().disk_bytes(), both + text.len() as u64);
    drop(old);
    assert_eq!(made.reading().disk_bytes(), both);
}
