//! Uploads: visible at once, complete at the end, and without remains after a failure.

use std::time::Duration;

use serde_json::json;
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::ws::Opcode;

use crate::table_server::{Sent, TableServer, Viewer, kept, listing, tsv};

/// The rest of the file that [`begin`] has started.
const REST: &[u8] = b"more\trows\tcome\n";

/// Begins the upload of a larger file and sends its first rows.
fn begin(viewer: &mut Viewer, rows: usize) {
    viewer.send(&json!({"upload": {"name": "big.tsv", "size": tsv(rows).len() + REST.len()}}));
    viewer.binary(tsv(rows).as_bytes());
}

/// Waits until a store holds these files and no others.
fn until_store_contains(server: &TableServer, files: &[String]) {
    let store = server.store();
    wait_until(PATIENCE, &format!("only {files:?} to be left"), || listing(&store) == files);
}

#[test]
fn the_first_page_is_visible_during_the_upload() {
    let server = TableServer::with(&[]);
    let mut uploader = server.viewer("/tables/ws");
    begin(&mut uploader, 150);
    uploader.until("the owner's secret", |message| message["owner"].is_string());
    let view = uploader.view(|_| true);
    assert_eq!(
        (&view["loading"], &view["name"], &view["size"]),
        (&json!(true), &json!("big.tsv"), &json!(tsv(150).len() + REST.len()))
    );
    assert_eq!(view["data"].as_array().map(Vec::len), Some(100));
    // A new viewer sees it too, and can change the page.
    let table = view["uuid"].as_str().expect("a name").to_owned();
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    assert_eq!(other.json()["loading"], true);
    other.send(&json!({"page": 2}));
    assert_eq!(uploader.view(|view| view["page_no"] == 2)["data"].as_array().map(Vec::len), Some(50));
    uploader.binary(REST);
    uploader.send(&json!({"upload_end": {}}));
    for viewer in [&mut uploader, &mut other] {
        let view = viewer.view(|view| view["loading"] == false);
        assert_eq!((&view["total_number"], &view["page_no"]), (&json!(151), &json!(2)));
    }
}

#[test]
fn all_viewers_get_the_progress_of_an_upload() {
    let server = TableServer::with(&[]);
    let (mut uploader, table, _) = server.shared("rows.tsv", &tsv(10));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    begin(&mut uploader, 5000);
    let received = tsv(5000).len();
    for viewer in [&mut uploader, &mut other] {
        let update = viewer.until("progress", |message| message["progress"]["received"] == received);
        assert_eq!(
            update["progress"],
            json!({"received": received, "size": received + REST.len(), "rows": 5000})
        );
    }
    uploader.binary(REST);
    uploader.send(&json!({"upload_end": {}}));
    // The upload ends with a last progress message, followed by the complete table.
    for viewer in [&mut uploader, &mut other] {
        viewer.until("the last progress", |message| message["progress"]["rows"] == 5001);
        assert_eq!(viewer.view(|view| view["total_number"] == 5001)["loading"], false);
    }
}

#[test]
fn an_aborted_upload_keeps_the_old_table() {
    let server = TableServer::with(&[]);
    let (mut uploader, table, _) = server.shared("rows.tsv", &tsv(250));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    other.send(&json!({"page": 2}));
    uploader.view(|view| view["page_no"] == 2);
    let files = kept(&server.store());
    begin(&mut uploader, 5000);
    other.until("progress", |message| message["progress"].is_object());
    uploader.send(&json!({"upload_abort": {}}));
    for viewer in [&mut uploader, &mut other] {
        let view = viewer.view(|_| true);
        assert_eq!(
            (&view["total_number"], &view["page_no"], &view["name"]),
            (&json!(250), &json!(2), &json!("rows.tsv"))
        );
    }
    until_store_contains(&server, &files);
    // The connection continues normally.
    uploader.upload("new.tsv", tsv(20).as_bytes());
    assert_eq!(uploader.view(|view| view["total_number"] == 20)["name"], "new.tsv");
}

#[test]
fn a_lost_uploader_keeps_the_old_table() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", &tsv(250));
    let files = kept(&server.store());
    for path in ["/tables/ws/", "/parser/ws/"] {
        let mut uploader = server.viewer(&format!("{path}{table}"));
        match path {
            "/tables/ws/" => begin(&mut uploader, 5000),
            _ => uploader.frame(false, Opcode::Binary, tsv(5000).as_bytes()),
        }
        viewer.until("progress", |message| message["progress"].is_object());
        drop(uploader);
        assert_eq!(viewer.view(|view| view["viewers"] == 1)["total_number"], 250);
        until_store_contains(&server, &files);
    }
}

