//! One piece of work with a table's writer, on a thread that may block.

use std::sync::Arc;

use tidings_table::{Choice, Control, Writer};
use tokio::sync::oneshot;

use super::CommandReply;
use crate::dialect_options::DialectOptions;
use crate::failure::Failure;
use crate::quota::Quota;
use crate::rows::{Added, Appended, Rows};
use crate::store::{AppendError, Store, StoreError, TableFolder};

/// A piece of work for the writer.
pub(super) enum Work {
    /// Read the file that the record names.
    Open,
    /// Read what other nodes appended to it.
    Grow,
    /// Read it in this dialect.
    Reread(DialectOptions, Choice, CommandReply),
    /// Add these rows.
    Append(Vec<Addition>),
}

/// Rows to be appended, and the response to their sender.
pub(super) struct Addition {
    pub(super) rows: Arc<Rows>,
    pub(super) reply: oneshot::Sender<Result<Added, Failure>>,
}

/// The result of a piece of work.
pub(super) struct WorkResult {
    /// `None`: it is of no use any more, and the file must be opened again.
    pub(super) writer: Option<Writer>,
    pub(super) answer: WorkOutcome,
}

impl WorkResult {
    /// The file could not be opened.
    #[cfg(test)]
    pub(super) const fn not_opened(error: StoreError) -> Self {
        Self { writer: None, answer: WorkOutcome::Opened(Err(error)) }
    }
}

/// The outcome by the kind of work, with the responses that wait for it.
pub(super) enum WorkOutcome {
    Opened(Result<(), StoreError>),
    Grown(Result<(), StoreError>),
    Reread(DialectOptions, Result<(), Failure>, CommandReply),
    Appended(Vec<(Result<Added, Failure>, Addition)>),
}

/// What a piece of work needs.
pub(super) struct WorkContext<'a> {
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) place: &'a Arc<TableFolder>,
    pub(super) file: &'a str,
    pub(super) control: Control<'a>,
    /// The quota that appended rows count to.
    pub(super) quota: Quota,
    /// Opens the file and reads all of it.
    pub(super) open: &'a dyn Fn() -> Result<Writer, StoreError>,
    /// Opens as much of it as lies on the disk.
    pub(super) reopen: &'a dyn Fn() -> Result<Writer, StoreError>,
}

impl Work {
    /// Executes it. Blocks on the disk and the store.
    pub(super) fn run(self, writer: Option<Writer>, bench: &WorkContext<'_>) -> WorkResult {
        let mut writer = match writer.map_or_else(bench.open, Ok) {
            Ok(writer) => writer,
            Err(error) => {
                let answer = match self {
                    Self::Open => WorkOutcome::Opened(Err(error)),
                    Self::Grow => WorkOutcome::Grown(Err(error)),
                    Self::Reread(wish, _, done) => WorkOutcome::Reread(wish, Err(error.into()), done),
                    Self::Append(additions) => WorkOutcome::Appended(refused(additions, &error.into())),
                };
                return WorkResult { writer: None, answer };
            }
        };
        match self {
            Self::Open => WorkResult { writer: Some(writer), answer: WorkOutcome::Opened(Ok(())) },
            Self::Grow => {
                let WorkContext { store, place, file, control, .. } = bench;
                let grown = store.catch_up(place, file, &mut writer, *control, &mut |_, _| {});
                // A failed fetch leaves the writer as it was.
                let is_well = matches!(grown, Ok(()) | Err(StoreError::Unavailable(_)));
                WorkResult { writer: is_well.then_some(writer), answer: WorkOutcome::Grown(grown) }
            }
            Self::Reread(wish, choice, done) => {
                // A failure leaves the writer and its readers as they were.
                let read = writer.reread(choice, bench.control).map(|_| ()).map_err(Failure::from);
                WorkResult { writer: Some(writer), answer: WorkOutcome::Reread(wish, read, done) }
            }
            Self::Append(additions) => append(writer, additions, bench),
        }
    }
}

/// Appends rows of several requests together; each request has a result of its own.
fn append(mut writer: Writer, additions: Vec<Addition>, bench: &WorkContext<'_>) -> WorkResult {
    let WorkContext { store, place, file, reopen, .. } = bench;
    let most = additions.iter().map(|addition| addition.rows.most()).sum();
    let reserved = match store.reserve(most, bench.quota.clone(), None) {
        Ok(reserved) => reserved,
        Err(error) => {
            let answer = WorkOutcome::Appended(refused(additions, &error.into()));
            return WorkResult { writer: Some(writer), answer };
        }
    };
    let folder = place.file(file);
    let (mut is_broken, mut grown) = (false, 0);
    let mut outcomes: Vec<Result<Added, Failure>> = Vec::new();
    let appended = store.append(place, file, &mut writer, reopen, &mut |writer| {
        let received = |writer: &Writer| writer.table().reading().summary().received;
        let before = received(writer);
        outcomes.clear();
        for addition in &additions {
            outcomes.push(match outcomes.last() {
                Some(Err(failure)) if is_broken => Err(failure.clone()),
                _ => match addition.rows.append(writer, &folder) {
                    Appended::Rows(rows) => Ok(Added { rows, size: received(writer) }),
                    Appended::Refused(failure) => Err(failure),
                    Appended::Failed(failure) => {
                        is_broken = true;
                        Err(failure)
                    }
                },
            });
        }
        grown = received(writer).saturating_sub(before);
    });
    let (is_usable, outcomes) = match appended {
        Ok(()) => {
            reserved.keep_only(grown);
            (!is_broken, outcomes.into_iter().zip(additions).collect())
        }
        Err(AppendError { error, is_writer_usable }) => {
            (is_writer_usable && !is_broken, refused(additions, &error.into()))
        }
    };
    if store.is_to_join(place) {
        let (store, place, file) = (Arc::clone(store), Arc::clone(place), (*file).to_owned());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.join(&place, &file) {
                // The next append tries again.
                let why = Failure::from(error).message;
                tracing::warn!(table = %place.id, why, "pieces of a file cannot be joined");
            }
        });
    }
    WorkResult { writer: is_usable.then_some(writer), answer: WorkOutcome::Appended(outcomes) }
}

/// The same error for all additions.
fn refused(additions: Vec<Addition>, failure: &Failure) -> Vec<(Result<Added, Failure>, Addition)> {
    additions.into_iter().map(|addition| (Err(failure.clone()), addition)).collect()
}
