//! The task of a room: receives requests, executes effects, and sleeps until the next deadline.
//!
//! Invariant: the task never blocks. The disk, the store and computations run on blocking threads; their results return
//! as events.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use tidings_otel::SpanKind;
use tidings_table::{Control, Error, Limits, Table, Writer};
use tidings_table_live::LiveRows;
use tidings_table_store::{Record, SaveOutcome, StoreError, TableFolder};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::failure::Failure;
use super::page::{self, Page};
use super::room::{
    CompactJob, CreateJob, CreatedFile, Effect, Event, MAX_REQUESTS, PrivateJob, RenderJob, Room,
    RoomRequest, SaveJob, SaveResult, Settings, Snapshot, SnapshotState, WorkJob, WorkResult,
};
use super::upload_thread::{self, FIRST_PAGE_ROWS, UploadJob};
use super::work::{self, WorkContext};
use super::{Service, compaction};

/// Starts the room of a table, and returns the sender of its requests.
pub(super) fn start(
    service: &Arc<Service>,
    table_folder: TableFolder,
    record: Record,
) -> mpsc::Sender<RoomRequest> {
    let (sender, requests) = mpsc::channel(MAX_REQUESTS);
    let settings = Settings {
        id: table_folder.id,
        node: service.own,
        has_other_nodes: service.bus.has_other_nodes(),
        keep: service.options.store.keep,
        keep_previous: service.options.keep_previous,
        epoch: (Instant::now(), unix_now()),
        limits: service.limits(),
        compacts_logs: service.store.compacts_logs(),
        live: service.live.clone(),
        groups: service.groups.clone(),
        min_save_interval: service.store.min_save_interval(),
        lease: service.store.lease(),
        counters: Arc::clone(&service.counters),
        uploads: Arc::clone(&service.uploads),
        requests: sender.downgrade(),
    };
    let task = Task {
        limits: settings.limits,
        service: Arc::clone(service),
        table_folder: Arc::new(table_folder),
        sender: sender.downgrade(),
        rendering: None,
        working: None,
        saving: None,
        live: Arc::default(),
    };
    service.counters.open.fetch_add(1, Ordering::Relaxed);
    let strong = sender.clone();
    tokio::spawn(async move {
        let (room, effects) = Room::new(settings, record, Instant::now());
        task.run(room, requests, effects).await;
        drop(strong);
    });
    sender
}

/// The seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

struct Task {
    service: Arc<Service>,
    /// The keys of the rows. Only the running item of work locks it.
    live: Arc<Mutex<Option<LiveRows>>>,
    table_folder: Arc<TableFolder>,
    limits: Limits,
    sender: mpsc::WeakSender<RoomRequest>,
    rendering: Option<JoinHandle<Result<Page, Error>>>,
    working: Option<JoinHandle<WorkResult>>,
    saving: Option<JoinHandle<SaveResult>>,
}

/// Waits until a job ends; forever without one.
async fn ended<T>(job: &mut Option<JoinHandle<T>>) -> Option<T> {
    let Some(handle) = job else { return std::future::pending().await };
    let outcome = handle.await.ok();
    *job = None;
    outcome
}

