//! The types of option values that are tidings' own: secrets, addresses, brokers, origins, policies.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tidings_auth::Secret;
pub use tidings_wire::RecoveryMode;

use super::raw::Raw;
use super::setting::{Setting, choice, expected, quoted};

/// Longest path of a Unix socket in bytes: `sun_path` of Linux' `unix(7)`, without its closing NUL.
const MAX_SOCKET_PATH: usize = 107;

/// Where a listener binds. Displays as it is written in an option.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// `host:port`, as given: the host is an IP address (IPv6 in brackets) or a name; port 0 picks a free one.
    Tcp(String),
    /// `unix:PATH`: a Unix socket.
    Unix(PathBuf),
}

impl ListenAddr {
    /// Whether only this machine reaches it: a Unix socket, a loopback address, or a name of which every address is
    /// one. Asks the resolver for a name other than `localhost`, which may take seconds; one that does not
    /// resolve is not local.
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

    /// Reads `host:port` or `unix:PATH`.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow the address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err("has no path behind unix:"),
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

/// Listeners: addresses, or `off` alone for none.
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
            "off" => Err("`off` stands alone: it means no listener".to_owned()),
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

/// An item of a list that has yet to be understood.
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

/// Which broker carries publications. Displays without the password of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerUrl {
    /// This process alone.
    Memory,
    /// A Redis server, Sentinel or Cluster, by its URL: one of the schemes `redis`, `rediss`, `redis+sentinel`,
    /// `redis+cluster` and `rediss+cluster`. Secret, because it may hold a password.
    Redis(Secret),
}

/// The schemes of a Redis URL.
const SCHEMES: [&str; 5] = ["redis", "rediss", "redis+sentinel", "redis+cluster", "rediss+cluster"];

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Redis(url) = self else { return f.write_str("memory") };
        let (scheme, rest) = url.expose().split_once("://").unwrap_or(("redis", ""));
        // Whatever stands before the last @ may hold the password, and so may a query.
        let hosts = match rest.rsplit_once('@') {
            Some((secret, _)) if secret.contains(['?', '#']) => return write!(f, "{scheme}://***"),
            Some((_, hosts)) => hosts,
            None => rest,
        };
        let mask = if hosts.len() < rest.len() { "***@" } else { "" };
        write!(f, "{scheme}://{mask}{}", hosts.split(['?', '#']).next().unwrap_or_default())
    }
}

impl Setting for BrokerUrl {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let wrong = |got: &str| Err(format!("expected {}, got {got}", Self::kind(&())));
        match raw.as_text() {
            None => wrong(raw.sort()),
            Some("memory") => Ok(Self::Memory),
            Some(url) => match url.split_once("://") {
                Some((scheme, rest)) if SCHEMES.contains(&scheme) => {
                    let plain = url.bytes().all(|b| b.is_ascii_graphic());
                    let host = !rest.is_empty() && !rest.starts_with(['/', '?', '#']);
                    if plain && host {
                        Ok(Self::Redis(Secret::new(url)))
                    } else {
                        Err(format!("expected {scheme}://HOST:PORT without spaces behind the scheme"))
                    }
                }
                // Only the scheme is repeated: what follows may hold a password.
                Some((scheme, _)) => wrong(&format!("the scheme \"{}\"", super::raw::shown(scheme))),
                None => wrong("text without a scheme"),
            },
        }
    }

    fn kind((): &()) -> String {
        "`memory` or a URL (`redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://`, `rediss+cluster://`)".into()
    }

    fn toml(&self) -> Option<String> {
        Some(match self {
            Self::Memory => quoted("memory"),
            Self::Redis(url) => quoted(url.expose()),
        })
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

    /// How many leading bits of [`Self::address`] all addresses of the range share: at most 32 for IPv4, 128 for IPv6.
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

/// Where the server keeps what outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DataDir {
    /// In the user's folder for data, which the program finds; for the library the same as [`Self::Off`].
    #[default]
    User,
    /// Nowhere: files go with the server.
    Off,
    /// In this folder.
    Folder(PathBuf),
}

impl DataDir {
    /// The folder that was chosen, if one was.
    pub fn folder(&self) -> Option<&Path> {
        if let Self::Folder(folder) = self { Some(folder) } else { None }
    }
}

impl Setting for DataDir {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        if matches!(raw.as_text(), Some("off")) || matches!(raw, Raw::Switch(false)) {
            return Ok(Self::Off);
        }
        Ok(Option::<PathBuf>::read(raw, &())?.map_or(Self::User, Self::Folder))
    }

    fn kind((): &()) -> String {
        "path, or `off`".into()
    }

    fn toml(&self) -> Option<String> {
        match self {
            Self::User => None,
            Self::Off => Some(quoted("off")),
            Self::Folder(folder) => Some(quoted(&folder.display().to_string())),
        }
    }
}

/// Clients that may upload files for tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowUpload {
    /// [`Self::Anyone`] without a key, [`Self::Token`] with one.
    Auto,
    /// Every client.
    Anyone,
    /// Clients with a connection token, users that the connect hook accepts, and backends.
    Token,
    /// Backends.
    Key,
}

