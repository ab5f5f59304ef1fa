//! Tests of tables with a key, and of messages about changed cells.

use tidings_table::{Cancel, Cell, Page, Row};

use super::*;
use crate::counters::CompactionEnd;
use crate::message::{self, PageText};
use crate::room::{KeyRequest, Work, WorkOutcome, WorkResult};
use crate::rows::Rows;
use crate::upload::UploadOutcome;

fn key() -> Vec<String> {
    vec!["id".to_owned()]
}

fn append(test_room: &mut TestRoom, rows: Rows) -> (Vec<Effect>, Option<u16>) {
    let (reply, mut response) = oneshot::channel();
    let effects =
        test_room.request(RoomRequest::Append { rows: Arc::new(rows), secret: SECRET.into(), reply });
    (effects, response.try_recv().ok().map(|answer| answer.map(|_| ()).expect_err("an error").code))
}

#[test]
fn rows_are_replaced_by_key_only_in_a_table_with_a_key() {
    let mut test_room = TestRoom::with_file();
    let rows = || Rows::lines("1,a\n".into(), None).replacing();
    assert_eq!(append(&mut test_room, rows()).1, Some(409));
    let keys = Rows::keys_from_json(b"[1]", None).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(append(&mut test_room, keys).1, Some(409));
    test_room.room.record.key = key();
    let (effects, refused) = append(&mut test_room, rows());
    assert_eq!(refused, None);
    let is_keyed = |effect: &Effect| matches!(effect, Effect::Work(job) if job.key == key());
    assert!(effects.iter().any(is_keyed), "the work does not have the key");
}

#[test]
fn the_key_of_a_file_does_not_change_and_is_kept_only_after_its_rows_are_read() {
    let mut test_room = TestRoom::new(Record::new(Some(SECRET)), false);
    let (owner, _) = test_room.join(Some(SECRET));
    assert_eq!(test_room.command(owner.viewer, Command::Key(key())).1, Ok(()));
    assert_eq!(test_room.room.record.key, key(), "the key of the first file");
    let mut test_room = TestRoom::with_file();
    let ((owner, outbox), (other, _)) = (test_room.join(Some(SECRET)), test_room.join(None));
    test_room.command(owner.viewer, Command::Lock { uploads: Some(true), view: None }).1.expect("a lock");
    assert_eq!(test_room.command(other.viewer, Command::Key(key())).1.expect_err("locked").code, 403);
    let (done, mut outcome) = oneshot::channel();
    let command = Command::Key(key());
    let effects = test_room.request(RoomRequest::Command { viewer: owner.viewer, command, done });
    assert!(outcome.try_recv().is_err() && test_room.room.record.key.is_empty());
    let request = effects.into_iter().find_map(|effect| match effect {
        Effect::Work(job) => match job.work {
            Work::Key(request) => Some(request),
            _ => None,
        },
        _ => None,
    });
    let answer = WorkOutcome::Keyed(Ok(()), request.expect("work that reads the keys"));
    test_room.handle(Event::WorkDone(Some(Box::new(WorkResult { writer: None, answer }))));
    assert_eq!((outcome.try_recv(), &test_room.room.record.key), (Ok(Ok(())), &key()));
    for command in [Command::Key(vec!["n".into()]), Command::Key(vec![])] {
        assert_eq!(test_room.command(owner.viewer, command).1.expect_err("another key").code, 409);
    }
    // A file that came with a key that it does not have is shown without one, and the uploader receives the reason.
    outbox.take();
    let request = KeyRequest { key: key(), viewer: owner.viewer, author: None, done: None };
    test_room.room.on_keyed(Err(Failure::new(422, "no such column")), request);
    assert!(test_room.room.record.key.is_empty());
    assert!(text(outbox.take().frames).contains("no key now"));
}

#[test]
fn the_key_of_a_file_is_confirmed_only_after_its_rows_are_read_also_when_it_came_with_the_file() {
    let mut test_room = TestRoom::with_file();
    let (owner, _) = test_room.join(Some(SECRET));
    test_room.room.record.key = key();
    let (done, mut outcome) = oneshot::channel();
    let command = Command::Key(key());
    let effects = test_room.request(RoomRequest::Command { viewer: owner.viewer, command, done });
    assert!(outcome.try_recv().is_err(), "confirmed before the rows are read");
    // The keys of the file that came with it did not fit into memory.
    let request = KeyRequest { key: key(), viewer: owner.viewer, author: None, done: None };
    test_room.room.on_keyed(Err(Failure::new(507, "no memory")), request);
    assert!(test_room.room.record.key.is_empty());
    let request = effects.into_iter().find_map(|effect| match effect {
        Effect::Work(job) => match job.work {
            Work::Key(request) => Some(request),
            _ => None,
        },
        _ => None,
    });
    let answer = WorkOutcome::Keyed(Ok(()), request.expect("work that reads the keys"));
    test_room.handle(Event::WorkDone(Some(Box::new(WorkResult { writer: None, answer }))));
    assert_eq!((outcome.try_recv(), &test_room.room.record.key), (Ok(Ok(())), &key()));
}

