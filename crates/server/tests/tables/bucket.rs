//! Nodes that share a Redis and a bucket, each with its own disk.

use std::time::Duration;

use serde_json::json;
use tidings_testkit::{PATIENCE, Proxy, RedisServer, S3Server, wait_until};

use crate::table_server::{TableServer, Viewer, tsv};

/// The time limit of tests with an unreachable bucket.
const IMPATIENT: &str = "tables.s3.timeout=2s";

/// The Redis and the bucket that two nodes share. The link to the bucket can be cut.
pub(crate) struct Shared {
    redis: RedisServer,
    s3: S3Server,
    pub(crate) link: Proxy,
}

impl Shared {
    pub(crate) fn start() -> Self {
        let (redis, s3) = (RedisServer::start(), S3Server::start());
        let link = Proxy::to(s3.addr());
        Self { redis, s3, link }
    }

    /// A node with an empty disk.
    pub(crate) fn node(&self, options: &[&str]) -> TableServer {
        let of_all = [
            format!("broker={}", self.redis.url()),
            "tables.store=s3://tables/some/prefix".to_owned(),
            format!("tables.s3.endpoint=http://{}", self.link.addr()),
            "tables.s3.allow_http=true".to_owned(),
            "tables.s3.access_key_id=test".to_owned(),
            "tables.s3.secret_access_key=secret".to_owned(),
            "tables.s3.timeout=15s".to_owned(),
        ];
        let of_all = of_all.iter().map(String::as_str);
        let server = TableServer::with(&of_all.chain(options.iter().copied()).collect::<Vec<_>>());
        server.until_ready();
        server
    }

    /// The keys of all objects of tables.
    fn tables(&self) -> Vec<String> {
        let mut keys = self.s3.keys();
        keys.retain(|key| key != "some/prefix/pulse");
        keys
    }

    /// Names of a table's objects without the table's prefix, except those with the dialect of a file.
    fn objects(&self, table: &str) -> Vec<String> {
        let prefix = format!("some/prefix/{table}/");
        let keys = self.s3.keys();
        let names = keys.iter().filter_map(|key| key.strip_prefix(&prefix));
        names.filter(|name| !name.ends_with("/dialect")).map(ToOwned::to_owned).collect()
    }
}

/// A table with this number of rows and a viewer on each node, after each viewer has received the other in its view.
fn shared(a: &TableServer, b: &TableServer, rows: usize) -> (Viewer, Viewer, String, String) {
    let (mut on_a, table, secret) = a.shared("rows.tsv", &tsv(rows));
    // The record is written to the bucket shortly after the first view.
    wait_until(PATIENCE, "the table on the other node", || {
        b.get(&format!("/tables/{table}/download")).0 == 200
    });
    let mut on_b = b.viewer(&format!("/tables/ws/{table}"));
    on_b.view(|view| view["total_number"] == rows && view["loading"] == false && view["viewers"] == 2);
    on_a.view(|view| view["viewers"] == 2);
    (on_a, on_b, table, secret)
}

#[test]
fn a_table_of_one_node_can_be_viewed_and_changed_on_another() {
    let shared_by = Shared::start();
    let node = || shared_by.node(&["tables.keep_previous=8s"]);
    let (a, b) = (node(), node());
    let (mut on_a, mut on_b, table, _) = shared(&a, &b, 250);
    on_a.send(&json!({"page": 2}));
    assert_eq!(on_b.view(|view| view["page_no"] == 2)["data"][0][0], "000100");
    on_b.send(&json!({"sort": [{"column": 0, "desc": true}]}));
    assert_eq!(on_a.view(|view| view["sort"] != json!([]))["data"][0][0], "000249");
    // A replaced file reaches the other node too, and the old one is deleted from the bucket.
    on_b.upload("new.csv", b"a;b\n1;2\n");
    assert_eq!(on_a.view(|view| view["name"] == "new.csv")["total_number"], 1);
    on_a.send(&json!({"restore": {}}));
    assert_eq!(on_b.view(|view| view["name"] == "rows.tsv")["total_number"], 250);
    wait_until(PATIENCE, "the old file to be removed", || shared_by.objects(&table).len() == 2);
}

