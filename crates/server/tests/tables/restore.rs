//! A replaced file can be restored for a while; a binary file replaces nothing by mistake.

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, wait_until};

use crate::table_server::{TableServer, kept, listing, tsv};

#[test]
fn a_replaced_file_is_restored_with_its_view_and_back() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("old.csv", "n,word\n1,apple\n2,pear\n3,apple\n");
    viewer.send(&json!({"restore": {}}));
    let (code, reason) = viewer.error();
    assert!(code == 409 && reason.contains("tables.keep_previous"), "{reason}");
    viewer.send(&json!({"search": "apple"}));
    assert_eq!(viewer.view(|view| view["search"] == "apple")["previous"], Value::Null);
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    viewer.upload("new.tsv", tsv(50).as_bytes());
    let view = other.view(|view| view["name"] == "new.tsv" && view["loading"] == false);
    assert_eq!((&view["previous"]["name"], &view["search"]), (&json!("old.csv"), &json!("")));
    assert!(view["previous"]["until"].as_u64() > Some(1_700_000_000), "{view}");
    other.send(&json!({"restore": {}}));
    let view = viewer.view(|view| view["name"] == "old.csv" && view["total_number"] == 2);
    assert_eq!(
        (&view["search"], &view["data"][0], &view["previous"]["name"]),
        (&json!("apple"), &json!(["1", "apple"]), &json!("new.tsv"))
    );
    assert_eq!(view["history"], json!({"undo": 0, "redo": 0}));
    // The restored file is complete: rows can be appended, and it survives a restart.
    assert_eq!(server.append(&table, &secret, "text/plain", "4,apple\n").0, 200);
    viewer.view(|view| view["total_number"] == 3);
    let folder = server.stop();
    let server = TableServer::start(&[&format!("data_dir={}", folder.path().display())]);
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    viewer.view(|view| view["total_number"] == 3 && view["previous"]["name"] == "new.tsv");
    viewer.send(&json!({"restore": {}}));
    viewer.view(|view| view["name"] == "new.tsv" && view["total_number"] == 50);
}

#[test]
fn the_bytes_of_a_replaced_file_are_released_after_its_time() {
    let server = TableServer::with(&["tables.keep_previous=1s"]);
    let (mut viewer, ..) = server.shared("old.tsv", &tsv(100));
    let before = kept(&server.store());
    viewer.upload("new.tsv", tsv(200).as_bytes());
    viewer.view(|view| view["name"] == "new.tsv" && view["previous"]["name"] == "old.tsv");
    viewer.view(|view| view["previous"].is_null());
    viewer.send(&json!({"restore": {}}));
    assert_eq!(viewer.error().0, 409);
    wait_until(PATIENCE, "the end of the replaced file", || listing(&server.store()).len() == before.len());
}

#[test]
fn a_locked_table_is_restored_by_its_owner_alone() {
    let server = TableServer::with(&[]);
    let (mut owner, table, _) = server.shared("old.tsv", &tsv(10));
    owner.upload("new.tsv", tsv(20).as_bytes());
    owner.view(|view| view["name"] == "new.tsv");
    owner.send(&json!({"lock": {"uploads": true}}));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    other.until("the lock", |message| message["lock"]["uploads"] == true);
    other.send(&json!({"restore": {}}));
    assert_eq!(other.error().0, 403);
    owner.send(&json!({"restore": {}}));
    other.view(|view| view["name"] == "old.tsv");
}

#[test]
fn a_binary_file_is_refused_with_the_reason_unless_it_is_declared_as_text() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(10));
    let binary: Vec<u8> = std::fs::read("/bin/ls").expect("a program").into_iter().take(64 << 10).collect();
    viewer.upload("ls", &binary);
    let (code, reason) = viewer.error();
    assert!(code == 415 && reason.contains("NUL bytes") && reason.contains("\"text\":true"), "{reason}");
    assert_eq!(viewer.view(|_| true)["name"], "rows.tsv");
    viewer.send(&json!({"upload": {"name": "ls", "size": binary.len(), "text": true}}));
    viewer.binary(&binary);
    viewer.send(&json!({"upload_end": {}}));
    viewer.view(|view| view["name"] == "ls" && view["loading"] == false);
    // UTF-16 has NUL bytes, too.
    let wide: Vec<u8> = tsv(500).encode_utf16().flat_map(u16::to_le_bytes).collect();
    viewer.upload("wide.tsv", &wide);
    let view = viewer.view(|view| view["name"] == "wide.tsv" && view["loading"] == false);
    assert_eq!((&view["total_number"], &view["dialect"]["encoding"]), (&json!(500), &json!("UTF-16LE")));
}
