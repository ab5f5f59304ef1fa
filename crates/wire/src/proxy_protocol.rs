//! The PROXY protocol, versions 1 and 2 (HAProxy, <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>): a header
//! with the address of the client, which a proxy sends at the beginning of a TCP connection.
//!
//! Invariant: while [`decode`] needs more bytes, all bytes that it got belong to the header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use memchr::memmem;
use thiserror::Error;

/// The longest header that is accepted, in bytes. Version 1 has at most 107; one of version 2 with TLS extensions takes a few
/// hundred.
pub const MAX_HEADER: usize = 2048;

/// The longest header of version 1 (§2.1: with IPv6 addresses, or `UNKNOWN` with addresses).
const MAX_V1: usize = 107;
/// The first bytes of version 2 (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The number of bytes of version 2 before the addresses.
const FIXED_V2: usize = 16;

/// A header: its length, and the address of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number of bytes of the header.
    pub length: usize,
    /// The address of the client; `None` if the proxy opened the connection itself (`LOCAL`, for a health check), or states no
    /// address (`UNKNOWN`, or a family other than TCP over IPv4 and IPv6).
    pub source: Option<SocketAddr>,
}

/// The reason why an input does not begin with a header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// The first bytes are those of neither version.
    #[error("no PROXY protocol header")]
    NoHeader,
    /// A header of version 1 with a wrong form.
    #[error("malformed PROXY protocol header, version 1")]
    Line,
    /// A header of version 2 with an unknown version, command or family, or too short for its addresses.
    #[error("malformed PROXY protocol header, version 2")]
    Binary,
    /// A header of version 2 that is longer than [`MAX_HEADER`].
    #[error("PROXY protocol header longer than {MAX_HEADER} bytes")]
    TooLong,
}

/// Reads the header at the beginning of `bytes`; `None` when more bytes are needed.
///
/// # Errors
/// When the bytes are not the beginning of a header.
pub fn decode(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(SIGNATURE) && !bytes.is_empty() {
        if bytes.len() < FIXED_V2 { Ok(None) } else { binary(bytes) }
    } else if begins(b"PROXY ") {
        line(bytes)
    } else {
        Err(Malformed::NoHeader)
    }
}

/// Version 1: a line of text.
fn line(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let window = &bytes[..bytes.len().min(MAX_V1)];
    let Some(end) = memmem::find(window, b"\r\n") else {
        return if bytes.len() < MAX_V1 { Ok(None) } else { Err(Malformed::Line) };
    };
    let text = std::str::from_utf8(&window[..end]).map_err(|_| Malformed::Line)?;
    let words: Vec<&str> = text.split(' ').collect();
    let source = match words[..] {
        // "The receiver must ignore anything presented before the CRLF".
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let address = |text: &str| match family {
                "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
                _ => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            };
            let port = |text: &str| {
                let is_canonical =
                    text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
                text.parse::<u16>().ok().filter(|_| is_canonical)
            };
            let both = (address(destination), port(destination_port));
            let (Some(ip), Some(port), (Some(_), Some(_))) = (address(source), port(source_port), both)
            else {
                return Err(Malformed::Line);
            };
            Some(SocketAddr::new(ip, port))
        }
        _ => return Err(Malformed::Line),
    };
    Ok(Some(Header { length: end + 2, source }))
}

