//! Facts about columns.

use tidings_table::{Choice, ColumnFacts, ColumnType, Control, Distinct, Limits};

use crate::support::TestTable;

fn facts(text: &str) -> Vec<ColumnFacts> {
    let choice = Choice { header: Some(true), delimiter: Some(b'\t'), ..Choice::default() };
    let made = TestTable::whole(text.as_bytes(), choice);
    let facts = made.reading().facts(Control::default()).unwrap();
    assert_eq!(facts.rows, made.reading().summary().rows);
    facts.columns
}

#[test]
fn a_column_has_the_type_of_its_cells() {
    let table = [
        ("1\n-2\n+3\n007\n1,234,567", ColumnType::Integer),
        ("1\n2.5\n1e9\n.5", ColumnType::Decimal),
        ("1,5\n2,25\n3", ColumnType::Decimal),
        ("2024-02-29\n2024-02-28T23:59:59.123+01:00\n2024/12/31 00:00\n23:59", ColumnType::Date),
        ("true\nFALSE\nyes\nNo", ColumnType::Boolean),
        ("31.12.2024\n01.01.2025", ColumnType::Date),
        ("12/31/2024\n1/5/2025 11:00 PM", ColumnType::Date),
        ("5%\n11%\nN/A\n2.5%", ColumnType::Decimal),
        ("$5\n$1,000\n-", ColumnType::Integer),
        ("n/a\n-", ColumnType::Text),
        ("1\n2\nthree\nfour", ColumnType::Text),
        ("2024-13-01\n2024-00-10", ColumnType::Text),
        ("1-2\n1e\n--1\n1,23,4", ColumnType::Text),
        ("\"\"\n\"\"", ColumnType::Empty),
    ];
    for (cells, expected) in table {
        assert_eq!(facts(&format!("name\n{cells}\n"))[0].column_type, expected, "{cells:?}");
    }
}

#[test]
fn a_column_of_numbers_has_its_range_its_mean_and_its_spread() {
    let rows: String = (1..=1_000).map(|i| format!("{i}\tx\n")).collect();
    let facts = facts(&format!("n\tw\n\t\n{rows}\ty\n007\t\n"));
    let n = &facts[0];
    assert_eq!((n.kinds.integer, n.kinds.empty), (1_001, 2));
    assert_eq!((n.min.as_deref(), n.max.as_deref()), (Some("1"), Some("1000")));
    assert!((n.mean.unwrap() - 500_507.0 / 1_001.0).abs() < 1e-9);
    assert_eq!(n.distinct, Distinct { count: 1_001, exact: true });
    assert!(n.histogram.len() <= 24);
    assert_eq!(n.histogram.iter().map(|bin| bin.count).sum::<u64>(), 1_001);
    assert!(n.histogram.windows(2).all(|bins| bins[0].to.total_cmp(&bins[1].from).is_eq()));
    let w = &facts[1];
    assert_eq!(w.top, [("x".to_owned(), 1_000), ("y".to_owned(), 1)]);
    assert_eq!((w.min.as_deref(), w.max.as_deref(), w.mean), (Some("x"), Some("y"), None));
    assert!(w.histogram.is_empty());
    assert_eq!(w.distinct, Distinct { count: 2, exact: true });
}

#[test]
fn the_range_is_by_number_and_exact_and_shown_as_written() {
    let facts = facts("n\n10\n9\n-1,000\n9007199254740993\n9007199254740992\n-0\n");
    assert_eq!(
        (facts[0].min.as_deref(), facts[0].max.as_deref()),
        (Some("-1,000"), Some("9007199254740993"))
    );
}

#[test]
fn many_values_are_counted_and_facts_do_not_depend_on_threads() {
    let row = |i: u64| format!("{}\t\"a, {}\"\t{}\n", i * 7_919 % 50_000, i % 2_000, i as f64 / 8.0);
    let text: String = (0..60_000).map(row).collect();
    let choice = Choice { header: Some(false), ..Choice::default() };
    let made = TestTable::of(text.as_bytes(), &[99_999], choice, Limits::default());
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| made.reading().facts(Control::default())).unwrap()
    };
    let facts = on(1);
    assert_eq!(facts, on(3));
    for (column, expected) in facts.columns.iter().zip([50_000, 2_000, 60_000]) {
        assert_eq!(column.distinct, Distinct { count: expected, exact: true });
    }
    assert_eq!(facts.columns[1].min.as_deref(), Some("a, 0"));
}