#[test]
fn an_interrupted_first_upload_leaves_nothing() {
    let server = TableServer::with(&[]);
    let mut uploader = server.viewer("/tables/ws");
    begin(&mut uploader, 200);
    let view = uploader.view(|_| true);
    let path = format!("/tables/ws/{}", view["uuid"].as_str().expect("a name"));
    let mut other = server.viewer(&path);
    assert_eq!(other.json()["total_number"], 200);
    drop(uploader);
    let view = other.view(|view| view["total_number"] == 0);
    assert_eq!((&view["loading"], &view["data"], &view["name"]), (&json!(false), &json!([]), &json!("")));
    drop(other);
    until_store_contains(&server, &[]);
    let mut late = server.viewer(&path);
    assert_eq!(late.error().0, 404);
    assert_eq!(late.close_code(), 4404);
}

#[test]
fn after_an_aborted_first_upload_another_can_begin() {
    let server = TableServer::with(&[]);
    let mut uploader = server.viewer("/tables/ws");
    begin(&mut uploader, 200);
    let table = uploader.view(|view| view["total_number"] == 200)["uuid"].clone();
    uploader.send(&json!({"upload_abort": {}}));
    uploader.view(|view| view["total_number"] == 0 && view["loading"] == false);
    uploader.upload("second.tsv", tsv(5).as_bytes());
    assert_eq!(uploader.view(|view| view["total_number"] == 5)["uuid"], table);
}

#[test]
fn a_second_concurrent_upload_is_rejected() {
    let server = TableServer::with(&[]);
    let (mut first, table, _) = server.shared("rows.tsv", &tsv(10));
    let mut second = server.viewer(&format!("/tables/ws/{table}"));
    let mut third = server.viewer(&format!("/parser/ws/{table}"));
    begin(&mut first, 300);
    second.until("progress", |message| message["progress"].is_object());
    second.upload("other.tsv", tsv(400).as_bytes());
    assert_eq!(second.error().0, 409);
    third.binary(tsv(500).as_bytes());
    assert_eq!(third.error().0, 409);
    first.binary(REST);
    first.send(&json!({"upload_end": {}}));
    for viewer in [&mut first, &mut second] {
        viewer.view(|view| view["total_number"] == 301 && view["name"] == "big.tsv");
    }
    // The rejected uploader may try again.
    second.upload("other.tsv", tsv(400).as_bytes());
    first.view(|view| view["total_number"] == 400);
}

#[test]
fn a_file_that_is_no_table_is_rejected_and_the_old_one_stays() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(10));
    let files = kept(&server.store());
    viewer.upload("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    assert_eq!(viewer.error().0, 415);
    assert_eq!(viewer.view(|_| true)["total_number"], 10);
    until_store_contains(&server, &files);
    viewer.send(&json!({"upload_end": {}}));
    assert_eq!(viewer.error(), (409, "no upload is running".into()));
}

#[test]
fn a_small_file_is_shown_whole_at_once() {
    let server = TableServer::with(&[]);
    for (text, rows) in [("", 0), ("a", 1), ("a\n", 1), ("a\tb\n1\t2", 1)] {
        let mut viewer = server.viewer("/tables/ws");
        viewer.upload("small.tsv", text.as_bytes());
        let view = viewer.view(|_| true);
        assert_eq!((&view["total_number"], &view["loading"]), (&json!(rows), &json!(false)), "{text:?}");
        while let Some(message) = viewer.next_within(Duration::from_millis(20)) {
            let Sent::Json(message) = message else { panic!("{message:?}") };
            assert!(message["uuid"].is_null(), "another view: {message}");
        }
    }
}

#[test]
fn sorting_during_an_upload_is_undone_when_the_upload_fails() {
    let server = TableServer::with(&[]);
    let mut viewer = server.viewer("/tables/ws");
    let row = |cell: usize| format!("{cell}\t{cell}\t{cell}\t{cell}\t{cell}\t{}\n", cell % 7);
    viewer.send(&json!({"upload": {"name": "six.tsv"}}));
    viewer.binary((0..200).map(row).collect::<String>().as_bytes());
    let table = viewer.view(|_| true)["uuid"].as_str().expect("a name").to_owned();
    viewer.send(&json!({"sort": [{"column": 5, "desc": true}]}));
    viewer.view(|view| view["sort"] != json!([]));
    viewer.send(&json!({"page": 2}));
    viewer.view(|view| view["page_no"] == 2);
    viewer.send(&json!({"upload_abort": {}}));
    viewer.view(|view| view["total_number"] == 0);
    viewer.upload("two.tsv", b"a\tb\n1\t2\n");
    let view = viewer.view(|view| view["loading"] == false && view["name"] == "two.tsv");
    assert_eq!((&view["data"], &view["sort"]), (&json!([["1", "2"]]), &json!([])));
    assert_eq!(server.get(&format!("/tables/{table}.json")).0, 200);
}

#[test]
fn a_file_with_another_length_than_announced_is_rejected() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(10));
    let files = kept(&server.store());
    for (announced, expected) in [(100, "4 arrived"), (3, "more arrived")] {
        viewer.send(&json!({"upload": {"name": "other.tsv", "size": announced}}));
        viewer.binary(b"a\tb\n");
        viewer.send(&json!({"upload_end": {}}));
        let (code, reason) = viewer.error();
        assert!(
            code == 422 && reason.contains(expected) && reason.contains(&announced.to_string()),
            "{reason}"
        );
        assert_eq!(viewer.view(|_| true)["total_number"], 10);
        until_store_contains(&server, &files);
    }
    viewer.upload("empty.tsv", b"");
    viewer.view(|view| view["total_number"] == 0);
}

