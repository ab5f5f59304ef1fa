//! `permessage-deflate`: the negotiation, publications that are compressed once for all subscribers with compression, and
//! messages of clients that are decompressed within the limit.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};
use tidings_testkit::{HttpResponse, PATIENCE, RespClient, wait_until};
use tidings_wire::ws::{Opcode, mask};

use crate::support::TestServer;

const PATH: &str = "/connection/websocket";
const OFFER: &str = "permessage-deflate; client_max_window_bits";
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const CONNECT: &[u8] = br#"{"id":1,"connect":{}}"#;

/// The response to a handshake that offers these extensions.
fn handshake(server: &TestServer, path: &str, offer: &str) -> (TcpStream, HttpResponse) {
    let mut peer = server.connect();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: {offer}\r\n\r\n"
    );
    peer.write_all(request.as_bytes()).expect("a request sent");
    let answer = HttpResponse::read_head(&mut peer);
    (peer, answer)
}

/// A message compressed according to RFC 7692 §7.2.1, by flate2.
fn compress(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 100);
    let mut state = Compress::new(Compression::best(), false);
    state.compress_vec(payload, &mut out, FlushCompress::Sync).expect("compressed");
    assert_eq!(state.total_in(), payload.len() as u64);
    out.strip_suffix(&[0, 0, 0xFF, 0xFF]).expect("an empty block").to_vec()
}

fn decompress(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let all = [payload, &[0, 0, 0xFF, 0xFF]].concat();
    Decompress::new(false).decompress_vec(&all, &mut out, FlushDecompress::Sync).expect("decompressed");
    out
}

/// A client's frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let mut out = vec![first];
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        long => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(long).expect("a middling frame").to_be_bytes());
        }
    }
    out.extend(key);
    let start = out.len();
    out.extend(payload);
    mask(&mut out[start..], key, 0);
    out
}

const TEXT: u8 = 0x80 | Opcode::Text as u8;
const RSV1: u8 = 0x40;

struct Client(TcpStream);

impl Client {
    /// A client that has agreed on compression if it offers it.
    fn open(server: &TestServer, path: &str, offer: &str) -> Self {
        let (peer, answer) = handshake(server, path, offer);
        assert_eq!(answer.header("sec-websocket-extensions"), if offer.is_empty() { "" } else { AGREED });
        Self(peer)
    }

