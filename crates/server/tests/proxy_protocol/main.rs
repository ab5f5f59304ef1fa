//! PROXY protocol headers on the line port and on the HTTP port: the address of the client in limits, and refusals.

#[path = "../support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tidings_testkit::{HttpResponse, LineClient, PATIENCE, parse_metric, wait_until};

use crate::support::TestServer;

const ANN: &str = "198.51.100.7";
const BOB: &str = "198.51.100.8";

/// A server that expects headers on both ports, from 127.0.0.1 and from `10.0.0.0/8`. Its internal port has the metrics.
fn server(options: &[&str]) -> TestServer {
    let own = [
        "tcp.proxy_protocol=true",
        "http.proxy_protocol=true",
        "trusted_proxies=127.0.0.1,10.0.0.0/8",
        "internal.listen=127.0.0.1:0",
        "tcp.auto_subscribe=",
    ];
    TestServer::start(&[&own[..], options].concat())
}

fn refused(server: &TestServer, reason: &str) -> u64 {
    let url = server.announced("internal");
    let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix('/')).expect("an address");
    let text = tidings_testkit::get_http(address.parse().expect("an address"), "/metrics").body;
    parse_metric(&text, &format!("tidings_proxy_headers_refused_total{{reason=\"{reason}\"}}"))
}

/// A header of version 1.
fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 127.0.0.1 40000 80\r\n").into_bytes()
}

/// A header of version 2.
fn v2(client: &str) -> Vec<u8> {
    let client: Ipv4Addr = client.parse().expect("an address");
    let rest = [&client.octets()[..], &[127, 0, 0, 1, 0x9C, 0x40, 0, 80]].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C"[..], &rest].concat()
}

/// A header of version 2 of a connection of the proxy itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A client of the line port behind a proxy that sends this header.
fn line(server: &TestServer, header: &[u8]) -> LineClient {
    let mut client = LineClient::connect(server.tcp());
    client.send_bytes(header);
    client
}

