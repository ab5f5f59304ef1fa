//! Groups the rows of one large file. `make bench-tables` runs it beside DuckDB. Manually:
//!
//! `cargo bench -p tidings-table-group --bench groups -- FILE [WORD [FOLDER]]`, with a file that the engine's benchmark has
//! created (`crates/table/benches/big.rs`), runs each query with this word in its name once. It prints one line per query:
//! name, seconds, seconds of CPU, result, separated by tabs. With a folder it writes the groups of each query to a CSV file
//! there. `RAYON_NUM_THREADS` is the number of threads. Without arguments, as in a test run, it does nothing.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tidings_table::{Choice, Control, Format, Limits, Query, Writer};
use tidings_table_group::{Budget, Function, Group, Grouped, Measure};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let Some(file) = arguments.next() else {
        println!("usage: cargo bench -p tidings-table-group --bench groups -- FILE [WORD [FOLDER]]");
        return Ok(());
    };
    let (word, folder) = (arguments.next().unwrap_or_default(), arguments.next());
    let file = Path::new(&file);
    let table = tempfile::tempdir_in(file.parent().unwrap_or(Path::new(".")))?;
    std::fs::hard_link(file, table.path().join(tidings_table::ORIGINAL))?;
    let limits = Limits { original_bytes: u64::MAX, text_bytes: u64::MAX, ..Limits::default() };
    let writer = Writer::open(table.path(), Choice::default(), limits, Control::default(), |_| {})?;
    let reading = writer.table().reading();
    for (number, (name, group)) in queries().into_iter().enumerate() {
        if !name.contains(&word) {
            continue;
        }
        let (start, cpu) = (Instant::now(), cpu_time());
        let budget = Budget::new(1 << 30);
        let grouped = Grouped::new(
            &reading,
            &Query::default(),
            &group.checked().map_err(|error| error.0)?,
            &budget,
            Control::default(),
        )?;
        let (clock, cpu) = (start.elapsed(), cpu_time() - cpu);
        let outcome = format!("{} rows, {} bytes", grouped.total(), budget.used());
        println!("{name}\t{:.6}\t{:.6}\t{outcome}", clock.as_secs_f64(), cpu.as_secs_f64());
        if let Some(folder) = &folder {
            let mut out = BufWriter::new(File::create(Path::new(folder).join(format!("{number}.csv")))?);
            grouped.write(Format::Csv, &mut out, Control::default())?;
            out.flush()?;
        }
    }
    Ok(())
}

/// The queries on the columns id, name, city, amount, price, day, group, paid, note and code.
fn queries() -> [(&'static str, Group); 5] {
    let group = |by: &[usize], measures: &[(Option<usize>, Function)]| Group {
        by: by.to_vec(),
        measures: measures
            .iter()
            .map(|(column, function)| Measure { column: *column, function: *function })
            .collect(),
        chart: None,
    };
    let count = (None, Function::Count);
    [
        ("group by text, 100 groups: count", group(&[6], &[count])),
        (
            "group by text, 100 groups: count, sum, mean",
            group(&[6], &[count, (Some(3), Function::Sum), (Some(4), Function::Mean)]),
        ),
        ("group by two columns, 32 groups: count, sum", group(&[2, 7], &[count, (Some(4), Function::Sum)])),
        (
            "group by day, 8,400 groups: count, min, max",
            group(&[5], &[count, (Some(4), Function::Min), (Some(4), Function::Max)]),
        ),
        ("group by text, 16 groups: distinct", group(&[2], &[(Some(6), Function::Distinct)])),
    ]
}

/// The CPU time of this process: the better measure on a busy machine.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
