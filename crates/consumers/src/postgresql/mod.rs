//! The outbox in a table of PostgreSQL: one task for each partition, and one that waits for notifications.
//!
//! ```sql
//! CREATE TABLE outbox (id BIGSERIAL PRIMARY KEY, method TEXT NOT NULL, payload JSONB NOT NULL, partition INTEGER NOT NULL DEFAULT 0);
//! ```

mod batch;
mod connection;
mod tls;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tidings_config::{PostgresqlOptions, SqlName};
use tidings_log_throttle::LogThrottle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::batch::{Batch, BatchEnd};
use self::connection::{Address, Failure};
use crate::backoff::Backoff;
use crate::metrics::{Counters, OpenConnection};
use crate::runner::{Backlog, Runner};
use crate::{BACKLOG_INTERVAL, CommandTarget, SetupError};

/// The parts that a task of a partition works with.
struct Work {
    source: Arc<Source>,
    target: Arc<dyn CommandTarget>,
    counters: Arc<Counters>,
    stopped: watch::Receiver<bool>,
}

/// One outbox.
#[derive(Debug)]
pub(crate) struct Source {
    runner: Runner,
    backlog: Arc<Backlog>,
    address: Address,
    table: SqlName,
    limit: i64,
    interval: Duration,
    notifications: Option<SqlName>,
    /// Wakes the task of each partition.
    wakers: Vec<Notify>,
    /// Limits log lines about lost connections.
    lost: LogThrottle,
}

impl Source {
    /// The outbox of a consumer.
    ///
    /// # Errors
    /// [`SetupError`] if the address of the database cannot be used.
    pub(crate) fn new(name: &str, options: &PostgresqlOptions) -> Result<Self, SetupError> {
        Ok(Self {
            runner: Runner::new(name),
            backlog: Arc::new(Backlog::new(options.num_partitions)),
            address: Address::new(name, options.dsn.expose())?,
            table: options.outbox_table_name.clone(),
            limit: i64::try_from(options.partition_select_limit).unwrap_or(i64::MAX),
            interval: options.partition_poll_interval,
            notifications: Some(options.partition_notification_channel.clone())
                .filter(|name| !name.is_empty()),
            wakers: (0..options.num_partitions).map(|_| Notify::new()).collect(),
            lost: LogThrottle::new(),
        })
    }

    /// The name of the consumer, and the number of its rows that wait.
    pub(crate) fn backlog(&self) -> (String, Arc<Backlog>) {
        (self.runner.name().to_owned(), Arc::clone(&self.backlog))
    }

    /// Starts its tasks.
    pub(crate) fn start(
        self: Arc<Self>,
        target: &Arc<dyn CommandTarget>,
        counters: &Arc<Counters>,
        stopped: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) {
        let work = || Work {
            source: Arc::clone(&self),
            target: Arc::clone(target),
            counters: Arc::clone(counters),
            stopped: stopped.clone(),
        };
        for partition in 0..self.wakers.len() {
            tasks.spawn(work().read_partition(partition));
        }
        if let Some(channel) = self.notifications.clone() {
            tasks.spawn(work().wait_for_notifications(channel));
        }
    }

    /// Wakes the partition with this number, or all of them if the text is no number of a partition.
    fn wake(&self, partition: &str) {
        match partition.parse().ok().and_then(|number: usize| self.wakers.get(number)) {
            Some(waker) => waker.notify_one(),
            None => self.wakers.iter().for_each(Notify::notify_one),
        }
    }
}

impl Work {
    /// Reads a partition until the consumer is stopped.
    async fn read_partition(mut self, partition: usize) {
        let mut backoff = Backoff::default();
        while !*self.stopped.borrow() {
            if let Err(failure) = self.read_over_one_connection(partition, &mut backoff).await {
                self.source.backlog.set(partition, None);
                self.wait_after_failure(&failure, &mut backoff).await;
            }
        }
    }

    /// Reads a partition until the connection is lost, or the consumer is stopped.
    async fn read_over_one_connection(
        &mut self,
        partition: usize,
        backoff: &mut Backoff,
    ) -> Result<(), Failure> {
        let mut stopped = self.stopped.clone();
        let client = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            client = self.source.address.connect(|_| {}) => client?,
        };
        let _open = OpenConnection::new(&self.counters);
        let batch = Batch { work: self, client: &client, partition };
        let mut attempts = Backoff::default();
        let mut backlog_at = Instant::now();
        loop {
            if Instant::now() >= backlog_at {
                backlog_at = Instant::now() + BACKLOG_INTERVAL;
                self.source.backlog.set(partition, Some(batch.backlog().await?));
            }
            let end = batch.run().await?;
            backoff.reset();
            let waker = self.source.wakers[partition].notified();
            let time = match end {
                BatchEnd::MoreRows => {
                    attempts.reset();
                    // Another task runs before the next batch.
                    tokio::task::yield_now().await;
                    if *self.stopped.borrow() {
                        return Ok(());
                    }
                    continue;
                }
                BatchEnd::NoMoreRows => {
                    attempts.reset();
                    self.source.interval
                }
                BatchEnd::Blocked => attempts.next(),
            };
            let is_blocked = end == BatchEnd::Blocked;
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
                () = waker, if !is_blocked => {}
                () = tokio::time::sleep(time) => {}
            }
        }
    }

    /// Waits for notifications about new rows until the consumer is stopped. Without them the rows are found at the next poll.
    async fn wait_for_notifications(mut self, channel: SqlName) {
        let mut backoff = Backoff::default();
        while !*self.stopped.borrow() {
            let mut stopped = self.stopped.clone();
            let source = Arc::clone(&self.source);
            let counters = Arc::clone(&self.counters);
            let listened = async {
                let (woken, ended) = (Arc::clone(&source), Arc::new(Notify::new()));
                let end = Arc::clone(&ended);
                let client = source.address.connect(move |event| match event {
                    Some(payload) => woken.wake(payload),
                    None => end.notify_one(),
                });
                let client = client.await?;
                let _open = OpenConnection::new(&counters);
                connection::within(client.batch_execute(&format!("LISTEN {channel}"))).await?;
                // Rows that were inserted before.
                source.wake("");
                backoff.reset();
                ended.notified().await;
                Err::<(), _>(Failure::Closed)
            };
            let failure = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                result = listened => result.err(),
            };
            if let Some(failure) = failure {
                self.wait_after_failure(&failure, &mut backoff).await;
            }
        }
    }

    /// Counts and logs a lost connection, and waits until the next one may be opened.
    async fn wait_after_failure(&mut self, failure: &Failure, backoff: &mut Backoff) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let time = backoff.next();
        if let Some(count) = self.source.lost.count() {
            tracing::warn!(
                consumer = self.source.runner.name(),
                error = %failure,
                count,
                "a consumer cannot read its table; it tries again"
            );
        }
        let stopped = self.stopped.wait_for(|stopped| *stopped).map(|_| ());
        let _ = tokio::time::timeout(time, stopped).await;
    }
}
