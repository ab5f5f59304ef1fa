//! HTTP/2 without TLS, as proxies use it. A browser's HTTP/2 with TLS is tested in `tests/browser`.

use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, Version};
use serde_json::Value;
use tidings_testkit::{HttpResponse, PATIENCE, wait_until};
use tokio::runtime::Handle;

use crate::streams::publish;
use crate::support::TestServer;
use crate::support::stream::{Stream, get};

/// The window of each stream of the client.
const WINDOW: u32 = 64 << 10;

/// A connection with HTTP/2.
struct Client {
    runtime: Handle,
    requests: SendRequest<Bytes>,
}

/// A stream after the head of its response.
struct Http2Stream {
    runtime: Handle,
    head: Response<()>,
    input: RecvStream,
    output: SendStream<Bytes>,
    received: Vec<u8>,
}

impl Client {
    fn connect(world: &TestServer) -> Self {
        let runtime = world.runtime.handle().clone();
        let socket = TcpStream::connect(world.http()).expect("a connection");
        socket.set_nonblocking(true).expect("a socket");
        let requests = runtime.block_on(async {
            let socket = tokio::net::TcpStream::from_std(socket).expect("a socket");
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(WINDOW).initial_connection_window_size(1 << 30);
            let (requests, connection) = builder.handshake(socket).await.expect("a handshake");
            tokio::spawn(connection);
            requests
        });
        Self { runtime, requests }
    }

    fn request(&self, request: Request<()>, body: Option<&str>) -> Http2Stream {
        let is_open = body.is_none() && request.method() == Method::CONNECT;
        self.runtime.block_on(async {
            let mut requests = self.requests.clone().ready().await.expect("a connection");
            let (response, mut output) =
                requests.send_request(request, body.is_none() && !is_open).expect("a request");
            if let Some(body) = body {
                output.send_data(Bytes::copy_from_slice(body.as_bytes()), true).expect("a body");
            }
            let response = tokio::time::timeout(PATIENCE, response).await.expect("a response in time");
            let (head, input) = response.expect("a response").into_parts();
            let head = Response::from_parts(head, ());
            Http2Stream { runtime: self.runtime.clone(), head, input, output, received: Vec::new() }
        })
    }

    fn get(&self, path: &str) -> Http2Stream {
        self.request(uri(path).body(()).expect("a request"), None)
    }

    fn post(&self, path: &str, body: &str) -> Http2Stream {
        let request = uri(path).method("POST").header("content-type", "application/json");
        self.request(request.body(()).expect("a request"), Some(body))
    }

    /// The handshake of a WebSocket.
    fn websocket(&self, path: &str, headers: &[(&str, &str)]) -> Http2Stream {
        // The settings of the server, which permit the handshake, have arrived with the first response.
        assert_eq!(self.get("/health").status(), 200);
        let mut request = uri(path).method("CONNECT").header("sec-websocket-version", "13");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).expect("a request");
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        self.request(request, None)
    }
}

fn uri(path: &str) -> http::request::Builder {
    Request::builder().version(Version::HTTP_2).uri(format!("http://localhost{path}"))
}

impl Http2Stream {
    fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    fn header(&self, name: &str) -> &str {
        self.head.headers().get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Reads more of the response; `false` at its end, or if it was reset.
    fn read(&mut self) -> bool {
        let data = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.input.data()).await.expect("data in time")
        });
        let Some(Ok(data)) = data else { return false };
        self.input.flow_control().release_capacity(data.len()).expect("a window");
        self.received.extend_from_slice(&data);
        true
    }

    fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|w| w == end.as_bytes()) {
                let rest = self.received.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.received, rest)).expect("text");
            }
            assert!(self.read(), "an end before {end:?}: {}", String::from_utf8_lossy(&self.received));
        }
    }

    fn rest(&mut self) -> String {
        while self.read() {}
        String::from_utf8(std::mem::take(&mut self.received)).expect("text")
    }

    /// Sends a text message of at most 125 bytes, masked with zeros.
    fn send(&mut self, text: &str) {
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).expect("a short text"), 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.output.send_data(frame.into(), false).expect("a frame");
    }

    /// The next frame: its first byte and its payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            let (head, length) = match *self.received {
                [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([a, b]))),
                [_, length @ ..=125, ..] => (2, usize::from(length)),
                _ => (usize::MAX / 2, 0),
            };
            if self.received.len() >= head + length {
                let frame: Vec<u8> = self.received.drain(..head + length).collect();
                return (frame[0], frame[head..].to_vec());
            }
            assert!(self.read(), "an end within a frame");
        }
    }

    /// The next text message, which may be compressed, as JSON.
    fn json(&mut self) -> Value {
        let (first, mut text) = self.frame();
        if first == 0xC1 {
            text.extend_from_slice(&[0, 0, 0xff, 0xff]);
            let mut plain = Vec::with_capacity(16 << 10);
            let mut inflater = flate2::Decompress::new(false);
            inflater
                .decompress_vec(&text, &mut plain, flate2::FlushDecompress::Sync)
                .expect("compressed text");
            text = plain;
        } else {
            assert_eq!(first, 0x81, "{text:?}");
        }
        serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{text:?}: {e}"))
    }
}

