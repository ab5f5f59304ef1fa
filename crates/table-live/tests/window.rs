//! The rows near a page of a sorted view, compared with a naive implementation while rows change.

use std::ops::Range;

use proptest::prelude::*;
use tidings_table::{Choice, Control, Filter, Limits, Op, Query, SortBy, Writer};
use tidings_table_live::{Budget, LiveRows, NearRows, WindowView, removal};

/// The rows before the changes: more than one part of the order.
const ROWS: u32 = 3_000;
const MARGIN: u64 = 150;
const PAGE: u64 = 40;

/// Changes of rows between two comparisons: keys from this one on, with numbers from this one on; every fifth key is removed.
#[derive(Clone, Debug)]
struct Changes {
    first: u32,
    count: u32,
    number: i64,
    step: i64,
}

fn changes() -> impl Strategy<Value = Changes> {
    (0..ROWS + 200, 1..400_u32, -100..20_000_i64, -40..40_i64)
        .prop_map(|(first, count, number, step)| Changes { first, count, number, step })
}

/// The numbers of the rows, by key, with the time at which the key occurred first.
type Naive = std::collections::BTreeMap<u32, (u64, i64)>;

fn wanted(naive: &Naive, desc: bool, least: i64) -> Vec<(u32, i64)> {
    let mut rows: Vec<_> = naive.iter().filter(|(_, (_, number))| *number >= least).collect();
    rows.sort_by_key(|(_, (at, number))| (if desc { -number } else { *number }, *at));
    rows.into_iter().map(|(key, (_, number))| (*key, *number)).collect()
}

fn found(near: &NearRows) -> Vec<(u32, i64)> {
    let count = near.view.total() as usize;
    let mut rows = Vec::new();
    for from in (0..count).step_by(1_000) {
        rows.extend(near.view.page(from as u64, 1_000).expect("a page").rows);
    }
    let cell = |row: &tidings_table::Row, column: usize| row.cells[column].text.clone();
    rows.iter()
        .map(|row| (cell(row, 0).parse().expect("a key"), cell(row, 1).parse().expect("a number")))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn rows_near_a_page_equal_those_of_the_whole_view(
        batches in prop::collection::vec(changes(), 1..25),
        desc in any::<bool>(),
        is_filtered in any::<bool>(),
        at in 0..ROWS as u64,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let choice = Choice { header: Some(true), ..Choice::hinted_by("rows.csv") };
        let mut writer = Writer::create(folder.path(), choice, Limits::default()).expect("a table");
        let mut naive = Naive::new();
        let mut time = 0;
        let mut file = "id,n\n".to_owned();
        for key in 0..ROWS {
            let number = i64::from(key) * 7_919 % 20_011;
            file.push_str(&format!("{key},{number}\n"));
            naive.insert(key, (u64::from(key), number));
            time += 1;
        }
        writer.append(file.as_bytes()).and_then(|_| writer.finish()).expect("rows");
        let (reading, budget) = (writer.table().reading(), Budget::new(64 << 20));
        let mut rows = LiveRows::open(&reading, &["id".to_owned()], &budget, Control::default()).expect("keys");
        let least = if is_filtered { 1_000 } else { i64::MIN };
        let filter = Filter { column: 1, op: Op::GreaterOrEqual, value: "1000".to_owned(), others: vec![] };
        let query = Query {
            sort: vec![SortBy { column: 1, desc, natural: false }],
            filter: is_filtered.then_some(filter).into_iter().collect(),
            ..Query::default()
        };
        let page = |total: u64| -> Range<u64> { let start = at.min(total.saturating_sub(PAGE)); start..start + PAGE };
        let build = || {
            let overlay = reading.overlay().expect("keys");
            let whole = reading.view_of(&query, &overlay, true, Control::default()).expect("a view");
            WindowView::build(&whole, &overlay, &budget, MARGIN, page, Control::default()).expect("rows").expect("memory")
        };
        let (mut window, mut built) = (build(), 0);
        for Changes { first, count, number, step } in batches {
            for (change, key) in (first..first + count).enumerate() {
                if key % 5 == 4 {
                    let row: Vec<String> = removal([&*key.to_string()], 2).expect("a key").collect();
                    writer.append_rows([row]).expect("a row");
                    naive.remove(&key);
                } else {
                    let number = number + step * change as i64;
                    writer.append_rows([[key.to_string(), number.to_string()]]).expect("a row");
                    time += 1;
                    naive.entry(key).or_insert((time, 0)).1 = number;
                }
            }
            rows.apply(&[], Control::default()).expect("applied");
            let mut near = None;
            if window.can_follow(&reading, page) {
                near = window.refresh(&reading, page, Control::default()).expect("rows");
            }
            let near = match near {
                Some(near) => near,
                None => {
                    built += 1;
                    window = build();
                    window.refresh(&reading, page, Control::default()).expect("rows").expect("the page")
                }
            };
            let wanted = wanted(&naive, desc, least);
            prop_assert_eq!(near.total, wanted.len() as u64);
            prop_assert!(near.covers(&page(near.total)));
            // A page with rows that were read before.
            let shown = near.window(page(near.total).start, PAGE as usize, 0..2).expect("a page");
            let number = |row: &tidings_table::Row| row.cells[1].text.parse::<i64>().expect("a number");
            let shown: Vec<i64> = shown.rows.iter().map(number).collect();
            let wanted_page = wanted.iter().skip(page(near.total).start as usize).take(PAGE as usize);
            prop_assert_eq!(shown, wanted_page.map(|(_, number)| *number).collect::<Vec<_>>());
            let found = found(&near);
            prop_assert!(found.len() as u64 <= 12 * MARGIN + PAGE + 512, "{} rows in memory", found.len());
            prop_assert_eq!(&found[..], &wanted[near.from as usize..][..found.len()]);
        }
        prop_assert_eq!(built, 0, "all changes are followed");
        drop((window, rows));
        prop_assert_eq!(budget.used(), 0);
    }
}

