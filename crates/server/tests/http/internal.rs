//! The internal port, and `/metrics` on an HTTP port that other machines can reach.

use std::net::SocketAddr;
use std::time::Duration;

use tidings_testkit::{HttpResponse, get_http, post_http};

use crate::support::{TestServer, load};

const KEY: &str = "http_api.key=a key of this test alone";
const PUBLIC: &str = "http.listen=0.0.0.0:0";
const WITH_KEY: &str = "X-API-Key: a key of this test alone";
const OPERATION: [&str; 3] = ["/health", "/ready", "/metrics"];

fn internal(server: &TestServer) -> SocketAddr {
    let url = server.announced("internal");
    url.strip_prefix("http://")
        .and_then(|url| url.strip_suffix('/'))
        .expect("a URL")
        .parse()
        .expect("an address")
}

fn with_header(server: &TestServer, path: &str, header: &str) -> HttpResponse {
    server.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\nConnection: close\r\n\r\n"))
}

#[test]
fn with_an_internal_port_the_paths_of_operators_and_backends_exist_only_there() {
    let server = TestServer::start(&["internal.listen=127.0.0.1:0", PUBLIC, KEY]);
    server.wait_until_ready();
    let port = internal(&server);
    for path in OPERATION {
        assert_eq!(get_http(port, path).status, 200, "{path}");
        let absent = server.get(path);
        assert_eq!((absent.status, &*absent.body), (404, "not found; there is /\n"), "{path}");
    }
    let publish = r#"{"channel":"news","data":1}"#;
    assert_eq!(post_http(port, "/api/publish", &[WITH_KEY], publish).status, 200);
    assert_eq!(post_http(port, "/api/publish", &[], publish).status, 401, "the key is required there, too");
    assert_eq!(server.post("/api/publish", &[WITH_KEY], publish).status, 404);
    assert_eq!(server.get("/").status, 200);
    let absent = get_http(port, "/");
    let text = "not found; there are /health, /ready and /metrics\n";
    assert_eq!((absent.status, &*absent.body), (404, text));
    assert_eq!(get_http(port, "/connection/websocket").status, 404, "no clients");
}

#[test]
fn the_internal_port_responds_while_clients_use_all_connections_of_the_http_port() {
    let server = TestServer::start(&["internal.listen=127.0.0.1:0", "http.connection_limit=1"]);
    let held: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for path in ["/health", "/metrics"] {
        assert_eq!(get_http(internal(&server), path).status, 200, "{path}");
    }
    drop(held);
}

#[test]
fn metrics_of_a_port_that_other_machines_reach_require_the_key() {
    let server = TestServer::start(&[PUBLIC, KEY]);
    let without = server.get("/metrics");
    assert_eq!(without.status, 401);
    assert!(without.body.contains("http_api.key"), "{}", without.body);
    let began = std::time::Instant::now();
    assert_eq!(with_header(&server, "/metrics", "X-API-Key: a guess").status, 401);
    assert!(began.elapsed() >= Duration::from_millis(150), "a guess is answered late");
    let with = with_header(&server, "/metrics", WITH_KEY);
    assert_eq!(with.status, 200);
    assert!(with.body.contains("tidings_auth_failures_total{credential=\"api_key\"} 1"));
    assert_eq!(
        with_header(&server, "/metrics", "Authorization: apikey a key of this test alone").status,
        200
    );
    assert_eq!(server.get("/health").status, 200, "probes need no key");
}

#[test]
fn metrics_need_no_key_on_loopback_or_with_an_option() {
    for options in [&[KEY][..], &[PUBLIC, KEY, "http_api.insecure=true"], &[PUBLIC, "client.insecure=true"]] {
        assert_eq!(TestServer::start(options).get("/metrics").status, 200, "{options:?}");
    }
}

#[test]
fn the_page_of_a_port_that_other_machines_reach_does_not_show_the_state_of_the_server() {
    let server = TestServer::start(&[PUBLIC, KEY]);
    let page = server.get("/").body;
    assert!(page.contains("Its state is for operators"), "{page}");
    assert!(!page.contains("deliveries since the start") && !page.contains("What runs here"), "{page}");
    assert!(page.contains("Try it from a shell"), "{page}");
    let server = TestServer::start(&["internal.listen=127.0.0.1:0"]);
    let page = server.get("/").body;
    assert!(page.contains("the API, health, metrics"), "the internal port is shown: {page}");
}

#[test]
fn an_internal_port_that_other_machines_reach_requires_a_key() {
    let error = load(&["internal.listen=0.0.0.0:0"]).expect_err("no key is configured");
    assert!(error.contains("internal.listen") && error.contains("http_api.key"), "{error}");
}
