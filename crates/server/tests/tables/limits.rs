//! Limits: requests beyond them get an error, and the existing table stays.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::json;
use tidings_testkit::{PATIENCE, metric, wait_until};
use tidings_wire::ws::{Header, Opcode};

use crate::table_server::{TableServer, kept, listing, tsv};

#[test]
fn an_announced_file_above_the_limit_is_rejected_at_once() {
    let server = TableServer::with(&["tables.max_size=100000"]);
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(10));
    viewer.send(&json!({"upload": {"name": "big.tsv", "size": 100_001}}));
    let (code, reason) = viewer.error();
    assert!(code == 413 && reason.contains("100000") && reason.contains("tables.max_size"), "{reason}");
    // The chunks of a rejected upload are discarded, and not read as files.
    viewer.binary(tsv(100).as_bytes());
    viewer.send(&json!({"upload_end": {}}));
    viewer.upload("small.tsv", tsv(20).as_bytes());
    assert_eq!(viewer.view(|_| true)["total_number"], 20);
}

#[test]
fn a_file_that_grows_above_the_limit_is_aborted_and_the_old_one_stays() {
    let server = TableServer::with(&["tables.max_size=100000"]);
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(10));
    let files = kept(&server.store());
    viewer.send(&json!({"upload": {"name": "big.tsv"}}));
    for _ in 0..10 {
        viewer.binary(&[b'x'; 30_000]);
    }
    assert_eq!(viewer.error().0, 413);
    assert_eq!(viewer.view(|_| true)["total_number"], 10);
    wait_until(PATIENCE, "the half of it to be removed", || listing(&server.store()) == files);
    viewer.send(&json!({"upload_end": {}}));
    viewer.upload("small.tsv", tsv(20).as_bytes());
    assert_eq!(viewer.view(|view| view["total_number"] == 20)["name"], "small.tsv");
}

#[test]
fn a_file_too_large_for_one_message_gets_an_error_and_a_close_with_1009() {
    let server = TableServer::with(&["tables.max_size=100000"]);
    let mut viewer = server.viewer("/parser/ws");
    let mut head = Vec::new();
    Header { is_final: true, opcode: Opcode::Binary, mask: Some([0; 4]), length: 100_001 }.write(&mut head);
    std::io::Write::write_all(&mut viewer.io, &head).expect("a head sent");
    let (code, reason) = viewer.error();
    assert!(code == 413 && reason.contains("100000"), "{reason}");
    assert_eq!(viewer.close_code(), 1009);
}

#[test]
fn messages_that_are_too_long_get_an_error_and_a_close_with_1009() {
    let server = TableServer::with(&[]);
    let mut viewer = server.viewer("/tables/ws");
    viewer.text(&format!("{{\"search\":\"{}\"}}", "x".repeat(65_536)));
    let (code, reason) = viewer.error();
    assert!(code == 413 && reason.contains("65536"), "{reason}");
    assert_eq!(viewer.close_code(), 1009);
    let mut viewer = server.viewer("/tables/ws");
    viewer.send(&json!({"upload": {"name": "a.tsv"}}));
    viewer.binary(&vec![b'x'; (1 << 20) + 1]);
    let (code, reason) = viewer.error();
    assert!(code == 413 && reason.contains("1048576"), "{reason}");
    assert_eq!(viewer.close_code(), 1009);
    wait_until(PATIENCE, "nothing to be left", || listing(&server.store()).is_empty());
}

#[test]
fn only_tables_without_viewers_are_evicted() {
    let server = TableServer::with(&["tables.max_total=300000"]);
    let text = "x\ty\n".repeat(30_000);
    let (unused, first, _) = server.shared("first.tsv", &text);
    // A table that had viewers a moment ago is still in memory, but can be evicted.
    drop(unused);
    let (_second, ..) = server.shared("second.tsv", &text);
    let (_third, third, _) = server.shared("third.tsv", &text);
    assert_eq!(server.get(&format!("/tables/{first}.json")).0, 404);
    let mut fourth = server.viewer("/tables/ws");
    fourth.upload("fourth.tsv", text.as_bytes());
    let (code, reason) = fourth.error();
    assert!(code == 507 && reason.contains("tables.max_total"), "{reason}");
    assert_eq!(server.get(&format!("/tables/{third}.json")).0, 200);
}

