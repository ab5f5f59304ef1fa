use tidings_shard::{AddressLimits, AddressRange, RateLimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

fn headers(trusted: &str) -> ProxyHeaders {
    let range = AddressRange::new(trusted.parse().expect("an address"), 32).expect("a range");
    let process = Process::new(RateLimit::per_second(0), AddressLimits::new(0, 0, vec![range]));
    ProxyHeaders::new(Arc::new(process), Duration::from_secs(20))
}

fn refused(headers: &ProxyHeaders) -> Vec<(&'static str, u64)> {
    headers.refused.iter().filter(|(_, count)| *count > 0).collect()
}

/// Both sides of a connection over loopback: the client's, and the accepted one.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a client");
    (client, listener.accept().await.expect("a connection").0)
}

#[tokio::test]
async fn the_bytes_after_a_header_stay_in_the_socket_however_it_arrives() {
    let headers = headers("127.0.0.1");
    let (mut client, accepted) = UnixStream::pair().expect("a pair");
    let sending = async {
        for piece in HEADER.chunks(7) {
            client.write_all(piece).await.expect("a piece");
            tokio::task::yield_now().await;
        }
        client.write_all(b"SUBSCRIBE news\r\n").await.expect("a command");
        client.shutdown().await.expect("the end");
    };
    let (accepted, ()) = tokio::join!(headers.accept(accepted, Port::Line), sending);
    let (mut stream, source) = accepted.expect("a header");
    assert_eq!(source, Some("192.0.2.7".parse().unwrap()));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("the rest");
    assert_eq!(rest, b"SUBSCRIBE news\r\n");
    assert!(refused(&headers).is_empty());
}

#[tokio::test]
async fn only_a_trusted_peer_may_send_a_header() {
    let headers = headers("192.0.2.1");
    let (mut client, accepted) = connection().await;
    client.write_all(HEADER).await.expect("a header");
    assert!(headers.accept(accepted, Port::Http).await.is_none());
    assert_eq!(refused(&headers), [("untrusted", 1)]);
    let mut rest = Vec::new();
    // Closed at once; with unread input the kernel resets the connection.
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_peer_without_a_header_gets_a_notice_in_its_protocol() {
    let headers = headers("127.0.0.1");
    for (port, sent, notice) in [
        (Port::Http, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        (
            Port::Line,
            "SUBSCRIBE\r\n",
            "ERROR 107 this port expects a PROXY protocol header (tcp.proxy_protocol)",
        ),
        (Port::Line, "*1\r\n$4\r\nPING\r\n", "-ERR this port expects a PROXY protocol header"),
    ] {
        let (mut client, accepted) = connection().await;
        client.write_all(sent.as_bytes()).await.expect("input");
        let mut got = String::new();
        let reading = async {
            client.read_to_string(&mut got).await.expect("a notice");
            drop(client);
        };
        let (accepted, ()) = tokio::join!(headers.accept(accepted, port), reading);
        assert!(accepted.is_none() && got.starts_with(notice), "{got}");
    }
    assert_eq!(refused(&headers), [("missing", 3)]);
}

#[tokio::test(start_paused = true)]
async fn half_a_header_is_closed_in_time() {
    let headers = headers("127.0.0.1");
    let (mut client, accepted) = UnixStream::pair().expect("a pair");
    client.write_all(&HEADER[..20]).await.expect("half a header");
    assert!(headers.accept(accepted, Port::Line).await.is_none());
    assert_eq!(refused(&headers), [("timed_out", 1)]);
    assert_eq!(client.read(&mut [0]).await.ok(), Some(0));
}

#[tokio::test]
async fn a_header_that_is_too_long_or_ends_early_is_refused() {
    let headers = headers("127.0.0.1");
    let long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 100]].concat();
    for sent in [&long[..], &HEADER[..20], b"PROXY TCP4 nonsense\r\n"] {
        let (mut client, accepted) = UnixStream::pair().expect("a pair");
        client.write_all(sent).await.expect("input");
        client.shutdown().await.expect("the end");
        assert!(headers.accept(accepted, Port::Line).await.is_none());
    }
    assert_eq!(refused(&headers), [("malformed", 2), ("closed", 1)]);
}

#[tokio::test]
async fn a_stop_closes_connections_without_a_header() {
    let headers = headers("127.0.0.1");
    let (_client, accepted) = UnixStream::pair().expect("a pair");
    let stop = async {
        tokio::task::yield_now().await;
        headers.stop();
    };
    let (accepted, ()) = tokio::join!(headers.accept(accepted, Port::Line), stop);
    assert!(accepted.is_none() && refused(&headers).is_empty());
}
