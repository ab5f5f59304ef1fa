//! Grouped views against a naive implementation, under random appends, conditions and orders.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use tidings_table::{
    Cancel, Choice, Control, Error, Filter, Format, Limits, Op, Query, Reading, SortBy, TypeChoice, Writer,
};
use tidings_table_group::{Budget, Function, Group, Grouped, MAX_GROUPS, Measure};

/// A table in a temporary folder.
struct TestTable {
    writer: Writer,
    _folder: TempDir,
}

impl TestTable {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let choice =
            Choice { delimiter: Some(b';'), header: Some(true), skip: Some(0), ..Choice::hinted_by("a.csv") };
        let mut writer = Writer::create(folder.path(), choice, Limits::default()).expect("a writer");
        writer.append(text.as_bytes()).expect("appended");
        writer.finish().expect("finished");
        Self { writer, _folder: folder }
    }

    fn append(&mut self, text: &str) {
        self.writer.append(text.as_bytes()).expect("appended");
        self.writer.finish().expect("finished");
    }

    fn reading(&self) -> Arc<Reading> {
        self.writer.table().reading()
    }

    fn grouped(&self, query: &Query, group: &Group) -> Result<Grouped, Error> {
        Grouped::new(&self.reading(), query, group, &Budget::default(), Control::default())
    }
}

const ALL: [Function; 6] =
    [Function::Count, Function::Sum, Function::Mean, Function::Min, Function::Max, Function::Distinct];

fn group(by: &[usize], measures: &[(Function, Option<usize>)]) -> Group {
    let measures = measures.iter().map(|(function, column)| Measure { function: *function, column: *column });
    Group { by: by.to_vec(), measures: measures.collect(), chart: None }.checked().expect("valid")
}

fn rows(view: &Grouped) -> Vec<Vec<String>> {
    let page = view.window(0, usize::MAX, 0..usize::MAX);
    assert_eq!(page.total, page.rows.len() as u64);
    let texts = |row: tidings_table::Row| row.cells.into_iter().map(|cell| cell.text).collect();
    page.rows.into_iter().map(texts).collect()
}

fn typed() -> Query {
    let types = BTreeMap::from([(1, TypeChoice::Number(None)), (2, TypeChoice::Date(None))]);
    Query { types, ..Query::default() }
}

/// A value as the naive implementation compares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    /// Hundredths.
    Number(i64),
    Date(String),
    /// Without case and accents, and as written.
    Text(String, String),
    Other(String),
    Empty,
}

impl Value {
    fn is_value(&self) -> bool {
        !matches!(self, Self::Other(_) | Self::Empty)
    }
}

/// The value of a cell in the columns of the generated tables: text, numbers, dates.
fn value(column: usize, cell: &str) -> Value {
    let other = || Value::Other(cell.to_owned());
    match column {
        _ if cell.is_empty() => Value::Empty,
        0 => Value::Text(cell.to_lowercase().replace('ü', "u"), cell.to_owned()),
        1 => {
            let plain = cell.replace([',', '€', ' '], "");
            plain
                .parse::<f64>()
                .map_or_else(|_| other(), |value| Value::Number((value * 100.0).round() as i64))
        }
        _ => {
            let parts: Vec<&str> = cell.split(['.', '-']).collect();
            match parts[..] {
                [year, month, day] if year.len() == 4 => Value::Date(format!("{year}{month}{day}")),
                [day, month, year] => Value::Date(format!("{year}{month}{day}")),
                _ => other(),
            }
        }
    }
}

fn decimal(hundredths: i64) -> String {
    let text = format!("{}.{:02}", hundredths.unsigned_abs() / 100, hundredths.unsigned_abs() % 100);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if hundredths < 0 { format!("-{text}") } else { text.to_owned() }
}

fn naive_measure(function: Function, column: Option<usize>, rows: &[&Vec<String>]) -> String {
    let Some(column) = column else { return rows.len().to_string() };
    let values: Vec<(Value, &str)> = rows
        .iter()
        .map(|row| (value(column, &row[column]), &*row[column]))
        .filter(|(value, _)| value.is_value())
        .collect();
    let numbers = || {
        values.iter().map(|(value, _)| match value {
            Value::Number(number) => *number,
            _ => 0,
        })
    };
    match function {
        Function::Count => values.len().to_string(),
        Function::Distinct => {
            values.iter().map(|(value, _)| value).collect::<BTreeSet<_>>().len().to_string()
        }
        _ if values.is_empty() => String::new(),
        Function::Sum => decimal(numbers().sum()),
        Function::Mean => {
            let sum: f64 = decimal(numbers().sum()).parse().expect("a number");
            format!("{}", sum / values.len() as f64).replace("-0", if sum == 0.0 { "0" } else { "-0" })
        }
        Function::Min => values
            .iter()
            .min_by(|(a, _), (b, _)| a.cmp(b))
            .map(|(_, cell)| (*cell).to_owned())
            .unwrap_or_default(),
        Function::Max => {
            // Of equal values, the first one.
            let max = values.iter().map(|(value, _)| value).max().expect("a value");
            values
                .iter()
                .find(|(value, _)| value == max)
                .map(|(_, cell)| (*cell).to_owned())
                .unwrap_or_default()
        }
    }
}

