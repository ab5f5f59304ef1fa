//! The HTTP port: requests, WebSockets, streams and tables over TLS.

use std::io::Write as _;
use std::net::TcpStream;

use tidings_testkit::{PATIENCE, RespClient, wait_until};
use tidings_wire::ws::{self, Opcode};

use crate::tls_server::{Client, TlsServer, drain};

const GET: &str = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Reads the head of a response, and nothing after it.
fn head(client: &mut Client) -> String {
    let mut head = String::new();
    loop {
        let line = client.line();
        if line.is_empty() {
            return head;
        }
        head.push_str(&line);
        head.push('\n');
    }
}

/// Opens a WebSocket.
fn websocket(server: &TlsServer, path: &str, following: &[u8]) -> Client {
    let mut client = server.web();
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(following);
    client.send(&request);
    let head = head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

fn text(message: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    ws::masked_frame(Opcode::Text, message.as_bytes(), [1, 2, 3, 4], &mut frame);
    frame
}

/// The payload of the next frame.
fn frame(client: &mut Client) -> Vec<u8> {
    let mut bytes = vec![0; 2];
    client.read_exact(&mut bytes);
    let len = match bytes[1] {
        126 => {
            let mut len = vec![0; 2];
            client.read_exact(&mut len);
            usize::from(u16::from_be_bytes([len[0], len[1]]))
        }
        127 => {
            let mut len = vec![0; 8];
            client.read_exact(&mut len);
            u64::from_be_bytes(len.try_into().expect("eight bytes")) as usize
        }
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    client.read_exact(&mut payload);
    payload
}

#[test]
fn requests_work_over_tls_and_plain_ones_get_a_hint() {
    let server = TlsServer::with(&[]);
    let mut client = server.web();
    client.send(format!("GET /health {GET}").as_bytes());
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    let mut page = server.web();
    page.send(format!("GET / {GET}").as_bytes());
    assert!(page.rest().contains("</html>"));
    let mut plain = TcpStream::connect(server.http()).expect("a connection");
    plain.write_all(format!("GET /health {GET}").as_bytes()).expect("sent");
    let rejection = String::from_utf8(drain(&mut plain)).expect("text");
    assert!(rejection.starts_with("HTTP/1.1 400 ") && rejection.contains("https://"), "{rejection}");
}

#[test]
fn responses_have_hsts_and_pages_without_tls_are_foreign() {
    let server = TlsServer::with(&["http_api.key=5f1c0a9be27d4836a1c4"]);
    let get = |server: &TlsServer, path: &str, more: &str| {
        let mut client = server.web();
        client.send(format!("GET {path} HTTP/1.1\r\n{more}Connection: close\r\n\r\n").as_bytes());
        head(&mut client).to_ascii_lowercase()
    };
    let ask = |server: &TlsServer, more: &str| get(server, "/events?channel=a", more);
    let strict = "strict-transport-security: max-age=2592000";
    assert!(get(&server, "/health", "Host: push.example.com\r\n").contains(strict));
    // Other servers of this machine share the name.
    assert!(!get(&server, "/health", "Host: localhost\r\n").contains("strict-transport"));
    let plain = ask(&server, "Host: push.example.com\r\nOrigin: http://push.example.com\r\n");
    assert!(plain.starts_with("http/1.1 403 "), "{plain}");
    let own = ask(&server, "Host: push.example.com\r\nOrigin: https://push.example.com\r\n");
    assert!(!own.starts_with("http/1.1 403 "), "{own}");
    let off = TlsServer::with(&["http_api.key=5f1c0a9be27d4836a1c4", "tls.hsts_max_age=0"]);
    assert!(!get(&off, "/health", "Host: push.example.com\r\n").contains("strict-transport"));
}

#[test]
fn a_websocket_over_tls_keeps_the_bytes_sent_with_its_handshake() {
    let server = TlsServer::with(&[]);
    // In one write with the request, and more than one read returns.
    let connect = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}";
    let mut following = text(connect);
    for id in 3..300 {
        following
            .extend(text(&format!("{{\"id\":{id},\"publish\":{{\"channel\":\"other\",\"data\":{{}}}}}}")));
    }
    let mut client = websocket(&server, "/connection/websocket", &following);
    let mut received = String::new();
    while !received.contains("\"id\":299,") {
        received.push_str(&String::from_utf8(frame(&mut client)).expect("text"));
        received.push('\n');
    }
    for id in 1..300 {
        assert!(received.contains(&format!("{{\"id\":{id},")), "{id} is missing");
    }
    let mut publisher = RespClient::connect(server.tcp());
    publisher.command(&["PUBLISH", "news", "hello"]);
    let push = String::from_utf8(frame(&mut client)).expect("text");
    assert!(push.contains("\"data\":\"hello\""), "{push}");
    assert_eq!(server.metric("tidings_connections{transport=\"tls\"}"), 1);
}

#[test]
fn an_event_stream_over_tls_ends_with_its_client() {
    let server = TlsServer::with(&[]);
    let mut client = server.web();
    client.send(b"GET /events?channel=news HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = head(&mut client);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
    while client.line() != ":ok" {}
    let mut publisher = RespClient::connect(server.tcp());
    let body = "x".repeat(50_000);
    for n in 0..20 {
        publisher.command(&["PUBLISH", "news", &format!("{n} {body}")]);
        // The body contains the lengths of chunks.
        let mut data = String::new();
        while data.len() < "data: ".len() + body.len() + n.to_string().len() + 1 {
            let line = client.line();
            let is_length = line.len() < 6 && line.bytes().all(|b| b.is_ascii_hexdigit());
            if !is_length {
                data.push_str(&line);
            }
        }
        assert_eq!(data, format!("data: {n} {body}"));
    }
    let name = "tidings_connections{transport=\"http\"}";
    assert_eq!(server.metric(name), 1);
    drop(client);
    wait_until(PATIENCE, "the stream to end", || server.metric(name) == 0);
}

#[test]
fn an_unread_stream_is_cut_at_its_bound_after_a_whole_message() {
    let server = TlsServer::with(&[
        "client.queue_max_size=65536",
        "client.slow_close_delay=60s",
        "channel.without_namespace.slow_consumer=cut",
    ]);
    let mut client = server.web();
    client.send(b"GET /events?channel=news HTTP/1.1\r\nHost: localhost\r\n\r\n");
    head(&mut client);
    while client.line() != ":ok" {}
    let mut publisher = RespClient::connect(server.tcp());
    let name = "tidings_deliveries_dropped_total{policy=\"cut\"}";
    let body = "x".repeat(10_000);
    let mut published = 0;
    while server.metric(name) == 0 {
        for _ in 0..100 {
            publisher.command(&["PUBLISH", "news", &body]);
        }
        published += 100;
        assert!(published < 10_000, "no message was dropped");
        assert!(server.metric("tidings_queue_bytes") <= 65_536 + 1_024);
    }
    let rest = client.rest();
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{:?}", &rest[rest.len().saturating_sub(200)..]);
    assert!(rest.matches("data: ").count() < published);
    let name = "tidings_connections{transport=\"http\"}";
    wait_until(PATIENCE, "the stream to end", || server.metric(name) == 0);
}

#[test]
fn a_table_of_tens_of_megabytes_is_uploaded_and_viewed_over_tls() {
    let server = TlsServer::with(&[]);
    let mut client = websocket(&server, "/tables/ws", b"");
    let row = "0123456789,abcdefghij,ABCDEFGHIJ,the quick brown fox jumps over the lazy dog\n";
    let rows = (32 << 20) / row.len();
    let file = row.repeat(rows);
    client.send(&text(&format!("{{\"upload\":{{\"name\":\"big.csv\",\"size\":{}}}}}", file.len())));
    for chunk in file.as_bytes().chunks(1 << 20) {
        let mut frame = Vec::new();
        ws::masked_frame(Opcode::Binary, chunk, [1, 2, 3, 4], &mut frame);
        client.send(&frame);
    }
    client.send(&text("{\"upload_end\":{}}"));
    // All rows are equal, so the first one may be taken for a header.
    let whole = [rows, rows - 1].map(|n| format!("\"total_number\":{n},"));
    let uuid = loop {
        let received = String::from_utf8(frame(&mut client)).expect("text");
        assert!(!received.contains("\"error\""), "{received}");
        if received.contains("\"loading\":false") && whole.iter().any(|whole| received.contains(whole)) {
            let at = received.find("\"uuid\":\"").expect("its name") + 8;
            break received[at..at + 36].to_owned();
        }
    };
    let mut page = server.web();
    page.send(format!("GET /tables/{uuid}/download {GET}").as_bytes());
    let answer = page.rest();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{}", &answer[..200]);
    assert!(answer.matches("the quick brown fox").count() >= rows - 1);
}

#[test]
fn https_follows_a_proxy_header() {
    let server = TlsServer::with(&[
        "http.proxy_protocol=true",
        "trusted_proxies=127.0.0.1",
        "limits.address.connections=1",
    ]);
    let events = |client: &str| {
        let mut stream = TcpStream::connect(server.http()).expect("a connection");
        write!(stream, "PROXY TCP4 {client} 127.0.0.1 40000 443\r\n").expect("a header");
        let mut client = Client::over(stream, server.trusting(&tokio_rustls::rustls::version::TLS13));
        client.send(b"GET /events?channel=news HTTP/1.1\r\nHost: localhost\r\n\r\n");
        (head(&mut client), client)
    };
    let (first, _ann) = events("198.51.100.7");
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    assert!(events("198.51.100.7").0.starts_with("HTTP/1.1 429 "));
    assert!(events("198.51.100.8").0.starts_with("HTTP/1.1 200 "));
}
