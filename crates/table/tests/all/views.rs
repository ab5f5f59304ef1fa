//! A view is what a plain implementation of the same words gives.

use std::cmp::Ordering;
use std::sync::Mutex;

use proptest::prelude::*;
use tidings_table::{Cancel, Control, Error, Filter, Limits, Op, Query, SortBy, Syntax, View};

use crate::support::{Made, Random, exactly, rows};

/// Cells as people have them; the numbers among them are such that a double is exact.
const CELLS: [&str; 33] = [
    "0",
    "1",
    "-1",
    "7",
    "007",
    "42",
    "-42",
    "3.5",
    "3.50",
    "-0.25",
    "1e3",
    "1000",
    "999999",
    "",
    "",
    "apple",
    "Apple",
    "banana",
    "app",
    "a\"pp\"le",
    "pear, green",
    "two\nlines",
    "2024-01-31",
    "2023-12-01",
    "true",
    "n/a",
    "Äpfel",
    "äpfel",
    "\u{1}",
    "\0x",
    "app\0",
    "app\0\u{1}",
    "app\u{1}",
];

fn table() -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    // Columns of numbers, of anything, of few values, and of odd ones.
    let cell = |kind: usize| match kind {
        0 => prop::sample::select(&CELLS[..14]).boxed(),
        1 => prop::sample::select(&CELLS[..]).boxed(),
        2 => prop::sample::select(&CELLS[13..18]).boxed(),
        _ => prop::sample::select(&CELLS[28..]).boxed(),
    };
    prop::collection::vec(0..4_usize, 1..5).prop_flat_map(move |kinds| {
        let row: Vec<_> = kinds.iter().map(|kind| cell(*kind)).collect();
        let short = 1..=kinds.len();
        prop::collection::vec((row, short, 0..8_u8), 0..60).prop_map(|rows| {
            // Some rows are too short.
            let cut = |(mut row, short, chance): (Vec<_>, usize, u8)| {
                row.truncate(if chance == 0 { short } else { row.len() });
                row
            };
            rows.into_iter().map(cut).collect()
        })
    })
}

fn query(columns: usize) -> impl Strategy<Value = Query> {
    let sort = (0..columns, any::<bool>()).prop_map(|(column, desc)| SortBy { column, desc });
    let values = prop_oneof![
        prop::sample::select(&CELLS[..]).prop_map(str::to_owned),
        prop::sample::select(vec![
            "pp", "AP", ",", "\"", "\n", "a\"P", "n", "e", "äp", "^a", "[0-9]{2}", "l$"
        ])
        .prop_map(str::to_owned),
    ];
    let filter = (0..columns, prop::sample::select(&Op::ALL[..]), values.clone())
        .prop_map(|(column, op, value)| Filter { column, op, value });
    (
        prop::collection::vec(sort, 0..3),
        prop::collection::vec(filter, 0..3),
        prop_oneof![Just(String::new()), values],
    )
        .prop_map(|(sort, filter, search)| Query { sort, filter, search, header_is_row: false })
}

/// The number that a cell of [`CELLS`] is.
fn number(cell: &str) -> Option<f64> {
    let is_number = cell.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte));
    if is_number { cell.parse().ok() } else { None }
}

fn is_numeric(table: &[Vec<&str>], column: usize) -> bool {
    let cells = table.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty());
    let (numbers, others): (Vec<&str>, Vec<&str>) = cells.partition(|cell| number(cell).is_some());
    !numbers.is_empty() && others.len() * 9 <= numbers.len()
}

fn holds(filter: &Filter, cell: &str) -> bool {
    let (value, lower) = (&filter.value[..], |text: &str| text.to_lowercase());
    let order = if cell.is_empty() {
        None
    } else if let Some(value) = number(value) {
        number(cell).and_then(|cell| cell.partial_cmp(&value))
    } else {
        Some(cell.cmp(value))
    };
    match filter.op {
        Op::Contains => lower(cell).contains(&lower(value)),
        Op::Equals => cell == value,
        Op::Not => cell != value,
        Op::Less => order.is_some_and(Ordering::is_lt),
        Op::LessOrEqual => order.is_some_and(Ordering::is_le),
        Op::Greater => order.is_some_and(Ordering::is_gt),
        Op::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        Op::Empty => cell.is_empty(),
        Op::Matches => regex::Regex::new(value).unwrap().is_match(cell),
    }
}

