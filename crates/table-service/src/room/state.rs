//! The room of a table as a state machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_table::{Limits, Reading, Table, Writer};
use tokio::sync::{mpsc, watch};

use super::effect::{Effect, Event};
use super::members::Viewers;
use super::nodes::RemoteViewers;
use super::rendering::ViewState;
use super::saving::Saving;
use super::timers::{Timer, Timers};
use super::uploads::RunningUpload;
use super::writing::WorkQueue;
use super::{FactsCache, RESTART, RoomRequest, SnapshotReply};
use crate::broadcast::{End, Form, ViewBroadcast};
use crate::counters::Counters;
use crate::failure::Failure;
use crate::id::TableId;
use crate::message::{self, PageText};
use crate::node_messages::MessageKind;
use crate::outbox::Outbox;
use crate::page::CachedView;
use crate::record::Record;
use crate::upload::ActiveUploads;

/// How long a table without viewers stays in memory, unless `tables.keep` is less.
const LINGER: Duration = Duration::from_secs(30);
/// How long other nodes may take to answer the first message about a table.
const ASKED: Duration = Duration::from_secs(1);
/// The time between two progress messages.
const TICK: Duration = Duration::from_millis(200);

/// The constants of a room.
pub(super) struct Settings {
    pub(super) id: TableId,
    /// The number of this process among those that share the store.
    pub(super) node: u64,
    pub(super) has_other_nodes: bool,
    /// How long an unused table is kept.
    pub(super) keep: Duration,
    /// The bounds of a file.
    pub(super) limits: Limits,
    /// The least time between two writes of the record.
    pub(super) pace: Duration,
    /// How often the record is written although nothing has changed; `None`: a lock shows
    /// that the table is in use.
    pub(super) lease: Option<Duration>,
    pub(super) counters: Arc<Counters>,
    /// All uploads of this process.
    pub(super) uploads: Arc<ActiveUploads>,
    /// Where viewers and uploads send their requests.
    pub(super) asks: mpsc::WeakSender<RoomRequest>,
}

/// A file that can be viewed.
pub(super) struct OpenFile {
    pub(super) file: String,
    /// As its uploader calls it; the record may name another file already, which is being fetched.
    pub(super) name: String,
    pub(super) table: Table,
    /// `None` while it is being used, or while rows arrive.
    pub(super) writer: Option<Writer>,
    /// Whether rows still arrive.
    pub(super) loading: bool,
    pub(super) facts: FactsCache,
}

/// See the module.
pub(super) struct Room {
    pub(super) settings: Settings,
    /// The time of the current event.
    pub(super) now: Instant,
    pub(super) record: Record,
    pub(super) data: Option<OpenFile>,
    pub(super) viewers: Viewers,
    pub(super) view: ViewState,
    pub(super) upload: Option<RunningUpload>,
    pub(super) work: WorkQueue,
    pub(super) saving: Saving,
    pub(super) remote: RemoteViewers,
    /// Requests for a snapshot that wait for the first page.
    pub(super) snapshots: Vec<SnapshotReply>,
    pub(super) timers: Timers,
    /// What the current event has ordered.
    pub(super) effects: Vec<Effect>,
    /// Whether the room has ended.
    pub(super) over: bool,
    /// Dropped after everything that holds the table's place.
    pub(super) put_away: Vec<std::sync::mpsc::Sender<()>>,
}

impl Room {
    /// A room with this record, and the effects of its start.
    pub(super) fn new(settings: Settings, record: Record, now: Instant) -> (Self, Vec<Effect>) {
        let mut board = ViewBroadcast::default();
        if record.locks.any() {
            board.set_locks(message::locks(record.locks));
        }
        let mut timers = Timers::default();
        timers.set(Timer::Idle, now + LINGER.min(settings.keep));
        timers.set(Timer::Progress, now + TICK);
        timers.set(Timer::Touch, now);
        timers.set(Timer::Save, now);
        if settings.has_other_nodes {
            timers.set(Timer::RemoteFile, now + ASKED);
        }
        let mut room = Self {
            settings,
            now,
            data: None,
            viewers: Viewers::new(now),
            view: ViewState::new(watch::Sender::new(board), record.shown.clone(), now),
            upload: None,
            work: WorkQueue::default(),
            saving: Saving::default(),
            remote: RemoteViewers::default(),
            snapshots: Vec::new(),
            timers,
            effects: Vec::new(),
            over: false,
            put_away: Vec::new(),
            record,
        };
        if room.record.file.is_some() {
            room.open_again();
        }
        room.notify_nodes(MessageKind::Hello);
        let effects = std::mem::take(&mut room.effects);
        (room, effects)
    }

