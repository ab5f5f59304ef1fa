//! The room of a table as a state machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_table::{Limits, Reading, Table, Writer};
use tidings_table_live::Budget;
use tidings_table_store::{Record, TableId};
use tokio::sync::{mpsc, watch};

use super::compaction::Compaction;
use super::effect::{Effect, Event};
use super::history::History;
use super::members::Viewers;
use super::nodes::RemoteViewers;
use super::people::People;
use super::private::PrivateViews;
use super::rendering::ViewState;
use super::saving::Saving;
use super::timers::{Timer, Timers};
use super::uploads::RunningUpload;
use super::writing::WorkQueue;
use super::{CLOSE_RESTART, FactsCache, RoomRequest, SnapshotReply};
use crate::broadcast::{BroadcastEnd, ViewBroadcast, ViewFormat};
use crate::counters::Counters;
use crate::failure::Failure;
use crate::message::{self, PageText};
use crate::node_messages::MessageKind;
use crate::outbox::Outbox;
use crate::page::CachedView;
use crate::upload::ActiveUploads;

/// The time that an unused table stays open, unless `tables.keep` is shorter.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// The time for responses of other nodes to the first message about a table.
const REMOTE_REPLY_TIME: Duration = Duration::from_secs(1);
/// The interval of progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// The constants of a room.
pub struct Settings {
    /// The id of the table.
    pub id: TableId,
    /// The number of this process, unique among those that share the store.
    pub node: u64,
    /// Whether other nodes share the store.
    pub has_other_nodes: bool,
    /// The time after which an unused table is removed.
    pub keep: Duration,
    /// The time for which a replaced file can be restored.
    pub keep_previous: Duration,
    /// The start of the room in both clocks, and the seconds since 1970.
    pub epoch: (Instant, u64),
    /// The limits of a file.
    pub limits: Limits,
    /// Whether the store can compact the logs of rows with a key.
    pub compacts_logs: bool,
    /// The memory of keys and live views of all tables.
    pub live: Budget,
    /// The least time between two writes of the record.
    pub min_save_interval: Duration,
    /// The interval of writes of an unchanged record; `None`: a lock marks the table as used.
    pub lease: Option<Duration>,
    /// The counters of the process.
    pub counters: Arc<Counters>,
    /// The memory of the groups of all views of this process.
    pub groups: tidings_table_group::Budget,
    /// All uploads of this process.
    pub uploads: Arc<ActiveUploads>,
    /// The sender of requests to this room.
    pub requests: mpsc::WeakSender<RoomRequest>,
}

/// A file that can be viewed.
pub(super) struct OpenFile {
    pub(super) file: String,
    /// The uploader's name for the file. The record may already name another file, which is being fetched.
    pub(super) name: String,
    pub(super) table: Table,
    /// `None` while it is in use, or while rows arrive.
    pub(super) writer: Option<Writer>,
    /// Whether rows are still arriving.
    pub(super) loading: bool,
    pub(super) facts: FactsCache,
}

/// The state of a room. See the module.
pub struct Room {
    pub(super) settings: Settings,
    /// The time of the current event.
    pub(super) now: Instant,
    pub(super) record: Record,
    pub(super) open_file: Option<OpenFile>,
    pub(super) viewers: Viewers,
    pub(super) view: ViewState,
    pub(super) upload: Option<RunningUpload>,
    pub(super) work: WorkQueue,
    pub(super) saving: Saving,
    pub(super) compaction: Compaction,
    pub(super) remote: RemoteViewers,
    pub(super) people: People,
    pub(super) private: PrivateViews,
    pub(super) history: History,
    /// Requests for a snapshot that wait for the first page.
    pub(super) snapshots: Vec<SnapshotReply>,
    pub(super) timers: Timers,
    /// The effects of the current event.
    pub(super) effects: Vec<Effect>,
    /// Whether the room has ended.
    pub(super) has_ended: bool,
    /// Dropped after everything that holds the lock of the table's folder.
    pub(super) close_waiters: Vec<std::sync::mpsc::Sender<()>>,
}