fn open_events(client: &Client, query: &str) -> Http2Stream {
    let mut stream = client.get(&format!("/events?{query}"));
    assert_eq!((stream.status(), stream.header("content-type")), (200, "text/event-stream"));
    stream.until(":ok\n\n");
    stream
}

#[test]
fn one_connection_carries_many_event_streams() {
    let world = TestServer::start(&[]);
    let client = Client::connect(&world);
    let mut streams: Vec<_> = (0..100).map(|_| open_events(&client, "channel=news")).collect();
    assert_eq!(world.metric("tidings_connections{transport=\"http2\"}"), 100);
    assert_eq!(world.metric("tidings_http2_connections"), 1);
    assert_eq!(world.metric("tidings_http2_streams{use=\"session\"}"), 100);
    publish(&world, "news", "to all of them");
    for stream in &mut streams {
        assert_eq!(stream.until("\n\n"), "data: to all of them\n\n");
    }
    let dropped = streams.split_off(50);
    drop(dropped);
    wait_until(PATIENCE, "the end of half of the sessions", || {
        world.metric("tidings_connections{transport=\"http2\"}") == 50
    });
    publish(&world, "news", "to the others");
    for stream in &mut streams {
        assert_eq!(stream.until("\n\n"), "data: to the others\n\n");
    }
    assert!(world.metric("tidings_http_requests_received_total{version=\"2\"}") >= 100);
}

#[test]
fn an_event_stream_has_the_same_response_as_over_http_1() {
    let world = TestServer::start(&[
        "channel.namespaces=kept",
        "channel.namespaces.kept.history_size=100",
        "channel.namespaces.kept.history_ttl=300s",
        "client.allowed_origins=https://example.com",
    ]);
    publish(&world, "kept:a", "1");
    let client = Client::connect(&world);
    let same = ["content-type", "cache-control", "x-content-type-options", "x-accel-buffering", "vary"];
    for query in ["channel=kept:a", "channel=kept:a&channel=b&last_event_id=9.x.kept:a"] {
        let mut first = Stream::open(&world, &get(&format!("/events?{query}"), ""));
        let mut second = client.get(&format!("/events?{query}"));
        assert_eq!(second.status(), first.head.status);
        for name in same {
            assert_eq!(second.header(name), first.head.header(name), "{name}");
        }
        let without_retry = |text: String| text.split_once("\n\n").expect("a retry field").1.to_owned();
        assert_eq!(without_retry(second.until(":ok\n\n")), without_retry(first.until(":ok\n\n")));
        publish(&world, "kept:a", query);
        assert_eq!(second.until("\n\n"), first.until("\n\n"));
    }
    for path in ["/events?channel=none:a", "/events", "/events?channel=b&token=wrong"] {
        let first = world.get(path);
        let mut second = client.get(path);
        assert!(first.status >= 400, "{path}: {first:?}");
        assert_eq!(second.status(), first.status, "{path}");
        assert_eq!(second.header("content-type"), first.header("content-type"), "{path}");
        assert_eq!(second.rest(), first.body, "{path}");
    }
    let cross = uri("/events?channel=b").header("origin", "https://example.com");
    let cross = client.request(cross.body(()).expect("a request"), None);
    assert_eq!(cross.header("access-control-allow-origin"), "https://example.com");
    let foreign = uri("/events?channel=b").header("origin", "https://example.org");
    assert_eq!(client.request(foreign.body(()).expect("a request"), None).status(), 403);
}

