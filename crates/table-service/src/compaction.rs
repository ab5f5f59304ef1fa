//! Compacts the log of rows with a key, on blocking threads.

use std::io::Write as _;
use std::sync::Arc;

use tidings_table::{Control, Error, Limits, Writer};
use tidings_table_live::{CompactLog, LiveRows};
use tidings_table_room::failure::Failure;
use tidings_table_room::room::{CompactJob, PreparedLog, WorkOutcome, WorkResult};
use tidings_table_store::{NEW_LOG, Store, StoreError, TableFolder};

use super::live_rows;
use super::work::WorkContext;

/// The bytes that are copied while appends wait.
const LAST_BYTES: u64 = 256 << 10;
/// The most passes over bytes that were appended during the pass before.
const MAX_PASSES: usize = 8;

/// Writes the rows of a log into a new file, and then the bytes that are appended meanwhile. `None`: another process compacts
/// the log.
///
/// # Errors
/// Errors of the disk; 507 without room for the new file. The new file is removed.
pub(super) fn prepare(
    job: CompactJob,
    store: &Arc<dyn Store>,
    table_folder: &TableFolder,
    limits: Limits,
) -> Result<Option<PreparedLog>, Failure> {
    let CompactJob { file, choice, snapshot, expected_bytes, cancel } = job;
    let control = Control::default().cancelled_by(&cancel);
    let Some(mut new) = store.create_log(table_folder, &file)? else { return Ok(None) };
    new.reserve_ahead(expected_bytes)?;
    snapshot.write(&mut new, control)?;
    new.flush().map_err(Error::from)?;
    let folder = table_folder.file(&file);
    let writer = Writer::open_named(new.charge(), &folder, NEW_LOG, choice, limits, control, |_| {})?;
    let mut log = CompactLog::new(snapshot, writer);
    for _ in 0..MAX_PASSES {
        let pending = log.pending();
        if pending <= LAST_BYTES {
            break;
        }
        new.reserve(pending)?;
        log.copy(pending, control)?;
    }
    // The disk has little left to write while appends wait.
    new.sync().map_err(Error::from)?;
    Ok(Some(PreparedLog { file: new, log }))
}

/// Replaces a log by its new file. After an error the log stays.
pub(super) fn replace(
    mut writer: Writer,
    prepared: PreparedLog,
    live: &mut Option<LiveRows>,
    context: &WorkContext<'_>,
) -> WorkResult {
    let WorkContext { store, table_folder, file, control, quota, .. } = context;
    let PreparedLog { file: new, mut log } = prepared;
    let mut is_live = true;
    let replaced =
        store.replace_log(table_folder, (file, &quota.key), &mut writer, new, &mut |writer, new| {
            let followed = live_rows::follow(live, writer, context);
            is_live = followed.is_ok();
            followed.map_err(live_rows::of_store)?;
            new.reserve(log.pending())?;
            match live {
                Some(rows) if log.complete(rows, *control)? => Ok(()),
                // The file was opened again since.
                _ => Err(StoreError::Conflict("compact")),
            }
        });
    let (writer, compacted) = match (replaced, live) {
        (Ok(bytes), Some(rows)) => (Some(log.replace(rows)), Ok(bytes)),
        (Ok(bytes), None) => (None, Ok(bytes)),
        (Err(error), _) => (is_live.then_some(writer), Err(error.into())),
    };
    WorkResult { writer, answer: WorkOutcome::Compacted(compacted) }
}
