//! A view is what a plain implementation of the same words gives.

use std::cmp::Ordering;
use std::sync::Mutex;

use proptest::prelude::*;
use tidings_table::{
    Cancel, Control, Error, Filter, Limits, Op, Query, SortBy, Syntax, TypeChoice, Types, View,
};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::support::{Made, Random, exactly, rows};

/// Cells as people have them; the numbers among them are such that a double is exact.
const CELLS: [&str; 44] = [
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
    "5%",
    "$1,000.50",
    "\u{2212}3",
    "(7)",
    "n/a",
    "",
    "",
    "apple",
    "Apple",
    "banana",
    "app",
    "a\"pp\"le",
    "pear, green",
    "two\nlines",
    "straße",
    "New\u{A0}York",
    "new york",
    "Äpfel",
    "äpfel",
    "A\u{308}pfel",
    "\u{1}",
    "\0x",
    "app\0",
    "app\0\u{1}",
    "app\u{1}",
    "true",
    "YES",
    "no",
    "2024-01-31",
    "2023-12-01",
    "31 Jan 2024 10:00",
    "2024-01-31T11:00:00.50+01:00",
];

fn table() -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    // Columns of numbers, of anything, of few values, of odd ones, of booleans and of dates.
    let cell = |kind: usize| match kind {
        0 => prop::sample::select(&CELLS[..19]).boxed(),
        1 => prop::sample::select(&CELLS[..]).boxed(),
        2 => prop::sample::select(&CELLS[17..23]).boxed(),
        3 => prop::sample::select(&CELLS[26..37]).boxed(),
        4 => prop::sample::select(&CELLS[36..40]).boxed(),
        _ => prop::sample::select(&CELLS[39..]).boxed(),
    };
    prop::collection::vec(0..6_usize, 1..5).prop_flat_map(move |kinds| {
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
    let sort = (0..columns, any::<bool>()).prop_map(|(column, desc)| SortBy { column, desc, natural: false });
    let values = prop_oneof![
        prop::sample::select(&CELLS[..]).prop_map(str::to_owned),
        prop::sample::select(vec![
            "pp", "AP", ",", "\"", "\n", "a\"P", "n", "e", "äp", "^a", "[0-9]{2}", "l$", "STRASSE",
            "a\u{308}", "new york", "2024", "2024-01", "12/2023", "7.0", "5"
        ])
        .prop_map(str::to_owned),
    ];
    let others = prop::collection::vec(values.clone(), 0..3);
    let filter = (0..columns, prop::sample::select(&Op::ALL[..]), values.clone(), others)
        .prop_map(|(column, op, value, others)| Filter { column, op, value, others });
    let types = prop_oneof![
        4 => Just(Types::new()),
        1 => (0..columns, prop::sample::select(vec!["text", "number", "date", "boolean"]))
            .prop_map(|(column, choice)| Types::from([(column, choice.parse().unwrap())])),
    ];
    (
        prop::collection::vec(sort, 0..3),
        prop::collection::vec(filter, 0..3),
        prop_oneof![Just(String::new()), values],
        types,
    )
        .prop_map(|(sort, filter, search, types)| Query {
            sort,
            filter,
            search,
            types,
            header_is_row: false,
        })
}

/// The number that a cell of [`CELLS`] is.
fn number(cell: &str) -> Option<f64> {
    let dressed = [("5%", 5.0), ("$1,000.50", 1_000.5), ("\u{2212}3", -3.0), ("(7)", -7.0)];
    let plain = || {
        let is_number = cell.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte));
        if is_number { cell.parse().ok() } else { None }
    };
    dressed.iter().find(|(text, _)| *text == cell).map(|(_, number)| *number).or_else(plain)
}

/// The moment that a cell of [`CELLS`] is, or the start of the moments that a value names.
fn moment(cell: &str) -> Option<&'static str> {
    Some(match cell {
        "2024-01-31" => "2024-01-31T00:00:00",
        "2023-12-01" => "2023-12-01T00:00:00",
        "31 Jan 2024 10:00" => "2024-01-31T10:00:00",
        "2024-01-31T11:00:00.50+01:00" => "2024-01-31T10:00:00.5",
        _ => return None,
    })
}

fn span(value: &str) -> Option<&'static str> {
    Some(match value {
        "2024" | "1000" => {
            if value == "2024" {
                "2024"
            } else {
                "1000"
            }
        }
        "2024-01" => "2024-01",
        "12/2023" => "2023-12",
        "2024-01-31" => "2024-01-31",
        "2023-12-01" => "2023-12-01",
        _ => return None,
    })
}

