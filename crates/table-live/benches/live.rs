//! A feed of changes onto a large table: `cargo bench -p tidings-table-live [ROWS] [CHANGES PER BATCH] [VIEWS]`.
//!
//! Prints the time to read the keys, and for each batch the times to append it, to apply it to the current rows, to update one
//! sorted view, and to read a page of it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use tidings_table::{Choice, Control, Limits, Query, SortBy, View, Writer};
use tidings_table_live::{Budget, LiveRows, LiveView};

const BATCHES: usize = 100;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let rows = numbers.next().unwrap_or(1_000_000);
    let changes = numbers.next().unwrap_or(1_000);
    let views = numbers.next().unwrap_or(4);
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("one thread");
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer =
        Writer::create(folder.path(), Choice::hinted_by("rows.csv"), Limits::default()).expect("a table");
    let mut file = b"id,price,name,word\n".to_vec();
    for row in 0..rows {
        write_row(&mut file, row, row * 7919 % 1_000_003);
        if file.len() > 1 << 20 {
            writer.append(&file).expect("rows");
            file.clear();
        }
    }
    writer.append(&file).expect("rows");
    writer.finish().expect("rows");
    let reading = writer.table().reading();
    let budget = Budget::new(4 << 30);
    let key = ["id".to_owned()];
    let began = Instant::now();
    let mut live = LiveRows::open(&reading, &key, &budget, Control::default()).expect("keys");
    println!("keys of {rows} rows: {:?}, {} MiB", began.elapsed(), budget.used() >> 20);
    let (began, before) = (Instant::now(), budget.used());
    let mut sorted: Vec<LiveView> = (0..views)
        .map(|view| {
            let by = SortBy { column: 1 + view % 2, desc: view % 4 >= 2, natural: false };
            let query = Query { sort: vec![by], ..Query::default() };
            LiveView::build(&reading, &query, &budget, true, Control::default())
                .expect("rows")
                .expect("memory")
        })
        .collect();
    let bytes = ((budget.used() - before) / views.max(1)) >> 20;
    println!("{views} sorted views: {:?}, {bytes} MiB each", began.elapsed());
    let mut times: [Vec<Duration>; 4] = Default::default();
    let mut seed = 1_u64;
    for _ in 0..BATCHES {
        let mut batch = Vec::new();
        for _ in 0..changes {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            write_row(&mut batch, (seed >> 33) as usize % rows, (seed >> 20) as usize % 1_000_003);
        }
        let began = Instant::now();
        writer.append(&batch).and_then(|_| writer.finish()).expect("rows");
        times[0].push(began.elapsed());
        let began = Instant::now();
        live.apply(&[], Control::default()).expect("applied");
        times[1].push(began.elapsed());
        let began = Instant::now();
        let shown: Vec<View> = sorted
            .iter_mut()
            .map(|view| view.refresh(&reading, Control::default()).expect("a view"))
            .collect();
        times[2].push(began.elapsed() / views.max(1) as u32);
        let began = Instant::now();
        for view in &shown {
            view.page(0, 100).expect("a page");
        }
        times[3].push(began.elapsed() / views.max(1) as u32);
    }
    for (what, times) in ["append", "apply", "update of a view", "page of 100 rows"].iter().zip(&mut times) {
        times.sort_unstable();
        println!(
            "{what} ({changes} changes): median {:?}, p99 {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    }
}

fn write_row(file: &mut Vec<u8>, id: usize, price: usize) {
    let words = ["apple", "pear", "plum", "quince", "cherry", "fig", "medlar"];
    writeln!(file, "{id},{}.{:02},name of {id},{}", price / 100, price % 100, words[id % 7]).expect("a row");
}
