//! The queue of work for the table's writer: opening the file, reading it in another dialect, appending rows. One item
//! at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tidings_log_throttle::LogThrottle;
use tidings_table::{Cancel, Choice, Error, Table};
use tidings_table_store::{DialectOptions, StoreError};
use tidings_wire::ws::CloseCode;
use tokio::sync::oneshot;

use super::CommandReply;
use super::effect::{Effect, WorkJob};
use super::state::{OpenFile, Room};
use super::timers::Timer;
use super::work::{PendingAppend, RereadReply, Work, WorkOutcome, WorkResult};
use crate::broadcast::{BroadcastEnd, ViewFormat};
use crate::failure::Failure;
use crate::message;
use crate::people::{Actor, ChangedBy};
use crate::rows::{AppendReport, Rows};

/// The capacity of the queue.
const MAX_WORK: usize = 64;
/// The most bytes of rows in one append, which may contain the rows of several requests.
const MAX_BATCH: u64 = 16 << 20;
/// The delay of opening a file again when the store does not respond.
const REOPEN_DELAY: Duration = Duration::from_secs(5);
/// The interval of pages that are shown while a file arrives.
const GROWTH_INTERVAL: Duration = Duration::from_secs(1);
/// The least interval of pages that are shown because rows were appended.
const APPEND_INTERVAL: Duration = Duration::from_millis(50);
/// The least ratio of that time to the duration of a computation of groups.
const GROUP_COST: u32 = 4;

/// Work with the table's writer: one item at a time, in order.
#[derive(Default)]
pub(super) struct WorkQueue {
    pub(super) running: Option<RunningWork>,
    pub(super) waiting: VecDeque<Work>,
}

/// The running item of work.
pub(super) struct RunningWork {
    pub(super) began: Instant,
    /// The completed fraction, as the bits of an `f32`.
    pub(super) done: Arc<AtomicU32>,
    /// The file of the work.
    pub(super) file: String,
    cancel: Cancel,
}

impl RunningWork {
    /// Cancels the work: its file was replaced.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Room {
    /// Schedules reading the file in another dialect.
    pub(super) fn reread(&mut self, dialect: DialectOptions, author: Option<ChangedBy>, done: CommandReply) {
        let dialect = dialect.after(&self.record.dialect);
        let checked = dialect
            .choice(&self.record.name, self.record.is_article)
            .map_err(Failure::from)
            .and_then(|choice| {
                self.check_no_key()?;
                self.can_write()?;
                // The file was accepted when it was uploaded.
                Ok(Choice { is_text: true, ..choice })
            });
        match checked {
            Ok(choice) => {
                self.work.waiting.push_back(Work::Reread(dialect, choice, RereadReply { author, done }));
                self.work_on();
            }
            Err(failure) => {
                let _ = done.send(Err(failure));
            }
        }
    }

    /// Schedules an append of the owner.
    pub(super) fn append(
        &mut self,
        rows: Arc<Rows>,
        secret: &str,
        reply: oneshot::Sender<Result<AppendReport, Failure>>,
    ) {
        match self.may_append(secret).and_then(|()| self.check_key(&rows)) {
            Ok(()) => {
                self.keep_open();
                self.work.waiting.push_back(Work::Append(vec![PendingAppend { rows, reply }]));
                self.work_on();
            }
            Err(failure) => {
                let _ = reply.send(Err(failure));
            }
        }
    }

    /// Checks that this secret permits appending, and that the file can be appended to now.
    pub(super) fn may_append(&self, secret: &str) -> Result<(), Failure> {
        if !self.record.is_owned_by(secret) {
            return Err(Failure::new(403, "this is not the secret of the table's owner"));
        }
        self.can_write()
    }

    pub(super) fn can_write(&self) -> Result<(), Failure> {
        if self.record.file.is_none() {
            return Err(if self.upload.is_some() {
                Failure::new(409, "the file is still being uploaded")
            } else {
                Failure::empty()
            });
        }
        if self.work.waiting.len() >= MAX_WORK {
            return Err(Failure::new(503, "too many operations wait for this table; try again"));
        }
        Ok(())
    }

