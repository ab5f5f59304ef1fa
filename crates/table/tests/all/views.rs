//! Sorting and filtering of large and unusual tables, errors, and progress.

use std::sync::Mutex;

use tidings_table::{Cancel, Control, Error, Filter, Limits, Op, Query, SortBy, Syntax, View};

use crate::support::{Random, TestTable, commas, exactly, rows};

/// A table of many blocks: a number, a name with a long common prefix, a name of few, a long text.
fn big() -> (Vec<Vec<String>>, TestTable) {
    let mut random = Random(77);
    let rows: Vec<Vec<String>> = (0..40_000)
        .map(|_| {
            vec![
                (random.below(5_000) as i64 - 2_500).to_string(),
                format!("https://example.org/things/{:05}", random.below(20_000)),
                random.one_of(&["red", "green", "blue", ""]).to_owned(),
                "needle"
                    .chars()
                    .cycle()
                    .skip(random.below(6) as usize)
                    .take(random.below(90) as usize)
                    .collect(),
            ]
        })
        .collect();
    let text: String = rows.iter().map(|row| row.join(",") + "\n").collect();
    let limits = Limits { sort_bytes: 1 << 18, order_bytes: 1 << 14, ..Limits::default() };
    let made = TestTable::of(text.as_bytes(), &[100_000], exactly(commas(), false), limits);
    (rows, made)
}

#[test]
fn a_sort_above_the_memory_limit_is_the_same_and_stable() {
    let (mut expected, made) = big();
    let sort = vec![
        SortBy { column: 2, desc: true, natural: false },
        SortBy { column: 1, desc: false, natural: false },
    ];
    let view = made.reading().view(&Query { sort, ..Query::default() }, Control::default()).unwrap();
    expected.sort_by(|a, b| {
        let filled = a[2].is_empty().cmp(&b[2].is_empty());
        filled.then_with(|| b[2].cmp(&a[2])).then_with(|| a[1].cmp(&b[1]))
    });
    assert_eq!(rows(&view), expected);
    let (memory, disk) = view.bytes();
    assert!(memory <= 1 << 14 && disk == 40_000 * 4, "{memory} in memory, {disk} on disk");
}

#[test]
fn a_numeric_sort_of_many_rows_is_by_number() {
    let (mut expected, made) = big();
    let sort = vec![SortBy { column: 0, desc: false, natural: false }];
    let view = made.reading().view(&Query { sort, ..Query::default() }, Control::default()).unwrap();
    expected.sort_by_key(|row| row[0].parse::<i64>().unwrap());
    assert_eq!(rows(&view), expected);
}

#[test]
fn a_sort_is_stable_for_many_and_long_rows() {
    for (rows_of_each, length) in [(2, 3), (25, 40), (31, 9), (200, 100)] {
        let row = |i: usize| [["a", "b", "c"][i % 3].repeat(length), i.to_string()];
        let expected: Vec<_> = (0..3 * rows_of_each).map(row).collect();
        let text: String = expected.iter().map(|row| row.join(",") + "\n").collect();
        let made = TestTable::whole(text.as_bytes(), exactly(commas(), false));
        for desc in [false, true] {
            let query = Query { sort: vec![SortBy { column: 0, desc, natural: false }], ..Query::default() };
            let mut expected = expected.clone();
            expected.sort_by(|a, b| if desc { b[0].cmp(&a[0]) } else { a[0].cmp(&b[0]) });
            assert_eq!(rows(&made.reading().view(&query, Control::default()).unwrap()), expected);
        }
    }
}

#[test]
fn long_cells_that_are_equal_or_nearly_so_are_sorted_without_a_deep_stack() {
    // Equal cells; cells that differ at their ends; and cells that are each longer than the previous one at another
    // position.
    let same = "x".repeat(300_000);
    let cells: Vec<String> = (0..40)
        .map(|_| same.clone())
        .chain((0..40).map(|i| format!("{same}{}", 39 - i)))
        .chain((0..600).map(|i| format!("{}b", "a".repeat(8 * (i * 7 % 600)))))
        .collect();
    let row = |(i, cell): (usize, &String)| [cell.clone(), i.to_string()];
    let mut expected: Vec<_> = cells.iter().enumerate().map(row).collect();
    let text: String = expected.iter().map(|row| row.join(",") + "\n").collect();
    let limits = Limits { cell_bytes: 1 << 20, page_bytes: 1 << 30, ..Limits::default() };
    let made = TestTable::of(text.as_bytes(), &[usize::MAX], exactly(commas(), false), limits);
    // The same column again, in the other direction, has no effect.
    let by = |desc| SortBy { column: 0, desc, natural: false };
    for desc in [false, true] {
        let query = Query { sort: vec![by(desc), by(!desc)], ..Query::default() };
        expected.sort_by(|a, b| if desc { b[0].cmp(&a[0]) } else { a[0].cmp(&b[0]) });
        let view = made.reading().view(&query, Control::default()).unwrap();
        assert!(rows(&view) == expected, "descending: {desc}");
        expected = cells.iter().enumerate().map(row).collect();
    }
}

