//! Real-world files with their expected content.
//!
//! `golden/NAME` is the file, `golden/NAME.expected` the output of [`dump`].

use std::fmt::Write;
use std::path::Path;

use tidings_table::{Choice, Limits, View};

use crate::support::{TestTable, rows};

fn dump(name: &str, bytes: &[u8], sizes: &[usize]) -> String {
    let made = TestTable::of(bytes, sizes, Choice::hinted_by(name), Limits::default());
    let reading = made.reading();
    let (dialect, summary, view) = (reading.dialect(), reading.summary(), View::plain(&reading, false));
    let shown = |byte: Option<u8>| byte.map_or("none".to_owned(), |byte| format!("{:?}", char::from(byte)));
    let mut out = String::new();
    writeln!(
        out,
        "delimiter {}, quote {}, escape {}, ends {:?}, {} ({:?}), packed {:?}",
        shown(Some(dialect.syntax.delimiter())),
        shown(dialect.syntax.quote()),
        shown(dialect.syntax.escape()),
        dialect.line_end,
        dialect.encoding.name(),
        dialect.evidence,
        dialect.compression,
    )
    .unwrap();
    let mut line = format!("{} rows, {} columns", summary.rows, summary.columns);
    if dialect.skip > 0 {
        write!(line, " below {} lines", dialect.skip).unwrap();
    }
    let syntax = dialect.syntax;
    let escapes_everywhere = syntax.escapes_everywhere() && syntax.quote().is_some();
    for (what, is) in [
        ("lossy", summary.lossy),
        ("open quote", summary.open_quote),
        ("escapes everywhere", escapes_everywhere),
        ("spaces skipped", syntax.skips_spaces()),
    ] {
        line += &if is { format!(", {what}") } else { String::new() };
    }
    if summary.ragged > 0 {
        write!(line, ", {} ragged, widest {}", summary.ragged, summary.widest).unwrap();
    }
    writeln!(out, "{line}").unwrap();
    match view.header().unwrap() {
        Some(row) => {
            writeln!(out, "header {:?}", row.cells.iter().map(|cell| &cell.text).collect::<Vec<_>>())
        }
        None => writeln!(out, "no header"),
    }
    .unwrap();
    for row in rows(&view) {
        writeln!(out, "{row:?}").unwrap();
    }
    out
}

#[test]
fn every_golden_file_has_its_expected_content_at_every_split() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_none_or(|ending| ending != "expected"));
    files.sort();
    assert!(files.len() >= 40, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let (name, bytes) = (file.file_name().unwrap().to_str().unwrap(), std::fs::read(&file).unwrap());
        let expected = std::fs::read_to_string(folder.join(format!("{name}.expected"))).unwrap_or_default();
        for sizes in [&[usize::MAX][..], &[1], &[7, 64, 3]] {
            let found = dump(name, &bytes, sizes);
            if found != expected {
                wrong.push(format!("{name}, pieces of {sizes:?}, is read as\n{found}instead of\n{expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