#[test]
fn unreadable_upload_messages_replace_nothing() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(10));
    for upload in [r#"{"upload":{"name":"x","size":-1}}"#, r#"{"upload":5}"#, r#" { "upload" : {"name":"#] {
        viewer.text(upload);
        viewer.binary(b"one\tpiece\n");
        viewer.binary(b"another\tpiece\n");
        viewer.send(&json!({"upload_end": {}}));
        viewer.send(&json!({"page": 1}));
        assert_eq!(viewer.error().0, 400, "{upload}");
        assert_eq!(viewer.view(|_| true)["total_number"], 10, "{upload}");
    }
    // An upload in progress continues.
    viewer.send(&json!({"upload": {"name": "good.tsv"}}));
    viewer.text(r#"{"upload":{"size":"many"}}"#);
    viewer.binary(b"a\tb\n1\t2\n");
    viewer.send(&json!({"upload_end": {}}));
    assert_eq!(viewer.error().0, 400);
    viewer.view(|view| view["name"] == "good.tsv" && view["total_number"] == 1);
}

#[test]
fn a_file_sent_after_a_rejection_is_reported_as_discarded() {
    let server = TableServer::with(&["tables.max_size=100000"]);
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(10));
    let refused_at_once = json!({"upload": {"name": "big.tsv", "size": 100_001}});
    for (announced, piece, code) in [
        (refused_at_once, None, 413),
        (json!({"upload": {"name": "x.zip"}}), Some(b"PK\x03\x04                      \x05\0\0\0x.txt"), 415),
    ] {
        viewer.send(&announced);
        // Data that was in transit at the rejection belongs to the upload and causes no second error.
        if let Some(piece) = piece {
            viewer.binary(piece);
        }
        assert_eq!(viewer.error().0, code);
        // Reading sends the pong by which the server detects that the error was received.
        viewer.send(&json!({"page": 1}));
        viewer.view(|_| true);
        viewer.binary(b"whole\tfile\n1\t2\n");
        let (code, reason) = viewer.error();
        assert!(code == 409 && reason.contains("upload_end"), "{reason}");
        viewer.binary(b"whole\tfile\n1\t2\n");
        viewer.send(&json!({"upload_abort": {}}));
        viewer.send(&json!({"page": 1}));
        let next = viewer.until("a view and no error", |message| message["progress"].is_null());
        assert_eq!(next["total_number"], 10, "{next}");
    }
    // After `upload_end` the rejected upload is over.
    viewer.binary(b"whole\tfile\n1\t2\n");
    assert_eq!(viewer.view(|view| view["total_number"] == 1)["header"], json!(["whole", "file"]));
}

#[test]
fn a_stalled_upload_times_out_despite_other_messages() {
    let server = TableServer::with(&[
        "tables.upload_timeout=1s",
        "client.ping_interval=1s",
        "client.pong_timeout=500ms",
    ]);
    let (mut other, table, _) = server.shared("rows.tsv", &tsv(10));
    let mut idle = server.viewer(&format!("/tables/ws/{table}"));
    begin(&mut idle, 300);
    other.until("progress", |message| message["progress"].is_object());
    let end = std::time::Instant::now() + PATIENCE;
    let (code, reason) = loop {
        // The uploader sends pongs and page changes meanwhile.
        idle.send(&json!({"rows": {"from": 0, "count": 1}}));
        // The other viewer answers its pings.
        let _ = other.next_within(Duration::from_millis(1));
        match idle.next_within(Duration::from_millis(100)) {
            Some(Sent::Json(message)) if message["error"].is_object() => {
                break (message["error"]["code"].clone(), message["error"]["message"].to_string());
            }
            _ => assert!(std::time::Instant::now() < end, "it goes on for ever"),
        }
    };
    assert!(code == 408 && reason.contains("tables.upload_timeout"), "{reason}");
    other.upload("new.tsv", tsv(20).as_bytes());
    other.view(|view| view["total_number"] == 20);
}

#[test]
fn the_number_of_rows_grows_during_an_upload() {
    let server = TableServer::with(&[]);
    let mut uploader = server.viewer("/tables/ws");
    uploader.send(&json!({"upload": {"name": "big.tsv", "size": 1 << 20}}));
    uploader.binary(tsv(150).as_bytes());
    uploader.view(|view| view["total_number"] == 150);
    uploader.binary(&tsv(1000).as_bytes()["id\tname\tvalue\n".len()..]);
    let view = uploader.view(|view| view["total_number"] == 1150);
    assert_eq!((&view["loading"], &view["page_no"]), (&json!(true), &json!(1)));
}