/// The grouped rows in the order of the groups.
fn naive(rows: &[Vec<String>], group: &Group, keep: impl Fn(&Vec<String>) -> bool) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<Vec<Value>, Vec<&Vec<String>>> = BTreeMap::new();
    for row in rows.iter().filter(|row| keep(row)) {
        let key = group.by.iter().map(|column| value(*column, &row[*column])).collect();
        groups.entry(key).or_default().push(row);
    }
    let shown = groups.into_values().map(|rows| {
        let first = group.by.iter().map(|column| rows[0][*column].clone());
        let measures =
            group.measures.iter().map(|measure| naive_measure(measure.function, measure.column, &rows));
        first.chain(measures).collect()
    });
    shown.collect()
}

fn naive_sort(rows: &mut [Vec<String>], group: &Group, by: SortBy) {
    let key = |row: &Vec<String>| {
        let cell = &row[by.column];
        match by.column.checked_sub(group.by.len()) {
            None => value(group.by[by.column], cell),
            Some(measure) => match group.measures[measure] {
                Measure { function: Function::Min | Function::Max, column: Some(column) } => {
                    value(column, cell)
                }
                _ if cell.is_empty() => Value::Empty,
                _ => {
                    // Means have any number of digits.
                    let bits = cell.parse::<f64>().expect("a number") * 1e6;
                    Value::Number(bits.round() as i64)
                }
            },
        }
    };
    rows.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        match (a.is_value(), b.is_value()) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (true, true) if by.desc => b.cmp(&a),
            _ => a.cmp(&b),
        }
    });
}

fn row() -> impl Strategy<Value = Vec<String>> {
    let text = prop_oneof![Just(String::new()), "[ab]{1,2}", Just("Zürich".to_owned())];
    let number = prop_oneof![
        4 => (-99..99_i32).prop_map(|number| number.to_string()),
        3 => (-999..999_i64).prop_map(|number| {
            let sign = if number < 0 { "-" } else { "" };
            format!("{sign}{}.{:02}", number.abs() / 100, number.abs() % 100)
        }),
        1 => Just("1,234.50 €".to_owned()),
        1 => Just(String::new()),
        1 => Just("unknown".to_owned()),
    ];
    let date = prop_oneof![
        (1..4_u8).prop_map(|day| format!("2024-05-0{day}")),
        (1..4_u8).prop_map(|day| format!("0{day}.05.2024")),
        Just(String::new()),
        Just("later".to_owned()),
    ];
    (text, number, date).prop_map(|(text, number, date)| vec![text, number, date])
}

fn measures() -> impl Strategy<Value = Vec<(Function, Option<usize>)>> {
    let measure = (0..6_usize, 0..3_usize).prop_map(|(function, column)| match ALL[function] {
        function if function.needs_numbers() => (function, Some(1)),
        Function::Count if column == 0 => (Function::Count, None),
        function => (function, Some(column)),
    });
    prop::collection::vec(measure, 1..5)
}

