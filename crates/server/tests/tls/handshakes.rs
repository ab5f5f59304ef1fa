//! Unfinished handshakes, and handshakes beyond the limit.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tidings_testkit::{LineClient, PATIENCE, wait_until};

use crate::tls_server::{A_WHILE, TlsServer, drain};

/// The beginning of a handshake: the head of a record of 512 bytes, and some of them.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

fn half(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(HALF).expect("sent");
    stream
}

#[test]
fn half_a_handshake_ends_in_time_on_both_ports() {
    let server = TlsServer::with(&["tls.handshake_timeout=500ms"]);
    let began = Instant::now();
    for mut stream in [half(server.tcp()), half(server.http())] {
        assert_eq!(drain(&mut stream), b"");
    }
    assert!(began.elapsed() >= Duration::from_millis(400), "closed too early");
    server.wait_for_metric("tidings_tls_handshakes_total{outcome=\"timed_out\"}", 2);
    assert_eq!(server.metric("tidings_tls_handshakes_pending"), 0);
    assert_eq!(server.metric("tidings_connections{transport=\"tls\"}"), 0);
}

#[test]
fn a_silent_connection_ends_in_time_where_tls_is_required() {
    let server = TlsServer::with(&["tls.handshake_timeout=500ms", "tls.required=true"]);
    for address in [server.tcp(), server.http()] {
        assert_eq!(drain(&mut TcpStream::connect(address).expect("a connection")), b"");
    }
    server.wait_for_metric("tidings_tls_handshakes_total{outcome=\"timed_out\"}", 2);
}

#[test]
fn garbage_after_the_first_byte_gets_an_alert() {
    let server = TlsServer::with(&[]);
    for address in [server.tcp(), server.http()] {
        for garbage in
            [&b"\x16garbage of any kind"[..], &[0x16; 4096], b"\x16\x03\x01\x00\x05\xff\x00\x00\x01\x00"]
        {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.write_all(garbage).expect("sent");
            let answer = drain(&mut stream);
            assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
        }
    }
    server.wait_for_metric("tidings_tls_handshakes_total{outcome=\"failed\"}", 6);
    let mut beside = server.line();
    beside.send(b"PING\r\n");
    beside.expect("PONG");
}

#[test]
fn handshakes_beyond_the_limit_wait_without_delaying_other_connections() {
    let server = TlsServer::with(&["tls.handshake_limit=1", "tls.handshake_timeout=60s"]);
    let mut inside = server.line();
    inside.subscribe("news");
    let slow = half(server.tcp());
    server.wait_for_metric("tidings_tls_handshakes_pending", 1);
    let mut waiting = server.line();
    thread::scope(|scope| {
        let waited = scope.spawn(|| {
            waiting.send(b"PING\r\n");
            waiting.expect("PONG");
            Instant::now()
        });
        // Connections after their handshake and connections without TLS do not wait.
        let mut plain = LineClient::connect(server.tcp());
        for n in 0..20 {
            plain.send(&format!("PUBLISH news {n}"));
            plain.expect("CONFIRMED");
            inside.expect(&format!("MESSAGE news {n}"));
        }
        thread::sleep(A_WHILE);
        assert!(!waited.is_finished(), "the handshake did not wait");
        let released = Instant::now();
        drop(slow);
        assert!(waited.join().expect("an answer") >= released);
    });
}

#[test]
fn a_connection_counts_during_its_handshake() {
    let server = TlsServer::with(&["client.connection_limit=1", "tls.required=true"]);
    let slow = half(server.tcp());
    wait_until(PATIENCE, "half a handshake", || server.metric("tidings_tls_handshakes_pending") == 1);
    assert_eq!(drain(&mut half(server.tcp())), b"");
    server.wait_for_metric("tidings_tls_handshakes_total{outcome=\"refused\"}", 1);
    drop(slow);
    wait_until(PATIENCE, "a place", || {
        let mut client = server.line();
        client.try_send(b"PING\r\n").is_ok() && client.line() == "PONG"
    });
}

#[test]
fn a_handshake_in_progress_does_not_delay_the_shutdown() {
    let mut server = TlsServer::with(&["tls.handshake_timeout=60s"]);
    let mut halves = [half(server.tcp()), half(server.http())];
    wait_until(PATIENCE, "two halves", || server.metric("tidings_tls_handshakes_pending") == 2);
    let began = Instant::now();
    server.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "the shutdown waited for the handshake");
    for stream in &mut halves {
        drain(stream);
    }
}