choice! { AllowUpload:
    "auto" => AllowUpload::Auto,
    "anyone" => AllowUpload::Anyone,
    "token" => AllowUpload::Token,
    "key" => AllowUpload::Key,
}

/// Where tables are kept. Displays as it is written in an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TablesStore {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket of S3, below a prefix without slashes at its ends, which may be empty.
    S3 {
        /// The bucket.
        bucket: String,
        /// What the keys of all objects begin with.
        prefix: String,
    },
}

impl fmt::Display for TablesStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Longest prefix of keys in bytes: keys have at most 1,024, and those of tables need 120 of them.
const MAX_PREFIX: usize = 512;

impl Setting for Option<TablesStore> {
    type Rule = ();

    fn read(raw: &Raw, rule: &()) -> Result<Self, String> {
        let Some((scheme, rest)) = raw.as_text().and_then(|text| text.split_once("://")) else {
            return Ok(Option::<PathBuf>::read(raw, rule)?.map(TablesStore::Folder));
        };
        if scheme != "s3" {
            return Err(expected("a folder's path or s3://BUCKET/PREFIX", raw));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, with what older ones had.
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(letter) {
            return Err(expected("s3://BUCKET/PREFIX with a bucket's name behind s3://", raw));
        }
        let safe = |b: u8| letter(b) || matches!(b, b'/' | b'=' | b'+' | b'!');
        let parts = || prefix.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if prefix.len() > MAX_PREFIX || !prefix.bytes().all(safe) || !prefix.is_empty() && !parts() {
            let what = "s3://BUCKET/PREFIX with a prefix of letters, digits and -._=+!/ (at most 512)";
            return Err(expected(what, raw));
        }
        Ok(Some(TablesStore::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }))
    }

    fn kind((): &()) -> String {
        "path, or `s3://BUCKET/PREFIX`".into()
    }

    fn toml(&self) -> Option<String> {
        self.as_ref().map(|store| quoted(&store.to_string()))
    }
}

/// What happens when a connection's queue is full, because it does not read as fast as its channels are
/// published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlowConsumer {
    /// [`SlowConsumer::Cut`] where the channel has a history, else [`SlowConsumer::DropOldest`].
    Auto,
    /// Close the connection with a code that requests reconnecting.
    Cut,
    /// Drop the queue and send the newest publication once the client reads again.
    Latest,
    /// Drop the oldest publications, and report their number.
    DropOldest,
}

choice! { SlowConsumer:
    "auto" => SlowConsumer::Auto,
    "cut" => SlowConsumer::Cut,
    "latest" => SlowConsumer::Latest,
    "drop_oldest" => SlowConsumer::DropOldest,
}

choice! { RecoveryMode:
    "stream" => RecoveryMode::Stream,
    "cache" => RecoveryMode::Cache,
}

/// Certificates: PEM (RFC 7468), its base 64, or the path of a file with PEM. They are no secret, but long, so
/// [`Debug`](fmt::Debug) prints their length alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PemText(String);

impl PemText {
    /// As it was given; may be empty.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PemText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Setting for PemText {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let wrong = || format!("expected text in quotes, got {}", raw.sort());
        raw.as_text().map(|text| Self(text.to_owned())).ok_or_else(wrong)
    }

    fn kind((): &()) -> String {
        "certificates in PEM".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

choice! { TlsVersion:
    "1.2" => TlsVersion::Tls12,
    "1.3" => TlsVersion::Tls13,
}

/// Whether the line port refuses connections without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsRequired {
    /// Where other machines reach it.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl TlsRequired {
    /// Whether it does on a listener that binds to this address.
    pub fn at(self, address: &ListenAddr) -> bool {
        match self {
            Self::Auto => !address.is_local(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

impl Setting for TlsRequired {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        match (raw, raw.as_text()) {
            (_, Some("auto")) => Ok(Self::Auto),
            (Raw::Switch(true), _) | (_, Some("true")) => Ok(Self::Always),
            (Raw::Switch(false), _) | (_, Some("false")) => Ok(Self::Never),
            _ => Err(expected("`auto`, true or false", raw)),
        }
    }

    fn kind((): &()) -> String {
        "`auto`, true or false".into()
    }

    fn toml(&self) -> Option<String> {
        Some(match self {
            Self::Auto => quoted("auto"),
            Self::Always => "true".into(),
            Self::Never => "false".into(),
        })
    }
}

/// How much is logged: this level and all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogLevel {
    /// Nothing.
    None,
    /// What keeps the server from doing its work.
    Error,
    /// What may keep it from that soon.
    Warn,
    /// Start, stop, and what changes in between.
    Info,
    /// Each connection.
    Debug,
    /// Each step.
    Trace,
}

impl LogLevel {
    /// The level's name, in small letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

choice! { LogLevel:
    "none" => LogLevel::None,
    "error" => LogLevel::Error,
    "warn" => LogLevel::Warn,
    "info" => LogLevel::Info,
    "debug" => LogLevel::Debug,
    "trace" => LogLevel::Trace,
}

/// How a log entry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on a line.
    Json,
}

choice! { LogFormat:
    "text" => LogFormat::Text,
    "json" => LogFormat::Json,
}
