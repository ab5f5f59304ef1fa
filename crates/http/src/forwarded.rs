//! The client's address according to proxies: `Forwarded` (RFC 7239) or `X-Forwarded-For`.
//!
//! The headers are claims. [`tidings_shard::AddressLimits`] decides by the peer's address whether they are trusted.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use tidings_shard::{AddressLimits, ClientPath};

use super::origin::Scheme;

/// The peer of a request's connection: a client or a proxy. Every request has it as an extension.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The address of the socket's peer; `None` for a Unix socket.
    pub(super) socket: Option<IpAddr>,
    /// The source in the PROXY header of the connection, which takes the place of the socket's peer.
    pub(super) proxy_source: Option<IpAddr>,
}

/// The origin of the address that counts as the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// The peer: no proxy states another address.
    Peer,
    /// The PROXY header of the connection.
    ProxyHeader,
    /// `Forwarded` or `X-Forwarded-For` from a trusted proxy.
    Headers,
    /// The peer, because it is not trusted: its `Forwarded` or `X-Forwarded-For` is ignored.
    Untrusted,
}

impl Peer {
    /// Its address; `None` for a Unix socket without a PROXY header.
    pub(super) fn address(self) -> Option<IpAddr> {
        self.proxy_source.or(self.socket)
    }

    /// Whether it is a trusted proxy, whose headers are those of the proxy.
    pub fn is_trusted(self, addresses: &AddressLimits) -> bool {
        self.address().is_some_and(|address| addresses.is_proxy(address))
    }

    /// The addresses that proxies state for the client of a request with these headers.
    pub fn client_path(self, headers: &HeaderMap, addresses: &AddressLimits) -> ClientPath {
        let forwarded = if addresses.has_proxies() { hops(headers) } else { Vec::new() };
        ClientPath { proxy_source: self.proxy_source, forwarded }
    }

    /// The origin of the address of the client that sent a request with these headers.
    pub fn address_source(self, headers: &HeaderMap, addresses: &AddressLimits) -> AddressSource {
        let has_headers = headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for");
        let is_trusted = self.is_trusted(addresses);
        match self.proxy_source {
            _ if has_headers && is_trusted => AddressSource::Headers,
            Some(_) => AddressSource::ProxyHeader,
            None if has_headers => AddressSource::Untrusted,
            None => AddressSource::Peer,
        }
    }

    /// The address of the client that sent a request with these headers: the last one on the path that is known, which is that
    /// of the peer without headers; `None` for a Unix socket without a PROXY header.
    pub fn client(self, headers: &HeaderMap, addresses: &AddressLimits) -> Option<IpAddr> {
        let path = self.client_path(headers, addresses);
        Some(addresses.client(self.address()?, &path.forwarded))
    }
}

/// The scheme with which a browser has reached the server: HTTPS if `is_tls`, otherwise the claim of a trusted proxy, and of
/// several claims the first.
pub(super) fn scheme(
    is_tls: bool,
    peer: Option<Peer>,
    headers: &HeaderMap,
    addresses: &AddressLimits,
) -> Scheme {
    if is_tls {
        return Scheme::Https;
    }
    if !peer.and_then(Peer::address).is_some_and(|address| addresses.is_proxy(address)) {
        return Scheme::Unknown;
    }
    let first = |name: &str| headers.get(name)?.to_str().ok()?.split(',').next();
    let claimed = match first("forwarded") {
        Some(element) => element.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
        }),
        None => first("x-forwarded-proto").map(str::trim),
    };
    match claimed {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
        _ => Scheme::Unknown,
    }
}

/// The most hops that are read; those nearest to this server count.
const MAX_HOPS: usize = 16;

/// The addresses that proxies have added, that of the nearest proxy last; `None` for a hop without an address.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|hop| hop.trim().to_owned()).collect()
    };
    let mut hops: Vec<Option<IpAddr>> = if headers.contains_key(FORWARDED) {
        lines("forwarded").iter().map(|element| forwarded_for(element)).collect()
    } else {
        lines("x-forwarded-for").iter().map(|hop| address(hop)).collect()
    };
    let excess = hops.len().saturating_sub(MAX_HOPS);
    hops.drain(..excess);
    hops
}

/// The `for` parameter of one element: `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })?;
    address(value)
}