/// What a view must show, by the words of its documentation.
fn plainly<'a>(table: &[Vec<&'a str>], query: &Query) -> Vec<Vec<&'a str>> {
    let cell = |row: &Vec<&'a str>, column: usize| row.get(column).copied().unwrap_or("");
    let mut found: Vec<_> = table
        .iter()
        .filter(|row| query.filter.iter().all(|filter| holds(filter, cell(row, filter.column))))
        .filter(|row| {
            let search = query.search.to_lowercase();
            search.is_empty() || row.iter().any(|cell| cell.to_lowercase().contains(&search))
        })
        .cloned()
        .collect();
    found.sort_by(|a, b| {
        query.sort.iter().fold(Ordering::Equal, |order, by| {
            order.then_with(|| {
                let (a, b) = (cell(a, by.column), cell(b, by.column));
                let by_number = is_numeric(table, by.column);
                let class = |cell: &str| if by_number && number(cell).is_some() { 0 } else { 1 };
                let up = class(a).cmp(&class(b)).then_with(|| match class(a) {
                    0 => number(a).unwrap().partial_cmp(&number(b).unwrap()).unwrap(),
                    _ => a.cmp(b),
                });
                let filled = if by.desc { up.reverse() } else { up };
                a.is_empty().cmp(&b.is_empty()).then(if a.is_empty() { Ordering::Equal } else { filled })
            })
        })
    });
    found
}

fn text(table: &[Vec<&str>]) -> Vec<u8> {
    let mut text = Vec::new();
    for row in table {
        let cells: Vec<String> = row
            .iter()
            .map(|cell| match cell {
                cell if cell.contains(['"', ',', '\n']) => format!("\"{}\"", cell.replace('"', "\"\"")),
                // A row of one empty cell would be an empty line.
                cell if cell.is_empty() && row.len() == 1 => "\"\"".to_owned(),
                cell => (*cell).to_owned(),
            })
            .collect();
        text.extend_from_slice(cells.join(",").as_bytes());
        text.push(b'\n');
    }
    text
}

fn commas() -> Syntax {
    Syntax::new(b',', Some(b'"'), None).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_view_is_what_a_plain_implementation_gives(
        (table, query) in table().prop_flat_map(|table| {
            let columns = table.iter().map(Vec::len).max().unwrap_or(1);
            (Just(table), query(columns))
        }),
        sort_bytes in prop::sample::select(vec![1, 300, 192 << 20]),
    ) {
        let limits = Limits { sort_bytes, ..Limits::default() };
        let made = Made::of(&text(&table), &[usize::MAX], exactly(commas(), false), limits);
        let view = made.reading().view(&query, Control::default());
        let view = match view {
            Err(Error::NoColumn { .. }) if table.is_empty() => return Ok(()),
            view => view.unwrap(),
        };
        prop_assert_eq!(rows(&view), plainly(&table, &query));
    }
}

/// A table of many blocks: a number, a name with a long common start, a name of few, a long text.
fn big() -> (Vec<Vec<String>>, Made) {
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
    let made = Made::of(text.as_bytes(), &[100_000], exactly(commas(), false), limits);
    (rows, made)
}

#[test]
fn a_sort_beyond_its_memory_is_the_same_and_keeps_equal_rows_in_order() {
    let (mut expected, made) = big();
    let sort = vec![SortBy { column: 2, desc: true }, SortBy { column: 1, desc: false }];
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
    let sort = vec![SortBy { column: 0, desc: false }];
    let view = made.reading().view(&Query { sort, ..Query::default() }, Control::default()).unwrap();
    expected.sort_by_key(|row| row[0].parse::<i64>().unwrap());
    assert_eq!(rows(&view), expected);
}

