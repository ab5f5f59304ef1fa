//! The queue of work for the table's writer: opening the file, reading it in another dialect, appending rows. One piece after
//! the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tidings_table::{Cancel, Table};
use tidings_wire::ws::CloseCode;
use tokio::sync::oneshot;

use super::CommandReply;
use super::effect::{Effect, WorkJob};
use super::state::{OpenFile, Room};
use super::timers::Timer;
use super::work::{Addition, Work, WorkOutcome, WorkResult};
use crate::broadcast::{End, Form};
use crate::dialect_options::DialectOptions;
use crate::failure::Failure;
use crate::message;
use crate::rows::{Added, Rows};
use crate::store::StoreError;

/// How many pieces of work may wait.
const WORKS: usize = 64;
/// Most bytes of rows that are appended together: those of several requests, if they wait for one another.
const BATCH: u64 = 16 << 20;
/// How long after the store did not respond the file is opened again.
const AWAY: Duration = Duration::from_secs(5);
/// The time between two pages that are shown while a file arrives.
const GROWING: Duration = Duration::from_secs(1);
/// The least time between two pages that are shown because rows were appended.
const PACE: Duration = Duration::from_millis(50);

/// Work with the table's writer: one piece at a time, in order.
#[derive(Default)]
pub(super) struct WorkQueue {
    pub(super) running: Option<RunningWork>,
    pub(super) waiting: VecDeque<Work>,
}

/// Work that is being done.
pub(super) struct RunningWork {
    pub(super) began: Instant,
    /// The part that is done, as the bits of an `f32`.
    pub(super) done: Arc<AtomicU32>,
    /// The file that it is done with.
    pub(super) file: String,
    cancel: Cancel,
}

impl RunningWork {
    /// Stops it: its file is not the table's any more.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Room {
    /// Orders the file to be read in another dialect.
    pub(super) fn reread(&mut self, wish: DialectOptions, done: CommandReply) {
        let wish = wish.after(&self.record.wish);
        let checked = wish.choice(&self.record.name, self.record.is_article).and_then(|choice| {
            self.can_write()?;
            Ok(choice)
        });
        match checked {
            Ok(choice) => {
                self.work.waiting.push_back(Work::Reread(wish, choice, done));
                self.work_on();
            }
            Err(failure) => {
                let _ = done.send(Err(failure));
            }
        }
    }

    /// Orders rows to be appended, for the owner.
    pub(super) fn append(
        &mut self,
        rows: Arc<Rows>,
        secret: &str,
        reply: oneshot::Sender<Result<Added, Failure>>,
    ) {
        match self.may_append(secret) {
            Ok(()) => {
                self.keep_open();
                self.work.waiting.push_back(Work::Append(vec![Addition { rows, reply }]));
                self.work_on();
            }
            Err(failure) => {
                let _ = reply.send(Err(failure));
            }
        }
    }

    /// Checks that this secret permits appending, and that rows can be appended now.
    pub(super) fn may_append(&self, secret: &str) -> Result<(), Failure> {
        if !self.record.is_owned_by(secret) {
            return Err(Failure::new(403, "this is not the secret of the table's owner"));
        }
        self.can_write()
    }

    fn can_write(&self) -> Result<(), Failure> {
        if self.record.file.is_none() {
            return Err(if self.upload.is_some() {
                Failure::new(409, "the file is still coming in")
            } else {
                Failure::empty()
            });
        }
        if self.work.waiting.len() >= WORKS {
            return Err(Failure::new(503, "too much waits for this table; try again"));
        }
        Ok(())
    }

    /// Starts the next piece of work, unless one is running.
    pub(super) fn work_on(&mut self) {
        if self.work.running.is_some() {
            return;
        }
        let Some(mut work) = self.work.waiting.pop_front() else { return };
        let Some(file) = self.record.file.clone() else { return };
        if let Work::Append(additions) = &mut work {
            self.take_along(additions);
        }
        let (cancel, done) = (Cancel::default(), Arc::new(AtomicU32::new(0)));
        let writer = self.data.as_mut().filter(|data| data.file == file).and_then(|data| data.writer.take());
        // The file is read again from the start.
        let writer = writer.filter(|_| !matches!(work, Work::Open));
        let choice = self.record.wish.choice(&self.record.name, self.record.is_article).unwrap_or_default();
        let (job_file, uploader) = (file.clone(), self.record.uploader.clone());
        let (stop, progress) = (cancel.clone(), Arc::clone(&done));
        self.effects.push(Effect::Work(Box::new(WorkJob {
            work,
            file: job_file,
            writer,
            choice,
            uploader,
            cancel: stop,
            done: progress,
        })));
        self.work.running = Some(RunningWork { began: self.now, done, file, cancel });
    }

    /// Merges the appends that follow in the queue into this one, up to [`BATCH`].
    fn take_along(&mut self, additions: &mut Vec<Addition>) {
        let mut bytes: u64 = additions.iter().map(|addition| addition.rows.len()).sum();
        while let Some(Work::Append(next)) = self.work.waiting.front_mut() {
            bytes += next.iter().map(|addition| addition.rows.len()).sum::<u64>();
            if bytes > BATCH {
                return;
            }
            additions.append(next);
            self.work.waiting.pop_front();
        }
    }

