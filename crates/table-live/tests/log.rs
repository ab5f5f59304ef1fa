//! Logs that are compacted while rows are replaced and removed, compared with a naive implementation under random
//! operations, with a kill at every step.

use std::fs::{self, File};
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use tidings_table::{
    Budget as DiskBudget, Choice, Control, Limits, ORIGINAL, Query, Reading, SortBy, View, Writer,
};
use tidings_table_live::{Budget, CompactLog, LiveRows, LiveView, LogSnapshot, WindowView, removal};

/// The name of the new file.
const NEW: &str = "original.new";

type Row = [String; 3];

#[derive(Clone, Debug)]
enum Operation {
    Put(u16, i32, u8),
    Remove(u16),
    Apply,
    /// The rows are written into the new file.
    Begin,
    /// Some appended bytes are copied.
    Copy(u64),
    /// The new file replaces the log.
    Replace,
    /// The process is killed and starts again.
    Kill,
    /// The view with this number is compared.
    Compare(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        16 => (0..30_u16, -20..20_i32, 0..5_u8).prop_map(|(key, number, word)| Operation::Put(key, number, word)),
        4 => (1..30_u16).prop_map(Operation::Remove),
        4 => Just(Operation::Apply),
        4 => Just(Operation::Begin),
        4 => (1..60_u64).prop_map(Operation::Copy),
        4 => Just(Operation::Replace),
        1 => Just(Operation::Kill),
        4 => (0..3_u8).prop_map(Operation::Compare),
    ]
}

fn row(key: u16, number: i32, word: u8) -> Row {
    let word = ["apple", "Pear", "plum, ripe", "a \"b\"\r\nc", ""][word as usize];
    [if key == 0 { String::new() } else { format!("k{key}") }, number.to_string(), word.to_owned()]
}

/// A file with this beginning and line break.
#[derive(Clone, Copy, Debug)]
struct Layout {
    beginning: &'static str,
    line_end: &'static str,
    has_last_break: bool,
}

fn layout() -> impl Strategy<Value = Layout> {
    let beginnings = prop_oneof![Just(""), Just("\u{FEFF}"), Just("sep=,\n"), Just("a title\n\n")];
    let line_ends = prop_oneof![Just("\n"), Just("\r\n")];
    (beginnings, line_ends, any::<bool>()).prop_map(|(beginning, line_end, has_last_break)| Layout {
        beginning,
        line_end,
        has_last_break,
    })
}

/// No limit.
#[derive(Debug)]
struct Unlimited;

impl DiskBudget for Unlimited {
    fn reserve(&self, _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn release(&self, _: u64) {}
}

struct Live {
    folder: TempDir,
    writer: Writer,
    rows: LiveRows,
    budget: Budget,
    compact: Option<CompactLog>,
    views: [Option<LiveView>; 3],
    /// The rows of the same views near the third one.
    windows: [Option<WindowView>; 3],
    naive: Vec<Row>,
    applied: Vec<Row>,
}

fn choice(layout: Layout) -> Choice {
    let skip = match layout.beginning {
        "" | "\u{FEFF}" => 0,
        "sep=,\n" => 1,
        _ => 2,
    };
    Choice { header: Some(true), delimiter: Some(b','), skip: Some(skip), ..Choice::hinted_by("rows.csv") }
}

fn key() -> Vec<String> {
    vec!["id".to_owned()]
}

impl Live {
    fn new(layout: Layout) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::create(folder.path(), choice(layout), Limits::default()).expect("a table");
        let mut lines = vec!["id,n,word".to_owned()];
        lines.extend((1..6).map(|i| format!("k{i},{i},apple")));
        let mut file = layout.beginning.to_owned() + &lines.join(layout.line_end);
        file.push_str(if layout.has_last_break { layout.line_end } else { "" });
        writer.append(file.as_bytes()).expect("rows");
        writer.finish().expect("rows");
        let budget = Budget::new(1 << 30);
        let rows =
            LiveRows::open(&writer.table().reading(), &key(), &budget, Control::default()).expect("keys");
        let naive: Vec<Row> = (1..6).map(|i| row(i, i32::from(i), 0)).collect();
        let applied = naive.clone();
        Self {
            folder,
            writer,
            rows,
            budget,
            compact: None,
            views: Default::default(),
            windows: Default::default(),
            naive,
            applied,
        }
    }