    /// A client that is subscribed to `news`.
    fn subscribed(server: &TestServer, offer: &str) -> Self {
        let mut client = Self::open(server, PATH, offer);
        client.send(TEXT, &[CONNECT, b"\n", br#"{"id":2,"subscribe":{"channel":"news"}}"#].concat());
        let mut replies = client.replies();
        if replies.len() == 1 {
            replies.extend(client.replies());
        }
        assert_eq!(replies[1], json!({"id": 2, "subscribe": {}}));
        client
    }

    fn send(&mut self, first: u8, payload: &[u8]) {
        self.0.write_all(&frame(first, payload)).expect("a frame sent");
    }

    /// The next frame's first byte and payload.
    fn next(&mut self) -> (u8, Vec<u8>) {
        let mut take = |n: usize| {
            let mut bytes = vec![0; n];
            self.0.read_exact(&mut bytes).expect("a frame");
            bytes
        };
        let head = take(2);
        let length = match head[1] {
            126 => u16::from_be_bytes(take(2).try_into().expect("two bytes")).into(),
            127 => usize::try_from(u64::from_be_bytes(take(8).try_into().expect("eight"))).expect("a length"),
            short => short.into(),
        };
        (head[0], take(length))
    }

    fn replies(&mut self) -> Vec<Value> {
        let (first, payload) = self.next();
        assert_eq!(first, TEXT, "replies are not compressed");
        payload.split(|b| *b == b'\n').map(|line| serde_json::from_slice(line).expect("JSON")).collect()
    }

    fn closed(&mut self) -> (u16, String) {
        let (first, payload) = self.next();
        assert_eq!(first, 0x88, "{payload:?}");
        (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8_lossy(&payload[2..]).into_owned())
    }
}

fn publish(server: &TestServer, body: &str) {
    RespClient::connect(server.tcp()).command(&["PUBLISH", "news", body]);
}

fn start(more: &[&str]) -> TestServer {
    TestServer::start(&[&["websocket.compression=true"], more].concat())
}

#[test]
fn compression_is_negotiated_only_if_enabled_and_possible() {
    let agreed = |server: &TestServer, path: &str, offer: &str| {
        let (_, answer) = handshake(server, path, offer);
        assert_eq!(answer.status, 101, "{path} {offer}");
        answer.header("sec-websocket-extensions").to_owned()
    };
    let off = TestServer::start(&[]);
    assert_eq!(agreed(&off, PATH, OFFER), "");
    let server = start(&[]);
    assert_eq!(agreed(&server, PATH, OFFER), AGREED);
    assert_eq!(agreed(&server, "/connection/websocket?format=protobuf", OFFER), AGREED);
    assert_eq!(agreed(&server, PATH, "permessage-deflate; server_max_window_bits=10"), "");
    assert_eq!(
        agreed(&server, PATH, "permessage-deflate; server_max_window_bits=10, permessage-deflate"),
        AGREED
    );
    // With the requested window, or a smaller one.
    let python = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12";
    assert_eq!(agreed(&server, PATH, python), format!("{AGREED}; server_max_window_bits=12"));
    assert_eq!(agreed(&server, PATH, "permessage-deflate; unheard_of"), "");
    for path in ["/connection/uni_websocket", "/tables/ws", "/parser/ws"] {
        assert_eq!(agreed(&server, path, OFFER), "", "{path}");
    }
}

#[test]
fn a_publication_is_compressed_only_for_subscribers_with_compression() {
    let server = start(&["shards=1"]);
    let body = format!("[{}]", vec!["\"the same again and again\""; 40].join(","));
    let mut packed = [Client::subscribed(&server, OFFER), Client::subscribed(&server, OFFER)];
    let mut plain = Client::subscribed(&server, "");
    publish(&server, &body);
    publish(&server, "\"short\"");
    let (first, as_it_is) = plain.next();
    assert_eq!(first, TEXT);
    let frames = packed.each_mut().map(Client::next);
    assert_eq!(frames[0], frames[1], "the same bytes for both");
    let (first, payload) = &frames[0];
    assert_eq!(*first, TEXT | RSV1);
    assert!(payload.len() < as_it_is.len() / 5, "{} of {} bytes", payload.len(), as_it_is.len());
    assert_eq!(decompress(payload), as_it_is);
    // A message that would not become shorter is not compressed, and the next one does not refer to it.
    assert_eq!(packed[0].next(), plain.next());
    publish(&server, &body);
    assert_eq!(packed[1].next().0, TEXT);
    assert_eq!(packed[0].next(), frames[0]);
    assert_eq!(packed[1].next(), frames[0]);
}

#[test]
fn protobuf_messages_are_compressed_too() {
    use tidings_wire::client::Encoding;
    use tidings_wire::client::reply::Outcome;
    let server = start(&[]);
    let mut client = Client::open(&server, "/connection/websocket?format=protobuf", OFFER);
    let mut commands = Vec::new();
    for text in [CONNECT, br#"{"id":2,"subscribe":{"channel":"news"}}"#] {
        Encoding::Protobuf
            .write_command(&Encoding::Json.parse_command(text).expect("a command"), &mut commands);
    }
    client.send(0x82 | RSV1, &compress(&commands));
    let mut outcomes = 0;
    while outcomes < 2 {
        let (first, payload) = client.next();
        assert_eq!(first, 0x82);
        outcomes += Encoding::Protobuf.messages(&payload).count();
    }
    publish(&server, &"tidings ".repeat(50));
    let (first, payload) = client.next();
    assert_eq!(first, 0x82 | RSV1);
    let payload = decompress(&payload);
    let message = Encoding::Protobuf.messages(&payload).next().expect("a message").expect("a whole one");
    let reply = Encoding::Protobuf.parse_reply(message).expect("a reply");
    assert!(matches!(reply.outcome, Outcome::Push(_)), "{reply:?}");
}

#[test]
fn publications_below_the_minimum_size_are_not_compressed() {
    let server = start(&["websocket.compression_min_size=500", "websocket.compression_level=9"]);
    let mut client = Client::subscribed(&server, OFFER);
    publish(&server, &"a".repeat(400));
    assert_eq!(client.next().0, TEXT);
    publish(&server, &"a".repeat(500));
    assert_eq!(client.next().0, TEXT | RSV1);
}

#[test]
fn compressed_commands_are_read_in_any_fragmentation() {
    let server = start(&[]);
    let long = format!("{}{}", " ".repeat(30_000), r#"{"id":1,"connect":{}}"#);
    let payload = compress(long.as_bytes());
    let whole = frame(TEXT | RSV1, &payload);
    let (head, tail) = payload.split_at(payload.len() / 2);
    let (ping, text) = (frame(0x89, b"still there?"), Opcode::Text as u8);
    let fragments = [frame(text | RSV1, head), ping, frame(0x00, &[]), frame(0x80, tail)].concat();
    for (bytes, ponged) in [(whole, false), (fragments, true)] {
        for size in [1, 10, bytes.len()] {
            let mut client = Client::open(&server, PATH, OFFER);
            for piece in bytes.chunks(size) {
                client.0.write_all(piece).expect("a piece sent");
            }
            if ponged {
                assert_eq!(client.next(), (0x8A, b"still there?".to_vec()));
            }
            assert_eq!(client.replies()[0]["id"], 1);
            // Followed by one that is not compressed, and in the reverse order.
            client.send(TEXT, br#"{"id":2,"ping":{}}"#);
            client.send(TEXT | RSV1, &compress(br#"{"id":3,"ping":{}}"#));
            assert_eq!((&client.replies()[0]["id"], &client.replies()[0]["id"]), (&json!(2), &json!(3)));
        }
    }
}

#[test]
fn a_message_that_is_too_long_when_it_is_decompressed_is_an_error_that_names_the_limit_and_then_1009() {
    let server = start(&["websocket.message_size_limit=4000"]);
    let mut client = Client::open(&server, PATH, OFFER);
    let exactly = format!("{}{}", " ".repeat(4000 - CONNECT.len()), r#"{"id":1,"connect":{}}"#);
    client.send(TEXT | RSV1, &compress(exactly.as_bytes()));
    assert_eq!(client.replies()[0]["id"], 1);
    for size in [4001, 3_000_000] {
        let mut client = Client::open(&server, PATH, OFFER);
        let bomb = compress(&vec![b' '; size]);
        assert!(bomb.len() < 4000);
        client.send(TEXT | RSV1, &bomb);
        let error = &client.replies()[0]["error"];
        assert_eq!(error["code"], 106, "{error}");
        assert!(error["message"].as_str().is_some_and(|m| m.contains("4000 bytes")), "{error}");
        assert_eq!(client.closed().0, 1009);
    }
}

#[test]
fn what_cannot_be_decompressed_is_closed_with_1007() {
    let server = start(&[]);
    let cut = compress(&b"0123456789".repeat(3));
    for (payload, expected) in [
        (&b"\xFF\xFF\xFF"[..], "decompressed"),
        (&cut[..cut.len() - 3], "decompressed"),
        (&compress(b"\xFF\xFE"), "UTF-8"),
    ] {
        let mut client = Client::open(&server, PATH, OFFER);
        client.send(TEXT | RSV1, payload);
        let (code, reason) = client.closed();
        assert_eq!(code, 1007, "{reason}");
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn the_compressed_bit_where_it_may_not_be_is_closed_with_1002() {
    let server = start(&[]);
    let payload = compress(CONNECT);
    let text = Opcode::Text as u8;
    for (offer, bytes) in [
        ("", frame(TEXT | RSV1, &payload)),
        (OFFER, frame(0x89 | RSV1, b"ping")),
        (OFFER, [frame(text | RSV1, &payload), frame(0x80 | RSV1, &[])].concat()),
        (OFFER, frame(TEXT | RSV1 | 0x20, &payload)),
        (OFFER, frame(TEXT | 0x10, &payload)),
    ] {
        let mut client = Client::open(&server, PATH, offer);
        client.0.write_all(&bytes).expect("sent");
        assert_eq!(client.closed().0, 1002);
    }
}

#[test]
fn metrics_count_compressed_connections_and_saved_bytes() {
    let server = start(&["shards=1"]);
    let mut clients = [Client::subscribed(&server, OFFER), Client::subscribed(&server, OFFER)];
    let mut plain = Client::subscribed(&server, "");
    let spaces = format!("{}{}", " ".repeat(1000), r#"{"id":9,"ping":{}}"#);
    let command = compress(spaces.as_bytes());
    clients[0].send(TEXT | RSV1, &command);
    assert_eq!(clients[0].replies()[0]["id"], 9);
    publish(&server, &"a".repeat(1000));
    let as_it_is = plain.next().1.len();
    let sent = clients.each_mut().map(|client| client.next().1.len())[0];
    let expected = [
        "tidings_sessions{dialect=\"websocket_json\"} 1".to_owned(),
        "tidings_sessions{dialect=\"websocket_json_deflate\"} 2".to_owned(),
        // Compressed once, although there are two subscribers.
        format!("tidings_websocket_deflated_bytes_total{{side=\"before\"}} {as_it_is}"),
        format!("tidings_websocket_deflated_bytes_total{{side=\"after\"}} {sent}"),
        format!("tidings_websocket_inflated_bytes_total{{side=\"before\"}} {}", command.len()),
        format!("tidings_websocket_inflated_bytes_total{{side=\"after\"}} {}", spaces.len()),
    ];
    wait_until(PATIENCE, "the numbers", || {
        let metrics = server.get("/metrics").body;
        expected.iter().all(|line| metrics.lines().any(|l| l == line))
    });
}

#[test]
fn a_stalled_subscriber_gets_whole_compressed_messages_until_it_is_unsubscribed() {
    let server =
        start(&["client.queue_max_size=65536", "channel.without_namespace.slow_consumer=drop_oldest"]);
    let mut slow = Client::subscribed(&server, OFFER);
    slow.0.set_read_timeout(Some(Duration::from_secs(30))).expect("a deadline");
    let mut publisher = RespClient::connect(server.tcp());
    // Random digits, which compress by half at most.
    let body = |n: u64| {
        let digits =
            (0..400_u64).map(|i| ((n * 400 + i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).to_string());
        format!("\"{n} {}\"", digits.collect::<Vec<_>>().concat())
    };
    let dropped =
        || server.get("/metrics").body.contains("tidings_deliveries_dropped_total{policy=\"unsubscribe\"} 0");
    let mut n = 0;
    while dropped() {
        for _ in 0..500 {
            publisher.command(&["PUBLISH", "news", &body(n)]);
            n += 1;
        }
    }
    // Every message up to the end of the subscription is whole, and in order.
    for expected in 0.. {
        let (first, payload) = slow.next();
        let message: Value = if first == TEXT | RSV1 {
            serde_json::from_slice(&decompress(&payload)).expect("JSON")
        } else {
            serde_json::from_slice(&payload).expect("JSON")
        };
        if message["push"]["unsubscribe"].is_object() {
            assert!(expected > 0 && expected < n);
            return;
        }
        let data = message["push"]["pub"]["data"].as_str().expect("a publication");
        assert_eq!(data, body(expected).trim_matches('"'), "{message}");
    }
}
