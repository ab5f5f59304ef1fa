//! Measures the engine on one big file: `cargo bench -p tidings-table -- FILE [WORD]`, only what has the word in
//! its name.
//!
//! Prints the medians of a few runs: index, pages, sort, filter, search, facts. On one core:
//! `RAYON_NUM_THREADS=1 taskset -c 1 cargo bench …`. Without a file it does nothing, as in a test run.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tidings_table::{Choice, Control, Filter, Limits, Op, Query, SortBy, View, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let Some(file) = args.next() else {
        println!("usage: cargo bench -p tidings-table -- FILE [WORD]");
        return Ok(());
    };
    let word = args.next().unwrap_or_default();
    let folder = tempfile::tempdir_in(Path::new(&file).parent().unwrap_or(Path::new(".")))?;
    std::fs::hard_link(&file, folder.path().join(tidings_table::ORIGINAL))?;
    let limits = Limits { original_bytes: u64::MAX, text_bytes: u64::MAX, ..Limits::default() };
    let open = || Writer::open(folder.path(), Choice::default(), limits, Control::default(), |_| {});

    measure("index", 3, || {
        open()?;
        Ok(())
    })?;
    let writer = open()?;
    let reading = writer.table().reading();
    println!("{:?}\n{:?}", reading.summary(), reading.dialect());
    println!("peak memory so far {}", peak_memory()?);
    pages("page of 100, as it comes", &View::plain(&reading, false))?;

    let queries = [
        ("sort by number (column 3)", "", vec![SortBy { column: 3, desc: false }], vec![]),
        ("sort by text (column 1)", "", vec![SortBy { column: 1, desc: false }], vec![]),
        (
            "sort by two columns (2, 0 desc)",
            "",
            vec![SortBy { column: 2, desc: false }, SortBy { column: 0, desc: true }],
            vec![],
        ),
        ("filter a number, 1 % (column 3 < 1000)", "", vec![], vec![(3, Op::Less, "1000")]),
        ("filter equals, 1 % (column 6)", "", vec![], vec![(6, Op::Equals, "00042")]),
        ("filter contains (column 1)", "", vec![], vec![(1, Op::Contains, "abc")]),
        ("filter regex (column 9)", "", vec![], vec![(9, Op::Matches, "^00[0-9a-f]+0$")]),
        ("search", "c0ffee", vec![], vec![]),
        ("search, frequent", "berlin", vec![], vec![]),
    ];
    for (name, search, sort, filter) in queries {
        if !name.contains(&word) {
            continue;
        }
        let filter =
            filter.into_iter().map(|(column, op, value)| Filter { column, op, value: value.to_owned() });
        let query = Query { search: search.to_owned(), sort, filter: filter.collect(), header_is_row: false };
        let mut view = None;
        measure(name, 3, || {
            view = Some(reading.view(&query, Control::default())?);
            Ok(())
        })?;
        let view = view.expect("was measured");
        println!("{:>44} rows {:?} bytes", view.total(), view.bytes());
        pages("  a page of it", &view)?;
    }
    if !"facts".contains(&word) {
        return Ok(());
    }
    measure("facts", 1, || {
        reading.facts(Control::default())?;
        Ok(())
    })?;
    println!("peak memory {}", peak_memory()?);
    Ok(())
}

/// The most memory that this process had so far (`proc_pid_status(5)`).
fn peak_memory() -> Result<String, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim().to_owned())
}

/// 1,000 pages at random places.
fn pages(name: &str, view: &View) -> Result<(), Box<dyn Error>> {
    let mut random: u64 = 88_172_645_463_325_252;
    let mut times = Vec::new();
    for _ in 0..1_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let start = Instant::now();
        let page = view.page(random % view.total().max(1), 100)?;
        times.push(start.elapsed());
        assert!(view.total() == 0 || !page.rows.is_empty());
    }
    times.sort_unstable();
    println!("{name:<40} p50 {:?}, p99 {:?}, max {:?}", times[500], times[990], times[999]);
    Ok(())
}

fn measure(
    name: &str,
    runs: usize,
    mut run: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut times: Vec<(Duration, Duration)> = Vec::new();
    for _ in 0..runs {
        let (start, cpu) = (Instant::now(), cpu_time()?);
        run()?;
        times.push((cpu_time()? - cpu, start.elapsed()));
    }
    times.sort_unstable();
    let (cpu, wall) = times[runs / 2];
    println!("{name:<40} {wall:?}, CPU {cpu:?}");
    Ok(())
}

/// What this process has used so far, in steps of 10 ms (`proc_pid_stat(5)`): on a busy machine the better
/// measure.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}
