//! Incoming files.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tidings_table::{Choice, Table};
use tidings_table_store::{DialectOptions, Locks, PreviousFile, Quota, Reserved};

use super::effect::{CreateJob, CreatedFile, Effect, UploadReply};
use super::state::{OpenFile, Room};
use super::timers::Timer;
use crate::broadcast::ViewFormat;
use crate::command::UploadOptions;
use crate::counters::UploadEnd;
use crate::failure::Failure;
use crate::message;
use crate::node_messages::MessageKind;
use crate::people::ChangedBy;
use crate::upload::{UploadOutcome, UploadProgress};

/// The time that a first page waits for the rest of its file, so that a small file is shown once.
const FIRST_PAGE_DELAY: Duration = Duration::from_millis(50);

/// A running upload.
pub(super) struct RunningUpload {
    pub(super) number: u64,
    pub(super) viewer: u64,
    /// The author of the change when the file is complete.
    author: Option<ChangedBy>,
    /// The key of the quota that the file counts for.
    uploader: String,
    /// The name of the file's folder; `None` until it is created.
    pub(super) file: Option<String>,
    name: String,
    pub(super) size: Option<u64>,
    is_article: bool,
    /// The dialect of the file.
    dialect: DialectOptions,
    /// The key of its rows; `None`: as the table has it.
    key: Option<Vec<String>>,
    pub(super) progress: Arc<UploadProgress>,
    /// The bytes in the last progress message.
    sent_progress: u64,
}

impl Room {
    /// Responds to an upload command once the upload can begin.
    ///
    /// The error is 403 when uploads or the view are locked, 429 when the requester has too many uploads, 409 while
    /// another upload is running, 413 when the announced size is too large, 503 when too many uploads are running; or
    /// an error of the disk.
    pub(super) fn begin_upload(
        &mut self,
        viewer: u64,
        options: UploadOptions,
        quota: Quota,
        reply: UploadReply,
    ) {
        match self.admit_upload(viewer, options, &quota) {
            Ok((number, choice)) => {
                self.effects.push(Effect::CreateFile(CreateJob { number, quota, choice, reply }));
            }
            Err(failure) => drop(reply.send(Err(failure))),
        }
    }

    /// Admits an upload to the table. Returns its number and the dialect choice of its file.
    fn admit_upload(
        &mut self,
        viewer: u64,
        UploadOptions { name, size, is_text, key }: UploadOptions,
        quota: &Quota,
    ) -> Result<(u64, Choice), Failure> {
        let Some(uploader) = self.viewers.get(viewer) else { return Err(Failure::stopping()) };
        let is_article = uploader.form == ViewFormat::Article;
        if let Some(lock) = locked(self.record.locks).filter(|_| !uploader.is_owner) {
            return Err(Failure::new(403, lock));
        }
        if let Some(upload) = &self.upload {
            self.settings.uploads.give_way(&upload.progress);
            return Err(Failure::new(409, "another upload to this table is running"));
        }
        let most = self.settings.limits.original_bytes;
        if size.is_some_and(|size| size > most) {
            return Err(Failure::too_large(most));
        }
        let dialect = if is_text { DialectOptions::text() } else { DialectOptions::default() };
        let choice = dialect.choice(&name, is_article)?;
        let progress = self.settings.uploads.admit(quota)?;
        let (number, uploader) = (self.viewers.next_number(), quota.key.to_string());
        let file = None;
        let author = self.author(viewer);
        self.person_acted(viewer);
        self.upload = Some(RunningUpload {
            author,
            number,
            viewer,
            uploader,
            file,
            name,
            size,
            is_article,
            dialect,
            key,
            progress,
            sent_progress: 0,
        });
        Ok((number, choice))
    }

    /// Handles the result of creating the file of an upload.
    pub(super) fn file_created(
        &mut self,
        number: u64,
        created: Result<CreatedFile, Failure>,
        reply: UploadReply,
    ) {
        let upload = self.upload.as_mut().filter(|upload| upload.number == number);
        let (upload, file) = match (upload, created) {
            (Some(upload), Ok(file)) => (upload, file),
            (upload, created) => {
                let failure = created.as_ref().err().cloned().unwrap_or_else(Failure::stopping);
                if upload.is_some() {
                    self.upload = None;
                }
                if let Ok(file) = created {
                    self.effects.push(Effect::Discard(file.name));
                }
                let _ = reply.send(Err(failure));
                return;
            }
        };
        if let Some(why) = upload.progress.stopped().cloned() {
            self.upload = None;
            self.effects.push(Effect::Discard(file.name));
            let _ = reply.send(Err(why));
            return;
        }
        upload.file = Some(file.name.clone());
        let (size, progress) = (upload.size, Arc::clone(&upload.progress));
        let is_first = self.record.file.is_none();
        if is_first {
            self.record.name.clone_from(&upload.name);
            // Saved now, so that every node finds the table and shows the running upload.
            self.save_soon();
        }
        self.notify_nodes(MessageKind::Loading);
        self.effects.push(Effect::StartUpload {
            file: Box::new(file),
            number,
            is_first,
            size,
            progress,
            reply,
        });
    }

    /// Stops an upload that the new locks forbid.
    pub(super) fn enforce_locks(&self) {
        let (Some(upload), Some(lock)) = (&self.upload, locked(self.record.locks)) else { return };
        if self.viewers.get(upload.viewer).is_some_and(|uploader| !uploader.is_owner) {
            upload.progress.stop(Failure::new(403, format!("{lock}; the upload was stopped")));
        }
    }