fn text_of(rows: &[Vec<String>]) -> String {
    rows.iter().map(|row| row.join(";") + "\n").collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn grouped_rows_equal_those_of_a_naive_implementation_after_every_append(
        parts in prop::collection::vec(prop::collection::vec(row(), 0..30), 1..5),
        by in prop::sample::subsequence(vec![0, 1, 2], 1..3).prop_shuffle(),
        measures in measures(),
        condition in 0..5_u8,
        sort in (0..8_usize, any::<bool>()),
        open in any::<bool>(),
    ) {
        let group = group(&by, &measures);
        let filter = |column, op, value: &str| Filter { column, op, value: value.to_owned(), others: vec![] };
        let (query, keep): (Query, fn(&Vec<String>) -> bool) = match condition {
            0 => (Query { filter: vec![filter(0, Op::Contains, "A")], ..typed() }, |row| row[0].contains('a')),
            1 => (Query { filter: vec![filter(1, Op::Greater, "0")], ..typed() },
                |row| matches!(value(1, &row[1]), Value::Number(1..))),
            2 => (Query { search: "ü".to_owned(), ..typed() }, |row| row[0].contains('ü')),
            3 => (Query { filter: vec![filter(2, Op::Same, "02.05.2024")], ..typed() },
                |row| value(2, &row[2]) == Value::Date("20240502".to_owned())),
            _ => (typed(), |_| true),
        };
        let by = SortBy { column: sort.0, desc: sort.1, natural: false };
        let query = Query { sort: if by.column < group.width() { vec![by] } else { vec![] }, ..query };
        let mut table = TestTable::new("text;number;date\n");
        let mut written: Vec<Vec<String>> = Vec::new();
        // An update of another view must not influence this one.
        let mut view = table.grouped(&query, &group).expect("a view");
        for part in parts {
            let mut text = text_of(&part);
            // The last line may be read before its line break arrives.
            if open && text.ends_with('\n') {
                text.pop();
                table.append(&text);
                view = view.refresh(Control::default()).expect("a view");
                text = "\n".to_owned();
            }
            table.append(&text);
            written.extend(part);
            view = view.refresh(Control::default()).expect("a view");
            let mut expected = naive(&written, &group, keep);
            for by in query.sort.iter().rev() {
                naive_sort(&mut expected, &group, *by);
            }
            prop_assert_eq!(&rows(&view), &expected);
            let again = table.grouped(&query, &group).expect("a view");
            prop_assert_eq!(&rows(&again), &expected);
            prop_assert_eq!(&rows(&again.sorted(&[]).expect("a view").sorted(&query.sort).expect("a view")), &expected);
        }
    }

    #[test]
    fn the_filter_of_a_group_finds_its_rows(lines in prop::collection::vec(row(), 1..40), column in 0..3_usize) {
        let table = TestTable::new(&format!("text;number;date\n{}", text_of(&lines)));
        let view = table.grouped(&typed(), &group(&[column], &[])).expect("a view");
        for row in rows(&view) {
            let same = Filter { column, op: Op::Same, value: row[0].clone(), others: vec![] };
            let query = Query { filter: vec![same], ..typed() };
            let found = table.reading().view(&query, Control::default()).expect("a view").total();
            prop_assert_eq!(found.to_string(), row[1].clone(), "{:?}", row[0]);
        }
    }
}

#[test]
fn the_columns_are_named_by_the_header_or_their_number() {
    let mut table = TestTable::new("city;amount\nBern;5\n");
    let view =
        table.grouped(&Query::default(), &group(&[0], &[(Function::Sum, Some(1)), (Function::Count, None)]));
    assert_eq!(view.expect("a view").header(), ["city", "sum of amount", "count"]);
    let choice = Choice { delimiter: Some(b';'), header: Some(false), ..Choice::default() };
    table.writer.reread(choice, Control::default()).expect("read");
    let view = table.grouped(&Query::default(), &group(&[0], &[(Function::Max, Some(1))])).expect("a view");
    assert_eq!(view.header(), ["column 1", "max of column 2"]);
    assert_eq!(rows(&view), [["Bern", "5"], ["city", "amount"]]);
}

#[test]
fn texts_are_grouped_by_their_composed_form_and_values_by_value() {
    let table = TestTable::new("a;b\nZu\u{308}rich;5\nZürich;5.0\nzürich;05\nN/A;true\n;\n");
    let view = table.grouped(&Query::default(), &group(&[0], &[])).expect("a view");
    assert_eq!(rows(&view), [["N/A", "1"], ["Zu\u{308}rich", "2"], ["zürich", "1"], ["", "1"]]);
    let view = table.grouped(&Query::default(), &group(&[1], &[])).expect("a view");
    assert_eq!(rows(&view), [["5", "3"], ["true", "1"], ["", "1"]]);
}

#[test]
fn a_measure_of_numbers_needs_a_column_of_numbers() {
    let mut table = TestTable::new("a;b\nx;1\ny;2\n");
    let error =
        table.grouped(&Query::default(), &group(&[1], &[(Function::Sum, Some(0))])).expect_err("text");
    assert_eq!(
        error.to_string(),
        "sum needs a column of numbers, and column 0 (counted from 0) has the type text"
    );
    // Rows that change the type of a column leave the sums without values.
    let view = table.grouped(&Query::default(), &group(&[0], &[(Function::Sum, Some(1))])).expect("a view");
    table.append(&"x;words\n".repeat(100));
    let view = view.refresh(Control::default()).expect("a view");
    assert_eq!(rows(&view), [["x", ""], ["y", ""]]);
    for (columns, by) in [(2, 5), (2, 2)] {
        let error = table.grouped(&Query::default(), &group(&[by], &[])).expect_err("no column");
        assert!(matches!(error, Error::NoColumn { columns: found, .. } if found == columns), "{error}");
    }
    let sort = vec![SortBy { column: 2, ..SortBy::default() }];
    let error = table.grouped(&Query { sort, ..Query::default() }, &group(&[0], &[])).expect_err("no column");
    assert!(matches!(error, Error::NoColumn { column: 2, columns: 2 }), "{error}");
}

