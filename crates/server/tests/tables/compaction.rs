//! Compaction of the logs of tables with a key.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::live::{column, keyed, remove, upsert};
use crate::table_server::TableServer;

/// The number of rows of a table, and the length of a cell.
const ROWS: usize = 500;
const CELL: usize = 100;
/// A log of a table of [`ROWS`] rows exceeds 1 MiB after this many changes of all rows.
const ROUNDS: usize = 24;

fn text(round: usize, row: usize) -> String {
    format!("{round}-{row}-{}", "x".repeat(CELL))
}

fn file() -> String {
    let rows: Vec<String> = (0..ROWS).map(|row| format!("{row},{row},{}", text(0, row))).collect();
    format!("id,n,text\n{}\n", rows.join("\n"))
}

fn change_all(server: &TableServer, table: &str, secret: &str, round: usize) {
    let rows: Vec<Value> =
        (0..ROWS).map(|row| json!({"id": row, "n": row + round, "text": text(round, row)})).collect();
    let (status, answer) = upsert(server, table, secret, &json!(rows));
    assert_eq!((status, &answer["updated"]), (200, &json!(ROWS)), "{answer}");
}

fn metric(server: &TableServer, name: &str) -> f64 {
    let metrics = String::from_utf8(server.get("/metrics").2).expect("text");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(-1.0)
}

fn compactions(server: &TableServer, outcome: &str) -> f64 {
    metric(server, &format!("tidings_table_compactions_total{{outcome=\"{outcome}\"}}"))
}

/// The files with this name in the folder of a table.
fn files(store: &Path, table: &str, name: &str) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(store.join(table)).expect("a folder").flatten();
    folders.map(|folder| folder.path().join(name)).filter(|path| path.exists()).collect()
}

fn assert_rows(server: &TableServer, table: &str, round: usize, count: usize) {
    let (status, _, body) = server.get(&format!("/tables/{table}/download"));
    assert_eq!(status, 200);
    let wanted: Vec<String> =
        (0..count).map(|row| format!("{row},{},{}", row + round, text(round, row))).collect();
    let body = String::from_utf8(body).expect("text");
    assert!(body == format!("id,n,text\n{}\n", wanted.join("\n")), "other rows: {body:.300}");
}

fn compacts_while_rows_change(name: &str, content: &str) {
    let store = tempfile::tempdir().expect("a folder");
    let option = format!("tables.store={}", store.path().display());
    let server = TableServer::with(&[&option]);
    let (mut viewer, table, secret) = keyed(&server, name, content, &["id"]);
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    let sorted = json!([{"column": 1, "desc": true}]);
    other.send(&json!({"private": {"sort": sorted, "page_size": 10}}));
    let highest = |message: &Value, value: usize| {
        message["private"].is_object() && column(&message["private"], 1)[0] == value.to_string()
    };
    other.until("a private view", |message| highest(message, ROWS - 1));
    let mut rounds = 0;
    while rounds < ROUNDS || compactions(&server, "done") < 1.0 {
        rounds += 1;
        change_all(&server, &table, &secret, rounds);
        assert!(rounds < 20 * ROUNDS, "the log is not compacted");
    }
    assert!(metric(&server, "tidings_table_compacted_bytes_total") > 500_000.0);
    change_all(&server, &table, &secret, rounds + 1);
    // The rows and their order stay, and the private view is right.
    other.until("the last rows", |message| highest(message, ROWS + rounds));
    assert_rows(&server, &table, rounds + 1, ROWS);
    let view = viewer.view(|view| view["compacted"].as_u64() >= Some(1));
    assert_eq!(
        (&view["name"], &view["total_number"], &view["key"]),
        (&json!(name), &json!(ROWS), &json!(["id"]))
    );
    let log = &files(store.path(), &table, "original")[0];
    let size = std::fs::metadata(log).expect("a file").len();
    assert!(size < (ROUNDS * ROWS * CELL) as u64, "{size} bytes");
    drop((viewer, other));
    server.stop();
    assert!(files(store.path(), &table, "original.new").is_empty());
    let server = TableServer::start(&[&option]);
    assert_rows(&server, &table, rounds + 1, ROWS);
    change_all(&server, &table, &secret, rounds + 2);
    assert_rows(&server, &table, rounds + 2, ROWS);
}

#[test]
fn a_log_of_text_is_compacted_while_rows_change() {
    compacts_while_rows_change("rows.csv", &file());
}