#[test]
fn both_directions_of_an_emulated_session_use_one_connection() {
    let world = TestServer::start(&[]);
    let client = Client::connect(&world);
    let mut stream = client.post("/connection/http_stream", r#"{"id":1,"connect":{}}"#);
    assert_eq!(stream.status(), 200);
    let connected: Value = serde_json::from_str(&stream.until("\n")).expect("JSON");
    let (session, node) = (&connected["connect"]["session"], &connected["connect"]["node"]);
    let subscribe = r#"{"id":2,"subscribe":{"channel":"news"}}"#;
    let body = serde_json::json!({"session": session, "node": node, "data": subscribe}).to_string();
    assert_eq!(client.post("/emulation", &body).status(), 204);
    assert_eq!(stream.until("\n"), "{\"id\":2,\"subscribe\":{}}\n");
    publish(&world, "news", "1");
    assert!(stream.until("\n").contains("\"data\":1"));
    drop(stream);
    wait_until(PATIENCE, "the end of the session", || {
        world.metric("tidings_connections{transport=\"http2\"}") == 0
    });
}

#[test]
fn a_websocket_over_http2_carries_every_protocol() {
    let world = TestServer::start(&["uni_websocket.enabled=true", "websocket.compression=true"]);
    let client = Client::connect(&world);
    let offers = [
        ("sec-websocket-protocol", "other, centrifuge-json"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ];
    let mut socket = client.websocket("/connection/websocket", &offers);
    assert_eq!(socket.status(), 200);
    assert_eq!(socket.header("sec-websocket-accept"), "");
    assert!(socket.header("sec-websocket-extensions").starts_with("permessage-deflate"));
    socket.send(r#"{"id":1,"connect":{}}"#);
    assert_eq!(socket.json()["id"], 1);
    socket.send(r#"{"id":2,"subscribe":{"channel":"news"}}"#);
    assert_eq!(socket.json()["id"], 2);
    publish(&world, "news", "1");
    assert_eq!(socket.json()["push"]["pub"]["data"], 1);

    let mut protobuf =
        client.websocket("/connection/websocket", &[("sec-websocket-protocol", "centrifuge-protobuf")]);
    assert_eq!(protobuf.header("sec-websocket-protocol"), "centrifuge-protobuf");
    protobuf
        .output
        .send_data(Bytes::from_static(b"\x82\x85\0\0\0\0\x04\x08\x01\x22\x00"), false)
        .expect("sent");
    assert_eq!(protobuf.frame().0, 0x82);

    let mut one_way = client.websocket("/connection/uni_websocket", &[]);
    one_way.send("{}");
    assert!(one_way.json()["connect"]["client"].is_string());

    let mut stomp = client.websocket("/stomp", &[("sec-websocket-protocol", "v12.stomp")]);
    assert_eq!(stomp.header("sec-websocket-protocol"), "v12.stomp");
    stomp.send("CONNECT\naccept-version:1.2\nhost:localhost\n\n\0");
    assert!(stomp.frame().1.starts_with(b"CONNECTED\n"));

    let mut table = client.websocket("/tables/ws", &[]);
    assert_eq!(table.status(), 200);
    table.output.send_data(Bytes::from_static(b"\x82\x88\0\0\0\0a,b\n1,2\n"), false).expect("a file");
    let mut texts = Vec::new();
    while !texts.iter().any(|text: &Value| text["data"] == serde_json::json!([["1", "2"]])) {
        texts.push(table.json());
    }

    // A close of the client is answered, and ends the stream.
    socket.output.send_data(Bytes::from_static(b"\x88\x82\0\0\0\0\x03\xe8"), false).expect("a frame");
    assert_eq!(socket.frame().0, 0x88);
    assert_eq!(socket.rest(), "");
    drop((protobuf, one_way, stomp, table));
    wait_until(PATIENCE, "the end of all streams", || {
        world.metric("tidings_http2_streams{use=\"session\"}") == 0
            && world.metric("tidings_connections{transport=\"http2\"}") == 0
    });
}

#[test]
fn a_websocket_handshake_is_checked_as_over_http_1() {
    let world = TestServer::start(&["client.allowed_origins=https://example.com"]);
    let client = Client::connect(&world);
    let path = "/connection/websocket";
    assert_eq!(client.websocket(path, &[("origin", "https://example.org")]).status(), 403);
    assert_eq!(client.websocket(path, &[("origin", "https://example.com")]).status(), 200);
    assert_eq!(client.websocket("/health", &[]).status(), 400);
    assert_eq!(client.get(path).status(), 400);
    let elsewhere = Request::builder().version(Version::HTTP_2).uri("http://example.com/health");
    let elsewhere = client.request(elsewhere.body(()).expect("a request"), None);
    assert_eq!(elsewhere.status(), 421, "a workbench serves only its own hosts");
}

#[test]
fn a_client_that_does_not_read_a_stream_is_cut_and_delays_no_other_stream() {
    const BODY: usize = 1_000;
    const QUEUE: usize = 64 << 10;
    let world = TestServer::start(&[
        &format!("client.queue_max_size={QUEUE}"),
        "channel.without_namespace.slow_consumer=cut",
        "client.slow_close_delay=500ms",
    ]);
    let client = Client::connect(&world);
    let mut stalled = open_events(&client, "channel=news");
    let mut socket = client.websocket("/connection/websocket", &[]);
    socket.send(r#"{"id":1,"connect":{}}"#);
    socket.json();
    socket.send(r#"{"id":2,"subscribe":{"channel":"news"}}"#);
    socket.json();
    let mut steady = open_events(&client, "channel=news");
    let mut publisher = world.resp();
    let mut published = 0;
    while world.metric("tidings_disconnects_total{code=\"3008\"}") < 2 {
        let body = format!("{published:08}{}", "x".repeat(BODY - 8));
        publisher.command(&["PUBLISH", "news", &body]);
        published += 1;
        assert_eq!(steady.until("\n\n"), format!("data: {body}\n\n"));
        assert!(published < 10_000, "the stalled streams are not cut");
    }
    // The window, the stream, and the queue.
    let bound = (WINDOW as usize + (64 << 10) + QUEUE) / BODY;
    assert!(published < 2 * bound, "{published} publications of {BODY} bytes");
    wait_until(PATIENCE, "the end of the stalled streams", || {
        world.metric("tidings_http2_streams{use=\"session\"}") == 1
    });
    assert!(!stalled.rest().contains("data: 00009999"));
    drop(socket);
    publisher.command(&["PUBLISH", "news", "last"]);
    assert_eq!(steady.until("\n\n"), "data: last\n\n");
}

#[test]
fn the_limits_of_an_address_count_streams() {
    let world = TestServer::start(&["limits.address.connections=3"]);
    let client = Client::connect(&world);
    let streams: Vec<_> = (0..3).map(|_| open_events(&client, "channel=news")).collect();
    let mut refused = client.get("/events?channel=news");
    assert_eq!(refused.status(), 429);
    assert!(refused.rest().contains("limits.address.connections"));
    drop(streams);
    wait_until(PATIENCE, "room for another stream", || client.get("/events?channel=news").status() == 200);
}

#[test]
fn a_stop_requests_clients_to_reconnect_and_ends_the_connection() {
    let mut world = TestServer::start(&["shutdown.drain=0s"]);
    let client = Client::connect(&world);
    let mut socket = client.websocket("/connection/websocket", &[]);
    socket.send(r#"{"id":1,"connect":{}}"#);
    socket.json();
    let mut stream = client.post("/connection/http_stream", r#"{"id":1,"connect":{}}"#);
    stream.until("\n");
    let stopping = world.begin_stop();
    assert!(stream.rest().contains("\"code\":3001"), "a push with the reason");
    let (first, reason) = socket.frame();
    assert_eq!((first, &reason[..2]), (0x88, &3001_u16.to_be_bytes()[..]));
    socket.output.send_data(Bytes::from_static(b"\x88\x82\0\0\0\0\x03\xe8"), false).expect("a frame");
    let ended = world.runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(8), stopping).await.expect("a stop in time")
    });
    ended.expect("a stop without a panic");
}

#[test]
fn probes_are_served_over_http2_at_the_limit() {
    let world = TestServer::start(&["http.connection_limit=1"]);
    let client = Client::connect(&world);
    // A session holds no place of the HTTP port.
    let _streams: Vec<_> = (0..5).map(|_| open_events(&client, "channel=news")).collect();
    let mut held = world.connect();
    std::io::Write::write_all(
        &mut held,
        b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
    )
    .expect("half a request sent");
    wait_until(PATIENCE, "the place of the request", || world.metric("tidings_http_reserve_connections") > 0);
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(client.get(path).status(), 200, "{path}");
    }
    let page: HttpResponse = world.get("/health");
    assert_eq!(page.status, 200);
}
