//! Places for HTTP connections: who holds them without using them keeps nobody out.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tidings_testkit::{HttpResponse, PATIENCE, wait_until};

use crate::support::TestServer;

/// The beginning of a request whose body never comes.
const HALF: &str =
    "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{\"channel\":";
/// A second, and another for a machine that has other things to do.
const SOON: Duration = Duration::from_secs(2);

fn half_bodies(world: &TestServer, count: usize) -> Vec<TcpStream> {
    let half = |_| {
        let mut peer = world.connect();
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
fn half_bodies_in_every_place_keep_out_neither_probes_nor_requests_nor_web_sockets() {
    // As many as there are places, and more than the reserve takes besides.
    for count in [512, 700] {
        let world = TestServer::start(&[]);
        wait_until(PATIENCE, "ready", || world.get("/ready").status == 200);
        let attackers = half_bodies(&world, count);
        for path in ["/health", "/ready", "/metrics"] {
            assert_eq!(soon(path, || world.get(path)).status, 200, "{path}");
        }
        let publish = r#"{"channel":"news","data":"x"}"#;
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{publish}",
            publish.len()
        );
        assert_eq!(soon("a request", || world.send(&request)).status, 200);
        let handshake = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Version: 13\r\n\r\n";
        let status = soon("a WebSocket", || {
            let mut peer = world.connect();
            peer.write_all(handshake.as_bytes()).expect("a request sent");
            HttpResponse::read_head(&mut peer).status
        });
        assert_eq!(status, 101);
        let metrics = world.get("/metrics").body;
        assert!(!metrics.contains("tidings_http_gave_way_total{waited_for=\"body\"} 0\n"), "{metrics}");
        drop(attackers);
    }
}

#[test]
fn a_request_that_is_given_up_for_another_is_told_so() {
    let world = TestServer::start(&["http.connection_limit=4", "http.connection_limit_per_address=4"]);
    let mut slow = half_bodies(&world, 4);
    // With the one that asks, there is no place left.
    wait_until(PATIENCE, "a slow one that gave way", || {
        let metrics = world.get("/metrics").body;
        metrics.contains("tidings_http_gave_way_total{waited_for=\"body\"} 1\n")
    });
    let answer = HttpResponse::read(&mut slow[0]);
    assert_eq!(answer.status, 408);
    assert_eq!(answer.header("connection"), "close");
    assert!(answer.body.contains("http.min_data_rate"), "{}", answer.body);
}

#[test]
fn one_address_leaves_places_to_others() {
    let world = TestServer::start(&["http.connection_limit=8", "http.connection_limit_per_address=3"]);
    let attackers = half_bodies(&world, 100);
    // The address is at its limit, of which the reserve has a part; the probe of the same address may be among those
    // that are closed, until slow ones have made room.
    wait_until(PATIENCE, "a probe", || {
        let mut peer = world.connect();
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
