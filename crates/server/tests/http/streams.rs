//! Streamed responses: `/connection/http_stream`, `/connection/sse`, their one-way variants, and `/emulation`.

use std::io::Write as _;
use std::net::Shutdown;

use serde_json::{Value, json};
use tidings_auth::sign_hs256;
use tidings_config::Secret;
use tidings_testkit::{HttpResponse, PATIENCE, RespClient, free_port, wait_until};

use crate::support::TestServer;
use crate::support::stream::{Stream, escaped, get, post};

pub(crate) fn publish(server: &TestServer, channel: &str, body: &str) {
    let mut publisher = RespClient::connect(server.tcp());
    publisher.command(&["PUBLISH", channel, body]);
}

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"news"}}"#;

/// Sends commands of a session to `/emulation`.
fn emulate(server: &TestServer, connected: &Value, commands: &str) -> HttpResponse {
    let connect = &connected["connect"];
    let body = json!({"session": connect["session"], "node": connect["node"], "data": commands}).to_string();
    let headers = "Content-Type: application/json\r\nConnection: close\r\n";
    server.send(post("/emulation", headers, &body))
}

#[test]
fn a_stream_of_lines_carries_the_protocol_in_both_directions() {
    let server = TestServer::start(&[]);
    let headers = "Content-Type: application/json\r\n";
    let mut stream = Stream::open(&server, &post("/connection/http_stream", headers, CONNECT));
    assert_eq!(stream.head.status, 200);
    let connected = stream.line();
    assert_eq!(connected["id"], 1);
    assert!(connected["connect"]["session"].is_string(), "{connected}");
    assert_eq!(emulate(&server, &connected, SUBSCRIBE).status, 204);
    assert_eq!(stream.line()["id"], 2);
    publish(&server, "news", "{\"a\":1}");
    assert_eq!(stream.line(), json!({"push": {"channel": "news", "pub": {"data": {"a": 1}}}}));
}

#[test]
fn a_stream_of_events_carries_the_protocol_in_both_directions() {
    let server = TestServer::start(&[]);
    let path = format!("/connection/sse?cf_connect={}", escaped(CONNECT));
    for request in [get(&path, "Accept: text/event-stream\r\n"), post("/connection/sse", "", CONNECT)] {
        let mut stream = Stream::open(&server, &request);
        assert_eq!((stream.head.status, stream.head.header("content-type")), (200, "text/event-stream"));
        let connected = stream.event();
        assert_eq!(connected["id"], 1);
        let commands = format!("{SUBSCRIBE}\n{{\"id\":3,\"publish\":{{\"channel\":\"news\",\"data\":[7]}}}}");
        assert_eq!(emulate(&server, &connected, &commands).status, 204);
        assert_eq!(stream.event()["id"], 2);
        let (a, b) = (stream.event(), stream.event());
        assert!([&a, &b].into_iter().any(|m| m["id"] == 3), "{a} {b}");
        assert!([&a, &b].into_iter().any(|m| m["push"]["pub"]["data"] == json!([7])), "{a} {b}");
    }
}

