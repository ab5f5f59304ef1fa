//! The opening handshake of a WebSocket, and its rejections.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use tidings_testkit::{HttpResponse, PATIENCE, wait_until};

use crate::support::TestServer;

const PATH: &str = "/connection/websocket";

/// A handshake according to the RFC, with additional or replaced headers: `Name: value`, or `Name:` to omit one.
fn request(path: &str, headers: &[&str]) -> String {
    let usual = [
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    let name = |header: &str| header.split(':').next().map(str::to_ascii_lowercase);
    let kept = usual.iter().filter(|u| headers.iter().all(|h| name(h) != name(u)));
    let given = headers.iter().filter(|header| !header.ends_with(':'));
    let all: Vec<_> = kept.chain(given).copied().collect();
    format!("GET {path} HTTP/1.1\r\n{}\r\n\r\n", all.join("\r\n"))
}

/// The head of the response to a handshake.
fn head(server: &TestServer, request: &str) -> HttpResponse {
    let mut peer = server.connect();
    peer.write_all(request.as_bytes()).expect("a request sent");
    HttpResponse::read_head(&mut peer)
}

fn rejected(server: &TestServer, headers: &[&str]) -> HttpResponse {
    let all = [headers, &["Connection: Upgrade, close"]].concat();
    let headers = if headers.iter().any(|h| h.starts_with("Connection")) { headers } else { &all };
    let answer = server.send(request(PATH, headers));
    assert_ne!(answer.status, 101, "{headers:?}");
    assert_eq!(answer.body.lines().count(), 1, "{answer:?}");
    answer
}

#[test]
fn the_response_to_a_handshake_follows_the_rfc() {
    let server = TestServer::start(&[]);
    let answer = head(&server, &request(PATH, &[]));
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("upgrade"), "websocket");
    assert_eq!(answer.header("connection"), "Upgrade");
    assert_eq!(answer.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(answer.header("sec-websocket-protocol"), "");
    assert_eq!(answer.header("sec-websocket-extensions"), "");
}

#[test]
fn header_names_and_tokens_are_case_insensitive_and_may_be_in_a_list() {
    let server = TestServer::start(&[]);
    for headers in [
        &["upgrade: WebSocket", "connection: UPGRADE"][..],
        &["UPGRADE: h2c, websocket", "Connection: close, upgrade"],
        &["Connection: keep-alive", "Connection: upgrade"],
    ] {
        assert_eq!(head(&server, &request(PATH, headers)).status, 101, "{headers:?}");
    }
}

#[test]
fn protobuf_is_selected_if_the_client_offers_it() {
    let server = TestServer::start(&[]);
    let offered = |offer| head(&server, &request(PATH, &[offer]));
    let protobuf = offered("Sec-WebSocket-Protocol: x, centrifuge-protobuf");
    assert_eq!((protobuf.status, protobuf.header("sec-websocket-protocol")), (101, "centrifuge-protobuf"));
    let other = offered("Sec-WebSocket-Protocol: mqtt");
    assert_eq!((other.status, other.header("sec-websocket-protocol")), (101, ""));
}

#[test]
fn an_invalid_handshake_is_rejected_with_the_missing_part() {
    let server = TestServer::start(&[]);
    for (status, headers, named) in [
        (426, &["Upgrade:"][..], "Upgrade: websocket"),
        (426, &["Connection: close"], "Connection: Upgrade"),
        (426, &["Upgrade: h2c"], "Upgrade: websocket"),
        (426, &["Sec-WebSocket-Version: 8"], "13"),
        (426, &["Sec-WebSocket-Version:"], "13"),
        (400, &["Sec-WebSocket-Key:"], "Sec-WebSocket-Key"),
        (400, &["Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="], "Sec-WebSocket-Key"),
        (
            400,
            &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
            "Sec-WebSocket-Key",
        ),
        (400, &["Host:"], "Host"),
        (400, &["Content-Length: 4"], "body"),
    ] {
        let answer = rejected(&server, headers);
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
        assert!(answer.body.contains(named), "{headers:?}: {answer:?}");
        if status == 426 {
            assert_eq!(
                (answer.header("upgrade"), answer.header("sec-websocket-version")),
                ("websocket", "13")
            );
        }
    }
    let plain = server.get(PATH);
    assert_eq!((plain.status, plain.header("upgrade")), (426, "websocket"));
}

#[test]
fn a_page_of_another_site_gets_no_websocket() {
    let server = TestServer::start(&[]);
    for origin in ["https://evil.example", "http://localhost:3000", "null", "http://localhost.evil.example"] {
        for path in [PATH, "/connection/uni_websocket"] {
            let answer =
                server.send(request(path, &[&format!("Origin: {origin}"), "Connection: Upgrade, close"]));
            assert_eq!(answer.status, 403, "{origin}");
            assert!(
                answer.body.contains(origin) && answer.body.contains("client.allowed_origins"),
                "{answer:?}"
            );
        }
    }
    let embedded = rejected(&server, &["Sec-Fetch-Site: cross-site"]);
    assert_eq!(embedded.status, 403);
    let count = "tidings_upgrades_refused_total{reason=\"origin\"} 9";
    assert!(server.get("/metrics").body.contains(count), "{}", server.get("/metrics").body);
}

#[test]
fn the_server_s_own_page_and_listed_ones_get_a_websocket() {
    let server = TestServer::start(&[
        "client.allowed_origins=https://example.com,https://*.example.org",
        "client.token.hmac_secret_key=secret",
    ]);
    for (host, origin) in [
        ("push.example.net", "https://push.example.net"),
        ("push.example.net:8000", "http://push.example.net:8000"),
        ("push.example.net", "https://example.com"),
        ("push.example.net", "https://a.example.org"),
    ] {
        let headers = [&*format!("Host: {host}"), &format!("Origin: {origin}")];
        assert_eq!(head(&server, &request(PATH, &headers)).status, 101, "{host} {origin}");
    }
    let headers = ["Host: push.example.net", "Origin: https://example.net", "Connection: Upgrade, close"];
    assert_eq!(server.send(request(PATH, &headers)).status, 403);
}

#[test]
fn a_websocket_beyond_the_limit_is_rejected_with_a_text() {
    let server = TestServer::start(&["client.connection_limit=1"]);
    let mut first = server.connect();
    first.write_all(request(PATH, &[]).as_bytes()).expect("a request sent");
    assert_eq!(HttpResponse::read_head(&mut first).status, 101);
    wait_until(PATIENCE, "its place in a shard", || {
        server.get("/metrics").body.contains("tidings_connections{transport=\"tcp\"} 1")
    });
    let answer = rejected(&server, &[]);
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("client.connection_limit"), "{answer:?}");
    drop(first);
    wait_until(PATIENCE, "a place that is free again", || head(&server, &request(PATH, &[])).status == 101);
}