/// Version 2: a fixed part, addresses, and extensions, which are skipped.
fn binary(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let (version_and_command, family) = (bytes[12], bytes[13]);
    let rest = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let length = FIXED_V2 + rest;
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Binary),
    };
    if length > MAX_HEADER {
        return Err(Malformed::TooLong);
    }
    // "LOCAL … the receiver must … discard the protocol block including the family which is ignored" (§2.2).
    if !is_local && (family >> 4 > 3 || family & 0xF > 2) {
        return Err(Malformed::Binary);
    }
    let Some(addresses) = bytes.get(FIXED_V2..length) else { return Ok(None) };
    let source = match family {
        _ if is_local => None,
        0x11 => {
            let (ip, port) = addresses
                .first_chunk::<12>()
                .map(|a| ([a[0], a[1], a[2], a[3]], [a[8], a[9]]))
                .ok_or(Malformed::Binary)?;
            Some(SocketAddr::new(Ipv4Addr::from(ip).into(), u16::from_be_bytes(port)))
        }
        0x21 => {
            let all = addresses.first_chunk::<36>().ok_or(Malformed::Binary)?;
            let ip = all.first_chunk::<16>().copied().ok_or(Malformed::Binary)?;
            Some(SocketAddr::new(Ipv6Addr::from(ip).into(), u16::from_be_bytes([all[32], all[33]])))
        }
        _ => None,
    };
    Ok(Some(Header { length, source }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(text: &str, length: usize) -> Result<Option<Header>, Malformed> {
        Ok(Some(Header { length, source: Some(text.parse().expect("an address")) }))
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short");
        [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
    }

    #[test]
    fn a_line_states_the_client() {
        let v4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(decode(v4), source("192.0.2.7:56324", 45));
        let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n";
        assert_eq!(decode(v6), source("[2001:db8::7]:1", 44));
        let unknown = b"PROXY UNKNOWN ffff::1 whatever\r\n";
        assert_eq!(decode(unknown), Ok(Some(Header { length: 32, source: None })));
    }

    #[test]
    fn a_binary_header_states_the_client_and_its_extensions_are_skipped() {
        let addresses = [&[192, 0, 2, 7, 198, 51, 100, 1, 0xDC, 0x04, 1, 0xBB][..], &[3, 0, 1, 9]].concat();
        let v4 = [v2(0x21, 0x11, &addresses), b"hello".to_vec()].concat();
        assert_eq!(decode(&v4), source("192.0.2.7:56324", 32));
        let mut addresses = vec![0; 36];
        (addresses[15], addresses[33]) = (1, 80);
        assert_eq!(decode(&v2(0x21, 0x21, &addresses)), source("[::1]:80", 52));
        let local = Ok(Some(Header { length: 16, source: None }));
        assert_eq!(decode(&v2(0x20, 0x00, &[])), local);
        assert_eq!(decode(&v2(0x20, 0xFF, &[])), local, "the family of LOCAL is ignored");
        assert_eq!(decode(&v2(0x21, 0x00, &[])), local);
        assert_eq!(decode(&v2(0x21, 0x31, &[0; 216])), Ok(Some(Header { length: 232, source: None })));
    }

    #[test]
    fn an_input_that_is_no_header_is_refused() {
        let cases: [(&[u8], Malformed); 12] = [
            (b"GET / HTTP/1.1\r\n", Malformed::NoHeader),
            (b"SUBSCRIBE\r\n", Malformed::NoHeader),
            (b"PROXY TCP4 1.2.3.4\r\n", Malformed::Line),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", Malformed::Line),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", Malformed::Line),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", Malformed::Line),
            (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", Malformed::Line),
            (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", Malformed::Line),
            (&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat(), Malformed::Line),
            (&v2(0x31, 0x11, &[0; 12]), Malformed::Binary),
            (&v2(0x21, 0x11, &[0; 11]), Malformed::Binary),
            (&v2(0x21, 0x41, &[0; 11]), Malformed::Binary),
        ];
        for (bytes, error) in cases {
            assert_eq!(decode(bytes), Err(error), "{}", bytes.escape_ascii());
        }
        assert_eq!(decode(&v2(0x21, 0x11, &[0; MAX_HEADER])), Err(Malformed::TooLong));
    }

    proptest! {
        #[test]
        fn a_header_is_found_at_its_last_byte_and_what_follows_does_not_count(
            address: [u8; 4],
            port: u16,
            is_binary: bool,
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let client = SocketAddr::from((address, port));
            let header = if is_binary {
                v2(0x21, 0x11, &[&address[..], &[0; 4], &port.to_be_bytes(), &[0; 2]].concat())
            } else {
                format!("PROXY TCP4 {} 127.0.0.1 {port} 80\r\n", client.ip()).into_bytes()
            };
            for end in 0..header.len() {
                prop_assert_eq!(decode(&header[..end]), Ok(None));
            }
            let found = Some(Header { length: header.len(), source: Some(client) });
            prop_assert_eq!(decode(&[header, behind].concat()), Ok(found));
        }

        #[test]
        fn no_input_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..200), begins: bool) {
            let bytes = if begins { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            if let Ok(Some(header)) = decode(&bytes) {
                prop_assert!(header.length <= bytes.len());
                prop_assert_eq!(decode(&bytes[..header.length]), Ok(Some(header)));
            }
        }
    }
}
