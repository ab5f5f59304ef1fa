//! The lifetime of tables.

use std::io::{ErrorKind, Read as _};
use std::time::{Duration, Instant};

use serde_json::json;
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::ws::Opcode;

use crate::table_server::{Sent, TableServer, kept, listing, tsv};

#[test]
fn a_connection_ends_after_the_client_s_close_frame_or_after_five_seconds() {
    let server = TableServer::with(&[]);
    let path = "/tables/ws/00000000-0000-4000-8000-000000000000";
    let [mut polite, mut silent] = [server.viewer(path), server.viewer(path)];
    let began = Instant::now();
    let mut byte = [0];
    for viewer in [&mut polite, &mut silent] {
        assert_eq!(viewer.close_code(), 4404);
        viewer.io.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
        let open = viewer.io.read(&mut byte).expect_err("the server has ended the connection first");
        assert_eq!(open.kind(), ErrorKind::WouldBlock);
        viewer.io.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    }
    polite.frame(true, Opcode::Text, b"{}");
    polite.frame(true, Opcode::Close, &4404_u16.to_be_bytes());
    assert_eq!(polite.io.read(&mut byte).expect("the end"), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "the client's Close frame was not noticed");
    assert_eq!(silent.io.read(&mut byte).expect("the end"), 0);
    assert!(began.elapsed() >= Duration::from_secs(4), "the client had no time to answer");
}

#[test]
fn a_table_survives_a_restart_with_its_view_its_locks_and_its_owner() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("rows.csv", &tsv(250).replace('\t', ","));
    viewer.send(&json!({"sort": [{"column": 0, "desc": true}]}));
    viewer.send(&json!({"page_size": 10}));
    viewer.send(&json!({"lock": {"uploads": true}}));
    viewer.send(&json!({"page": 3}));
    let before = viewer.view(|view| view["page_no"] == 3 && view["page_size"] == 10);
    let folder = server.stop();
    // Viewers get a close code to reconnect.
    let close = loop {
        match viewer.next() {
            Sent::Json(_) => {}
            other => break other,
        }
    };
    assert_eq!(close, Sent::Close(1012));
    let server = TableServer::start(&[&format!("data_dir={}", folder.path().display())]);
    let mut viewer = server.viewer(&format!("/tables/ws/{table}?owner={secret}"));
    let view = viewer.view(|view| view["loading"] == false);
    for field in ["uuid", "page_no", "page_size", "sort", "data", "header", "name", "size", "total_number"] {
        assert_eq!(view[field], before[field], "{field}");
    }
    assert!(view["version"].as_u64() > before["version"].as_u64());
    viewer.until("the locks", |message| message["lock"]["uploads"] == true);
    viewer.send(&json!({"lock": {"uploads": false}}));
    viewer.until("the locks", |message| message["lock"]["uploads"] == false);
}

#[test]
fn a_table_without_viewers_expires() {
    let server = TableServer::with(&["tables.keep=1s"]);
    let (viewer, table, _) = server.shared("rows.tsv", &tsv(10));
    let folder = server.store();
    assert!(!listing(&folder).is_empty());
    let left = Instant::now();
    drop(viewer);
    wait_until(PATIENCE, "the table to go", || listing(&folder).is_empty());
    // It does not expire before `tables.keep`, although it is closed in memory earlier.
    let kept = left.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&kept), "{kept:?}");
    assert_eq!(server.viewer(&format!("/tables/ws/{table}")).close_code(), 4404);
}

#[test]
fn a_table_with_viewers_counts_as_used_even_across_a_crash() {
    let server = TableServer::with(&["tables.keep=2s"]);
    let (_viewer, ..) = server.shared("rows.tsv", &tsv(10));
    let files = kept(&server.store());
    let record = files.iter().find(|name| name.ends_with("record.json")).expect("a record");
    let record = server.store().join(record);
    let age = || {
        let written = std::fs::metadata(&record).and_then(|record| record.modified()).expect("a time");
        written.elapsed().unwrap_or_default()
    };
    // The table is idle for longer than `tables.keep`, but a server that starts now would find it in use.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert!(age() < Duration::from_millis(1800), "{:?}", age());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_empty_record_after_a_crash_is_ignored() {
    let server = TableServer::with(&[]);
    let (viewer, table, _) = server.shared("rows.tsv", &tsv(10));
    drop(viewer);
    let folder = server.stop();
    let tables = folder.path().join("tables");
    std::fs::write(tables.join(&table).join("record.json"), b"").expect("a file");
    let server = TableServer::start(&[&format!("data_dir={}", folder.path().display())]);
    assert_eq!(server.get(&format!("/tables/{table}.json")).0, 404);
    assert_eq!(server.viewer(&format!("/tables/ws/{table}")).close_code(), 4404);
    assert!(listing(&tables).is_empty());
}

#[test]
fn without_a_folder_tables_end_with_the_server() {
    let server = TableServer::start(&[]);
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(10));
    viewer.send(&json!({"search": "row 3"}));
    assert_eq!(viewer.view(|view| view["search"] == "row 3")["total_number"], 1);
}

#[test]
fn a_reopened_table_shows_the_last_page() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", &tsv(250));
    viewer.send(&json!({"page": 2}));
    viewer.view(|view| view["page_no"] == 2);
    drop(viewer);
    let mut again = server.viewer(&format!("/tables/ws/{table}"));
    assert_eq!(again.view(|_| true)["page_no"], 2);
}

#[test]
fn disabled_tables_are_404() {
    let server = TableServer::start(&["tables.enabled=false"]);
    assert_eq!(server.get("/parser/ws").0, 404);
}
