//! Tests of the room without a disk, a network or waiting: events in, effects out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_table::Limits;
use tidings_table_store::{Quota, Record, SaveOutcome, Stamp, StoreError, TableId};
use tokio::sync::{mpsc, oneshot};

use super::effect::{CreateJob, Effect, Event, SaveJob, UploadReply};
use super::state::{Room, Settings};
use super::timers::Timer;
use super::{JoinRequest, RoomRequest, Snapshot, ViewerHandle};
use crate::broadcast::ViewFormat;
use crate::command::{Command, UploadOptions};
use crate::failure::Failure;
use crate::node_messages::{MessageKind, NodeMessage};
use crate::outbox::Outbox;
use crate::people::Actor;
use crate::upload::{ActiveUploads, Upload};

mod cursors;
mod keys;
mod people;
mod private;

const SECRET: &str = "secret";

/// A room, and the clock of its events.
struct TestRoom {
    room: Room,
    now: Instant,
    id: TableId,
    /// The effects of the start.
    started: Vec<Effect>,
    _asks: mpsc::Receiver<RoomRequest>,
    _sender: mpsc::Sender<RoomRequest>,
}

impl TestRoom {
    fn new(record: Record, has_other_nodes: bool) -> Self {
        let (sender, requests) = mpsc::channel(8);
        let (id, now) = (TableId::random(), Instant::now());
        let settings = Settings {
            id,
            node: 1,
            has_other_nodes,
            keep: Duration::from_secs(3600),
            keep_previous: Duration::from_secs(600),
            epoch: (now, 1_000_000),
            limits: Limits { original_bytes: 1_000, ..Limits::default() },
            compacts_logs: true,
            live: tidings_table_live::Budget::new(1 << 20),
            groups: tidings_table_group::Budget::default(),
            min_save_interval: Duration::from_secs(1),
            lease: None,
            counters: Arc::default(),
            uploads: Arc::new(ActiveUploads::new(0)),
            requests: sender.downgrade(),
        };
        let (room, started) = Room::new(settings, record, now);
        Self { room, now, id, started, _asks: requests, _sender: sender }
    }

    /// A room with a file that is being opened.
    fn with_file() -> Self {
        let mut test_room = Self::new(Record { file: Some("f-1".into()), ..Record::new(Some(SECRET)) }, true);
        assert!(
            test_room.started.iter().any(|effect| matches!(effect, Effect::Work(job) if job.file == "f-1"))
        );
        assert!(test_room.handle(Event::WorkDone(None)).is_empty());
        test_room
    }

    fn handle(&mut self, event: Event) -> Vec<Effect> {
        self.room.handle(self.now, event)
    }

    fn request(&mut self, request: RoomRequest) -> Vec<Effect> {
        self.handle(Event::Request(request))
    }

    /// Advances the clock from deadline to deadline, as the task does.
    fn wait(&mut self, time: Duration) -> Vec<Effect> {
        let (end, mut effects) = (self.now + time, Vec::new());
        while !self.room.has_ended() {
            self.now = self.room.next_deadline().max(self.now).min(end);
            effects.extend(self.handle(Event::Tick));
            if self.now >= end {
                break;
            }
        }
        self.now = end;
        effects
    }

    fn join(&mut self, secret: Option<&str>) -> (ViewerHandle, Arc<Outbox>) {
        let (reply, mut handle) = oneshot::channel();
        let outbox = Arc::new(Outbox::default());
        let secret = secret.map(ToOwned::to_owned);
        let join = JoinRequest {
            form: ViewFormat::Tables,
            secret,
            actor: Actor::Viewer,
            is_creator: false,
            outbox: Arc::clone(&outbox),
            reply,
        };
        self.request(RoomRequest::Join(join));
        (handle.try_recv().expect("a seat"), outbox)
    }

    fn upload(&mut self, viewer: u64) -> (Vec<Effect>, oneshot::Receiver<Result<Upload, Failure>>) {
        let (reply, response) = oneshot::channel();
        let quota = Quota::unlimited();
        let request = RoomRequest::Upload {
            viewer,
            options: UploadOptions { name: "a.tsv".into(), size: Some(10), ..UploadOptions::default() },
            quota,
            reply,
        };
        (self.request(request), response)
    }

    fn command(&mut self, viewer: u64, command: Command) -> (Vec<Effect>, Result<(), Failure>) {
        let (done, mut outcome) = oneshot::channel();
        let effects = self.request(RoomRequest::Command { viewer, command, done });
        (effects, outcome.try_recv().expect("a response"))
    }

    fn receive(&mut self, kind: MessageKind, viewers: u64, record: Option<Record>) -> Vec<Effect> {
        let (node, table) = (2, self.id.to_string());
        let message = NodeMessage {
            node,
            table,
            kind,
            viewers,
            received: 0,
            loading: None,
            record,
            changed_by: None,
            people: None,
        };
        self.request(RoomRequest::NodeMessage(Box::new(message)))
    }
}

