//! Addresses of servers: `HOST:PORT`, `tcp://HOST:PORT`, `tls://HOST:PORT` or `unix:PATH` for the line port; `ws://`,
//! `wss://`, `http://` or `https://` with a host, and optionally a port and a path, for the HTTP port; `mqtt://` or `mqtts://` with a
//! host, and optionally a port, for a broker of MQTT.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Default address of the line port.
pub const DEFAULT: &str = "127.0.0.1:5567";

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// `HOST:PORT` of the line port. The host is resolved at every attempt to connect.
    Tcp(String),
    /// `HOST:PORT` of a line port with TLS.
    Tls(String),
    /// The path of a Unix socket of the line port.
    Unix(PathBuf),
    /// `HOST:PORT` of a broker of MQTT.
    Mqtt {
        /// `HOST:PORT`.
        host_port: String,
        /// Whether the port uses TLS.
        secure: bool,
    },
    /// The HTTP port.
    Web(Web),
}

/// The address of an HTTP port, or of a proxy in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Whether the port uses TLS.
    pub secure: bool,
    /// Whether the address has a WebSocket scheme (`ws`, `wss`).
    pub websocket: bool,
    /// Host name or IP address, without the brackets of IPv6.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The prefix of every path: empty, or `/prefix`.
    pub base: String,
}

/// Paths of the server's own endpoints. An address may end with one; it is not part of the prefix.
const ENDPOINTS: [&str; 4] = ["/connection/websocket", "/connection/uni_sse", "/events", "/api"];

impl Web {
    /// Host and port as in the `Host` header: without the port if it is the default.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual_port(self.secure) { host } else { format!("{host}:{}", self.port) }
    }

    /// The path of `endpoint`, which begins with a slash, with the prefix.
    pub fn path(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.base)
    }

    /// The URL of `endpoint` for a browser.
    pub fn url(&self, endpoint: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}{endpoint}", self.authority(), self.base)
    }

    /// The origin of pages from this server, as in the `Origin` header.
    pub fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }
}

impl fmt::Display for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.websocket, self.secure) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.base)
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("no path: write unix:PATH, such as unix:/run/tidings.sock".to_owned())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let mut secure = false;
        let host_port = match text.split_once("://") {
            Some(("tcp", rest)) => rest.trim_end_matches('/'),
            Some(("tls", rest)) => {
                secure = true;
                rest.trim_end_matches('/')
            }
            Some((scheme @ ("ws" | "wss" | "http" | "https"), rest)) => {
                let secure = matches!(scheme, "wss" | "https");
                return web(rest, secure, scheme.starts_with("ws")).map(Self::Web);
            }
            Some((scheme @ ("mqtt" | "mqtts"), rest)) => return mqtt(rest, scheme == "mqtts"),
            Some((scheme, _)) => {
                return Err(format!(
                    "unknown scheme {scheme}://: use tcp://HOST:PORT, tls://HOST:PORT, unix:PATH, ws://HOST:PORT, \
                     http://HOST:PORT or mqtt://HOST:PORT"
                ));
            }
            None => text,
        };
        let (host, port) = host_port
            .rsplit_once(':')
            .ok_or_else(|| format!("no port in '{host_port}': write HOST:PORT, such as {DEFAULT}"))?;
        check_host(host, host_port)?;
        number(port)?;
        let host_port = host_port.to_owned();
        Ok(if secure { Self::Tls(host_port) } else { Self::Tcp(host_port) })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_port) => f.write_str(host_port),
            Self::Tls(host_port) => write!(f, "tls://{host_port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Mqtt { host_port, secure: false } => write!(f, "mqtt://{host_port}"),
            Self::Mqtt { host_port, secure: true } => write!(f, "mqtts://{host_port}"),
            Self::Web(web) => web.fmt(f),
        }
    }
}

/// Parses the part after the scheme.
fn web(rest: &str, secure: bool, websocket: bool) -> Result<Web, String> {
    if rest.contains(['?', '#']) {
        return Err("an address has no query and no fragment here".to_owned());
    }
    // The address is copied into requests unchanged.
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("an address is printable ASCII without spaces".to_owned());
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if authority.contains('@') {
        return Err("no user in an address: give the secret with --token or --key".to_owned());
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, number(port)?),
        _ => (authority, usual_port(secure)),
    };
    check_host(host, authority)?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let path = path.trim_end_matches('/');
    let base = ENDPOINTS.iter().find_map(|endpoint| path.strip_suffix(endpoint)).unwrap_or(path);
    Ok(Web { secure, websocket, host: host.to_owned(), port, base: base.to_owned() })
}