    /// Shows the first file of a table while it arrives. A file that replaces another one is shown when it is complete.
    pub(super) fn first_rows(&mut self, number: u64, table: Table) {
        let Some(upload) = self.upload.as_ref().filter(|upload| upload.number == number) else { return };
        // The rows of a table with a key are shown when all keys are read.
        let has_key = !upload.key.as_ref().unwrap_or(&self.record.key).is_empty();
        if self.record.file.is_some() || has_key {
            return;
        }
        let Some(file) = upload.file.clone() else { return };
        let name = upload.name.clone();
        self.open_file =
            Some(OpenFile { file, name, table, writer: None, loading: true, facts: Arc::default() });
        self.render_soon(FIRST_PAGE_DELAY);
    }

    /// Handles the end of an upload.
    ///
    /// # Errors
    /// The reason when the table does not have the file.
    pub(super) fn upload_ended(
        &mut self,
        number: u64,
        outcome: UploadOutcome,
        reserved: Option<Reserved>,
    ) -> Result<(), Failure> {
        if self.upload.as_ref().is_none_or(|upload| upload.number != number) {
            return Err(Failure::stopping());
        }
        // An upload that was stopped after its last byte fails too.
        let stopped = self.upload.as_ref().and_then(|upload| upload.progress.stopped().cloned());
        let (outcome, reserved) = match (outcome, stopped) {
            (UploadOutcome::Whole(_), Some(why)) => (UploadOutcome::Failed(why), None),
            (outcome, _) => (outcome, reserved),
        };
        if matches!(outcome, UploadOutcome::Whole(_)) {
            self.send_progress(true);
        }
        let Some(upload) = self.upload.take() else { return Err(Failure::stopping()) };
        let Some(file) = upload.file else { return Err(Failure::stopping()) };
        let mut ended = Ok(());
        let counters = &self.settings.counters;
        match outcome {
            UploadOutcome::Whole(writer) => {
                if let Some(reserved) = reserved {
                    reserved.keep();
                }
                counters.uploads.add(UploadEnd::Whole);
                let table = writer.table().clone();
                let rows = table.reading().summary().rows;
                counters.rows.fetch_add(rows, Ordering::Relaxed);
                let (is_replaced, is_shown) = (self.record.file.is_some(), self.open_file.is_some());
                let next = PreviousFile {
                    file: file.clone(),
                    name: upload.name.clone(),
                    uploader: upload.uploader,
                    is_article: upload.is_article,
                    dialect: upload.dialect,
                    key: upload.key.unwrap_or_else(|| self.record.key.clone()),
                    view: self.record.view.clone(),
                    until: 0,
                };
                self.replace_file(next);
                if is_replaced || !is_shown {
                    self.show_from_start();
                }
                self.open_file = Some(OpenFile {
                    file,
                    name: upload.name,
                    table,
                    writer: Some(*writer),
                    // The rows are complete when their keys are read.
                    loading: !self.record.key.is_empty(),
                    facts: Arc::default(),
                });
                if let Some(working) = &self.work.running {
                    working.cancel();
                }
                // Saved at once: the client may publish the link now.
                self.timers.set(Timer::Save, self.now);
                self.change_by(upload.author);
                self.read_keys(upload.viewer);
            }
            outcome => {
                let is_aborted = matches!(outcome, UploadOutcome::Aborted);
                counters.uploads.add(if is_aborted { UploadEnd::Aborted } else { UploadEnd::Failed });
                self.effects.push(Effect::Discard(file));
                let is_failed = matches!(outcome, UploadOutcome::Failed(_));
                let failure = match outcome {
                    UploadOutcome::Failed(failure) => failure,
                    _ => Failure::new(409, "the upload was aborted"),
                };
                if is_failed && let Some(outbox) = self.outbox(upload.viewer) {
                    outbox.push(message::error(&failure));
                    outbox.push(message::refused());
                    self.settings.counters.errors.fetch_add(1, Ordering::Relaxed);
                }
                ended = Err(failure);
                if self.record.file.is_none() {
                    self.open_file = None;
                    self.view.page = None;
                    self.record.name.clear();
                    // The sort order and the filter belonged to the failed file.
                    self.show_from_start();
                    self.view.made_for = self.record.view.clone();
                    self.has_ended |= self.viewers.is_empty();
                    self.save_soon();
                }
                self.notify_nodes(MessageKind::Stopped);
            }
        }
        self.cancel_rendering();
        // The view shows that the upload has ended.
        self.render_soon(Duration::ZERO);
        ended
    }

    /// A progress message, if there is progress since the last one.
    pub(super) fn upload_progress(&mut self, at_last: bool) -> Option<Bytes> {
        let upload = self.upload.as_mut()?;
        let received = upload.progress.received.load(Ordering::Relaxed);
        if received == upload.sent_progress && !at_last {
            return None;
        }
        upload.sent_progress = received;
        Some(message::progress(received, upload.size, upload.progress.rows.load(Ordering::Relaxed)))
    }
}

/// The lock that restricts uploads to the owner.
const fn locked(locks: Locks) -> Option<&'static str> {
    match locks {
        Locks { uploads: true, .. } => Some("the owner has locked uploads"),
        Locks { view: true, .. } => Some("the owner has locked the view, which another file would replace"),
        Locks { .. } => None,
    }
}
