//! Permissions of the owner of a table.

use serde_json::json;
use tidings_testkit::{PATIENCE, wait_until};

use crate::table_server::{TableServer, kept, listing, tsv};

#[test]
fn the_owner_can_lock_the_view_and_unlock_it() {
    let server = TableServer::with(&[]);
    let (mut owner, table, _) = server.shared("rows.tsv", &tsv(250));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    owner.send(&json!({"lock": {"view": true}}));
    let locks = other.until("the locks", |message| message["lock"].is_object());
    assert_eq!(locks["lock"], json!({"uploads": false, "view": true}));
    other.binary(b"mine\tnow\n");
    assert_eq!(other.error().0, 403);
    for message in [json!({"page": 2}), json!({"search": "x"}), json!({"dialect": {"header": false}})] {
        other.send(&message);
        assert_eq!(other.error().0, 403, "{message}");
    }
    // Requests that affect only the requester stay permitted for all viewers.
    other.send(&json!({"rows": {"from": 100, "count": 1}}));
    other.until("a window", |message| message["rows"].is_object());
    owner.send(&json!({"page": 2}));
    other.view(|view| view["page_no"] == 2);
    // New viewers receive the locks.
    let mut late = server.viewer(&format!("/tables/ws/{table}"));
    late.until("the locks", |message| message["lock"]["view"] == true);
    owner.send(&json!({"lock": {"view": false}}));
    other.until("the locks", |message| message["lock"]["view"] == false);
    other.send(&json!({"page": 3}));
    owner.view(|view| view["page_no"] == 3);
}

#[test]
fn the_owner_can_lock_uploads() {
    let server = TableServer::with(&[]);
    let (mut owner, table, _) = server.shared("rows.tsv", &tsv(250));
    owner.send(&json!({"lock": {"uploads": true}}));
    owner.until("the locks", |message| message["lock"]["uploads"] == true);
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    other.upload("mine.tsv", tsv(3).as_bytes());
    assert_eq!(other.error().0, 403);
    let mut article = server.viewer(&format!("/parser/ws/{table}"));
    article.binary(tsv(3).as_bytes());
    assert_eq!(article.error().0, 403);
    // The connections stay open, and all viewers can still change the page.
    other.send(&json!({"page": 2}));
    article.view(|view| view["page_no"] == 2);
    owner.upload("mine.tsv", tsv(30).as_bytes());
    other.view(|view| view["total_number"] == 30);
}

#[test]
fn only_the_secret_makes_an_owner() {
    let server = TableServer::with(&[]);
    let (creator, table, secret) = server.shared("rows.tsv", &tsv(250));
    drop(creator);
    let mut owner = server.viewer(&format!("/tables/ws/{table}?owner={secret}"));
    owner.send(&json!({"lock": {"uploads": true}}));
    owner.until("the locks", |message| message["lock"]["uploads"] == true);
    for path in [
        format!("/tables/ws/{table}"),
        format!("/tables/ws/{table}?owner=guess"),
        format!("/parser/ws/{table}?owner={secret}"),
    ] {
        let mut other = server.viewer(&path);
        other.view(|_| true);
        other.send(&json!({"lock": {"uploads": false}}));
        assert_eq!(other.error().0, 403, "{path}");
        other.send(&json!({"delete": {}}));
        assert_eq!(
            other.until("an error", |message| message["error"].is_object())["error"]["code"],
            403,
            "{path}"
        );
    }
    // The secret is sent to the creator only, and stored as a hash.
    let mut files = kept(&server.store()).into_iter().filter(|name| name.ends_with("record.json"));
    let record =
        std::fs::read_to_string(server.store().join(files.next().expect("a record"))).expect("a file");
    assert!(!record.contains(&secret));
}

#[test]
fn the_article_s_page_has_no_owner() {
    let server = TableServer::with(&[]);
    let mut creator = server.viewer("/parser/ws");
    creator.binary(tsv(3).as_bytes());
    creator.view(|_| true);
    creator.send(&json!({"delete": {}}));
    assert_eq!(creator.error().0, 403);
}

#[test]
fn a_deleted_table_is_closed_for_all_viewers() {
    let server = TableServer::with(&[]);
    let (mut owner, table, _) = server.shared("rows.tsv", &tsv(250));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    other.view(|_| true);
    owner.send(&json!({"delete": {}}));
    for viewer in [&mut owner, &mut other] {
        assert_eq!(viewer.error().0, 404);
        assert_eq!(viewer.close_code(), 4404);
    }
    wait_until(PATIENCE, "nothing to be left", || listing(&server.store()).is_empty());
    assert_eq!(server.get(&format!("/tables/{table}.json")).0, 404);
    assert_eq!(server.viewer(&format!("/tables/ws/{table}")).close_code(), 4404);
}

#[test]
fn a_lock_stops_uploads_of_others_but_not_of_the_owner() {
    let server = TableServer::with(&[]);
    let (mut owner, table, _) = server.shared("rows.tsv", &tsv(250));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    for lock in ["uploads", "view"] {
        other.send(&json!({"upload": {"name": "sneak.tsv"}}));
        other.binary(tsv(300).as_bytes());
        owner.until("progress", |message| message["progress"].is_object());
        owner.send(&json!({"lock": {lock: true}}));
        let (code, reason) = other.error();
        assert!(code == 403 && reason.contains("stopped"), "{reason}");
        other.send(&json!({"upload_end": {}}));
        other.send(&json!({"rows": {"from": 0, "count": 1}}));
        let rows = other.until("a window", |message| message["rows"].is_object());
        assert_eq!(rows["rows"]["total_number"], 250, "{lock}");
        owner.send(&json!({"lock": {lock: false}}));
        other.until("the locks", |message| message["lock"][lock] == false);
    }
    owner.send(&json!({"upload": {"name": "mine.tsv"}}));
    owner.binary(tsv(30).as_bytes());
    owner.send(&json!({"lock": {"uploads": true, "view": true}}));
    owner.send(&json!({"upload_end": {}}));
    other.view(|view| view["total_number"] == 30);
}
