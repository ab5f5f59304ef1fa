//! Private views and the history of the shared view, against a naive model and real rows.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_table::{Choice, Control, Error, Writer};
use tidings_table_store::ViewSettings;

use super::*;
use crate::command;
use crate::page::{self, Page};
use crate::room::effect::{PrivateJob, RenderJob};
use crate::room::private::MAX_PRIVATE_VIEWS;
use crate::room::state::OpenFile;
use crate::view_rows::ViewRows;

const WORDS: [&str; 5] = ["apple", "banana", "cherry", "date", "elder"];

/// A room with a file of real rows, and the jobs that its effects have started.
pub(super) struct LiveRoom {
    pub(super) test_room: TestRoom,
    rows: Vec<[String; 2]>,
    shared: Vec<RenderJob>,
    /// Each with whether it is a computation over all rows.
    private: Vec<(PrivateJob, bool)>,
    _folder: TempDir,
}

fn row(number: usize) -> [String; 2] {
    [format!("{}", (number * 37) % 101), WORDS[(number * 7) % 5].to_owned()]
}

impl LiveRoom {
    pub(super) fn new(rows: usize) -> Self {
        Self::with((0..rows).map(row).collect())
    }

    fn with(rows: Vec<[String; 2]>) -> Self {
        let mut test_room = TestRoom::with_file();
        let folder = tempfile::tempdir().expect("a folder");
        let choice = Choice { header: Some(true), ..Choice::tab_separated() };
        let mut writer = Writer::create(folder.path(), choice, Limits::default()).expect("a writer");
        writer.append(b"number\tword\n").expect("a header");
        for row in &rows {
            writer.append(format!("{}\n", row.join("\t")).as_bytes()).expect("a row");
        }
        writer.finish().expect("a file");
        test_room.room.open_file = Some(OpenFile {
            file: "f-1".into(),
            name: "a.tsv".into(),
            table: writer.table().clone(),
            writer: Some(writer),
            loading: false,
            facts: Arc::default(),
        });
        test_room.room.render_soon(Duration::ZERO);
        let mut live = Self { test_room, rows, shared: Vec::new(), private: Vec::new(), _folder: folder };
        live.settle();
        live
    }

    pub(super) fn join(&mut self) -> (u64, Arc<Outbox>) {
        let (handle, outbox) = self.test_room.join(None);
        (handle.viewer, outbox)
    }

    /// Sends a command as text. Returns the code of its error.
    pub(super) fn send(&mut self, viewer: u64, message: &Value) -> Option<u16> {
        let command = command::parse(&message.to_string()).expect("a command");
        let (effects, outcome) = self.test_room.command(viewer, command);
        self.collect(effects);
        outcome.err().map(|failure| failure.code)
    }

    fn collect(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Render(job) => self.shared.push(*job),
                Effect::RenderPrivate(job) => self.private.push((*job, true)),
                Effect::UpdatePrivate(jobs) => self.private.extend(jobs.into_iter().map(|job| (job, false))),
                _ => {}
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let effects = self.test_room.wait(time);
        self.collect(effects);
    }

    pub(super) fn run_shared(&mut self) {
        if let Some(RenderJob { wanted, cancel, .. }) = self.shared.pop() {
            let made = page::make(&wanted, Control::default().cancelled_by(&cancel));
            let effects = self.test_room.handle(Event::Rendered(Box::new(Some(made))));
            self.collect(effects);
        }
    }

    fn run_private(&mut self, at: usize) {
        let (PrivateJob { viewer, number, render, mut stopped }, is_full) = self.private.swap_remove(at);
        let made: Result<Page, Error> = match stopped.try_recv() {
            Err(oneshot::error::TryRecvError::Closed) => Err(Error::Cancelled),
            _ => page::make(&render.wanted, Control::default().cancelled_by(&render.cancel)),
        };
        let made = Some(Box::new(made));
        let effects = self.test_room.request(RoomRequest::PrivateRendered { viewer, number, is_full, made });
        self.collect(effects);
    }

    /// Runs all jobs, including those that their results start.
    pub(super) fn settle(&mut self) {
        for _ in 0..3 {
            self.wait(Duration::from_secs(1));
            while !self.shared.is_empty() || !self.private.is_empty() {
                self.run_shared();
                if !self.private.is_empty() {
                    self.run_private(0);
                }
                self.wait(Duration::ZERO);
            }
        }
    }

