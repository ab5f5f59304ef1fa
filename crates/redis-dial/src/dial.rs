//! Connections: how one is made, and the pause before the next attempt.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::sentinel::SentinelClient;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use rustls::crypto::{CryptoProvider, ring};

/// The first upper limit of the pause between two attempts.
const BASE: Duration = Duration::from_millis(50);
/// The largest upper limit: well below the time after which a server is not ready any more (`ready.canary_limit`), so
/// that a Redis that returns is used before clients notice.
const CAP: Duration = Duration::from_secs(2);
/// After a connection of at least this duration, the pauses start from the shortest again.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Makes connections to one Redis.
pub struct Dialer {
    target: Target,
    secrets: Secrets,
    timeout: Duration,
}

/// The destination of connections.
pub enum Target {
    /// A server with a known address.
    Server(Box<Client>),
    /// The current master according to the Sentinels.
    Sentinel(Box<SentinelClient>),
    /// One primary of a cluster.
    Primary(Box<Client>),
    /// Any node of a cluster: a random one for each attempt.
    Any(Nodes),
}

/// The known nodes of a cluster; never empty.
pub type Nodes = Arc<Mutex<Vec<Client>>>;

impl Dialer {
    /// Connections to `target`, each of which is made within `timeout`.
    pub fn new(target: Target, secrets: Secrets, timeout: Duration) -> Self {
        // rustls has one cryptography provider per process; the first crate to install one decides.
        if CryptoProvider::get_default().is_none() {
            let _ = ring::default_provider().install_default();
        }
        Self { target, secrets, timeout }
    }

    /// Makes a connection that Redis lists under `name`. Its pushes go to `pushes`, which also reports the loss of the
    /// connection. The connection closes when its last clone is dropped. Its commands have no time limit.
    ///
    /// # Errors
    /// The reason, without a secret.
    pub async fn open(
        &mut self,
        name: &str,
        pushes: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(pushes);
        let attempt = async {
            let mut connection = match &mut self.target {
                Target::Any(nodes) => {
                    let client = {
                        let nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
                        nodes[fastrand::usize(..nodes.len())].clone()
                    };
                    client.get_multiplexed_async_connection_with_config(&config).await?
                }
                Target::Server(client) | Target::Primary(client) => {
                    client.get_multiplexed_async_connection_with_config(&config).await?
                }
                Target::Sentinel(client) => client.get_async_connection_with_config(&config).await?,
            };
            let named: RedisResult<()> =
                redis::cmd("CLIENT").arg("SETNAME").arg(name).query_async(&mut connection).await;
            match named {
                // The name is for readers of CLIENT LIST; without permission to set it, the connection works as well.
                Err(e) if is_refusal(&e) => {
                    tracing::debug!(
                        "redis: the connection stays without a name: {}",
                        self.secrets.describe(&e)
                    );
                }
                other => other?,
            }
            Ok(connection)
        };
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(e)) => Err(self.secrets.describe(&e)),
            Err(_) => Err(format!("no connection within {:?}", self.timeout)),
        }
    }

    /// The destination, for the log.
    pub fn target_name(&self) -> String {
        match &self.target {
            Target::Server(_) | Target::Sentinel(_) => "redis".to_owned(),
            Target::Primary(client) => format!("redis {}", client.get_connection_info().addr()),
            Target::Any(_) => "redis, plain messages".to_owned(),
        }
    }

    /// The message of an error, in Redis' own words where available, without secrets.
    pub fn describe(&self, error: &RedisError) -> String {
        self.secrets.describe(error)
    }
}

/// Whether Redis has refused the command, so that the connection is still usable.
pub fn is_refusal(error: &RedisError) -> bool {
    use redis::ErrorKind::{Extension, Server};
    matches!(error.kind(), Server(_) | Extension)
}

/// Texts that must not be logged.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Adds a password.
    pub fn keep(&mut self, password: Option<&str>) {
        self.0.extend(password.filter(|p| !p.is_empty()).map(ToOwned::to_owned));
    }

    /// Adds the password of a URL, as it is written there.
    pub fn keep_from_url(&mut self, url: &str) {
        let credentials = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        self.keep(credentials.and_then(|(credentials, _)| credentials.split_once(':')).map(|(_, p)| p));
    }

    /// The message of an error, masked.
    pub fn describe(&self, error: &RedisError) -> String {
        self.masked(&match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        })
    }

    /// Replaces every secret in a text by stars.
    pub fn masked(&self, text: &str) -> String {
        // Redis repeats the arguments of unknown commands in its errors, even those of AUTH and HELLO.
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// Pauses with full jitter: a random part of an upper limit that doubles with every failure, so that the nodes of a
/// deployment do not reconnect at the same time.
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>)
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Records the duration of a connection.
    pub fn record_uptime(&mut self, how_long: Duration) {
        if how_long >= STABLE_AFTER {
            self.failures = 0;
        }
    }

    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        self.ceiling().mul_f64(fastrand::f64())
    }

    fn ceiling(&mut self) -> Duration {
        let ceiling = BASE.saturating_mul(1 << self.failures.min(16)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_cap_and_restart_after_a_stable_connection() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> = (0..9).map(|_| backoff.ceiling().as_millis()).collect();
        assert_eq!(ceilings, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        backoff.record_uptime(STABLE_AFTER / 2);
        assert_eq!(backoff.ceiling(), CAP);
        backoff.record_uptime(STABLE_AFTER);
        assert_eq!(backoff.ceiling(), BASE);
    }

    #[test]
    fn pauses_are_spread_up_to_their_upper_limit() {
        let mut backoff = Backoff { failures: 16 };
        let pauses: Vec<_> = (0..1_000).map(|_| backoff.pause()).collect();
        for fifth in 0..5 {
            let part = CAP / 5 * fifth..CAP / 5 * (fifth + 1);
            assert!(pauses.iter().any(|pause| part.contains(pause)), "none in {part:?}");
        }
        assert!(pauses.iter().all(|pause| *pause <= CAP));
    }

    #[test]
    fn secrets_are_masked_encoded_and_decoded() {
        let mut secrets = Secrets::default();
        secrets.keep_from_url("redis://user:p%40ss@host:1/0");
        secrets.keep(Some("p@ss"));
        assert_eq!(
            secrets.masked("ERR unknown 'AUTH' 'user' 'p@ss' p%40ss"),
            "ERR unknown 'AUTH' 'user' '***' ***"
        );
    }
}
