//! What happens to publications, counted and logged.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_log_throttle::LogThrottle;
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

labels! {
    /// The outcome of a publication.
    pub(crate) enum Outcome {
        /// It was written to the table.
        Written => "written",
        /// A newer object with the same key was written in its place.
        Replaced => "replaced",
        /// It is no JSON object.
        NoObject => "no_object",
        /// It has not all members of the key.
        NoKey => "no_key",
        /// The table has its most rows, and no row with this key.
        Full => "full",
        /// The queue was full.
        Overflow => "overflow",
        /// The table did not accept it.
        Refused => "refused",
    }
}

/// Counters and throttled log lines of all channels.
#[derive(Debug, Default)]
pub(crate) struct FeedCounters {
    outcomes: KeyedCounters<Outcome>,
    lines: LogThrottle,
    retries: AtomicU64,
    retry_lines: LogThrottle,
    history_failures: AtomicU64,
    history_lines: LogThrottle,
}

impl FeedCounters {
    /// Counts publications.
    pub(crate) fn add(&self, outcome: Outcome, publications: u64) {
        self.outcomes.add_many(outcome, publications);
    }

    /// Counts publications that do not reach the table, and logs one of them from time to time.
    pub(crate) fn skip(&self, channel: &str, outcome: Outcome, publications: u64, reason: &str) {
        if publications == 0 {
            return;
        }
        self.add(outcome, publications);
        if let Some(times) = self.lines.count() {
            tracing::warn!(
                channel,
                publications,
                times,
                "publications do not reach the table of their channel: {reason}"
            );
        }
    }

    /// Counts a failed attempt to read a history, and logs one from time to time.
    pub(crate) fn count_history_failure(&self, channel: &str) {
        self.history_failures.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = self.history_lines.count() {
            tracing::warn!(
                channel,
                times,
                "the history of a channel cannot be read now, and its table may lack rows; trying again"
            );
        }
    }

    /// The failed attempts to read histories.
    pub(crate) fn history_failures(&self) -> u64 {
        self.history_failures.load(Ordering::Relaxed)
    }

    /// Counts an attempt that failed because a table cannot be used now, and logs one from time to time.
    pub(crate) fn count_retry(&self, channel: &str, reason: &str) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = self.retry_lines.count() {
            tracing::warn!(channel, reason, times, "the table of a channel cannot be used now; trying again");
        }
    }
}

impl Collect for FeedCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_table_feed_publications",
            "Publications in the channels of tables (tables.from_channel), by outcome",
            "outcome",
            self.outcomes.iter(),
        )?;
        out.counter(
            "tidings_table_feed_history_failures",
            None,
            "Failed attempts to read the history of a channel of a table",
            self.history_failures(),
        )?;
        out.counter(
            "tidings_table_feed_retries",
            None,
            "Attempts to open or write the table of a channel that failed and are repeated",
            self.retries.load(Ordering::Relaxed),
        )
    }
}
