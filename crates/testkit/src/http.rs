//! HTTP/1.1 requests over a plain TCP connection, written byte by byte: a test controls exactly the bytes that are
//! sent.

use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::PATIENCE;

/// A parsed response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The status line and the headers, without the empty line after them.
    pub head: String,
    /// The body as text, with U+FFFD for bytes that are not UTF-8.
    pub body: String,
    /// The body; that of a chunked response without its chunk sizes.
    pub bytes: Vec<u8>,
}

impl HttpResponse {
    /// Reads until the peer closes.
    ///
    /// # Panics
    /// When nothing arrives for [`PATIENCE`] (if the peer is from [`connect_http`]), the peer resets the connection, or
    /// the response is incomplete.
    pub fn read(peer: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        let end = peer.read_to_end(&mut bytes);
        end.unwrap_or_else(|e| panic!("no whole response ({e}): {:?}", String::from_utf8_lossy(&bytes)));
        Self::parse(&bytes)
    }

    /// As [`HttpResponse::read`], but a reset counts as a close: a server that has not read the whole request resets
    /// the connection after its response.
    ///
    /// # Panics
    /// When nothing arrives for [`PATIENCE`], or the response is incomplete.
    pub fn read_until_reset(peer: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        if let Err(error) = peer.read_to_end(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(error.kind() == ErrorKind::ConnectionReset, "no whole response ({error}): {text:?}");
        }
        Self::parse(&bytes)
    }

    /// Reads only the head; the bytes after it stay in the connection.
    ///
    /// # Panics
    /// When the head is incomplete.
    pub fn read_head(peer: &mut impl Read) -> Self {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head);
            let read = peer.read(&mut byte).unwrap_or_else(|e| panic!("no whole head ({e}): {text:?}"));
            assert_eq!(read, 1, "an end after {text:?}");
            head.push(byte[0]);
        }
        let (status, head) = parse_head(&head);
        Self { status, head, body: String::new(), bytes: Vec::new() }
    }

    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes))) + 4;
        let (status, head) = parse_head(&bytes[..end]);
        let mut response = Self { status, head, body: String::new(), bytes: bytes[end..].to_vec() };
        if response.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
            response.bytes = unchunk(&response.bytes);
        }
        response.body = String::from_utf8_lossy(&response.bytes).into_owned();
        response
    }

    /// The value of a header; empty without the header. The case of the name does not matter.
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

fn parse_head(bytes: &[u8]) -> (u16, String) {
    let head = String::from_utf8_lossy(bytes).trim_end().to_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {head:?}")), head)
}

/// A chunked body (RFC 9112 §7.1) without its chunk sizes.
fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").expect("the line of a chunk's size");
        let size =
            std::str::from_utf8(&body[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        match size.expect("a hexadecimal size") {
            0 => return out,
            size => {
                out.extend_from_slice(&body[end + 2..end + 2 + size]);
                body = &body[end + 4 + size..];
            }
        }
    }
}

/// Connects to an HTTP port; a read fails after [`PATIENCE`].
///
/// # Panics
/// When no server listens at the address.
pub fn connect_http(address: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
    peer.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    peer
}

/// Sends a request over a new connection and reads the response. The request must contain `Connection: close`.
///
/// # Panics
/// As [`HttpResponse::read`].
pub fn send_http(address: SocketAddr, request: impl AsRef<[u8]>) -> HttpResponse {
    let mut peer = connect_http(address);
    peer.write_all(request.as_ref()).expect("a request sent");
    HttpResponse::read(&mut peer)
}

/// `GET path`.
///
/// # Panics
/// As [`HttpResponse::read`].
pub fn get_http(address: SocketAddr, path: &str) -> HttpResponse {
    send_http(address, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

/// `POST path` with a body and further headers, each `Name: value`. The server may respond and close before it has read
/// the whole body.
///
/// # Panics
/// As [`HttpResponse::read_until_reset`].
pub fn post_http(address: SocketAddr, path: &str, headers: &[&str], body: impl AsRef<[u8]>) -> HttpResponse {
    let body = body.as_ref();
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut peer = connect_http(address);
    let _ = peer.write_all(&[request.as_bytes(), body].concat());
    HttpResponse::read_until_reset(&mut peer)
}

/// The value of a metric at `/metrics`; `name` includes its labels in the exported form.
///
/// # Panics
/// When there is no such metric, or it is not a whole number.
pub fn metric(address: SocketAddr, name: &str) -> u64 {
    parse_metric(&get_http(address, "/metrics").body, name)
}

/// The value of a metric in the text of `/metrics`, as [`metric`].
///
/// # Panics
/// As [`metric`].
pub fn parse_metric(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
    value.parse().unwrap_or_else(|e| panic!("{name} {value}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_parsed() {
        let text = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno\r\n\r\n";
        let response = HttpResponse::read(&mut text.as_bytes());
        assert_eq!(response.status, 404);
        assert_eq!(response.header("content-type"), "text/plain");
        assert_eq!(response.header("location"), "");
        assert_eq!(response.body, "no\r\n\r\n");
    }

    #[test]
    fn a_chunked_body_is_joined() {
        let text =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(HttpResponse::read(&mut text.as_bytes()).body, "abc0123456789");
    }

    #[test]
    fn the_bytes_after_a_head_are_not_consumed() {
        let mut peer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nframes".as_bytes();
        let response = HttpResponse::read_head(&mut peer);
        assert_eq!((response.status, response.header("upgrade")), (101, "websocket"));
        assert_eq!(peer, b"frames");
    }

    #[test]
    fn a_metric_is_found_by_its_complete_name() {
        let text = "# HELP a_total x\na_total 5\na_total{b=\"c\"} 7\n";
        assert_eq!(parse_metric(text, "a_total{b=\"c\"}"), 7);
        assert_eq!(parse_metric(text, "a_total"), 5);
    }
}
