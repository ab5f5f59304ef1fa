//! `/health` and `/ready`, and what is answered to requests for anything else.

use std::time::{Duration, Instant};

use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::support::TestServer;

#[test]
fn health_says_ok_and_ready_says_how_long_a_canary_took() {
    let world = TestServer::start(&["ready.canary_interval=20ms"]);
    let health = world.get("/health");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    wait_until(PATIENCE, "ready", || world.get("/ready").status == 200);
    let ready = world.get("/ready");
    assert_eq!(ready.header("content-type"), "application/json");
    let ready: serde_json::Value = serde_json::from_str(&ready.body).expect("JSON");
    assert_eq!(ready["ready"], true);
    let took = ready["canary_ms"].as_f64().expect("a number");
    assert!((0.0..20_000.0).contains(&took), "{took}");
}

#[test]
fn without_its_broker_the_server_is_healthy_but_not_ready_and_says_why() {
    let redis = RedisServer::absent();
    let world = TestServer::start(&[&format!("broker={}", redis.url())]);
    assert_eq!(world.get("/health").status, 200);
    wait_until(PATIENCE, "a reason", || world.get("/ready").body.contains("refused"));
    let ready = world.get("/ready");
    assert_eq!(ready.status, 503);
    let ready: serde_json::Value = serde_json::from_str(&ready.body).expect("JSON");
    assert_eq!(ready["ready"], false);
    assert!(ready["reason"].as_str().expect("text").starts_with("broker unavailable: "), "{ready}");
}

#[test]
fn while_the_server_drains_ready_says_so() {
    let mut world = TestServer::start(&["shutdown.timeout=30s", "shutdown.drain=0s"]);
    wait_until(PATIENCE, "ready", || world.get("/ready").status == 200);
    // A client that has its good-bye and does not leave holds the server back for a while.
    let mut client = LineClient::connect(world.tcp());
    client.send("hello");
    client.expect("hello");
    let kept = world.connect();
    let stopping = world.begin_stop();
    client.line();
    let ready = world.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("the server is stopping"), "{}", ready.body);
    drop((client, kept));
    world.runtime.block_on(stopping).expect("a clean stop");
    assert!(std::net::TcpStream::connect(world.http()).is_err(), "it still listens");
}

#[test]
fn in_the_lame_duck_time_ready_is_503_and_everything_is_served() {
    let lame_duck = Duration::from_secs(2);
    let mut world = TestServer::start(&[
        "shutdown.timeout=30s",
        "shutdown.lame_duck=2s",
        "shutdown.drain=0s",
        "tcp.echo=false",
    ]);
    wait_until(PATIENCE, "ready", || world.get("/ready").status == 200);
    let mut old = LineClient::connect(world.tcp());
    old.send("SUBSCRIBE news");
    old.expect("CONFIRMED");
    let began = Instant::now();
    let stopping = world.begin_stop();
    wait_until(PATIENCE, "not ready", || world.get("/ready").status == 503);
    assert_eq!(world.get("/health").status, 200);
    let mut new = LineClient::connect(world.tcp());
    new.send("PUBLISH news still here");
    new.expect("CONFIRMED");
    old.expect("MESSAGE news still here");
    assert!(began.elapsed() < lame_duck, "too slow a machine to see it");
    for client in [&mut old, &mut new] {
        let line = client.line();
        assert!(line.starts_with("ERROR 3001 shutdown"), "{line}");
        assert!(began.elapsed() >= lame_duck, "told in the lame-duck time");
    }
    drop((old, new));
    world.runtime.block_on(stopping).expect("a clean stop");
}

#[test]
fn a_head_request_is_answered_like_a_get_without_its_body() {
    let world = TestServer::start(&[]);
    for path in ["/", "/health", "/metrics", "/assets/style.css"] {
        let get = world.get(path);
        let head =
            world.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_ne!(head.header("content-length"), "", "{path}");
    }
}

#[test]
fn other_methods_and_unknown_paths_get_a_short_text() {
    let world = TestServer::start(&[]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer =
            world.send(format!("{method} /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), "GET, HEAD", "{method}");
        assert_eq!(answer.body, "only GET and HEAD are answered here\n");
    }
    let answer = world.get("/nothing/here?a=b");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(answer.body, "nothing here; there are /, /health, /ready and /metrics\n");
}

#[test]
fn a_request_with_a_body_that_nobody_wants_is_answered_and_leaves_no_connection_behind() {
    let world = TestServer::start(&[]);
    let body = "x".repeat(1 << 20);
    let head = format!("POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut peer = world.connect();
    // The server may close before all of it is sent.
    let _ = std::io::Write::write_all(&mut peer, head.as_bytes());
    let _ = std::io::Write::write_all(&mut peer, &body.as_bytes()[..1]);
    let mut status = [0; 12];
    std::io::Read::read_exact(&mut peer, &mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 405");
    wait_until(PATIENCE, "no more connections", || {
        // The one that asks is one itself.
        world.get("/metrics").body.contains("\ntidings_http_connections 1\n")
    });
}