#[test]
fn a_stream_of_protobuf_carries_the_protocol_in_both_directions() {
    use tidings_wire::client::Encoding;
    use tidings_wire::client::reply::Outcome;
    use tidings_wire::client::request::{Command, Connect, Request, Subscribe};
    let server = TestServer::start(&[]);
    let command = |id, request| {
        let mut bytes = Vec::new();
        Encoding::Protobuf.write_command(&Command { id, request }, &mut bytes);
        bytes
    };
    let send = |path: &str, body: &[u8]| {
        let mut peer = server.connect();
        let headers = "Content-Type: application/octet-stream\r\nConnection: close\r\n";
        let len = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n{headers}\r\n");
        peer.write_all(head.as_bytes()).expect("sent");
        peer.write_all(body).expect("sent");
        peer
    };
    let mut peer = send("/connection/http_stream", &command(1, Request::Connect(Connect::default())));
    let head = HttpResponse::read_head(&mut peer);
    assert_eq!(head.header("content-type"), "application/octet-stream");
    let mut stream = Stream { peer, head, body: Vec::new() };
    let mut reply = || loop {
        let (used, found) = match Encoding::Protobuf.messages(&stream.body).next() {
            Some(Ok(message)) => {
                let reply = Encoding::Protobuf.parse_reply(message).expect("a reply");
                let rest = message.as_ptr() as usize + message.len() - stream.body.as_ptr() as usize;
                let found = match reply.outcome {
                    Outcome::Connect(c) => (c.session.into_owned(), c.node.into_owned()),
                    other => (format!("{} {other:?}", reply.id), String::new()),
                };
                (rest, Some(found))
            }
            _ => (0, None),
        };
        stream.body.drain(..used);
        match found {
            Some(found) => return found,
            None => assert!(stream.read_chunk()),
        }
    };
    let (session, node) = reply();
    // EmulationRequest: node, session, data.
    let subscribe = Subscribe { channel: "news".into(), ..Subscribe::default() };
    let mut body = Vec::new();
    for (tag, bytes) in [
        (0x0A_u8, node.as_bytes()),
        (0x12, session.as_bytes()),
        (0x1A, &command(2, Request::Subscribe(subscribe))[..]),
    ] {
        body.extend_from_slice(&[tag, u8::try_from(bytes.len()).expect("a short one")]);
        body.extend_from_slice(bytes);
    }
    assert_eq!(HttpResponse::read(&mut send("/emulation", &body)).status, 204);
    assert!(reply().0.starts_with("2 Subscribe"));
    publish(&server, "news", "hello");
    assert!(reply().0.starts_with("0 Push"));
}

