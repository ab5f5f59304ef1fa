//! How to reach the line port from a shell.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;

use crate::escape::shell;

/// A listener of the line port, as clients name it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LinePort {
    /// A host and a port.
    Tcp(String, u16),
    /// The same, where nothing but TLS is spoken.
    Tls(String, u16),
    /// The path of a Unix socket.
    Unix(String),
}

impl LinePort {
    /// From an announced address: `127.0.0.1:5567`, `unix:/run/tidings.sock`. A listener on every address is reached
    /// like the HTTP port: at the host of `asked`, a request's `Host`. `secure`: it requires TLS.
    pub(super) fn of(announced: &str, asked: &str, secure: bool) -> Option<Self> {
        if let Some(path) = announced.strip_prefix("unix:") {
            return Some(Self::Unix(path.to_owned()));
        }
        let address: SocketAddr = announced.parse().ok()?;
        let host = match address.ip() {
            ip if !ip.is_unspecified() => ip.to_string(),
            ip => host(asked).unwrap_or_else(|| match ip {
                IpAddr::V4(_) => "127.0.0.1".into(),
                IpAddr::V6(_) => "::1".into(),
            }),
        };
        let port = address.port();
        Some(if secure { Self::Tls(host, port) } else { Self::Tcp(host, port) })
    }

    /// The command that listens with netcat, or where that cannot, with OpenSSL.
    pub(super) fn nc(&self) -> String {
        match self {
            Self::Tcp(host, port) => format!("nc {} {port}", shell(host)),
            Self::Tls(host, port) => {
                format!("openssl s_client -quiet -connect {}", shell(&bracketed(host, *port)))
            }
            Self::Unix(path) => format!("nc -U {}", shell(path)),
        }
    }

    /// The command that publishes with redis-cli, asking for the key if it needs one.
    pub(super) fn publish(&self, channel: &str, keyed: bool) -> String {
        let place = match self {
            Self::Tcp(host, port) if host == "127.0.0.1" => format!("-p {port}"),
            Self::Tcp(host, port) => format!("-h {} -p {port}", shell(host)),
            Self::Tls(host, port) => format!("-h {} -p {port} --tls", shell(host)),
            Self::Unix(path) => format!("-s {}", shell(path)),
        };
        let ask = if keyed { " --askpass" } else { "" };
        format!("redis-cli {place}{ask} PUBLISH {} \"follow the white rabbit\"", shell(channel))
    }

    /// The command that does both.
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

/// The host of a request's `Host`, without the brackets of IPv6.
fn host(asked: &str) -> Option<String> {
    let authority: Authority = asked.parse().ok()?;
    let host = authority.host();
    Some(host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_the_port_as_a_client_reaches_it() {
        let commands = |announced, asked| {
            let port = LinePort::of(announced, asked, false).expect("an address");
            [port.nc(), port.publish("updates", false), port.connect()]
        };
        let rabbit = "PUBLISH updates \"follow the white rabbit\"";
        let expected = ["nc 127.0.0.1 5567", "redis-cli -p 5567 §", "tidings connect 127.0.0.1:5567"];
        assert_eq!(commands("127.0.0.1:5567", "evil"), expected.map(|c| c.replace('§', rabbit)));
        let expected = ["nc ::1 5567", "redis-cli -h ::1 -p 5567 §", "tidings connect [::1]:5567"];
        assert_eq!(commands("[::1]:5567", ""), expected.map(|c| c.replace('§', rabbit)));
        let expected =
            ["nc example.com 5567", "redis-cli -h example.com -p 5567 §", "tidings connect example.com:5567"];
        assert_eq!(commands("0.0.0.0:5567", "example.com:80"), expected.map(|c| c.replace('§', rabbit)));
        let expected = ["nc -U '/a b'", "redis-cli -s '/a b' §", "tidings connect 'unix:/a b'"];
        assert_eq!(commands("unix:/a b", ""), expected.map(|c| c.replace('§', rabbit)));
    }

    #[test]
    fn a_port_on_every_address_is_named_even_for_a_request_without_a_host() {
        assert_eq!(LinePort::of("0.0.0.0:1", "", false), Some(LinePort::Tcp("127.0.0.1".into(), 1)));
        assert_eq!(
            LinePort::of("[::]:1", "[2001:db8::1]:80", false),
            Some(LinePort::Tcp("2001:db8::1".into(), 1))
        );
        assert_eq!(LinePort::of("nonsense", "", false), None);
    }

    #[test]
    fn a_key_is_asked_for_and_never_part_of_the_command() {
        let port = LinePort::Tcp("127.0.0.1".into(), 1);
        assert!(port.publish("$(reboot)", true).starts_with("redis-cli -p 1 --askpass PUBLISH '$(reboot)' "));
    }

    #[test]
    fn where_tls_is_required_the_commands_speak_it() {
        let port = LinePort::of("0.0.0.0:5567", "push.example.org:8000", true).expect("an address");
        assert_eq!(port.nc(), "openssl s_client -quiet -connect push.example.org:5567");
        let publish =
            "redis-cli -h push.example.org -p 5567 --tls PUBLISH updates \"follow the white rabbit\"";
        assert_eq!(port.publish("updates", false), publish);
        assert_eq!(port.connect(), "tidings connect tls://push.example.org:5567");
    }
}
