//! Consumers: commands of the server API that a backend leaves in a table of its own database.
//!
//! The backend inserts a row with a method and its parameters in the transaction that changes its data (an outbox). A consumer
//! reads the rows in order, runs each command, and deletes the row. So a publication is sent if and only if the
//! transaction of the backend is committed. Names of options and columns are those of Centrifugo ("Built-in API command async
//! consumers" of its documentation).
//!
//! Invariants:
//! - The commands of one partition run one after the other, in the order of their ids, on one node of the deployment.
//! - A row is deleted after its command has completed. A command that fails for a time is repeated, and the rows behind it wait; one
//!   that can never succeed is logged and deleted.
//! - After a lost connection a row can be read twice. Its publication has an idempotency key, so that it is not sent twice
//!   within the time that the broker keeps such keys.
//! - At most [`MAX_BATCH`] bytes of rows are in memory for each partition, and at most [`MAX_PARAMS`] bytes of one row.

mod backoff;
mod metrics;
mod postgresql;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tidings_config::Config;
use tidings_outbound::TlsError;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use metrics::ConsumerMetrics;
use metrics::Counters;
use postgresql::Source;

/// Most bytes of the parameters of one command.
pub const MAX_PARAMS: i64 = 16 << 20;
/// Most bytes of rows that a partition reads at a time, besides the first row.
pub const MAX_BATCH: i64 = 16 << 20;

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
    /// The address of a database cannot be used.
    #[error("consumers.{consumer}.postgresql.dsn: {reason}")]
    Address {
        /// The name of the consumer.
        consumer: String,
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
    sources: Vec<Arc<Source>>,
    counters: Arc<Counters>,
}

impl Consumers {
    /// The enabled consumers of a configuration.
    ///
    /// # Errors
    /// [`SetupError`] if an address cannot be used.
    pub fn from_config(config: &Config) -> Result<Self, SetupError> {
        let enabled = config.consumers.iter().filter(|consumer| consumer.options.enabled);
        let sources =
            enabled.map(|consumer| Source::new(&consumer.name, &consumer.options.postgresql).map(Arc::new));
        Ok(Self { sources: sources.collect::<Result<_, _>>()?, counters: Arc::default() })
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
            source.start(target, &self.counters, &stopped, &mut tasks);
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
    /// Stops them, each after its current command. Those that take longer than `limit` are cut off; the database then offers their
    /// rows again.
    pub async fn stop(mut self, limit: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limit, all).await;
        self.tasks.abort_all();
    }
}
