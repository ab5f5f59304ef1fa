//! One odd line costs only its share of the guess.

use tidings_table::{Choice, Limits, View};

use crate::support::{TestTable, rows};

fn guessed(name: &str, file: &str) -> TestTable {
    TestTable::of(file.as_bytes(), &[50_000], Choice::hinted_by(name), Limits::default())
}

#[test]
fn one_odd_quoted_cell_does_not_turn_quotes_off() {
    let sound = "\"x, y\",1\n";
    for (before, after) in [(50, 50), (0, 50), (50, 0), (5, 5), (3, 1), (1_000, 5_000)] {
        let file = format!("a,b\n{}\"x\"y,2\n{}", sound.repeat(before), sound.repeat(after));
        let made = guessed("a.csv", &file);
        let summary = made.reading().summary();
        assert_eq!(made.reading().dialect().syntax.quote(), Some(b'"'), "{before} and {after}");
        assert_eq!((summary.rows, summary.ragged), ((before + after + 1) as u64, 0), "{before} and {after}");
        assert_eq!(made.rows()[before], ["xy", "2"]);
    }
    // With as many odd cells as well-formed ones, the quotes are part of the text.
    let made = guessed("a.tsv", "id\ttext\n1\t\"Hello\" he said\n2\tplain\n3\t\"quoted\"\n");
    assert_eq!(made.reading().dialect().syntax.quote(), None);
}

#[test]
fn a_quoted_cell_longer_than_the_examined_head_may_look_like_rows() {
    let long = "line, of text\n".repeat(30_000);
    let file = format!("a,b\n\"{long}\",2\n{}", "x,1\n".repeat(50));
    for size in [1_000, 64 << 10, 300_001, usize::MAX] {
        let made = TestTable::of(file.as_bytes(), &[size], Choice::default(), Limits::default());
        let summary = made.reading().summary();
        assert_eq!((summary.rows, summary.ragged, summary.open_quote), (51, 0, false), "pieces of {size}");
        assert!(made.reading().dialect().header);
    }
    // A cell that closes after the examined head is treated like a stray quote: it is read in rows.
    let file = format!("a,b\n\"{}\",2\n", long.repeat(4));
    assert_eq!(guessed("a.csv", &file).reading().dialect().syntax.quote(), None);
}

#[test]
fn rows_of_different_lengths_are_still_rows() {
    let files = [
        ("", "a,b,c\n1,2\n1,2,3,4\n", 3),
        ("a.csv", "a,b,c\n1,2\n1,2,3,4\n", 3),
        ("a.csv", "a,b,c\n1,2,3\n4,5\n6,7,8,9\n", 3),
        ("a.csv", "a,b,c\n1,2,3\n4,5\n", 3),
        ("a.csv", "a,b,c\n1,2\n", 3),
        ("a.csv", "1,2,3\n4,5\n6\n", 3),
        ("a.csv", "a;b;c\n1,5;2\n1,5;2;3,5;4\n", 3),
        ("a.csv", "id,name,x\n1,Ann\n2,Bob,5\n3,Cy,6,7\n4,Di,8\n", 3),
        ("a.tsv", "a\tb\tc\n1\t2\n1\t2\t3\t4\n", 3),
        ("a.tsv", "a\tb\n1\n2\n3\t4\t5\n", 2),
        ("a.tsv", "a\n1, 2\t2\n3, 4\n5, 6\n7\n", 1),
    ];
    for (name, file, columns) in files {
        let made = guessed(name, file);
        let delimiter = made.reading().dialect().syntax.delimiter();
        let written = [',', '\t', ';'].into_iter().rev().find(|byte| file.contains(*byte)).unwrap();
        assert_eq!(
            (char::from(delimiter), made.reading().summary().columns),
            (written, columns),
            "{name} {file:?}"
        );
    }
    // Text with commas is text.
    for file in [
        "Hello, world\nThis is a list, of lines\nof, words, and, more\nand no more\n",
        "10,5\n",
        "First Name\nJohn Smith\nAnn Lee\n",
    ] {
        let made = guessed("", file);
        assert!(made.reading().summary().columns == 1 || file == "10,5\n", "{file:?}");
    }
    assert_eq!(guessed("a.csv", "First Name\nJohn Smith\nAnn Lee\n").reading().summary().columns, 1);
}

#[test]
fn a_cell_that_equals_its_column_name_does_not_remove_the_header() {
    let people: String = (0..100_u8)
        .map(|i| format!("n{},c{}\n", char::from(b'a' + i % 26), char::from(b'a' + i / 26)))
        .collect();
    for file in [
        format!("name,city\n{people}zed,city\n"),
        "city,name\nParis,Ann\nRome,Bob\nOslo,name\n".to_owned(),
        // Two concatenated files.
        format!("name,city\n{people}name,city\n{people}"),
    ] {
        let made = guessed("a.csv", &file);
        assert!(made.reading().dialect().header, "{}", &file[..40]);
    }
    // A repeated word is a value.
    let file = "red,small\nblue,big\nred,small\ngreen,big\nred,small\n";
    let made = guessed("a.csv", file);
    assert_eq!(
        (made.reading().dialect().header, rows(&View::plain(&made.reading(), false)).len()),
        (false, 5)
    );
}