#[test]
fn a_file_of_several_parts_is_the_same_on_another_node() {
    let shared_by = Shared::start();
    let (a, b) = (shared_by.node(&[]), shared_by.node(&[]));
    let text = tsv(700_000);
    assert!(text.len() > 16 << 20);
    let (_uploader, table, _) = a.shared("rows.tsv", &text);
    let (status, _, body) = b.get(&format!("/tables/{table}/download"));
    assert_eq!(status, 200);
    assert!(body == text.as_bytes(), "{} bytes instead of {}", body.len(), text.len());
    assert!(shared_by.s3.unfinished().is_empty());
}

#[test]
fn rows_appended_on_any_node_are_merged_into_few_objects() {
    let shared_by = Shared::start();
    let (a, b) = (shared_by.node(&[]), shared_by.node(&[]));
    let (mut on_a, mut on_b, table, secret) = shared(&a, &b, 10);
    for row in 0..80 {
        let on = if row % 3 == 0 { &b } else { &a };
        let (status, answer) = on.append(&table, &secret, "text/plain", &format!("new\trow\t{row}\n"));
        assert_eq!(status, 200, "{answer}");
    }
    for viewer in [&mut on_a, &mut on_b] {
        let view = viewer.view(|view| view["total_number"] == 90);
        let new: Vec<_> =
            (10..90).map(|row| view["data"][row][2].as_str().expect("a cell").to_owned()).collect();
        assert_eq!(new, (0..80).map(|row| row.to_string()).collect::<Vec<_>>());
    }
    wait_until(PATIENCE, "objects to be joined", || shared_by.objects(&table).len() < 40);
    // A new node shows the same.
    let late = shared_by.node(&[]);
    let (_, _, body) = late.get(&format!("/tables/{table}/download"));
    let text = String::from_utf8(body).expect("text");
    assert_eq!(text.lines().count(), 91);
    assert!(text.ends_with("new\trow\t79\n"));
}

#[test]
fn every_node_reads_a_file_with_the_same_dialect() {
    let shared_by = Shared::start();
    let a = shared_by.node(&[]);
    let (mut on_a, table, secret) = a.shared("rows.csv", "a,b\n1,2\n3,4\n");
    // Detected from all rows together, the delimiter would be a semicolon.
    let rows = "a;b;c,x\n".repeat(40);
    let (status, answer) = a.append(&table, &secret, "text/csv", &rows);
    assert_eq!(status, 200, "{answer}");
    let b = shared_by.node(&[]);
    let mut on_b = b.viewer(&format!("/tables/ws/{table}"));
    for viewer in [&mut on_a, &mut on_b] {
        let view = viewer.view(|view| view["total_number"] == 42 && view["loading"] == false);
        assert_eq!((&view["header"], &view["data"][0]), (&json!(["a", "b"]), &json!(["1", "2"])));
        assert_eq!((&view["data"][41], &view["dialect"]["delimiter"]), (&json!(["a;b;c", "x"]), &json!(",")));
    }
}

