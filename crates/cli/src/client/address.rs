//! Where a server is: `HOST:PORT`, `tcp://HOST:PORT` or `unix:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the line port listens when nobody says otherwise.
pub(crate) const DEFAULT: &str = "127.0.0.1:5567";

/// The address of a server's line port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `HOST:PORT`; the host is resolved at every attempt to connect.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("no path: write unix:PATH, such as unix:/run/tidings.sock".to_owned())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let host_port = match text.split_once("://") {
            Some(("tcp", rest)) => rest.trim_end_matches('/'),
            Some((scheme @ ("ws" | "wss" | "http" | "https"), _)) => {
                return Err(format!("{scheme}:// is not in this version yet: use tcp://HOST:PORT"));
            }
            Some((scheme, _)) => {
                return Err(format!("unknown scheme {scheme}://: use tcp://HOST:PORT or unix:PATH"));
            }
            None => text,
        };
        let (host, port) = host_port
            .rsplit_once(':')
            .ok_or_else(|| format!("no port in '{host_port}': write HOST:PORT, such as {DEFAULT}"))?;
        if host.is_empty() || (host.contains(':') && !(host.starts_with('[') && host.ends_with(']'))) {
            return Err(format!(
                "no host in '{host_port}': write HOST:PORT or [IPV6]:PORT, such as {DEFAULT}"
            ));
        }
        match port.parse::<u16>() {
            Ok(1..) => Ok(Self::Tcp(host_port.to_owned())),
            _ => Err(format!("'{port}' is not a port: a number from 1 to 65535")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_port) => f.write_str(host_port),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_understood() {
        for text in ["localhost:5567", "tcp://localhost:5567", "tcp://localhost:5567/"] {
            assert_eq!(text.parse(), Ok(Address::Tcp("localhost:5567".to_owned())), "{text}");
        }
        assert_eq!("[::1]:1".parse(), Ok(Address::Tcp("[::1]:1".to_owned())));
        assert_eq!("unix:/run/x.sock".parse(), Ok(Address::Unix("/run/x.sock".into())));
    }

    #[test]
    fn what_is_no_address_is_told_what_to_write() {
        for (text, told) in [
            ("localhost", "HOST:PORT"),
            ("localhost:", "not a port"),
            ("localhost:0", "not a port"),
            ("localhost:65536", "not a port"),
            (":5567", "no host"),
            ("::1:5567", "[IPV6]:PORT"),
            ("unix:", "unix:PATH"),
            ("ws://h:1", "not in this version yet: use tcp://"),
            ("http://h:1", "not in this version yet: use tcp://"),
            ("gopher://h:1", "unknown scheme"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