    pub(super) fn append(&mut self, number: usize) {
        self.append_row(row(number));
    }

    fn append_row(&mut self, row: [String; 2]) {
        let open_file = self.test_room.room.open_file.as_mut().expect("a file");
        let writer = open_file.writer.as_mut().expect("a writer");
        writer.append(format!("{}\n", row.join("\t")).as_bytes()).expect("a row");
        writer.finish().expect("rows");
        self.rows.push(row);
    }

    /// The page of these settings, computed naively, and the number of rows.
    fn naive(&self, settings: &ViewSettings) -> (Vec<[String; 2]>, usize) {
        let mut rows = self.rows.clone();
        rows.retain(|row| row.iter().any(|cell| cell.contains(&settings.search)));
        for by in settings.sort.iter().rev() {
            rows.sort_by(|a, b| {
                let number = |row: &[String; 2]| row[0].parse::<u64>().expect("a number");
                let order = if by.column == 0 { number(a).cmp(&number(b)) } else { a[1].cmp(&b[1]) };
                if by.desc { order.reverse() } else { order }
            });
        }
        let total = rows.len();
        let from = (settings.page as usize - 1) * settings.page_size;
        (rows.into_iter().skip(from).take(settings.page_size).collect(), total)
    }

    fn assert_shows(&self, view: &Value, settings: &ViewSettings, what: &str) {
        let (rows, total) = self.naive(settings);
        assert_eq!(view["data"], json!(rows), "{what}: {settings:?}");
        assert_eq!(
            (&view["total_number"], &view["search"]),
            (&json!(total), &json!(settings.search)),
            "{what}"
        );
    }
}