#[test]
fn equal_rows_stay_in_order_however_many_and_however_long() {
    for (rows_of_each, length) in [(2, 3), (25, 40), (31, 9), (200, 100)] {
        let row = |i: usize| [["a", "b", "c"][i % 3].repeat(length), i.to_string()];
        let expected: Vec<_> = (0..3 * rows_of_each).map(row).collect();
        let text: String = expected.iter().map(|row| row.join(",") + "\n").collect();
        let made = Made::whole(text.as_bytes(), exactly(commas(), false));
        for desc in [false, true] {
            let query = Query { sort: vec![SortBy { column: 0, desc }], ..Query::default() };
            let mut expected = expected.clone();
            expected.sort_by(|a, b| if desc { b[0].cmp(&a[0]) } else { a[0].cmp(&b[0]) });
            assert_eq!(rows(&made.reading().view(&query, Control::default()).unwrap()), expected);
        }
    }
}

#[test]
fn long_cells_that_are_equal_or_nearly_so_are_sorted_without_a_deep_stack() {
    // Equal ones; some that differ at their ends; and each longer than the one before in another place.
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
    let made = Made::of(text.as_bytes(), &[usize::MAX], exactly(commas(), false), limits);
    // The same column again, the other way round, is nothing more to sort by.
    let by = |desc| SortBy { column: 0, desc };
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
    let made = Made::of(text.as_bytes(), &[usize::MAX], exactly(commas(), false), Limits::default());
    let numbers = |query| {
        let view = made.reading().view(&query, Control::default()).unwrap();
        view.page(0, 10).unwrap().rows.iter().map(|row| row.number).collect::<Vec<_>>()
    };
    let sort = vec![SortBy { column: 2_000_000, desc: false }];
    assert_eq!(numbers(Query { sort, ..Query::default() }), [2, 1, 3, 0]);
    let filter = vec![Filter { column: 2_000_000, op: Op::Less, value: "10".to_owned() }];
    assert_eq!(numbers(Query { filter, ..Query::default() }), [2]);
}

#[test]
fn what_follows_a_closing_quote_is_searched_too() {
    let made = Made::whole(b"1,\"x\"y\n2,xy\n3,\"x\",y\n", exactly(commas(), false));
    let search = Query { search: "XY".to_owned(), ..Query::default() };
    let view = made.reading().view(&search, Control::default()).unwrap();
    assert_eq!(rows(&view), [["1", "xy"], ["2", "xy"]]);
}

