//! Files that come in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tidings_table::{Limits, Table, Writer};
use tokio::time::Instant;

use super::{Data, Room, Uploading};
use crate::board::Form;
use crate::command::Wish;
use crate::failure::Failure;
use crate::message;
use crate::news::Say;
use crate::quota::Quota;
use crate::record::Locks;
use crate::store::Reserved;
use crate::upload::{self, Job, Outcome, Upload};

/// How long a first page waits for the rest of its file, so that a small one shows whole at once.
const GRACE: Duration = Duration::from_millis(50);

/// The row numbers of a sorted or filtered view that each table holds in memory, in bytes; more are held on the disk.
const ORDER: usize = 1 << 20;
/// How many times as large as a file its text may be, unpacked and in UTF-8.
const UNPACKED: u64 = 4;

impl Room {
    /// Lets a viewer upload a file.
    ///
    /// # Errors
    /// 403 when uploads or the view are locked, 429 when the requester has too many uploads, 409 while another one is under way, 413 when it is announced too large, 503 when
    /// there are too many at once; the disk's.
    pub(super) fn begin_upload(
        &mut self,
        viewer: u64,
        name: String,
        size: Option<u64>,
        quota: Quota,
    ) -> Result<Upload, Failure> {
        let Some(uploader) = self.viewers.get(&viewer) else { return Err(Failure::stopping()) };
        let is_article = uploader.form == Form::Article;
        if let Some(lock) = locked(self.record.locks).filter(|_| !uploader.is_owner) {
            return Err(Failure::new(403, lock));
        }
        if let Some(upload) = &self.upload {
            self.service.uploads.give_way(&upload.far);
            return Err(Failure::new(409, "another upload to this table is under way"));
        }
        let limits = self.limits();
        if size.is_some_and(|size| size > limits.original_bytes) {
            return Err(Failure::too_large(limits.original_bytes));
        }
        let far = self.service.uploads.enter(&quota)?;
        let Some(room) = self.me.upgrade() else { return Err(Failure::stopping()) };
        let store = Arc::clone(&self.service.store);
        // Making a folder and an empty file is the disk's quickest work, and the uploader waits for it anyway.
        let file = self.place.new_file()?;
        let uploader = quota.key.to_string();
        // What it takes it reserves itself: to make room may take a moment.
        let (reserved, is_first) = (store.reserve(0, quota, Some(&file))?, self.record.file.is_none());
        let choice = Wish::default().choice(&name, is_article)?;
        let charge = store.charge(&self.place, &file);
        let writer =
            Writer::create_within(charge, &self.place.file(&file), choice, limits).inspect_err(|_| {
                self.place.remove_file(&file);
            })?;
        self.last_number += 1;
        let number = self.last_number;
        if self.record.file.is_none() {
            self.record.name.clone_from(&name);
        }
        let place = Arc::clone(&self.place);
        let job = Job {
            number,
            writer,
            store,
            place,
            file: file.clone(),
            reserved,
            is_first,
            size,
            far: Arc::clone(&far),
            room,
        };
        self.upload =
            Some(Uploading { number, viewer, uploader, file, name, size, is_article, far, told: 0 });
        if self.record.file.is_none() {
            // So that the table is found by its link on every node, and shown there as loading.
            self.keep();
        }
        self.tell_nodes(Say::Loading);
        Ok(upload::start(job))
    }

    /// Stops an upload that the locks forbid now.
    pub(super) fn enforce_locks(&self) {
        let (Some(upload), Some(lock)) = (&self.upload, locked(self.record.locks)) else { return };
        if self.viewers.get(&upload.viewer).is_some_and(|uploader| !uploader.is_owner) {
            upload.far.stop(Failure::new(403, format!("{lock}; the upload was stopped")));
        }
    }

    /// A first file is shown while it comes in; one in place of another only when it is whole.
    pub(super) fn first_rows(&mut self, number: u64, table: Table) {
        let Some(upload) = self.upload.as_ref().filter(|upload| upload.number == number) else { return };
        if self.record.file.is_some() {
            return;
        }
        let file = upload.file.clone();
        let name = upload.name.clone();
        self.data = Some(Data { file, name, table, writer: None, loading: true, facts: Arc::default() });
        self.render_soon(GRACE);
    }

