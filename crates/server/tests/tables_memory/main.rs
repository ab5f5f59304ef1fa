//! The memory that uploads use. The process contains only the server and one client.

#[path = "../support/mod.rs"]
mod support;
#[path = "../tables/table_server.rs"]
#[expect(dead_code, reason = "functions for the other tests of tables")]
mod table_server;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use tidings_testkit::HttpResponse;
use tidings_wire::ws::Opcode;

use table_server::TableServer;

/// The tests run one at a time, because they measure the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// The most additional memory that the server may use.
const MORE: u64 = 64 << 20;

/// The peak of the memory in use by this process, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Resets the peak (proc_pid_clear_refs(5)).
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("a process");
}

/// Appends 16 MB to a table: `first`, repetitions of `piece`, and `last`. Returns the status of the response.
fn append(server: &TableServer, table: &str, secret: &str, [first, piece, last]: [&str; 3]) -> u16 {
    let block = piece.repeat((256 << 10) / piece.len());
    let blocks = (16 << 20) / block.len() - 1;
    let length = first.len() + blocks * block.len() + last.len();
    let mut peer = TcpStream::connect(server.http).expect("a connection");
    let head = format!(
        "POST /tables/{table}/rows HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {secret}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{first}"
    );
    peer.write_all(head.as_bytes()).expect("a head sent");
    for _ in 0..blocks {
        peer.write_all(block.as_bytes()).expect("rows sent");
    }
    peer.write_all(last.as_bytes()).expect("rows sent");
    HttpResponse::read(&mut peer).status
}

#[test]
fn appends_use_a_few_times_their_size_in_memory_and_unauthorized_ones_none() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = TableServer::with(&[]);
    let (_viewer, table, secret) = server.shared("rows.tsv", "a\tb\n1\t2\n");
    let six = |secret: &str, rows: [&str; 3]| {
        std::thread::scope(|scope| {
            let peers: Vec<_> =
                (0..6).map(|_| scope.spawn(|| append(&server, &table, secret, rows))).collect();
            peers.into_iter().map(|peer| peer.join().expect("an answer")).collect::<Vec<_>>()
        })
    };
    let rows = ["[", "[],", "[]]"];
    reset_peak();
    let before = peak();
    assert_eq!(six("guess", rows), [403; 6]);
    let more = peak() - before;
    assert!(more < 32 << 20, "{} MiB more than before for nothing", more >> 20);
    for (rows, most) in [(rows, 256 << 20), (["[[", "\"\",", "\"\"]]"], 256 << 20)] {
        reset_peak();
        let before = peak();
        // The server may reject an append while its memory is in use. Repeat it.
        let answers = six(&secret, rows);
        assert!(
            answers.contains(&200) && answers.iter().all(|answer| [200, 503].contains(answer)),
            "{answers:?}"
        );
        let more = peak() - before;
        assert!(more < most, "{} MiB more than before", more >> 20);
    }
}

#[test]
fn a_file_of_200_mb_is_never_in_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    reset_peak();
    let server = TableServer::with(&[]);
    let rows: String =
        (0..20_000).map(|row| format!("{row}\tsome text\t{}\tmore of it\n", row * 7)).collect();
    let chunk = &rows.as_bytes()[..1 << 19];
    let count = (200 << 20) / chunk.len();
    // In chunks, and in a single message like the article's page.
    let mut viewer = server.viewer("/tables/ws");
    server.get("/health");
    let before = peak();
    viewer.send(&json!({"upload": {"name": "big.tsv", "size": count * chunk.len()}}));
    for _ in 0..count {
        viewer.binary(chunk);
    }
    viewer.send(&json!({"upload_end": {}}));
    let view = viewer.view(|view| view["loading"] == false);
    assert_eq!(view["size"], count * chunk.len());
    let mut article = server.viewer("/parser/ws");
    for at in 0..count {
        let opcode = if at == 0 { Opcode::Binary } else { Opcode::Continuation };
        article.frame(at + 1 == count, opcode, chunk);
    }
    article.view(|view| view["loading"] == false);
    // Views of several pages, and of sorted rows.
    viewer.send(&json!({"page": view["total_number"].as_u64().expect("a number") / 200}));
    viewer.view(|now| now["page_no"] != 1);
    let more = peak() - before;
    assert!(more < MORE, "{} MiB more than before", more >> 20);
}