/// The JSON of an unmasked frame (RFC 6455 §5.2).
fn json_of(frame: &[u8]) -> Value {
    let header = match frame[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    serde_json::from_slice(&frame[header..]).expect("JSON")
}

fn shared_view(live: &LiveRoom) -> Value {
    let room = &live.test_room.room;
    let text = room.text(ViewFormat::Tables).expect("a page");
    let info = room.info(room.viewer_count(), room.record.version);
    serde_json::from_str(&crate::message::view(&info, text, true)).expect("JSON")
}

/// Settings that every page has rows for.
fn random_settings(random: &mut fastrand::Rng) -> Value {
    let search = ["", "a", "an", "1"][random.usize(..4)];
    let sort = match random.u8(..3) {
        0 => json!([]),
        1 => json!([{"column": 0, "desc": random.bool()}]),
        _ => json!([{"column": 1, "desc": random.bool()}, {"column": 0}]),
    };
    json!({"search": search, "sort": sort, "page": random.u64(1..3), "page_size": 5})
}

fn settings_of(message: &Value, shared: &ViewSettings) -> ViewSettings {
    let Command::Private(Some(private)) =
        command::parse(&json!({"private": message}).to_string()).expect("a command")
    else {
        panic!("{message}")
    };
    private.settings(shared)
}

/// Random private views, changes of the shared view, undo and redo, while computations end in any order.
#[test]
fn shared_and_private_views_show_what_a_naive_model_shows() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut live = LiveRoom::new(60);
        let viewers: Vec<_> = (0..4).map(|_| live.join()).collect();
        live.settle();
        let mut shared = ViewSettings::default();
        let (mut history, mut at) = (vec![shared.clone()], 0);
        let mut private: BTreeMap<u64, ViewSettings> = BTreeMap::new();
        for _ in 0..60 {
            // Page turns are never joined.
            live.wait(Duration::from_millis(1_100));
            let (viewer, _) = viewers[random.usize(..viewers.len())];
            match random.u8(..12) {
                0..4 => {
                    let settings = random_settings(&mut random);
                    assert_eq!(live.send(viewer, &json!({"private": settings})), None);
                    private.insert(viewer, settings_of(&settings, &shared));
                }
                4 => {
                    assert_eq!(live.send(viewer, &json!({"private": null})), None);
                    private.remove(&viewer);
                }
                5 => match private.remove(&viewer) {
                    Some(settings) => {
                        // The page is known once it is computed.
                        live.settle();
                        assert_eq!(live.send(viewer, &json!({"share_private": {}})), None);
                        if settings != shared {
                            history.truncate(at + 1);
                            history.push(settings.clone());
                            at += 1;
                            shared = settings;
                        }
                    }
                    None => assert_eq!(live.send(viewer, &json!({"share_private": {}})), Some(409)),
                },
                6 | 7 => {
                    let search = ["", "b", "ap"][random.usize(..3)];
                    live.send(viewer, &json!({"search": search}));
                    let next = ViewSettings { search: search.into(), page: 1, ..shared.clone() };
                    if next != shared {
                        history.truncate(at + 1);
                        history.push(next.clone());
                        at += 1;
                        shared = next;
                    }
                }
                8 | 9 => match at.checked_sub(1) {
                    Some(before) => {
                        assert_eq!(live.send(viewer, &json!({"undo": {}})), None);
                        (shared, at) = (history[before].clone(), before);
                    }
                    None => assert_eq!(live.send(viewer, &json!({"undo": {}})), Some(409)),
                },
                10 => match history.get(at + 1) {
                    Some(after) => {
                        assert_eq!(live.send(viewer, &json!({"redo": {}})), None);
                        (shared, at) = (after.clone(), at + 1);
                    }
                    None => assert_eq!(live.send(viewer, &json!({"redo": {}})), Some(409)),
                },
                _ => live.run_shared(),
            }
            while !live.private.is_empty() && random.bool() {
                let job = random.usize(..live.private.len());
                live.run_private(job);
            }
        }
        live.settle();
        // The pages before and after other rows are appended.
        for appended in [false, true] {
            if appended {
                for number in 60..63 {
                    live.append(number);
                }
                live.test_room.room.render_soon(Duration::ZERO);
                // The computations have taken seconds of the clock, and the pause is a multiple of that.
                live.wait(Duration::from_secs(7_200));
                live.settle();
            }
            live.assert_shows(&shared_view(&live), &shared, &format!("seed {seed}, shared"));
            for (viewer, outbox) in &viewers {
                let last = outbox.take().private.map(|frame| json_of(&frame));
                match private.get(viewer) {
                    Some(settings) => {
                        let last = last.expect("a private view");
                        live.assert_shows(
                            &last["private"],
                            settings,
                            &format!("seed {seed}, viewer {viewer}"),
                        );
                    }
                    None => assert!(last.is_none_or(|last| last["private"].is_null()), "seed {seed}"),
                }
            }
        }
        let undo = json!({"undo": at, "redo": history.len() - 1 - at});
        assert_eq!(shared_view(&live)["history"], undo, "seed {seed}");
        for (viewer, _) in &viewers {
            live.test_room.request(RoomRequest::Leave(*viewer));
        }
        assert!(live.test_room.room.private.is_empty());
        assert_eq!(
            live.test_room.room.settings.counters.private_views.load(std::sync::atomic::Ordering::Relaxed),
            0
        );
    }
}

#[test]
fn a_newer_private_view_and_leaving_cancel_the_computation() {
    let mut live = LiveRoom::new(20);
    let (viewer, outbox) = live.join();
    live.settle();
    live.send(viewer, &json!({"private": {"search": "a"}}));
    let first = live.private[0].0.render.cancel.clone();
    live.send(viewer, &json!({"private": {"search": "b"}}));
    assert!(first.is_cancelled() && live.private.len() == 1, "one computation for each viewer");
    live.run_private(0);
    let second = live.private[0].0.render.cancel.clone();
    assert!(!second.is_cancelled());
    live.send(viewer, &json!({"private": null}));
    assert!(second.is_cancelled());
    live.run_private(0);
    assert_eq!(json_of(&outbox.take().private.expect("a response")), json!({"private": null}));
    assert!(live.private.is_empty());
}

#[test]
fn a_viewer_that_has_not_read_its_page_receives_no_newer_one() {
    let mut live = LiveRoom::new(20);
    let (viewer, outbox) = live.join();
    live.send(viewer, &json!({"private": {"search": "a"}}));
    live.settle();
    live.append(20);
    live.wait(Duration::from_secs(60));
    assert!(live.private.is_empty(), "a computation for a viewer that does not read");
    outbox.take();
    live.wait(Duration::from_secs(2));
    assert_eq!(live.private.len(), 1);
}