#[test]
fn filters_of_many_rows_find_them_all_in_order() {
    let (table, made) = big();
    let find = |search: &str, filter: Vec<Filter>| {
        let query = Query { search: search.to_owned(), filter, ..Query::default() };
        rows(&made.reading().view(&query, Control::default()).unwrap())
    };
    let filter = |column, op, value: &str| vec![Filter { column, op, value: value.to_owned() }];
    let plainly = |holds: &dyn Fn(&Vec<String>) -> bool| {
        table.iter().filter(|row| holds(row)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(find("THINGS/0123", vec![]), plainly(&|row| row[1].contains("things/0123")));
    assert_eq!(find("e", vec![]), plainly(&|row| row.iter().any(|cell| cell.contains('e'))));
    assert_eq!(find("", filter(2, Op::Equals, "red")), plainly(&|row| row[2] == "red"));
    assert_eq!(find("", filter(3, Op::Contains, "dlen")), plainly(&|row| row[3].contains("dlen")));
    assert_eq!(
        find("eedl", filter(0, Op::Less, "-2000")),
        plainly(&|row| { row[3].contains("eedl") && row[0].parse::<i64>().unwrap() < -2_000 })
    );
    assert_eq!(find("", filter(2, Op::Empty, "")), plainly(&|row| row[2].is_empty()));
}

#[test]
fn numbers_beyond_a_double_are_told_apart() {
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
    let made = Made::whole(text.as_bytes(), exactly(commas(), false));
    let view = |query| rows(&made.reading().view(&query, Control::default()).unwrap()).concat();
    let sort = vec![SortBy { column: 0, desc: false }];
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
    let filter = vec![Filter { column: 0, op: Op::Greater, value: "9007199254740992".to_owned() }];
    assert_eq!(view(Query { filter, ..Query::default() }).len(), 3);
}

#[test]
fn decimal_commas_and_grouped_thousands_sort_by_number() {
    let sorted = |text: &str| {
        let made = Made::whole(text.as_bytes(), exactly(Syntax::new(b';', None, None).unwrap(), false));
        let sort = vec![SortBy { column: 0, desc: false }];
        rows(&made.reading().view(&Query { sort, ..Query::default() }, Control::default()).unwrap()).concat()
    };
    assert_eq!(sorted("10,5\n9,75\n1.000,1\n"), ["9,75", "10,5", "1.000,1"]);
    assert_eq!(sorted("1,234,567\n12,345\n999\n"), ["999", "12,345", "1,234,567"]);
    assert_eq!(sorted("1.5\n1,000.25\n-3\n"), ["-3", "1.5", "1,000.25"]);
}

#[test]
fn a_few_words_make_no_column_of_numbers_one_of_text() {
    let made =
        Made::whole("10\n9\nn/a\n8\n\"\"\n100\n7\n6\n5\n4\n3\n2\n".as_bytes(), exactly(commas(), false));
    let sort = vec![SortBy { column: 0, desc: true }];
    let view = made.reading().view(&Query { sort, ..Query::default() }, Control::default()).unwrap();
    assert_eq!(rows(&view).concat(), ["n/a", "100", "10", "9", "8", "7", "6", "5", "4", "3", "2", ""]);
}

#[test]
fn a_wrong_column_or_expression_is_an_error_that_says_so() {
    let made = Made::whole(b"a,b\n1,2\n", exactly(commas(), true));
    let view = |query| made.reading().view(&query, Control::default()).map(|view: View| view.total());
    let sort = vec![SortBy { column: 2, desc: false }];
    assert!(matches!(
        view(Query { sort, ..Query::default() }),
        Err(Error::NoColumn { column: 2, columns: 2 })
    ));
    for (value, why) in [("(", "unclosed group"), ("a{900}{900}", "size limit")] {
        let filter = vec![Filter { column: 0, op: Op::Matches, value: value.to_owned() }];
        let error = view(Query { filter, ..Query::default() }).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains('\n'), "{error}");
    }
    let many = vec![SortBy { column: 0, desc: false }; Query::SORTS + 1];
    let result = view(Query { sort: many, ..Query::default() });
    assert_eq!(result.unwrap_err().to_string(), "more than 16 columns to sort by");
    assert!("like".parse::<Op>().is_err());
    assert!(Op::ALL.into_iter().all(|op| op.to_string().parse() == Ok(op)));
}

#[test]
fn the_header_is_never_sorted_or_found_unless_it_is_a_row() {
    let made = Made::whole(b"name,n\nb,2\na,1\n", exactly(commas(), true));
    let query = Query { sort: vec![SortBy { column: 0, desc: false }], ..Query::default() };
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
    let query = Query { sort: vec![SortBy { column: 1, desc: false }], ..Query::default() };
    let told = Mutex::new(Vec::new());
    let tell = |part: f32| told.lock().unwrap().push(part);
    made.reading().view(&query, Control::default().telling(&tell)).unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.is_sorted() && told.len() > 1 && told.last() == Some(&1.0), "{told:?}");

    let cancel = Cancel::default();
    let stop = |_: f32| cancel.cancel();
    let control = Control::default().cancelled_by(&cancel).telling(&stop);
    assert!(matches!(made.reading().view(&query, control), Err(Error::Cancelled)));
}

#[test]
fn a_view_is_the_same_on_one_thread_and_on_many() {
    let (_, made) = big();
    let sort = vec![SortBy { column: 2, desc: false }, SortBy { column: 0, desc: true }];
    let query = Query { sort, search: "1".to_owned(), ..Query::default() };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        rows(&pool.install(|| made.reading().view(&query, Control::default())).unwrap())
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn a_row_too_long_to_look_at_is_looked_at_in_part_and_told_of() {
    let limits = Limits { scan_row_bytes: 1 << 20, ..Limits::default() };
    let text = format!("a,early {} late\nb,late\n", "x".repeat(5 << 20));
    let made = Made::of(text.as_bytes(), &[1 << 20], exactly(commas(), false), limits);
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
