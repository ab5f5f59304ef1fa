//! URLs of Redis: one server, Sentinels, or the nodes of a cluster.

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisResult};
use thiserror::Error;

use crate::addr::Addr;
use crate::dial::{Dialer, Secrets, Target};

/// Default port of a Sentinel.
const SENTINEL_PORT: u16 = 26379;

/// The configuration of the first connection to a cluster.
pub struct Seeds {
    /// One entry for each configured node, with the credentials and the kind of connection that all nodes share.
    pub nodes: Vec<ConnectionInfo>,
    /// The texts that must not be logged.
    pub secrets: Secrets,
}

impl Seeds {
    /// Whether connections are encrypted.
    pub fn has_tls(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }))
    }

    /// A client for a node, with the credentials and the kind of connection of the first seed.
    ///
    /// # Errors
    /// An address that the library rejects.
    pub fn client(&self, addr: &Addr) -> RedisResult<Client> {
        let (host, port) = (addr.host.to_string(), addr.port);
        let seed = &self.nodes[0];
        let addr = match seed.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        Client::open(seed.clone().set_addr(addr))
    }
}

/// The kind of deployment.
pub enum Deployment {
    /// One server at a time.
    Server(Dialer),
    /// The nodes of a cluster.
    Cluster(Seeds),
}

impl Deployment {
    /// Parses a URL: `redis://[user:password@]host[:port][/db]`, the same with `rediss` for TLS (verified against the system's
    /// certificates, or those in the file that `SSL_CERT_FILE` names),
    /// `redis+sentinel://[user:password@]host[:port][,host[:port]…]/master[/db]`, where the credentials are those of
    /// the Redis servers (those of the Sentinels are `?sentinel_user=` and `?sentinel_password=`), or
    /// `redis+cluster://[user:password@]host[:port][,host[:port]…]`, with `rediss+cluster` for TLS, where each host is a
    /// node by which the others are found. A connection attempt takes at most `connect_timeout`.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn from_url(url: &str, connect_timeout: Duration) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let mut secrets = Secrets::default();
        let target = match scheme {
            "redis" | "rediss" => {
                let info = server(url, &mut secrets)?;
                let client = Client::open(info).map_err(|e| UrlError::new(&e, &secrets))?;
                Target::Server(Box::new(client))
            }
            "redis+sentinel" => sentinel(rest, &mut secrets)?,
            "redis+cluster" | "rediss+cluster" => {
                let nodes = cluster(&scheme[..scheme.len() - "+cluster".len()], rest, &mut secrets)?;
                return Ok(Self::Cluster(Seeds { nodes, secrets }));
            }
            _ => return Err(UrlError::Scheme),
        };
        Ok(Self::Server(Dialer::new(target, secrets, connect_timeout)))
    }
}

/// An error in a URL. The messages do not repeat the URL, which may contain a password.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    /// The URL is not that of a Redis.
    #[error("expected redis://, rediss://, redis+sentinel://, redis+cluster:// or rediss+cluster://")]
    Scheme,
    /// Another error.
    #[error("{0}")]
    Other(String),
}

impl UrlError {
    /// The error of the library, without secrets.
    pub fn new(error: &redis::RedisError, secrets: &Secrets) -> Self {
        let text = error.to_string();
        // The library appends its own kind of error, which does not help an operator.
        let words = text.split(" - ").next().unwrap_or(&text);
        Self::Other(secrets.masked(words))
    }
}

/// Parses the URL of one server, and collects its password.
fn server(url: &str, secrets: &mut Secrets) -> Result<ConnectionInfo, UrlError> {
    secrets.keep_from_url(url);
    let info = url.into_connection_info().map_err(|e| UrlError::new(&e, secrets))?;
    if let ConnectionAddr::TcpTls { insecure: true, .. } = info.addr() {
        let hint =
            "#insecure is not supported; name the file with your authority's certificate in SSL_CERT_FILE";
        return Err(UrlError::Other(hint.to_owned()));
    }
    let settings = info.redis_settings().clone();
    secrets.keep(settings.password());
    let settings =
        settings.set_protocol(ProtocolVersion::RESP3).set_lib_name("tidings", env!("CARGO_PKG_VERSION"));
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
}

/// Parses the part after `redis+sentinel://`.
fn sentinel(rest: &str, secrets: &mut Secrets) -> Result<Target, UrlError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (credentials, rest) = rest.rsplit_once('@').map_or(("", rest), |(c, rest)| (c, rest));
    let mut path = rest.split('/');
    let hosts = path.next().unwrap_or_default();
    let master = path.next().filter(|name| !name.is_empty()).ok_or_else(|| {
        UrlError::Other(
            "redis+sentinel:// needs the master's name: redis+sentinel://host:26379/mymaster".into(),
        )
    })?;
    let db = path.next().unwrap_or_default();

    // The library parses the credentials and the database, with their escapes, from a URL of its own kind.
    let at = if credentials.is_empty() { "" } else { "@" };
    let node = server(&format!("redis://{credentials}{at}localhost/{db}"), secrets)?;
    let node = node.redis_settings();
    let wrong = |e: redis::RedisError| UrlError::new(&e, &Secrets::default());
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
            _ => return Err(UrlError::Other(format!("unknown parameter {key}"))),
        }
    }
    builder.build().map(|client| Target::Sentinel(Box::new(client))).map_err(wrong)
}

/// Parses the part after `redis+cluster://`: each node gets the credentials of all.
fn cluster(scheme: &str, rest: &str, secrets: &mut Secrets) -> Result<Vec<ConnectionInfo>, UrlError> {
    let wrong = |why: &str| Err(UrlError::Other(why.to_owned()));
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
fn sentinel_address(host: &str) -> RedisResult<ConnectionAddr> {
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

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn error(url: &str) -> String {
        Deployment::from_url(url, TIMEOUT).err().map(|e| e.to_string()).unwrap_or_default()
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
            ("redis+cluster://a:x", "URL"),
            ("rediss+cluster://a:1#insecure", "takes no parameters"),
            ("redis+cluster:a:1", "expected redis://"),
            ("http://localhost", "expected redis://"),
            ("localhost:6379", "expected redis://"),
            ("redis://", "hostname"),
            ("redis://localhost/x", "database number"),
            ("redis://localhost:99999", "URL"),
            ("rediss://localhost#insecure", "SSL_CERT_FILE"),
            ("redis+sentinel://a:1", "master's name"),
            ("redis+sentinel://a:1/", "master's name"),
            ("redis+sentinel://a:x/m", "URL"),
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
            let error = Deployment::from_url(url, TIMEOUT).map(|_| ()).map_err(|e| format!("{e} {e:?}"));
            assert!(!format!("{error:?}").contains("hunter2"), "{url}: {error:?}");
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
}