    /// An upload has ended, in one way or another.
    pub(super) fn upload_ended(&mut self, number: u64, outcome: Outcome, reserved: Option<Reserved>) {
        if self.upload.as_ref().is_none_or(|upload| upload.number != number) {
            return;
        }
        // Of one that was stopped when its last byte had come nothing is taken either.
        let stopped = self.upload.as_ref().and_then(|upload| upload.far.stopped().cloned());
        let (outcome, reserved) = match (outcome, stopped) {
            (Outcome::Whole(_), Some(why)) => (Outcome::Failed(why), None),
            (outcome, _) => (outcome, reserved),
        };
        if matches!(outcome, Outcome::Whole(_)) {
            self.tell_progress(true);
        }
        let Some(upload) = self.upload.take() else { return };
        let counters = &self.service.counters;
        match outcome {
            Outcome::Whole(writer) => {
                if let Some(reserved) = reserved {
                    reserved.keep();
                }
                counters.uploads[0].fetch_add(1, Ordering::Relaxed);
                let table = writer.table().clone();
                let rows = table.reading().summary().rows;
                counters.rows.fetch_add(rows, Ordering::Relaxed);
                let (old, is_first) = (self.record.file.replace(upload.file.clone()), self.data.is_some());
                self.record.name.clone_from(&upload.name);
                self.record.uploader.clone_from(&upload.uploader);
                self.record.is_article = upload.is_article;
                self.record.wish = Wish::default();
                if old.is_some() || !is_first {
                    self.show_from_start();
                }
                self.data = Some(Data {
                    file: upload.file,
                    name: upload.name,
                    table,
                    writer: Some(*writer),
                    loading: false,
                    facts: Arc::default(),
                });
                self.obsolete.extend(old);
                if let Some(working) = &self.working {
                    working.cancel();
                }
                // What names it is not to wait for anything.
                self.save_at = Instant::now();
                self.change();
            }
            outcome => {
                let which = if matches!(outcome, Outcome::Aborted) { 1 } else { 2 };
                counters.uploads[which].fetch_add(1, Ordering::Relaxed);
                self.discard(upload.file);
                if let Outcome::Failed(failure) = outcome
                    && let Some(outbox) = self.outbox(upload.viewer)
                {
                    outbox.push(message::error(&failure));
                    outbox.push(message::refused());
                    self.service.counters.errors.fetch_add(1, Ordering::Relaxed);
                }
                if self.record.file.is_none() {
                    self.data = None;
                    self.page = None;
                    self.record.name.clear();
                    // What was sorted and filtered while it came in is gone with it.
                    self.show_from_start();
                    self.good = self.record.shown.clone();
                    self.over |= self.viewers.is_empty();
                    self.keep();
                }
                self.tell_nodes(Say::Stopped);
            }
        }
        if let Some(rendering) = &self.rendering {
            rendering.cancel.cancel();
        }
        // Whoever watched the progress sees that it has ended.
        self.render_soon(Duration::ZERO);
    }

    /// Removes a file that did not become the table's; what it took was given back already.
    fn discard(&self, file: String) {
        let (store, place) = (Arc::clone(&self.service.store), Arc::clone(&self.place));
        tokio::task::spawn_blocking(move || store.discard(&place, &file));
    }

    /// How far the upload is, if that is more than was told.
    pub(super) fn upload_progress(&mut self, at_last: bool) -> Option<Bytes> {
        let upload = self.upload.as_mut()?;
        let received = upload.far.received.load(Ordering::Relaxed);
        if received == upload.told && !at_last {
            return None;
        }
        upload.told = received;
        Some(message::progress(received, upload.size, upload.far.rows.load(Ordering::Relaxed)))
    }

    /// The bounds of a file in this room.
    pub(super) fn limits(&self) -> Limits {
        let original_bytes = self.service.options.max_size;
        let text_bytes = original_bytes.saturating_mul(UNPACKED);
        let unpack_ratio = self.service.options.max_unpack_ratio;
        Limits { original_bytes, text_bytes, unpack_ratio, order_bytes: ORDER, ..Limits::default() }
    }
}

/// What keeps everybody but the owner from uploading.
const fn locked(locks: Locks) -> Option<&'static str> {
    match locks {
        Locks { uploads: true, .. } => Some("the owner has locked uploads"),
        Locks { view: true, .. } => Some("the owner has locked the view, which another file would replace"),
        Locks { .. } => None,
    }
}