impl Room {
    /// A room with this record, and the effects of its start.
    pub fn new(settings: Settings, record: Record, now: Instant) -> (Self, Vec<Effect>) {
        let mut broadcast = ViewBroadcast::default();
        if record.locks.any() {
            broadcast.set_locks(message::locks(record.locks));
        }
        let mut timers = Timers::default();
        timers.set(Timer::Idle, now + IDLE_TIME.min(settings.keep));
        timers.set(Timer::Progress, now + PROGRESS_INTERVAL);
        timers.set(Timer::Touch, now);
        timers.set(Timer::Save, now);
        if settings.has_other_nodes {
            timers.set(Timer::RemoteFile, now + REMOTE_REPLY_TIME);
        }
        let mut room = Self {
            settings,
            now,
            open_file: None,
            viewers: Viewers::new(now),
            view: ViewState::new(watch::Sender::new(broadcast), record.view.clone(), now),
            upload: None,
            work: WorkQueue::default(),
            saving: Saving::default(),
            compaction: Compaction::default(),
            remote: RemoteViewers::default(),
            people: People::default(),
            private: PrivateViews::default(),
            history: History::default(),
            snapshots: Vec::new(),
            timers,
            effects: Vec::new(),
            has_ended: false,
            close_waiters: Vec::new(),
            record,
        };
        if room.record.file.is_some() {
            room.open_again();
        }
        room.await_previous();
        room.notify_nodes(MessageKind::Hello);
        let effects = std::mem::take(&mut room.effects);
        (room, effects)
    }

