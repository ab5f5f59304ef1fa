//! The paths of the Pusher protocol: who may connect, and what requests of the HTTP API are refused.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use tidings_pusher::Key;
use tidings_testkit::{HttpResponse, LineClient};

use crate::support::TestServer;

/// The secret of the app.
const SECRET: &str = "s3cr3t";

/// The options of a server with an app.
const APP: [&str; 4] = [
    "pusher.apps=shop",
    "pusher.apps.shop.key=k",
    "pusher.apps.shop.secret=s3cr3t",
    "pusher.apps.shop.limits.event_size=100",
];

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The target of a request that is signed at this time, with further parameters.
fn signed(secret: &str, method: &str, path: &str, body: &str, now: u64) -> String {
    let query = Key::new(secret).sign_request("k", method, path, body.as_bytes(), now);
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{path}?{}", query.join("&"))
}

fn post(server: &TestServer, path: &str, body: &str) -> HttpResponse {
    server.post(&signed(SECRET, "POST", path, body, now()), &[], body)
}

fn websocket(server: &TestServer, path: &str, origin: &str) -> HttpResponse {
    let mut peer = server.connect();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: {origin}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    peer.write_all(request.as_bytes()).expect("a request sent");
    HttpResponse::read_head(&mut peer)
}

#[test]
fn an_event_reaches_a_subscriber_of_the_line_port() {
    let server = TestServer::start(&[]);
    let mut line: LineClient = server.subscriber("news");
    let body = r#"{"name":"created","data":"{\"id\":1}","channel":"news"}"#;
    let query = Key::new("secret").sign_request("key", "POST", "/apps/app/events", body.as_bytes(), now());
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let response = server.post(&format!("/apps/app/events?{}", query.join("&")), &[], body);
    assert_eq!((response.status, &*response.body), (200, "{}"));
    assert_eq!(line.line(), "MESSAGE news {\"id\":1}");
    assert_eq!(server.metric("tidings_pusher_api_events_total{app=\"app\"}"), 1);
}

#[test]
fn a_request_that_is_not_signed_or_too_old_is_refused_before_its_body_is_read() {
    let server = TestServer::start(&APP);
    let (path, body) = ("/apps/shop/events", r#"{"name":"e","data":"","channel":"c"}"#);
    assert_eq!(post(&server, path, body).status, 200);
    let refused = |target: &str, status: u16, text: &str| {
        let response = server.post(target, &[], body);
        assert_eq!(response.status, status, "{target}: {}", response.body);
        assert!(response.body.contains(text), "{}", response.body);
        assert!(!response.body.contains(SECRET), "{}", response.body);
    };
    refused(path, 401, "auth_key is missing");
    refused(&signed("wrong", "POST", path, body, now()), 401, "signature is not valid");
    refused(&signed(SECRET, "POST", path, body, now() - 700), 401, "check both clocks");
    refused(&signed(SECRET, "POST", path, "{}", now()), 401, "body_md5");
    refused(&signed(SECRET, "GET", path, body, now()), 401, "signature is not valid");
    refused(&signed(SECRET, "POST", "/apps/other/events", body, now()), 404, "no app has this id");
    refused(&signed(SECRET, "POST", "/apps/shop/nothing", body, now()), 404, "POST events");
    assert_eq!(server.metric("tidings_pusher_api_errors_total{app=\"shop\"}"), 6);
    // The body of a request without a signature is not awaited.
    let mut peer = server.connect();
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
    peer.write_all(head.as_bytes()).expect("a head sent");
    assert_eq!(HttpResponse::read_head(&mut peer).status, 401);
}

#[test]
fn a_request_beyond_a_limit_is_refused_with_the_limit() {
    let server = TestServer::start(&APP);
    let large = format!(r#"{{"name":"e","data":"{}","channel":"c"}}"#, "x".repeat(101));
    let response = post(&server, "/apps/shop/events", &large);
    assert_eq!(response.status, 413);
    assert!(response.body.contains("limits.event_size"), "{}", response.body);
    let huge = format!(r#"{{"name":"e","data":"{}","channel":"c"}}"#, "x".repeat(100 << 10));
    let response = post(&server, "/apps/shop/events", &huge);
    assert_eq!(response.status, 413);
    assert!(response.body.contains("larger than 67536 bytes"), "{}", response.body);
    let many: Vec<String> = (0..101).map(|n| format!("\"c{n}\"")).collect();
    let many = format!(r#"{{"name":"e","data":"","channels":[{}]}}"#, many.join(","));
    assert_eq!(post(&server, "/apps/shop/events", &many).status, 400);
}

#[test]
fn pages_of_listed_origins_connect_to_an_app() {
    let own = [
        &APP[..],
        &["pusher.apps.shop.allowed_origins=https://a.example", "client.allowed_origins=https://b.example"],
    ];
    let server = TestServer::start(&own.concat());
    let status = |path: &str, origin: &str| websocket(&server, path, origin).status;
    assert_eq!(status("/app/k?protocol=7", "https://a.example"), 101);
    assert_eq!(status("/app/k?protocol=7", "https://b.example"), 403);
    let server = TestServer::start(&[&APP[..], &["client.allowed_origins=https://b.example"]].concat());
    assert_eq!(websocket(&server, "/app/k?protocol=7", "https://b.example").status, 101);
    assert_eq!(websocket(&server, "/app/k?protocol=7", "https://a.example").status, 403);
}

#[test]
fn without_an_app_the_paths_do_not_exist() {
    let server = TestServer::start(&["http_api.key=s3cret"]);
    assert_eq!(websocket(&server, "/app/key?protocol=7", "http://localhost").status, 404);
    assert_eq!(server.get("/apps/app/channels").status, 404);
}
