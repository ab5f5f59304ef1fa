//! The PROXY protocol of real proxies: the server sees the addresses of their clients.

use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::*;

const ANN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
const BOB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 8);
const LIMIT: &str = "limits.address.connections";

/// A server behind proxies that send headers to both ports, with these options.
fn proxied_server(options: &[&str]) -> Tidings {
    let own = [
        "tcp.proxy_protocol=true",
        "http.proxy_protocol=true",
        "trusted_proxies=127.0.0.1",
        "tcp.auto_subscribe=",
    ];
    let sets: Vec<&str> = own.iter().chain(options).flat_map(|set| ["--set", set]).collect();
    Tidings::start(TIDINGS, &sets)
}

/// The configuration of HAProxy with its lines for the PROXY protocol, of this kind (`send-proxy`, `send-proxy-v2`).
fn haproxy_sends(kind: &str) -> impl Fn(&str) -> String {
    move |config| {
        let is_plain =
            |line: &&str| line.starts_with("    server node1 ") || line.contains("option forwardfor");
        let kept: Vec<String> = config
            .lines()
            .filter(|line| !is_plain(line))
            .map(|line| {
                line.replace("    #   server node1", "    server node1").replace("send-proxy-v2", kind)
            })
            .collect();
        kept.join("\n") + "\n"
    }
}

/// A connection to a port of 127.0.0.1 from this address.
fn connect_from(address: Ipv4Addr, port: u16) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from((address, 0))).expect("an address of this machine");
    connect(&socket, &local(port)).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream
}

/// Sends a request from this address. Returns the connection and the beginning of the response.
fn ask(address: Ipv4Addr, port: u16, request: &str) -> (TcpStream, String) {
    let mut stream = connect_from(address, port);
    stream.write_all(request.as_bytes()).expect("a request");
    let mut begin = vec![0; 4096];
    let read = stream.read(&mut begin).expect("a response");
    (stream, text(&begin[..read]))
}

/// Checks at the line port that each address has one connection, with plain lines and RESP.
fn check_line_addresses(port: u16) {
    for (request, reply) in [("PING\r\n", "PONG"), ("*1\r\n$4\r\nPING\r\n", "+PONG")] {
        // The connections of the other request may be counted a moment longer.
        let mut first = None;
        wait_until(PATIENCE, "a connection of the first address", || {
            let (connection, begin) = ask(ANN, port, request);
            first = Some(connection);
            begin.starts_with(reply)
        });
        assert!(ask(ANN, port, request).1.contains(LIMIT));
        wait_until(PATIENCE, "a connection of the other address", || {
            ask(BOB, port, request).1.starts_with(reply)
        });
        drop(first);
        wait_until(PATIENCE, "the end of the connections", || ask(ANN, port, request).1.starts_with(reply));
        wait_until(PATIENCE, "the end of the connections", || ask(BOB, port, request).1.starts_with(reply));
    }
}

#[test]
fn haproxy_states_the_addresses_of_clients() {
    for kind in ["send-proxy", "send-proxy-v2"] {
        let server = proxied_server(&["limits.address.connections=1"]);
        let haproxy = Haproxy::start(server.http(), server.tcp(), haproxy_sends(kind));
        check_line_addresses(haproxy.lines);
        let events =
            "GET /events?channel=news HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.9\r\n\r\n";
        let socket = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let (_ann, begin) = ask(ANN, haproxy.port, events);
        assert!(begin.starts_with("HTTP/1.1 200 "), "{kind}: {begin}");
        let begin = ask(ANN, haproxy.port, events).1;
        assert!(begin.starts_with("HTTP/1.1 429 "), "{kind}: {begin}");
        let (mut refused, begin) = ask(ANN, haproxy.port, socket);
        let mut rest = Vec::new();
        refused.read_to_end(&mut rest).expect("the rest");
        let begin = begin + &text(&rest);
        assert!(begin.starts_with("HTTP/1.1 101 ") && begin.contains(LIMIT), "{kind}: {begin}");
        let (_bob, begin) = ask(BOB, haproxy.port, socket);
        assert!(begin.starts_with("HTTP/1.1 101 ") && !begin.contains(LIMIT), "{kind}: {begin}");
    }
}

#[test]
fn haproxy_passes_everything_on_with_the_proxy_protocol() {
    let server = proxied_server(&[]);
    let haproxy = Haproxy::start(server.http(), server.tcp(), haproxy_sends("send-proxy-v2"));
    check_proxy(haproxy.port, "");
    check_lines(haproxy.lines);
}

#[test]
fn tls_passes_through_haproxy_behind_a_proxy_header() {
    let dir = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = proxied_server(&[
        "tls.enabled=true",
        &format!("tls.cert_pem_file={}", cert.display()),
        &format!("tls.key_pem_file={}", key.display()),
    ]);
    // The HTTP port speaks TLS, so HAProxy cannot check it.
    let haproxy = Haproxy::start(server.http(), server.tcp(), |config| {
        haproxy_sends("send-proxy-v2")(config)
            .replace("default-server check", "default-server")
            .replace("option httpchk", "")
    });
    let mut client = LineClient::connect(local(haproxy.lines));
    client.send("SUBSCRIBE lines");
    assert_eq!(client.line(), "CONFIRMED");
    let url = format!("tls://localhost:{}", haproxy.lines);
    let published = run(&["publish", "lines", "hello", "--server", &url, "--insecure"]);
    assert_eq!(published.status.code(), Some(0), "{}", text(&published.stderr));
    assert_eq!(client.line(), "MESSAGE lines hello");
}

#[test]
fn nginx_states_the_addresses_of_clients_of_the_line_port() {
    let server = proxied_server(&["limits.address.connections=1"]);
    let (_nginx, port) =
        start_nginx_stream(server.tcp(), |site| site.replace("#   proxy_protocol on;", "proxy_protocol on;"));
    check_line_addresses(port);
}
