//! Options of the Redis broker, and their validation before a connection is made.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use thiserror::Error;
use tidings_wire::channel::MAX_CHANNEL;

use super::dial::{Dialer, Secrets, Target};

/// Default port of a Sentinel.
const SENTINEL_PORT: u16 = 26379;

/// Address, limits and timeouts.
#[derive(Clone)]
pub struct Options {
    /// `redis://[user:password@]host[:port][/db]`, the same with `rediss` for TLS (verified against the system's
    /// certificates, or those in the file that `SSL_CERT_FILE` names), or
    /// `redis+sentinel://[user:password@]host[:port][,host[:port]…]/master[/db]`, where the credentials are those of
    /// the Redis servers; those of the Sentinels are `?sentinel_user=` and `?sentinel_password=`. A cluster is
    /// `redis+cluster://[user:password@]host[:port][,host[:port]…]`, or `rediss+cluster` for TLS, where each host is a
    /// node of it by which the others are found.
    pub url: String,
    /// Prefix of every channel name, so that several deployments can share one Redis: printable ASCII without spaces,
    /// at most 255 bytes; may be empty.
    pub prefix: String,
    /// Timeout of a connection attempt, TLS and authentication included.
    pub connect_timeout: Duration,
    /// Longest silence of Redis while a response is pending; then the connection is closed.
    pub response_timeout: Duration,
    /// Interval of the checks that Redis responds and has kept its role. A dead connection is detected after this plus
    /// the response timeout.
    pub ping_interval: Duration,
    /// Prefixes of the channels that only the nodes of the deployment use: in a cluster they are published and
    /// subscribed as sharded channels alone, and the number of their receivers is the number of nodes.
    pub own: &'static [&'static str],
    /// Identifies this node, so that other nodes can remove the members that it has registered after it has ended
    /// ([`crate::Stateful::presence_evict`]); empty without that.
    pub node: String,
    /// Most bytes of publications that wait for Redis; a further one is `Overloaded`.
    pub publish_budget: u64,
}

impl Options {
    /// The defaults: no prefix, two seconds to connect, three to answer, a ping every three, 16 MiB of publications.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: String::new(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_secs(3),
            own: &[],
            node: String::new(),
            publish_budget: 16 << 20,
        }
    }

    /// Validates everything that does not need a network.
    pub(super) fn deployment(&self) -> Result<Deployment, OptionsError> {
        if self.prefix.len() > MAX_CHANNEL || !self.prefix.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(OptionsError::Prefix);
        }
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("ping_interval", self.ping_interval),
        ] {
            if value.is_zero() {
                return Err(OptionsError::Zero(name));
            }
        }
        let (scheme, rest) = self.url.split_once("://").ok_or(OptionsError::Scheme)?;
        let mut secrets = Secrets::default();
        let target = match scheme {
            "redis" | "rediss" => {
                let info = server(&self.url, &mut secrets)?;
                let client = Client::open(info).map_err(|e| OptionsError::url(&e, &secrets))?;
                Target::Server(Box::new(client))
            }
            "redis+sentinel" => sentinel(rest, &mut secrets)?,
            "redis+cluster" | "rediss+cluster" => {
                let nodes = cluster(&scheme[..scheme.len() - "+cluster".len()], rest, &mut secrets)?;
                return Ok(Deployment::Cluster(Seeds { nodes, secrets }));
            }
            _ => return Err(OptionsError::Scheme),
        };
        Ok(Deployment::Server(Dialer::new(target, secrets, self.connect_timeout)))
    }
}

/// The configuration of the first connection to a cluster.
pub(super) struct Seeds {
    /// One entry for each configured node, with the credentials and the kind of connection that all nodes share.
    pub(super) nodes: Vec<ConnectionInfo>,
    pub(super) secrets: Secrets,
}

/// The kind of deployment.
pub(super) enum Deployment {
    /// One server at a time.
    Server(Dialer),
    /// The nodes of a cluster.
    Cluster(Seeds),
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may contain a password.
        f.debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("ping_interval", &self.ping_interval)
            .field("publish_budget", &self.publish_budget)
            .finish_non_exhaustive()
    }
}