/// Parses an address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        hops(&map).iter().map(|hop| hop.map_or("?".to_owned(), |hop| hop.to_string())).collect()
    }

    #[test]
    fn both_headers_are_read_hop_by_hop_and_forwarded_takes_precedence() {
        let plain = ("x-forwarded-for", "192.0.2.1, [2001:db8::1]:80 ,2001:db8::2");
        assert_eq!(
            read(&[plain, ("x-forwarded-for", "10.0.0.1:1")]),
            ["192.0.2.1", "2001:db8::1", "2001:db8::2", "10.0.0.1"]
        );
        let standard =
            r#"for=192.0.2.60;proto=http;by=203.0.113.43, For="[2001:db8:cafe::17]:4711", for=_hidden, by=x"#;
        assert_eq!(read(&[("forwarded", standard), plain]), ["192.0.2.60", "2001:db8:cafe::17", "?", "?"]);
        assert_eq!(read(&[]), [""; 0]);
    }

    #[test]
    fn only_the_nearest_hops_are_read() {
        let many = vec!["192.0.2.1"; 500].join(",") + ",192.0.2.2";
        let hops = read(&[("x-forwarded-for", &many)]);
        assert_eq!((hops.len(), hops.last().map(String::as_str)), (MAX_HOPS, Some("192.0.2.2")));
    }

    #[test]
    fn a_proxy_header_takes_the_place_of_the_peer_and_headers_of_the_request_count_behind_it() {
        let range = tidings_shard::AddressRange::new([10, 0, 0, 0].into(), 8).expect("a range");
        let limits = AddressLimits::new(0, 0, vec![range]);
        let client = |socket: Option<&str>, source: &str, forwarded: &str| {
            let mut map = HeaderMap::new();
            map.append("x-forwarded-for", forwarded.parse().expect("a value"));
            let socket = socket.map(|address| address.parse().expect("an address"));
            let client = Peer { socket, proxy_source: source.parse().ok() }.client(&map, &limits);
            client.map(|address| address.to_string()).unwrap_or_default()
        };
        assert_eq!(client(Some("10.0.0.1"), "192.0.2.1", "198.51.100.7"), "192.0.2.1", "a client's claim");
        assert_eq!(client(Some("10.0.0.1"), "10.0.0.2", "198.51.100.7"), "198.51.100.7", "two proxies");
        assert_eq!(client(Some("10.0.0.1"), "10.0.0.2", "unknown"), "10.0.0.2", "the last known address");
        assert_eq!(client(Some("10.0.0.1"), "", ""), "10.0.0.1", "a client on the machine of a proxy");
        assert_eq!(
            client(Some("10.0.0.1"), "", "10.0.0.3"),
            "10.0.0.3",
            "a client in the network of the proxies"
        );
        assert_eq!(client(Some("10.0.0.1"), "", "198.51.100.7"), "198.51.100.7");
        assert_eq!(client(None, "192.0.2.1", "198.51.100.7"), "192.0.2.1", "a Unix socket");
        assert_eq!(client(None, "", "198.51.100.7"), "", "a Unix socket without a header");
        let source = |socket: &str, source: &str, has_headers: bool| {
            let mut map = HeaderMap::new();
            if has_headers {
                map.append("forwarded", "for=198.51.100.7".parse().expect("a value"));
            }
            Peer { socket: socket.parse().ok(), proxy_source: source.parse().ok() }
                .address_source(&map, &limits)
        };
        assert_eq!(source("192.0.2.1", "", false), AddressSource::Peer);
        assert_eq!(source("192.0.2.1", "", true), AddressSource::Untrusted);
        assert_eq!(source("10.0.0.1", "", true), AddressSource::Headers);
        assert_eq!(source("10.0.0.1", "192.0.2.1", true), AddressSource::ProxyHeader);
        assert_eq!(source("10.0.0.1", "10.0.0.2", true), AddressSource::Headers);
    }

    #[test]
    fn the_scheme_is_that_of_tls_or_the_claim_of_a_trusted_proxy() {
        let proxy: IpAddr = "10.0.0.1".parse().expect("an address");
        let range = tidings_shard::AddressRange::new(proxy, 8).expect("a range");
        let limits = AddressLimits::new(0, 0, vec![range]);
        let scheme_from = |peer: &str, name: &'static str, value: &str| {
            let mut map = HeaderMap::new();
            map.append(name, value.parse().expect("a value"));
            scheme(false, Some(Peer { socket: peer.parse().ok(), proxy_source: None }), &map, &limits)
        };
        assert_eq!(scheme_from("10.0.0.1", "x-forwarded-proto", "https"), Scheme::Https);
        assert_eq!(scheme_from("10.0.0.1", "x-forwarded-proto", "http, https"), Scheme::Http);
        assert_eq!(
            scheme_from("10.0.0.1", "forwarded", "for=192.0.2.1;proto=https, for=10.0.0.2"),
            Scheme::Https
        );
        assert_eq!(scheme_from("10.0.0.1", "x-forwarded-for", "192.0.2.1"), Scheme::Unknown);
        assert_eq!(scheme_from("192.0.2.1", "x-forwarded-proto", "https"), Scheme::Unknown);
        assert_eq!(scheme(true, None, &HeaderMap::new(), &limits), Scheme::Https);
    }
}
