//! Work that needs the table's writer: opening the file, reading it in another dialect, appending rows. One after
//! the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidings_table::{Cancel, Choice, Control, Table, Writer};
use tidings_wire::ws::CloseCode;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::{Ask, Data, Done, GROWING, Room};
use crate::board::{End, Form};
use crate::command::Wish;
use crate::failure::Failure;
use crate::message;
use crate::quota::Quota;
use crate::rows::{Added, Appended, Rows};
use crate::store::{AppendError, Place, Store, StoreError};
use crate::upload::FIRST;

/// How many pieces of work may wait.
const WORKS: usize = 64;
/// Most bytes of rows that are appended together: those of several requests, if they wait for one another.
const BATCH: u64 = 16 << 20;
/// How long after the store was found away a file is looked for again.
const AWAY: Duration = Duration::from_secs(5);
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

/// Work that is being done.
pub(super) struct Working {
    pub(super) began: Instant,
    /// The part that is done, as the bits of an `f32`.
    pub(super) done: Arc<AtomicU32>,
    /// The file that it is done with.
    file: String,
    cancel: Cancel,
    task: JoinHandle<Worked>,
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

/// Who is told, and what.
enum Answer {
    Opened(Result<(), StoreError>),
    Grown(Result<(), StoreError>),
    Reread(Wish, Result<(), Failure>, Done),
    Appended(Vec<(Result<Added, Failure>, Addition)>),
}

/// What the work is done with.
struct Bench<'a> {
    store: &'a Arc<dyn Store>,
    place: &'a Arc<Place>,
    file: &'a str,
    control: Control<'a>,
    /// Whose bytes rows that are appended are.
    quota: Quota,
    /// Opens the file and takes in all of it.
    open: &'a dyn Fn() -> Result<Writer, StoreError>,
    /// Opens as much of it as lies on the disk.
    reopen: &'a dyn Fn() -> Result<Writer, StoreError>,
}

