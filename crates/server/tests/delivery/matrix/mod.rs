//! The matrix of protocols: a message that is published by each of them arrives in subscriptions of each of them, in order, with
//! the body and the tags that both protocols have. `docs/concepts/protocols.md` has the rules.

mod clients;
mod publishers;
mod subscribers;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidings_testkit::RedisServer;

use crate::support::TestServer;
use publishers::{PUBLISHERS, Published};
use subscribers::{Body, SUBSCRIBERS, Tags};

/// The channel: clients of Pusher may publish in a private one, and its name is valid in each protocol.
const CHANNEL: &str = "private-matrix";

/// Bodies: text, JSON on one line and on several, a text with several lines, no UTF-8, and nothing.
const BODIES: [&[u8]; 8] = [
    b"hello world",
    "{\"n\": 1.50, \"text\": \"\u{e9} \\\"quoted\\\" \\\\ \u{2615}\"}".as_bytes(),
    b"42",
    b"[1, {\"a\": null}]",
    b"two\nlines \\ and a backslash",
    b"{\n  \"several\": \"lines\"\n}",
    b"\xff\x00\n\\\x80",
    b"",
];

/// Tags of the messages whose publisher's protocol has tags.
const TAGS: [(&str, &str); 2] = [("event", "created"), ("region", "north")];

/// A port of gRPC; all ports of the server are local, and it has no key.
const GRPC: [&str; 2] = ["grpc_api.enabled=true", "grpc_api.port=0"];

/// Where the messages are published, and where they are received.
pub(crate) struct Place<'a> {
    publishing: &'a TestServer,
    receiving: &'a TestServer,
    redis: Option<&'a RedisServer>,
}

/// The body as JSON clients get it.
fn json_body(body: &[u8]) -> Value {
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        Err(_) => json!({"b64": clients::base64(body)}),
    }
}

/// The body as protocols of text get it.
fn text_body(body: &[u8]) -> String {
    std::str::from_utf8(body).map_or_else(|_| json_body(body).to_string(), str::to_owned)
}

/// The body on a plain line.
fn line_body(body: &[u8]) -> Vec<u8> {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if !body.iter().any(is_break) {
        return body.to_vec();
    }
    if serde_json::from_slice::<Value>(body).is_ok() {
        return body.iter().map(|byte| if is_break(byte) { b' ' } else { *byte }).collect();
    }
    let escaped = |byte: &u8| match byte {
        b'\r' => b"\\r".to_vec(),
        b'\n' => b"\\n".to_vec(),
        b'\\' => b"\\\\".to_vec(),
        other => vec![*other],
    };
    body.iter().flat_map(escaped).collect()
}

/// Asserts that a subscriber has received a message with all that its protocol can carry.
fn check(received: &subscribers::Received, published: &Published, who: &str) {
    let body = &published.body[..];
    match &received.body {
        Body::Bytes(bytes) => assert_eq!(bytes, body, "{who}"),
        Body::Json(value) => assert_eq!(*value, json_body(body), "{who}"),
        Body::Text(text) => assert_eq!(*text, text_body(body), "{who}"),
        Body::Line(line) => assert_eq!(*line, line_body(body), "{who}"),
    }
    let tags: BTreeMap<String, String> = published.tags.iter().cloned().collect();
    match &received.tags {
        Tags::None => {}
        Tags::All(all) => assert_eq!(*all, tags, "{who}"),
        Tags::Event(event) => {
            let expected = tags.get("event").map_or("message", String::as_str);
            assert_eq!(event, expected, "{who}");
        }
    }
}

/// Publishes each body by each publisher, and reads it with each subscriber.
fn run(place: &Place<'_>) {
    let mut subscribers: Vec<_> = SUBSCRIBERS.iter().map(|(name, open)| (name, open(place))).collect();
    for (from, open) in PUBLISHERS {
        let Some(mut publish) = open(place) else { continue };
        // All are published before the first one is read, so that their order is observed.
        let published: Vec<Published> = BODIES.iter().filter_map(|body| publish(body)).collect();
        assert!(published.len() >= 5, "{from} published {} messages", published.len());
        for (to, subscriber) in &mut subscribers {
            for message in &published {
                let who = format!("{from} to {to}: {:?}", String::from_utf8_lossy(&message.body));
                check(&subscriber(), message, &who);
            }
        }
    }
}

#[test]
fn each_protocol_receives_what_each_other_publishes_on_one_node() {
    let server = TestServer::start(&GRPC);
    run(&Place { publishing: &server, receiving: &server, redis: None });
}

#[test]
fn each_protocol_receives_what_each_other_publishes_on_another_node() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let nodes = [(); 2].map(|()| TestServer::start(&[&GRPC[..], &[&broker]].concat()));
    nodes.iter().for_each(TestServer::wait_until_ready);
    run(&Place { publishing: &nodes[0], receiving: &nodes[1], redis: Some(&redis) });
}