#[test]
fn the_table_unused_for_longest_is_evicted_first() {
    let server = TableServer::with(&["tables.max_total=300000"]);
    let text = "x\ty\n".repeat(30_000);
    let (first_viewer, first, _) = server.shared("first.tsv", &text);
    let (second_viewer, second, _) = server.shared("second.tsv", &text);
    for (viewer, left) in [(second_viewer, 1), (first_viewer, 0)] {
        drop(viewer);
        let viewers = format!("tidings_table_viewers {left}");
        wait_until(PATIENCE, &viewers, || {
            String::from_utf8_lossy(&server.get("/metrics").2).lines().any(|line| line == viewers)
        });
    }
    let (_third, ..) = server.shared("third.tsv", &text);
    assert_eq!(server.get(&format!("/tables/{second}.json")).0, 404);
    assert_eq!(server.get(&format!("/tables/{first}.json")).0, 200);
}

#[test]
fn a_decompression_bomb_is_rejected_and_leaves_nothing() {
    let server = TableServer::with(&["tables.max_size=100000"]);
    let pack = |rows: usize| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packer, "a\tb\n".repeat(rows).as_bytes()).expect("memory");
        packer.finish().expect("memory")
    };
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(10));
    let files = kept(&server.store());
    let bomb = pack(1_000_000);
    assert!(bomb.len() < 100_000);
    viewer.upload("bomb.tsv.gz", &bomb);
    let (code, reason) = viewer.error();
    assert!(code == 413 && reason.contains("400000") && reason.contains("tables.max_size"), "{reason}");
    assert_eq!(viewer.view(|_| true)["total_number"], 10);
    wait_until(PATIENCE, "nothing of it to be left", || listing(&server.store()) == files);
    viewer.upload("packed.tsv.gz", &pack(90_000));
    viewer.view(|view| view["total_number"] == 90_000 || view["total_number"] == 89_999);
}

#[test]
fn a_file_above_the_compression_ratio_is_rejected() {
    let server = TableServer::with(&["tables.max_unpack_ratio=10"]);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, &b"a\tb\n".repeat(5 << 20)).expect("memory");
    let mut viewer = server.viewer("/tables/ws");
    viewer.upload("bomb.tsv.gz", &packer.finish().expect("memory"));
    let (code, reason) = viewer.error();
    assert!(
        code == 413 && reason.contains("10 times") && reason.contains("tables.max_unpack_ratio"),
        "{reason}"
    );
    drop(viewer);
    wait_until(PATIENCE, "nothing of it to be left", || {
        String::from_utf8_lossy(&server.get("/metrics").2).contains("tidings_tables_temporary_bytes 0")
    });
}

#[test]
fn unpacked_bytes_count_while_the_table_is_open() {
    let server = TableServer::with(&["tables.max_total=1000000"]);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packer, &b"a\tb\n".repeat(180_000)).expect("memory");
    let packed = packer.finish().expect("memory");
    assert!(packed.len() < 10_000);
    let numbers = || String::from_utf8_lossy(&server.get("/metrics").2).into_owned();
    let mut first = server.viewer("/tables/ws");
    first.upload("first.tsv.gz", &packed);
    first.view(|view| view["loading"] == false && view["total_number"] != 0);
    assert!(numbers().contains("tidings_tables_temporary_bytes 720000"), "{}", numbers());
    let mut second = server.viewer("/tables/ws");
    second.upload("second.tsv.gz", &packed);
    let (code, reason) = second.error();
    assert!(code == 507 && reason.contains("tables.max_total"), "{reason}");
    // Its bytes are released when it has no viewers.
    drop(first);
    wait_until(PATIENCE, "its viewer to be gone", || {
        numbers().lines().any(|line| line == "tidings_table_viewers 1")
    });
    second.upload("second.tsv.gz", &packed);
    second.view(|view| view["loading"] == false && view["total_number"] != 0);
    assert!(numbers().contains("tidings_table_refused_total{reason=\"total\"}"), "{}", numbers());
}

/// A mounted file system of 1 MiB, unmounted when dropped.
struct Tiny(PathBuf);

