//! Every option with the mark `reload`: after a reload, a server behaves as one that was started with the new value.
//!
//! Each row has an option, two values, and a probe: an observation from outside, as text. What the probe returns must change at
//! the reload, and must then be what it returns on a server that was started with the second value.
//!
//! Invariant: every reloadable option has a row, or is listed in [`ELSEWHERE`].

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidings_testkit::{HttpResponse, PATIENCE, wait_until};

use crate::api_server::{json_of, token_with};
use crate::reload::{KEY, Reloading};
use crate::support::TestServer;

/// Options that other tests of reloads observe, and options that are used where one with a row is used.
const ELSEWHERE: [(&str, &str); 50] = [
    ("http_api.key", "reload.rs"),
    ("log.level", "cli/tests/cli/serve.rs"),
    ("tls.cert_pem", "tests/tls/renewal.rs: all of tls is prepared as one value"),
    ("tls.cert_pem_file", "tests/tls/renewal.rs"),
    ("tls.key_pem", "tests/tls/renewal.rs"),
    ("tls.key_pem_file", "tests/tls/renewal.rs"),
    ("tls.client_ca_pem", "tests/tls/renewal.rs"),
    ("tls.client_ca_pem_file", "tests/tls/renewal.rs"),
    ("tls.min_version", "tests/tls/renewal.rs"),
    ("client.token.rsa_public_key", "with hmac_secret_key"),
    ("client.token.ecdsa_public_key", "with hmac_secret_key"),
    ("client.token.jwks_public_endpoint", "with hmac_secret_key"),
    ("client.subscription_token.rsa_public_key", "with hmac_secret_key"),
    ("client.subscription_token.ecdsa_public_key", "with hmac_secret_key"),
    ("client.subscription_token.jwks_public_endpoint", "with hmac_secret_key"),
    ("client.broker_down_delay", "read for each sweep"),
    ("shutdown.lame_duck", "read when the server stops"),
    ("shutdown.drain", "read when the server stops"),
    ("tables.allow_upload", "tests/tables/reload.rs"),
    ("tables.user_max_total", "tests/tables/reload.rs"),
    ("tables.address_max_total", "tests/tables/reload.rs"),
    ("tables.user_upload_limit", "tests/tables/reload.rs"),
    ("tables.address_upload_limit", "tests/tables/reload.rs"),
    ("tables.address_download_limit", "tests/tables/reload.rs"),
    ("client.proxy.connect.enabled", "tests/proxy/reload.rs"),
    ("client.proxy.connect.endpoint", "tests/proxy/reload.rs"),
    ("client.proxy.connect.timeout", "tests/proxy/reload.rs"),
    ("client.proxy.connect.http_headers", "tests/proxy/reload.rs"),
    ("client.proxy.connect.emulated_headers", "tests/proxy/reload.rs"),
    ("client.proxy.connect.binary_encoding", "tests/proxy/reload.rs"),
    ("client.proxy.connect.http.static_headers", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.endpoint", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.timeout", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.http_headers", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.include_connection_meta", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.binary_encoding", "tests/proxy/reload.rs"),
    ("channel.proxy.subscribe.http.static_headers", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.endpoint", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.timeout", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.http_headers", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.include_connection_meta", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.binary_encoding", "tests/proxy/reload.rs"),
    ("channel.proxy.publish.http.static_headers", "tests/proxy/reload.rs"),
    ("rpc.proxy.endpoint", "tests/proxy/reload.rs"),
    ("rpc.proxy.timeout", "tests/proxy/reload.rs"),
    ("rpc.proxy.http_headers", "tests/proxy/reload.rs"),
    ("rpc.proxy.include_connection_meta", "tests/proxy/reload.rs"),
    ("rpc.proxy.binary_encoding", "tests/proxy/reload.rs"),
    ("rpc.proxy.http.static_headers", "tests/proxy/reload.rs"),
    ("rpc.without_namespace.proxy_enabled", "tests/proxy/reload.rs"),
];

/// Options of every server here. Clients with a token have the user `ann`.
const BASE: &str = r#"
http_api.key = "first-s3cret"
client.token.hmac_secret_key = "users"
client.allow_anonymous_connect_without_token = true
tcp.auto_subscribe = []
shards = 2
"#;
const HISTORY: &str =
    "channel.without_namespace.history_size = 100\nchannel.without_namespace.history_ttl = \"1m\"\n";
const SUBSCRIBE: &str = "channel.without_namespace.allow_subscribe_for_client = true\n";
const ANONYMOUS: &str = "channel.without_namespace.allow_subscribe_for_client = true\n\
                         channel.without_namespace.allow_subscribe_for_anonymous = true\n";

type Probe = Box<dyn Fn(&TestServer) -> String>;

struct Row {
    option: &'static str,
    values: [&'static str; 2],
    /// Further options of both values.
    with: String,
    probe: Probe,
    /// The probe waits for something that does not happen with the first value, and is not run with it.
    waits: bool,
}

/// A probe that returns at once.
fn row(
    option: &'static str,
    values: [&'static str; 2],
    with: &[&str],
    probe: impl Fn(&TestServer) -> String + 'static,
) -> Row {
    Row { option, values, with: with.concat(), probe: Box::new(probe), waits: false }
}

/// A probe that waits.
fn event(
    option: &'static str,
    values: [&'static str; 2],
    with: &[&str],
    probe: impl Fn(&TestServer) -> String + 'static,
) -> Row {
    Row { waits: true, ..row(option, values, with, probe) }
}

/// The lines `KEY = VALUE` of several texts; a later value of a key replaces an earlier one.
fn file(texts: &[&str]) -> String {
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        lines.retain(|(known, _)| *known != key);
        lines.push((key, value));
    }
    lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

const CLOSED: &str = "closed";

/// A connection to the line port.
struct Peer(BufReader<TcpStream>);

impl Peer {
    fn open(server: &TestServer) -> Self {
        let stream = TcpStream::connect(server.tcp()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(BufReader::new(stream))
    }

    fn send(&mut self, line: &str) {
        // The server may have closed the connection.
        let _ = self.0.get_mut().write_all(format!("{line}\r\n").as_bytes());
    }

    /// The next line; [`CLOSED`] at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => CLOSED.to_owned(),
            Ok(_) => line.trim_end().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => CLOSED.to_owned(),
            Err(error) => panic!("no line: {error}"),
        }
    }

    fn answer(&mut self, line: &str) -> String {
        self.send(line);
        self.line()
    }

    /// The reply to a command of the client protocol, without what differs between servers; the end of the connection.
    fn call(&mut self, command: &str, params: &Value) -> Value {
        self.send(&json!({"id": 1, command: params}).to_string());
        loop {
            let line = self.line();
            let Ok(mut message) = serde_json::from_str::<Value>(&line) else { return line.into() };
            if message["id"] == 1 {
                for field in ["client", "epoch", "node", "session", "version", "time", "ttl"] {
                    if let Some(result) = message[command].as_object_mut() {
                        result.remove(field);
                    }
                }
                return message;
            }
            if message["push"]["disconnect"].is_object() {
                return message;
            }
        }
    }

    fn push(&mut self, kind: &str) -> Value {
        loop {
            let line = self.line();
            let message: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
            if message["push"][kind].is_object() {
                return message["push"][kind].clone();
            }
        }
    }
}

/// The answers to lines on one connection.
fn lines(lines: &'static [&'static str]) -> impl Fn(&TestServer) -> String {
    move |server| {
        let mut peer = Peer::open(server);
        lines.iter().map(|line| peer.answer(line)).collect::<Vec<_>>().join("\n")
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

fn ann() -> Value {
    json!({"token": token_with(&json!({"sub": "ann"}))})
}

fn connected(server: &TestServer, connect: &Value) -> Peer {
    let mut peer = Peer::open(server);
    let reply = peer.call("connect", connect);
    assert!(reply["connect"].is_object(), "{reply}");
    peer
}

type Commands = &'static [(&'static str, &'static str)];

fn calls(server: &TestServer, connect: &Value, commands: Commands) -> String {
    let mut peer = connected(server, connect);
    let reply = |(command, params): &(&str, &str)| {
        peer.call(command, &serde_json::from_str(params).expect("JSON")).to_string()
    };
    commands.iter().map(reply).collect::<Vec<_>>().join("\n")
}

/// The replies to commands of the user `ann`.
fn user(commands: Commands) -> impl Fn(&TestServer) -> String {
    move |server| calls(server, &ann(), commands)
}

/// The replies to commands of a client without a token.
fn anonymous(commands: Commands) -> impl Fn(&TestServer) -> String {
    move |server| calls(server, &json!({}), commands)
}

/// The reply to a connect command.
fn connect(server: &TestServer, connect: &Value) -> String {
    Peer::open(server).call("connect", connect).to_string()
}

fn api(server: &TestServer, method: &str, params: &Value) -> Value {
    let answer = server.post(&format!("/api/{method}"), &[KEY], &params.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    json_of(&answer)
}

fn publish(server: &TestServer, data: &Value) -> Value {
    api(server, "publish", &json!({"channel": "news", "data": data}))["result"].take()
}

/// The names of the fields in the result of a publication.
fn fields_of_publish(server: &TestServer) -> String {
    let result = publish(server, &json!(1));
    result.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ")
}

/// The publications that a client recovers which has missed two of 1,000 bytes.
fn recovery(server: &TestServer) -> String {
    let body = json!("x".repeat(1_000));
    let position = publish(server, &body);
    publish(server, &body);
    publish(server, &body);
    let mut peer = connected(server, &ann());
    let params =
        json!({"channel": "news", "recover": true, "offset": position["offset"], "epoch": position["epoch"]});
    let reply = &peer.call("subscribe", &params)["subscribe"];
    format!("{} {}", reply["recovered"], reply["publications"].as_array().map_or(0, Vec::len))
}

/// The pushes of a subscriber while another client subscribes, up to a publication.
fn joins(params: &'static str) -> impl Fn(&TestServer) -> String {
    move |server| {
        let mut peer = connected(server, &ann());
        peer.call("subscribe", &serde_json::from_str(params).expect("JSON"));
        let mut other = connected(server, &ann());
        other.call("subscribe", &json!({"channel": "news"}));
        publish(server, &json!("end"));
        let mut pushes = Vec::new();
        while pushes.last().is_none_or(|kind| kind != "pub") {
            let line = peer.line();
            let message: Value = serde_json::from_str(&line).expect("JSON");
            let push = message["push"].as_object().into_iter().flatten();
            // A client gets its own join, too.
            pushes.extend(push.map(|(key, _)| key.clone()).filter(|key| key != "channel"));
        }
        pushes.sort();
        pushes.dedup();
        pushes.join(" ")
    }
}

/// The publication that a subscriber of the client protocol gets.
fn delivered(server: &TestServer) -> String {
    let mut peer = connected(server, &ann());
    peer.call("subscribe", &json!({"channel": "news"}));
    publish(server, &json!(1));
    peer.push("pub")["data"].to_string()
}

/// Whether a subscriber that does not read is closed, or gets the last publication.
fn slow_consumer(server: &TestServer) -> String {
    let mut peer = Peer::open(server);
    assert_eq!(peer.answer("SUBSCRIBE news"), "CONFIRMED");
    let body = json!("x".repeat(60_000));
    let affected = || server.metric("tidings_connections_stalled") > 0;
    wait_until(PATIENCE, "a full queue", || {
        for _ in 0..20 {
            publish(server, &body);
        }
        // A connection that was cut is gone.
        affected() || server.metric("tidings_connections{transport=\"tcp\"}") == 0
    });
    for _ in 0..20 {
        publish(server, &body);
    }
    publish(server, &json!("end"));
    loop {
        let line = peer.line();
        if line == CLOSED || line == "MESSAGE news \"end\"" {
            return line;
        }
    }
}

/// Whether any of 30 connections is refused.
fn many_connections(server: &TestServer) -> String {
    let refused = |_| Peer::open(server).answer("PING") != "PONG";
    (0..30).any(refused).to_string()
}

/// Whether the second of two connections is refused.
fn two_connections(server: &TestServer) -> String {
    let mut first = Peer::open(server);
    first.answer("PING");
    let second = Peer::open(server).answer("PING");
    let result = (second != "PONG").to_string();
    first.answer("EXIT");
    // The connection must not count in the next probe.
    wait_until(PATIENCE, "no connection", || server.metric("tidings_connections{transport=\"tcp\"}") == 0);
    result
}

/// Whether the second of two connections of a user is refused.
fn two_of_a_user(server: &TestServer) -> String {
    let first = connected(server, &ann());
    let reply = Peer::open(server).call("connect", &ann());
    drop(first);
    wait_until(PATIENCE, "no connection", || server.metric("tidings_connections{transport=\"tcp\"}") == 0);
    reply["connect"].is_object().to_string()
}

/// Whether any of 30 commands of a user is refused.
fn many_commands(command: &'static str) -> impl Fn(&TestServer) -> String {
    move |server| {
        let mut peer = connected(server, &ann());
        let params = json!({"channel": "news", "data": "x".repeat(200)});
        (0..30).any(|_| peer.call(command, &params)["error"]["code"] == 111).to_string()
    }
}

/// Whether any of 30 lines is refused.
fn many_lines(line: &'static str) -> impl Fn(&TestServer) -> String {
    move |server| {
        let mut peer = Peer::open(server);
        (0..30).any(|_| peer.answer(line).starts_with("ERROR 111")).to_string()
    }
}

/// The response to a request, with its connection. The status of an event stream arrives before its end.
fn head(server: &TestServer, request: &str) -> (HttpResponse, BufReader<TcpStream>) {
    let mut stream = BufReader::new(server.connect());
    stream.get_mut().write_all(request.as_bytes()).expect("sent");
    (HttpResponse::read_head(&mut stream), stream)
}

/// The status of a GET with a header.
fn status(path: &'static str, header: &'static str) -> impl Fn(&TestServer) -> String {
    move |server| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n");
        head(server, &request).0.status.to_string()
    }
}

/// Whether a body of 5,000 bytes is too long for a path.
fn long_body(path: &'static str) -> impl Fn(&TestServer) -> String {
    move |server| {
        let body = " ".repeat(4_998) + "{}";
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        (head(server, &request).0.status == 413).to_string()
    }
}

const WEBSOCKET: &str = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

fn websocket_extensions(server: &TestServer) -> String {
    let (answer, _) = head(server, WEBSOCKET);
    assert_eq!(answer.status, 101);
    answer.head.to_lowercase().contains("permessage-deflate").to_string()
}

/// Whether a message of 100 bytes is answered with the result of its command.
fn long_message(server: &TestServer) -> String {
    let (_, mut stream) = head(server, WEBSOCKET);
    let message = format!("{:100}", r#"{"id":1,"connect":{}}"#);
    // Masked with zeros.
    stream
        .get_mut()
        .write_all(&[&[0x81, 0x80 | 100, 0, 0, 0, 0], message.as_bytes()].concat())
        .expect("sent");
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).expect("a frame");
    String::from_utf8_lossy(&answer).contains("connect").to_string()
}

/// A WebSocket whose client sends nothing is closed.
fn silent_websocket(server: &TestServer) -> String {
    let (_, mut stream) = head(server, WEBSOCKET);
    let mut opcode = [0];
    stream.read_exact(&mut opcode).expect("a close frame");
    format!("{:x}", opcode[0])
}

/// A subscription token for `$x` of `ann`.
fn subscribe_with_token(server: &TestServer) -> String {
    let token = token_with(&json!({"sub": "ann", "channel": "$x"}));
    let mut peer = connected(server, &ann());
    peer.call("subscribe", &json!({"channel": "$x", "token": token})).to_string()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<Row> {
    const NO: &str = "false";
    const YES: &str = "true";
    const SUB: Commands = &[("subscribe", r#"{"channel":"news"}"#)];
    const PUB: Commands = &[("publish", r#"{"channel":"news","data":1}"#)];
    const SUB_PUB: Commands = &[SUB[0], PUB[0]];
    const READ_HISTORY: Commands = &[("history", r#"{"channel":"news","limit":1}"#)];
    const READ_PRESENCE: Commands = &[("presence_stats", r#"{"channel":"news"}"#)];
    const SUB_HISTORY: Commands = &[SUB[0], READ_HISTORY[0]];
    const SUB_PRESENCE: Commands = &[SUB[0], READ_PRESENCE[0]];
    const PRESENCE: &str = "channel.without_namespace.presence = true\n";
    const HOOKS: &str = "channel.proxy.subscribe.endpoint = \"http://127.0.0.1:9/\"\nchannel.proxy.publish.endpoint = \"http://127.0.0.1:9/\"\n";
    const PUBLISH: &str = "channel.without_namespace.allow_publish_for_client = true\n";
    const OTHER_KEY: &str =
        "client.subscription_token.enabled = true\nclient.subscription_token.hmac_secret_key = \"other\"\n";
    const SAME_KEY: &str =
        "client.subscription_token.enabled = true\nclient.subscription_token.hmac_secret_key = \"users\"\n";
    macro_rules! channel {
        ($option:literal) => {
            concat!("channel.without_namespace.", $option)
        };
    }
    vec![
        row(channel!("allow_subscribe_for_client"), [NO, YES], &[], user(SUB)),
        row(channel!("allow_subscribe_for_anonymous"), [NO, YES], &[SUBSCRIBE], anonymous(SUB)),
        row(channel!("allow_publish_for_client"), [NO, YES], &[], user(PUB)),
        row(channel!("allow_publish_for_subscriber"), [NO, YES], &[SUBSCRIBE], user(SUB_PUB)),
        row(channel!("allow_publish_for_anonymous"), [NO, YES], &[PUBLISH], anonymous(PUB)),
        row(channel!("history_size"), ["0", "10"], &[HISTORY], fields_of_publish),
        row(channel!("history_ttl"), ["\"0s\"", "\"1m\""], &[HISTORY], fields_of_publish),
        event(
            channel!("history_meta_ttl"),
            ["\"1h\"", "\"1s\""],
            &[HISTORY, "channel.without_namespace.history_ttl = \"1s\"\n"],
            |server| {
                let epoch = publish(server, &json!(1))["epoch"].clone();
                let query = json!({"channel": "news", "limit": 0});
                wait_until(PATIENCE, "the end of the position", || {
                    api(server, "history", &query)["result"]["epoch"] != epoch
                });
                String::new()
            },
        ),
        row(
            channel!("allow_recovery"),
            [NO, YES],
            &[SUBSCRIBE, HISTORY],
            user(&[("subscribe", r#"{"channel":"news","recoverable":true}"#)]),
        ),
        row(
            channel!("allow_positioning"),
            [NO, YES],
            &[SUBSCRIBE, HISTORY],
            user(&[("subscribe", r#"{"channel":"news","positioned":true}"#)]),
        ),
        row(channel!("force_recovery"), [NO, YES], &[SUBSCRIBE, HISTORY], user(SUB)),
        row(channel!("force_positioning"), [NO, YES], &[SUBSCRIBE, HISTORY], user(SUB)),
        row(
            channel!("force_recovery_mode"),
            ["\"stream\"", "\"cache\""],
            &[SUBSCRIBE, HISTORY, "channel.without_namespace.force_recovery = true\n"],
            recovery,
        ),
        row(channel!("presence"), [NO, YES], &[], |server| {
            api(server, "presence_stats", &json!({"channel": "news"})).to_string()
        }),
        row(
            channel!("join_leave"),
            [NO, YES],
            &[SUBSCRIBE, PRESENCE, "channel.without_namespace.allow_presence_for_subscriber = true\n"],
            joins(r#"{"channel":"news","join_leave":true}"#),
        ),
        row(
            channel!("force_push_join_leave"),
            [NO, YES],
            &[SUBSCRIBE, PRESENCE, "channel.without_namespace.join_leave = true\n"],
            joins(r#"{"channel":"news"}"#),
        ),
        row(channel!("allow_history_for_subscriber"), [NO, YES], &[SUBSCRIBE, HISTORY], user(SUB_HISTORY)),
        row(channel!("allow_history_for_client"), [NO, YES], &[HISTORY], user(READ_HISTORY)),
        row(
            channel!("allow_history_for_anonymous"),
            [NO, YES],
            &[HISTORY, "channel.without_namespace.allow_history_for_client = true\n"],
            anonymous(READ_HISTORY),
        ),
        row(channel!("allow_presence_for_subscriber"), [NO, YES], &[SUBSCRIBE, PRESENCE], user(SUB_PRESENCE)),
        row(channel!("allow_presence_for_client"), [NO, YES], &[PRESENCE], user(READ_PRESENCE)),
        row(
            channel!("allow_presence_for_anonymous"),
            [NO, YES],
            &[PRESENCE, "channel.without_namespace.allow_presence_for_client = true\n"],
            anonymous(READ_PRESENCE),
        ),
        row(
            channel!("allow_user_limited_channels"),
            [NO, YES],
            &[],
            user(&[("subscribe", r##"{"channel":"dialog#ann"}"##)]),
        ),
        row(channel!("subscribe_proxy_enabled"), [NO, YES], &[SUBSCRIBE, HOOKS], user(SUB)),
        row(channel!("publish_proxy_enabled"), [NO, YES], &[PUBLISH, HOOKS], user(PUB)),
        row(channel!("publication_data_format"), ["\"auto\"", "\"text\""], &[SUBSCRIBE], delivered),
        row(
            channel!("slow_consumer"),
            ["\"drop_oldest\"", "\"cut\""],
            &[ANONYMOUS, "client.queue_max_size = \"256KiB\"\n"],
            slow_consumer,
        ),
        row("channel.private_prefix", ["\"$\"", "\"news\""], &[SUBSCRIBE], user(SUB)),
        row(
            "client.allowed_origins",
            ["[]", "[\"https://a.example\"]"],
            &[ANONYMOUS],
            status("/events?channel=news", "Origin: https://a.example"),
        ),
        row("client.insecure", [NO, YES], &[], anonymous(PUB)),
        row("client.allow_anonymous_connect_without_token", [YES, NO], &[], |server| {
            connect(server, &json!({}))
        }),
        row(
            "client.queue_max_size",
            ["\"1MiB\"", "\"1KiB\""],
            &[SUBSCRIBE, HISTORY, "channel.without_namespace.force_recovery = true\n"],
            recovery,
        ),
        row("client.channel_limit", ["128", "1"], &[ANONYMOUS], lines(&["SUBSCRIBE a", "SUBSCRIBE b"])),
        row("client.connection_limit", ["0", "1"], &[], two_connections),
        row("client.connection_rate_limit", ["0", "1"], &[], many_connections),
        row("client.user_connection_limit", ["0", "1"], &[], two_of_a_user),
        event("client.single_connection", [NO, YES], &[], |server| {
            let mut first = connected(server, &ann());
            let _second = connected(server, &ann());
            first.push("disconnect").to_string()
        }),
        event("client.stale_close_delay", ["\"1h\"", "\"50ms\""], &[], silent_websocket),
        event(
            "client.slow_close_delay",
            ["\"1m\"", "\"10ms\""],
            &[
                ANONYMOUS,
                "client.queue_max_size = \"256KiB\"\nchannel.without_namespace.slow_consumer = \"cut\"\n",
            ],
            |server| {
                let mut peer = Peer::open(server);
                assert_eq!(peer.answer("SUBSCRIBE news"), "CONFIRMED");
                let body = json!("x".repeat(60_000));
                wait_until(PATIENCE, "the end of a connection with unsent bytes", || {
                    publish(server, &body);
                    server.metric("tidings_connections{transport=\"tcp\"}") == 0
                });
                String::new()
            },
        ),
        event("client.expired_close_delay", ["\"1h\"", "\"50ms\""], &[], |server| {
            let claims = json!({"sub": "ann", "exp": now() + 2});
            let mut peer = connected(server, &json!({"token": token_with(&claims)}));
            peer.push("disconnect").to_string()
        }),
        event("client.expired_sub_close_delay", ["\"1h\"", "\"50ms\""], &[], |server| {
            let mut peer = connected(server, &ann());
            let claims = json!({"sub": "ann", "channel": "$x", "exp": now() + 2});
            peer.call("subscribe", &json!({"channel": "$x", "token": token_with(&claims)}));
            peer.push("unsubscribe").to_string()
        }),
        row("client.subscribe_to_user_personal_channel.enabled", [NO, YES], &[], |server| {
            connect(server, &ann())
        }),
        row(
            "client.subscribe_to_user_personal_channel.personal_channel_namespace",
            ["\"\"", "\"chat\""],
            &[
                "client.subscribe_to_user_personal_channel.enabled = true\n",
                "channel.namespaces = [{name = \"chat\"}]\n",
            ],
            |server| connect(server, &ann()),
        ),
        row("client.token.hmac_secret_key", ["\"other\"", "\"users\""], &[], |server| {
            connect(server, &ann())
        }),
        row(
            "client.token.hmac_previous_secret_key",
            ["\"\"", "\"users\""],
            &["client.token.hmac_secret_key = \"other\"\n"],
            |server| connect(server, &ann()),
        ),
        row(
            "client.token.hmac_previous_secret_key_valid_until",
            ["0", "1"],
            &[
                "client.token.hmac_secret_key = \"other\"\n",
                "client.token.hmac_previous_secret_key = \"users\"\n",
            ],
            |server| connect(server, &ann()),
        ),
        row("client.token.audience", ["\"\"", "\"x\""], &[], |server| connect(server, &ann())),
        row("client.token.issuer", ["\"\"", "\"x\""], &[], |server| connect(server, &ann())),
        row(
            "client.subscription_token.enabled",
            [NO, YES],
            &["client.subscription_token.hmac_secret_key = \"other\"\n"],
            subscribe_with_token,
        ),
        row(
            "client.subscription_token.hmac_secret_key",
            ["\"other\"", "\"users\""],
            &[OTHER_KEY],
            subscribe_with_token,
        ),
        row(
            "client.subscription_token.hmac_previous_secret_key",
            ["\"\"", "\"users\""],
            &[OTHER_KEY],
            subscribe_with_token,
        ),
        row(
            "client.subscription_token.hmac_previous_secret_key_valid_until",
            ["0", "1"],
            &[OTHER_KEY, "client.subscription_token.hmac_previous_secret_key = \"users\"\n"],
            subscribe_with_token,
        ),
        row("client.subscription_token.audience", ["\"\"", "\"x\""], &[SAME_KEY], subscribe_with_token),
        row("client.subscription_token.issuer", ["\"\"", "\"x\""], &[SAME_KEY], subscribe_with_token),
        row("limits.address.connections", ["0", "1"], &[], two_connections),
        row("limits.address.connection_rate", ["0", "1"], &[], many_connections),
        row("limits.address.commands", ["0", "3"], &[], many_lines("PING")),
        row(
            "limits.address.publications",
            ["0", "3"],
            &["client.insecure = true\n"],
            many_lines("PUBLISH news x"),
        ),
        row("limits.address.bytes", ["0", "\"30B\""], &[], many_lines("a line of some length, echoed")),
        row("limits.user.connections", ["0", "1"], &[], two_of_a_user),
        row("limits.user.connection_rate", ["0", "1"], &[], |server| {
            let refused = |_| !Peer::open(server).call("connect", &ann())["connect"].is_object();
            (0..30).any(refused).to_string()
        }),
        row("limits.user.commands", ["0", "3"], &[], many_commands("presence_stats")),
        row("limits.user.publications", ["0", "3"], &[PUBLISH], many_commands("publish")),
        row("limits.user.bytes", ["0", "300"], &[PUBLISH], many_commands("publish")),
        row("tcp.echo", [YES, NO], &[], lines(&["hello"])),
        row("tcp.auto_subscribe", ["[]", "[\"news\"]"], &[ANONYMOUS], lines(&["SUBSCRIBE news"])),
        row(
            "tcp.default_channel",
            ["\"updates\"", "\"sport\""],
            &[ANONYMOUS],
            lines(&["SUBSCRIBE", "SUBSCRIBE sport"]),
        ),
        row("tcp.escape", ["\"auto\"", "\"always\""], &[ANONYMOUS], |server| {
            let mut peer = Peer::open(server);
            peer.answer("SUBSCRIBE news");
            publish(server, &json!("a\\b"));
            peer.line()
        }),
        row(
            "tcp.max_line",
            ["65536", "64"],
            &[],
            lines(&["a line of more than sixty-four bytes, which the server sends back to its client"]),
        ),
        row(
            "tcp.first_byte_wait",
            ["\"10s\"", "\"1ms\""],
            &[ANONYMOUS, "tcp.auto_subscribe = [\"news\"]\n"],
            {
                |server| {
                    // A client that sends nothing is subscribed after this time.
                    let began = Instant::now();
                    let mut peer = Peer::open(server);
                    peer.0.get_ref().set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
                    let mut byte = [0];
                    while peer.0.read(&mut byte).is_err() && began.elapsed() < Duration::from_secs(5) {
                        publish(server, &json!(1));
                    }
                    (began.elapsed() < Duration::from_secs(5)).to_string()
                }
            },
        ),
        row("websocket.message_size_limit", ["65536", "64"], &[], long_message),
        row("websocket.compression", [NO, YES], &[], websocket_extensions),
        row("sse.max_request_body_size", ["65536", "64"], &[], long_body("/connection/sse")),
        row("http_stream.max_request_body_size", ["65536", "64"], &[], long_body("/connection/http_stream")),
        row("emulation.max_request_body_size", ["65536", "64"], &[], long_body("/emulation")),
        row(
            "uni_sse.max_request_body_size",
            ["65536", "64"],
            &["uni_sse.enabled = true\n"],
            long_body("/connection/uni_sse"),
        ),
        row(
            "uni_http_stream.max_request_body_size",
            ["65536", "64"],
            &["uni_http_stream.enabled = true\n"],
            long_body("/connection/uni_http_stream"),
        ),
        row("http_api.insecure", [NO, YES], &[], |server| {
            server.post("/api/info", &[], "{}").status.to_string()
        }),
        row("http_api.rate_limit", ["0", "10"], &[], |server| {
            let refused = |_| server.post("/api/info", &[KEY], "{}").status == 429;
            (0..60).any(refused).to_string()
        }),
        row("trusted_proxies", ["[]", "[\"127.0.0.0/8\"]"], &[], |server| {
            let request = "GET /connection/address HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 198.51.100.7\r\n\
                           Connection: close\r\n\r\n";
            server.send(request).body
        }),
    ]
}

fn check(row: &Row) -> Result<(), String> {
    let Row { option, values, with, probe, waits } = row;
    let text = |value: &str| file(&[BASE, with, &format!("{option} = {value}\n")]);
    let world = Reloading::start(&text(values[0]));
    let before = (!waits).then(|| probe(&world.server));
    world.write(&text(values[1]));
    let report = world
        .server
        .runtime
        .block_on(world.server.server().reload())
        .map_err(|error| format!("{option}: {error}"))?;
    if report.changed != [*option] {
        return Err(format!("{option}: the reload has changed {:?}", report.changed));
    }
    let after = probe(&world.server);
    drop(world);
    let started = Reloading::start(&text(values[1]));
    let expected = probe(&started.server);
    if after != expected {
        return Err(format!("{option}: {after:?} after a reload, {expected:?} after a start"));
    }
    match before {
        Some(before) if before == after => {
            Err(format!("{option}: the probe does not observe it: {before:?}"))
        }
        _ => Ok(()),
    }
}

#[test]
fn after_a_reload_a_server_behaves_as_one_that_was_started_with_the_new_value() {
    let failures: Vec<String> = rows().iter().filter_map(|row| check(row).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_reloadable_option_is_observed() {
    let docs = tidings_config::docs();
    let mut reloadable = BTreeSet::new();
    let mut option = "";
    for line in docs.lines() {
        if let Some(name) = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`')) {
            option = name;
        } else if line.contains("; reloadable;") && !option.is_empty() {
            reloadable.insert(option.to_owned());
            option = "";
        }
    }
    assert!(reloadable.len() > 100, "{}", reloadable.len());
    let rows = rows();
    let observed: BTreeSet<String> = rows
        .iter()
        .map(|row| row.option)
        .chain(ELSEWHERE.map(|(option, _)| option))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = reloadable.difference(&observed).collect();
    let unknown: Vec<_> = observed.difference(&reloadable).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "without a row: {missing:#?}; not reloadable: {unknown:?}"
    );
}
