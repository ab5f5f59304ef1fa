//! Two nodes that share a folder and a Redis.

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::table_server::{TableServer, Viewer, listing, tsv};

struct Two {
    a: TableServer,
    b: TableServer,
    store: TempDir,
    _redis: RedisServer,
}

impl Two {
    fn start() -> Self {
        Self::with(&[])
    }

    /// Starts both nodes with these options, too.
    fn with(more: &[&str]) -> Self {
        let (redis, store) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
        let options = [format!("broker={}", redis.url()), format!("tables.store={}", store.path().display())];
        let options: Vec<_> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let (a, b) = (TableServer::start(&options), TableServer::start(&options));
        a.until_ready();
        b.until_ready();
        Self { a, b, store, _redis: redis }
    }

    /// A table with this number of rows and a viewer on each node, after each viewer has received the other in its view.
    fn shared(&self, rows: usize) -> (Viewer, Viewer, String, String) {
        let (mut on_a, table, secret) = self.a.shared("rows.tsv", &tsv(rows));
        let mut on_b = self.b.viewer(&format!("/tables/ws/{table}"));
        on_a.view(|view| view["viewers"] == 2);
        on_b.view(|view| view["viewers"] == 2);
        (on_a, on_b, table, secret)
    }
}

#[test]
fn a_page_change_on_one_node_reaches_the_other() {
    let two = Two::start();
    let (mut on_a, mut on_b, ..) = two.shared(250);
    on_a.send(&json!({"page": 2}));
    let view = on_b.view(|view| view["page_no"] == 2);
    assert_eq!(view["data"][0][0], "000100");
    on_b.send(&json!({"sort": [{"column": 0, "desc": true}]}));
    let view = on_a.view(|view| view["sort"] != json!([]));
    assert_eq!((&view["data"][0][0], &view["page_no"]), (&json!("000249"), &json!(1)));
    on_b.send(&json!({"search": "row 24"}));
    on_a.view(|view| view["total_number"] == 11);
    drop(on_b);
    on_a.view(|view| view["viewers"] == 1);
}

#[test]
fn another_file_another_dialect_and_locks_reach_the_other_node() {
    let two = Two::with(&["tables.keep_previous=1s"]);
    let (mut on_a, mut on_b, ..) = two.shared(250);
    on_b.upload("new.csv", b"a;b,c\n1;2,3\n4;5,6\n");
    let view = on_a.view(|view| view["name"] == "new.csv" && view["loading"] == false);
    assert_eq!(view["total_number"], on_b.view(|view| view["name"] == "new.csv")["total_number"]);
    on_a.send(&json!({"dialect": {"delimiter": ",", "header": true}}));
    let view = on_b.view(|view| view["dialect"]["delimiter"] == ",");
    assert_eq!(view["header"], json!(["a;b", "c"]));
    // The connection of the creator is the owner.
    on_a.send(&json!({"lock": {"view": true}}));
    on_b.until("the locks", |message| message["lock"]["view"] == true);
    on_b.send(&json!({"page": 1}));
    assert_eq!(on_b.error().0, 403);
    wait_until(PATIENCE, "the old file to be removed", || {
        listing(two.store.path()).iter().filter(|name| name.ends_with("original")).count() == 1
    });
}

#[test]
fn people_and_the_author_of_a_change_reach_the_other_node() {
    let two = Two::start();
    let (mut on_a, mut on_b, ..) = two.shared(250);
    on_a.send(&json!({"me": {"name": "Ann"}}));
    let ann = on_b.until("the name", |message| message["person"]["name"] == "Ann")["person"].take();
    on_a.send(&json!({"cursor": {"row": 7, "column": 1}}));
    let moved = on_b.until("the cursor", |message| message["person"]["cursor"].is_object())["person"].take();
    assert_eq!((&moved["id"], &moved["cursor"]["to_row"]), (&ann["id"], &json!(7)));
    on_a.send(&json!({"page": 2}));
    let view = on_b.view(|view| view["page_no"] == 2);
    assert_eq!(view["changed_by"], json!({"id": ann["id"], "name": "Ann", "by": "viewer"}));
    // A change of another node is undone, too.
    on_b.send(&json!({"undo": {}}));
    on_a.view(|view| view["page_no"] == 1);
    drop(on_a);
    on_b.until("the end", |message| message["person_left"] == ann["id"]);
}