    /// Starts the next item of work, unless one is running.
    pub(super) fn work_on(&mut self) {
        if self.work.running.is_some() {
            return;
        }
        let Some(mut work) = self.work.waiting.pop_front() else { return };
        let Some(file) = self.record.file.clone() else { return };
        if let Work::Append(appends) = &mut work {
            self.merge_appends(appends);
        }
        let (cancel, done) = (Cancel::default(), Arc::new(AtomicU32::new(0)));
        let writer = self
            .open_file
            .as_mut()
            .filter(|open_file| open_file.file == file)
            .and_then(|open_file| open_file.writer.take());
        // The file is read again from the start.
        let writer = writer.filter(|_| !matches!(work, Work::Open));
        let choice =
            self.record.dialect.choice(&self.record.name, self.record.is_article).unwrap_or_default();
        // The file was accepted when it was uploaded.
        let choice = Choice { is_text: true, ..choice };
        let key = match &work {
            Work::Key(request) => request.key.clone(),
            _ => self.record.key.clone(),
        };
        let (job_file, uploader) = (file.clone(), self.record.uploader.clone());
        let (stop, progress) = (cancel.clone(), Arc::clone(&done));
        self.effects.push(Effect::Work(Box::new(WorkJob {
            work,
            file: job_file,
            writer,
            choice,
            key,
            uploader,
            cancel: stop,
            done: progress,
        })));
        self.work.running = Some(RunningWork { began: self.now, done, file, cancel });
    }

    /// Merges the following appends of the queue into this one, up to [`MAX_BATCH`].
    fn merge_appends(&mut self, appends: &mut Vec<PendingAppend>) {
        let mut bytes: u64 = appends.iter().map(|addition| addition.rows.size()).sum();
        while let Some(Work::Append(next)) = self.work.waiting.front_mut() {
            bytes += next.iter().map(|addition| addition.rows.size()).sum::<u64>();
            if bytes > MAX_BATCH {
                return;
            }
            appends.append(next);
            self.work.waiting.pop_front();
        }
    }

    /// Shows the first rows of a file that is still being read from the disk.
    pub(super) fn on_first_rows_opened(&mut self, table: Table) {
        let Some(file) = self.work.running.as_ref().map(|working| working.file.clone()) else { return };
        // A file that replaces another one is shown when it is completely open.
        let is_first =
            self.open_file.as_ref().is_none_or(|open_file| open_file.file == file && open_file.loading);
        // The rows of a table with a key are shown when all keys are read.
        if self.record.file.as_ref() == Some(&file) && is_first && self.record.key.is_empty() {
            let name = self.record.name.clone();
            self.open_file =
                Some(OpenFile { file, name, table, writer: None, loading: true, facts: Arc::default() });
            self.render_soon(APPEND_INTERVAL);
        }
    }

    /// Handles the result of an item of work; `None`: it panicked.
    pub(super) fn on_work_done(&mut self, worked: Option<Box<WorkResult>>) {
        let Some(RunningWork { file, .. }) = self.work.running.take() else { return };
        let Some(WorkResult { writer, answer }) = worked.map(|worked| *worked) else {
            tracing::error!(table = %self.id(), "writing to a table panicked");
            return self.work_on();
        };
        let is_now = self.record.file.as_ref() == Some(&file);
        if let Some(writer) = writer.filter(|_| is_now) {
            let table = writer.table().clone();
            match self.open_file.as_mut().filter(|open_file| open_file.file == file) {
                Some(open_file) => {
                    (open_file.table, open_file.writer, open_file.loading) = (table, Some(writer), false);
                }
                None => {
                    let (name, facts) = (self.record.name.clone(), Arc::default());
                    self.open_file =
                        Some(OpenFile { file, name, table, writer: Some(writer), loading: false, facts });
                }
            }
        }
        let replaced = || Failure::new(409, "the file was replaced meanwhile");
        match answer {
            WorkOutcome::Opened(Ok(())) => {
                self.timers.clear(Timer::Reopen);
                self.render_soon(Duration::ZERO);
            }
            WorkOutcome::Opened(Err(_)) if !is_now => {}
            // The file was replaced and restored meanwhile.
            WorkOutcome::Opened(Err(StoreError::Table(Error::Cancelled))) => self.open_again(),
            WorkOutcome::Opened(Err(error)) => self.on_open_failed(error),
            WorkOutcome::CaughtUp(Ok(())) => self.show_appended(),
            // The next message of the node that appended the rows schedules it again.
            WorkOutcome::CaughtUp(Err(_)) => {}
            WorkOutcome::Reread(dialect, read, RereadReply { author, done }) => {
                let read = if is_now { read } else { Err(replaced()) };
                if read.is_ok() {
                    self.record.dialect = dialect;
                    self.forget_columns();
                    self.render_soon(Duration::ZERO);
                    self.change_by(author);
                }
                let _ = done.send(read);
            }
            WorkOutcome::Keyed(keyed, request) => {
                let keyed = if is_now { keyed } else { Err(replaced()) };
                match is_now {
                    true => self.on_keyed(keyed, request),
                    false => drop(request.done.map(|done| done.send(keyed))),
                }
            }
            WorkOutcome::Compacted(compacted) if is_now => self.on_log_compacted(compacted),
            WorkOutcome::Compacted(_) => {}
            WorkOutcome::Appended(outcomes) => {
                if is_now && outcomes.iter().any(|(appended, _)| appended.is_ok()) {
                    self.show_appended();
                    let reports = outcomes.iter().filter_map(|(appended, _)| appended.as_ref().ok()?.changes);
                    let has_changed =
                        reports.map(|counts| counts.updated + counts.removed).any(|rows| rows > 0);
                    let actor = if has_changed { Actor::Api } else { Actor::Append };
                    self.change_by(Some(ChangedBy::program(actor)));
                }
                for (appended, PendingAppend { reply, .. }) in outcomes {
                    let appended = if is_now { appended } else { Err(replaced()) };
                    let rows = appended.as_ref().map_or(0, |added| added.rows);
                    let counters = &self.settings.counters;
                    counters.rows.fetch_add(rows, Ordering::Relaxed);
                    if let Ok(AppendReport { changes: Some(changes), .. }) = appended {
                        counters.updated_rows.fetch_add(changes.updated, Ordering::Relaxed);
                        counters.removed_rows.fetch_add(changes.removed, Ordering::Relaxed);
                    }
                    let _ = reply.send(appended);
                }
            }
        }
        self.compact_if_large();
        self.work_on();
    }

