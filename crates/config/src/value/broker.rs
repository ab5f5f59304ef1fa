//! The URL of the broker.

use std::fmt;

use tidings_auth::Secret;

use crate::raw::Raw;
use crate::setting::{Setting, quoted};

/// The broker that carries publications. Displays without the password of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerUrl {
    /// Inside this process.
    Memory,
    /// A Redis server, Sentinel or Cluster, by its URL: one of the schemes `redis`, `rediss`, `redis+sentinel`,
    /// `redis+cluster` and `rediss+cluster`. Secret, because it may contain a password.
    Redis(Secret),
}

/// The schemes of a Redis URL.
const SCHEMES: [&str; 5] = ["redis", "rediss", "redis+sentinel", "redis+cluster", "rediss+cluster"];

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Redis(url) = self else { return f.write_str("memory") };
        let (scheme, rest) = url.expose().split_once("://").unwrap_or(("redis", ""));
        // The text before the last @ may contain the password, and so may a query.
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
    const IS_SECRET: bool = true;

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
                // Only the scheme is repeated: the rest may contain a password.
                Some((scheme, _)) => wrong(&format!("the scheme \"{}\"", crate::raw::shown(scheme))),
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
