//! Finding a row by its number equals reading from the start.

use std::sync::{Mutex, OnceLock};

use proptest::prelude::*;
use tidings_table::{Limits, Syntax, View};

use crate::support::{Random, TestTable, exactly, rows, text_by_csv};

/// Text of many blocks: short and long rows, long cells, quoted line breaks, empty lines.
fn long_text(random: &mut Random, bytes: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < bytes {
        for column in 0..=random.below(4) {
            if column > 0 {
                text.push(b',');
            }
            let length = [0, 3, 12, 60, 700, 20_000]
                [(random.below(90) / 18 + u64::from(random.below(400) == 0)) as usize];
            if random.below(4) == 0 {
                text.push(b'"');
                let inside = random.one_of(&["x\ny,", "\"\"", "\r\n", "é"]).repeat(length / 3);
                text.extend_from_slice(inside.as_bytes());
                text.push(b'"');
            } else {
                text.extend(std::iter::repeat_n(b"abc9"[random.below(4) as usize], length));
            }
        }
        let breaks = ["\n", "\r\n", "\n\n\r\n", "\r"];
        text.extend_from_slice(random.one_of(&breaks).as_bytes());
        if random.below(500) == 0 {
            text.extend(std::iter::repeat_n(b'\n', 40_000));
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_row_by_number_is_the_row_read_from_the_start(
        seed in 1..u64::MAX,
        sizes in prop::collection::vec(1..90_000_usize, 1..5),
    ) {
        let mut random = Random(seed);
        let text = long_text(&mut random, 300_000);
        let syntax = Syntax::new(b',', Some(b'"'), None).unwrap();
        let expected = text_by_csv(&text, syntax);
        let limits = Limits { cell_bytes: 100_000, ..Limits::default() };
        let made = TestTable::of(&text, &sizes, exactly(syntax, false), limits);
        let view = View::plain(&made.reading(), false);
        prop_assert_eq!(view.total(), expected.len() as u64);
        for _ in 0..100 {
            let number = random.below(view.total());
            let page = view.page(number, 1 + random.below(3) as usize).unwrap();
            for (row, expected) in page.rows.iter().zip(&expected[number as usize..]) {
                let cells: Vec<&String> = row.cells.iter().map(|cell| &cell.text).collect();
                prop_assert_eq!(cells, expected.iter().collect::<Vec<_>>());
            }
        }
        let summary = made.reading().summary();
        let columns = expected[0].len();
        prop_assert_eq!(summary.columns, columns as u64);
        prop_assert_eq!(summary.widest, expected.iter().map(Vec::len).max().unwrap() as u64);
        prop_assert_eq!(summary.ragged, expected.iter().filter(|row| row.len() != columns).count() as u64);
    }

    #[test]
    fn all_rows_are_those_of_the_csv_crate(
        text in "([ab]{0,3}[,\"\r\n]{0,3}){0,60}",
        sizes in prop::collection::vec(1..30_usize, 1..5),
    ) {
        let syntax = Syntax::new(b',', Some(b'"'), None).unwrap();
        let made = TestTable::of(text.as_bytes(), &sizes, exactly(syntax, false), Limits::default());
        prop_assert_eq!(made.rows(), text_by_csv(text.as_bytes(), syntax));
    }
}

#[test]
fn a_table_opened_again_is_the_same() {
    let text = long_text(&mut Random(5), 200_000);
    let made = TestTable::whole(&text, exactly(Syntax::new(b',', Some(b'"'), None).unwrap(), true));
    let (before, summary) = (made.reading(), made.reading().summary());
    let (early, seen) = (OnceLock::new(), Mutex::new(Vec::new()));
    let tell = |_: f32| {
        let table: &tidings_table::Table = early.get().unwrap();
        seen.lock().unwrap().push(table.reading().summary().lines);
    };
    let control = tidings_table::Control::default().with_progress(&tell);
    let choice = exactly(before.dialect().syntax, true);
    let again = tidings_table::Writer::open(made.folder.path(), choice, *before.limits(), control, |table| {
        early.set(table.clone()).unwrap();
    });
    let again = again.unwrap().table().reading();
    assert_eq!(again.summary(), summary);
    assert_eq!(early.get().unwrap().reading().summary(), summary);
    // The first rows were available while the others were read.
    let seen = seen.into_inner().unwrap();
    assert!(seen[0] > 0 && seen[0] < summary.lines, "{seen:?}");
    let wide = |reading| View::plain(reading, false).page(0, 200).unwrap();
    assert_eq!(wide(&again), wide(&before));
}

#[test]
fn a_million_empty_lines_add_no_rows_and_hide_none() {
    let mut text = b"a,b\n".to_vec();
    text.extend(std::iter::repeat_n(b'\n', 1_000_000));
    text.extend_from_slice(b"1,2\n");
    text.extend(std::iter::repeat_n(b'\r', 300_000));
    text.extend_from_slice(b"3,4");
    let made = TestTable::whole(&text, exactly(Syntax::new(b',', None, None).unwrap(), true));
    assert_eq!(rows(&View::plain(&made.reading(), false)), [["1", "2"], ["3", "4"]]);
}
