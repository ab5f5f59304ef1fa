//! Limits on the resources that clients can use.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use tidings_testkit::{LineClient, PATIENCE, RespClient, Tidings, wait_until};

use crate::tool::server;

/// The CPU time of a process so far, in clock ticks (proc(5): utime and stime).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number")).sum()
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn without_file_descriptors_it_idles_and_serves_when_some_are_available_again() {
    let mut tidings = Tidings::builder(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/few-files.sh"))
        .env("PROGRAM_UNDER_TEST", env!("CARGO_BIN_EXE_tidings"))
        .args(["--tcp", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .start();
    let ports = tidings.listeners("tcp");
    let held: Vec<TcpStream> =
        (0..120).map(|_| TcpStream::connect(tidings.http()).expect("waits in the kernel at least")).collect();
    wait_until(PATIENCE, "all descriptors to be in use", || open_files(tidings.pid()) >= 119);
    let mut waiting: Vec<LineClient> = ports.iter().map(LineClient::connect).collect();
    tidings.wait_for_log("cannot accept connections");
    let before = ticks(tidings.pid());
    waiting[0].expect_silence(Duration::from_secs(1));
    // A tick is 10 ms: a busy loop would use about a hundred.
    assert!(ticks(tidings.pid()) - before < 30, "it spins");
    assert!(tidings.stderr().matches("cannot accept").count() <= 3, "{}", tidings.stderr());
    drop(held);
    for client in &mut waiting {
        client.send("PING");
        client.expect("PONG");
    }
    drop(waiting);
    assert_eq!(tidings.terminate(), 0);
}

#[test]
fn stalled_readers_cost_no_more_than_their_queues() {
    const STALLED: u64 = 40;
    const MIB: u64 = 1 << 20;
    let tidings = server(&["--http", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    let subscribe = |_| {
        let mut client = LineClient::connect(tidings.tcp());
        client.send("SUBSCRIBE news");
        client.expect("CONFIRMED");
        client
    };
    let stalled: Vec<LineClient> = (0..STALLED).map(subscribe).collect();
    let before = tidings.pss();
    let mut publisher = RespClient::connect(tidings.tcp());
    // Ten times the capacity of a queue and the sockets' buffers.
    let body = vec![b'x'; 10_000];
    let commands: Vec<Vec<Vec<u8>>> =
        (0..100).map(|_| vec![b"PUBLISH".to_vec(), b"news".to_vec(), body.clone()]).collect();
    for _ in 0..60 {
        publisher.pipeline(&commands);
    }
    wait_until(PATIENCE, "everything to be fanned out", || {
        publisher.command(&["PING"]);
        tidings.pss() > before
    });
    let grown = tidings.pss() - before;
    assert!(grown < STALLED * MIB + 40 * MIB, "{} MiB for {STALLED} queues of 1 MiB", grown / MIB);
    drop(stalled);
}
