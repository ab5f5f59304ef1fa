//! The metrics of consumers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

use crate::runner::Backlog;

labels! {
    /// The result of a command.
    pub(crate) enum CommandOutcome {
        /// It has completed.
        Done => "done",
        /// It can never succeed.
        Refused => "refused",
        /// It is repeated.
        Retried => "retried",
    }
}

/// The counters of all consumers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commands: KeyedCounters<CommandOutcome>,
    pub(crate) failures: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// The commands that wait, by the names of consumers.
    pub(crate) backlogs: Vec<(String, Arc<Backlog>)>,
}

/// Reports the counters of all consumers.
#[derive(Debug)]
pub struct ConsumerMetrics(pub(crate) Arc<Counters>);

impl Collect for ConsumerMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let counters = &self.0;
        out.counters(
            "tidings_consumer_commands",
            "Commands that consumers have read, by outcome; a command that fails temporarily counts as retried at each attempt",
            "outcome",
            counters.commands.iter(),
        )?;
        out.counter(
            "tidings_consumer_failures",
            None,
            "Connections of consumers that could not be opened or were lost",
            counters.failures.load(Ordering::Relaxed),
        )?;
        out.gauge(
            "tidings_consumer_connections",
            None,
            "Open connections of consumers to databases and Redis",
            counters.connections.load(Ordering::Relaxed),
        )?;
        let known = || counters.backlogs.iter().filter_map(|(name, backlog)| Some((name, backlog.total()?)));
        // A parser may reject a metric without samples.
        if known().next().is_none() {
            return Ok(());
        }
        out.gauges(
            "tidings_consumer_backlog",
            "Commands that wait in the source of a consumer, where the source knows their number",
            "consumer",
            known(),
        )
    }
}

/// Counts an open connection until it is dropped.
pub(crate) struct OpenConnection(Arc<Counters>);

impl OpenConnection {
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