fn created(effects: Vec<Effect>) -> (u64, UploadReply) {
    effects
        .into_iter()
        .find_map(|effect| match effect {
            Effect::CreateFile(CreateJob { number, reply, .. }) => Some((number, reply)),
            _ => None,
        })
        .expect("an effect that creates a file")
}

fn saves(effects: Vec<Effect>) -> Vec<SaveJob> {
    let save = |effect| if let Effect::Save(job) = effect { Some(*job) } else { None };
    effects.into_iter().filter_map(save).collect()
}

fn text(frames: impl IntoIterator<Item = Bytes>) -> String {
    frames.into_iter().map(|frame| String::from_utf8_lossy(&frame).into_owned()).collect()
}

fn code<T>(outcome: Result<Result<T, Failure>, oneshot::error::TryRecvError>) -> u16 {
    outcome.expect("a response").map(|_| ()).expect_err("an error").code
}

#[test]
fn a_room_ends_half_a_minute_after_its_last_use() {
    let mut test_room = TestRoom::new(Record::new(None), false);
    let (handle, _) = test_room.join(None);
    test_room.room.record.file = Some("f-1".into());
    test_room.wait(Duration::from_secs(300));
    assert!(!test_room.room.has_ended());
    test_room.request(RoomRequest::Leave(handle.viewer));
    test_room.wait(Duration::from_secs(29));
    assert!(!test_room.room.has_ended());
    test_room.wait(Duration::from_secs(2));
    assert!(test_room.room.has_ended());
}

#[test]
fn appended_rows_are_shown_soon_however_many_appends_precede_them() {
    let mut test_room = TestRoom::with_file();
    for _ in 0..1_000 {
        test_room.room.show_appended();
        test_room.wait(Duration::from_millis(1));
    }
    test_room.room.show_appended();
    let shown = test_room.room.timers.get(Timer::Render).expect("a deadline");
    assert!(shown <= test_room.now + Duration::from_millis(50), "{:?} later", shown - test_room.now);
}

#[test]
fn no_other_upload_begins_while_the_file_of_an_upload_is_created() {
    let mut test_room = TestRoom::new(Record::new(Some(SECRET)), true);
    let (handle, _) = test_room.join(Some(SECRET));
    let (effects, mut response) = test_room.upload(handle.viewer);
    let (number, reply) = created(effects);
    assert!(response.try_recv().is_err(), "the upload began before its file was created");
    assert_eq!(code(test_room.upload(handle.viewer).1.try_recv()), 409);
    // The room stays open without viewers.
    test_room.request(RoomRequest::Leave(handle.viewer));
    test_room.wait(Duration::from_secs(60));
    assert!(!test_room.room.has_ended());
    let failed = Box::new(Err(Failure::new(507, "the disk is full")));
    let effects = test_room.request(RoomRequest::FileCreated { number, created: failed, reply });
    assert!(saves(effects).is_empty(), "a record was written for an upload that never began");
    assert_eq!(code(response.try_recv()), 507);
    let (handle, _) = test_room.join(None);
    created(test_room.upload(handle.viewer).0);
}

#[test]
fn a_lock_stops_the_upload_of_another_viewer_before_its_first_byte() {
    let mut test_room = TestRoom::new(Record::new(Some(SECRET)), false);
    let ((owner, _), (other, _)) = (test_room.join(Some(SECRET)), test_room.join(None));
    assert!(owner.is_owner && !other.is_owner);
    let (effects, _response) = test_room.upload(other.viewer);
    created(effects);
    let lock = Command::Lock { uploads: Some(true), view: None };
    assert_eq!(test_room.command(other.viewer, lock.clone()).1.expect_err("not the owner").code, 403);
    assert_eq!(test_room.command(owner.viewer, lock).1, Ok(()));
    let upload = test_room.room.upload.as_ref().expect("the upload");
    assert_eq!(upload.progress.stopped().expect("a reason").code, 403);
}

