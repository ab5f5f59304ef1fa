//! Rows that are replaced and removed, compared with a naive implementation under random operations.

use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use tidings_table::{
    Choice, Control, Export, Filter, Format, Limits, Op, Query, Reading, SortBy, View, Writer,
};
use tidings_table_group::{Function, Group, Grouped, Measure};
use tidings_table_live::{Budget, Counts, KeyError, LiveRows, LiveView, WindowView, removal};

type Row = [String; 3];

#[derive(Clone, Debug)]
enum Operation {
    /// A row with this key (0: no key), a number and a word.
    Put(u16, i32, u8),
    Remove(u16),
    /// The end of a batch.
    Apply,
    /// The view of this query is compared.
    Compare(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        12 => (0..60_u16, -20..20_i32, 0..5_u8).prop_map(|(key, number, word)| Operation::Put(key, number, word)),
        3 => (1..60_u16).prop_map(Operation::Remove),
        3 => Just(Operation::Apply),
        3 => (0..6_u8).prop_map(Operation::Compare),
    ]
}

fn row(key: u16, number: i32, word: u8) -> Row {
    let word = ["apple", "Pear", "plum, ripe", "a \"b\"", ""][word as usize];
    [if key == 0 { String::new() } else { format!("k{key}") }, number.to_string(), word.to_owned()]
}

/// The rows by the definition.
#[derive(Clone, Debug, Default)]
struct Naive(Vec<Row>);

impl Naive {
    fn put(&mut self, row: Row) -> Counts {
        match self.0.iter_mut().find(|old| !row[0].is_empty() && old[0] == row[0]) {
            Some(old) => {
                *old = row;
                Counts { updated: 1, ..Counts::default() }
            }
            None => {
                self.0.push(row);
                Counts { appended: 1, ..Counts::default() }
            }
        }
    }

    fn remove(&mut self, key: &str) -> Counts {
        let before = self.0.len();
        self.0.retain(|row| row[0] != key);
        Counts { removed: (before - self.0.len()) as u64, ..Counts::default() }
    }

    fn query(&self, number: u8) -> Vec<Row> {
        let mut rows = self.0.clone();
        let value = |row: &Row| row[1].parse::<i32>().expect("a number");
        match number {
            0 => {}
            1 => rows.sort_by_key(value),
            2 => rows.sort_by_key(|row| std::cmp::Reverse(value(row))),
            3 => rows.retain(|row| value(row) >= 3),
            4 => {
                rows.retain(|row| row.iter().any(|cell| cell.to_lowercase().contains('p')));
                rows.sort_by_key(value);
            }
            _ => rows.retain(|row| row[2].is_empty()),
        }
        rows
    }
}

fn query(number: u8) -> Query {
    let by = |desc| vec![SortBy { column: 1, desc, natural: false }];
    let filter =
        |column, op, value: &str| vec![Filter { column, op, value: value.to_owned(), others: vec![] }];
    match number {
        0 => Query::default(),
        1 => Query { sort: by(false), ..Query::default() },
        2 => Query { sort: by(true), ..Query::default() },
        3 => Query { filter: filter(1, Op::GreaterOrEqual, "3"), ..Query::default() },
        4 => Query { sort: by(false), search: "P".to_owned(), ..Query::default() },
        _ => Query { filter: filter(2, Op::Empty, ""), ..Query::default() },
    }
}

fn rows(view: &View) -> Vec<Row> {
    let page = view.page(0, 1_000).expect("a page");
    assert_eq!(page.total, page.rows.len() as u64);
    let row = |row: tidings_table::Row| {
        let mut cells = row.cells.into_iter().map(|cell| cell.text);
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    };
    page.rows.into_iter().map(row).collect()
}

struct Live {
    writer: Writer,
    rows: LiveRows,
    budget: Budget,
    _folder: TempDir,
}

