//! The check of the `Host` header.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use tidings_testkit::HttpResponse;

use crate::support::TestServer;

fn request(server: &TestServer, target: &str, host: &str) -> HttpResponse {
    server.send(format!("GET {target} HTTP/1.1\r\n{host}Connection: close\r\n\r\n"))
}

#[test]
fn a_workbench_rejects_requests_for_hosts_of_other_sites() {
    let server = TestServer::start(&[]);
    for (target, host) in [
        ("/ready", "Host: evil.example\r\n"),
        ("/", "Host: evil.example:8000\r\n"),
        ("/", "Host: localhost.evil.example\r\n"),
        ("http://evil.example/", "Host: localhost\r\n"),
        ("/", "Host: 203.0.113.7\r\n"),
        ("/", "Host: \r\n"),
        ("/nothing", "Host: evil.example\r\n"),
    ] {
        let answer = request(&server, target, host);
        assert_eq!(answer.status, 421, "{target} {host}");
        assert!(answer.body.contains("http_api.key"), "{}", answer.body);
        assert_eq!(answer.body.lines().count(), 1);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
}

#[test]
fn a_request_without_exactly_one_host_is_rejected() {
    for options in [&[][..], &["http_api.key=0123456789abcdef0123456789abcdef"]] {
        let server = TestServer::start(options);
        for (host, why) in [
            ("", "no Host header"),
            ("Host: localhost\r\nHost: localhost\r\n", "more than one Host header"),
            ("Host: localhost\r\nHost: evil.example\r\n", "more than one Host header"),
            ("host: localhost\r\nHOST: localhost\r\n", "more than one Host header"),
        ] {
            for target in ["/health", "/", "http://localhost/ready", "/api/publish"] {
                let answer = request(&server, target, host);
                assert_eq!(answer.status, 400, "{target} {host:?}");
                assert!(answer.body.contains(why), "{}", answer.body);
            }
        }
        // HTTP/1.0 has none.
        let answer = server.send("GET /health HTTP/1.0\r\n\r\n");
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn a_workbench_accepts_every_name_of_this_machine() {
    let server = TestServer::start(&[]);
    let own = format!("Host: {}\r\n", server.http());
    for (target, host) in [
        ("/health", "Host: localhost\r\n"),
        ("/health", "Host: LocalHost:1\r\n"),
        ("/health", "Host: [::1]:8000\r\n"),
        ("/health", own.as_str()),
        ("http://localhost/health", "Host: localhost\r\n"),
    ] {
        assert_eq!(request(&server, target, host).status, 200, "{target} {host}");
    }
}

#[test]
fn a_server_with_a_key_or_with_insecure_accepts_any_host() {
    for option in ["http_api.key=secret", "client.token.hmac_secret_key=secret", "client.insecure=true"] {
        let server = TestServer::start(&[option]);
        assert_eq!(request(&server, "/health", "Host: push.example.com\r\n").status, 200, "{option}");
    }
}

#[test]
fn a_unix_socket_accepts_any_host() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("http.sock");
    let server = TestServer::start(&[&format!("http.listen=unix:{}", path.display())]);
    assert_eq!(server.announced("http"), format!("unix:{}", path.display()));
    let mut peer = UnixStream::connect(&path).expect("a connection");
    peer.write_all(b"GET /health HTTP/1.1\r\nHost: push.example.com\r\nConnection: close\r\n\r\n")
        .expect("sent");
    assert_eq!(HttpResponse::read(&mut peer).body, "ok\n");
    drop(server);
    assert!(!path.exists(), "the socket's file is not removed");
}
