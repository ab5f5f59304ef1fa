//! The client protocol over WebSocket, with the real handshake and a shard.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::json;
use tidings_testkit::{PATIENCE, RespClient, wait_until};
use tidings_wire::ws::{Kind, Opcode};

use crate::support::TestServer;
use crate::support::websocket::{Client, Received, frame};

fn publish(server: &TestServer, channel: &str, body: &str) {
    RespClient::connect(server.tcp()).command(&["PUBLISH", channel, body]);
}

const TWO_WAY: &str = "/connection/websocket";
const CONNECT: &[u8] = br#"{"id":1,"connect":{}}"#;

#[test]
fn json_is_sent_in_text_frames() {
    let server = TestServer::start(&[]);
    let mut client = Client::open(&server, TWO_WAY, "", &[]);
    let both = [CONNECT, b"\n", br#"{"id":2,"subscribe":{"channel":"news"}}"#].concat();
    client.send(Opcode::Text, &both);
    let mut replies = client.json();
    if replies.len() == 1 {
        replies.extend(client.json());
    }
    assert_eq!((&replies[0]["id"], &replies[1]["id"]), (&json!(1), &json!(2)), "{replies:?}");
    publish(&server, "news", "hi");
    assert_eq!(client.json(), [json!({"push": {"channel": "news", "pub": {"data": "hi"}}})]);
}

#[test]
fn bytes_right_after_the_handshake_are_not_lost() {
    let server = TestServer::start(&[]);
    for cut in [0, 1, 5, 20] {
        let bytes = frame(Opcode::Text, CONNECT);
        let (now, later) = bytes.split_at(cut.min(bytes.len()));
        let mut client = Client::open(&server, TWO_WAY, "", now);
        client.peer.write_all(later).expect("the rest");
        assert_eq!(client.json()[0]["id"], 1);
    }
    let mut client = Client::open(&server, TWO_WAY, "", &frame(Opcode::Text, CONNECT));
    assert_eq!(client.json()[0]["id"], 1);
}

#[test]
fn protobuf_is_sent_in_binary_frames_however_it_is_selected() {
    use tidings_wire::client::Encoding;
    use tidings_wire::client::request::{Command, Connect, Request};
    let server = TestServer::start(&[]);
    let mut connect = Vec::new();
    let request = Request::Connect(Connect::default());
    Encoding::Protobuf.write_command(&Command { id: 1, request }, &mut connect);
    for (path, headers) in [
        ("/connection/websocket?format=protobuf", ""),
        ("/connection/websocket?cf_protocol=protobuf", ""),
        (TWO_WAY, "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n"),
    ] {
        let mut client = Client::open(&server, path, headers, &[]);
        client.send(Opcode::Binary, &connect);
        let Received::Message(Kind::Binary, bytes) = client.next() else { panic!("no binary frame") };
        let message = Encoding::Protobuf.messages(&bytes).next().expect("a message").expect("a whole one");
        assert_eq!(Encoding::Protobuf.parse_reply(message).expect("a reply").id, 1);
    }
}

#[test]
fn a_one_way_websocket_connects_and_receives_pushes() {
    let server = TestServer::start(&[]);
    let mut client = Client::open(&server, "/connection/uni_websocket", "", &[]);
    client.send(Opcode::Text, b"{}");
    assert!(client.json()[0]["connect"]["client"].is_string());
}

#[test]
fn a_message_past_the_limit_is_answered_with_an_error_that_names_it_and_1009() {
    let server = TestServer::start(&["websocket.message_size_limit=1000", "tcp.max_line=2000"]);
    let mut client = Client::open(&server, TWO_WAY, "", &frame(Opcode::Text, CONNECT));
    assert_eq!(client.json()[0]["id"], 1);
    client.send(Opcode::Text, &[b'x'; 1001]);
    let error = &client.json()[0]["error"];
    assert_eq!(error["code"], 106, "{error}");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("1000 bytes")), "{error}");
    let Received::Close(code, reason) = client.next() else { panic!("no close") };
    assert_eq!(code, 1009, "{reason}");
}

#[test]
fn control_frames_get_responses() {
    let server = TestServer::start(&[]);
    let mut client = Client::open(&server, TWO_WAY, "", &[]);
    client.send(Opcode::Ping, b"there?");
    assert_eq!(client.next(), Received::Pong(b"there?".to_vec()));
    let mut close = Vec::new();
    close.extend_from_slice(&1000_u16.to_be_bytes());
    client.send(Opcode::Close, &close);
    assert!(matches!(client.next(), Received::Close(1000, _)));
}

/// A client to which the server has sent a close frame.
fn ended(server: &TestServer) -> Client {
    let mut client = Client::open(server, TWO_WAY, "", &frame(Opcode::Text, CONNECT));
    assert_eq!(client.json()[0]["id"], 1);
    client.send(Opcode::Binary, b"JSON comes in text frames");
    assert!(matches!(client.next(), Received::Close(1003, _)));
    client
}