    /// Shows the first rows of a file that is still being read from the disk.
    pub(super) fn opening(&mut self, table: Table) {
        let Some(file) = self.work.running.as_ref().map(|working| working.file.clone()) else { return };
        // A file that replaces another is shown when it is open completely.
        let is_first = self.data.as_ref().is_none_or(|data| data.file == file && data.loading);
        if self.record.file.as_ref() == Some(&file) && is_first {
            let name = self.record.name.clone();
            self.data =
                Some(OpenFile { file, name, table, writer: None, loading: true, facts: Arc::default() });
            self.render_soon(PACE);
        }
    }

    /// Handles the result of a piece of work; `None`: it has panicked.
    pub(super) fn on_work_done(&mut self, worked: Option<Box<WorkResult>>) {
        let Some(RunningWork { file, .. }) = self.work.running.take() else { return };
        let Some(WorkResult { writer, answer }) = worked.map(|worked| *worked) else {
            tracing::error!(table = %self.id(), "writing to a table has panicked");
            return self.work_on();
        };
        let is_now = self.record.file.as_ref() == Some(&file);
        if let Some(writer) = writer.filter(|_| is_now) {
            let table = writer.table().clone();
            match self.data.as_mut().filter(|data| data.file == file) {
                Some(data) => (data.table, data.writer, data.loading) = (table, Some(writer), false),
                None => {
                    let (name, facts) = (self.record.name.clone(), Arc::default());
                    self.data =
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
            WorkOutcome::Opened(Err(error)) => self.cannot_open(error),
            WorkOutcome::Grown(Ok(())) => self.show_appended(),
            // The next message of the node that appended the rows orders it again.
            WorkOutcome::Grown(Err(_)) => {}
            WorkOutcome::Reread(wish, read, done) => {
                let read = if is_now { read } else { Err(replaced()) };
                if read.is_ok() {
                    self.record.wish = wish;
                    self.forget_columns();
                    self.render_soon(Duration::ZERO);
                    self.change();
                }
                let _ = done.send(read);
            }
            WorkOutcome::Appended(outcomes) => {
                if is_now && outcomes.iter().any(|(appended, _)| appended.is_ok()) {
                    self.show_appended();
                    self.change();
                }
                for (appended, Addition { reply, .. }) in outcomes {
                    let appended = if is_now { appended } else { Err(replaced()) };
                    let rows = appended.as_ref().map_or(0, |added| added.rows);
                    self.settings.counters.rows.fetch_add(rows, Ordering::Relaxed);
                    let _ = reply.send(appended);
                }
            }
        }
        self.work_on();
    }

    /// Shows the growing number of rows while a file arrives, unless they are sorted or filtered, which would have to be
    /// repeated for each page.
    pub(super) fn show_growing(&mut self) {
        let now = self.now;
        let (Some(data), Some(page)) = (&self.data, &self.view.page) else { return };
        let rows = data.table.reading().summary().rows;
        if data.loading
            && self.record.shown.is_plain()
            && rows > page.summary.rows
            && self.view.rendering.is_none()
            && now >= self.view.grown + GROWING
        {
            self.view.grown = now;
            self.render_soon(Duration::ZERO);
        }
    }

    /// Shows appended rows. A view of the last page stays at the last page.
    fn show_appended(&mut self) {
        if let Some(text) = self.text(Form::Tables) {
            self.view.at_end |= self.view.made_for.sort.is_empty()
                && self.view.made_for.page >= self.view.made_for.pages(text.total);
        }
        let now = self.now;
        let next = self.view.appended.map_or(now, |last| last + PACE).max(now);
        self.view.appended = Some(next);
        self.render_soon(next - now);
    }

    /// Handles a file that cannot be opened: because it is damaged, or because the store does not respond. In the second case
    /// the shown page stays, and opening is tried again.
    fn cannot_open(&mut self, error: StoreError) {
        let is_away = matches!(error, StoreError::Unavailable(_));
        let failure = Failure::from(error);
        if is_away {
            self.fail_snapshots(&failure);
            let is_first = self.timers.get(Timer::Reopen).is_none();
            self.timers.set(Timer::Reopen, self.now + AWAY);
            if is_first {
                let frame = message::error(&failure);
                for viewer in self.viewers.iter() {
                    viewer.outbox.push(frame.clone());
                }
                self.settings.counters.errors.fetch_add(self.viewers.len(), Ordering::Relaxed);
            }
            self.over |= self.viewers.is_empty();
            return;
        }
        tracing::error!(table = %self.id(), why = failure.message, "a table cannot be opened");
        self.fail_snapshots(&failure);
        self.finish(End { error: Some(failure), code: CloseCode::INTERNAL, within: Duration::ZERO });
        self.over = self.viewers.is_empty();
    }
}
