//! Work that needs the table's writer: opening the file, reading it in another dialect, appending rows. One after
//! the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use std::time::Instant;
use tidings_table::{Cancel, Choice, Control, Table, Writer};
use tidings_wire::ws::CloseCode;
use tokio::sync::oneshot;

use super::Done;
use super::effect::{Effect, WorkJob};
use super::state::{OpenFile, Room};
use super::timers::Timer;
use crate::board::{End, Form};
use crate::command::Wish;
use crate::failure::Failure;
use crate::message;
use crate::quota::Quota;
use crate::rows::{Added, Appended, Rows};
use crate::store::{AppendError, Place, Store, StoreError};

/// How many pieces of work may wait.
const WORKS: usize = 64;
/// Most bytes of rows that are appended together: those of several requests, if they wait for one another.
const BATCH: u64 = 16 << 20;
/// How long after the store was found away a file is looked for again.
const AWAY: Duration = Duration::from_secs(5);
/// The time between two pages that are shown while a file arrives.
const GROWING: Duration = Duration::from_secs(1);
/// The least time between two pages that are shown because rows were appended.
const PACE: Duration = Duration::from_millis(50);

/// Something to be done with the writer.
pub(super) enum Work {
    /// Read the file that the record names.
    Open,
    /// Take in what was appended to it elsewhere.
    Grow,
    /// Read it in this dialect.
    Reread(Wish, Choice, Done),
    /// Add these rows.
    Append(Vec<Addition>),
}

/// Rows to be added, and who waits for that.
pub(super) struct Addition {
    rows: Arc<Rows>,
    reply: oneshot::Sender<Result<Added, Failure>>,
}

/// Work with the table's writer: one piece at a time, in order.
#[derive(Default)]
pub(super) struct WorkQueue {
    pub(super) running: Option<Working>,
    pub(super) waiting: VecDeque<Work>,
}

/// Work that is being done.
pub(super) struct Working {
    pub(super) began: Instant,
    /// The part that is done, as the bits of an `f32`.
    pub(super) done: Arc<AtomicU32>,
    /// The file that it is done with.
    pub(super) file: String,
    cancel: Cancel,
}

impl Working {
    /// Stops it: its file is not the table's any more.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }
}

/// What came of it.
pub(super) struct Worked {
    /// `None`: it is of no use any more, and the file must be opened again.
    writer: Option<Writer>,
    answer: Answer,
}

impl Worked {
    /// The file could not be opened.
    #[cfg(test)]
    pub(super) const fn not_opened(error: StoreError) -> Self {
        Self { writer: None, answer: Answer::Opened(Err(error)) }
    }
}

/// Who is told, and what.
enum Answer {
    Opened(Result<(), StoreError>),
    Grown(Result<(), StoreError>),
    Reread(Wish, Result<(), Failure>, Done),
    Appended(Vec<(Result<Added, Failure>, Addition)>),
}

/// What the work is done with.
pub(super) struct Bench<'a> {
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) place: &'a Arc<Place>,
    pub(super) file: &'a str,
    pub(super) control: Control<'a>,
    /// Whose bytes rows that are appended are.
    pub(super) quota: Quota,
    /// Opens the file and takes in all of it.
    pub(super) open: &'a dyn Fn() -> Result<Writer, StoreError>,
    /// Opens as much of it as lies on the disk.
    pub(super) reopen: &'a dyn Fn() -> Result<Writer, StoreError>,
}

impl Work {
    /// Does it. Waits for the disk, and for the store.
    pub(super) fn run(self, writer: Option<Writer>, bench: &Bench<'_>) -> Worked {
        let mut writer = match writer.map_or_else(bench.open, Ok) {
            Ok(writer) => writer,
            Err(error) => {
                let answer = match self {
                    Self::Open => Answer::Opened(Err(error)),
                    Self::Grow => Answer::Grown(Err(error)),
                    Self::Reread(wish, _, done) => Answer::Reread(wish, Err(error.into()), done),
                    Self::Append(additions) => Answer::Appended(refused(additions, &error.into())),
                };
                return Worked { writer: None, answer };
            }
        };
        match self {
            Self::Open => Worked { writer: Some(writer), answer: Answer::Opened(Ok(())) },
            Self::Grow => {
                let Bench { store, place, file, control, .. } = bench;
                let grown = store.catch_up(place, file, &mut writer, *control, &mut |_, _| {});
                // What could not be fetched has not come to the writer.
                let is_well = matches!(grown, Ok(()) | Err(StoreError::Unavailable(_)));
                Worked { writer: is_well.then_some(writer), answer: Answer::Grown(grown) }
            }
            Self::Reread(wish, choice, done) => {
                // When it fails, the writer and what readers see are as before.
                let read = writer.reread(choice, bench.control).map(|_| ()).map_err(Failure::from);
                Worked { writer: Some(writer), answer: Answer::Reread(wish, read, done) }
            }
            Self::Append(additions) => append(writer, additions, bench),
        }
    }
}