    /// Shows the growing number of rows while a file arrives, unless they are sorted or filtered: that would be
    /// repeated for each page.
    pub(super) fn show_growing(&mut self) {
        let now = self.now;
        let (Some(open_file), Some(page)) = (&self.open_file, &self.view.page) else { return };
        let rows = open_file.table.reading().summary().rows;
        if open_file.loading
            && self.record.view.is_plain()
            && rows > page.summary.rows
            && self.view.rendering.is_none()
            && now >= self.view.last_growth + GROWTH_INTERVAL
        {
            self.view.last_growth = now;
            self.render_soon(Duration::ZERO);
        }
    }

    /// Shows appended rows. A view of the last page stays at the last page.
    pub(super) fn show_appended(&mut self) {
        if let Some(text) = self.text(ViewFormat::Tables) {
            self.view.at_end |= self.view.made_for.sort.is_empty()
                && self.view.made_for.group.is_none()
                && self.view.made_for.page >= self.view.made_for.pages(text.total);
        }
        let now = self.now;
        // Groups of a table with a key are computed again from all rows when a row is replaced.
        let interval = match self.record.view.group {
            Some(_) => (self.view.cost * GROUP_COST).max(APPEND_INTERVAL),
            None => APPEND_INTERVAL,
        };
        let next = match self.view.appended {
            // They are shown with earlier ones.
            Some(next) if next > now => next,
            last => last.map_or(now, |last| last + interval).max(now),
        };
        self.view.appended = Some(next);
        self.render_soon(next - now);
    }

    /// Handles a file that cannot be opened: it is damaged, or the store does not respond. In the second case the shown
    /// page stays, and opening is retried.
    fn on_open_failed(&mut self, error: StoreError) {
        let is_away = matches!(error, StoreError::Unavailable(_));
        let failure = Failure::from(error);
        if is_away {
            self.fail_snapshots(&failure);
            let is_first = self.timers.get(Timer::Reopen).is_none();
            self.timers.set(Timer::Reopen, self.now + REOPEN_DELAY);
            if is_first {
                let frame = message::error(&failure);
                for viewer in self.viewers.iter() {
                    viewer.outbox.push(frame.clone());
                }
                self.settings.counters.errors.fetch_add(self.viewers.len(), Ordering::Relaxed);
            }
            self.has_ended |= self.viewers.is_empty();
            return;
        }
        static LINES: LogThrottle = LogThrottle::new();
        if let Some(times) = LINES.count() {
            tracing::error!(table = %self.id(), why = failure.message, times, "a table cannot be opened");
        }
        self.fail_snapshots(&failure);
        self.finish(BroadcastEnd { error: Some(failure), code: CloseCode::INTERNAL, within: Duration::ZERO });
        self.has_ended = self.viewers.is_empty();
    }
}