    fn reading(&self) -> Arc<Reading> {
        self.writer.table().reading()
    }

    fn put(&mut self, row: Row) {
        self.writer.append_rows([&row]).expect("a row");
        match self.naive.iter_mut().find(|old| !row[0].is_empty() && old[0] == row[0]) {
            Some(old) => *old = row,
            None => self.naive.push(row),
        }
    }

    fn apply(&mut self) {
        self.rows.apply(&[], Control::default()).expect("applied");
        self.applied.clone_from(&self.naive);
    }

    fn begin(&mut self, layout: Layout) {
        let Some(snapshot) = LogSnapshot::take(&self.writer) else { return };
        self.compact = None;
        let path = self.folder.path().join(NEW);
        let mut file = File::create(&path).expect("a file");
        snapshot.write(&mut file, Control::default()).expect("rows");
        let budget = Arc::new(Unlimited);
        let folder = self.folder.path();
        let writer = Writer::open_named(
            budget,
            folder,
            NEW,
            choice(layout),
            Limits::default(),
            Control::default(),
            |_| {},
        );
        self.compact = Some(CompactLog::new(snapshot, writer.expect("the new file")));
    }

    fn replace(&mut self) {
        let Some(mut compact) = self.compact.take() else { return };
        self.apply();
        assert!(compact.complete(&self.rows, Control::default()).expect("copied"));
        assert!(!self.writer.is_replaced().expect("a file"));
        fs::rename(self.folder.path().join(NEW), self.folder.path().join(ORIGINAL)).expect("renamed");
        assert!(self.writer.is_replaced().expect("a file"));
        self.writer = compact.replace(&mut self.rows);
        assert!(!self.writer.is_replaced().expect("a file"));
    }

    /// Nothing of the process remains; files stay as they are.
    fn kill(&mut self, layout: Layout) {
        self.compact = None;
        (self.views, self.windows) = Default::default();
        self.writer =
            Writer::open(self.folder.path(), choice(layout), Limits::default(), Control::default(), |_| {})
                .expect("the file");
        self.rows = LiveRows::open(&self.reading(), &key(), &self.budget, Control::default()).expect("keys");
        self.applied.clone_from(&self.naive);
    }

    fn shown(&self) -> Vec<Row> {
        rows(&View::plain(&self.reading(), false))
    }

    fn compare(&mut self, number: u8) {
        let reading = self.reading();
        let by = |desc| vec![SortBy { column: 1, desc, natural: false }];
        let query = match number {
            0 => Query { sort: by(false), ..Query::default() },
            1 => Query { sort: by(true), ..Query::default() },
            _ => Query { search: "p".to_owned(), ..Query::default() },
        };
        let view = self.views[number as usize].get_or_insert_with(|| {
            let view = LiveView::build(&reading, &query, &self.budget, true, Control::default());
            view.expect("rows").expect("memory")
        });
        let shown = rows(&view.refresh(&reading, Control::default()).expect("a view"));
        let mut wanted = self.applied.clone();
        let value = |row: &Row| row[1].parse::<i32>().expect("a number");
        match number {
            0 => wanted.sort_by_key(value),
            1 => wanted.sort_by_key(|row| std::cmp::Reverse(value(row))),
            _ => wanted.retain(|row| row[2].to_lowercase().contains('p')),
        }
        assert_eq!(shown, wanted);
        let (window, page) = (&mut self.windows[number as usize], |_| 2..4);
        let mut near = None;
        if let Some(window) = window.as_mut().filter(|window| window.can_follow(&reading, page)) {
            near = window.refresh(&reading, page, Control::default()).expect("rows");
        }
        let near = near.unwrap_or_else(|| {
            let overlay = reading.overlay().expect("keys");
            let whole = reading.view_of(&query, &overlay, true, Control::default()).expect("a view");
            let built = WindowView::build(&whole, &overlay, &self.budget, 2, page, Control::default());
            let built = window.insert(built.expect("rows").expect("memory"));
            built.refresh(&reading, page, Control::default()).expect("rows").expect("the page")
        });
        assert_eq!(near.total, wanted.len() as u64);
        let found = rows(&near.view);
        assert_eq!(found, wanted[near.from as usize..][..found.len()]);
    }
}

