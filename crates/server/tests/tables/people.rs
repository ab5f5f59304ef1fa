//! The people of a table over real connections: names, cursors, the author of each view.

use serde_json::{Value, json};

use crate::table_server::{TableServer, Viewer, tsv};

/// The next message about one person.
fn person(viewer: &mut Viewer, is_match: impl Fn(&Value) -> bool) -> Value {
    viewer.until("a person", |message| message["person"].is_object() && is_match(&message["person"]))["person"].take()
}

#[test]
fn viewers_receive_each_other_s_name_and_cursor() {
    let server = TableServer::with(&[]);
    let (mut ann, table, _) = server.shared("rows.tsv", &tsv(250));
    ann.send(&json!({"me": {"name": "Ann"}}));
    let named = person(&mut ann, |person| person["name"] == "Ann");
    assert_eq!((&named["owner"], &named["cursor"]), (&json!(true), &Value::Null));
    let mut bob = server.viewer(&format!("/tables/ws/{table}"));
    assert!(bob.json()["uuid"].is_string(), "the view comes first");
    let people = bob.until("the people", |message| message["people"].is_array());
    assert!(
        people["people"].as_array().expect("a list").iter().any(|person| person["name"] == "Ann"),
        "{people}"
    );
    let bob_id = people["you"].clone();
    assert_ne!(bob_id, named["id"]);
    bob.send(&json!({"cursor": {"row": 120, "column": 1, "to_row": 140, "to_column": 2}}));
    let cursor = json!({"row": 120, "column": 1, "to_row": 140, "to_column": 2});
    let seen = person(&mut ann, |person| person["cursor"] == cursor);
    assert_eq!((&seen["id"], &seen["owner"], &seen["private"]), (&bob_id, &json!(false), &json!(false)));
    bob.send(&json!({"cursor": {"row": -1, "column": 1}}));
    assert_eq!(bob.error().0, 400);
    drop(bob);
    ann.until("the end", |message| message["person_left"] == bob_id);
}

#[test]
fn a_name_that_is_set_before_the_table_exists_is_that_of_its_creator() {
    let server = TableServer::with(&[]);
    let mut ann = server.viewer("/tables/ws");
    ann.send(&json!({"me": {"name": "Ann"}}));
    ann.upload("rows.tsv", tsv(10).as_bytes());
    let view = ann.view(|view| view["loading"] == false);
    assert_eq!((&view["changed_by"]["name"], &view["changed_by"]["by"]), (&json!("Ann"), &json!("viewer")));
}

#[test]
fn each_view_names_the_author_of_the_change() {
    let server = TableServer::with(&[]);
    let (mut ann, table, secret) = server.shared("rows.tsv", &tsv(250));
    ann.send(&json!({"me": {"name": "Ann"}}));
    let id = person(&mut ann, |person| person["name"] == "Ann")["id"].take();
    let mut bob = server.viewer(&format!("/tables/ws/{table}"));
    ann.send(&json!({"page": 3}));
    let view = bob.view(|view| view["page_no"] == 3);
    assert_eq!(view["changed_by"], json!({"id": id, "name": "Ann", "by": "viewer"}));
    assert_eq!(server.append(&table, &secret, "text/plain", "a\tb\tc\n").0, 200);
    let view = bob.view(|view| view["total_number"] == 251);
    assert_eq!(view["changed_by"], json!({"id": null, "name": null, "by": "append"}));
    let mut program = server.viewer(&format!("/tables/ws/{table}?client=cli"));
    program.send(&json!({"search": "row 7"}));
    let view = bob.view(|view| view["search"] == "row 7");
    assert_eq!(view["changed_by"], json!({"id": null, "name": null, "by": "cli"}));
}