#[test]
fn private_views_are_bounded_and_computed_a_few_at_a_time() {
    let mut live = LiveRoom::new(20);
    let viewers: Vec<_> = (0..101).map(|_| live.join()).collect();
    live.settle();
    for (viewer, _) in &viewers[..100] {
        assert_eq!(live.send(*viewer, &json!({"private": {"search": "a"}})), None);
    }
    assert_eq!(live.private.len(), 4);
    assert_eq!(live.send(viewers[100].0, &json!({"private": {}})), Some(429));
    live.send(viewers[0].0, &json!({"private": null}));
    assert_eq!(live.send(viewers[100].0, &json!({"private": {}})), None);
    live.settle();
    for (viewer, outbox) in &viewers {
        let last = json_of(&outbox.take().private.expect("a message"));
        assert_eq!(last["private"].is_null(), *viewer == viewers[0].0);
    }
    // The views of all tables are bounded, too.
    let counter = &live.test_room.room.settings.counters.private_views;
    counter.store(MAX_PRIVATE_VIEWS, std::sync::atomic::Ordering::Relaxed);
    live.send(viewers[1].0, &json!({"private": null}));
    live.test_room.room.settings.counters.private_views.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(live.send(viewers[1].0, &json!({"private": {}})), Some(503));
}

#[test]
fn a_private_view_that_fails_returns_to_the_former_one() {
    let mut live = LiveRoom::new(20);
    let (viewer, outbox) = live.join();
    live.settle();
    let invalid = json!({"private": {"filter": [{"column": 0, "op": "<", "value": "x"}]}});
    live.send(viewer, &invalid);
    live.settle();
    let taken = outbox.take();
    assert!(text(taken.frames).contains("\"code\":422"));
    assert_eq!(json_of(&taken.private.expect("an end")), json!({"private": null}));
    live.send(viewer, &json!({"private": {"search": "a"}}));
    live.settle();
    outbox.take();
    live.send(viewer, &invalid);
    live.settle();
    let taken = outbox.take();
    assert!(text(taken.frames).contains("\"code\":422") && taken.private.is_none());
    let (view, _) = live.test_room.room.private_rows(viewer, &(0..10)).expect("rows");
    let ViewRows::File(view) = view else { panic!("groups") };
    assert_eq!(view.query().search, "a");
    assert_eq!(live.send(viewer, &json!({"private": {"sort": [{"column": 2}]}})), Some(400));
}

#[test]
fn a_locked_view_is_browsed_privately_and_not_changed() {
    let mut live = LiveRoom::new(20);
    live.test_room.room.record.locks.view = true;
    let (viewer, _) = live.join();
    live.settle();
    assert_eq!(live.send(viewer, &json!({"private": {"search": "a"}})), None);
    for message in [json!({"share_private": {}}), json!({"undo": {}}), json!({"page": 1})] {
        assert_eq!(live.send(viewer, &message), Some(403), "{message}");
    }
}

#[test]
fn a_query_that_another_view_has_is_not_computed_again() {
    let mut live = LiveRoom::new(50);
    let ((first, _), (second, _)) = (live.join(), live.join());
    let sort = json!([{"column": 0}]);
    live.send(first, &json!({"private": {"sort": sort}}));
    assert!(page::needs_query(&live.private[0].0.render.wanted));
    live.settle();
    live.send(second, &json!({"private": {"sort": sort, "page_size": 10, "page": 2}}));
    assert!(!page::needs_query(&live.private[0].0.render.wanted), "another private view has the rows");
    live.settle();
    live.send(first, &json!({"private": null}));
    live.send(first, &json!({"sort": sort}));
    live.wait(Duration::ZERO);
    assert!(!page::needs_query(&live.shared[0].wanted), "a private view has the rows");
    live.settle();
    live.send(second, &json!({"private": {"sort": [{"column": 1}]}}));
    live.settle();
    live.send(second, &json!({"private": {"sort": sort}}));
    assert!(!page::needs_query(&live.private[0].0.render.wanted), "the shared view has the rows");
}

