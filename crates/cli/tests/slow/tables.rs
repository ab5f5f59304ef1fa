//! A table of a gigabyte.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tidings_testkit::{Tidings, get_http};

use crate::TIDINGS;

/// The memory limit of the server.
const MEMORY: u64 = 512 << 20;
/// The rows of the file, and of a page.
const ROWS: u64 = 10_000_000;
const PAGE: u64 = 100;
/// The duration of the visits.
const VISIT: Duration = Duration::from_secs(60);

/// Writes a CSV file of about 1 GB.
fn write_file(path: &Path) {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).expect("a file"));
    writeln!(out, "id,name,city,price,amount,day,code,note,left,right").expect("room");
    for row in 0..ROWS {
        let (a, b) = (row * 7919 % 100_003, row * 104_729 % 99_991);
        writeln!(
            out,
            "{row},name {a:06},city {b:05},{}.{:02},{},2026-{:02}-{:02},{b:08},\"a, \"\"note\"\" {a}\",{b:09},{a:011}",
            a % 1000,
            b % 100,
            b % 50,
            row % 12 + 1,
            row % 28 + 1
        )
        .expect("room");
    }
    out.flush().expect("room");
}

/// Moves a process to its own cgroup with a memory limit, page cache included, if this is permitted.
fn limit(pid: u32) -> Option<std::path::PathBuf> {
    let group = Path::new("/sys/fs/cgroup/memory").join(format!("tidings-test-{pid}"));
    std::fs::create_dir(&group).ok()?;
    std::fs::write(group.join("memory.limit_in_bytes"), MEMORY.to_string()).ok()?;
    std::fs::write(group.join("cgroup.procs"), pid.to_string()).ok()?;
    Some(group)
}

/// The memory of a process without file pages.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

/// The ids in the first column of a page.
fn page(http: SocketAddr, table: &str, number: u64) -> Vec<u64> {
    let response = get_http(http, &format!("/tables/{table}.json?page={number}"));
    assert_eq!(response.status, 200, "{}", response.head);
    let view: serde_json::Value = serde_json::from_slice(&response.bytes).expect("JSON");
    let rows = view["data"].as_array().expect("rows");
    rows.iter().map(|row| row[0].as_str().expect("text").parse().expect("an id")).collect()
}

#[test]
#[ignore = "takes minutes and a gigabyte of disk: make test-slow"]
fn a_gigabyte_file_serves_ten_viewers_within_half_a_gigabyte_of_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("big.csv");
    write_file(&file);
    let size = std::fs::metadata(&file).expect("a file").len();
    assert!(size > 900 << 20, "{size}");
    let data = folder.path().join("data");
    let server = Tidings::builder(TIDINGS)
        .args(["--tcp", "off", "--http", "127.0.0.1:0", "--data-dir"])
        .args([data.as_os_str()])
        .start();
    let group = limit(server.pid());
    let shared = Command::new(TIDINGS)
        .args(["share", "--server", &server.http_url()])
        .arg(&file)
        .output()
        .expect("the program");
    let link = String::from_utf8(shared.stdout).expect("text");
    let table = link.lines().next().and_then(|line| line.rsplit('/').next()).expect("a link").to_owned();
    let http = server.http();
    let end = Instant::now() + VISIT;
    let visitors: Vec<_> = (0..10)
        .map(|seed| {
            let table = table.clone();
            thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut seen = 0_u64;
                while Instant::now() < end {
                    let number = random.u64(1..=ROWS / PAGE);
                    let first = (number - 1) * PAGE;
                    assert_eq!(page(http, &table, number), (first..first + PAGE).collect::<Vec<_>>());
                    seen += 1;
                    thread::sleep(Duration::from_millis(20));
                }
                seen
            })
        })
        .collect();
    let mut most = 0;
    while Instant::now() < end {
        most = most.max(anonymous(server.pid()));
        thread::sleep(Duration::from_millis(200));
    }
    let seen: u64 = visitors.into_iter().map(|v| v.join().expect("a page was wrong or late")).sum();
    assert!(seen > 1_000, "{seen} pages");
    assert!(most < MEMORY / 2, "{most} bytes of its own");
    drop(server);
    if let Some(group) = group {
        // The group contains no process any more.
        let _ = std::fs::remove_dir(group);
    }
}