/// Each node has its own history, in which an undo of another node is a change.
#[test]
fn an_undo_on_one_node_can_be_undone_on_the_other() {
    let two = Two::start();
    let (mut on_a, mut on_b, ..) = two.shared(250);
    on_a.send(&json!({"sort": [{"column": 0, "desc": true}]}));
    let is_sorted = |view: &Value| view["sort"].as_array().is_some_and(|sort| !sort.is_empty());
    on_b.view(|view| is_sorted(view) && view["history"] == json!({"undo": 1, "redo": 0}));
    on_b.send(&json!({"undo": {}}));
    on_b.view(|view| !is_sorted(view) && view["history"] == json!({"undo": 0, "redo": 1}));
    on_a.view(|view| !is_sorted(view) && view["history"] == json!({"undo": 2, "redo": 0}));
    on_a.send(&json!({"undo": {}}));
    for viewer in [&mut on_a, &mut on_b] {
        viewer.view(is_sorted);
    }
}

#[test]
fn a_replaced_file_is_restored_on_any_node() {
    let two = Two::start();
    let (mut on_a, mut on_b, ..) = two.shared(250);
    on_b.upload("new.csv", b"a,b\n1,2\n");
    on_a.view(|view| view["name"] == "new.csv" && view["previous"]["name"] == "rows.tsv");
    on_a.send(&json!({"restore": {}}));
    for viewer in [&mut on_a, &mut on_b] {
        viewer.view(|view| view["name"] == "rows.tsv" && view["total_number"] == 250);
    }
    on_b.send(&json!({"restore": {}}));
    for viewer in [&mut on_a, &mut on_b] {
        viewer.view(|view| view["name"] == "new.csv" && view["total_number"] == 1);
    }
}

#[test]
fn rows_can_be_appended_on_any_node() {
    let two = Two::start();
    let (mut on_a, mut on_b, table, secret) = two.shared(10);
    for row in 0..6 {
        let on = if row % 2 == 0 { &two.a } else { &two.b };
        let (status, answer) = on.append(&table, &secret, "text/plain", &format!("new\trow\t{row}\n"));
        assert_eq!(status, 200, "{answer}");
    }
    for viewer in [&mut on_a, &mut on_b] {
        let view = viewer.view(|view| view["total_number"] == 16);
        let new: Vec<_> =
            (10..16).map(|row| view["data"][row][2].as_str().expect("a cell").to_owned()).collect();
        assert_eq!(new, ["0", "1", "2", "3", "4", "5"]);
    }
}

#[test]
fn a_table_deleted_on_one_node_is_deleted_on_the_other() {
    let two = Two::start();
    let (mut on_a, mut on_b, ..) = two.shared(10);
    on_a.send(&json!({"delete": {}}));
    for viewer in [&mut on_a, &mut on_b] {
        assert_eq!(viewer.error().0, 404);
        assert_eq!(viewer.close_code(), 4404);
    }
    wait_until(PATIENCE, "nothing to be left", || listing(two.store.path()).is_empty());
}

#[test]
fn concurrent_changes_on_both_nodes_converge() {
    let two = Two::start();
    let (mut on_a, mut on_b, table, _) = two.shared(5000);
    for turn in 1..=40 {
        on_a.send(&json!({"page": turn}));
        on_b.send(&json!({"page": 51 - turn}));
    }
    let shown = |server: &TableServer| {
        let (_, _, body) = server.get(&format!("/tables/{table}.json"));
        serde_json::from_slice::<Value>(&body).expect("JSON")["page_no"].clone()
    };
    wait_until(PATIENCE, "both nodes to show the same page", || {
        let (a, b) = (shown(&two.a), shown(&two.b));
        a == b && (a == 40 || a == 11)
    });
    // Both nodes can continue with changes.
    on_a.send(&json!({"page": 50}));
    on_b.view(|view| view["page_no"] == 50);
    on_b.send(&json!({"page": 1}));
    on_a.view(|view| view["page_no"] == 1);
}

#[test]
fn a_page_change_is_published_once_with_any_number_of_nodes() {
    let two = Two::start();
    let (mut on_a, mut on_b, table, _) = two.shared(250);
    let mut follower = LineClient::connect(two.b.tcp);
    follower.send(&format!("SUBSCRIBE tables:{table}"));
    follower.expect("CONFIRMED");
    for page in [2, 3, 1] {
        on_a.send(&json!({"page": page}));
        on_b.view(|view| view["page_no"] == page);
        // Views in quick succession may be published as one, so the next change waits.
        let mut line = follower.line();
        if page == 2 && line.contains("\"page_no\":1,") {
            // The view with the second viewer may be published after the subscription.
            line = follower.line();
        }
        assert!(line.contains(&format!("\"page_no\":{page},")), "{line}");
    }
}