#[test]
fn one_way_streams_carry_pushes() {
    let server = TestServer::start(&["channel.without_namespace.allow_subscribe_for_client=true"]);
    let lines = post("/connection/uni_http_stream", "", "{\n\"name\":\"test\"\n}");
    let mut stream = Stream::open(&server, &lines);
    assert_eq!(stream.head.status, 200);
    assert!(stream.line()["connect"]["client"].is_string());
    let uni_sse = format!("/connection/uni_sse?cf_connect={}", escaped(r#"{"name":"test"}"#));
    for request in [get(&uni_sse, ""), get("/connection/uni_sse", ""), post("/connection/uni_sse", "", "{}")]
    {
        let mut stream = Stream::open(&server, &request);
        assert_eq!((stream.head.status, stream.head.header("content-type")), (200, "text/event-stream"));
        assert!(stream.until("\n\n").starts_with("retry: "));
        assert!(stream.event()["connect"]["client"].is_string());
    }
}

/// The requests of the one-way streams with this `connect`.
fn one_way(connect: &Value) -> [String; 2] {
    let connect = connect.to_string();
    let sse = format!("/connection/uni_sse?cf_connect={}", escaped(&connect));
    [post("/connection/uni_http_stream", "", &connect), get(&sse, "")]
}

/// The next push of a one-way stream. Skips pings and fields for browsers.
fn push(stream: &mut Stream) -> Value {
    loop {
        let line = stream.until("\n");
        let line = line.trim_end();
        let json = line.strip_prefix("data: ").unwrap_or(line);
        if json.starts_with('{') && json != "{}" {
            return serde_json::from_str(json).expect("JSON");
        }
    }
}

#[test]
fn a_backend_addresses_a_one_way_connection_by_its_session() {
    let server = TestServer::start(&[]);
    for request in one_way(&json!({"subs": {"news": {}}})) {
        let mut stream = Stream::open(&server, &request);
        let connected = push(&mut stream);
        assert_eq!(connected["connect"]["subs"], json!({"news": {}}), "{connected}");
        publish(&server, "news", "hello");
        assert_eq!(push(&mut stream)["pub"]["data"], "hello");
        let session = connected["connect"]["session"].as_str().expect("a session");
        let order = json!({"session": session, "disconnect": {"code": 4501, "reason": "enough"}});
        let answer = server.send(post("/api/disconnect", "Connection: close\r\n", &order.to_string()));
        assert_eq!(answer.status, 200, "{answer:?}");
        let expected = json!({"code": 4501, "reason": "enough"});
        assert_eq!(push(&mut stream), json!({"disconnect": expected}));
        stream.rest();
    }
}

#[test]
fn a_rejected_one_way_client_gets_the_reason() {
    let key = "a secret of thirty-two bytes or more";
    let expired = sign_hs256(&Secret::new(key), &json!({"sub": "42", "exp": 1})).expect("a token");
    let nowhere = format!("client.proxy.connect.endpoint=http://127.0.0.1:{}/", free_port());
    let server = TestServer::start(&[
        &format!("client.token.hmac_secret_key={key}"),
        "client.proxy.connect.enabled=true",
        &nowhere,
    ]);
    for (connect, code, reconnect) in [
        (json!({"token": expired}), 3005, true),
        (json!({"token": "hunter2"}), 3500, false),
        // The hook does not respond.
        (json!({}), 3004, true),
    ] {
        for request in one_way(&connect) {
            let mut stream = Stream::open(&server, &request);
            let disconnect = push(&mut stream)["disconnect"].take();
            assert_eq!(
                (&disconnect["code"], disconnect["reconnect"] == true),
                (&json!(code), reconnect),
                "{disconnect}"
            );
            stream.rest();
        }
    }
}

#[test]
fn streams_have_headers_against_buffering_and_caching() {
    let server = TestServer::start(&[]);
    let sse = format!("/connection/sse?cf_connect={}", escaped(CONNECT));
    for request in [
        post("/connection/http_stream", "", CONNECT),
        get(&sse, ""),
        post("/connection/uni_http_stream", "", "{}"),
        get("/connection/uni_sse", ""),
        get("/events?channel=news", ""),
    ] {
        let stream = Stream::open(&server, &request);
        assert_eq!(stream.head.header("x-accel-buffering"), "no", "{request}");
        assert!(stream.head.header("cache-control").contains("no-store"), "{request}");
        assert_eq!(stream.head.header("connection"), "close", "{request}");
        assert_eq!(stream.head.header("x-content-type-options"), "nosniff", "{request}");
        assert!(!stream.head.header("date").is_empty(), "{request}");
    }
}

#[test]
fn a_client_of_http_1_0_gets_a_body_without_chunks() {
    let server = TestServer::start(&[]);
    let request = get("/connection/uni_sse", "").replace("HTTP/1.1", "HTTP/1.0");
    let mut stream = Stream::open(&server, &request);
    assert_eq!(stream.head.header("transfer-encoding"), "");
    assert!(stream.event()["connect"]["client"].is_string());
}

#[test]
fn a_stream_does_not_count_as_an_http_connection_and_gets_pings() {
    let server = TestServer::start(&[
        "http.connection_limit=1",
        "client.ping_interval=1s",
        "client.pong_timeout=900ms",
    ]);
    let mut streams: Vec<_> =
        (0..4).map(|_| Stream::open(&server, &get("/connection/uni_sse", ""))).collect();
    for stream in &mut streams {
        stream.event();
    }
    // Requests are still served, one at a time.
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("tidings_http_connections 1\n"), "{metrics}");
    assert!(metrics.contains("tidings_connections{transport=\"http\"} 4"), "{metrics}");
    for stream in &mut streams {
        assert_eq!((stream.event(), stream.event()), (json!({}), json!({})), "pings");
    }
}

#[test]
fn the_end_of_a_silent_client_is_detected() {
    let server = TestServer::start(&["client.ping_interval=1s", "client.pong_timeout=900ms"]);
    for half in [false, true] {
        let mut stream = Stream::open(&server, &get("/connection/uni_sse", ""));
        stream.event();
        if half {
            // The client may still read; a ping shows whether it does.
            stream.peer.shutdown(Shutdown::Write).expect("half a close");
            assert_eq!(stream.event(), json!({}), "a ping");
        }
        drop(stream);
        wait_until(PATIENCE, "no connection left", || {
            server.get("/metrics").body.contains("tidings_connections{transport=\"http\"} 0")
        });
    }
}

#[test]
fn a_stream_continues_after_a_half_close_of_its_client() {
    let server = TestServer::start(&[]);
    let request = post("/connection/sse", "", &format!("{CONNECT}\n{SUBSCRIBE}"));
    let mut stream = Stream::open(&server, &request);
    stream.peer.shutdown(Shutdown::Write).expect("half a close");
    assert_eq!(stream.event()["id"], 1);
    let mut next = stream.event();
    while next["id"] != 2 {
        assert_eq!(next, json!({}), "a ping");
        next = stream.event();
    }
    let mut publisher = RespClient::connect(server.tcp());
    for _ in 0..3 {
        publisher.command(&["PUBLISH", "news", "\"x\""]);
        let mut event = stream.event();
        while event == json!({}) {
            event = stream.event();
        }
        assert_eq!(event["push"]["pub"]["data"], "x");
    }
}

#[test]
fn a_stalled_stream_is_cut_by_the_channel_s_policy_without_effect_on_others() {
    let server = TestServer::start(&[
        "channel.without_namespace.slow_consumer=cut",
        "client.queue_max_size=65536",
        "client.slow_close_delay=1s",
    ]);
    let subscribe = format!("{CONNECT}\n{SUBSCRIBE}");
    let request = post("/connection/sse", "", &subscribe);
    let (mut slow, mut quick) = (Stream::open(&server, &request), Stream::open(&server, &request));
    for stream in [&mut slow, &mut quick] {
        assert_eq!(stream.event()["id"], 1);
        assert_eq!(stream.event()["id"], 2);
    }
    let body = "x".repeat(30_000);
    let mut publisher = RespClient::connect(server.tcp());
    let cut = || server.get("/metrics").body.contains("tidings_connections_cut_total 1\n");
    let mut published = 0;
    while !cut() {
        publisher.command(&["PUBLISH", "news", &body]);
        assert_eq!(quick.event()["push"]["pub"]["data"], *body);
        published += 1;
        assert!(published < 3_000, "the stream is never cut");
    }
    wait_until(PATIENCE, "the slow one's connection to be closed", || {
        server.get("/metrics").body.contains("tidings_connections{transport=\"http\"} 1")
    });
}

#[test]
fn commands_for_an_unknown_session_are_rejected() {
    let server = TestServer::start(&[]);
    let mut stream = Stream::open(&server, &post("/connection/sse", "", CONNECT));
    let connected = stream.event();
    for (name, wrong) in [
        ("session", json!("0.0.1.00000000000000000000000000000000")),
        ("session", json!("nonsense")),
        ("session", json!("")),
        ("node", json!("another")),
    ] {
        let mut changed = connected.clone();
        changed["connect"][name] = wrong;
        assert_eq!(emulate(&server, &changed, SUBSCRIBE).status, 404, "{name}");
    }
    for body in ["", "{", "[]", "{\"session\":1}"] {
        let answer = server.send(post("/emulation", "Connection: close\r\n", body));
        assert_eq!(answer.status, 400, "{body}");
    }
    assert_eq!(emulate(&server, &connected, SUBSCRIBE).status, 204);
    assert_eq!(stream.event()["id"], 2);
    // After its end the session is unknown, even if its slot is used again.
    drop(stream);
    wait_until(PATIENCE, "an end", || {
        server.get("/metrics").body.contains("tidings_connections{transport=\"http\"} 0")
    });
    let mut next = Stream::open(&server, &post("/connection/sse", "", CONNECT));
    next.event();
    emulate(&server, &connected, SUBSCRIBE);
    let subscriptions = server.get("/metrics").body;
    assert!(subscriptions.contains("tidings_subscriptions 0\n"), "{subscriptions}");
}

#[test]
fn bodies_that_are_too_large_or_no_commands_are_rejected() {
    let server = TestServer::start(&[
        "http_stream.max_request_body_size=1000",
        "emulation.max_request_body_size=1000",
    ]);
    let close = "Connection: close\r\n";
    for path in ["/connection/http_stream", "/emulation"] {
        let answer = server.send(post(path, close, &"x".repeat(1001)));
        assert_eq!(answer.status, 413, "{path}");
        assert!(answer.body.contains("1000 bytes"), "{}", answer.body);
        // Without a Content-Length.
        let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n{close}\r\n");
        assert_eq!(server.send(format!("{head}{chunk}")).status, 413, "{path}");
    }
    let too_long = server.send(post("/connection/sse", close, &"x".repeat(65_537)));
    assert_eq!(too_long.status, 413);
    for request in [
        post("/connection/http_stream", close, ""),
        post("/connection/sse", close, ""),
        get("/connection/sse", close),
        post("/connection/uni_http_stream", close, "no object"),
        get("/connection/uni_sse?cf_connect=x", close),
        get("/events", close),
    ] {
        let answer = server.send(&request);
        assert_eq!(answer.status, 400, "{request}: {answer:?}");
        assert_eq!(answer.body.lines().count(), 1, "{answer:?}");
    }
    for request in [get("/emulation", close), get("/connection/http_stream", close)] {
        assert_eq!(server.send(&request).status, 405, "{request}");
    }
    let head = get("/connection/uni_sse", close).replacen("GET", "HEAD", 1);
    assert_eq!(server.send(&head).status, 405);
}

#[test]
fn a_get_cannot_publish() {
    let server = TestServer::start(&[]);
    let commands = format!("{CONNECT}\n{}", r#"{"id":2,"publish":{"channel":"news","data":1}}"#);
    let path = format!("/connection/sse?cf_connect={}", escaped(&commands));
    let answer = server.send(get(&path, "Connection: close\r\n"));
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("publish"), "{answer:?}");
}

#[test]
fn only_pages_of_listed_origins_can_connect_and_read() {
    let server = TestServer::start(&["client.allowed_origins=https://*.example.com"]);
    let sse = format!("/connection/sse?cf_connect={}", escaped(CONNECT));
    let from = |origin: &str| format!("Origin: {origin}\r\nConnection: close\r\n");
    for (path, method) in [
        ("/connection/http_stream", "POST"),
        ("/connection/uni_http_stream", "POST"),
        ("/emulation", "POST"),
        (&sse, "GET"),
        ("/connection/uni_sse", "GET"),
        ("/events?channel=news", "GET"),
    ] {
        let preflight = |origin: &str| format!("{}Access-Control-Request-Method: {method}\r\n", from(origin));
        let preflight = |origin: &str| {
            let headers = format!("{}Access-Control-Request-Headers: content-type\r\n", preflight(origin));
            server.send(get(path, &headers).replacen("GET", "OPTIONS", 1))
        };
        let listed = "https://a.example.com";
        let answer = preflight(listed);
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), listed);
        assert_eq!(answer.header("access-control-allow-headers"), "content-type");
        assert!(answer.header("access-control-allow-methods").contains(method));
        assert_eq!(answer.header("vary"), "Origin");
        let foreign = "https://evil.example";
        let answer = preflight(foreign);
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, ""), "{path}");
        let body = if path == "/emulation" { "{}" } else { CONNECT };
        let request = |origin: &str| match method {
            "POST" => post(path, &from(origin), body),
            _ => get(path, &from(origin)),
        };
        let answer = server.send(request(foreign));
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, ""), "{path}");
        let answer = Stream::open(&server, &request(listed)).head;
        assert_eq!(answer.header("access-control-allow-origin"), listed, "{path}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), "true", "{path}");
        let embedded = get(path, "Sec-Fetch-Site: cross-site\r\nConnection: close\r\n");
        assert_eq!(server.send(&embedded).status, 403, "{path}");
    }
}

#[test]
fn streams_beyond_the_limit_are_rejected_with_a_text() {
    let server = TestServer::start(&["client.connection_limit=1"]);
    let mut first = Stream::open(&server, &get("/connection/uni_sse", ""));
    first.event();
    let answer = server.send(get("/connection/uni_sse", "Connection: close\r\n"));
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("client.connection_limit"), "{answer:?}");
}

#[test]
fn a_shutdown_disconnects_streams_with_a_code_to_reconnect() {
    let mut server = TestServer::start(&["shutdown.drain=0s"]);
    let mut lines = Stream::open(&server, &post("/connection/http_stream", "", CONNECT));
    let mut events = Stream::open(&server, &get("/events?channel=news", ""));
    lines.line();
    events.until(":ok\n\n");
    let stopped = server.begin_stop();
    let last = lines.line();
    assert_eq!(last["push"]["disconnect"]["code"], 3001, "{last}");
    assert_eq!((lines.rest(), events.rest()), (String::new(), String::new()));
    server.runtime.block_on(stopped).expect("a stop");
}
