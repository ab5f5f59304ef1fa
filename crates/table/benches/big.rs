//! Measures the engine on one large file. `make bench-tables` runs it beside other programs. Manually:
//!
//! - `cargo bench -p tidings-table --bench big -- make FILE ROWS` writes a file of ten columns with about 105 bytes per
//!   row. The content is the same in every run.
//! - `cargo bench -p tidings-table --bench big -- FILE [WORD]` runs each benchmark with this word in its name once, and
//!   prints a line of tab-separated values for each: name, seconds, seconds of CPU, result.
//!
//! On one core: `RAYON_NUM_THREADS=1 taskset -c 1 cargo bench …`. Without a file, as in a test run, it does nothing.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tidings_table::{Choice, Control, Filter, Limits, Op, Query, Reading, SortBy, View, Writer};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["make", file, rows] => make(Path::new(file), rows.parse()?),
        [file] => run(Path::new(file), ""),
        [file, word] => run(Path::new(file), word),
        _ => {
            println!("usage: cargo bench -p tidings-table --bench big -- make FILE ROWS | FILE [WORD]");
            Ok(())
        }
    }
}

/// The names of the columns that [`make`] writes.
const COLUMNS: [&str; 10] = ["id", "name", "city", "amount", "price", "day", "group", "paid", "note", "code"];

const CITIES: [&str; 16] = [
    "Berlin",
    "Lagos",
    "Lima",
    "Oslo",
    "Quito",
    "Rome",
    "Seoul",
    "Tokyo",
    "Tunis",
    "Turin",
    "Vienna",
    "Warsaw",
    "Wellington",
    "Xi'an",
    "Zagreb",
    "Zürich",
];

const WORDS: [&str; 8] =
    ["ready", "late", "sent on", "to be checked", "returned", "partly paid", "new", "held"];

/// Writes a TSV file with a header and `rows` rows. `amount` is a number below 100,000 and `group` one of a hundred
/// texts, both uniformly distributed.
fn make(path: &Path, rows: u64) -> Outcome<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    writeln!(out, "{}", COLUMNS.join("\t"))?;
    let mut random = Random(88_172_645_463_325_252);
    for id in 1..=rows {
        let (a, b, c) = (random.next(), random.next(), random.next());
        writeln!(
            out,
            "{id}\t{:012x}\t{}\t{}\t{}.{:02}\t20{:02}-{:02}-{:02}\t{:05}\t{}\t{}, {}\t{c:016x}",
            a & 0xFFFF_FFFF_FFFF,
            CITIES[(a >> 48) as usize % CITIES.len()],
            b % 100_000,
            (b >> 20) % 10_000,
            (b >> 34) % 100,
            (b >> 42) % 25,
            (b >> 47) % 12 + 1,
            (b >> 51) % 28 + 1,
            (b >> 8) % 100,
            if a >> 60 < 12 { "yes" } else { "no" },
            WORDS[(a >> 52) as usize % WORDS.len()],
            WORDS[(a >> 55) as usize % WORDS.len()],
        )?;
    }
    Ok(out.flush()?)
}

fn run(file: &Path, word: &str) -> Outcome<()> {
    let folder = tempfile::tempdir_in(file.parent().unwrap_or(Path::new(".")))?;
    std::fs::hard_link(file, folder.path().join(tidings_table::ORIGINAL))?;
    let limits = Limits { original_bytes: u64::MAX, text_bytes: u64::MAX, ..Limits::default() };
    let writer = measure("index", || {
        let writer = Writer::open(folder.path(), Choice::default(), limits, Control::default(), |_| {})?;
        let summary = writer.table().reading().summary();
        let outcome = format!("{} rows, memory of the process at most {}", summary.rows, peak_memory()?);
        Ok((writer, outcome))
    })?;
    let reading = writer.table().reading();
    if "page".contains(word) {
        pages("page of 100, as it comes", &View::plain(&reading, false), file)?;
    }
    for (name, query) in queries() {
        if name.contains(word) {
            let view = measure(name, || view(&reading, &query))?;
            if PAGED.contains(&name) {
                pages(&format!("page of 100, {name}"), &view, file)?;
            }
        }
    }
    if "facts".contains(word) {
        measure("facts", || Ok((reading.facts(Control::default())?, String::new())))?;
    }
    Ok(())
}

/// The queries with measured pages: a sort, which scatters rows over the file, and a filter.
const PAGED: [&str; 2] = ["sort by number", "filter by number, 1 %"];

