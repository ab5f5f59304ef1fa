//! Work that needs the table's writer: opening the file, reading it in another dialect, appending rows. One after
//! the other.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidings_table::{Cancel, Choice, Control, Error, ORIGINAL, Table, Writer};
use tidings_wire::ws::CloseCode;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::{Ask, Data, Done, GROWING, Room};
use crate::tables::board::{End, Form};
use crate::tables::command::Wish;
use crate::tables::failure::Failure;
use crate::tables::rows::{Appended, Rows};
use crate::tables::store::Store;

/// How many pieces of work may wait.
const WORKS: usize = 64;
/// The least time between two pages that are shown because rows were appended.
const PACE: Duration = Duration::from_millis(50);

/// Something to be done with the writer.
pub(super) enum Work {
    /// Read the file that the record names.
    Open,
    /// Read it in this dialect.
    Reread(Wish, Choice, Done),
    /// Add these rows.
    Append(Arc<Rows>, oneshot::Sender<Result<u64, Failure>>),
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
    Opened(Result<(), Failure>),
    Reread(Wish, Result<(), Failure>, Done),
    Appended(Result<u64, Failure>, oneshot::Sender<Result<u64, Failure>>),
}

impl Work {
    /// Does it. Waits for the disk.
    fn run(
        self,
        writer: Option<Writer>,
        open: impl Fn() -> Result<Writer, Error>,
        folder: &Path,
        store: &Arc<Store>,
        control: Control<'_>,
    ) -> Worked {
        let mut writer = match writer.map_or_else(&open, Ok) {
            Ok(writer) => writer,
            Err(error) => {
                let failed = Failure::from(error);
                let answer = match self {
                    Self::Open => Answer::Opened(Err(failed)),
                    Self::Reread(wish, _, done) => Answer::Reread(wish, Err(failed), done),
                    Self::Append(_, reply) => Answer::Appended(Err(failed), reply),
                };
                return Worked { writer: None, answer };
            }
        };
        match self {
            Self::Open => Worked { writer: Some(writer), answer: Answer::Opened(Ok(())) },
            Self::Reread(wish, choice, done) => {
                // When it fails, the writer and what readers see are as before.
                let read = writer.reread(choice, control).map(|_| ()).map_err(Failure::from);
                Worked { writer: Some(writer), answer: Answer::Reread(wish, read, done) }
            }
            Self::Append(rows, reply) => {
                // Another node may have appended meanwhile, and none may do so at the same time.
                let (_lock, size) = match lock(folder) {
                    Ok(locked) => locked,
                    Err(error) => {
                        return Worked {
                            writer: Some(writer),
                            answer: Answer::Appended(Err(error.into()), reply),
                        };
                    }
                };
                if size != writer.table().reading().summary().received {
                    match open() {
                        Ok(reopened) => writer = reopened,
                        Err(error) => {
                            return Worked {
                                writer: None,
                                answer: Answer::Appended(Err(error.into()), reply),
                            };
                        }
                    }
                }
                let before = writer.table().reading().summary().received;
                let reserved = match store.reserve(rows.most()) {
                    Ok(reserved) => reserved,
                    Err(failure) => {
                        return Worked {
                            writer: Some(writer),
                            answer: Answer::Appended(Err(failure), reply),
                        };
                    }
                };
                let appended = rows.append(&mut writer, folder);
                let after = writer.table().reading().summary().received;
                reserved.keep_only(after.saturating_sub(before));
                let (writer, appended) = match appended {
                    Appended::Rows(rows) => (Some(writer), Ok(rows)),
                    Appended::Refused(failure) => (Some(writer), Err(failure)),
                    Appended::Failed(failure) => (None, Err(failure)),
                };
                Worked { writer, answer: Answer::Appended(appended, reply) }
            }
        }
    }
}

/// Keeps other nodes from writing to the file in this folder; gives its length.
fn lock(folder: &Path) -> io::Result<(File, u64)> {
    let file = File::open(folder.join(ORIGINAL))?;
    file.lock()?;
    let length = file.metadata()?.len();
    Ok((file, length))
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
        reply: oneshot::Sender<Result<u64, Failure>>,
    ) {
        match self.may_append(secret) {
            Ok(()) => {
                self.idle_since = Instant::now();
                self.works.push_back(Work::Append(rows, reply));
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
        let Some(work) = self.works.pop_front() else { return };
        let Some(file) = self.record.file.clone() else { return };
        let (cancel, done) = (Cancel::default(), Arc::new(AtomicU32::new(0)));
        let writer = self.data.as_mut().filter(|data| data.file == file).and_then(|data| data.writer.take());
        // What was written elsewhere, this writer does not know.
        let writer = writer.filter(|_| !matches!(work, Work::Open));
        let choice = self.record.wish.choice(&self.record.name, self.record.is_article).unwrap_or_default();
        let (folder, limits, room) = (self.place.file(&file), self.limits(), self.me.clone());
        let (stop, tell, store) = (cancel.clone(), Arc::clone(&done), Arc::clone(&self.service.store));
        let task = tokio::task::spawn_blocking(move || {
            let tell = |part: f32| tell.store(part.to_bits(), Ordering::Relaxed);
            let control = Control::default().cancelled_by(&stop).telling(&tell);
            let open = || {
                Writer::open(&folder, choice, limits, control, |table| {
                    if let Some(room) = room.upgrade() {
                        let _ = room.blocking_send(Ask::Opening(table.clone()));
                    }
                })
            };
            work.run(writer, open, &folder, &store, control)
        });
        self.working = Some(Working { began: Instant::now(), done, file, cancel, task });
    }

    /// The file on disk can be looked at while it is being read.
    pub(super) fn opening(&mut self, table: Table) {
        let Some(file) = self.working.as_ref().map(|working| working.file.clone()) else { return };
        // In place of a file that is there it comes when it is whole.
        if self.record.file.as_ref() == Some(&file) && self.data.is_none() {
            self.data = Some(Data { file, table, writer: None, loading: true, facts: Arc::default() });
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
                    let facts = Arc::default();
                    self.data = Some(Data { file, table, writer: Some(writer), loading: false, facts });
                }
            }
        }
        let replaced = || Failure::new(409, "the file was replaced meanwhile");
        match answer {
            Answer::Opened(Ok(())) => self.render_soon(Duration::ZERO),
            Answer::Opened(Err(_)) if !is_now => {}
            Answer::Opened(Err(failure)) => self.cannot_open(failure),
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
            Answer::Appended(appended, reply) => {
                let appended = if is_now { appended } else { Err(replaced()) };
                if let Ok(rows) = appended {
                    self.service.counters.rows.fetch_add(rows, Ordering::Relaxed);
                    self.show_appended();
                    self.change();
                }
                let _ = reply.send(appended);
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

    /// The file is not what it was: nobody can look at it.
    fn cannot_open(&mut self, failure: Failure) {
        tracing::error!(table = %self.id(), why = failure.message, "a table cannot be opened");
        for looker in self.looking.drain(..) {
            let _ = looker.send(Err(failure.clone()));
        }
        self.finish(End { error: Some(failure), code: CloseCode::INTERNAL, within: Duration::ZERO });
        self.over = self.viewers.is_empty();
    }
}