#[test]
fn the_private_views_of_a_table_are_computed_for_a_quarter_of_the_time() {
    let mut live = LiveRoom::new(50);
    let viewers: Vec<_> = (0..10).map(|_| live.join()).collect();
    let cost = Duration::from_millis(100);
    for (at, (viewer, _)) in viewers.iter().enumerate() {
        live.send(*viewer, &json!({"private": {"search": WORDS[at % 5], "sort": [{"column": at % 2}]}}));
        live.wait(cost);
        live.run_private(0);
    }
    live.append(50);
    // Of one view, the next computation would begin after 20 times its duration.
    live.wait(Duration::from_secs(2));
    assert!(live.private.is_empty());
    for (_, outbox) in &viewers {
        outbox.take();
    }
    live.wait(Duration::from_millis(1_800));
    assert!(live.private.is_empty());
    live.wait(Duration::from_secs(2));
    assert!(!live.private.is_empty());
}

#[test]
fn views_that_follow_changed_rows_are_updated_in_rounds_for_half_of_the_time() {
    let mut live = LiveRoom::new(50);
    let reading = live.test_room.room.reading().expect("a file");
    let key = vec!["number".to_owned()];
    let budget = live.test_room.room.settings.live.clone();
    let mut rows =
        tidings_table_live::LiveRows::open(&reading, &key, &budget, Control::default()).expect("keys");
    live.test_room.room.record.key = key;
    let viewers: Vec<_> = (0..10).map(|_| live.join()).collect();
    for (at, (viewer, _)) in viewers.iter().enumerate() {
        live.send(*viewer, &json!({"private": {"search": WORDS[at % 5], "sort": [{"column": at % 2}]}}));
    }
    live.settle();
    let mut change = |live: &mut LiveRoom, number| {
        live.append(number);
        rows.apply(&[], Control::default()).expect("applied");
        for (_, outbox) in &viewers {
            outbox.take();
        }
    };
    change(&mut live, 50);
    live.wait(Duration::from_millis(100));
    assert_eq!(live.private.len(), 10, "a round of all views");
    assert!(live.private.iter().all(|(_, is_full)| !is_full));
    change(&mut live, 51);
    live.wait(Duration::from_secs(1));
    assert_eq!(live.private.len(), 10, "one round at a time");
    while !live.private.is_empty() {
        live.run_private(0);
    }
    change(&mut live, 52);
    // The round took 1 s.
    live.wait(Duration::from_millis(900));
    assert!(live.private.is_empty());
    live.wait(Duration::from_millis(100));
    assert_eq!(live.private.len(), 10, "the next round");
}

/// A room with a large table with a key and more private views than follow all of their rows.
struct LargeRoom {
    live: LiveRoom,
    keys: tidings_table_live::LiveRows,
    viewers: Vec<(u64, Arc<Outbox>)>,
}

impl LargeRoom {
    const ROWS: usize = 66_000;

    /// The first computation of each view takes `cost`.
    fn new(cost: Duration) -> Self {
        let mut live = LiveRoom::with((0..Self::ROWS).map(|key| [key.to_string(), "word".into()]).collect());
        let reading = live.test_room.room.reading().expect("a file");
        let key = vec!["number".to_owned()];
        live.test_room.room.settings.live = tidings_table_live::Budget::new(64 << 20);
        let budget = live.test_room.room.settings.live.clone();
        let keys =
            tidings_table_live::LiveRows::open(&reading, &key, &budget, Control::default()).expect("keys");
        live.test_room.room.record.key = key;
        let viewers: Vec<_> = (0..4).map(|_| live.join()).collect();
        for (number, (viewer, _)) in viewers.iter().enumerate() {
            let filter = json!([{"column": 0, "op": ">=", "value": number.to_string()}]);
            let sort = json!([{"column": 0}]);
            live.send(*viewer, &json!({"private": {"sort": sort, "filter": filter, "page_size": 10}}));
        }
        live.wait(cost);
        let mut room = Self { live, keys, viewers };
        room.run_all();
        room
    }

    fn run_all(&mut self) {
        while !self.live.private.is_empty() {
            self.live.run_private(0);
        }
        self.viewers.iter().for_each(|(_, outbox)| drop(outbox.take()));
    }