#[test]
fn a_log_of_objects_is_compacted_while_rows_change() {
    let object = |row: usize| json!({"id": row, "n": row, "text": text(0, row)}).to_string() + "\n";
    let content: String = (0..ROWS).map(object).collect();
    let store = tempfile::tempdir().expect("a folder");
    let option = format!("tables.store={}", store.path().display());
    let server = TableServer::with(&[&option]);
    let (_viewer, table, secret) = keyed(&server, "rows.jsonl", &content, &["id"]);
    let send = |round: usize| {
        let objects: String = (0..ROWS)
            .map(|row| json!({"id": row, "n": row + round, "text": text(round, row)}).to_string() + "\n")
            .collect();
        let target = format!("/tables/{table}/rows?mode=upsert");
        let (status, answer) =
            crate::live::change(&server, ("POST", &target), &secret, "application/x-ndjson", &objects);
        assert_eq!((status, &answer["updated"]), (200, &json!(ROWS)), "{answer}");
    };
    let mut rounds = 0;
    while rounds < ROUNDS || compactions(&server, "done") < 1.0 {
        rounds += 1;
        send(rounds);
        assert!(rounds < 20 * ROUNDS, "the log is not compacted");
    }
    send(rounds + 1);
    assert_rows(&server, &table, rounds + 1, ROWS);
    server.stop();
    let server = TableServer::start(&[&option]);
    assert_rows(&server, &table, rounds + 1, ROWS);
}

#[test]
fn a_node_continues_with_the_log_that_another_node_has_compacted() {
    let (redis, store) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let options = [format!("broker={}", redis.url()), format!("tables.store={}", store.path().display())];
    let options = options.each_ref().map(String::as_str);
    let (a, b) = (TableServer::start(&options), TableServer::start(&options));
    a.until_ready();
    b.until_ready();
    let (_on_a, table, secret) = keyed(&a, "rows.csv", &file(), &["id"]);
    let mut on_b = b.viewer(&format!("/tables/ws/{table}"));
    on_b.view(|view| view["total_number"] == ROWS);
    let mut rounds = 0;
    while rounds < ROUNDS || compactions(&a, "done") + compactions(&b, "done") < 1.0 {
        rounds += 1;
        // Both nodes append to the same log.
        let rows: Vec<Value> =
            (0..ROWS).map(|row| json!({"id": row, "n": row + rounds, "text": text(rounds, row)})).collect();
        let node = if rounds.is_multiple_of(2) { &a } else { &b };
        // The changes of rows that the other node overtakes are not counted in the response.
        let (status, answer) = upsert(node, &table, &secret, &json!(rows));
        assert_eq!(status, 200, "{answer}");
        assert!(rounds < 20 * ROUNDS, "the log is not compacted");
    }
    let (status, answer) = upsert(&b, &table, &secret, &json!([["new", 1, "b"]]));
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = upsert(&a, &table, &secret, &json!([["new", 2, "a"]]));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(remove(&a, &table, &secret, &json!(["new"])).0, 200);
    for node in [&a, &b] {
        wait_until(PATIENCE, "the rows of both nodes", || {
            let (_, _, body) = node.get(&format!("/tables/{table}/download"));
            let body = String::from_utf8(body).expect("text");
            body.lines().count() == ROWS + 1 && body.ends_with(&format!("{}\n", text(rounds, ROWS - 1)))
        });
        assert_rows(node, &table, rounds, ROWS);
    }
}

#[test]
fn without_room_for_the_new_file_the_log_stays_and_takes_rows() {
    const ALL: usize = 4_000;
    const BATCH: usize = 250;
    // Three times the rows fit, and four times do not.
    let rows: Vec<String> = (0..ALL).map(|row| format!("{row},{row},{}", text(0, row))).collect();
    let file = format!("id,n,text\n{}\n", rows.join("\n"));
    let total = format!("tables.max_total={}", file.len() * 18 / 5);
    let server = TableServer::with(&[&total]);
    let (_viewer, table, secret) = keyed(&server, "rows.csv", &file, &["id"]);
    let change = |batch: usize| {
        let rows = (batch * BATCH % ALL..).take(BATCH);
        let rows: Vec<Value> = rows.map(|row| json!([row, row + 1, text(1, row)])).collect();
        let (status, answer) = upsert(&server, &table, &secret, &json!(rows));
        assert_eq!((status, &answer["updated"]), (200, &json!(BATCH)), "{answer}");
    };
    let mut batches = 0;
    while compactions(&server, "failed") < 1.0 {
        change(batches);
        batches += 1;
    }
    assert!(batches > 2 * ALL / BATCH, "{batches} batches");
    change(batches);
    assert_eq!(compactions(&server, "done"), 0.0);
    assert!(files(&server.store(), &table, "original.new").is_empty());
    assert_rows(&server, &table, 1, ALL);
}
