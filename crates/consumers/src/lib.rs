//! Consumers: commands of the server API that a backend leaves in a table of its own database, or in a stream of Redis.
//!
//! The backend inserts a row with a method and its parameters in the transaction that changes its data (an outbox). A consumer
//! reads the rows in order, runs each command, and deletes the row. So a publication is sent if and only if the
//! transaction of the backend is committed. Entries of a stream are read by a consumer group and acknowledged. Names of options,
//! columns and fields are those of Centrifugo ("Built-in API command async consumers" of its documentation).
//!
//! Invariants:
//! - The commands of one partition run one after the other, in the order of their ids, on one node of the deployment; those of a
//!   stream do so where one node has one worker.
//! - A row is deleted, and an entry is acknowledged, after its command has completed. A command that fails temporarily is repeated,
//!   and those behind it wait; one that can never succeed is logged and not read again.
//! - After a lost connection a row or an entry can be read twice. Its publication has an idempotency key, so that it is not sent
//!   twice within the time that the broker keeps such keys.
//! - At most [`MAX_BATCH`] bytes of rows are in memory for each partition, and at most [`MAX_PARAMS`] bytes of one row. Redis has no
//!   bound for the bytes of a reply: a worker reads at most 100 entries, and fewer after large ones.

mod backoff;
mod metrics;
mod postgresql;
mod redis_stream;
mod runner;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tidings_config::{Config, Consumer, ConsumerType};
use tidings_outbound::TlsError;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use metrics::ConsumerMetrics;
use metrics::Counters;

/// Most bytes of the parameters of one command.
pub const MAX_PARAMS: i64 = 16 << 20;
/// Most bytes of rows that a partition reads at a time, besides the first row.
pub const MAX_BATCH: i64 = 16 << 20;
/// Interval at which the numbers of waiting commands are read.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(5);

/// A command that a consumer has read.
#[derive(Debug)]
pub struct ConsumedCommand<'a> {
    /// The name of the consumer.
    pub consumer: &'a str,
    /// The method of the server API.
    pub method: &'a str,
    /// Its parameters in JSON.
    pub params: Bytes,
    /// The idempotency key for a publication that has none.
    pub idempotency_key: String,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command has completed.
    Done,
    /// The command can never succeed, with the reason.
    Refused(String),
    /// The command may succeed later, with the reason.
    Unavailable(String),
}

/// Runs commands.
pub trait CommandTarget: Send + Sync + 'static {
    /// Runs one command.
    fn run<'a>(&'a self, command: ConsumedCommand<'a>) -> BoxFuture<'a, Outcome>;
}

/// Why the consumers cannot be started.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The address of a database or of Redis cannot be used.
    #[error("{option}: {reason}")]
    Address {
        /// The option with the address.
        option: String,
        /// The reason, without secrets.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The consumers of a server, not started.
#[derive(Debug)]
pub struct Consumers {
    sources: Vec<Source>,
    counters: Arc<Counters>,
}

/// The source of one consumer.
#[derive(Debug)]
enum Source {
    Postgresql(Arc<postgresql::Source>),
    RedisStream(Arc<redis_stream::Source>),
}

impl Source {
    fn new(consumer: &Consumer) -> Result<Self, SetupError> {
        let (name, options) = (&consumer.name, &consumer.options);
        Ok(match options.r#type {
            ConsumerType::Postgresql => {
                Self::Postgresql(Arc::new(postgresql::Source::new(name, &options.postgresql)?))
            }
            ConsumerType::RedisStream => {
                Self::RedisStream(Arc::new(redis_stream::Source::new(name, &options.redis_stream)?))
            }
        })
    }
}

impl Consumers {
    /// The enabled consumers of a configuration.
    ///
    /// # Errors
    /// [`SetupError`] if an address cannot be used.
    pub fn from_config(config: &Config) -> Result<Self, SetupError> {
        let enabled = config.consumers.iter().filter(|consumer| consumer.options.enabled);
        let sources = enabled.map(Source::new).collect::<Result<Vec<_>, _>>()?;
        let backlogs = sources.iter().map(|source| match source {
            Source::Postgresql(source) => source.backlog(),
            Source::RedisStream(source) => source.backlog(),
        });
        let counters = Arc::new(Counters { backlogs: backlogs.collect(), ..Counters::default() });
        Ok(Self { sources, counters })
    }

    /// Their metrics.
    pub fn metrics(&self) -> ConsumerMetrics {
        ConsumerMetrics(Arc::clone(&self.counters))
    }

    /// Starts all of them. Call within a tokio runtime.
    pub fn start(self, target: &Arc<dyn CommandTarget>) -> RunningConsumers {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for source in self.sources {
            match source {
                Source::Postgresql(source) => source.start(target, &self.counters, &stopped, &mut tasks),
                Source::RedisStream(source) => source.start(target, &self.counters, &stopped, &mut tasks),
            }
        }
        RunningConsumers { stop, tasks }
    }
}

/// Consumers that run until they are stopped or dropped.
#[derive(Debug)]
pub struct RunningConsumers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl RunningConsumers {
    /// Stops them, each after its current command. Those that take longer than `limit` are cut off; their
    /// rows and entries are read again.
    pub async fn stop(mut self, limit: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limit, all).await;
        self.tasks.abort_all();
    }
}