impl Tiny {
    /// `None` if mounting is not permitted.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tiny"]).arg(at).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_ends_only_the_upload() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Tiny::mount(&folder.path().join("disk")) else {
        eprintln!("skipped: a disk that is full takes a mount, which is not allowed here");
        return;
    };
    let server = TableServer::start(&[&format!("tables.store={}", disk.0.display())]);
    let (mut viewer, table, secret) = server.shared("rows.tsv", &tsv(10));
    let files = listing(&disk.0);
    viewer.send(&json!({"upload": {"name": "big.tsv", "size": 3 << 20}}));
    for _ in 0..30 {
        viewer.binary("x\ty\tz\n".repeat(20_000).as_bytes());
    }
    viewer.send(&json!({"upload_end": {}}));
    let (code, reason) = viewer.error();
    assert_eq!((code, &*reason), (507, "the server's disk is full"));
    assert_eq!(viewer.view(|_| true)["total_number"], 10);
    wait_until(PATIENCE, "the half of it to be removed", || listing(&disk.0) == files);
    // Rows that do not fit are rejected as a whole. Rows that fit are accepted afterwards.
    let (status, answer) = server.append(&table, &secret, "text/plain", &"x\ty\tz\n".repeat(300_000));
    assert_eq!(status, 507, "{answer}");
    let (status, answer) = server.append(&table, &secret, "text/plain", "x\ty\tz\n");
    assert_eq!((status, &answer["appended"]), (200, &json!(1)), "{answer}");
    assert_eq!(viewer.view(|view| view["total_number"] == 11)["data"][10], json!(["x", "y", "z"]));
    drop(server);
}

#[test]
fn messages_count_into_the_limits_of_their_address() {
    let world = TableServer::with(&["limits.address.commands=20"]);
    let (mut viewer, ..) = world.shared("rows.tsv", &tsv(10));
    for _ in 0..40 {
        viewer.send(&json!({"page_size": 5}));
    }
    let (code, reason) = viewer.error();
    assert_eq!(code, 429);
    assert!(reason.contains("20 commands a second of an address (limits.address.commands)"), "{reason}");
    wait_until(PATIENCE, "the refusals to be counted", || {
        metric(world.http, "tidings_limited_total{limit=\"address_commands\"}") >= 10
    });
    // Another connection of the address has no limits of its own, and the limit is one of a second.
    let mut other = world.viewer("/tables/ws");
    wait_until(PATIENCE, "a message to be executed", || {
        other.send(&json!({"page": 1}));
        other.error().0 == 409
    });
}

#[test]
fn a_file_is_read_no_faster_than_the_bytes_of_its_address_allow() {
    let world = TableServer::with(&["limits.address.bytes=100000"]);
    let text = tsv(20_000);
    let began = Instant::now();
    let (_viewer, ..) = world.shared("rows.tsv", &text);
    // The bytes of one second are allowed at once, and the last part may exceed them.
    let least = (text.len() - 100_000 - 256 * 1024) as f64 / 100_000.0;
    assert!(least > 0.5, "{least}");
    assert!(began.elapsed().as_secs_f64() > least, "{:?} for {} bytes", began.elapsed(), text.len());
    assert_eq!(
        metric(world.http, "tidings_limited_total{limit=\"address_bytes\"}"),
        0,
        "nothing was refused"
    );
}

#[test]
fn an_address_runs_a_limited_number_of_downloads_at_once() {
    let world = TableServer::with(&["tables.address_download_limit=1", "trusted_proxies=127.0.0.1"]);
    let (_viewer, table, _) = world.shared("rows.tsv", &tsv(300_000));
    let request = |address: &str| {
        format!(
            "GET /tables/{table}/download?view=csv HTTP/1.1\r\nHost: {}\r\nX-Forwarded-For: {address}\r\n\r\n",
            world.http
        )
    };
    let begin = |address: &str| {
        let mut stream = TcpStream::connect(world.http).expect("a server");
        stream.write_all(request(address).as_bytes()).expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("a response");
        (stream, String::from_utf8_lossy(&status[9..]).into_owned())
    };
    // The rest of the response is not read.
    let (reading, status) = begin("192.0.2.1");
    assert_eq!(status, "200");
    let (mut refused, status) = begin("192.0.2.1");
    assert_eq!(status, "429");
    let mut body = [0; 4096];
    let length = refused.read(&mut body).expect("a body");
    let body = String::from_utf8_lossy(&body[..length]).into_owned();
    assert!(body.contains("tables.address_download_limit"), "{body}");
    assert_eq!(begin("192.0.2.2").1, "200");
    assert_eq!(metric(world.http, "tidings_table_refused_total{reason=\"downloads\"}"), 1);
    drop(reading);
    wait_until(PATIENCE, "room for the address", || begin("192.0.2.1").1 == "200");
}