#[test]
fn a_column_far_to_the_right_is_sorted_and_filtered_as_any_other() {
    let far = |cell: &str| format!("{}{cell}\n", ",".repeat(2_000_000));
    let text = format!("first\n{}{}{}", far("10"), far("9"), far("11"));
    let made = TestTable::of(text.as_bytes(), &[usize::MAX], exactly(commas(), false), Limits::default());
    let numbers = |query| {
        let view = made.reading().view(&query, Control::default()).unwrap();
        view.page(0, 10).unwrap().rows.iter().map(|row| row.number).collect::<Vec<_>>()
    };
    let sort = vec![SortBy { column: 2_000_000, desc: false, natural: false }];
    assert_eq!(numbers(Query { sort, ..Query::default() }), [2, 1, 3, 0]);
    let filter = vec![Filter { column: 2_000_000, op: Op::Less, value: "10".to_owned(), others: vec![] }];
    assert_eq!(numbers(Query { filter, ..Query::default() }), [2]);
}

#[test]
fn text_after_a_closing_quote_is_searched() {
    let made = TestTable::whole(b"1,\"x\"y\n2,xy\n3,\"x\",y\n", exactly(commas(), false));
    let search = Query { search: "XY".to_owned(), ..Query::default() };
    let view = made.reading().view(&search, Control::default()).unwrap();
    assert_eq!(rows(&view), [["1", "xy"], ["2", "xy"]]);
}

#[test]
fn a_search_that_ignores_accents_finds_letters_with_others() {
    let made =
        TestTable::whole("1,Café\n2,cafe\n3,CAFE\u{301}\n4,coffee\n".as_bytes(), exactly(commas(), false));
    let find = |search: &str, ignore_accents| {
        let query = Query { search: search.to_owned(), ignore_accents, ..Query::default() };
        let view = made.reading().view(&query, Control::default()).unwrap();
        rows(&view).into_iter().map(|mut row| row.swap_remove(0)).collect::<Vec<_>>()
    };
    assert_eq!(find("cafe", true), ["1", "2", "3"]);
    assert_eq!(find("café", true), ["1", "2", "3"]);
    assert_eq!(find("cafe", false), ["2"]);
    assert_eq!(find("café", false), ["1", "3"]);
}

