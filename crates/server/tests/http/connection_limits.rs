//! The limit on HTTP connections: slow and idle connections do not block others.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tidings_testkit::{HttpResponse, PATIENCE, wait_until};

use crate::support::TestServer;

/// The beginning of a request without the rest of its body.
const HALF: &str =
    "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{\"channel\":";
/// One second, and one more for a busy machine.
const SOON: Duration = Duration::from_secs(2);

fn half_bodies(server: &TestServer, count: usize) -> Vec<TcpStream> {
    let half = |_| {
        let mut peer = server.connect();
        peer.write_all(HALF.as_bytes()).expect("half a request sent");
        peer
    };
    (0..count).map(half).collect()
}

fn soon<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = act();
    assert!(began.elapsed() < SOON, "{what} took {:?}", began.elapsed());
    done
}

#[test]
fn unfinished_bodies_at_the_limit_block_neither_probes_nor_requests_nor_websockets() {
    // As many as the limit, and more than the limit and the reserve.
    for count in [512, 700] {
        let server = TestServer::start(&[]);
        wait_until(PATIENCE, "ready", || server.get("/ready").status == 200);
        let attackers = half_bodies(&server, count);
        for path in ["/health", "/ready", "/metrics"] {
            assert_eq!(soon(path, || server.get(path)).status, 200, "{path}");
        }
        let publish = r#"{"channel":"news","data":"x"}"#;
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{publish}",
            publish.len()
        );
        assert_eq!(soon("a request", || server.send(&request)).status, 200);
        let handshake = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Version: 13\r\n\r\n";
        let status = soon("a WebSocket", || {
            let mut peer = server.connect();
            peer.write_all(handshake.as_bytes()).expect("a request sent");
            HttpResponse::read_head(&mut peer).status
        });
        assert_eq!(status, 101);
        let metrics = server.get("/metrics").body;
        assert!(!metrics.contains("tidings_http_evicted_total{waited_for=\"body\"} 0\n"), "{metrics}");
        drop(attackers);
    }
}

#[test]
fn an_evicted_request_gets_408() {
    let server = TestServer::start(&["http.connection_limit=4", "http.connection_limit_per_address=4"]);
    let mut slow = half_bodies(&server, 4);
    // With the connection of the request, the limit is reached.
    wait_until(PATIENCE, "a slow one that gave way", || {
        let metrics = server.get("/metrics").body;
        metrics.contains("tidings_http_evicted_total{waited_for=\"body\"} 1\n")
    });
    let answer = HttpResponse::read(&mut slow[0]);
    assert_eq!(answer.status, 408);
    assert_eq!(answer.header("connection"), "close");
    assert!(answer.body.contains("http.min_data_rate"), "{}", answer.body);
}

#[test]
fn one_address_cannot_use_all_connections() {
    let server = TestServer::start(&["http.connection_limit=8", "http.connection_limit_per_address=3"]);
    let attackers = half_bodies(&server, 100);
    // The address has reached its limit and its share of the reserve. Its probe may be closed too, until slow connections are
    // evicted.
    wait_until(PATIENCE, "a probe", || {
        let mut peer = server.connect();
        let sent = peer.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        let read = std::io::Read::read_to_string(&mut peer, &mut text);
        sent.is_ok()
            && read.is_ok()
            && text.contains("tidings_http_refused_total{reason=\"address\"}")
            && !text.contains("tidings_http_refused_total{reason=\"address\"} 0\n")
    });
    drop(attackers);
}