#[test]
fn a_websocket_no_longer_counts_as_an_http_connection() {
    let server = TestServer::start(&["http.connection_limit=1"]);
    let mut all = Vec::new();
    for _ in 0..5 {
        let mut peer = server.connect();
        peer.write_all(request(PATH, &[]).as_bytes()).expect("a request sent");
        assert_eq!(HttpResponse::read_head(&mut peer).status, 101);
        all.push(peer);
        // The response arrives before the connection leaves the HTTP server. The one counted is that of the metrics.
        wait_until(PATIENCE, "one HTTP connection", || server.metric("tidings_http_connections") == 1);
    }
}

#[test]
fn a_disabled_transport_is_404() {
    let server = TestServer::start(&["websocket.disabled=true", "uni_websocket.enabled=false"]);
    for path in [PATH, "/connection/uni_websocket"] {
        let answer = server.send(request(path, &["Connection: Upgrade, close"]));
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[test]
fn a_unix_socket_carries_websockets_as_well() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("http.sock");
    let server = TestServer::start(&[&format!("http.listen=unix:{}", path.display())]);
    let mut peer = UnixStream::connect(&path).expect("a connection");
    peer.write_all(request(PATH, &["Host: push.example.com"]).as_bytes()).expect("sent");
    assert_eq!(HttpResponse::read_head(&mut peer).status, 101);
    drop(server);
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).expect("an end");
}
