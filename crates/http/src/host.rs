//! Checks of the `Host` header: every request has exactly one, and a workbench accepts only its own hosts.
//!
//! A workbench has no keys, so it trusts every client, and on a loopback address only clients of this machine should reach
//! it. But the page of any site runs in a browser on this machine too. With DNS rebinding the site's name resolves to
//! 127.0.0.1, and the browser treats this server as the origin of the page. The request's `Host` then contains the name of
//! the site, and a page cannot change that header.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Version, header};

use tidings_config::{Config, ListenAddr};

/// Checks that a request has one `Host`, which is optional in HTTP/1.0 (RFC 9112 §3.2). With two of them, a proxy and this
/// server could use different ones.
///
/// # Errors
/// The text of the response.
pub(super) fn check_count(version: Version, headers: &HeaderMap) -> Result<(), &'static str> {
    match headers.get_all(header::HOST).iter().count() {
        1 => Ok(()),
        0 if version < Version::HTTP_11 => Ok(()),
        0 => Err("the request has no Host header\n"),
        _ => Err("the request has more than one Host header\n"),
    }
}

/// Whether `host[:port]` is the name of one server: neither an address nor `localhost`, which all servers of a machine share.
pub(super) fn is_public_name(host: &str) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let host = authority.host();
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_local = name == "localhost" || name.ends_with(".localhost");
    !host.starts_with('[') && name.parse::<IpAddr>().is_err() && !is_local
}

/// The hosts that a workbench accepts: `localhost`, every loopback address, and the names in `http.listen`.
#[derive(Clone, Debug)]
pub(super) struct OwnHosts(Vec<String>);

impl OwnHosts {
    /// The hosts of a workbench; `None` for a server that accepts every host, because it has a key or is open to everyone
    /// (`client.insecure`).
    pub(super) fn from_config(config: &Config) -> Option<Self> {
        if config.client.insecure || !config.is_workbench() {
            return None;
        }
        let names =
            config.http.listen.iter().chain(&config.internal.listen).filter_map(|address| match address {
                ListenAddr::Tcp(address) => Some(address.rsplit_once(':')?.0.to_owned()),
                ListenAddr::Unix(_) => None,
            });
        Some(Self(names.collect()))
    }

    /// Checks every host in a request: in its target (RFC 9112 §3.2.2) and in `Host`. Browsers always send a host, so a
    /// request without one is accepted.
    ///
    /// # Errors
    /// The first host that is not accepted, as the request contains it.
    pub(super) fn check(&self, request: &Parts) -> Result<(), String> {
        let target = request.uri.authority().map(|authority| authority.as_str().as_bytes());
        let named = request.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
        match target.into_iter().chain(named).find(|host| !self.contains(host)) {
            Some(other) => Err(String::from_utf8_lossy(other).into_owned()),
            None => Ok(()),
        }
    }

    /// Whether `host[:port]` is accepted. The port is not checked, because it may be that of a tunnel.
    fn contains(&self, host: &[u8]) -> bool {
        let Ok(authority) = Authority::try_from(host) else { return false };
        // A Host has no user information (RFC 9110 §7.2).
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = address.parse::<IpAddr>() {
            return address.to_canonical().is_loopback();
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        name.eq_ignore_ascii_case("localhost") || self.0.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workbench_accepts_only_loopback_addresses_and_its_own_names() {
        let own = OwnHosts(vec!["devbox".into()]);
        for host in ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000"]
        {
            assert!(own.contains(host.as_bytes()), "{host}");
        }
        for host in ["devbox", "DevBox:80", "[::ffff:127.0.0.1]"] {
            assert!(own.contains(host.as_bytes()), "{host}");
        }
        for host in ["example.com", "example.com:8000", "localhost.example.com", "127.0.0.1.example.com", ""]
        {
            assert!(!own.contains(host.as_bytes()), "{host}");
        }
        for host in ["0.0.0.0:8000", "192.168.1.2", "[2001:db8::1]", "user@localhost", "localhost/", "a b"] {
            assert!(!own.contains(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_public_name_is_neither_an_address_nor_localhost() {
        for host in ["push.example.com", "push.example.com:8443", "Push"] {
            assert!(is_public_name(host), "{host}");
        }
        for host in ["localhost:8000", "a.localhost", "127.0.0.1", "[::1]:443", "192.0.2.1:443", ""] {
            assert!(!is_public_name(host), "{host}");
        }
    }
}