#[test]
fn a_view_beyond_a_limit_is_an_error_and_releases_its_memory() {
    let lines: String = (0..=MAX_GROUPS).map(|number| format!("{number};x\n")).collect();
    let table = TestTable::new(&format!("a;b\n{lines}"));
    let budget = Budget::default();
    let grouped =
        |group: &Group| Grouped::new(&table.reading(), &Query::default(), group, &budget, Control::default());
    let error = grouped(&group(&[0], &[])).expect_err("too many groups");
    assert_eq!(error.to_string(), format!("more than {MAX_GROUPS} groups"));
    assert_eq!(budget.used(), 0);
    let view = grouped(&group(&[1], &[(Function::Distinct, Some(0))])).expect("a view");
    let estimate = rows(&view)[0][1].strip_prefix('≈').and_then(|text| text.parse::<f64>().ok());
    assert!((estimate.expect("an estimate") / MAX_GROUPS as f64 - 1.0).abs() < 0.05, "{estimate:?}");
    let used = budget.used();
    assert!(used > 4_096 && used < 100_000, "{used}");
    drop(view);
    assert_eq!(budget.used(), 0);
    let small = Budget::new(10_000);
    let error =
        Grouped::new(&table.reading(), &Query::default(), &group(&[0], &[]), &small, Control::default());
    assert!(matches!(error, Err(Error::Full { limit: 10_000, .. })), "{error:?}");
    assert_eq!(small.used(), 0);
}

#[test]
fn the_memory_of_a_view_is_bounded_in_bytes() {
    let long = "x".repeat(2_000);
    let lines: String = (0..40_000).map(|number| format!("{long}{number};1\n")).collect();
    let table = TestTable::new(&format!("a;b\n{lines}"));
    let error = table.grouped(&Query::default(), &group(&[0], &[])).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { what: "the grouped view", .. }), "{error}");
}

#[test]
fn an_update_that_was_cancelled_continues_where_it_stopped() {
    let lines =
        |from: u32| -> String { (from..from + 200_000).map(|n| format!("{};{n}\n", n % 7)).collect() };
    let mut table = TestTable::new(&format!("a;b\n{}", lines(0)));
    let settings = group(&[0], &[(Function::Sum, Some(1))]);
    let view = table.grouped(&Query::default(), &settings).expect("a view");
    table.append(&lines(200_000));
    let cancel = Cancel::default();
    let progress = |_| cancel.cancel();
    let control = Control::default().cancelled_by(&cancel).with_progress(&progress);
    assert!(matches!(view.refresh(control), Err(Error::Cancelled)));
    let view = view.refresh(Control::default()).expect("a view");
    assert_eq!(rows(&view), rows(&table.grouped(&Query::default(), &settings).expect("a view")));
    assert_eq!(view.total(), 7);
}

#[test]
fn windows_and_downloads_have_the_columns_and_rows_of_the_view() {
    let table = TestTable::new("a;b\nx;1\n=y;2\n\"z,z\";3\nx;4\n");
    let view = table.grouped(&Query::default(), &group(&[0], &[(Function::Sum, Some(1))])).expect("a view");
    let page = view.window(1, 5, 1..2);
    let cells: Vec<&str> = page.rows.iter().flat_map(|row| &row.cells).map(|cell| &*cell.text).collect();
    assert_eq!((page.from, page.total, cells), (1, 3, vec!["5", "3"]));
    assert!(view.window(3, 5, 0..2).rows.is_empty() && view.window(u64::MAX, 5, 0..2).rows.is_empty());
    assert_eq!(view.header_of(1..9).cells[0].text, "sum of b");
    let mut out = Vec::new();
    let export = tidings_table::Export { format: Format::Csv, disarm_formulas: true };
    view.write(export, &mut out, Control::default()).expect("written");
    assert_eq!(String::from_utf8(out).expect("UTF-8"), "a,sum of b\n'=y,2\nx,5\n\"z,z\",3\n");
}

#[test]
fn long_cells_of_groups_are_truncated_on_pages_and_complete_in_downloads() {
    let long = "ü".repeat(5_000);
    let table = TestTable::new(&format!("a;b\n{long};1\n"));
    let view = table.grouped(&Query::default(), &group(&[0], &[])).expect("a view");
    let cell = &view.window(0, 1, 0..1).rows[0].cells[0];
    assert_eq!((cell.text.chars().count(), cell.cut), (2_048, Some(5_000)));
    let mut out = Vec::new();
    view.write(Format::Csv, &mut out, Control::default()).expect("written");
    assert_eq!(String::from_utf8(out).expect("UTF-8"), format!("a,count\n{long},1\n"));
}