    /// Handles an event, and then due timers. Returns the effects, in order.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Request(request) => self.take(request),
            Event::Rendered(made) => self.on_page(*made),
            Event::WorkDone(worked) => self.on_work_done(worked),
            Event::Saved(saved) => self.on_saved(saved),
            Event::Tick => {}
        }
        for timer in Timer::ALL {
            if self.timers.is_due(timer, now) && self.is_enabled(timer) {
                self.fire(timer);
            }
        }
        self.start_private();
        if self.open_file.is_none()
            && self.record.file.is_none()
            && self.timers.get(Timer::RemoteFile).is_none()
        {
            self.fail_snapshots(&Failure::empty());
        }
        std::mem::take(&mut self.effects)
    }

    /// The time at which [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Instant {
        self.timers.next(|timer| self.is_enabled(timer)).unwrap_or(self.now + IDLE_TIME)
    }

    /// Whether the deadline of a timer is relevant now.
    fn is_enabled(&self, timer: Timer) -> bool {
        match timer {
            Timer::Progress => self.is_busy(),
            Timer::Touch => self.needs_touch(),
            Timer::Render => self.view.rendering.is_none(),
            Timer::Save => self.saving.is_dirty && !self.saving.is_running,
            Timer::Idle => self.viewers.is_empty() && !self.is_busy(),
            Timer::Private => !self.private.is_empty(),
            Timer::ViewerCount
            | Timer::People
            | Timer::Previous
            | Timer::Announce
            | Timer::RemoteFile
            | Timer::Reopen => true,
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Progress => {
                self.timers.set(timer, self.now + PROGRESS_INTERVAL);
                self.send_progress(false);
                self.show_growing();
            }
            Timer::Touch => self.touch(),
            Timer::Render => self.render(),
            Timer::ViewerCount => {
                self.timers.clear(timer);
                // Without a first page there is nothing to send.
                if self.view.content > 0 {
                    self.broadcast(true);
                }
                self.notify_nodes(MessageKind::Here);
            }
            Timer::People => self.send_people(),
            Timer::Private => self.refresh_private(),
            Timer::Previous => self.remove_previous(),
            Timer::Announce => self.announce(),
            Timer::RemoteFile => self.timers.clear(timer),
            Timer::Reopen => {
                // Waits until the result of opening the file is available.
                self.timers.set(timer, self.now + IDLE_TIME);
                self.open_again();
            }
            Timer::Save => self.save(),
            Timer::Idle => self.has_ended = true,
        }
    }

    /// The final state of an ended room: the record, the time of the table's last use, and the callers that wait until
    /// the table is closed.
    pub fn into_parts(self) -> (Record, Instant, Vec<std::sync::mpsc::Sender<()>>) {
        (self.record, self.viewers.left_at, self.close_waiters)
    }

    /// Whether the room has ended.
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(super) fn is_busy(&self) -> bool {
        self.upload.is_some()
            || self.view.rendering.is_some()
            || self.work.running.is_some()
            || self.is_compacting()
    }

    /// Marks the table as used now, so that it stays open for a while.
    pub(super) fn keep_open(&mut self) {
        self.viewers.left_at = self.now;
        self.timers.set(Timer::Idle, self.now + IDLE_TIME.min(self.settings.keep));
    }

    fn take(&mut self, request: RoomRequest) {
        match request {
            RoomRequest::Join(join) => self.join(join),
            RoomRequest::Leave(viewer) => self.leave(viewer),
            RoomRequest::Command { viewer, command, done } => self.command(viewer, command, done),
            RoomRequest::Upload { viewer, options, quota, reply } => {
                self.begin_upload(viewer, options, quota, reply);
            }
            RoomRequest::ClaimOwnership { viewer, secret, reply } => {
                let _ = reply.send(self.claim_ownership(viewer, &secret));
            }
            RoomRequest::FileCreated { number, created, reply } => self.file_created(number, *created, reply),
            RoomRequest::FirstRows { number, table } => self.first_rows(number, table),
            RoomRequest::UploadEnded { number, outcome, reserved, end } => {
                let _ = end.send(self.upload_ended(number, outcome, reserved));
            }
            RoomRequest::Opening(table) => self.on_first_rows_opened(table),
            RoomRequest::CheckAppend { secret, reply } => {
                let _ = reply.send(self.may_append(&secret));
            }
            RoomRequest::Append { rows, secret, reply } => self.append(rows, &secret, reply),
            RoomRequest::Snapshot(reply) => self.request_snapshot(reply),
            RoomRequest::PrivateRows { viewer, positions, reply } => {
                let _ = reply.send(self.private_rows(viewer, &positions));
            }
            RoomRequest::PrivateRendered { viewer, number, is_full, made } => {
                self.on_private(viewer, number, is_full, made.map(|made| *made));
            }
            RoomRequest::LogPrepared { file, prepared } => self.on_log_prepared(&file, *prepared),
            RoomRequest::Summary(reply) => {
                // The operator may have given up.
                let _ = reply.send(self.summary());
            }
            RoomRequest::Delete(reply) => {
                self.delete();
                let _ = reply.send(());
            }
            RoomRequest::NodeMessage(message) => self.on_node_message(*message),
            RoomRequest::CloseIdle(held) => {
                let is_used = self.is_busy() || !self.work.waiting.is_empty() || !self.snapshots.is_empty();
                if self.viewers.is_empty() && !is_used {
                    self.has_ended = true;
                    self.close_waiters.push(held);
                }
            }
            RoomRequest::Stop(within) => {
                self.finish(BroadcastEnd { error: None, code: CLOSE_RESTART, within });
                self.has_ended = self.viewers.is_empty();
            }
        }
    }

    /// Ends the broadcast: no view follows.
    pub(super) fn finish(&mut self, end: BroadcastEnd) {
        self.view.broadcast.send_modify(|broadcast| broadcast.end(end));
        // From now on the room waits for its viewers.
        self.keep_open();
    }

    /// The current state of the file.
    pub(super) fn reading(&self) -> Option<Arc<Reading>> {
        self.open_file.as_ref().map(|open_file| open_file.table.reading())
    }

    /// As [`Self::reading`], if its rows may be shown: those of a table with a key once all keys are read.
    pub(super) fn shown_reading(&self) -> Option<Arc<Reading>> {
        let open_file = self.open_file.as_ref()?;
        let reading = open_file.table.reading();
        let awaits_key = open_file.loading && !self.record.key.is_empty() && reading.overlay().is_none();
        (!awaits_key).then_some(reading)
    }

    pub(super) fn fail_snapshots(&mut self, failure: &Failure) {
        for reply in self.snapshots.drain(..) {
            let _ = reply.send(Err(failure.clone()));
        }
    }

    pub(super) const fn id(&self) -> TableId {
        self.settings.id
    }

    pub(super) fn outbox(&self, viewer: u64) -> Option<&Arc<Outbox>> {
        self.viewers.get(viewer).map(|viewer| &viewer.outbox)
    }

    pub(super) fn made_before(&self) -> [Option<CachedView>; 2] {
        self.view.page.as_ref().map(|page| page.made.clone()).unwrap_or_default()
    }

    pub(super) fn text(&self, form: ViewFormat) -> Option<&Arc<PageText>> {
        self.view.page.as_ref().and_then(|page| page.text[form as usize].as_ref())
    }
}