fn rows(view: &View) -> Vec<Row> {
    let page = view.page(0, 1_000).expect("a page");
    let row = |row: tidings_table::Row| {
        let mut cells = row.cells.into_iter().map(|cell| cell.text);
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    };
    page.rows.into_iter().map(row).collect()
}

proptest! {
    #[test]
    fn a_compacted_log_has_the_same_rows_whenever_the_process_is_killed(
        layout in layout(),
        operations in prop::collection::vec(operation(), 0..150),
    ) {
        let mut live = Live::new(layout);
        prop_assert_eq!(live.shown(), live.naive.clone());
        for operation in operations {
            match operation {
                Operation::Put(key, number, word) => live.put(row(key, number, word)),
                Operation::Remove(key) => {
                    let row: Vec<String> = removal([&*format!("k{key}")], 3).expect("a key").collect();
                    live.writer.append_rows([row]).expect("a row");
                    live.naive.retain(|row| row[0] != format!("k{key}"));
                }
                Operation::Apply => live.apply(),
                Operation::Begin => live.begin(layout),
                Operation::Copy(most) => {
                    if let Some(compact) = &mut live.compact {
                        compact.copy(most, Control::default()).expect("copied");
                    }
                }
                Operation::Replace => live.replace(),
                Operation::Kill => live.kill(layout),
                Operation::Compare(number) => live.compare(number),
            }
            prop_assert_eq!(live.shown(), live.applied.clone());
        }
        (0..3).for_each(|number| live.compare(number));
        live.begin(layout);
        live.replace();
        (0..3).for_each(|number| live.compare(number));
        live.kill(layout);
        prop_assert_eq!(live.shown(), live.naive.clone());
        let Live { rows, views, windows, budget, .. } = live;
        drop((rows, views, windows));
        prop_assert_eq!(budget.used(), 0);
    }
}

const PLAIN: Layout = Layout { beginning: "", line_end: "\n", has_last_break: true };

#[test]
fn a_compacted_log_has_the_bytes_of_its_rows_alone() {
    let mut live = Live::new(PLAIN);
    for number in 0..1_000 {
        live.writer.append_rows([row(1 + number % 3, i32::from(number), 2)]).expect("a row");
    }
    live.writer.append_rows([removal(["k4"], 3).expect("a key").collect::<Vec<_>>()]).expect("a row");
    live.apply();
    live.begin(PLAIN);
    live.replace();
    let file = fs::read_to_string(live.folder.path().join(ORIGINAL)).expect("the file");
    assert_eq!(
        file,
        "id,n,word\nk1,999,\"plum, ripe\"\nk2,997,\"plum, ripe\"\nk3,998,\"plum, ripe\"\nk5,5,apple\n"
    );
}