/// The head of the response to a request behind a proxy that sends this header, and the connection.
fn http(server: &TestServer, header: &[u8], request: &str) -> (HttpResponse, TcpStream) {
    let mut stream = server.connect();
    stream.write_all(&[header, request.as_bytes()].concat()).expect("a request");
    let head = HttpResponse::read_head(&mut stream);
    (head, stream)
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Everything that the server sends until it closes the connection.
fn rest(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(e) => panic!("still open: {e}"),
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn every_protocol_of_the_line_port_follows_a_header_of_either_version() {
    let server = server(&[]);
    for header in [v1(ANN), v2(ANN), LOCAL.to_vec(), b"PROXY UNKNOWN\r\n".to_vec()] {
        for (sent, reply) in [
            ("PING\r\n", "PONG"),
            ("*1\r\n$4\r\nPING\r\n", "+PONG"),
            ("{\"id\":1,\"connect\":{}}\n", "{\"id\":1,\"connect\":"),
        ] {
            // In one packet with the header, and after it.
            let mut client = line(&server, &[&header, sent.as_bytes()].concat());
            assert!(client.line().starts_with(reply));
            let mut client = line(&server, &header);
            client.send_bytes(sent.as_bytes());
            assert!(client.line().starts_with(reply));
        }
    }
}

#[test]
fn connections_of_the_line_port_count_for_the_address_in_the_header() {
    let server = server(&["limits.address.connections=1"]);
    let mut ann = line(&server, &v2(ANN));
    ann.send("PING");
    ann.expect("PONG");
    let mut again = line(&server, &v1(ANN));
    again.expect("ERROR 3013 too many requests: 1 connection of an address (limits.address.connections)");
    for header in [&v1(BOB)[..], LOCAL] {
        let mut client = line(&server, header);
        client.send("PING");
        client.expect("PONG");
    }
    drop(ann);
    wait_until(PATIENCE, "the end of the first connection", || {
        let mut next = line(&server, &v1(ANN));
        next.send("PING");
        next.line() == "PONG"
    });
}

#[test]
fn commands_count_for_the_address_in_the_header() {
    let server = server(&["limits.address.commands=3"]);
    let reply = |client: &str| {
        let mut client = line(&server, &v2(client));
        client.send("PING");
        client.line()
    };
    let limited = (0..100).any(|_| reply(ANN).contains("limits.address.commands"));
    assert!(limited && reply(BOB) == "PONG");
}

#[test]
fn streams_and_websockets_count_for_the_address_in_the_header() {
    let server = server(&["limits.address.connections=1"]);
    let events = get("/events?channel=news", "");
    let (head, _ann) = http(&server, &v2(ANN), &events);
    assert_eq!(head.status, 200);
    let (head, mut again) = http(&server, &v1(ANN), &events);
    assert_eq!((head.status, head.header("retry-after")), (429, "1"));
    assert!(rest(&mut again).contains("limits.address.connections"));
    assert_eq!(http(&server, &v1(BOB), &events).0.status, 200);
    let socket = get("/connection/websocket", UPGRADE);
    let (head, mut socket) = http(&server, &v1(ANN), &socket);
    assert_eq!(head.status, 101);
    assert!(rest(&mut socket).contains("limits.address.connections"));
    // The health check of the proxy.
    assert_eq!(http(&server, LOCAL, &get("/", "")).0.status, 200);
}

#[test]
fn headers_of_a_request_count_only_if_the_proxy_header_has_the_address_of_a_trusted_proxy() {
    let server = server(&["limits.address.connections=1"]);
    let stream = |source: &str, forwarded: &str| {
        let request = get("/events?channel=news", &format!("X-Forwarded-For: {forwarded}\r\n"));
        http(&server, &v2(source), &request)
    };
    let (head, _first) = stream(ANN, "203.0.113.1");
    assert_eq!(head.status, 200);
    assert_eq!(stream(ANN, "203.0.113.2").0.status, 429, "a client may send any header");
    // Two proxies in a row.
    let (head, _second) = stream("10.0.0.1", "203.0.113.1");
    assert_eq!(head.status, 200);
    let (head, _third) = stream("10.0.0.1", "203.0.113.2");
    assert_eq!(head.status, 200);
    assert_eq!(stream("10.0.0.2", "203.0.113.1").0.status, 429);
}

#[test]
fn the_address_of_the_client_and_its_source_are_shown() {
    let server = server(&[]);
    let shown = |header: &[u8], headers: &str| {
        let request = get("/connection/address", &format!("{headers}Connection: close\r\n"));
        let (head, mut stream) = http(&server, header, &request);
        assert_eq!(head.status, 200);
        rest(&mut stream)
    };
    let forwarded = "X-Forwarded-For: 203.0.113.1\r\n";
    let client = format!("{{\"address\":\"{ANN}\",\"source\":\"proxy_protocol\"}}\n");
    assert_eq!(shown(&v2(ANN), ""), client);
    assert_eq!(shown(&v1(ANN), forwarded), client);
    let behind = "{\"address\":\"203.0.113.1\",\"source\":\"headers\"}\n";
    assert_eq!(shown(&v1("10.0.0.1"), forwarded), behind);
    assert_eq!(shown(LOCAL, forwarded), behind);
    assert_eq!(shown(LOCAL, ""), "{\"address\":\"127.0.0.1\",\"source\":\"peer\"}\n");
    let direct = TestServer::start(&[]);
    let ignored = direct.send(get("/connection/address", &format!("{forwarded}Connection: close\r\n")));
    assert_eq!(ignored.body, "{\"address\":null,\"source\":\"untrusted\"}\n");
}

#[test]
fn a_connection_without_a_header_is_refused_with_a_notice() {
    let server = server(&[]);
    let mut client = LineClient::connect(server.tcp());
    client.send("PING");
    client.expect(
        "ERROR 107 this port expects a PROXY protocol header (tcp.proxy_protocol): connect through the proxy",
    );
    client.expect_closed();
    let answer = server.send(get("/health", "Connection: close\r\n"));
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("http.proxy_protocol"), "{}", answer.body);
    wait_until(PATIENCE, "the refusals", || refused(&server, "missing") == 2);
}

#[test]
fn a_header_from_a_peer_that_is_not_trusted_is_refused() {
    let server = server(&[]);
    for address in [server.tcp(), server.http()] {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("an address");
        socket.connect(&address.into()).expect("a connection");
        let mut stream = TcpStream::from(socket);
        // May fail: the server closes the connection before it reads.
        let _ = stream.write_all(&[&v1(ANN), &b"PING\r\n"[..]].concat());
        assert_eq!(rest(&mut stream), "");
    }
    wait_until(PATIENCE, "the refusals", || refused(&server, "untrusted") == 2);
}

#[test]
fn half_a_header_is_closed_in_time_and_a_malformed_one_at_once() {
    let server = server(&["client.stale_close_delay=200ms"]);
    for address in [server.tcp(), server.http()] {
        let began = Instant::now();
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(&v1(ANN)[..20]).expect("half a header");
        assert_eq!(rest(&mut stream), "");
        assert!(began.elapsed() < PATIENCE / 2);
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(b"PROXY TCP4 nonsense\r\n").expect("a header");
        assert_eq!(rest(&mut stream), "");
    }
    wait_until(PATIENCE, "the refusals", || {
        (refused(&server, "timed_out"), refused(&server, "malformed")) == (2, 2)
    });
}

#[test]
fn a_unix_socket_needs_no_trusted_proxy() {
    let dir = TempDir::new().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let listen = [format!("tcp.listen=unix:{}", path("tcp")), format!("http.listen=unix:{}", path("http"))];
    let server = TestServer::start(&[
        &listen[0],
        &listen[1],
        "tcp.proxy_protocol=true",
        "http.proxy_protocol=true",
        "limits.address.connections=1",
    ]);
    let line = |client: &str| {
        let mut stream = UnixStream::connect(path("tcp")).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.write_all(&[&v2(client), &b"PING\r\n"[..]].concat()).expect("a command");
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).expect("a reply");
        (reply, stream)
    };
    let (reply, _ann) = line(ANN);
    assert_eq!(&reply, b"PONG");
    assert_eq!(&line(ANN).0, b"ERRO");
    assert_eq!(&line(BOB).0, b"PONG");
    let events = |client: &str| {
        let mut stream = UnixStream::connect(path("http")).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let request = get("/events?channel=news", "");
        stream.write_all(&[&v2(client), request.as_bytes()].concat()).expect("a request");
        (HttpResponse::read_head(&mut stream).status, stream)
    };
    assert_eq!(events(ANN).0, 429, "the connection of the line port counts");
    let (status, _bob) = events("198.51.100.9");
    assert_eq!((status, events("198.51.100.9").0), (200, 429));
    drop(server);
}

