//! Shell commands that connect to the line port.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;

use crate::escape::shell;

/// The address of a listener of the line port, as clients use it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LinePort {
    /// A host and a port.
    Tcp(String, u16),
    /// A host and a port that requires TLS.
    Tls(String, u16),
    /// The path of a Unix socket.
    Unix(String),
}

impl LinePort {
    /// Parses an announced address: `127.0.0.1:5567`, `unix:/run/tidings.sock`. A listener on all addresses gets the host
    /// of `host_header`, by which the client reaches the HTTP port.
    pub(super) fn from_announcement(announced: &str, host_header: &str, requires_tls: bool) -> Option<Self> {
        if let Some(path) = announced.strip_prefix("unix:") {
            return Some(Self::Unix(path.to_owned()));
        }
        let address: SocketAddr = announced.parse().ok()?;
        let host = match address.ip() {
            ip if !ip.is_unspecified() => ip.to_string(),
            ip => host(host_header).unwrap_or_else(|| match ip {
                IpAddr::V4(_) => "127.0.0.1".into(),
                IpAddr::V6(_) => "::1".into(),
            }),
        };
        let port = address.port();
        Some(if requires_tls { Self::Tls(host, port) } else { Self::Tcp(host, port) })
    }

    /// The command that subscribes with netcat, or with OpenSSL where TLS is required.
    pub(super) fn nc(&self) -> String {
        match self {
            Self::Tcp(host, port) => format!("nc {} {port}", shell(host)),
            Self::Tls(host, port) => {
                format!("openssl s_client -quiet -connect {}", shell(&bracketed(host, *port)))
            }
            Self::Unix(path) => format!("nc -U {}", shell(path)),
        }
    }

    /// The command that publishes with redis-cli, with a prompt for the key if one is required.
    pub(super) fn publish(&self, channel: &str, requires_key: bool) -> String {
        let target = match self {
            Self::Tcp(host, port) if host == "127.0.0.1" => format!("-p {port}"),
            Self::Tcp(host, port) => format!("-h {} -p {port}", shell(host)),
            Self::Tls(host, port) => format!("-h {} -p {port} --tls", shell(host)),
            Self::Unix(path) => format!("-s {}", shell(path)),
        };
        let prompt = if requires_key { " --askpass" } else { "" };
        format!("redis-cli {target}{prompt} PUBLISH {} \"hello world\"", shell(channel))
    }

    /// The command for an interactive session of `tidings connect`.
    pub(super) fn connect(&self) -> String {
        match self {
            Self::Tcp(host, port) if host.contains(':') => format!("tidings connect [{host}]:{port}"),
            Self::Tcp(host, port) => format!("tidings connect {}", shell(&format!("{host}:{port}"))),
            Self::Tls(host, port) => {
                format!("tidings connect {}", shell(&format!("tls://{}", bracketed(host, *port))))
            }
            Self::Unix(path) => format!("tidings connect {}", shell(&format!("unix:{path}"))),
        }
    }
}

/// A host with its port, an IPv6 address in brackets.
fn bracketed(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The host in a `Host` header, without the brackets of IPv6.
fn host(host_header: &str) -> Option<String> {
    let authority: Authority = host_header.parse().ok()?;
    let host = authority.host();
    Some(host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_contain_the_address_that_a_client_reaches() {
        let commands = |announced, host_header| {
            let port = LinePort::from_announcement(announced, host_header, false).expect("an address");
            [port.nc(), port.publish("updates", false), port.connect()]
        };
        let publish = "PUBLISH updates \"hello world\"";
        let expected = ["nc 127.0.0.1 5567", "redis-cli -p 5567 §", "tidings connect 127.0.0.1:5567"];
        assert_eq!(commands("127.0.0.1:5567", "evil"), expected.map(|c| c.replace('§', publish)));
        let expected = ["nc ::1 5567", "redis-cli -h ::1 -p 5567 §", "tidings connect [::1]:5567"];
        assert_eq!(commands("[::1]:5567", ""), expected.map(|c| c.replace('§', publish)));
        let expected =
            ["nc example.com 5567", "redis-cli -h example.com -p 5567 §", "tidings connect example.com:5567"];
        assert_eq!(commands("0.0.0.0:5567", "example.com:80"), expected.map(|c| c.replace('§', publish)));
        let expected = ["nc -U '/a b'", "redis-cli -s '/a b' §", "tidings connect 'unix:/a b'"];
        assert_eq!(commands("unix:/a b", ""), expected.map(|c| c.replace('§', publish)));
    }

    #[test]
    fn a_listener_on_all_addresses_has_a_host_even_without_a_host_header() {
        assert_eq!(
            LinePort::from_announcement("0.0.0.0:1", "", false),
            Some(LinePort::Tcp("127.0.0.1".into(), 1))
        );
        assert_eq!(
            LinePort::from_announcement("[::]:1", "[2001:db8::1]:80", false),
            Some(LinePort::Tcp("2001:db8::1".into(), 1))
        );
        assert_eq!(LinePort::from_announcement("nonsense", "", false), None);
    }

    #[test]
    fn a_key_is_prompted_for_and_not_part_of_the_command() {
        let port = LinePort::Tcp("127.0.0.1".into(), 1);
        assert!(port.publish("$(reboot)", true).starts_with("redis-cli -p 1 --askpass PUBLISH '$(reboot)' "));
    }

    #[test]
    fn the_commands_use_tls_where_it_is_required() {
        let port =
            LinePort::from_announcement("0.0.0.0:5567", "push.example.org:8000", true).expect("an address");
        assert_eq!(port.nc(), "openssl s_client -quiet -connect push.example.org:5567");
        let publish = "redis-cli -h push.example.org -p 5567 --tls PUBLISH updates \"hello world\"";
        assert_eq!(port.publish("updates", false), publish);
        assert_eq!(port.connect(), "tidings connect tls://push.example.org:5567");
    }
}
