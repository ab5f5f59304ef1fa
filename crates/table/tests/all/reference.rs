//! Views agree with a plain implementation of their documentation.

use std::cmp::Ordering;

use proptest::prelude::*;
use tidings_table::{Control, Error, Filter, Limits, Op, Query, SortBy, TypeChoice, TypeChoices};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::support::{TestTable, commas, exactly, rows};

/// Realistic cells. A double represents the numbers among them exactly.
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
    // Columns of numbers, of anything, of few values, of unusual values, of booleans and of dates.
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
        4 => Just(TypeChoices::new()),
        1 => (0..columns, prop::sample::select(vec!["text", "number", "date", "boolean"]))
            .prop_map(|(column, choice)| TypeChoices::from([(column, choice.parse().unwrap())])),
    ];
    (
        prop::collection::vec(sort, 0..3),
        prop::collection::vec(filter, 0..3),
        prop_oneof![Just(String::new()), values],
        any::<bool>(),
        types,
    )
        .prop_map(|(sort, filter, search, ignore_accents, types)| Query {
            sort,
            filter,
            search,
            ignore_accents,
            types,
            header_is_row: false,
        })
}

/// The number of a cell of [`CELLS`].
fn number(cell: &str) -> Option<f64> {
    let dressed = [("5%", 5.0), ("$1,000.50", 1_000.5), ("\u{2212}3", -3.0), ("(7)", -7.0)];
    let plain = || {
        let is_number = cell.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte));
        if is_number { cell.parse().ok() } else { None }
    };
    dressed.iter().find(|(text, _)| *text == cell).map(|(_, number)| *number).or_else(plain)
}

/// The instant of a cell of [`CELLS`] or of a filter value; a month as a cell is the instant at its start.
fn moment(cell: &str) -> Option<&'static str> {
    Some(match cell {
        "2024-01" => "2024-01-01T00:00:00",
        "12/2023" => "2023-12-01T00:00:00",
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
enum CellType {
    Number,
    Date,
    Boolean,
    Text,
}

fn type_of(table: &[Vec<&str>], query: &Query, column: usize) -> CellType {
    match query.types.get(&column) {
        Some(TypeChoice::Text) => return CellType::Text,
        Some(TypeChoice::Number(_)) => return CellType::Number,
        Some(TypeChoice::Date(_)) => return CellType::Date,
        Some(TypeChoice::Boolean) => return CellType::Boolean,
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
        CellType::Number
    } else if most(count(&|cell| moment(cell).is_some())) {
        CellType::Date
    } else if !cells.is_empty() && count(&|cell| boolean(cell).is_some()) * 10 >= cells.len() * 9 {
        CellType::Boolean
    } else {
        CellType::Text
    }
}

/// A sort key of text: letters, whether it is beyond ASCII, and the case of letters.
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

/// What a search finds in a cell.
fn searched(text: &str, query: &Query) -> String {
    let is_kept = |character: &char| !query.ignore_accents || !('\u{300}'..='\u{36F}').contains(character);
    folded(text).nfkd().filter(is_kept).nfc().collect()
}

fn composed(text: &str) -> String {
    text.nfc().collect::<String>().replace('\u{A0}', " ")
}

/// Compares two cells by value; `None` if one has no value.
fn compare(kind: CellType, a: &str, b: &str) -> Option<Ordering> {
    match kind {
        CellType::Number => number(a)?.partial_cmp(&number(b)?),
        CellType::Date => Some(moment(a)?.cmp(moment(b)?)),
        CellType::Boolean => Some(boolean(a)?.cmp(&boolean(b)?)),
        CellType::Text => Some(ordered(a).cmp(&ordered(b))),
    }
}

/// Compares a cell with a filter value.
fn compare_with(kind: CellType, cell: &str, value: &str) -> Option<Ordering> {
    match (kind, span(value)) {
        (CellType::Date, Some(span)) => {
            let cell = moment(cell)?;
            Some(if cell.starts_with(span) { Ordering::Equal } else { cell.cmp(span) })
        }
        _ if kind == CellType::Text && cell.is_empty() => None,
        _ => compare(kind, cell, value),
    }
}

/// Whether a value can be compared with cells of this type.
fn is_of(kind: CellType, value: &str) -> bool {
    match kind {
        CellType::Number => number(value).is_some(),
        CellType::Date => moment(value).is_some() || span(value).is_some(),
        CellType::Boolean => boolean(value).is_some(),
        CellType::Text => true,
    }
}

/// The values that a filter compares with.
fn values(filter: &Filter) -> Vec<&str> {
    let all = std::iter::once(&filter.value).chain(&filter.others).map(|value| &value[..]);
    let few = match filter.op {
        Op::Contains | Op::Matches | Op::Empty | Op::Same => 0,
        Op::Between => 2,
        Op::In => usize::MAX,
        _ => 1,
    };
    all.take(few).collect()
}

fn is_allowed(kind: CellType, filter: &Filter) -> bool {
    let may_be_empty = matches!(filter.op, Op::Equals | Op::Not | Op::In);
    values(filter).into_iter().all(|value| may_be_empty && ["", "n/a"].contains(&value) || is_of(kind, value))
}

fn holds(kind: CellType, filter: &Filter, cell: &str) -> bool {
    let value = &filter.value[..];
    let is = |value: &str| match kind {
        _ if ["", "n/a"].contains(&value) || cell.is_empty() => value == cell,
        CellType::Text => composed(cell) == composed(value),
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
        Op::Same => {
            let is_value = |cell: &str| {
                kind != CellType::Text && !cell.is_empty() && compare_with(kind, cell, cell).is_some()
            };
            let is_equal = |a: &str, b: &str| compare_with(kind, a, b).is_some_and(Ordering::is_eq);
            match (is_value(cell), is_value(value)) {
                // Both are instants: neither is a span of the other one.
                (true, true) => is_equal(cell, value) && is_equal(value, cell),
                (false, false) => composed(cell) == composed(value),
                _ => false,
            }
        }
        Op::Empty => cell.is_empty(),
        Op::Matches => regex::Regex::new(value).unwrap().is_match(cell),
    }
}

/// The expected rows according to the documentation; `None` if a filter value is not of its column's type.
fn reference<'a>(table: &[Vec<&'a str>], query: &Query) -> Option<Vec<Vec<&'a str>>> {
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
            let wanted = searched(&query.search, query);
            query.search.is_empty() || row.iter().any(|cell| searched(cell, query).contains(&wanted))
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_view_agrees_with_a_plain_implementation(
        (table, query) in table().prop_flat_map(|table| {
            let columns = table.iter().map(Vec::len).max().unwrap_or(1);
            (Just(table), query(columns))
        }),
        sort_bytes in prop::sample::select(vec![1, 300, 192 << 20]),
    ) {
        let limits = Limits { sort_bytes, ..Limits::default() };
        let made = TestTable::of(&text(&table), &[usize::MAX], exactly(commas(), false), limits);
        let view = made.reading().view(&query, Control::default());
        let expected = reference(&table, &query);
        let view = match view {
            Err(Error::NoColumn { .. }) if table.is_empty() => return Ok(()),
            Err(Error::Value { .. }) if expected.is_none() => return Ok(()),
            view => view.unwrap(),
        };
        prop_assert_eq!(Some(rows(&view)), expected.map(|rows| rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect::<Vec<Vec<String>>>()));
    }
}
