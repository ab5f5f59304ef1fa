//! Addresses of the nodes of a cluster.

use std::fmt;
use std::sync::Arc;

/// The address of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addr {
    /// The host.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

impl Addr {
    /// The address of these.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Parses `host:port`. The host may be an IPv6 address without brackets, or empty: then it is `from`, the host of
    /// the node that responded.
    pub fn read(text: &str, from: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { from } else { host };
        Some(Self::new(host, port.parse().ok()?))
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