/// An error in the options. The messages do not repeat the URL, which may contain a password.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OptionsError {
    /// The URL is not that of a Redis.
    #[error(
        "broker URL: expected redis://, rediss://, redis+sentinel://, redis+cluster:// or rediss+cluster://"
    )]
    Scheme,
    /// Another error in the URL.
    #[error("broker URL: {0}")]
    Url(String),
    /// The prefix cannot begin a channel name.
    #[error("prefix: must be printable ASCII without spaces, at most {MAX_CHANNEL} bytes")]
    Prefix,
    /// A duration that must not be zero.
    #[error("{0}: must be more than zero")]
    Zero(&'static str),
}

impl OptionsError {
    pub(super) fn url(error: &redis::RedisError, secrets: &Secrets) -> Self {
        let text = error.to_string();
        // The library appends its own kind of error, which does not help an operator.
        let words = text.split(" - ").next().unwrap_or(&text);
        Self::Url(secrets.masked(words))
    }
}

/// Parses the URL of one server, and collects its password.
fn server(url: &str, secrets: &mut Secrets) -> Result<ConnectionInfo, OptionsError> {
    secrets.keep_from_url(url);
    let info = url.into_connection_info().map_err(|e| OptionsError::url(&e, secrets))?;
    if let ConnectionAddr::TcpTls { insecure: true, .. } = info.addr() {
        let hint =
            "#insecure is not supported; name the file with your authority's certificate in SSL_CERT_FILE";
        return Err(OptionsError::Url(hint.to_owned()));
    }
    let settings = info.redis_settings().clone();
    secrets.keep(settings.password());
    let settings =
        settings.set_protocol(ProtocolVersion::RESP3).set_lib_name("tidings", env!("CARGO_PKG_VERSION"));
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
}

/// Parses the part after `redis+sentinel://`.
fn sentinel(rest: &str, secrets: &mut Secrets) -> Result<Target, OptionsError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (credentials, rest) = rest.rsplit_once('@').map_or(("", rest), |(c, rest)| (c, rest));
    let mut path = rest.split('/');
    let hosts = path.next().unwrap_or_default();
    let master = path.next().filter(|name| !name.is_empty()).ok_or_else(|| {
        OptionsError::Url(
            "redis+sentinel:// needs the master's name: redis+sentinel://host:26379/mymaster".into(),
        )
    })?;
    let db = path.next().unwrap_or_default();

    // The library parses the credentials and the database, with their escapes, from a URL of its own kind.
    let at = if credentials.is_empty() { "" } else { "@" };
    let node = server(&format!("redis://{credentials}{at}localhost/{db}"), secrets)?;
    let node = node.redis_settings();
    let wrong = |e: redis::RedisError| OptionsError::url(&e, &Secrets::default());
    let addresses = hosts.split(',').map(sentinel_address).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let mut builder =
        SentinelClientBuilder::new(addresses, master, SentinelServerType::Master).map_err(wrong)?;
    builder = builder
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_db(node.db())
        .set_client_to_redis_tcp_settings(tcp_settings())
        .set_client_to_sentinel_tcp_settings(tcp_settings());
    if let Some(user) = node.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = node.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    for (key, value) in
        query.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| pair.split_once('='))
    {
        // The library parses these, too: as the user and the password of a URL.
        match key {
            "sentinel_user" => {
                let info = server(&format!("redis://{value}@localhost"), secrets)?;
                builder = builder
                    .set_client_to_sentinel_username(info.redis_settings().username().unwrap_or_default());
            }
            "sentinel_password" => {
                let info = server(&format!("redis://:{value}@localhost"), secrets)?;
                builder = builder
                    .set_client_to_sentinel_password(info.redis_settings().password().unwrap_or_default());
            }
            _ => return Err(OptionsError::Url(format!("unknown parameter {key}"))),
        }
    }
    builder.build().map(|client| Target::Sentinel(Box::new(client))).map_err(wrong)
}

/// Parses the part after `redis+cluster://`: each node gets the credentials of all.
fn cluster(scheme: &str, rest: &str, secrets: &mut Secrets) -> Result<Vec<ConnectionInfo>, OptionsError> {
    let wrong = |why: &str| Err(OptionsError::Url(why.to_owned()));
    let (credentials, hosts) = rest.rsplit_once('@').map_or(("", rest), |(c, rest)| (c, rest));
    let at = if credentials.is_empty() { "" } else { "@" };
    let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
    if hosts.contains('/') {
        return wrong("a cluster has no databases: redis+cluster://host:port[,host:port…]");
    }
    if hosts.contains(['?', '#']) {
        return wrong("redis+cluster:// takes no parameters; TLS is rediss+cluster://");
    }
    if hosts.split(',').any(str::is_empty) {
        return wrong("redis+cluster:// needs a node, or several: redis+cluster://host:port[,host:port…]");
    }
    hosts.split(',').map(|host| server(&format!("{scheme}://{credentials}{at}{host}"), secrets)).collect()
}

