//! One item of work with a table's writer, on a blocking thread.

use std::sync::Arc;

use tidings_table::{Control, Writer};
use tidings_table_live::{Budget, LiveRows};
use tidings_table_room::failure::Failure;
use tidings_table_room::room::{PendingAppend, Work, WorkOutcome, WorkResult};
use tidings_table_room::rows::AppendReport;
use tidings_table_store::{AppendError, Quota, Store, StoreError, TableFolder};

use super::append::{self, AppendOutcome};
use super::compaction;
use super::live_rows;

/// The context of an item of work.
pub(super) struct WorkContext<'a> {
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) table_folder: &'a Arc<TableFolder>,
    pub(super) file: &'a str,
    pub(super) control: Control<'a>,
    /// The quota that appended rows count for.
    pub(super) quota: Quota,
    /// The names of the columns that are the key of a row; empty: none.
    pub(super) key: &'a [String],
    /// The memory of keys.
    pub(super) budget: &'a Budget,
    /// Opens the file and reads all of it.
    pub(super) open: &'a dyn Fn() -> Result<Writer, StoreError>,
    /// Opens the part of the file that is on the disk.
    pub(super) reopen: &'a dyn Fn() -> Result<Writer, StoreError>,
}

/// Executes an item of work. Blocks on the disk and the store. `live`: the keys of the rows, which follow the file.
pub(super) fn run(
    work: Work,
    writer: Option<Writer>,
    live: &mut Option<LiveRows>,
    context: &WorkContext<'_>,
) -> WorkResult {
    let mut writer = match writer.map_or_else(context.open, Ok) {
        Ok(writer) => writer,
        Err(error) => {
            let answer = match work {
                Work::Open => WorkOutcome::Opened(Err(error)),
                Work::CatchUp => WorkOutcome::CaughtUp(Err(error)),
                Work::Reread(dialect, _, done) => WorkOutcome::Reread(dialect, Err(error.into()), done),
                Work::Append(appends) => WorkOutcome::Appended(refused(appends, &error.into())),
                Work::Key(request) => WorkOutcome::Keyed(Err(error.into()), request),
                Work::ReplaceLog(_) => WorkOutcome::Compacted(Err(error.into())),
            };
            return WorkResult { writer: None, answer };
        }
    };
    match work {
        Work::Open => match live_rows::follow(live, &writer, context) {
            Ok(()) => WorkResult { writer: Some(writer), answer: WorkOutcome::Opened(Ok(())) },
            Err(error) => {
                WorkResult { writer: None, answer: WorkOutcome::Opened(Err(live_rows::of_store(error))) }
            }
        },
        Work::CatchUp => {
            let WorkContext { store, table_folder, file, control, .. } = context;
            // Another process has compacted the log.
            if writer.is_replaced().unwrap_or(false) {
                match (context.reopen)() {
                    Ok(again) => writer = again,
                    Err(error) => {
                        return WorkResult { writer: None, answer: WorkOutcome::CaughtUp(Err(error)) };
                    }
                }
            }
            let grown = store.catch_up(table_folder, file, &mut writer, *control, &mut |_, _| {});
            // A failed fetch leaves the writer unchanged.
            let is_well = matches!(grown, Ok(()) | Err(StoreError::Unavailable(_)));
            let grown =
                grown.and_then(|()| live_rows::follow(live, &writer, context).map_err(live_rows::of_store));
            WorkResult { writer: is_well.then_some(writer), answer: WorkOutcome::CaughtUp(grown) }
        }
        Work::Reread(dialect, choice, done) => {
            // A failure leaves the writer and its readers unchanged.
            let read = writer.reread(choice, context.control).map(|_| ()).map_err(Failure::from);
            WorkResult { writer: Some(writer), answer: WorkOutcome::Reread(dialect, read, done) }
        }
        Work::Append(appends) => append_all(writer, appends, live, context),
        Work::ReplaceLog(prepared) => compaction::replace(writer, *prepared, live, context),
        Work::Key(request) => {
            let keyed = live_rows::follow(live, &writer, context).map_err(live_rows::failure);
            WorkResult { writer: Some(writer), answer: WorkOutcome::Keyed(keyed, request) }
        }
    }
}

/// Appends rows of several requests together. Each request has its own result.
fn append_all(
    mut writer: Writer,
    appends: Vec<PendingAppend>,
    live: &mut Option<LiveRows>,
    context: &WorkContext<'_>,
) -> WorkResult {
    let WorkContext { store, table_folder, file, reopen, key, .. } = context;
    if let Err(failure) = live_rows::prepare(live, &writer, &appends, context) {
        let answer = WorkOutcome::Appended(refused(appends, &failure));
        return WorkResult { writer: Some(writer), answer };
    }
    let columns = writer.table().reading().summary().columns;
    let most = appends.iter().map(|addition| addition.rows.most(columns)).sum();
    let reserved = match store.reserve(most, context.quota.clone(), None) {
        Ok(reserved) => reserved,
        Err(error) => {
            let answer = WorkOutcome::Appended(refused(appends, &error.into()));
            return WorkResult { writer: Some(writer), answer };
        }
    };
    let folder = table_folder.file(file);
    let (mut is_broken, mut grown, mut ends) = (false, 0, Vec::new());
    let mut outcomes: Vec<Result<AppendReport, Failure>> = Vec::new();
    let appended = store.append(table_folder, file, &mut writer, reopen, &mut |writer| {
        let received = |writer: &Writer| writer.table().reading().summary().received;
        let before = received(writer);
        outcomes.clear();
        ends.clear();
        for addition in &appends {
            outcomes.push(match outcomes.last() {
                Some(Err(failure)) if is_broken => Err(failure.clone()),
                _ => match append::append(&addition.rows, key, writer, &folder) {
                    AppendOutcome::Rows(rows) => {
                        Ok(AppendReport { rows, changes: None, size: received(writer) })
                    }
                    AppendOutcome::Refused(failure) => Err(failure),
                    AppendOutcome::Failed(failure) => {
                        is_broken = true;
                        Err(failure)
                    }
                },
            });
            ends.push(writer.table().reading().file_lines());
        }
        grown = received(writer).saturating_sub(before);
    });
    let (is_usable, outcomes) = match appended {
        Ok(()) => {
            reserved.keep_only(grown);
            is_broken |= !live_rows::apply(live, &writer, &ends, &mut outcomes, context);
            (!is_broken, outcomes.into_iter().zip(appends).collect())
        }
        Err(AppendError { error, is_writer_usable }) => {
            (is_writer_usable && !is_broken, refused(appends, &error.into()))
        }
    };
    if store.needs_compaction(table_folder) {
        let (store, table_folder, file) = (Arc::clone(store), Arc::clone(table_folder), (*file).to_owned());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.compact(&table_folder, &file) {
                // The next append tries again.
                let why = Failure::from(error).message;
                tracing::warn!(table = %table_folder.id, why, "the objects of a file cannot be compacted");
            }
        });
    }
    WorkResult { writer: is_usable.then_some(writer), answer: WorkOutcome::Appended(outcomes) }
}

/// The same error for all requests.
fn refused(
    appends: Vec<PendingAppend>,
    failure: &Failure,
) -> Vec<(Result<AppendReport, Failure>, PendingAppend)> {
    appends.into_iter().map(|addition| (Err(failure.clone()), addition)).collect()
}