impl Task {
    async fn run(mut self, mut room: Room, mut requests: mpsc::Receiver<RoomRequest>, effects: Vec<Effect>) {
        self.carry_out(effects);
        while !room.has_ended() {
            let deadline = room.next_deadline().into();
            let event = tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => Event::Request(request),
                    None => break,
                },
                made = ended(&mut self.rendering) => Event::Rendered(Box::new(made)),
                worked = ended(&mut self.working) => Event::WorkDone(worked.map(Box::new)),
                saved = ended(&mut self.saving) => Event::Saved(saved),
                () = tokio::time::sleep_until(deadline) => Event::Tick,
            };
            let effects = room.handle(Instant::now(), event);
            self.carry_out(effects);
        }
        requests.close();
        self.end(room).await;
        // Queued requests fail only now, when the table can be opened again.
        drop(requests);
    }

    /// Closes the table of an ended room, so that it can be opened again.
    async fn end(mut self, mut room: Room) {
        self.service.rooms.forget(self.table_folder.id, &self.sender);
        room.cancel_rendering();
        room.cancel_compaction();
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        let last = room.last_save(Instant::now());
        self.carry_out(last);
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        let (record, left_at, close_waiters) = room.into_parts();
        let (store, table_folder) = (Arc::clone(&self.service.store), Arc::clone(&self.table_folder));
        // The table has been unused since then.
        let left = SystemTime::now().checked_sub(left_at.elapsed()).unwrap_or_else(SystemTime::now);
        let closed = tokio::task::spawn_blocking(move || store.close_table(&table_folder, &record, left));
        if let Ok(Err(error)) = closed.await {
            let why = Failure::from(error).message;
            tracing::warn!(table = %self.table_folder.id, why, "a table cannot be closed");
        }
        let service = Arc::clone(&self.service);
        service.counters.open.fetch_sub(1, Ordering::Relaxed);
        // The folder's lock is released before the table is reported as closed.
        drop(self);
        drop(close_waiters);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Render(job) => self.rendering = Some(self.render(*job)),
                Effect::RenderPrivate(job) => self.render_private(*job),
                Effect::UpdatePrivate(jobs) => self.update_private(jobs),
                Effect::Work(job) => self.working = Some(self.work(*job)),
                Effect::Save(job) => self.saving = Some(self.save(*job)),
                Effect::CompactLog(job) => self.compact_log(*job),
                Effect::CreateFile(job) => self.create_file(job),
                Effect::StartUpload { file, number, is_first, size, progress, reply } => {
                    let Some(room) = self.sender.upgrade() else { continue };
                    let CreatedFile { name, writer, reserved } = *file;
                    let job = UploadJob {
                        number,
                        writer,
                        store: Arc::clone(&self.service.store),
                        table_folder: Arc::clone(&self.table_folder),
                        file: name,
                        reserved,
                        is_first,
                        size,
                        progress,
                        room,
                    };
                    // An uploader that has disconnected drops its handle, which aborts the upload.
                    let _ = reply.send(Ok(upload_thread::start(job)));
                }
                Effect::Discard(file) => {
                    let (store, table_folder) =
                        (Arc::clone(&self.service.store), Arc::clone(&self.table_folder));
                    tokio::task::spawn_blocking(move || store.discard(&table_folder, &file));
                }
                Effect::Touch => self.touch(),
                Effect::Snapshot(reply, snapshot) => {
                    let SnapshotState { view, article, info, file, facts } = *snapshot;
                    let (folder, table_folder) =
                        (self.table_folder.file(&file), Arc::clone(&self.table_folder));
                    let _ = reply.send(Ok(Snapshot { view, article, info, folder, facts, table_folder }));
                }
                Effect::Notify(status, record) => {
                    let record = record.map(|record| *record);
                    self.service.send_status(self.table_folder.id, *status, record);
                }
                Effect::Publish(view) => self.service.publish(self.table_folder.id, view),
                Effect::Unregister => self.service.rooms.forget(self.table_folder.id, &self.sender),
                Effect::Delete => self.delete(),
            }
        }
    }

    fn render(&self, job: RenderJob) -> JoinHandle<Result<Page, Error>> {
        let RenderJob { wanted, cancel, done } = job;
        let service = Arc::clone(&self.service);
        let needs_query = page::needs_query(&wanted);
        let name = if needs_query { "table query" } else { "table page" };
        let mut span = service.observers.tracer.operation(name, SpanKind::Internal);
        if span.is_recorded() {
            span.set("tidings.table", self.table_folder.id.to_string());
        }
        tokio::spawn(async move {
            let summary = wanted.reading.summary();
            span.set("tidings.rows", summary.rows);
            let _permit = match needs_query {
                true => service.queries.query(&summary).await,
                false => service.queries.window(&summary).await,
            };
            let made = tokio::task::spawn_blocking(move || {
                let report = |part: f32| done.store(part.to_bits(), Ordering::Relaxed);
                page::make(&wanted, Control::default().cancelled_by(&cancel).with_progress(&report))
            });
            let made = made.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            if let Err(error) = &made {
                span.fail(error);
            }
            made
        })
    }

    fn render_private(&self, job: PrivateJob) {
        let PrivateJob { viewer, number, render: RenderJob { wanted, cancel, .. }, mut stopped } = job;
        let (service, room) = (Arc::clone(&self.service), self.sender.clone());
        tokio::spawn(async move {
            let summary = wanted.reading.summary();
            let needs_query = page::needs_query(&wanted);
            let permit = async {
                match needs_query {
                    true => {
                        let (turn, permit) = service.queries.private_query(&summary).await;
                        (turn, permit)
                    }
                    false => (None, service.queries.window(&summary).await),
                }
            };
            let made = tokio::select! {
                permit = permit => {
                    let made = tokio::task::spawn_blocking(move || {
                        let _permit = permit;
                        page::make(&wanted, Control::default().cancelled_by(&cancel))
                    });
                    made.await.ok()
                }
                _ = &mut stopped => Some(Err(Error::Cancelled)),
            };
            if let Some(room) = room.upgrade() {
                let made = made.map(Box::new);
                let rendered = RoomRequest::PrivateRendered { viewer, number, is_full: true, made };
                let _ = room.send(rendered).await;
            }
        });
    }

    fn update_private(&self, jobs: Vec<PrivateJob>) {
        let (service, room) = (Arc::clone(&self.service), self.sender.clone());
        tokio::spawn(async move {
            let Some(summary) = jobs.first().map(|job| job.render.wanted.reading.summary()) else { return };
            // One page is in memory at a time.
            let permit = service.queries.window(&summary).await;
            let updated = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                for PrivateJob { viewer, number, render, .. } in jobs {
                    let control = Control::default().cancelled_by(&render.cancel);
                    let make = || page::make(&render.wanted, control);
                    // The other views of the round are updated nevertheless.
                    let made = catch_unwind(AssertUnwindSafe(make)).ok().map(Box::new);
                    let Some(room) = room.upgrade() else { return };
                    let rendered = RoomRequest::PrivateRendered { viewer, number, is_full: false, made };
                    if room.blocking_send(rendered).is_err() {
                        return;
                    }
                }
            });
            let _ = updated.await;
        });
    }

    fn work(&self, job: WorkJob) -> JoinHandle<WorkResult> {
        let WorkJob { work, file, writer, choice, key, uploader, cancel, done } = job;
        let (table_folder, limits, room) = (Arc::clone(&self.table_folder), self.limits, self.sender.clone());
        let store = Arc::clone(&self.service.store);
        let quota = self.service.access.quota(&uploader);
        let (live, budget) = (Arc::clone(&self.live), self.service.live.clone());
        tokio::task::spawn_blocking(move || {
            let mut live = live.lock().unwrap_or_else(PoisonError::into_inner);
            let file = &*file;
            let report = |part: f32| done.store(part.to_bits(), Ordering::Relaxed);
            let control = Control::default().cancelled_by(&cancel).with_progress(&report);
            let show = |table: &Table| {
                if let Some(room) = room.upgrade() {
                    let _ = room.blocking_send(RoomRequest::Opening(table.clone()));
                }
            };
            let open_within = |show: &dyn Fn(&Table)| {
                let charge = store.charge(&table_folder, file);
                Writer::open_within(charge, &table_folder.file(file), choice.clone(), limits, control, show)
            };
            let reopen = || Ok(open_within(&|_| {})?);
            let open = || {
                store.prepare(&table_folder, file)?;
                let mut writer = open_within(&show)?;
                let mut shown = writer.table().reading().summary().rows;
                store.catch_up(&table_folder, file, &mut writer, control, &mut |writer, part| {
                    report(part);
                    let rows = writer.table().reading().summary().rows;
                    if shown < FIRST_PAGE_ROWS && rows >= FIRST_PAGE_ROWS {
                        shown = rows;
                        show(writer.table());
                    }
                })?;
                Ok(writer)
            };
            work::run(
                work,
                writer,
                &mut live,
                &WorkContext {
                    store: &store,
                    table_folder: &table_folder,
                    file,
                    control,
                    quota,
                    key: &key,
                    budget: &budget,
                    open: &open,
                    reopen: &reopen,
                },
            )
        })
    }

    fn save(&self, job: SaveJob) -> JoinHandle<SaveResult> {
        let SaveJob { record, is_table, obsolete } = job;
        let (store, table_folder) = (Arc::clone(&self.service.store), Arc::clone(&self.table_folder));
        tokio::task::spawn_blocking(move || {
            let saved = match is_table {
                true => store.save(&table_folder, &record),
                false => store.remove_record(&table_folder).map(|()| SaveOutcome::Stored),
            };
            if !matches!(saved, Ok(SaveOutcome::Stored)) {
                return (saved, obsolete);
            }
            // A file that cannot be removed now is removed by a sweep.
            for file in obsolete {
                if let Err(error) = store.remove_file(&table_folder, &file) {
                    let why = Failure::from(error).message;
                    tracing::warn!(table = %table_folder.id, why, "a replaced file of a table cannot be removed yet");
                }
            }
            (saved, Vec::new())
        })
    }

    fn compact_log(&self, job: CompactJob) {
        let (service, table_folder, limits) =
            (Arc::clone(&self.service), Arc::clone(&self.table_folder), self.limits);
        let room = self.sender.clone();
        tokio::spawn(async move {
            let _permit = service.compactions.acquire().await;
            let (store, file) = (Arc::clone(&service.store), job.file.clone());
            let prepared =
                tokio::task::spawn_blocking(move || compaction::prepare(job, &store, &table_folder, limits));
            let prepared = Box::new(prepared.await.unwrap_or_else(|_| Err(Failure::internal())));
            // A room that has ended meanwhile drops the new file, which removes it.
            if let Some(room) = room.upgrade() {
                let _ = room.send(RoomRequest::LogPrepared { file, prepared }).await;
            }
        });
    }

    fn create_file(&self, job: CreateJob) {
        let CreateJob { number, quota, choice, reply } = job;
        let Some(room) = self.sender.upgrade() else { return };
        let (store, table_folder, limits) =
            (Arc::clone(&self.service.store), Arc::clone(&self.table_folder), self.limits);
        tokio::task::spawn_blocking(move || {
            let create = || {
                let name = table_folder.new_file()?;
                // The upload reserves its bytes itself, because eviction may take a while.
                let reserved = store.reserve(0, quota, Some(&name))?;
                let charge = store.charge(&table_folder, &name);
                let writer = Writer::create_within(charge, &table_folder.file(&name), choice, limits)
                    .inspect_err(|_| {
                        table_folder.remove_file(&name);
                    })?;
                Ok::<_, StoreError>(CreatedFile { name, writer, reserved })
            };
            let created = Box::new(create().map_err(Failure::from));
            let sent = room.blocking_send(RoomRequest::FileCreated { number, created, reply });
            if let Err(mpsc::error::SendError(RoomRequest::FileCreated { created, .. })) = sent
                && let Ok(file) = *created
            {
                store.discard(&table_folder, &file.name);
            }
        });
    }

    fn touch(&self) {
        let table_folder = Arc::clone(&self.table_folder);
        tokio::task::spawn_blocking(move || {
            // A record that is not written yet will have the current time.
            if let Err(error) = table_folder.set_last_used(SystemTime::now())
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, table = %table_folder.id, "the time of a table's last use cannot be saved");
            }
        });
    }

    fn delete(&mut self) {
        let (store, table_folder) = (Arc::clone(&self.service.store), Arc::clone(&self.table_folder));
        let (saving, service, id) = (self.saving.take(), Arc::clone(&self.service), self.table_folder.id);
        service.deleting().insert(id);
        tokio::spawn(async move {
            // A running save must not write the record after the removal.
            if let Some(saving) = saving {
                let _ = saving.await;
            }
            let removed = tokio::task::spawn_blocking(move || {
                if let Err(error) = store.delete(&table_folder) {
                    let why = Failure::from(error).message;
                    tracing::warn!(table = %table_folder.id, why, "a deleted table cannot be removed from the store; a sweep removes it after tables.keep");
                }
            });
            let _ = removed.await;
            service.deleting().remove(&id);
        });
    }
}