#[test]
fn the_end_of_an_upload_has_the_reason_of_its_rejection() {
    let mut test_room = TestRoom::new(Record::new(Some(SECRET)), false);
    let (owner, _) = test_room.join(Some(SECRET));
    let (number, _) = created(test_room.upload(owner.viewer).0);
    let Some(upload) = &mut test_room.room.upload else { panic!("no upload") };
    upload.file = Some("f-1".to_owned());
    let (end, mut ended) = oneshot::channel();
    let outcome = UploadOutcome::Failed(Failure::new(507, "no room"));
    test_room.request(RoomRequest::UploadEnded { number, outcome, reserved: None, end });
    assert_eq!(code(ended.try_recv()), 507);
}

fn page(rows: &[[&str; 3]], total: u64) -> PageText {
    let row = |cells: &[&str; 3]| Row {
        number: 0,
        cells: cells.iter().map(|text| Cell { text: (*text).to_owned(), cut: None }).collect(),
        width: 3,
    };
    let header = row(&["id", "n", "word"]);
    PageText::new(2, &Page { from: 2, total, rows: rows.iter().map(row).collect() }, Some(&header))
}

#[test]
fn cells_that_changed_in_place_are_named_and_any_other_change_is_a_view() {
    let before = page(&[["a", "1", "x"], ["b", "2", "y"], ["c", "3", "z"]], 9);
    let same = before.changes_since(&before, &key()).expect("no change");
    assert!(text([message::changed_cells(&same, 3, 7)]).ends_with(r#"{"cells":[],"version":7}"#));
    let after = page(&[["a", "1", "x"], ["b", "2\"", "y"], ["c", "3", "w"]], 9);
    let changes = after.changes_since(&before, &key()).expect("changes in place");
    let frame = text([message::changed_cells(&changes, 3, 8)]);
    let wanted =
        r#"{"cells":[{"row":4,"column":1,"value":"2\""},{"row":5,"column":2,"value":"w"}],"version":8}"#;
    assert!(frame.ends_with(wanted), "{frame}");
    for (what, after) in [
        ("a row moved", page(&[["b", "2", "y"], ["a", "1", "x"], ["c", "3", "z"]], 9)),
        ("a row was added", page(&[["a", "1", "x"], ["b", "2", "y"], ["c", "3", "z"]], 10)),
        ("most cells changed", page(&[["a", "4", "x"], ["b", "5", "u"], ["c", "6", "z"]], 9)),
        ("a row is missing", page(&[["a", "1", "x"], ["b", "2", "y"]], 9)),
    ] {
        assert!(after.changes_since(&before, &key()).is_none(), "{what}");
    }
}

#[test]
fn a_failed_compaction_is_tried_again_later_and_later_and_another_file_drops_it() {
    let mut test_room = TestRoom::with_file();
    let begin = |test_room: &mut TestRoom| {
        test_room.room.compaction.running = Some(("f-1".to_owned(), Cancel::default()));
    };
    let fail = |test_room: &mut TestRoom| {
        begin(test_room);
        test_room.room.now = test_room.now;
        test_room.room.on_log_prepared("f-1", Err(Failure::new(507, "no room")));
        test_room.room.compaction.retry_at.expect("another attempt") - test_room.now
    };
    let delays: Vec<u64> = (0..9).map(|_| fail(&mut test_room).as_secs()).collect();
    assert_eq!(delays, [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
    let counters = Arc::clone(&test_room.room.settings.counters);
    let count = |end| counters.compactions.get(end);
    assert_eq!((count(CompactionEnd::Failed), count(CompactionEnd::Done)), (9, 0));
    test_room.room.on_log_prepared("f-0", Err(Failure::new(409, "the file was replaced")));
    assert_eq!(count(CompactionEnd::Failed), 9, "a failure of another file");
    begin(&mut test_room);
    test_room.room.on_log_compacted(Ok((5_000, 1_000)));
    assert_eq!((count(CompactionEnd::Done), test_room.room.compaction.count), (1, 1));
    assert!(test_room.room.compaction.retry_at.is_none());
    assert_eq!(fail(&mut test_room).as_secs(), 30);
}