/// Each round inserts more rows before the page than are in memory, and the page has other rows then.
#[test]
fn a_page_follows_rows_that_are_inserted_and_removed_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let choice = Choice { header: Some(true), ..Choice::hinted_by("rows.csv") };
    let mut writer = Writer::create(folder.path(), choice, Limits::default()).expect("a table");
    let file: String = (0..60_000).map(|key| format!("{key},{}\n", key * 10)).collect();
    writer.append(format!("id,n\n{file}").as_bytes()).and_then(|_| writer.finish()).expect("rows");
    let (reading, budget) = (writer.table().reading(), Budget::new(64 << 20));
    let mut rows = LiveRows::open(&reading, &["id".to_owned()], &budget, Control::default()).expect("keys");
    let query = Query { sort: vec![SortBy { column: 1, desc: false, natural: false }], ..Query::default() };
    let overlay = reading.overlay().expect("keys");
    let whole = reading.view_of(&query, &overlay, true, Control::default()).expect("a view");
    let page = |_| 40_000..40_000 + PAGE;
    let built = WindowView::build(&whole, &overlay, &budget, MARGIN, page, Control::default());
    let mut window = built.expect("rows").expect("memory");
    let mut numbers: std::collections::BTreeSet<i64> = (0..60_000).map(|key| key * 10).collect();
    let (mut next, mut inserted) = (60_000_i64, Vec::new());
    for round in 0..40 {
        for _ in 0..1_500 {
            // The last ones of 20 rounds of inserted rows are removed again in the other rounds.
            let row = if round < 20 {
                let number = (next * 7_919) % 100_000 * 10 / 3 * 3 + 1;
                let number = (number..).find(|number| !numbers.contains(number)).expect("a number");
                numbers.insert(number);
                inserted.push((next, number));
                next += 1;
                vec![(next - 1).to_string(), number.to_string()]
            } else {
                let (key, number) = inserted.pop().expect("an inserted row");
                numbers.remove(&number);
                removal([&*key.to_string()], 2).expect("a key").collect()
            };
            writer.append_rows([row]).expect("a row");
        }
        rows.apply(&[], Control::default()).expect("applied");
        assert!(window.can_follow(&reading, page), "round {round}");
        let near = window.refresh(&reading, page, Control::default()).expect("rows");
        let near = near.unwrap_or_else(|| panic!("the page is followed in round {round}"));
        let shown = near.window(40_000, PAGE as usize, 0..2).expect("a page");
        let shown: Vec<i64> =
            shown.rows.iter().map(|row| row.cells[1].text.parse().expect("a number")).collect();
        assert_eq!(shown, numbers.iter().copied().skip(40_000).take(PAGE as usize).collect::<Vec<_>>());
        assert_eq!(near.total, numbers.len() as u64);
        assert!(near.view.total() <= 12 * MARGIN + PAGE + 512, "{} rows in memory", near.view.total());
    }
    drop((window, rows));
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_row_of_which_not_everything_is_examined_is_no_error() {
    let choice = Choice { header: Some(true), ..Choice::hinted_by("rows.csv") };
    let limits = Limits { scan_row_bytes: 1 << 20, ..Limits::default() };
    for length in [1 << 20, (1 << 20) + (256 << 10), (1 << 20) + (500 << 10)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::create(folder.path(), choice.clone(), limits).expect("a table");
        let mut file = "id,word,n\n".to_owned();
        for key in 0..30_000 {
            let word = if key == 15_000 { "a".repeat(length) } else { "word".to_owned() };
            file.push_str(&format!("{key},{word},{key}\n"));
        }
        writer.append(file.as_bytes()).and_then(|_| writer.finish()).expect("rows");
        let (reading, budget) = (writer.table().reading(), Budget::new(64 << 20));
        let rows = LiveRows::open(&reading, &["id".to_owned()], &budget, Control::default()).expect("keys");
        let filter = Filter { column: 2, op: Op::GreaterOrEqual, value: "0".to_owned(), others: vec![] };
        let sort = vec![SortBy { column: 2, desc: false, natural: false }];
        let query = Query { sort, filter: vec![filter], ..Query::default() };
        let overlay = reading.overlay().expect("keys");
        let whole = reading.view_of(&query, &overlay, true, Control::default()).expect("a view");
        let page = |_| 15_000..15_040;
        let built = WindowView::build(&whole, &overlay, &budget, MARGIN, page, Control::default());
        if let Some(mut window) = built.expect("no error") {
            let near = window.refresh(&reading, page, Control::default()).expect("rows").expect("the page");
            assert_eq!(near.total, whole.total());
        }
        drop(rows);
    }
}