/// The queries on a file of [`make`].
fn queries() -> Vec<(&'static str, Query)> {
    let sort = |columns: &[(usize, bool)]| Query {
        sort: columns
            .iter()
            .map(|(column, desc)| SortBy { column: *column, desc: *desc, natural: false })
            .collect(),
        ..Query::default()
    };
    let filter = |column, op, value: &str| Query {
        filter: vec![Filter { column, op, value: value.to_owned(), others: vec![] }],
        ..Query::default()
    };
    let search = |text: &str| Query { search: text.to_owned(), ..Query::default() };
    vec![
        ("sort by number", sort(&[(3, false)])),
        ("sort by text", sort(&[(1, false)])),
        ("sort by two columns", sort(&[(2, false), (0, true)])),
        ("filter by number, 1 %", filter(3, Op::Less, "1000")),
        ("filter equals, 1 %", filter(6, Op::Equals, "00042")),
        ("filter contains", filter(1, Op::Contains, "abc")),
        ("filter by pattern", filter(9, Op::Matches, "^00[0-9a-f]+0$")),
        ("search, rare", search("c0ffee")),
        ("search, frequent", search("berlin")),
        ("search and sort", Query { search: "berlin".to_owned(), ..sort(&[(3, true)]) }),
    ]
}

fn view(reading: &std::sync::Arc<Reading>, query: &Query) -> Outcome<(View, String)> {
    let view = reading.view(query, Control::default())?;
    let (memory, disk) = view.bytes();
    let outcome = format!(
        "{} rows, {memory} bytes in memory, {disk} on disk, memory of the process at most {}",
        view.total(),
        peak_memory()?
    );
    Ok((view, outcome))
}

/// The peak memory of this process (`proc_pid_status(5)`).
fn peak_memory() -> Outcome<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim().to_owned())
}

/// Reads a thousand pages at random positions, then a hundred pages after dropping the file from the page cache.
fn pages(name: &str, view: &View, file: &Path) -> Outcome<()> {
    let mut random = Random(2_463_534_242);
    let mut page = || -> Outcome<(Duration, Duration)> {
        let (from, start, cpu) = (random.next() % view.total().max(1), Instant::now(), cpu_time());
        let page = view.page(from, 100)?;
        assert!(view.total() == 0 || !page.rows.is_empty());
        Ok((start.elapsed(), cpu_time() - cpu))
    };
    let mut times = Vec::new();
    for _ in 0..1_000 {
        times.push(page()?);
    }
    report_pages(name, &times);
    let mut times = Vec::new();
    for _ in 0..100 {
        forget(file)?;
        times.push(page()?);
    }
    report_pages(&format!("{name}, from disk"), &times);
    // Fills the page cache again for the next benchmark.
    std::io::copy(&mut File::open(file)?, &mut std::io::sink())?;
    Ok(())
}

/// Drops a file from the page cache (`dd(1)` of GNU coreutils).
fn forget(file: &Path) -> Outcome<()> {
    let file = format!("if={}", file.display());
    let done = Command::new("dd").args([&file[..], "iflag=nocache", "count=0", "status=none"]).status()?;
    if done.success() { Ok(()) } else { Err("dd failed".into()) }
}

/// Reports the median and the 99th percentile of page times.
fn report_pages(name: &str, times: &[(Duration, Duration)]) {
    let (mut clock, mut cpu): (Vec<_>, Vec<_>) = times.iter().copied().unzip();
    clock.sort_unstable();
    cpu.sort_unstable();
    for (word, part) in [("p50", 50), ("p99", 99)] {
        let at = times.len() * part / 100;
        report(&format!("{name}, {word}"), clock[at], cpu[at], "");
    }
}

fn measure<T>(name: &str, run: impl FnOnce() -> Outcome<(T, String)>) -> Outcome<T> {
    let (start, cpu) = (Instant::now(), cpu_time());
    let (result, outcome) = run()?;
    report(name, start.elapsed(), cpu_time() - cpu, &outcome);
    Ok(result)
}

fn report(name: &str, time: Duration, cpu: Duration, outcome: &str) {
    println!("{name}\t{:.6}\t{:.6}\t{outcome}", time.as_secs_f64(), cpu.as_secs_f64());
}

/// The CPU time of this process: the better measure on a busy machine.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// A xorshift generator (Marsaglia 2003) with the same sequence in every run.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
