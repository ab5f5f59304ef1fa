//! The task of a room: it receives requests, runs effects, and sleeps until the next deadline.
//!
//! Invariant: the task itself never blocks. The disk, the store and computations run on threads that may block; their
//! results return as events.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use tidings_table::{Control, Error, Limits, Table, Writer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::effect::{CreateJob, CreatedFile, Effect, Event, RenderJob, SaveJob, SaveOutcome, WorkJob};
use super::state::{Room, Settings};
use super::work::{WorkContext, WorkResult};
use super::{ASKS, RoomRequest, Snapshot, SnapshotState};
use crate::Service;
use crate::failure::Failure;
use crate::page::{self, Page};
use crate::record::Record;
use crate::store::{Saved, StoreError, TableFolder};
use crate::upload::{self, FIRST, Job};

/// Starts the room of a table at this place, and returns where its requests are sent.
pub(crate) fn start(service: &Arc<Service>, place: TableFolder, record: Record) -> mpsc::Sender<RoomRequest> {
    let (sender, asks) = mpsc::channel(ASKS);
    let settings = Settings {
        id: place.id,
        node: service.own,
        has_other_nodes: service.bus.has_other_nodes(),
        keep: service.options.keep,
        limits: service.limits(),
        pace: service.store.pace(),
        lease: service.store.lease(),
        counters: Arc::clone(&service.counters),
        uploads: Arc::clone(&service.uploads),
        asks: sender.downgrade(),
    };
    let task = Task {
        limits: settings.limits,
        service: Arc::clone(service),
        place: Arc::new(place),
        sender: sender.downgrade(),
        rendering: None,
        working: None,
        saving: None,
    };
    service.counters.open.fetch_add(1, Ordering::Relaxed);
    let strong = sender.clone();
    tokio::spawn(async move {
        let (room, effects) = Room::new(settings, record, Instant::now());
        task.run(room, asks, effects).await;
        drop(strong);
    });
    sender
}

struct Task {
    service: Arc<Service>,
    place: Arc<TableFolder>,
    limits: Limits,
    sender: mpsc::WeakSender<RoomRequest>,
    rendering: Option<JoinHandle<Result<Page, Error>>>,
    working: Option<JoinHandle<WorkResult>>,
    saving: Option<JoinHandle<SaveOutcome>>,
}

/// Waits until a job ends; for ever without one.
async fn ended<T>(job: &mut Option<JoinHandle<T>>) -> Option<T> {
    let Some(handle) = job else { return std::future::pending().await };
    let outcome = handle.await.ok();
    *job = None;
    outcome
}

