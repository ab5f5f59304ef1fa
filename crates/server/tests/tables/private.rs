//! Private views, and undo of changes of the shared view, over real connections.

use serde_json::{Value, json};

use crate::table_server::{TableServer, Viewer, tsv};

/// The next private view that matches.
fn private(viewer: &mut Viewer, is_match: impl Fn(&Value) -> bool) -> Value {
    let message = viewer.until("a private view", |message| message.get("private").is_some_and(&is_match));
    message["private"].clone()
}

#[test]
fn a_private_view_is_sent_to_its_viewer_alone_until_it_is_shared() {
    let server = TableServer::with(&[]);
    let (mut other, table, _) = server.shared("rows.tsv", &tsv(1_000));
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    viewer.view(|_| true);
    let by = json!([{"column": 2, "desc": true}]);
    viewer.send(&json!({"private": {"sort": by, "search": "row 1", "page": 2, "page_size": 10}}));
    let view = private(&mut viewer, |_| true);
    assert_eq!(
        (&view["sort"], &view["search"], &view["page_no"], &view["page_size"], &view["total_number"]),
        (&by, &json!("row 1"), &json!(2), &json!(10), &json!(111))
    );
    let values: Vec<u64> = view["data"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row[2].as_str().expect("a cell").parse().expect("a number"))
        .collect();
    assert!(values.len() == 10 && values.is_sorted_by(|a, b| a > b), "{values:?}");
    // A window of the private view, and one of the shared view.
    viewer.send(&json!({"rows": {"from": 10, "count": 1, "private": true}}));
    let rows = viewer.until("a window", |message| message["rows"].is_object());
    assert_eq!((&rows["rows"]["private"], &rows["rows"]["data"][0]), (&json!(true), &view["data"][0]));
    viewer.send(&json!({"rows": {"from": 10, "count": 1}}));
    let rows = viewer.until("a window", |message| message["rows"].is_object());
    assert_eq!((&rows["rows"]["private"], &rows["rows"]["data"][0][0]), (&Value::Null, &json!("000010")));
    // The other viewer receives that there is a private view, and no rows of it.
    other.until("the person", |message| message["person"]["private"] == true);
    other.send(&json!({"page": 2}));
    loop {
        let message = other.json();
        assert!(message.get("private").is_none() && message["search"] != "row 1", "{message}");
        if message["page_no"] == 2 {
            break;
        }
    }
    viewer.send(&json!({"share_private": {}}));
    // In any order: the shared view, and the end of the private one.
    let (mut shared, mut has_ended) = (None, false);
    while shared.is_none() || !has_ended {
        let message = other.json();
        has_ended |= message["person"]["private"] == false;
        if message["search"] == "row 1" {
            shared = Some(message);
        }
    }
    let shared = shared.expect("a view");
    assert_eq!((&shared["data"], &shared["page_no"]), (&view["data"], &json!(2)));
    assert!(private(&mut viewer, Value::is_null).is_null());
    viewer.send(&json!({"share_private": {}}));
    assert_eq!(viewer.error().0, 409);
}

#[test]
fn a_private_view_follows_appended_rows_and_another_dialect() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("rows.csv", "n,word\n1,apple\n2,pear\n");
    viewer.send(&json!({"private": {"search": "apple"}}));
    let view = private(&mut viewer, |view| view["total_number"] == 1);
    assert_eq!(server.append(&table, &secret, "text/plain", "3,apple\n").0, 200);
    let grown = private(&mut viewer, |view| view["total_number"] == 2);
    assert!(grown["version"].as_u64() > view["version"].as_u64());
    viewer.send(&json!({"dialect": {"header": false}}));
    let view = private(&mut viewer, |view| view["header"].is_null());
    assert_eq!((&view["search"], &view["total_number"]), (&json!(""), &json!(4)));
}

#[test]
fn a_deep_link_opens_a_private_view_of_a_table_that_is_not_open() {
    let server = TableServer::with(&[]);
    let (_, table, _) = server.shared("rows.tsv", &tsv(1_000));
    let folder = server.stop();
    let server = TableServer::start(&[&format!("data_dir={}", folder.path().display())]);
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    viewer.send(&json!({"private": {"search": "row 99"}}));
    let view = private(&mut viewer, |view| view["loading"] == false);
    assert_eq!(view["total_number"], 11);
}

#[test]
fn changes_of_the_view_are_undone_and_redone_for_all_viewers() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", &tsv(1_000));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    viewer.send(&json!({"undo": {}}));
    let (code, reason) = viewer.error();
    assert!(code == 409 && reason.contains("no change"), "{reason}");
    viewer.send(&json!({"page": 3}));
    viewer.view(|view| view["page_no"] == 3);
    viewer.send(&json!({"search": "row 1"}));
    viewer.view(|view| view["search"] == "row 1");
    other.send(&json!({"undo": {}}));
    let view = viewer.view(|view| view["search"] == "" && view["page_no"] == 3);
    assert_eq!(view["history"], json!({"undo": 1, "redo": 1}));
    other.send(&json!({"redo": {}}));
    viewer.view(|view| view["search"] == "row 1");
    other.send(&json!({"undo": {}}));
    other.send(&json!({"undo": {}}));
    let view = viewer.view(|view| view["page_no"] == 1 && view["search"] == "");
    assert_eq!(view["history"], json!({"undo": 0, "redo": 2}));
    // Another dialect has other columns: the history ends.
    viewer.send(&json!({"dialect": {"header": false}}));
    viewer.view(|view| view["header"].is_null());
    viewer.send(&json!({"redo": {}}));
    assert_eq!(viewer.error().0, 409);
}
