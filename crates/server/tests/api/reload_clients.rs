//! Clients over HTTP that are connected during a reload: they stay connected, and new limits hold for them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use tidings_testkit::PATIENCE;

use crate::reload::{BASE, KEY, Reloading};
use crate::support::TestServer;

/// A connection, with everything that it has received as text.
struct Stream {
    name: &'static str,
    io: TcpStream,
    received: String,
}

impl Stream {
    /// Sends a request.
    fn open(server: &TestServer, name: &'static str, request: &str) -> Self {
        let mut io = server.connect();
        io.set_read_timeout(Some(PATIENCE)).expect("a socket");
        io.write_all(request.as_bytes()).expect("sent");
        Self { name, io, received: String::new() }
    }

    /// Opens a WebSocket.
    fn websocket(server: &TestServer, name: &'static str, path: &str, headers: &str) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        let mut stream = Self::open(server, name, &request);
        stream.wait_for("\r\n\r\n");
        stream
    }

    /// Opens a stream by a POST.
    fn post(server: &TestServer, name: &'static str, path: &str, body: &str) -> Self {
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        Self::open(server, name, &request)
    }

    /// Sends a message of a WebSocket of less than 126 bytes, masked with zeros.
    fn message(&mut self, text: &str) {
        let length = u8::try_from(text.len()).expect("a short message");
        self.io.write_all(&[&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()).expect("sent");
    }

    /// Reads until this text has arrived.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let mut chunk = [0; 4096];
        while !self.received.contains(text) {
            let read = self
                .io
                .read(&mut chunk)
                .unwrap_or_else(|e| panic!("{}: no {text:?}: {e}: {}", self.name, self.received));
            assert_ne!(read, 0, "{}: the end without {text:?}: {}", self.name, self.received);
            self.received += &String::from_utf8_lossy(&chunk[..read]);
        }
    }

    /// The text value of a field in JSON that has arrived.
    fn field(&self, name: &str) -> &str {
        let start = format!("\"{name}\":\"");
        let (_, rest) =
            self.received.split_once(&start).unwrap_or_else(|| panic!("{}: {}", self.name, self.received));
        rest.split('"').next().expect("the end of a text")
    }
}

/// Sends a command of a session to `/emulation`.
fn emulate(server: &TestServer, stream: &Stream, command: &Value) {
    let body = json!({
        "session": stream.field("session"), "node": stream.field("node"), "data": command.to_string(),
    });
    let answer = server.post("/emulation", &[], &body.to_string());
    assert_eq!(answer.status, 204, "{}: {}", stream.name, answer.body);
}

#[test]
fn every_kind_of_client_stays_connected_and_new_limits_hold_for_it() {
    let options =
        "[uni_websocket]\nenabled = true\n[uni_sse]\nenabled = true\n[uni_http_stream]\nenabled = true\n";
    let world = Reloading::start(&format!("{BASE}{options}"));
    let server = &world.server;
    let connect = json!({"id": 1, "connect": {}}).to_string();
    let subscribe = |id: u64, channel: &str| json!({"id": id, "subscribe": {"channel": channel}});
    let commands = format!("{connect}\n{}", subscribe(2, "news"));
    let one_way = json!({"subs": {"news": {}}}).to_string();

    let mut websocket = Stream::websocket(server, "WebSocket", "/connection/websocket", "");
    websocket.message(&connect);
    websocket.message(&subscribe(2, "news").to_string());
    let mut stomp = Stream::websocket(server, "STOMP", "/stomp", "Sec-WebSocket-Protocol: v12.stomp\r\n");
    stomp.message("CONNECT\naccept-version:1.2\nhost:localhost\n\n\0");
    stomp.message("SUBSCRIBE\nid:1\ndestination:news\nreceipt:subscribed\n\n\0");
    stomp.wait_for("receipt-id:subscribed");
    let mut http_stream = Stream::post(server, "HTTP stream", "/connection/http_stream", &commands);
    let mut sse = Stream::post(server, "SSE", "/connection/sse", &commands);
    for stream in [&mut websocket, &mut http_stream, &mut sse] {
        stream.wait_for("\"id\":2,\"subscribe\"");
    }
    let mut uni_websocket = Stream::websocket(server, "one-way WebSocket", "/connection/uni_websocket", "");
    uni_websocket.message(&one_way);
    let uni_http_stream =
        Stream::post(server, "one-way HTTP stream", "/connection/uni_http_stream", &one_way);
    let uni_sse = Stream::post(server, "one-way SSE", "/connection/uni_sse", &one_way);
    let mut one_way = [uni_websocket, uni_http_stream, uni_sse];
    for stream in &mut one_way {
        stream.wait_for("\"subs\":{\"news\"");
    }

    // They keep the subscription, may make no other one, and an anonymous client may not connect any more.
    let limited = BASE
        .replace("allow_anonymous_connect_without_token = true", "channel_limit = 1")
        .replace("allow_subscribe_for_client = true", "allow_subscribe_for_client = true\npresence = true");
    let result = world.reload(&format!("{limited}{options}"), KEY);
    let changed = [
        "client.allow_anonymous_connect_without_token",
        "client.channel_limit",
        "channel.without_namespace.presence",
    ];
    assert!(
        changed.iter().all(|option| result["changed"].as_array().expect("a list").contains(&json!(option))),
        "{result}"
    );
    let sent = server.post("/api/publish", &[KEY], r#"{"channel":"news","data":"after the reload"}"#);
    assert_eq!(sent.status, 200);
    for stream in [&mut websocket, &mut stomp, &mut http_stream, &mut sse].into_iter().chain(&mut one_way) {
        stream.wait_for("after the reload");
    }

    websocket.message(&subscribe(3, "sport").to_string());
    emulate(server, &http_stream, &subscribe(3, "sport"));
    emulate(server, &sse, &subscribe(3, "sport"));
    for stream in [&mut websocket, &mut http_stream, &mut sse] {
        stream.wait_for("\"id\":3,\"error\":{\"code\":106");
    }
    stomp.message("SUBSCRIBE\nid:2\ndestination:sport\n\n\0");
    stomp.wait_for("code:106");
    let mut other = Stream::websocket(server, "a later client", "/connection/websocket", "");
    other.message(&connect);
    other.wait_for("\"error\":{\"code\":101");
}