#[test]
fn views_continue_in_the_new_file_and_release_the_old_one() {
    let mut live = Live::new(PLAIN);
    for number in 0..5_000 {
        live.put(row(1 + number % 300, i32::from(number), 0));
    }
    live.apply();
    live.compare(0);
    let old = Arc::downgrade(&live.reading());
    live.begin(PLAIN);
    live.replace();
    let numbers = live.reading().overlay().expect("rows");
    assert!(numbers.moved_from(&old.upgrade().expect("a view has it")).is_some());
    live.compare(0);
    drop(numbers);
    assert_eq!(old.strong_count(), 0, "the old file is closed");
    live.apply();
    let overlay = live.reading().overlay().expect("rows");
    assert_eq!(format!("{overlay:?}").matches("MovedLines").count(), 0, "the numbers are released");
}

#[test]
fn a_row_larger_than_the_memory_for_rows_is_copied() {
    let mut live = Live::new(PLAIN);
    let long = "x".repeat(17 << 20);
    live.writer.append_rows([["k2", "7", &long]]).expect("a row");
    live.writer.append_rows([["k1", "8", "y"]]).expect("a row");
    live.apply();
    live.begin(PLAIN);
    live.replace();
    let file = fs::read_to_string(live.folder.path().join(ORIGINAL)).expect("the file");
    assert!(file == format!("id,n,word\nk1,8,y\nk2,7,{long}\nk3,3,apple\nk4,4,apple\nk5,5,apple\n"));
}

#[test]
fn a_log_of_objects_has_the_same_cells_and_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer =
        Writer::create(folder.path(), Choice::hinted_by("rows.jsonl"), Limits::default()).expect("a table");
    writer
        .append(b"{\"id\":1,\"a\":\"x\"}\n{\"b\":[1,{\"c\":\"\\\"\"}],\"id\":2}\n{\"id\":3,\"z\":null}\n")
        .expect("rows");
    writer.finish().expect("rows");
    let budget = Budget::new(1 << 30);
    let mut live =
        LiveRows::open(&writer.table().reading(), &key(), &budget, Control::default()).expect("keys");
    let append = |writer: &mut Writer, line: &str| writer.append_json(line.as_bytes()).expect("a row");
    append(&mut writer, "{\"id\":1,\"a\":\"tab\\t \\u0001 \\\\ \\\"q\\\" line\\n \u{e9}\",\"n\":1.50}\n");
    append(&mut writer, "{\"id\":4,\"a\":\"\",\"n\":null}\n");
    append(&mut writer, "{\"id\":3}\n");
    live.apply(&[], Control::default()).expect("applied");
    let shown = |writer: &Writer| {
        let view = View::plain(&writer.table().reading(), false);
        let texts = |row: tidings_table::Row| row.cells.into_iter().map(|cell| cell.text).collect::<Vec<_>>();
        let mut rows = vec![texts(view.header().expect("names").expect("a header"))];
        rows.extend(view.page(0, 10).expect("rows").rows.into_iter().map(texts));
        // Trailing cells may be absent.
        let width = rows[0].len();
        rows.iter_mut().for_each(|row| row.resize(width, String::new()));
        rows
    };
    let wanted = shown(&writer);
    assert_eq!((wanted.len(), &*wanted[0].join(" "), &*wanted[1][3]), (5, "id a b z n", ""));
    let snapshot = LogSnapshot::take(&writer).expect("a log");
    let mut file = File::create(folder.path().join(NEW)).expect("a file");
    snapshot.write(&mut file, Control::default()).expect("rows");
    let opened = Writer::open_named(
        Arc::new(Unlimited),
        folder.path(),
        NEW,
        Choice::hinted_by("rows.jsonl"),
        Limits::default(),
        Control::default(),
        |_| {},
    );
    let mut compact = CompactLog::new(snapshot, opened.expect("the new file"));
    append(&mut writer, "{\"id\":5,\"new\":true}\n");
    live.apply(&[], Control::default()).expect("applied");
    assert!(compact.complete(&live, Control::default()).expect("copied"));
    let wanted = shown(&writer);
    let writer = compact.replace(&mut live);
    assert_eq!(shown(&writer), wanted);
    assert_eq!(writer.table().reading().file_lines(), 6);
}
