//! Appends rows to a table's file, on a blocking thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tidings_table::{Compression, Encoding, Error, FileFormat, ORIGINAL, Reading, Summary, Writer};
use tidings_table_room::failure::Failure;
use tidings_table_room::rows::{self, Content, Rows};

use super::objects;

/// The outcome of an append.
pub(super) enum AppendOutcome {
    /// The number of appended rows.
    Rows(u64),
    /// The rows were rejected; nothing was written.
    Refused(Failure),
    /// The disk failed; the writer is unusable.
    Failed(Failure),
}

/// Appends rows to the file in this folder, whose rows have this key. Blocks on the disk, and on other large conversions.
pub(super) fn append(rows: &Rows, key: &[String], writer: &mut Writer, folder: &Path) -> AppendOutcome {
    let _turn = rows.conversion_lock();
    let reading = writer.table().reading();
    let outcome = match rows.content() {
        Content::Lines(lines) if reading.dialect().format == FileFormat::Json => {
            match writer.append_json(lines) {
                Ok(rows) => Ok(rows),
                Err(Error::Format(why)) => return AppendOutcome::Refused(Failure::new(422, why)),
                Err(error) => Err(error),
            }
        }
        Content::Lines(_) if reading.dialect().format != FileFormat::Text => {
            let why = "rows cannot be appended to an XLSX or Parquet file";
            return AppendOutcome::Refused(Error::Unwritable(why).into());
        }
        Content::Lines(lines) => {
            let syntax = reading.dialect().syntax;
            match rows::count(lines, syntax) {
                Ok(0) => return AppendOutcome::Rows(0),
                Ok(rows) => append_lines(writer, &reading, folder, lines).map(|_| rows),
                Err(failure) => return AppendOutcome::Refused(failure),
            }
        }
        Content::Cells(cells) => writer.append_rows(cells.rows()).map(|_| cells.count()),
        Content::Objects(objects) => match objects::rows(objects, &reading) {
            Ok(rows) => writer.append_rows(&rows).map(|_| objects.count()),
            Err(failure) => return AppendOutcome::Refused(failure),
        },
        Content::Keys(keys) => match objects::removals(keys, key, &reading) {
            Ok(rows) => writer.append_rows(&rows).map(|_| keys.count()),
            Err(failure) => return AppendOutcome::Refused(failure),
        },
    };
    match outcome {
        Ok(rows) => AppendOutcome::Rows(rows),
        Err(error @ (Error::Unwritable(_) | Error::Broken)) => AppendOutcome::Refused(error.into()),
        Err(error) => AppendOutcome::Failed(error.into()),
    }
}

/// Appends the bytes of the lines if the file's encoding permits it, otherwise the text of each cell.
fn append_lines(
    writer: &mut Writer,
    reading: &Reading,
    folder: &Path,
    lines: &[u8],
) -> Result<Summary, Error> {
    let dialect = reading.dialect();
    let summary = reading.summary();
    if dialect.encoding != Encoding::UTF_8 || dialect.compression != Compression::None {
        return writer.append_rows(rows::cells(lines, dialect.syntax).rows());
    }
    if summary.open_quote {
        return Err(Error::Unwritable("the file ends within quotes"));
    }
    if !ends_line(folder)? {
        writer.append(dialect.line_end.as_str().as_bytes())?;
    }
    writer.append(lines)?;
    writer.finish()
}

/// Whether the file is empty or ends with a line break.
fn ends_line(folder: &Path) -> io::Result<bool> {
    let file = File::open(folder.join(ORIGINAL))?;
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(matches!(byte, [b'\n' | b'\r']))
}