/// Parses `host`, `host:port`, `[address]` or `[address]:port`.
fn sentinel_address(host: &str) -> redis::RedisResult<ConnectionAddr> {
    let info = format!("redis://{host}").into_connection_info()?;
    let port_is_named =
        host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    Ok(match info.addr() {
        // The library fills in the port of a Redis server.
        ConnectionAddr::Tcp(name, _) if !port_is_named => ConnectionAddr::Tcp(name.clone(), SENTINEL_PORT),
        addr => addr.clone(),
    })
}

/// Small messages are sent at once (`TCP_NODELAY`).
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        Options::new(url).deployment().err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn every_kind_of_url_is_read_or_refused_with_its_reason() {
        for url in [
            "redis://localhost",
            "redis://u:p@localhost:1/2",
            "redis://[::1]:6379",
            "rediss://localhost",
            "redis+sentinel://a:1,b,[::1]:3/mymaster",
            "redis+cluster://localhost",
            "redis+cluster://u:p@a:1,b,[::1]:3/",
            "rediss+cluster://:p@a:1,b:2",
            "redis+sentinel://u:p@a/mymaster/3?sentinel_user=s&sentinel_password=t",
        ] {
            assert_eq!(error(url), "", "{url}");
        }
        for (url, part) in [
            ("redis+cluster://", "needs a node"),
            ("redis+cluster://a:1,,b:2", "needs a node"),
            ("redis+cluster://u:p@", "needs a node"),
            ("redis+cluster://a:1/3", "no databases"),
            ("redis+cluster://a:1?tls=true", "rediss+cluster://"),
            ("redis+cluster://a:x", "broker URL"),
            ("rediss+cluster://a:1#insecure", "takes no parameters"),
            ("redis+cluster:a:1", "expected redis://"),
            ("http://localhost", "expected redis://"),
            ("localhost:6379", "expected redis://"),
            ("redis://", "broker URL"),
            ("redis://localhost/x", "database number"),
            ("redis://localhost:99999", "broker URL"),
            ("rediss://localhost#insecure", "SSL_CERT_FILE"),
            ("redis+sentinel://a:1", "master's name"),
            ("redis+sentinel://a:1/", "master's name"),
            ("redis+sentinel://a:x/m", "broker URL"),
            ("redis+sentinel://a:1/m?colour=red", "unknown parameter colour"),
        ] {
            assert!(error(url).contains(part), "{url}: {}", error(url));
        }
    }

    #[test]
    fn no_error_and_no_debug_output_contains_a_password() {
        for url in [
            "redis://u:hunter2@localhost/x",
            "redis://u:hunter2@localhost:99999",
            "hunter2://localhost",
            "redis+sentinel://u:hunter2@a",
            "redis+sentinel://u:hunter2@a:x/m",
            "redis+cluster://u:hunter2@a:x",
            "redis+cluster://u:hunter2@a:1/x",
            "rediss+cluster://u:hunter2@a:1,b:99999",
            "redis+sentinel://a/m?sentinel_password=hunter2&x=1",
            "redis+sentinel://a/m?hunter2",
        ] {
            let options = Options::new(url);
            let error = options.deployment().map(|_| ()).map_err(|e| format!("{e} {e:?}"));
            assert!(!format!("{error:?} {options:?}").contains("hunter2"), "{url}: {error:?}");
        }
    }

    #[test]
    fn a_sentinel_has_a_default_port() {
        for (host, name, port) in [
            ("a", "a", 26379),
            ("a:1", "a", 1),
            ("10.0.0.1", "10.0.0.1", 26379),
            ("[::1]", "::1", 26379),
            ("[::1]:6379", "::1", 6379),
        ] {
            assert_eq!(sentinel_address(host).unwrap(), ConnectionAddr::Tcp(name.to_owned(), port), "{host}");
        }
    }

    #[test]
    fn a_prefix_must_be_a_valid_beginning_of_a_channel_name() {
        for (prefix, allowed) in [("", true), ("app:", true), ("a b", false), ("ü", false)] {
            let options = Options { prefix: prefix.to_owned(), ..Options::new("redis://localhost") };
            assert_eq!(options.deployment().is_ok(), allowed, "{prefix:?}");
        }
    }
}