#[test]
fn after_its_close_frame_the_server_waits_for_the_client_s_before_it_closes_the_connection() {
    let server = TestServer::start(&[]);
    let mut listener = RespClient::connect(server.tcp());
    listener.command(&["SUBSCRIBE", "news"]);
    let mut client = ended(&server);
    let mut byte = [0];
    let quiet = Duration::from_millis(300);
    client.peer.set_read_timeout(Some(quiet)).expect("a time-out");
    let error = client.peer.read(&mut byte).expect_err("no end yet");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    // Frames before it are discarded, in any fragmentation.
    client.send(Opcode::Text, br#"{"id":2,"publish":{"channel":"news","data":"late"}}"#);
    client.send(Opcode::Ping, b"");
    client.peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let began = Instant::now();
    for byte in frame(Opcode::Close, &1003_u16.to_be_bytes()) {
        client.peer.write_all(&[byte]).expect("sent");
    }
    assert_eq!(client.peer.read(&mut byte).expect("an end"), 0);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    listener.expect_silence(quiet);
}

#[test]
fn without_a_close_frame_of_the_client_the_connection_ends_after_five_seconds() {
    let server = TestServer::start(&[]);
    let mut client = ended(&server);
    let began = Instant::now();
    // A reset is accepted as the end too.
    assert!(matches!(client.peer.read(&mut [0]), Ok(0) | Err(_)));
    let took = began.elapsed();
    assert!((Duration::from_millis(4_500)..Duration::from_secs(8)).contains(&took), "{took:?}");
}

#[test]
fn a_close_frame_of_the_client_gets_one_back_and_the_connection_closes() {
    let server = TestServer::start(&[]);
    let mut client = Client::open(&server, TWO_WAY, "", &[]);
    client.send(Opcode::Close, &1000_u16.to_be_bytes());
    assert!(matches!(client.next(), Received::Close(1000, _)));
    let began = Instant::now();
    assert_eq!(client.peer.read(&mut [0]).expect("an end"), 0);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_shutdown_waits_for_close_frames_within_its_timeout() {
    let mut server = TestServer::start(&["shutdown.timeout=1s", "shutdown.drain=100ms"]);
    let mut client = Client::open(&server, TWO_WAY, "", &frame(Opcode::Text, CONNECT));
    assert_eq!(client.json()[0]["id"], 1);
    let began = Instant::now();
    let stopped = server.begin_stop();
    assert!(matches!(client.next(), Received::Close(3001, _)));
    server.runtime.block_on(stopped).expect("it has stopped");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn frames_that_break_the_protocol_end_the_connection() {
    let server = TestServer::start(&[]);
    let mut client = Client::open(&server, TWO_WAY, "", &[]);
    // No mask.
    client.peer.write_all(b"\x81\x02{}").expect("sent");
    assert!(matches!(client.next(), Received::Close(1002, _)));
}

/// A STOMP client that is subscribed to `news`.
fn stomp_subscriber(server: &TestServer) -> Client {
    let mut client = Client::open(server, "/stomp", "Sec-WebSocket-Protocol: v12.stomp\r\n", &[]);
    let frames =
        b"CONNECT\naccept-version:1.2\n\n\0SUBSCRIBE\nid:1\ndestination:news\nreceipt:subscribed\n\n\0";
    client.send(Opcode::Text, frames);
    for start in ["CONNECTED\nversion:1.2\n", "RECEIPT\nreceipt-id:subscribed\n"] {
        assert!(stomp_frame(&mut client).starts_with(start), "{start}");
    }
    client
}

fn stomp_frame(client: &mut Client) -> String {
    match client.next() {
        Received::Message(Kind::Text, frame) => String::from_utf8(frame).expect("text"),
        other => panic!("{other:?}"),
    }
}

/// The number in the body of a `MESSAGE` frame, which consists of the number and padding.
fn stomp_number(frame: &str) -> Option<usize> {
    let (head, body) = frame.split_once("\n\n")?;
    head.starts_with("MESSAGE\n").then(|| body[..8].parse().expect("a number"))
}

#[test]
fn a_stomp_subscriber_that_does_not_read_is_cut_with_an_error_and_others_get_every_message() {
    const COUNT: usize = 2000;
    let server = TestServer::start(&["client.queue_max_size=65536"]);
    let mut slow = stomp_subscriber(&server);
    let mut fast = stomp_subscriber(&server);
    let mut publisher = RespClient::connect(server.tcp());
    for number in 0..COUNT {
        publisher.command(&["PUBLISH", "news", &format!("{number:08}{}", "x".repeat(10_000))]);
        assert_eq!(stomp_number(&stomp_frame(&mut fast)), Some(number), "every message in its order");
    }
    let mut next = 0;
    let error = loop {
        let frame = stomp_frame(&mut slow);
        match stomp_number(&frame) {
            Some(number) => assert_eq!(number, next, "whole messages without a gap"),
            None => break frame,
        }
        next += 1;
    };
    assert!(next < COUNT, "the queue was large enough");
    assert!(error.starts_with("ERROR\n") && error.contains("\ncode:3010\n"), "{error}");
    assert!(matches!(slow.next(), Received::Close(3010, _)));
}

#[test]
fn many_subscriptions_of_a_stomp_client_that_does_not_read_stay_within_its_queue() {
    const IDS: usize = 100;
    let server = TestServer::start(&["client.queue_max_size=65536"]);
    let mut slow = Client::open(&server, "/stomp", "", &[]);
    slow.send(Opcode::Text, b"CONNECT\naccept-version:1.2\n\n\0");
    assert!(stomp_frame(&mut slow).starts_with("CONNECTED\n"));
    for id in 0..IDS {
        let frame = format!("SUBSCRIBE\nid:{id}\ndestination:news\nreceipt:{id}\n\n\0");
        slow.send(Opcode::Text, frame.as_bytes());
        assert!(stomp_frame(&mut slow).starts_with("RECEIPT\n"));
    }
    // Each publication is a hundred messages: 6 MB.
    let mut publisher = RespClient::connect(server.tcp());
    for _ in 0..6 {
        publisher.command(&["PUBLISH", "news", &"x".repeat(60_000)]);
        let queued = server.metric("tidings_queue_bytes");
        assert!(queued < 4 * 65_536, "{queued} bytes are queued");
    }
    wait_until(PATIENCE, "the end of the slow client", || {
        server.metric("tidings_sessions{dialect=\"stomp\"}") == 0
    });
}