fn boolean(cell: &str) -> Option<bool> {
    match cell {
        "true" | "YES" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Number,
    Date,
    Boolean,
    Text,
}

fn type_of(table: &[Vec<&str>], query: &Query, column: usize) -> Type {
    match query.types.get(&column) {
        Some(TypeChoice::Text) => return Type::Text,
        Some(TypeChoice::Number(_)) => return Type::Number,
        Some(TypeChoice::Date(_)) => return Type::Date,
        Some(TypeChoice::Boolean) => return Type::Boolean,
        None => {}
    }
    let cells: Vec<&str> = table
        .iter()
        .filter_map(|row| row.get(column))
        .copied()
        .filter(|cell| !["", "n/a"].contains(cell))
        .collect();
    let count = |is: &dyn Fn(&str) -> bool| cells.iter().filter(|cell| is(cell)).count();
    let most = |count: usize| !cells.is_empty() && count * 4 >= cells.len() * 3;
    if most(count(&|cell| number(cell).is_some())) {
        Type::Number
    } else if most(count(&|cell| moment(cell).is_some())) {
        Type::Date
    } else if !cells.is_empty() && count(&|cell| boolean(cell).is_some()) * 10 >= cells.len() * 9 {
        Type::Boolean
    } else {
        Type::Text
    }
}

/// Text in the order of a sort: letters, then whether it is more than ASCII, and the letters in upper case.
fn ordered(text: &str) -> (String, bool, Vec<bool>, String) {
    let letters = text.nfd().filter(|letter| !is_combining_mark(*letter)).collect::<String>();
    let letters = letters.to_lowercase().replace('ß', "ss").replace('\u{A0}', " ");
    match text.is_ascii() {
        true => (letters, false, text.bytes().map(|byte| byte.is_ascii_uppercase()).collect(), String::new()),
        false => (letters, true, Vec::new(), text.to_owned()),
    }
}

fn folded(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase().replace('ß', "ss")
}

fn composed(text: &str) -> String {
    text.nfc().collect::<String>().replace('\u{A0}', " ")
}

/// How two cells compare by their values; `None` if one has none.
fn compare(kind: Type, a: &str, b: &str) -> Option<Ordering> {
    match kind {
        Type::Number => number(a)?.partial_cmp(&number(b)?),
        Type::Date => Some(moment(a)?.cmp(moment(b)?)),
        Type::Boolean => Some(boolean(a)?.cmp(&boolean(b)?)),
        Type::Text => Some(ordered(a).cmp(&ordered(b))),
    }
}

/// How a cell compares with a filter's value.
fn compare_with(kind: Type, cell: &str, value: &str) -> Option<Ordering> {
    match (kind, span(value)) {
        (Type::Date, Some(span)) => {
            let cell = moment(cell)?;
            Some(if cell.starts_with(span) { Ordering::Equal } else { cell.cmp(span) })
        }
        _ if kind == Type::Text && cell.is_empty() => None,
        _ => compare(kind, cell, value),
    }
}

/// Whether a value can be compared with cells of this type.
fn is_of(kind: Type, value: &str) -> bool {
    match kind {
        Type::Number => number(value).is_some(),
        Type::Date => moment(value).is_some() || span(value).is_some(),
        Type::Boolean => boolean(value).is_some(),
        Type::Text => true,
    }
}

/// The values of a filter that it compares with.
fn values(filter: &Filter) -> Vec<&str> {
    let all = std::iter::once(&filter.value).chain(&filter.others).map(|value| &value[..]);
    let few = match filter.op {
        Op::Contains | Op::Matches | Op::Empty => 0,
        Op::Between => 2,
        Op::In => usize::MAX,
        _ => 1,
    };
    all.take(few).collect()
}

fn is_allowed(kind: Type, filter: &Filter) -> bool {
    let may_be_empty = matches!(filter.op, Op::Equals | Op::Not | Op::In);
    values(filter).into_iter().all(|value| may_be_empty && ["", "n/a"].contains(&value) || is_of(kind, value))
}

fn holds(kind: Type, filter: &Filter, cell: &str) -> bool {
    let value = &filter.value[..];
    let is = |value: &str| match kind {
        _ if ["", "n/a"].contains(&value) || cell.is_empty() => value == cell,
        Type::Text => composed(cell) == composed(value),
        _ => compare_with(kind, cell, value).is_some_and(Ordering::is_eq),
    };
    let order = |value: &str| if cell.is_empty() { None } else { compare_with(kind, cell, value) };
    match filter.op {
        Op::Contains => folded(cell).contains(&folded(value)),
        Op::Equals => is(value),
        Op::Not => !is(value),
        Op::In => values(filter).into_iter().any(is),
        Op::Less => order(value).is_some_and(Ordering::is_lt),
        Op::LessOrEqual => order(value).is_some_and(Ordering::is_le),
        Op::Greater => order(value).is_some_and(Ordering::is_gt),
        Op::GreaterOrEqual => order(value).is_some_and(Ordering::is_ge),
        Op::Between => {
            let between = |low: &str, high: &str| {
                order(low).is_some_and(Ordering::is_ge) && order(high).is_some_and(Ordering::is_le)
            };
            let other = filter.others.first().map_or(value, |other| other);
            between(value, other) || between(other, value)
        }
        Op::Empty => cell.is_empty(),
        Op::Matches => regex::Regex::new(value).unwrap().is_match(cell),
    }
}

/// What a view must show, by the words of its documentation; `None` if a filter's value is not of its column's type.
fn plainly<'a>(table: &[Vec<&'a str>], query: &Query) -> Option<Vec<Vec<&'a str>>> {
    let cell = |row: &Vec<&'a str>, column: usize| row.get(column).copied().unwrap_or("");
    let kind = |column| type_of(table, query, column);
    if !query.filter.iter().all(|filter| is_allowed(kind(filter.column), filter)) {
        return None;
    }
    let mut found: Vec<_> = table
        .iter()
        .filter(|row| {
            query.filter.iter().all(|filter| holds(kind(filter.column), filter, cell(row, filter.column)))
        })
        .filter(|row| {
            query.search.is_empty() || row.iter().any(|cell| folded(cell).contains(&folded(&query.search)))
        })
        .cloned()
        .collect();
    found.sort_by(|a, b| {
        query.sort.iter().fold(Ordering::Equal, |order, by| {
            order.then_with(|| {
                let (a, b, kind) = (cell(a, by.column), cell(b, by.column), kind(by.column));
                let class = |cell: &str| {
                    if cell.is_empty() { 2 } else { u8::from(compare(kind, cell, cell).is_none()) }
                };
                class(a).cmp(&class(b)).then_with(|| {
                    let up = match class(a) {
                        0 => compare(kind, a, b).unwrap(),
                        1 => ordered(a).cmp(&ordered(b)),
                        _ => Ordering::Equal,
                    };
                    if by.desc { up.reverse() } else { up }
                })
            })
        })
    });
    Some(found)
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
        let expected = plainly(&table, &query);
        let view = match view {
            Err(Error::NoColumn { .. }) if table.is_empty() => return Ok(()),
            Err(Error::Value { .. }) if expected.is_none() => return Ok(()),
            view => view.unwrap(),
        };
        prop_assert_eq!(Some(rows(&view)), expected.map(|rows| rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect::<Vec<Vec<String>>>()));
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
fn equal_rows_stay_in_order_however_many_and_however_long() {
    for (rows_of_each, length) in [(2, 3), (25, 40), (31, 9), (200, 100)] {
        let row = |i: usize| [["a", "b", "c"][i % 3].repeat(length), i.to_string()];
        let expected: Vec<_> = (0..3 * rows_of_each).map(row).collect();
        let text: String = expected.iter().map(|row| row.join(",") + "\n").collect();
        let made = Made::whole(text.as_bytes(), exactly(commas(), false));
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
    let made = Made::of(text.as_bytes(), &[usize::MAX], exactly(commas(), false), Limits::default());
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
    let filter =
        |column, op, value: &str| vec![Filter { column, op, value: value.to_owned(), others: vec![] }];
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
        let made = Made::whole(text.as_bytes(), exactly(Syntax::new(b';', None, None).unwrap(), false));
        let sort = vec![SortBy { column: 0, desc: false, natural: false }];
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
    let sort = vec![SortBy { column: 0, desc: true, natural: false }];
    let view = made.reading().view(&Query { sort, ..Query::default() }, Control::default()).unwrap();
    assert_eq!(rows(&view).concat(), ["100", "10", "9", "8", "7", "6", "5", "4", "3", "2", "n/a", ""]);
}

#[test]
fn a_wrong_column_or_expression_is_an_error_that_says_so() {
    let made = Made::whole(b"a,b\n1,2\n", exactly(commas(), true));
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
    let made = Made::whole(b"name,n\nb,2\na,1\n", exactly(commas(), true));
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