impl Work {
    /// Does it. Waits for the disk, and for the store.
    fn run(self, writer: Option<Writer>, bench: &Bench<'_>) -> Worked {
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

/// Waits until it is done.
pub(super) async fn finished(working: &mut Option<Working>) -> Result<Worked, JoinError> {
    match working {
        Some(working) => (&mut working.task).await,
        None => std::future::pending().await,
    }
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
                self.works.push_back(Work::Reread(wish, choice, done));
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
                self.idle_since = Instant::now();
                self.works.push_back(Work::Append(vec![Addition { rows, reply }]));
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
        if self.works.len() >= WORKS {
            return Err(Failure::new(503, "too much waits for this table; try again"));
        }
        Ok(())
    }

    /// Starts the next piece of work, if nothing is being done.
    pub(super) fn work_on(&mut self) {
        if self.working.is_some() {
            return;
        }
        let Some(mut work) = self.works.pop_front() else { return };
        let Some(file) = self.record.file.clone() else { return };
        if let Work::Append(additions) = &mut work {
            self.take_along(additions);
        }
        let (cancel, done) = (Cancel::default(), Arc::new(AtomicU32::new(0)));
        let writer = self.data.as_mut().filter(|data| data.file == file).and_then(|data| data.writer.take());
        // What was written elsewhere, this writer does not know.
        let writer = writer.filter(|_| !matches!(work, Work::Open));
        let choice = self.record.wish.choice(&self.record.name, self.record.is_article).unwrap_or_default();
        let (place, limits, room) = (Arc::clone(&self.place), self.limits(), self.me.clone());
        let (stop, tell, store) = (cancel.clone(), Arc::clone(&done), Arc::clone(&self.service.store));
        let name = file.clone();
        let quota = self.service.access.quota(&self.record.uploader);
        let task = tokio::task::spawn_blocking(move || {
            let file = &*name;
            let tell = |part: f32| tell.store(part.to_bits(), Ordering::Relaxed);
            let control = Control::default().cancelled_by(&stop).telling(&tell);
            let show = |table: &Table| {
                if let Some(room) = room.upgrade() {
                    let _ = room.blocking_send(Ask::Opening(table.clone()));
                }
            };
            let open_within = |show: &dyn Fn(&Table)| {
                let charge = store.charge(&place, file);
                Writer::open_within(charge, &place.file(file), choice, limits, control, show)
            };
            let reopen = || Ok(open_within(&|_| {})?);
            let open = || {
                store.prepare(&place, file)?;
                let mut writer = open_within(&show)?;
                let mut shown = writer.table().reading().summary().rows;
                store.catch_up(&place, file, &mut writer, control, &mut |writer, part| {
                    tell(part);
                    let rows = writer.table().reading().summary().rows;
                    if shown < FIRST && rows >= FIRST {
                        shown = rows;
                        show(writer.table());
                    }
                })?;
                Ok(writer)
            };
            work.run(
                writer,
                &Bench { store: &store, place: &place, file, control, quota, open: &open, reopen: &reopen },
            )
        });
        self.working = Some(Working { began: Instant::now(), done, file, cancel, task });
    }

    /// Has rows that wait next appended together with these, up to a bound.
    fn take_along(&mut self, additions: &mut Vec<Addition>) {
        let mut bytes: u64 = additions.iter().map(|addition| addition.rows.len()).sum();
        while let Some(Work::Append(next)) = self.works.front_mut() {
            bytes += next.iter().map(|addition| addition.rows.len()).sum::<u64>();
            if bytes > BATCH {
                return;
            }
            additions.append(next);
            self.works.pop_front();
        }
    }

    /// The file on disk can be looked at while it is being read.
    pub(super) fn opening(&mut self, table: Table) {
        let Some(file) = self.working.as_ref().map(|working| working.file.clone()) else { return };
        // In place of a file that is there it comes when it is whole.
        let is_first = self.data.as_ref().is_none_or(|data| data.file == file && data.loading);
        if self.record.file.as_ref() == Some(&file) && is_first {
            let name = self.record.name.clone();
            self.data = Some(Data { file, name, table, writer: None, loading: true, facts: Arc::default() });
            self.render_soon(PACE);
        }
    }

    /// A piece of work is done.
    pub(super) fn worked(&mut self, worked: Result<Worked, JoinError>) {
        let Some(Working { file, .. }) = self.working.take() else { return };
        let Ok(Worked { writer, answer }) = worked else {
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
                    self.data = Some(Data { file, name, table, writer: Some(writer), loading: false, facts });
                }
            }
        }
        let replaced = || Failure::new(409, "the file was replaced meanwhile");
        match answer {
            Answer::Opened(Ok(())) => {
                self.open_at = None;
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
                    self.service.counters.rows.fetch_add(rows, Ordering::Relaxed);
                    let _ = reply.send(appended);
                }
            }
        }
        self.work_on();
    }

    /// Shows how many rows there are by now while a file is coming in. Other than all rows as they come would take
    /// making anew.
    pub(super) fn show_growing(&mut self, now: Instant) {
        let (Some(data), Some(page)) = (&self.data, &self.page) else { return };
        let rows = data.table.reading().summary().rows;
        if data.loading
            && self.record.shown.is_plain()
            && rows > page.summary.rows
            && self.rendering.is_none()
            && now >= self.grown + GROWING
        {
            self.grown = now;
            self.render_soon(Duration::ZERO);
        }
    }

    /// Shows rows that were appended. Whoever stands on the last page stays on the last page.
    fn show_appended(&mut self) {
        if let Some(text) = self.text(Form::Tables) {
            self.at_end |= self.good.sort.is_empty() && self.good.page >= self.good.pages(text.total);
        }
        let now = Instant::now();
        let next = self.appended.map_or(now, |last| last + PACE).max(now);
        self.appended = Some(next);
        self.render_soon(next - now);
    }

    /// Nobody can look at the file: it is not what it was, or the store is away. In the second case what is shown stays,
    /// and it is tried again.
    fn cannot_open(&mut self, error: StoreError) {
        let is_away = matches!(error, StoreError::Unavailable(_));
        let failure = Failure::from(error);
        if is_away {
            for looker in self.looking.drain(..) {
                let _ = looker.send(Err(failure.clone()));
            }
            if self.open_at.replace(Instant::now() + AWAY).is_none() {
                let frame = message::error(&failure);
                for viewer in self.viewers.values() {
                    viewer.outbox.push(frame.clone());
                }
                self.service.counters.errors.fetch_add(self.viewers.len() as u64, Ordering::Relaxed);
            }
            self.over |= self.viewers.is_empty();
            return;
        }
        tracing::error!(table = %self.id(), why = failure.message, "a table cannot be opened");
        for looker in self.looking.drain(..) {
            let _ = looker.send(Err(failure.clone()));
        }
        self.finish(End { error: Some(failure), code: CloseCode::INTERNAL, within: Duration::ZERO });
        self.over = self.viewers.is_empty();
    }
}