    /// Handles an event, and then what is due. Returns the effects, in order.
    pub(super) fn handle(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Request(ask) => self.take(ask),
            Event::Rendered(made) => self.on_page(made),
            Event::WorkDone(worked) => self.on_work_done(worked),
            Event::Saved(saved) => self.on_saved(saved),
            Event::Tick => {}
        }
        for timer in Timer::ALL {
            if self.timers.is_due(timer, now) && self.is_enabled(timer) {
                self.fire(timer);
            }
        }
        if self.data.is_none() && self.record.file.is_none() && self.timers.get(Timer::RemoteFile).is_none() {
            self.fail_snapshots(&Failure::empty());
        }
        std::mem::take(&mut self.effects)
    }

    /// When [`Event::Tick`] is due at the latest.
    pub(super) fn next_deadline(&self) -> Instant {
        self.timers.next(|timer| self.is_enabled(timer)).unwrap_or(self.now + LINGER)
    }

    /// Whether the deadline of a timer means anything now.
    fn is_enabled(&self, timer: Timer) -> bool {
        match timer {
            Timer::Progress => self.is_busy(),
            Timer::Touch => self.is_touched(),
            Timer::Render => self.view.rendering.is_none(),
            Timer::Save => self.saving.is_dirty && !self.saving.is_running,
            Timer::Idle => self.viewers.is_empty() && !self.is_busy(),
            Timer::ViewerCount | Timer::Announce | Timer::RemoteFile | Timer::Reopen => true,
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Progress => {
                self.timers.set(timer, self.now + TICK);
                self.send_progress(false);
                self.show_growing();
            }
            Timer::Touch => self.touch(),
            Timer::Render => self.render(),
            Timer::ViewerCount => {
                self.timers.clear(timer);
                // Without a first page there is nothing to send again.
                if self.view.content > 0 {
                    self.post(true);
                }
                self.notify_nodes(MessageKind::Here);
            }
            Timer::Announce => self.announce(),
            Timer::RemoteFile => self.timers.clear(timer),
            Timer::Reopen => {
                // Until it is known whether the file could be opened.
                self.timers.set(timer, self.now + LINGER);
                self.open_again();
            }
            Timer::Save => self.save(),
            Timer::Idle => self.over = true,
        }
    }

    /// What remains when the room has ended: the record, when the table was in use last, and the callers that wait until the
    /// table is closed.
    pub(super) fn into_parts(self) -> (Record, Instant, Vec<std::sync::mpsc::Sender<()>>) {
        (self.record, self.viewers.left_at, self.put_away)
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn is_busy(&self) -> bool {
        self.upload.is_some() || self.view.rendering.is_some() || self.work.running.is_some()
    }

    /// The table is in use now: it stays in memory for a while from now on.
    pub(super) fn keep_open(&mut self) {
        self.viewers.left_at = self.now;
        self.timers.set(Timer::Idle, self.now + LINGER.min(self.settings.keep));
    }

    fn take(&mut self, ask: RoomRequest) {
        match ask {
            RoomRequest::Join(join) => self.join(join),
            RoomRequest::Leave(viewer) => self.leave(viewer),
            RoomRequest::Do { viewer, command, done } => self.command(viewer, command, done),
            RoomRequest::Upload { viewer, name, size, quota, reply } => {
                self.begin_upload(viewer, name, size, quota, reply);
            }
            RoomRequest::Own { viewer, secret, reply } => {
                let _ = reply.send(self.claim_ownership(viewer, &secret));
            }
            RoomRequest::FileCreated { number, created, reply } => self.file_created(number, *created, reply),
            RoomRequest::FirstRows { number, table } => self.first_rows(number, table),
            RoomRequest::UploadEnded { number, outcome, reserved, end } => {
                self.upload_ended(number, outcome, reserved);
                let _ = end.send(());
            }
            RoomRequest::Opening(table) => self.opening(table),
            RoomRequest::MayAppend { secret, reply } => {
                let _ = reply.send(self.may_append(&secret));
            }
            RoomRequest::Append { rows, secret, reply } => self.append(rows, &secret, reply),
            RoomRequest::Snapshot(reply) => self.request_snapshot(reply),
            RoomRequest::NodeMessage(message) => self.on_node_message(*message),
            RoomRequest::PutAway(held) => {
                let is_used = self.is_busy() || !self.work.waiting.is_empty() || !self.snapshots.is_empty();
                if self.viewers.is_empty() && !is_used {
                    self.over = true;
                    self.put_away.push(held);
                }
            }
            RoomRequest::Stop(within) => {
                self.finish(End { error: None, code: RESTART, within });
                self.over = self.viewers.is_empty();
            }
        }
    }

    /// Ends the broadcast: no view follows.
    pub(super) fn finish(&mut self, end: End) {
        self.view.board.send_modify(|board| board.end(end));
        // The room waits for its viewers from now on.
        self.keep_open();
    }

    /// The file as it is read now.
    pub(super) fn reading(&self) -> Option<Arc<Reading>> {
        self.data.as_ref().map(|data| data.table.reading())
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

    pub(super) fn text(&self, form: Form) -> Option<&Arc<PageText>> {
        self.view.page.as_ref().and_then(|page| page.text[form as usize].as_ref())
    }
}