/// Appends rows of several requests together; each request has a result of its own.
fn append(mut writer: Writer, additions: Vec<Addition>, bench: &Bench<'_>) -> Worked {
    let Bench { store, place, file, reopen, .. } = bench;
    let most = additions.iter().map(|addition| addition.rows.most()).sum();
    let reserved = match store.reserve(most, bench.quota.clone(), None) {
        Ok(reserved) => reserved,
        Err(error) => {
            let answer = Answer::Appended(refused(additions, &error.into()));
            return Worked { writer: Some(writer), answer };
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
    Worked { writer: is_usable.then_some(writer), answer: Answer::Appended(outcomes) }
}

/// The same answer for all.
fn refused(additions: Vec<Addition>, failure: &Failure) -> Vec<(Result<Added, Failure>, Addition)> {
    additions.into_iter().map(|addition| (Err(failure.clone()), addition)).collect()
}

impl Room {
    /// Has the file read in another dialect.
    pub(super) fn reread(&mut self, wish: Wish, done: Done) {
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

    /// Has rows appended, for the owner.
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

    /// Whether rows may be appended by who knows this secret.
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

    /// Starts the next piece of work, if nothing is being done.
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
        // This writer does not know what was written elsewhere.
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
        self.work.running = Some(Working { began: self.now, done, file, cancel });
    }

    /// Has rows that wait next appended together with these, up to a bound.
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

    /// The file on disk can be looked at while it is being read.
    pub(super) fn opening(&mut self, table: Table) {
        let Some(file) = self.work.running.as_ref().map(|working| working.file.clone()) else { return };
        // In place of a file that is there it comes when it is whole.
        let is_first = self.data.as_ref().is_none_or(|data| data.file == file && data.loading);
        if self.record.file.as_ref() == Some(&file) && is_first {
            let name = self.record.name.clone();
            self.data =
                Some(OpenFile { file, name, table, writer: None, loading: true, facts: Arc::default() });
            self.render_soon(PACE);
        }
    }

    /// A piece of work is done.
    pub(super) fn worked(&mut self, worked: Option<Box<Worked>>) {
        let Some(Working { file, .. }) = self.work.running.take() else { return };
        let Some(Worked { writer, answer }) = worked.map(|worked| *worked) else {
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
            Answer::Opened(Ok(())) => {
                self.timers.clear(Timer::Reopen);
                self.render_soon(Duration::ZERO);
            }
            Answer::Opened(Err(_)) if !is_now => {}
            Answer::Opened(Err(error)) => self.cannot_open(error),
            Answer::Grown(Ok(())) => self.show_appended(),
            // The next word of who appended them asks for them again.
            Answer::Grown(Err(_)) => {}
            Answer::Reread(wish, read, done) => {
                let read = if is_now { read } else { Err(replaced()) };
                if read.is_ok() {
                    self.record.wish = wish;
                    self.forget_columns();
                    self.render_soon(Duration::ZERO);
                    self.change();
                }
                let _ = done.send(read);
            }
            Answer::Appended(outcomes) => {
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

    /// Shows how many rows there are by now while a file is coming in. Other than all rows as they come would take
    /// making anew.
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

    /// Shows rows that were appended. Whoever stands on the last page stays on the last page.
    fn show_appended(&mut self) {
        if let Some(text) = self.text(Form::Tables) {
            self.view.at_end |=
                self.view.good.sort.is_empty() && self.view.good.page >= self.view.good.pages(text.total);
        }
        let now = self.now;
        let next = self.view.appended.map_or(now, |last| last + PACE).max(now);
        self.view.appended = Some(next);
        self.render_soon(next - now);
    }

    /// Nobody can look at the file: it is not what it was, or the store is away. In the second case what is shown stays,
    /// and it is tried again.
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