/// Parses the part after the scheme. The ports without one are those that are registered for MQTT.
fn mqtt(rest: &str, secure: bool) -> Result<Server, String> {
    let authority = rest.trim_end_matches('/');
    if authority.contains('@') {
        return Err("no user in an address: give the secret with --token or --key".to_owned());
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, number(port)?),
        _ => (authority, if secure { 8883 } else { 1883 }),
    };
    check_host(host, authority)?;
    Ok(Server::Mqtt { host_port: format!("{host}:{port}"), secure })
}

fn check_host(host: &str, whole: &str) -> Result<(), String> {
    if host.is_empty() || (host.contains(':') && !(host.starts_with('[') && host.ends_with(']'))) {
        return Err(format!("no host in '{whole}': write HOST:PORT or [IPV6]:PORT, such as {DEFAULT}"));
    }
    Ok(())
}

fn number(port: &str) -> Result<u16, String> {
    match port.parse::<u16>() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("'{port}' is not a port: a number from 1 to 65535")),
    }
}

fn usual_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(text: &str) -> Web {
        match text.parse() {
            Ok(Server::Web(web)) => web,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_form_of_a_line_port_address_is_accepted() {
        for text in ["localhost:5567", "tcp://localhost:5567", "tcp://localhost:5567/"] {
            assert_eq!(text.parse(), Ok(Server::Tcp("localhost:5567".to_owned())), "{text}");
        }
        assert_eq!("[::1]:1".parse(), Ok(Server::Tcp("[::1]:1".to_owned())));
        assert_eq!("tls://[::1]:1/".parse(), Ok(Server::Tls("[::1]:1".to_owned())));
        assert_eq!(Server::Tls("h:1".to_owned()).to_string(), "tls://h:1");
        assert_eq!("unix:/run/x.sock".parse(), Ok(Server::Unix("/run/x.sock".into())));
    }

    #[test]
    fn an_address_of_mqtt_has_a_port_by_its_scheme() {
        for (text, shown) in [
            ("mqtt://h", "mqtt://h:1883"),
            ("mqtts://h/", "mqtts://h:8883"),
            ("mqtt://[::1]:5567", "mqtt://[::1]:5567"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn an_http_address_has_a_prefix_and_none_of_the_server_s_own_paths() {
        let shown = |text: &str| {
            let web = web(text);
            (web.to_string(), web.authority(), web.path("/health"))
        };
        let expect = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(shown("http://h"), expect("http://h", "h", "/health"));
        assert_eq!(shown("https://h:443/"), expect("https://h", "h", "/health"));
        assert_eq!(shown("ws://[::1]:8000"), expect("ws://[::1]:8000", "[::1]:8000", "/health"));
        assert_eq!(shown("wss://h/push/"), expect("wss://h/push", "h", "/push/health"));
        assert_eq!(shown("wss://h/push/connection/websocket"), expect("wss://h/push", "h", "/push/health"));
        assert_eq!(shown("http://h:80/connection/websocket/"), expect("http://h", "h", "/health"));
        assert_eq!(web("ws://[::1]:8000").host, "::1");
        assert_eq!(web("ws://h:8000/p").url("/tables/1"), "http://h:8000/p/tables/1");
        assert_eq!(web("wss://h:8000/p").origin(), "https://h:8000");
    }

    #[test]
    fn an_invalid_address_gets_an_error_with_the_expected_form() {
        for (text, told) in [
            ("localhost", "HOST:PORT"),
            ("localhost:", "not a port"),
            ("localhost:0", "not a port"),
            ("localhost:65536", "not a port"),
            (":5567", "no host"),
            ("::1:5567", "[IPV6]:PORT"),
            ("unix:", "unix:PATH"),
            ("gopher://h:1", "unknown scheme"),
            ("http://", "no host"),
            ("http://h:x", "not a port"),
            ("http://::1/", "[IPV6]:PORT"),
            ("http://user:secret@h/", "--token or --key"),
            ("mqtt://user:secret@h", "--token or --key"),
            ("mqtt://:1883", "no host"),
            ("http://h/?a=b", "no query"),
            ("http://h/a b", "without spaces"),
        ] {
            let error = text.parse::<Server>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
