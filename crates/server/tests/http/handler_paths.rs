//! Handlers at further paths (`handler_prefix`).

use serde_json::{Value, json};
use tidings_wire::ws::Opcode;

use crate::support::TestServer;
use crate::support::stream::{Stream, escaped, get, post};
use crate::support::websocket::Client;

const PATHS: [&str; 8] = [
    "websocket.handler_prefix=/rt/websocket",
    "sse.handler_prefix=/rt/sse",
    "http_stream.handler_prefix=/rt/stream",
    "emulation.handler_prefix=/rt/commands",
    "uni_websocket.handler_prefix=/rt/uni/websocket",
    "uni_sse.handler_prefix=/rt/uni/sse",
    "uni_http_stream.handler_prefix=/rt/uni/stream",
    "http_api.handler_prefix=/rt/api",
];
const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
const JSON: &str = "Content-Type: application/json\r\n";

/// Uses each handler at `connection` (streams and WebSockets), `emulation` and `api`.
fn use_all(server: &TestServer, paths: &[&str; 8]) {
    let [websocket, sse, http_stream, emulation, uni_websocket, uni_sse, uni_stream, api] = paths;
    let mut client = Client::open(server, websocket, "", &[]);
    client.send(Opcode::Text, CONNECT.as_bytes());
    assert_eq!(client.json()[0]["id"], 1);
    let mut client = Client::open(server, uni_websocket, "", &[]);
    client.send(Opcode::Text, b"{}");
    assert!(client.json()[0]["connect"]["client"].is_string());
    let one_way = escaped("{}");
    let mut stream = Stream::open(server, &get(&format!("{uni_sse}?cf_connect={one_way}"), ""));
    assert!(stream.event()["connect"]["client"].is_string());
    let mut stream = Stream::open(server, &post(uni_stream, JSON, "{}"));
    assert!(stream.line()["connect"]["client"].is_string());
    let mut stream = Stream::open(server, &get(&format!("{sse}?cf_connect={}", escaped(CONNECT)), ""));
    assert_eq!(stream.event()["id"], 1);
    let mut stream = Stream::open(server, &post(http_stream, JSON, CONNECT));
    let connected = stream.line();
    let (node, session) = (&connected["connect"]["node"], &connected["connect"]["session"]);
    let subscribe = json!({"id": 2, "subscribe": {"channel": "news"}}).to_string();
    let body = json!({"node": node, "session": session, "data": subscribe}).to_string();
    assert_eq!(server.post(emulation, &["Content-Type: application/json"], &body).status, 204);
    assert_eq!(stream.line()["id"], 2);
    let published = server.post(&format!("{api}/publish"), &[], r#"{"channel":"news","data":7}"#);
    assert_eq!(published.status, 200, "{}", published.body);
    assert_eq!(stream.line()["push"]["pub"]["data"], 7);
    let command = r#"{"method":"publish","params":{"channel":"news","data":8}}"#;
    assert_eq!(server.post(api, &[], command).status, 200);
    assert_eq!(stream.line()["push"]["pub"]["data"], 8);
    let described: Value =
        serde_json::from_str(&server.get(&format!("{api}/openapi.json")).body).expect("JSON");
    assert!(described["paths"].is_object());
}

#[test]
fn handlers_serve_at_further_paths_and_at_their_own() {
    let server = TestServer::start(&PATHS);
    use_all(&server, &PATHS.map(|option| option.split_once('=').expect("a path").1));
    let own = [
        "/connection/websocket",
        "/connection/sse",
        "/connection/http_stream",
        "/emulation",
        "/connection/uni_websocket",
        "/connection/uni_sse",
        "/connection/uni_http_stream",
        "/api",
    ];
    use_all(&server, &own);
}

#[test]
fn a_further_path_of_a_transport_that_is_off_does_not_exist() {
    let server = TestServer::start(&["sse.enabled=false", "sse.handler_prefix=/rt/sse"]);
    assert_eq!(server.get("/rt/sse").status, 404);
}