#[test]
fn one_record_is_written_at_a_time_and_a_failed_write_is_repeated_with_its_files() {
    let mut test_room = TestRoom::with_file();
    let (owner, _) = test_room.join(Some(SECRET));
    let lock = |on| Command::Lock { uploads: Some(on), view: None };
    test_room.room.saving.obsolete.push("f-0".into());
    let first = saves(test_room.command(owner.viewer, lock(true)).0);
    assert_eq!((first.len(), &first[0].obsolete[..]), (1, &["f-0".to_owned()][..]));
    assert!(saves(test_room.command(owner.viewer, lock(false)).0).is_empty(), "two writes at once");
    let unavailable = StoreError::Unavailable("away");
    let effects = test_room.handle(Event::Saved(Some((Err(unavailable), first[0].obsolete.clone()))));
    assert!(saves(effects).is_empty());
    assert!(saves(test_room.wait(Duration::from_secs(4))).is_empty(), "the retry comes too early");
    let second = saves(test_room.wait(Duration::from_secs(2)));
    assert_eq!((second.len(), &second[0].obsolete[..]), (1, &["f-0".to_owned()][..]));
    assert!(!second[0].record.locks.uploads, "an old record is written");
    test_room.handle(Event::Saved(Some((Ok(SaveOutcome::Stored), Vec::new()))));
    assert!(saves(test_room.wait(Duration::from_secs(1))).is_empty());
}

#[test]
fn viewers_of_other_nodes_count_until_the_timeout_of_their_node() {
    let mut test_room = TestRoom::new(Record::new(None), true);
    let (_seat, _) = test_room.join(None);
    test_room.receive(MessageKind::Here, 3, None);
    assert_eq!(test_room.room.viewer_count(), 4);
    let effects = test_room.wait(Duration::from_secs(11));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Notify(status, _) if status.kind == MessageKind::Here))
    );
    assert_eq!(test_room.room.viewer_count(), 4);
    test_room.wait(Duration::from_secs(30));
    assert_eq!(test_room.room.viewer_count(), 1);
}

#[test]
fn a_newer_record_of_another_node_replaces_the_file_and_an_older_one_does_not() {
    let mut test_room = TestRoom::with_file();
    let newer = Record {
        file: Some("f-2".into()),
        stamp: Stamp { version: 7, node: 2 },
        version: 7,
        ..Record::new(None)
    };
    let effects = test_room.receive(MessageKind::Changed, 0, Some(newer));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Work(job) if job.file == "f-2")));
    let saved = saves(effects);
    assert_eq!(
        (saved[0].record.file.as_deref(), &saved[0].obsolete[..]),
        (Some("f-2"), &["f-1".to_owned()][..])
    );
    let older = Record { file: Some("f-3".into()), version: 3, ..Record::new(None) };
    let effects = test_room.receive(MessageKind::Changed, 0, Some(older));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Work(_) | Effect::Save(_))));
    assert_eq!(test_room.room.record.file.as_deref(), Some("f-2"));
}

#[test]
fn an_unavailable_file_is_opened_again_and_viewers_receive_one_error() {
    let mut test_room = TestRoom::with_file();
    let (_seat, outbox) = test_room.join(None);
    let mut times = 0;
    test_room.room.open_again();
    for _ in 0..3 {
        let effects = test_room.wait(Duration::from_secs(6));
        times += effects.iter().filter(|effect| matches!(effect, Effect::Work(_))).count();
        let away = super::work::WorkResult::not_opened(StoreError::Unavailable("the store is away"));
        test_room.handle(Event::WorkDone(Some(Box::new(away))));
    }
    assert_eq!(times, 3);
    let frames = text(outbox.take().frames);
    assert_eq!(frames.matches("the store is away").count(), 1, "{frames}");
}

#[test]
fn a_snapshot_of_an_empty_table_waits_for_other_nodes_for_a_second() {
    let mut test_room = TestRoom::new(Record::new(None), true);
    let (reply, mut response) = oneshot::channel::<Result<Snapshot, Failure>>();
    test_room.request(RoomRequest::Snapshot(reply));
    test_room.wait(Duration::from_millis(900));
    assert!(response.try_recv().is_err());
    test_room.wait(Duration::from_millis(200));
    assert_eq!(code(response.try_recv()), 409);
    let (reply, mut response) = oneshot::channel::<Result<Snapshot, Failure>>();
    test_room.request(RoomRequest::Snapshot(reply));
    assert_eq!(code(response.try_recv()), 409);
}

#[test]
fn a_deleted_table_is_removed_and_its_viewers_receive_the_reason() {
    let mut test_room = TestRoom::with_file();
    let (owner, _) = test_room.join(Some(SECRET));
    let (effects, outcome) = test_room.command(owner.viewer, Command::Delete);
    assert_eq!(outcome, Ok(()));
    let has = |expected: fn(&Effect) -> bool| effects.iter().any(expected);
    assert!(
        has(|effect| matches!(effect, Effect::Delete)) && has(|effect| matches!(effect, Effect::Unregister))
    );
    assert!(has(|effect| matches!(effect, Effect::Notify(status, _) if status.kind == MessageKind::Gone)));
    assert!(test_room.room.view.broadcast.borrow().has_ended() && !test_room.room.has_ended());
    test_room.request(RoomRequest::Leave(owner.viewer));
    assert!(test_room.room.has_ended());
}
