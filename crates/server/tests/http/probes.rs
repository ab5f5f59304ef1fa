//! `/health` and `/ready`, and the responses to other requests.

use std::time::{Duration, Instant};

use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::support::TestServer;

#[test]
fn health_is_ok_and_ready_reports_the_round_trip_of_a_canary() {
    let server = TestServer::start(&["ready.canary_interval=20ms"]);
    let health = server.get("/health");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    wait_until(PATIENCE, "ready", || server.get("/ready").status == 200);
    let ready = server.get("/ready");
    assert_eq!(ready.header("content-type"), "application/json");
    let ready: serde_json::Value = serde_json::from_str(&ready.body).expect("JSON");
    assert_eq!(ready["ready"], true);
    let took = ready["canary_ms"].as_f64().expect("a number");
    assert!((0.0..20_000.0).contains(&took), "{took}");
}

#[test]
fn without_its_broker_the_server_is_healthy_but_not_ready() {
    let redis = RedisServer::absent();
    let server = TestServer::start(&[&format!("broker={}", redis.url())]);
    assert_eq!(server.get("/health").status, 200);
    wait_until(PATIENCE, "a reason", || server.get("/ready").body.contains("refused"));
    let ready = server.get("/ready");
    assert_eq!(ready.status, 503);
    let ready: serde_json::Value = serde_json::from_str(&ready.body).expect("JSON");
    assert_eq!(ready["ready"], false);
    assert!(ready["reason"].as_str().expect("text").starts_with("broker unavailable: "), "{ready}");
}

#[test]
fn ready_is_503_during_the_drain() {
    let mut server = TestServer::start(&["shutdown.timeout=30s", "shutdown.drain=0s"]);
    wait_until(PATIENCE, "ready", || server.get("/ready").status == 200);
    // A client that does not close its connection after the disconnect push delays the shutdown.
    let mut client = LineClient::connect(server.tcp());
    client.send("hello");
    client.expect("hello");
    let kept = server.connect();
    let stopping = server.begin_stop();
    client.line();
    let ready = server.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("the server is stopping"), "{}", ready.body);
    drop((client, kept));
    server.runtime.block_on(stopping).expect("a clean stop");
    assert!(std::net::TcpStream::connect(server.http()).is_err(), "the server still listens");
}

#[test]
fn in_the_lame_duck_time_ready_is_503_and_everything_is_served() {
    let lame_duck = Duration::from_secs(2);
    let mut server = TestServer::start(&[
        "shutdown.timeout=30s",
        "shutdown.lame_duck=2s",
        "shutdown.drain=0s",
        "tcp.echo=false",
    ]);
    wait_until(PATIENCE, "ready", || server.get("/ready").status == 200);
    let mut old = LineClient::connect(server.tcp());
    old.send("SUBSCRIBE news");
    old.expect("CONFIRMED");
    let began = Instant::now();
    let stopping = server.begin_stop();
    wait_until(PATIENCE, "not ready", || server.get("/ready").status == 503);
    assert_eq!(server.get("/health").status, 200);
    let mut new = LineClient::connect(server.tcp());
    new.send("PUBLISH news still here");
    new.expect("CONFIRMED");
    old.expect("MESSAGE news still here");
    assert!(began.elapsed() < lame_duck, "the machine is too slow for this test");
    for client in [&mut old, &mut new] {
        let line = client.line();
        assert!(line.starts_with("ERROR 3001 shutdown"), "{line}");
        assert!(began.elapsed() >= lame_duck, "disconnected within the lame-duck time");
    }
    drop((old, new));
    server.runtime.block_on(stopping).expect("a clean stop");
}

#[test]
fn the_response_to_head_is_that_to_get_without_the_body() {
    let server = TestServer::start(&[]);
    for path in ["/", "/health", "/metrics", "/assets/style.css"] {
        let get = server.get(path);
        let head =
            server.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_ne!(head.header("content-length"), "", "{path}");
    }
}

#[test]
fn other_methods_and_unknown_paths_get_a_short_text() {
    let server = TestServer::start(&[]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer =
            server.send(format!("{method} /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), "GET, HEAD", "{method}");
        assert_eq!(answer.body, "only GET and HEAD are supported here\n");
    }
    let answer = server.get("/nothing/here?a=b");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(answer.body, "not found; there are /, /health, /ready and /metrics\n");
}

#[test]
fn a_request_with_an_unused_body_gets_a_response_and_its_connection_ends() {
    let server = TestServer::start(&[]);
    let body = "x".repeat(1 << 20);
    let head = format!("POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut peer = server.connect();
    // The server may close the connection before the whole body is sent.
    let _ = std::io::Write::write_all(&mut peer, head.as_bytes());
    let _ = std::io::Write::write_all(&mut peer, &body.as_bytes()[..1]);
    let mut status = [0; 12];
    std::io::Read::read_exact(&mut peer, &mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 405");
    wait_until(PATIENCE, "no more connections", || {
        // The connection of this request is one of them.
        server.get("/metrics").body.contains("\ntidings_http_connections 1\n")
    });
}
