//! The opening handshake (RFC 6455 §4), as far as it is not plain HTTP: a server's answer to a client's key, and the
//! client's side.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1_smol::Sha1;
use thiserror::Error;

/// The version of the protocol that `Sec-WebSocket-Version` has to name.
pub const VERSION: &str = "13";

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`, which is not checked here (see [`is_key`]).
pub fn accept(key: &str) -> String {
    // §1.3.
    let hash = Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest();
    STANDARD.encode(hash.bytes())
}

/// A key for `Sec-WebSocket-Key`; the bytes must be random.
pub fn key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// Whether `value` is a valid `Sec-WebSocket-Key`: sixteen bytes in base64, with padding (RFC 6455 §4.1).
pub fn is_key(value: &str) -> bool {
    // 24 characters decode to 18 bytes at most.
    value.len() == 24 && STANDARD.decode_slice(value, &mut [0; 18]) == Ok(16)
}

/// The selected sub-protocol: the first in the client's `Sec-WebSocket-Protocol` headers that is `supported`.
pub fn choose_protocol<'s, 'h>(
    headers: impl IntoIterator<Item = &'h str>,
    supported: &[&'s str],
) -> Option<&'s str> {
    let mut offered = headers.into_iter().flat_map(|header| header.split(',')).map(str::trim);
    offered.find_map(|offered| supported.iter().copied().find(|name| *name == offered))
}

/// A client's request for a WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Host and port, as for the `Host` header.
    pub host: &'a str,
    /// Path and query, beginning with `/`.
    pub target: &'a str,
    /// A key from [`key`].
    pub key: &'a str,
    /// Sub-protocols, the preferred one first; may be empty.
    pub protocols: &'a [&'a str],
    /// More headers.
    pub headers: &'a [(&'a str, &'a str)],
}

impl Request<'_> {
    /// Appends the request. Nothing in it may contain a line break; a caller that builds it from foreign text must
    /// check that.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Self { host, target, key, protocols, headers } = self;
        let mut text = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {VERSION}\r\n"
        );
        if !protocols.is_empty() {
            text.push_str(&format!("Sec-WebSocket-Protocol: {}\r\n", protocols.join(", ")));
        }
        for (name, value) in *headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// An accepting answer of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The sub-protocol, if one was negotiated.
    pub protocol: Option<&'a str>,
    /// Bytes of the answer; frames follow.
    pub used: usize,
}

/// The reason why there is no WebSocket.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// The server answered with another status than 101.
    #[error("server answered {0}")]
    Status(u16),
    /// The answer does not belong to this request.
    #[error("not a WebSocket handshake: {0}")]
    Invalid(&'static str),
}

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Reads the server's answer at the start of `bytes`; `None` while it is incomplete. A caller needs to store at most 16
/// KiB of it.
///
/// # Errors
/// [`Refused`] when the server refuses, or the response does not belong to this request.
pub fn read_answer<'a>(bytes: &'a [u8], request: &Request<'_>) -> Result<Option<Accepted<'a>>, Refused> {
    let bytes = &bytes[..bytes.len().min(MAX_ANSWER)];
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() < MAX_ANSWER { Ok(None) } else { Err(Refused::Invalid("answer too long")) };
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| Refused::Invalid("not UTF-8"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    match status.ok_or(Refused::Invalid("not HTTP/1.1"))? {
        101 => {}
        other => return Err(Refused::Status(other)),
    }
    let (mut upgrade, mut connection, mut accepted, mut protocol) = (false, false, false, None);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Refused::Invalid("not a header"))?;
        let value = value.trim();
        match &*name.to_ascii_lowercase() {
            "upgrade" => upgrade = value.eq_ignore_ascii_case("websocket"),
            "connection" => {
                connection |= value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
            }
            "sec-websocket-accept" => accepted = value == accept(request.key),
            "sec-websocket-protocol" if request.protocols.contains(&value) => protocol = Some(value),
            "sec-websocket-protocol" => return Err(Refused::Invalid("another sub-protocol")),
            "sec-websocket-extensions" => return Err(Refused::Invalid("an extension")),
            _ => {}
        }
    }
    if !(upgrade && connection) {
        return Err(Refused::Invalid("no upgrade"));
    }
    if !accepted {
        return Err(Refused::Invalid("another key"));
    }
    Ok(Some(Accepted { protocol, used: end + 4 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request<'_> = Request {
        host: "server.example.com",
        target: "/chat?format=protobuf",
        key: "dGhlIHNhbXBsZSBub25jZQ==",
        protocols: &["chat", "superchat"],
        headers: &[("Origin", "http://example.com")],
    };
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

    #[test]
    fn the_example_key_of_the_rfc_is_answered() {
        // §1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
    }

    #[test]
    fn only_the_base64_of_sixteen_bytes_is_a_key() {
        for byte in 0..=255 {
            assert!(is_key(&STANDARD.encode([byte; 16])));
            assert!(!is_key(&STANDARD.encode([byte; 15])) && !is_key(&STANDARD.encode([byte; 17])));
        }
        for text in
            ["", "==", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25j Q=="]
        {
            assert!(!is_key(text), "{text}");
        }
    }

    #[test]
    fn the_first_supported_sub_protocol_is_selected() {
        let known = ["centrifuge-json", "centrifuge-protobuf"];
        assert_eq!(
            choose_protocol(["x, centrifuge-protobuf,centrifuge-json"], &known),
            Some("centrifuge-protobuf")
        );
        assert_eq!(choose_protocol(["x", " centrifuge-json "], &known), Some("centrifuge-json"));
        assert_eq!(choose_protocol(["", "x"], &known), None);
        assert_eq!(choose_protocol([], &known), None);
    }

    #[test]
    fn a_request_is_http_with_the_headers_of_the_rfc() {
        let mut out = Vec::new();
        REQUEST.write(&mut out);
        let expected = "GET /chat?format=protobuf HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
            Origin: http://example.com\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_answer_is_read_in_any_split() {
        let whole = [ANSWER.as_bytes(), &[0x81, 0]].concat();
        for end in 0..ANSWER.len() {
            assert_eq!(read_answer(&whole[..end], &REQUEST), Ok(None));
        }
        let accepted = Accepted { protocol: Some("chat"), used: ANSWER.len() };
        assert_eq!(read_answer(&whole, &REQUEST), Ok(Some(accepted)));
    }

    #[test]
    fn an_invalid_answer_is_refused_with_the_reason() {
        let changed = |from: &str, to: &str| {
            read_answer(ANSWER.replacen(from, to, 1).as_bytes(), &REQUEST).unwrap_err()
        };
        assert_eq!(changed("101", "403"), Refused::Status(403));
        assert_eq!(changed("HTTP/1.1", "HTTP/1.0"), Refused::Invalid("not HTTP/1.1"));
        assert_eq!(changed("101 Switching", "ok"), Refused::Invalid("not HTTP/1.1"));
        assert_eq!(changed("Upgrade: websocket", "Upgrade: h2c"), Refused::Invalid("no upgrade"));
        assert_eq!(changed("Connection: Upgrade", "Connection: close"), Refused::Invalid("no upgrade"));
        assert_eq!(changed("s3p", "s4p"), Refused::Invalid("another key"));
        assert_eq!(changed(": chat", ": chess"), Refused::Invalid("another sub-protocol"));
        let extension = "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate";
        assert_eq!(changed("Upgrade: websocket", extension), Refused::Invalid("an extension"));
        assert_eq!(changed("Upgrade: websocket", "Upgrade websocket"), Refused::Invalid("not a header"));
        assert_eq!(read_answer(&[b'x'; MAX_ANSWER], &REQUEST), Err(Refused::Invalid("answer too long")));
    }
}
