//! Addresses of listeners, and ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use crate::raw::Raw;
use crate::setting::{Setting, expected, quoted};

/// The longest path of a Unix socket in bytes: `sun_path` of Linux' `unix(7)`, without its terminating NUL.
const MAX_SOCKET_PATH: usize = 107;

/// The address of a listener. Displays in the form of an option.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// `host:port` as given: the host is an IP address (IPv6 in brackets) or a name; port 0 picks a free one.
    Tcp(String),
    /// `unix:PATH`: a Unix socket.
    Unix(PathBuf),
}

impl ListenAddr {
    /// Whether only this machine can reach it: a Unix socket, a loopback address, or a name with only loopback
    /// addresses. Resolves a name other than `localhost`, which may take seconds; a name that does not resolve is not
    /// local.
    pub fn is_local(&self) -> bool {
        let Self::Tcp(address) = self else { return true };
        let Some((host, _)) = split_host_port(address) else { return false };
        let loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        if let Ok(ip) = host.parse::<IpAddr>() {
            return loopback(ip);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        (host, 0).to_socket_addrs().is_ok_and(|found| {
            let mut all = found.peekable();
            all.peek().is_some() && all.all(|address| loopback(address.ip()))
        })
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = &'static str;

    /// Parses `host:port` or `unix:PATH`.
    ///
    /// # Errors
    /// The error, as text that follows the address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err("has no path after unix:"),
                1..=MAX_SOCKET_PATH if !path.contains('\0') => Ok(Self::Unix(path.into())),
                _ => Err("has a path that is no Unix socket's (at most 107 bytes)"),
            };
        }
        let (host, port) = split_host_port(text).ok_or("has no port")?;
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err() {
            return Err("has no port from 0 to 65535");
        }
        if host.is_empty() {
            return Err("has no host (0.0.0.0 or [::] stand for every address)");
        }
        if text.starts_with('[') {
            let ipv6 = host.parse::<Ipv6Addr>().is_ok();
            return if ipv6 {
                Ok(Self::Tcp(text.to_owned()))
            } else {
                Err("has no IPv6 address in its brackets")
            };
        }
        if host.parse::<Ipv6Addr>().is_ok() {
            return Err("needs brackets around its IPv6 address");
        }
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let number = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !host.bytes().all(name) || number && host.parse::<IpAddr>().is_err() {
            return Err("has a host that is neither a name nor an IP address");
        }
        Ok(Self::Tcp(text.to_owned()))
    }
}

/// Host (without the brackets of IPv6) and port of `host:port`.
fn split_host_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host), port))
}

/// Listeners: addresses, or only `off` for none.
impl Setting for Vec<ListenAddr> {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let texts = Vec::<Text>::read(raw, &())?;
        if let [Text(off)] = &texts[..]
            && off == "off"
        {
            return Ok(Self::new());
        }
        let address = |Text(text): &Text| match text.as_str() {
            "off" => Err("`off` cannot be combined with addresses".to_owned()),
            text => text.parse().map_err(|e| {
                format!("{} {e}; expected HOST:PORT, unix:PATH or off", Raw::Word(text.to_owned()))
            }),
        };
        texts.iter().map(address).collect()
    }

    fn kind((): &()) -> String {
        "list of addresses (`HOST:PORT`, `[IPV6]:PORT`, `unix:PATH`), or `off`".into()
    }

    fn toml(&self) -> Option<String> {
        let all: Vec<String> = self.iter().map(|address| quoted(&address.to_string())).collect();
        Some(format!("[{}]", all.join(", ")))
    }
}

/// An item of a list that was not parsed yet.
struct Text(String);

impl Setting for Text {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        raw.as_text().map(|text| Self(text.to_owned())).ok_or_else(|| expected("text", raw))
    }

    fn kind((): &()) -> String {
        "text".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// An address, or a range of addresses in CIDR notation (RFC 4632): `10.0.0.0/8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    text: String,
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// An address of the range.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of leading bits of [`Self::address`] that all addresses of the range share: at most 32 for IPv4, 128
    /// for IPv6.
    pub fn prefix(&self) -> u32 {
        self.prefix
    }
}

impl Setting for Network {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let wanted = || expected("an address or a range such as \"10.0.0.0/8\"", raw);
        let text = raw.as_text().ok_or_else(wanted)?;
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wanted())?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = length.map_or(Ok(whole), |length| length.parse().map_err(|_| wanted()))?;
        if prefix > whole {
            return Err(wanted());
        }
        Ok(Self { text: text.to_owned(), address, prefix })
    }

    fn kind((): &()) -> String {
        "address range".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.text))
    }
}
