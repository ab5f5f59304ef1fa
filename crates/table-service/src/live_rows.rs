//! The keys of a table's rows beside its writer, on a blocking thread.

use tidings_table::Writer;
use tidings_table_live::{KeyError, LiveRows};
use tidings_table_room::failure::Failure;
use tidings_table_room::room::PendingAppend;
use tidings_table_room::rows::{AppendReport, Content, Rows};
use tidings_table_store::StoreError;

use super::work::WorkContext;

/// Reads the keys of rows that were added since, or of all rows when there is a key and they were not read.
///
/// # Errors
/// See [`KeyError`]. The keys are dropped.
pub(super) fn follow(
    live: &mut Option<LiveRows>,
    writer: &Writer,
    context: &WorkContext<'_>,
) -> Result<(), KeyError> {
    let reading = writer.table().reading();
    if context.key.is_empty() {
        *live = None;
        return Ok(());
    }
    match live.take() {
        Some(mut rows) if std::sync::Arc::ptr_eq(rows.reading(), &reading) => {
            rows.apply(&[], context.control)?;
            *live = Some(rows);
        }
        _ => *live = Some(LiveRows::open(&reading, context.key, context.budget, context.control)?),
    }
    Ok(())
}

/// Reserves memory for the keys of rows that will be appended.
///
/// # Errors
/// 507 without memory.
pub(super) fn prepare(
    live: &mut Option<LiveRows>,
    writer: &Writer,
    appends: &[PendingAppend],
    context: &WorkContext<'_>,
) -> Result<(), Failure> {
    let is_read =
        live.as_ref().is_some_and(|rows| std::sync::Arc::ptr_eq(rows.reading(), &writer.table().reading()));
    if !is_read {
        follow(live, writer, context).map_err(failure)?;
    }
    let Some(rows) = live else { return Ok(()) };
    let more = appends.iter().map(|addition| count(&addition.rows, writer)).sum();
    match rows.has_room(more) {
        true => Ok(()),
        false => Err(failure(KeyError::Memory { limit: context.budget.limit() })),
    }
}

/// Applies appended rows, and adds the changes of each request to its outcome. `ends`: the number of lines after each
/// request. Returns false when the rows cannot be read back; the file must be opened again.
pub(super) fn apply(
    live: &mut Option<LiveRows>,
    writer: &Writer,
    ends: &[u64],
    outcomes: &mut [Result<AppendReport, Failure>],
    context: &WorkContext<'_>,
) -> bool {
    if context.key.is_empty() {
        return true;
    }
    let reading = writer.table().reading();
    let counts = match live.take() {
        Some(mut rows) if std::sync::Arc::ptr_eq(rows.reading(), &reading) => {
            let counts = rows.apply(ends, context.control);
            *live = counts.is_ok().then_some(rows);
            counts.ok()
        }
        // The rows were appended again after those of another node: their changes are not counted.
        _ => {
            *live = LiveRows::open(&reading, context.key, context.budget, context.control).ok();
            live.is_some().then(Vec::new)
        }
    };
    let Some(counts) = counts else {
        tracing::error!(table = %context.table_folder.id, "the appended rows of a table cannot be read; it is opened again");
        return false;
    };
    for (outcome, counts) in outcomes.iter_mut().zip(counts) {
        if let Ok(report) = outcome {
            report.changes = Some(counts);
        }
    }
    true
}

/// The most rows that a request adds.
fn count(rows: &Rows, writer: &Writer) -> u64 {
    match rows.content() {
        Content::Lines(lines) => {
            let syntax = writer.table().reading().dialect().syntax;
            tidings_table_room::rows::count(lines, syntax).unwrap_or(0)
        }
        Content::Cells(cells) | Content::Objects(cells) => cells.count(),
        Content::Keys(_) => 0,
    }
}

/// The error for a client.
pub(super) fn failure(error: KeyError) -> Failure {
    match error {
        KeyError::Table(error) => error.into(),
        KeyError::Memory { .. } => Failure::new(507, error.to_string()),
        KeyError::NoColumn { .. } | KeyError::NoHeader => Failure::new(422, error.to_string()),
    }
}

/// The error of opening a table.
pub(super) fn of_store(error: KeyError) -> StoreError {
    match error {
        KeyError::Table(error) => error.into(),
        KeyError::Memory { .. } => StoreError::Unavailable(
            "the keys of this table do not fit into the memory of all tables with keys; it is opened when others are closed",
        ),
        KeyError::NoColumn { .. } | KeyError::NoHeader => StoreError::Corrupt,
    }
}