#[test]
fn filters_of_many_rows_find_them_all_in_order() {
    let (table, made) = big();
    let find = |search: &str, filter: Vec<Filter>| {
        let query = Query { search: search.to_owned(), filter, ..Query::default() };
        rows(&made.reading().view(&query, Control::default()).unwrap())
    };
    let filter =
        |column, op, value: &str| vec![Filter { column, op, value: value.to_owned(), others: vec![] }];
    let reference = |holds: &dyn Fn(&Vec<String>) -> bool| {
        table.iter().filter(|row| holds(row)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(find("THINGS/0123", vec![]), reference(&|row| row[1].contains("things/0123")));
    assert_eq!(find("e", vec![]), reference(&|row| row.iter().any(|cell| cell.contains('e'))));
    assert_eq!(find("", filter(2, Op::Equals, "red")), reference(&|row| row[2] == "red"));
    assert_eq!(find("", filter(3, Op::Contains, "dlen")), reference(&|row| row[3].contains("dlen")));
    assert_eq!(
        find("eedl", filter(0, Op::Less, "-2000")),
        reference(&|row| { row[3].contains("eedl") && row[0].parse::<i64>().unwrap() < -2_000 })
    );
    assert_eq!(find("", filter(2, Op::Empty, "")), reference(&|row| row[2].is_empty()));
}

#[test]
fn numbers_beyond_a_double_are_distinguished() {
    let numbers = [
        "9007199254740993",
        "9007199254740992",
        "123456789012345678901234567890.1",
        "-9007199254740993",
        "123456789012345678901234567890",
        "-9007199254740992.5",
        "0.30000000000000000001",
        "0.3",
    ];
    let text = numbers.join("\n") + "\n";
    let made = TestTable::whole(text.as_bytes(), exactly(commas(), false));
    let view = |query| rows(&made.reading().view(&query, Control::default()).unwrap()).concat();
    let sort = vec![SortBy { column: 0, desc: false, natural: false }];
    let sorted = [
        "-9007199254740993",
        "-9007199254740992.5",
        "0.3",
        "0.30000000000000000001",
        "9007199254740992",
        "9007199254740993",
        "123456789012345678901234567890",
        "123456789012345678901234567890.1",
    ];
    assert_eq!(view(Query { sort, ..Query::default() }), sorted);
    let filter =
        vec![Filter { column: 0, op: Op::Greater, value: "9007199254740992".to_owned(), others: vec![] }];
    assert_eq!(view(Query { filter, ..Query::default() }).len(), 3);
}

#[test]
fn decimal_commas_and_grouped_thousands_sort_by_number() {
    let sorted = |text: &str| {
        let made = TestTable::whole(text.as_bytes(), exactly(Syntax::new(b';', None, None).unwrap(), false));
        let sort = vec![SortBy { column: 0, desc: false, natural: false }];
        rows(&made.reading().view(&Query { sort, ..Query::default() }, Control::default()).unwrap()).concat()
    };
    assert_eq!(sorted("10,5\n9,75\n1.000,1\n"), ["9,75", "10,5", "1.000,1"]);
    assert_eq!(sorted("1,234,567\n12,345\n999\n"), ["999", "12,345", "1,234,567"]);
    assert_eq!(sorted("1.5\n1,000.25\n-3\n"), ["-3", "1.5", "1,000.25"]);
}

#[test]
fn a_few_words_do_not_turn_a_column_of_numbers_into_text() {
    let made =
        TestTable::whole("10\n9\nn/a\n8\n\"\"\n100\n7\n6\n5\n4\n3\n2\n".as_bytes(), exactly(commas(), false));
    let sort = vec![SortBy { column: 0, desc: true, natural: false }];
    let view = made.reading().view(&Query { sort, ..Query::default() }, Control::default()).unwrap();
    assert_eq!(rows(&view).concat(), ["100", "10", "9", "8", "7", "6", "5", "4", "3", "2", "n/a", ""]);
}

#[test]
fn an_invalid_column_or_expression_is_an_error() {
    let made = TestTable::whole(b"a,b\n1,2\n", exactly(commas(), true));
    let view = |query| made.reading().view(&query, Control::default()).map(|view: View| view.total());
    let sort = vec![SortBy { column: 2, desc: false, natural: false }];
    assert!(matches!(
        view(Query { sort, ..Query::default() }),
        Err(Error::NoColumn { column: 2, columns: 2 })
    ));
    for (value, why) in [("(", "unclosed group"), ("a{900}{900}", "size limit")] {
        let filter = vec![Filter { column: 0, op: Op::Matches, value: value.to_owned(), others: vec![] }];
        let error = view(Query { filter, ..Query::default() }).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains('\n'), "{error}");
    }
    let many = vec![SortBy { column: 0, desc: false, natural: false }; Query::SORTS + 1];
    let result = view(Query { sort: many, ..Query::default() });
    assert_eq!(result.unwrap_err().to_string(), "more than 16 columns to sort by");
    assert!("like".parse::<Op>().is_err());
    assert!(Op::ALL.into_iter().all(|op| op.to_string().parse() == Ok(op)));
}

#[test]
fn the_header_is_never_sorted_or_found_unless_it_is_a_row() {
    let made = TestTable::whole(b"name,n\nb,2\na,1\n", exactly(commas(), true));
    let query = Query { sort: vec![SortBy { column: 0, desc: false, natural: false }], ..Query::default() };
    let view = made.reading().view(&query, Control::default()).unwrap();
    assert_eq!(rows(&view), [["a", "1"], ["b", "2"]]);
    assert_eq!(view.page(0, 1).unwrap().rows[0].number, 1);
    let query = Query { header_is_row: true, ..query };
    let view = made.reading().view(&query, Control::default()).unwrap();
    assert_eq!(rows(&view), [["a", "1"], ["b", "2"], ["name", "n"]]);
    let search = Query { search: "name".to_owned(), ..Query::default() };
    assert_eq!(made.reading().view(&search, Control::default()).unwrap().total(), 0);
}

#[test]
fn progress_rises_to_one_and_a_cancelled_view_is_an_error() {
    let (_, made) = big();
    let query = Query { sort: vec![SortBy { column: 1, desc: false, natural: false }], ..Query::default() };
    let told = Mutex::new(Vec::new());
    let tell = |part: f32| told.lock().unwrap().push(part);
    made.reading().view(&query, Control::default().with_progress(&tell)).unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.is_sorted() && told.len() > 1 && told.last() == Some(&1.0), "{told:?}");

    let cancel = Cancel::default();
    let stop = |_: f32| cancel.cancel();
    let control = Control::default().cancelled_by(&cancel).with_progress(&stop);
    assert!(matches!(made.reading().view(&query, control), Err(Error::Cancelled)));
}

#[test]
fn a_view_is_the_same_on_one_thread_and_on_many() {
    let (_, made) = big();
    let sort = vec![
        SortBy { column: 2, desc: false, natural: false },
        SortBy { column: 0, desc: true, natural: false },
    ];
    let query = Query { sort, search: "1".to_owned(), ..Query::default() };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        rows(&pool.install(|| made.reading().view(&query, Control::default())).unwrap())
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn a_row_above_the_scan_limit_is_examined_in_part_and_reported() {
    let limits = Limits { scan_row_bytes: 1 << 20, ..Limits::default() };
    let text = format!("a,early {} late\nb,late\n", "x".repeat(5 << 20));
    let made = TestTable::of(text.as_bytes(), &[1 << 20], exactly(commas(), false), limits);
    let find = |search: &str| {
        let query = Query { search: search.to_owned(), ..Query::default() };
        let view = made.reading().view(&query, Control::default()).unwrap();
        (view.total(), view.clipped())
    };
    assert_eq!(find("early"), (1, 1));
    assert_eq!(find("late"), (1, 1));
    assert_eq!(
        View::plain(&made.reading(), false).page(0, 2).unwrap().rows[0].cells[1].cut,
        Some((5 << 20) + 11)
    );
}