#[test]
fn connections_of_the_http_port_count_for_the_address_in_the_header() {
    let server = server(&["http.connection_limit_per_address=1"]);
    let head = |client: &str| {
        let mut stream = server.connect();
        stream.write_all(&[&v2(client), &b"GET / HTTP/1.1\r\n"[..]].concat()).expect("half a head");
        stream
    };
    // The limit, and the share of the reserve for one address.
    let _open: Vec<_> = (0..17).map(|_| head(ANN)).collect();
    let url = server.announced("internal").to_owned();
    let internal = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix('/')).expect("an address");
    let rejected = || {
        let text = tidings_testkit::get_http(internal.parse().expect("an address"), "/metrics").body;
        parse_metric(&text, "tidings_http_refused_total{reason=\"address\"}")
    };
    wait_until(PATIENCE, "a rejected connection", || {
        drop(head(ANN));
        rejected() > 0
    });
    assert_eq!(http(&server, &v2(BOB), &get("/", "")).0.status, 200);
}

#[test]
fn a_stop_does_not_wait_for_headers() {
    let mut server = server(&["shutdown.drain=0s", "client.stale_close_delay=1m"]);
    let (tcp, web) = (server.tcp(), server.http());
    let _waiting = [tcp, web].map(|address| {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(&v1(ANN)[..20]).expect("half a header");
        stream
    });
    let began = Instant::now();
    server.stop();
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}