#[test]
fn concurrent_appends_on_all_nodes_are_stored_once_each() {
    let shared_by = Shared::start();
    let nodes = [shared_by.node(&[]), shared_by.node(&[])];
    let (on_a, _on_b, table, secret) = shared(&nodes[0], &nodes[1], 10);
    std::thread::scope(|scope| {
        for (number, node) in nodes.iter().enumerate() {
            let (table, secret) = (&table, &secret);
            scope.spawn(move || {
                for row in 0..40 {
                    let rows = format!("node\t{number}\t{row}\n");
                    let (status, answer) = node.append(table, secret, "text/plain", &rows);
                    assert_eq!(status, 200, "{answer}");
                }
            });
        }
    });
    let mut expected: Vec<_> =
        (0..2).flat_map(|node| (0..40).map(move |row| format!("node\t{node}\t{row}"))).collect();
    expected.sort();
    for node in nodes.iter().chain([&shared_by.node(&[])]) {
        wait_until(PATIENCE, "all rows on every node", || {
            let (_, _, body) = node.get(&format!("/tables/{table}/download"));
            let text = String::from_utf8(body).expect("text");
            let mut rows: Vec<_> =
                text.lines().filter(|line| line.starts_with("node")).map(ToOwned::to_owned).collect();
            rows.sort();
            rows == expected
        });
    }
    drop(on_a);
}

#[test]
fn a_table_outlives_all_nodes_and_their_disks() {
    let shared_by = Shared::start();
    let node = shared_by.node(&[]);
    let (mut viewer, table, secret) = node.shared("rows.tsv", &tsv(250));
    viewer.send(&json!({"page": 3}));
    viewer.view(|view| view["page_no"] == 3);
    let (status, _) = node.append(&table, &secret, "text/plain", "last\trow\there\n");
    assert_eq!(status, 200);
    viewer.view(|view| view["total_number"] == 251);
    drop(viewer);
    drop(node.stop());
    let node = shared_by.node(&[]);
    let mut viewer = node.viewer(&format!("/tables/ws/{table}?owner={secret}"));
    let view = viewer.view(|view| view["loading"] == false && view["total_number"] == 251);
    assert_eq!(
        (&view["page_no"], &view["data"][50][0], &view["name"]),
        (&json!(3), &json!("last"), &json!("rows.tsv"))
    );
    // The owner's secret is still valid.
    viewer.send(&json!({"lock": {"view": true}}));
    viewer.until("the locks", |message| message["lock"]["view"] == true);
}

#[test]
fn a_cached_copy_is_reused_and_its_missing_part_is_fetched() {
    let shared_by = Shared::start();
    let (a, b) = (shared_by.node(&[]), shared_by.node(&[]));
    let (_uploader, table, secret) = a.shared("rows.tsv", &tsv(100_000));
    let mut viewer = b.viewer(&format!("/tables/ws/{table}"));
    viewer.view(|view| view["total_number"] == 100_000);
    drop(viewer);
    let folder = b.stop();
    let (status, _) = a.append(&table, &secret, "text/plain", "last\trow\there\n");
    assert_eq!(status, 200);
    let disk = format!("data_dir={}", folder.path().display());
    let b = shared_by.node(&[&disk]);
    let mut viewer = b.viewer(&format!("/tables/ws/{table}"));
    viewer.view(|view| view["total_number"] == 100_001);
    assert!(metric(&b, "tidings_tables_bucket_received_bytes_total") < 100_000.0);
}

#[test]
fn a_deleted_table_is_removed_from_every_node_and_the_bucket() {
    let shared_by = Shared::start();
    let (a, b) = (shared_by.node(&[]), shared_by.node(&[]));
    let (mut on_a, mut on_b, table, secret) = shared(&a, &b, 10);
    let (status, _) = b.append(&table, &secret, "text/plain", "one\tmore\trow\n");
    assert_eq!(status, 200);
    on_a.view(|view| view["total_number"] == 11);
    on_a.send(&json!({"delete": {}}));
    for viewer in [&mut on_a, &mut on_b] {
        assert_eq!(viewer.error().0, 404);
        assert_eq!(viewer.close_code(), 4404);
    }
    wait_until(PATIENCE, "nothing to be left", || shared_by.tables().is_empty());
    assert_eq!(b.get(&format!("/tables/{table}.json")).0, 404);
}

