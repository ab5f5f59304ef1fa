//! Options of the Redis broker, and their validation before a connection is made.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tidings_redis_dial::url::{Deployment, UrlError};
use tidings_wire::channel::MAX_CHANNEL;

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
        Ok(Deployment::from_url(&self.url, self.connect_timeout)?)
    }
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
    /// The URL.
    #[error("broker URL: {0}")]
    Url(#[from] UrlError),
    /// The prefix cannot begin a channel name.
    #[error("prefix: must be printable ASCII without spaces, at most {MAX_CHANNEL} bytes")]
    Prefix,
    /// A duration that must not be zero.
    #[error("{0}: must be more than zero")]
    Zero(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_must_be_a_valid_beginning_of_a_channel_name() {
        for (prefix, allowed) in [("", true), ("app:", true), ("a b", false), ("ü", false)] {
            let options = Options { prefix: prefix.to_owned(), ..Options::new("redis://localhost") };
            assert_eq!(options.deployment().is_ok(), allowed, "{prefix:?}");
        }
    }
}
