//! How a connection is made, and when the next attempt may be.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::sentinel::SentinelClient;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use rustls::crypto::{CryptoProvider, ring};

use crate::lock;

/// The first ceiling of the pause between two attempts.
const BASE: Duration = Duration::from_millis(50);
/// The last one: well within the time after which a server is not ready any more (`ready.canary_limit`), so that a Redis
/// that is back is used before its users notice.
const CAP: Duration = Duration::from_secs(2);
/// A connection that stood at least this long makes the next attempts begin anew.
const STOOD: Duration = Duration::from_secs(1);

/// Makes connections to one Redis.
pub(super) struct Dialer {
    target: Target,
    secrets: Secrets,
    timeout: Duration,
}

/// What to connect to.
pub(super) enum Target {
    /// A server of which the address is known.
    Server(Box<Client>),
    /// The master that Sentinels name at the time.
    Sentinel(Box<SentinelClient>),
    /// One primary of a cluster.
    Member(Box<Client>),
    /// Any node of a cluster: another one for each attempt, in no order.
    Any(Nodes),
}

/// The nodes of a cluster that are known; never none.
pub(super) type Nodes = Arc<Mutex<Vec<Client>>>;

impl Dialer {
    pub(super) fn new(target: Target, secrets: Secrets, timeout: Duration) -> Self {
        // TLS needs one cryptography provider per process; whoever came first has chosen it.
        if CryptoProvider::get_default().is_none() {
            let _ = ring::default_provider().install_default();
        }
        Self { target, secrets, timeout }
    }

    /// Makes a connection that Redis lists under `name`. Its pushes go to `pushes`, the news that it is lost among
    /// them; it is closed when its last clone is dropped. Its commands have no time limit of their own.
    ///
    /// # Errors
    /// Why there is none, in words without a secret.
    pub(super) async fn open(
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
                        let nodes = lock(nodes);
                        nodes[fastrand::usize(..nodes.len())].clone()
                    };
                    client.get_multiplexed_async_connection_with_config(&config).await?
                }
                Target::Server(client) | Target::Member(client) => {
                    client.get_multiplexed_async_connection_with_config(&config).await?
                }
                Target::Sentinel(client) => client.get_async_connection_with_config(&config).await?,
            };
            let named: RedisResult<()> =
                redis::cmd("CLIENT").arg("SETNAME").arg(name).query_async(&mut connection).await;
            match named {
                // A name helps whoever looks at CLIENT LIST; a user that may not set it needs none.
                Err(e) if is_refusal(&e) => {
                    tracing::debug!("redis: the connection stays without a name: {}", self.secrets.words(&e));
                }
                other => other?,
            }
            Ok(connection)
        };
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(e)) => Err(self.secrets.words(&e)),
            Err(_) => Err(format!("no connection within {:?}", self.timeout)),
        }
    }

    /// Who is meant, for the log.
    pub(super) fn whom(&self) -> String {
        match &self.target {
            Target::Server(_) | Target::Sentinel(_) => "redis".to_owned(),
            Target::Member(client) => format!("redis {}", client.get_connection_info().addr()),
            Target::Any(_) => "redis, plain messages".to_owned(),
        }
    }

    /// What an error says, in Redis' own words where it has some, without a secret.
    pub(super) fn words(&self, error: &RedisError) -> String {
        self.secrets.words(error)
    }
}

/// Whether Redis has understood and said no, so that the connection is as good as before.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    use redis::ErrorKind::{Extension, Server};
    matches!(error.kind(), Server(_) | Extension)
}

/// What must not be shown.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Keeps a password as it is.
    pub(super) fn keep(&mut self, password: Option<&str>) {
        self.0.extend(password.filter(|p| !p.is_empty()).map(ToOwned::to_owned));
    }

    /// Keeps the password of a URL as it is written there.
    pub(super) fn keep_from_url(&mut self, url: &str) {
        let credentials = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        self.keep(credentials.and_then(|(credentials, _)| credentials.split_once(':')).map(|(_, p)| p));
    }

    /// What an error says, masked.
    fn words(&self, error: &RedisError) -> String {
        self.masked(&match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        })
    }

    /// The text with stars in place of every secret.
    pub(super) fn masked(&self, text: &str) -> String {
        // Redis repeats the arguments of a command that it does not know, AUTH and HELLO not excepted.
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// Pauses with full jitter: a random part of a ceiling that doubles with every failure, so that the nodes of a
/// deployment do not come back in one step. (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>)
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Takes note that a connection stood for so long.
    pub(super) fn stood(&mut self, how_long: Duration) {
        if how_long >= STOOD {
            self.failures = 0;
        }
    }

    /// How long to pause before the next attempt.
    pub(super) fn pause(&mut self) -> Duration {
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
    fn pauses_grow_to_their_cap_and_begin_anew_after_a_connection_that_stood() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> = (0..9).map(|_| backoff.ceiling().as_millis()).collect();
        assert_eq!(ceilings, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        backoff.stood(STOOD / 2);
        assert_eq!(backoff.ceiling(), CAP);
        backoff.stood(STOOD);
        assert_eq!(backoff.ceiling(), BASE);
    }

    #[test]
    fn pauses_are_spread_over_all_of_their_ceiling() {
        let mut backoff = Backoff { failures: 16 };
        let pauses: Vec<_> = (0..1_000).map(|_| backoff.pause()).collect();
        for fifth in 0..5 {
            let part = CAP / 5 * fifth..CAP / 5 * (fifth + 1);
            assert!(pauses.iter().any(|pause| part.contains(pause)), "none in {part:?}");
        }
        assert!(pauses.iter().all(|pause| *pause <= CAP));
    }

    #[test]
    fn secrets_are_masked_as_written_and_as_meant() {
        let mut secrets = Secrets::default();
        secrets.keep_from_url("redis://user:p%40ss@host:1/0");
        secrets.keep(Some("p@ss"));
        assert_eq!(
            secrets.masked("ERR unknown 'AUTH' 'user' 'p@ss' p%40ss"),
            "ERR unknown 'AUTH' 'user' '***' ***"
        );
    }
}