impl Task {
    async fn run(mut self, mut room: Room, mut asks: mpsc::Receiver<RoomRequest>, effects: Vec<Effect>) {
        self.carry_out(effects);
        while !room.is_over() {
            let deadline = room.next_deadline().into();
            let event = tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => Event::Request(ask),
                    None => break,
                },
                made = ended(&mut self.rendering) => Event::Rendered(made),
                worked = ended(&mut self.working) => Event::WorkDone(worked.map(Box::new)),
                saved = ended(&mut self.saving) => Event::Saved(saved),
                () = tokio::time::sleep_until(deadline) => Event::Tick,
            };
            let effects = room.handle(Instant::now(), event);
            self.carry_out(effects);
        }
        asks.close();
        self.end(room).await;
        // Requests that are still queued fail only now, when the table can be opened again.
        drop(asks);
    }

    /// The room is empty, or the table deleted: closes the table so that it can be opened again.
    async fn end(mut self, mut room: Room) {
        self.service.rooms.forget(self.place.id, &self.sender);
        room.cancel_rendering();
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        let last = room.last_save(Instant::now());
        self.carry_out(last);
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        let (record, left_at, put_away) = room.into_parts();
        let (store, place) = (Arc::clone(&self.service.store), Arc::clone(&self.place));
        // The table is unused since then.
        let left = SystemTime::now().checked_sub(left_at.elapsed()).unwrap_or_else(SystemTime::now);
        let closed = tokio::task::spawn_blocking(move || store.put_away(&place, &record, left));
        if let Ok(Err(error)) = closed.await {
            let why = Failure::from(error).message;
            tracing::warn!(table = %self.place.id, why, "a table cannot be put away");
        }
        let service = Arc::clone(&self.service);
        service.counters.open.fetch_sub(1, Ordering::Relaxed);
        // The place's lock is released before it is reported that the table is closed.
        drop(self);
        drop(put_away);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Render(job) => self.rendering = Some(self.render(job)),
                Effect::Work(job) => self.working = Some(self.work(*job)),
                Effect::Save(job) => self.saving = Some(self.save(job)),
                Effect::CreateFile(job) => self.create_file(job),
                Effect::StartUpload { file, number, is_first, size, progress, reply } => {
                    let Some(room) = self.sender.upgrade() else { continue };
                    let CreatedFile { name, writer, reserved } = *file;
                    let job = Job {
                        number,
                        writer,
                        store: Arc::clone(&self.service.store),
                        place: Arc::clone(&self.place),
                        file: name,
                        reserved,
                        is_first,
                        size,
                        progress,
                        room,
                    };
                    // An uploader that has gone drops its end, which aborts the upload.
                    let _ = reply.send(Ok(upload::start(job)));
                }
                Effect::Discard(file) => {
                    let (store, place) = (Arc::clone(&self.service.store), Arc::clone(&self.place));
                    tokio::task::spawn_blocking(move || store.discard(&place, &file));
                }
                Effect::Touch => self.touch(),
                Effect::Snapshot(reply, snapshot) => {
                    let SnapshotState { view, article, about, file, facts } = *snapshot;
                    let (folder, place) = (self.place.file(&file), Arc::clone(&self.place));
                    let _ = reply.send(Ok(Snapshot { view, article, about, folder, facts, place }));
                }
                Effect::Notify(word, record) => self.service.send_status(self.place.id, word, &record),
                Effect::Publish(view) => self.service.publish(self.place.id, view),
                Effect::Forget => self.service.rooms.forget(self.place.id, &self.sender),
                Effect::Delete => self.delete(),
            }
        }
    }

    fn render(&self, job: RenderJob) -> JoinHandle<Result<Page, Error>> {
        let RenderJob { wanted, cancel, done } = job;
        let service = Arc::clone(&self.service);
        tokio::spawn(async move {
            let summary = wanted.reading.summary();
            let _permit = match wanted.shown.is_plain() {
                true => service.queries.window(&summary).await,
                false => service.queries.query(&summary).await,
            };
            let made = tokio::task::spawn_blocking(move || {
                let report = |part: f32| done.store(part.to_bits(), Ordering::Relaxed);
                page::make(&wanted, Control::default().cancelled_by(&cancel).with_progress(&report))
            });
            made.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        })
    }

    fn work(&self, job: WorkJob) -> JoinHandle<WorkResult> {
        let WorkJob { work, file, writer, choice, uploader, cancel, done } = job;
        let (place, limits, room) = (Arc::clone(&self.place), self.limits, self.sender.clone());
        let store = Arc::clone(&self.service.store);
        let quota = self.service.access.quota(&uploader);
        tokio::task::spawn_blocking(move || {
            let file = &*file;
            let report = |part: f32| done.store(part.to_bits(), Ordering::Relaxed);
            let control = Control::default().cancelled_by(&cancel).with_progress(&report);
            let show = |table: &Table| {
                if let Some(room) = room.upgrade() {
                    let _ = room.blocking_send(RoomRequest::Opening(table.clone()));
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
                    report(part);
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
                &WorkContext {
                    store: &store,
                    place: &place,
                    file,
                    control,
                    quota,
                    open: &open,
                    reopen: &reopen,
                },
            )
        })
    }

    fn save(&self, job: SaveJob) -> JoinHandle<SaveOutcome> {
        let SaveJob { record, is_table, obsolete } = job;
        let (store, place) = (Arc::clone(&self.service.store), Arc::clone(&self.place));
        tokio::task::spawn_blocking(move || {
            let saved = match is_table {
                true => store.save(&place, &record),
                false => store.forget(&place).map(|()| Saved::Kept),
            };
            if !matches!(saved, Ok(Saved::Kept)) {
                return (saved, obsolete);
            }
            // A file that cannot be removed now is removed by a sweep.
            for file in obsolete {
                if let Err(error) = store.remove_file(&place, &file) {
                    let why = Failure::from(error).message;
                    tracing::warn!(table = %place.id, why, "an old file cannot be removed yet");
                }
            }
            (saved, Vec::new())
        })
    }

    fn create_file(&self, job: CreateJob) {
        let CreateJob { number, quota, choice, reply } = job;
        let Some(room) = self.sender.upgrade() else { return };
        let (store, place, limits) = (Arc::clone(&self.service.store), Arc::clone(&self.place), self.limits);
        tokio::task::spawn_blocking(move || {
            let create = || {
                let name = place.new_file()?;
                // The upload reserves its bytes itself, because making room may take a while.
                let reserved = store.reserve(0, quota, Some(&name))?;
                let charge = store.charge(&place, &name);
                let writer =
                    Writer::create_within(charge, &place.file(&name), choice, limits).inspect_err(|_| {
                        place.remove_file(&name);
                    })?;
                Ok::<_, StoreError>(CreatedFile { name, writer, reserved })
            };
            let created = Box::new(create().map_err(Failure::from));
            let sent = room.blocking_send(RoomRequest::FileCreated { number, created, reply });
            if let Err(mpsc::error::SendError(RoomRequest::FileCreated { created, .. })) = sent
                && let Ok(file) = *created
            {
                store.discard(&place, &file.name);
            }
        });
    }

    fn touch(&self) {
        let place = Arc::clone(&self.place);
        tokio::task::spawn_blocking(move || {
            // A record that is not written yet will be new.
            if let Err(error) = place.used(SystemTime::now())
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, table = %place.id, "the time of a table's last use cannot be saved");
            }
        });
    }

    fn delete(&mut self) {
        let (store, place) = (Arc::clone(&self.service.store), Arc::clone(&self.place));
        let saving = self.saving.take();
        tokio::spawn(async move {
            // A record that is being written must not appear after the removal.
            if let Some(saving) = saving {
                let _ = saving.await;
            }
            let removed = tokio::task::spawn_blocking(move || {
                if let Err(error) = store.delete(&place) {
                    let why = Failure::from(error).message;
                    tracing::warn!(table = %place.id, why, "a deleted table cannot be removed; it goes after tables.keep");
                }
            });
            let _ = removed.await;
        });
    }
}