impl Live {
    fn new(file: &str, key: &[&str], limit: usize) -> Result<Self, KeyError> {
        let folder = tempfile::tempdir().expect("a folder");
        let limits = Limits { order_bytes: 64, ..Limits::default() };
        let choice = Choice { header: Some(true), ..Choice::hinted_by("rows.csv") };
        let mut writer = Writer::create(folder.path(), choice, limits)?;
        writer.append(file.as_bytes())?;
        writer.finish()?;
        let (budget, key) =
            (Budget::new(limit), key.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let rows = LiveRows::open(&writer.table().reading(), &key, &budget, Control::default())?;
        Ok(Self { writer, rows, budget, _folder: folder })
    }

    fn reading(&self) -> Arc<Reading> {
        self.writer.table().reading()
    }

    fn put(&mut self, row: &Row) {
        self.writer.append_rows([row]).expect("a row");
    }

    fn remove(&mut self, key: &str) {
        let row: Vec<String> = removal([key], 3).expect("a key").collect();
        self.writer.append_rows([row]).expect("a row");
    }

    fn apply(&mut self) -> Counts {
        self.rows.apply(&[], Control::default()).expect("applied")[0]
    }

    fn shown(&self) -> Vec<Row> {
        rows(&View::plain(&self.reading(), false))
    }
}

const FILE: &str = "id,n,word\nk1,5,apple\nk2,7,Pear\n,3,apple\nk1,6,\"plum, ripe\"\n,4,\nk3,-1,Pear\n";

fn first_rows() -> Naive {
    let mut naive = Naive::default();
    for (key, number, word) in [(1, 5, 0), (2, 7, 1), (0, 3, 0), (1, 6, 2), (0, 4, 4), (3, -1, 1)] {
        naive.put(row(key, number, word));
    }
    naive
}

proptest! {
    #[test]
    fn live_rows_and_views_equal_a_naive_implementation(operations in prop::collection::vec(operation(), 0..160)) {
        let mut live = Live::new(FILE, &["id"], 1 << 30).expect("a table");
        let mut naive = first_rows();
        let mut applied = naive.clone();
        let mut counts = Counts::default();
        let mut views: [Option<LiveView>; 6] = Default::default();
        for operation in operations {
            let change = match operation {
                Operation::Put(key, number, word) => {
                    live.put(&row(key, number, word));
                    naive.put(row(key, number, word))
                }
                Operation::Remove(key) => {
                    live.remove(&format!("k{key}"));
                    naive.remove(&format!("k{key}"))
                }
                Operation::Apply => {
                    prop_assert_eq!(live.apply(), counts);
                    (counts, applied) = (Counts::default(), naive.clone());
                    Counts::default()
                }
                Operation::Compare(number) => {
                    let (reading, query, wanted) = (live.reading(), query(number), applied.query(number));
                    let fresh = reading.view(&query, Control::default()).expect("a view");
                    prop_assert_eq!(&rows(&fresh), &wanted);
                    let view = &mut views[number as usize];
                    if view.is_none() {
                        *view = LiveView::build(&reading, &query, &live.budget, true, Control::default()).expect("rows");
                    }
                    let shown = view.as_mut().expect("memory").refresh(&reading, Control::default()).expect("a view");
                    prop_assert_eq!(&rows(&shown), &wanted);
                    let mut written = Vec::new();
                    shown.write(Export::from(Format::Csv), &mut written, Control::default()).expect("a download");
                    prop_assert_eq!(written.split(|byte| *byte == b'\n').count(), wanted.len() + 2);
                    Counts::default()
                }
            };
            counts.appended += change.appended;
            counts.updated += change.updated;
            counts.removed += change.removed;
            // Changes that are not applied yet are not visible.
            prop_assert_eq!(live.shown(), applied.0.clone());
        }
        live.apply();
        prop_assert_eq!(live.shown(), naive.0.clone());
        // A restart reads the same rows from the file.
        let again = LiveRows::open(&live.reading(), &["id".to_owned()], &live.budget, Control::default()).expect("rows");
        prop_assert_eq!(live.shown(), naive.0);
        drop((again, views, live.rows));
        prop_assert_eq!(live.budget.used(), 0);
    }
}

#[test]
fn facts_and_the_header_row_belong_to_the_current_rows() {
    let mut live = Live::new(FILE, &["id"], 1 << 30).expect("a table");
    live.put(&row(2, 9, 1));
    live.remove("k3");
    live.apply();
    let facts = live.reading().facts(Control::default()).expect("facts");
    assert_eq!((facts.rows, facts.columns[1].distinct.count), (4, 4));
    assert_eq!(
        (&facts.columns[1].min, &facts.columns[1].max),
        (&"3".to_owned().into(), &"9".to_owned().into())
    );
    let article = View::plain(&live.reading(), true);
    let shown = rows(&article);
    assert_eq!((shown.len(), &*shown[0][0], &*shown[1][1]), (5, "id", "6"));
    let last = article.page(3, 2).expect("a page");
    assert_eq!(last.rows.len(), 2);
    assert_eq!(live.reading().summary().rows, 4);
}

#[test]
fn groups_follow_rows_that_are_replaced_and_removed() {
    let mut live = Live::new(FILE, &["id"], 1 << 30).expect("a table");
    let measures = vec![
        Measure { column: None, function: Function::Count },
        Measure { column: Some(1), function: Function::Sum },
    ];
    let group = Group { by: vec![2], measures, chart: None };
    let by_word = Query { sort: vec![SortBy::default()], ..Query::default() };
    let budget = tidings_table_group::Budget::default();
    let grouped =
        Grouped::new(&live.reading(), &by_word, &group, &budget, Control::default()).expect("groups");
    let shown = |grouped: &Grouped| -> Vec<String> {
        let page = grouped.window(0, 10, 0..3);
        let text =
            |row: &tidings_table::Row| row.cells.iter().map(|cell| &*cell.text).collect::<Vec<_>>().join(" ");
        page.rows.iter().map(text).collect()
    };
    assert_eq!(shown(&grouped), ["apple 1 3", "Pear 2 6", "plum, ripe 1 6", " 1 4"]);
    live.put(&row(2, 10, 0));
    live.remove("k1");
    live.put(&row(9, 1, 1));
    live.apply();
    let grouped = grouped.refresh(Control::default()).expect("groups");
    assert_eq!(shown(&grouped), ["apple 2 13", "Pear 2 0", " 1 4"]);
}

#[test]
fn a_view_is_computed_again_when_a_column_has_another_type() {
    let mut live = Live::new("id,n\na,10\nb,9\n", &["id"], 1 << 30).expect("a table");
    let sort = Query { sort: vec![SortBy { column: 1, desc: false, natural: false }], ..Query::default() };
    let mut view = LiveView::build(&live.reading(), &sort, &live.budget, true, Control::default())
        .expect("rows")
        .expect("memory");
    let first = |view: &View| view.page(0, 1).expect("a page").rows[0].cells[1].text.clone();
    assert_eq!(first(&view.refresh(&live.reading(), Control::default()).expect("a view")), "9");
    let words: Vec<Row> = (0..4_000).map(|i| [format!("k{i}"), format!("word {i}"), String::new()]).collect();
    live.writer.append_rows(&words).expect("rows");
    live.apply();
    assert_eq!(first(&view.refresh(&live.reading(), Control::default()).expect("a view")), "10", "as text");
}

#[test]
fn the_memory_of_keys_and_views_is_bounded() {
    let mut file = String::from("id,n,word\n");
    (0..20_000).for_each(|i| file.push_str(&format!("k{i},{i},word\n")));
    let refused = Live::new(&file, &["id"], 100_000).map(|_| ()).expect_err("too little memory");
    assert!(matches!(refused, KeyError::Memory { limit: 100_000 }), "{refused}");
    let mut live = Live::new(&file, &["id"], 1_500_000).expect("a table");
    assert!(live.budget.used() > 500_000, "{} bytes", live.budget.used());
    assert!(!live.rows.has_room(1_000_000));
    let view = LiveView::build(&live.reading(), &query(1), &live.budget, true, Control::default());
    assert!(view.expect("no error").is_none(), "the view does not fit");
    let view = live.reading().view(&query(2), Control::default()).expect("a view without keys in memory");
    assert_eq!(rows_of(&view, 1)[0][1], "19999");
}

#[test]
fn views_leave_a_quarter_of_the_memory_to_keys_while_rows_change() {
    const LIMIT: usize = 6_000_000;
    let mut file = String::from("id,n,word\n");
    (0..20_000).for_each(|i| file.push_str(&format!("k{i},{i},{}\n", "pear ".repeat(i % 8))));
    let mut live = Live::new(&file, &["id"], LIMIT).expect("a table");
    let (mut views, mut windows) = (Vec::new(), Vec::new());
    for number in (1..=4).cycle().take(16) {
        let (reading, query) = (live.reading(), query(number));
        let view = LiveView::build(&reading, &query, &live.budget, true, Control::default());
        views.extend(view.expect("no error"));
        assert!(live.budget.used() <= LIMIT / 4 * 3, "{} bytes", live.budget.used());
        let overlay = reading.overlay().expect("keys");
        let whole = reading.view_of(&query, &overlay, true, Control::default()).expect("a view");
        let window = WindowView::build(&whole, &overlay, &live.budget, 1_000, |_| 0..50, Control::default());
        windows.extend(window.expect("no error"));
        assert!(live.budget.used() <= LIMIT / 4 * 3, "{} bytes", live.budget.used());
    }
    assert!(views.len() >= 2 && !windows.is_empty() && views.len() + windows.len() < 32, "some do not fit");
    for round in 0..10_i32 {
        (0..300).for_each(|i| live.put(&row(i, round * 1_000 + i32::from(i), 1)));
        live.apply();
        // The keys may have grown into the last quarter.
        let most = live.budget.used().max(LIMIT / 4 * 3);
        for view in &mut views {
            view.refresh(&live.reading(), Control::default()).expect("rows");
            assert!(live.budget.used() <= most, "{} bytes", live.budget.used());
        }
        for window in &mut windows {
            let near = window.refresh(&live.reading(), |_| 0..50, Control::default()).expect("rows");
            assert!(live.budget.used() <= most, "{} bytes", live.budget.used());
            // Without memory it must be computed again, and does not follow meanwhile.
            assert!(near.is_some() || !window.can_follow(&live.reading(), |_| 0..50));
        }
    }
    assert!(live.rows.has_room(LIMIT as u64 / 4 / 60), "new keys fit");
}

#[test]
fn a_view_with_few_rows_and_long_keys_takes_no_memory_beyond_the_limit() {
    let mut file = String::from("id,n,word\n");
    (0..4_000).for_each(|i| file.push_str(&format!("k{i},{i},{}{i}\n", "pear ".repeat(200))));
    let live = Live::new(&file, &["id"], 1_000_000).expect("a table");
    let before = live.budget.used();
    let query = Query { sort: vec![SortBy { column: 2, desc: false, natural: false }], ..Query::default() };
    let view = LiveView::build(&live.reading(), &query, &live.budget, true, Control::default());
    assert!(view.expect("no error").is_none(), "the view does not fit");
    assert_eq!(live.budget.used(), before);
}

fn rows_of(view: &View, count: usize) -> Vec<Row> {
    let page = view.page(0, count).expect("a page");
    let text = |row: &tidings_table::Row, column: usize| row.cells[column].text.clone();
    page.rows.iter().map(|row| std::array::from_fn(|column| text(row, column))).collect()
}

#[test]
fn a_key_that_cannot_be_used_is_refused_with_the_reason() {
    let refused = |key: &[&str]| Live::new(FILE, key, 1 << 30).map(|_| ()).expect_err("refused").to_string();
    let why = refused(&["id", "price"]);
    assert!(why.contains("\"price\"") && why.contains("\"word\""), "{why}");
}

#[test]
fn the_changes_of_several_requests_are_counted_for_each() {
    let mut live = Live::new(FILE, &["id"], 1 << 30).expect("a table");
    let mut ends = Vec::new();
    for request in
        [vec![row(1, 1, 0), row(70, 1, 0)], vec![], vec![row(70, 2, 0), row(2, 2, 2), row(0, 0, 0)]]
    {
        if !request.is_empty() {
            live.writer.append_rows(&request).expect("rows");
        }
        ends.push(live.reading().file_lines());
    }
    let counts = live.rows.apply(&ends, Control::default()).expect("applied");
    let count = |appended, updated| Counts { appended, updated, removed: 0 };
    assert_eq!(counts, [count(1, 1), count(0, 0), count(1, 2)]);
}