#[test]
fn a_first_upload_is_visible_on_another_node_during_the_transfer() {
    let shared_by = Shared::start();
    let (a, b) = (shared_by.node(&[]), shared_by.node(&[]));
    let mut uploader = a.viewer("/tables/ws");
    let (first, more) = (tsv(200), "more\trows\tcome\n");
    let size = first.len() + more.len();
    uploader.send(&json!({"upload": {"name": "rows.tsv", "size": size}}));
    uploader.binary(first.as_bytes());
    let table =
        uploader.view(|view| view["total_number"] == 200)["uuid"].as_str().expect("a name").to_owned();
    wait_until(PATIENCE, "the table to be announced", || !shared_by.objects(&table).is_empty());
    let mut other = b.viewer(&format!("/tables/ws/{table}"));
    let view = other.view(|view| view["loading"] == true);
    assert_eq!(
        (&view["total_number"], &view["size"], &view["name"]),
        (&json!(0), &json!(size), &json!("rows.tsv"))
    );
    uploader.binary(more.as_bytes());
    let progress = other.until("progress", |message| message["progress"]["rows"] == 201);
    assert_eq!(progress["progress"]["size"], size);
    uploader.send(&json!({"upload_end": {}}));
    let view = other.view(|view| view["loading"] == false);
    assert_eq!(view["total_number"], 201);
}

#[test]
fn an_aborted_upload_leaves_no_object() {
    let shared_by = Shared::start();
    let (a, b) = (shared_by.node(&[]), shared_by.node(&[]));
    let mut uploader = a.viewer("/tables/ws");
    uploader.send(&json!({"upload": {"name": "rows.tsv"}}));
    uploader.binary(tsv(200).as_bytes());
    let table =
        uploader.view(|view| view["total_number"] == 200)["uuid"].as_str().expect("a name").to_owned();
    wait_until(PATIENCE, "the table to be announced", || !shared_by.objects(&table).is_empty());
    let mut other = b.viewer(&format!("/tables/ws/{table}"));
    other.view(|view| view["loading"] == true);
    uploader.send(&json!({"upload_abort": {}}));
    other.view(|view| view["loading"] == false);
    wait_until(PATIENCE, "nothing to be left", || shared_by.tables().is_empty());
    // The connection continues, and so does the one to the other node.
    uploader.upload("new.tsv", tsv(20).as_bytes());
    assert_eq!(other.view(|view| view["total_number"] == 20)["name"], "new.tsv");
}

#[test]
fn a_bucket_failure_during_an_upload_keeps_the_old_table() {
    let shared_by = Shared::start();
    let node = || shared_by.node(&[IMPATIENT, "tables.keep_previous=1s"]);
    let (a, b) = (node(), node());
    let (mut on_a, mut on_b, table, _) = shared(&a, &b, 250);
    wait_until(PATIENCE, "the record", || shared_by.objects(&table).len() == 2);
    let before = shared_by.objects(&table);
    on_a.send(&json!({"upload": {"name": "big.tsv"}}));
    let big = tsv(500_000);
    let chunks: Vec<_> = big.as_bytes().chunks(1 << 20).collect();
    for chunk in &chunks[..chunks.len() - 1] {
        on_a.binary(chunk);
    }
    on_b.until("progress", |message| message["progress"].is_object());
    shared_by.link.black_hole();
    on_a.binary(chunks[chunks.len() - 1]);
    on_a.send(&json!({"upload_end": {}}));
    let (code, reason) = on_a.error();
    assert!(code == 503 && reason.contains("tables.store"), "{reason}");
    assert_eq!(metric(&a, "tidings_tables_bucket_up"), 0.0);
    // The existing table stays usable on both nodes.
    on_b.send(&json!({"page": 2}));
    for viewer in [&mut on_a, &mut on_b] {
        let view = viewer.view(|view| view["page_no"] == 2);
        assert_eq!((&view["total_number"], &view["name"]), (&json!(250), &json!("rows.tsv")));
    }
    let (status, answer) = a.append(&table, "not the owner", "text/plain", "x\ty\tz\n");
    assert_eq!(status, 403, "{answer}");
    // A table that is not open here cannot be looked up, and the response is an error.
    let unknown = a.get("/tables/0c6ec8e5-1b7e-4c0f-9d6c-3f1f8f5d7a10.json");
    assert_eq!(unknown.0, 503);
    shared_by.link.resume();
    wait_until(PATIENCE, "an upload to succeed", || {
        on_a.upload("new.tsv", tsv(20).as_bytes());
        on_a.until("an end", |message| message["error"].is_object() || message["name"] == "new.tsv")["error"]
            .is_null()
    });
    assert_eq!(on_b.view(|view| view["name"] == "new.tsv")["total_number"], 20);
    wait_until(PATIENCE, "nothing else to be left", || {
        let after = shared_by.objects(&table);
        after.len() == 2 && after != before
    });
    assert_eq!(metric(&a, "tidings_tables_bucket_up"), 1.0);
}

