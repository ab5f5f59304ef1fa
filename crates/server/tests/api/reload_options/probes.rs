//! Observations of a server from outside.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidings_testkit::{HttpResponse, PATIENCE, wait_until};

use crate::api_server::{json_of, mqtt_packet, token_with};
use crate::reload::KEY;
use crate::support::TestServer;

pub(super) const CLOSED: &str = "closed";

/// A connection to the line port.
pub(super) struct Peer(pub(super) BufReader<TcpStream>);

impl Peer {
    pub(super) fn open(server: &TestServer) -> Self {
        let stream = TcpStream::connect(server.tcp()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(BufReader::new(stream))
    }

    pub(super) fn send(&mut self, line: &str) {
        // The server may have closed the connection.
        let _ = self.0.get_mut().write_all(format!("{line}\r\n").as_bytes());
    }

    /// The next line; [`CLOSED`] at the end.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => CLOSED.to_owned(),
            Ok(_) => line.trim_end().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => CLOSED.to_owned(),
            Err(error) => panic!("no line: {error}"),
        }
    }

    pub(super) fn answer(&mut self, line: &str) -> String {
        self.send(line);
        self.line()
    }

    /// The reply to a command of the client protocol, without what differs between servers; the end of the connection.
    pub(super) fn call(&mut self, command: &str, params: &Value) -> Value {
        self.send(&json!({"id": 1, command: params}).to_string());
        loop {
            let line = self.line();
            let Ok(mut message) = serde_json::from_str::<Value>(&line) else { return line.into() };
            if message["id"] == 1 {
                if let Some(result) = message[command].as_object_mut() {
                    for field in ["client", "epoch", "node", "session", "version", "ttl"] {
                        result.remove(field);
                    }
                    // Whether there is a time is of interest.
                    result.entry("time").and_modify(|time| *time = 0.into());
                }
                return message;
            }
            if message["push"]["disconnect"].is_object() {
                return message;
            }
        }
    }

    pub(super) fn push(&mut self, kind: &str) -> Value {
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
pub(super) fn lines(lines: &'static [&'static str]) -> impl Fn(&TestServer) -> String {
    move |server| {
        let mut peer = Peer::open(server);
        lines.iter().map(|line| peer.answer(line)).collect::<Vec<_>>().join("\n")
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

pub(super) fn ann() -> Value {
    json!({"token": token_with(&json!({"sub": "ann"}))})
}

pub(super) fn connected(server: &TestServer, connect: &Value) -> Peer {
    let mut peer = Peer::open(server);
    let reply = peer.call("connect", connect);
    assert!(reply["connect"].is_object(), "{reply}");
    peer
}

pub(super) type Commands = &'static [(&'static str, &'static str)];

pub(super) fn calls(server: &TestServer, connect: &Value, commands: Commands) -> String {
    let mut peer = connected(server, connect);
    let reply = |(command, params): &(&str, &str)| {
        peer.call(command, &serde_json::from_str(params).expect("JSON")).to_string()
    };
    commands.iter().map(reply).collect::<Vec<_>>().join("\n")
}

/// The replies to commands of the user `ann`.
pub(super) fn user(commands: Commands) -> impl Fn(&TestServer) -> String {
    move |server| calls(server, &ann(), commands)
}

/// The replies to commands of a client without a token.
pub(super) fn anonymous(commands: Commands) -> impl Fn(&TestServer) -> String {
    move |server| calls(server, &json!({}), commands)
}

/// The reply to a connect command.
pub(super) fn connect(server: &TestServer, connect: &Value) -> String {
    Peer::open(server).call("connect", connect).to_string()
}

pub(super) fn api(server: &TestServer, method: &str, params: &Value) -> Value {
    let answer = server.post(&format!("/api/{method}"), &[KEY], &params.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    json_of(&answer)
}

pub(super) fn publish(server: &TestServer, data: &Value) -> Value {
    api(server, "publish", &json!({"channel": "news", "data": data}))["result"].take()
}

/// The names of the fields in the result of a publication.
pub(super) fn fields_of_publish(server: &TestServer) -> String {
    let result = publish(server, &json!(1));
    result.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ")
}

/// The publications that a client recovers which has missed two of 1,000 bytes.
pub(super) fn recovery(server: &TestServer) -> String {
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
pub(super) fn joins(params: &'static str) -> impl Fn(&TestServer) -> String {
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

/// Whether each of some subscribers may have another filter. They are more than the shards, each of which has the limit.
pub(super) fn different_filters(server: &TestServer) -> String {
    let mut peers: Vec<_> = (0..9).map(|_| connected(server, &ann())).collect();
    let filter = |n: usize| json!({"channel": "news", "tf": {"key": "k", "cmp": "eq", "val": n.to_string()}});
    let replies: Vec<_> =
        peers.iter_mut().enumerate().map(|(n, peer)| peer.call("subscribe", &filter(n))).collect();
    replies.iter().all(|reply| reply["subscribe"].is_object()).to_string()
}

/// The publication that a subscriber of the client protocol gets.
pub(super) fn delivered(server: &TestServer) -> String {
    let mut peer = connected(server, &ann());
    peer.call("subscribe", &json!({"channel": "news"}));
    publish(server, &json!(1));
    peer.push("pub")["data"].to_string()
}

/// Whether the second of two equal publications is a delta for a subscriber with deltas.
pub(super) fn delta_delivered(server: &TestServer) -> String {
    let mut peer = connected(server, &ann());
    peer.call("subscribe", &json!({"channel": "news", "delta": "fossil"}));
    let body = json!("x".repeat(1_000));
    let publications = [(), ()].map(|()| {
        publish(server, &body);
        peer.push("pub")
    });
    publications[1]["delta"].to_string()
}

/// Whether a subscriber that does not read is closed, or gets the last publication.
pub(super) fn slow_consumer(server: &TestServer) -> String {
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
pub(super) fn many_connections(server: &TestServer) -> String {
    let refused = |_| Peer::open(server).answer("PING") != "PONG";
    (0..30).any(refused).to_string()
}

/// Whether the second of two connections is refused.
pub(super) fn two_connections(server: &TestServer) -> String {
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
pub(super) fn two_of_a_user(server: &TestServer) -> String {
    let first = connected(server, &ann());
    let reply = Peer::open(server).call("connect", &ann());
    drop(first);
    wait_until(PATIENCE, "no connection", || server.metric("tidings_connections{transport=\"tcp\"}") == 0);
    reply["connect"].is_object().to_string()
}

/// Whether any of 30 commands of a user is refused.
pub(super) fn many_commands(command: &'static str) -> impl Fn(&TestServer) -> String {
    move |server| {
        let mut peer = connected(server, &ann());
        let params = json!({"channel": "news", "data": "x".repeat(200)});
        (0..30).any(|_| peer.call(command, &params)["error"]["code"] == 111).to_string()
    }
}

/// Whether any of 30 lines is refused.
pub(super) fn many_lines(line: &'static str) -> impl Fn(&TestServer) -> String {
    move |server| {
        let mut peer = Peer::open(server);
        (0..30).any(|_| peer.answer(line).starts_with("ERROR 111")).to_string()
    }
}

/// The response to a request, with its connection. The status of an event stream arrives before its end.
pub(super) fn head(server: &TestServer, request: &str) -> (HttpResponse, BufReader<TcpStream>) {
    let mut stream = BufReader::new(server.connect());
    stream.get_mut().write_all(request.as_bytes()).expect("sent");
    (HttpResponse::read_head(&mut stream), stream)
}

/// The status of a GET with a header.
pub(super) fn status(path: &'static str, header: &'static str) -> impl Fn(&TestServer) -> String {
    move |server| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n");
        head(server, &request).0.status.to_string()
    }
}

/// Whether a body of 5,000 bytes is too long for a path.
pub(super) fn long_body(path: &'static str) -> impl Fn(&TestServer) -> String {
    move |server| {
        let body = " ".repeat(4_998) + "{}";
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        (head(server, &request).0.status == 413).to_string()
    }
}

pub(super) const WEBSOCKET: &str = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

pub(super) fn websocket_extensions(server: &TestServer) -> String {
    let (answer, _) = head(server, WEBSOCKET);
    assert_eq!(answer.status, 101);
    answer.head.to_lowercase().contains("permessage-deflate").to_string()
}

/// Whether a message of 100 bytes is answered with the result of its command.
pub(super) fn long_message(server: &TestServer) -> String {
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
pub(super) fn silent_websocket(server: &TestServer) -> String {
    let (_, mut stream) = head(server, WEBSOCKET);
    let mut opcode = [0];
    stream.read_exact(&mut opcode).expect("a close frame");
    format!("{:x}", opcode[0])
}

/// A subscription token for `$x` of `ann`.
pub(super) fn subscribe_with_token(server: &TestServer) -> String {
    let token = token_with(&json!({"sub": "ann", "channel": "$x"}));
    let mut peer = connected(server, &ann());
    peer.call("subscribe", &json!({"channel": "$x", "token": token})).to_string()
}

/// A client of MQTT 5.0 without keep-alive, and the response to its `CONNECT` (MQTT 5.0 §3.1, §3.2).
fn mqtt_client(server: &TestServer) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(server.tcp()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01a").expect("sent");
    let connack = mqtt_packet(&mut stream);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:x?}");
    (stream, connack)
}

/// The response to a client of MQTT 5.0 whose session does not expire.
pub(super) fn mqtt_session(server: &TestServer) -> String {
    let mut stream = TcpStream::connect(server.tcp()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let connect = b"\x10\x13\0\x04MQTT\x05\x02\0\0\x05\x11\xff\xff\xff\xff\0\x01a";
    stream.write_all(connect).expect("sent");
    format!("{:x?}", mqtt_packet(&mut stream))
}

/// The properties with which the server accepts a client of MQTT.
pub(super) fn mqtt_properties(server: &TestServer) -> String {
    format!("{:x?}", mqtt_client(server).1)
}

/// The QoS at which a subscriber with QoS 1 gets a publication of a backend.
pub(super) fn mqtt_qos(server: &TestServer) -> String {
    let (mut stream, _) = mqtt_client(server);
    stream.write_all(b"\x82\x0a\0\x01\0\0\x04news\x01").expect("sent");
    assert_eq!(mqtt_packet(&mut stream)[0], 0x90, "SUBACK");
    publish(server, &json!(1));
    (mqtt_packet(&mut stream)[0] >> 1 & 3).to_string()
}