    fn change(&mut self, key: usize) {
        self.live.append_row([key.to_string(), "other".into()]);
        self.keys.apply(&[], Control::default()).expect("applied");
    }

    /// Waits, runs all jobs, and returns how many of them were computations over all rows.
    fn wait(&mut self, time: Duration) -> usize {
        self.live.wait(time);
        let full = self.live.private.iter().filter(|(_, is_full)| *is_full).count();
        self.run_all();
        full
    }

    /// Requests rows of the last private view, which begins with the row with the key 3. Returns its rows.
    fn request(&mut self, from: u64) -> ViewRows {
        let viewer = self.viewers[3].0;
        self.live.test_room.room.private_rows(viewer, &(from..from + 10)).expect("rows").0
    }
}

#[test]
fn a_viewer_that_scrolls_far_away_sorts_all_rows_no_more_often_than_permitted_and_not_without_changes() {
    let mut room = LargeRoom::new(Duration::from_secs(1));
    assert!(matches!(room.request(0), ViewRows::Near { .. }));
    // No row has changed.
    room.request(40_000);
    for _ in 0..40 {
        assert_eq!(room.wait(Duration::from_secs(1)), 0, "the order of all rows is known");
    }
    let mut room = LargeRoom::new(Duration::from_secs(1));
    let (mut full, mut tenths) = (0, 0);
    while full == 0 && tenths < 300 {
        room.change(tenths);
        full = room.wait(Duration::from_millis(100));
        room.request(40_000);
        tenths += 1;
    }
    assert_eq!(full, 1, "the requested rows become current");
    assert!(tenths >= 195, "after {tenths} tenths of a second: twenty times its duration must pass");
    assert_eq!(room.request(0).window(0, 1, 0..2).expect("rows").rows[0].cells[1].text, "other");
}

#[test]
fn a_page_turn_sorts_no_rows_as_long_as_none_has_changed() {
    let mut room = LargeRoom::new(Duration::ZERO);
    let order = |rows: ViewRows| match rows {
        ViewRows::Near { whole: Some(whole), .. } => whole.view,
        _ => panic!("other rows"),
    };
    let before = order(room.request(0));
    let turn = |room: &mut LargeRoom| {
        let viewer = room.viewers[3].0;
        let filter = json!([{"column": 0, "op": ">=", "value": "3"}]);
        let private = json!({"sort": [{"column": 0}], "filter": filter, "page_size": 10, "page": 4_000});
        room.live.send(viewer, &json!({"private": private}));
        room.run_all();
    };
    turn(&mut room);
    let after = room.request(39_990);
    assert_eq!(after.window(39_990, 1, 0..1).expect("rows").rows[0].cells[0].text, "39993");
    assert!(
        matches!(&after, ViewRows::Near { near, .. } if near.from > 30_000),
        "the rows near the new page"
    );
    assert!(Arc::ptr_eq(&before, &order(after)), "they were sorted again");
    // It follows changes there.
    room.change(39_993);
    for _ in 0..2 {
        room.wait(Duration::from_secs(1));
    }
    let after = room.request(39_990);
    assert_eq!(after.window(39_990, 1, 0..2).expect("rows").rows[0].cells[1].text, "other");
}

#[test]
fn a_computation_that_ends_without_rows_is_repeated_only_a_few_times() {
    let mut live = LiveRoom::new(20);
    let (viewer, outbox) = live.join();
    live.settle();
    live.send(viewer, &json!({"private": {"search": "a"}}));
    for attempt in 1.. {
        let Some((job, is_full)) = live.private.pop() else { break };
        assert!(attempt <= 3 && is_full);
        let made = Some(Box::new(Err(Error::Cancelled)));
        let PrivateJob { viewer, number, .. } = job;
        let rendered = RoomRequest::PrivateRendered { viewer, number, is_full, made };
        let effects = live.test_room.request(rendered);
        live.collect(effects);
        live.wait(Duration::ZERO);
    }
    let text = text(outbox.take().frames);
    assert!(text.contains("\"code\":"), "{text}");
    live.wait(Duration::from_secs(60));
    assert!(live.private.is_empty());
}