#[test]
fn appends_are_rejected_while_the_bucket_is_unavailable() {
    let shared_by = Shared::start();
    let node = shared_by.node(&[IMPATIENT]);
    let (mut viewer, table, secret) = node.shared("rows.tsv", &tsv(10));
    shared_by.link.black_hole();
    let (status, answer) = node.append(&table, &secret, "text/plain", "not\tto be\tseen\n");
    assert_eq!(status, 503, "{answer}");
    viewer.send(&json!({"page_size": 50}));
    assert_eq!(viewer.view(|view| view["page_size"] == 50)["total_number"], 10);
    shared_by.link.cut();
    shared_by.link.resume();
    wait_until(PATIENCE, "rows to be taken again", || {
        node.append(&table, &secret, "text/plain", "last\trow\there\n").0 == 200
    });
    let view = viewer.view(|view| view["total_number"].as_u64() > Some(10));
    let rows = view["data"].as_array().expect("rows");
    assert_eq!(rows.last(), Some(&json!(["last", "row", "here"])));
}

#[test]
fn unused_tables_expire_in_the_bucket_and_used_ones_stay() {
    let shared_by = Shared::start();
    let node = shared_by.node(&["tables.keep=8s"]);
    let (unused, first, _) = node.shared("first.tsv", &tsv(10));
    drop(unused);
    let (_viewer, second, _) = node.shared("second.tsv", &tsv(10));
    wait_until(Duration::from_secs(60), "the unused one to be removed", || {
        shared_by.objects(&first).is_empty()
    });
    assert_eq!(shared_by.objects(&second).len(), 2);
    assert_eq!(node.get(&format!("/tables/{second}.json")).0, 200);
}

#[test]
fn a_full_bucket_is_reported() {
    let shared_by = Shared::start();
    let node = shared_by.node(&["tables.max_total=300000"]);
    let text = "x\ty\n".repeat(30_000);
    let (_first, ..) = node.shared("first.tsv", &text);
    let (_second, ..) = node.shared("second.tsv", &text);
    // The other node has free disk space, but the bucket is full.
    let other = shared_by.node(&["tables.max_total=300000"]);
    let mut third = other.viewer("/tables/ws");
    third.upload("third.tsv", text.as_bytes());
    let (code, reason) = third.error();
    assert!(code == 507 && reason.contains("tables.max_total"), "{reason}");
}

#[test]
fn two_nodes_with_one_data_dir_are_an_error() {
    let shared_by = Shared::start();
    let folder = tempfile::tempdir().expect("a folder");
    let disk = format!("data_dir={}", folder.path().display());
    let _node = shared_by.node(&[&disk]);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shared_by.node(&[&disk])));
    let reason = refused.err().and_then(|panic| panic.downcast::<String>().ok()).expect("a text");
    assert!(reason.contains("each node needs its own data_dir"), "{reason}");
}

/// The value of a metric.
fn metric(node: &TableServer, name: &str) -> f64 {
    let (_, _, body) = node.get("/metrics");
    let body = String::from_utf8(body).expect("text");
    let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{body}")).parse().expect("a number")
}
