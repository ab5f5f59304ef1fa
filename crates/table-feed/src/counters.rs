//! What happens to publications, counted and logged.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_log_throttle::LogThrottle;
use tidings_metrics::{Collect, KeyedCounters, Label, MetricWriter, labels};

use crate::Feed;

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

/// The limits of the log lines of one channel: one for each reason, so that a frequent one does not hide another one.
#[derive(Debug, Default)]
pub(crate) struct FeedLines {
    /// By [`Label::index`].
    outcomes: [LogThrottle; Outcome::ALL.len()],
    retries: LogThrottle,
    histories: LogThrottle,
}

/// Counters of all channels.
#[derive(Debug, Default)]
pub(crate) struct FeedCounters {
    outcomes: KeyedCounters<Outcome>,
    retries: AtomicU64,
    history_failures: AtomicU64,
}

impl FeedCounters {
    /// Counts publications.
    pub(crate) fn add(&self, outcome: Outcome, publications: u64) {
        self.outcomes.add_many(outcome, publications);
    }

    /// Counts publications that do not reach the table, and logs one of them from time to time.
    pub(crate) fn skip(&self, feed: &Feed, outcome: Outcome, publications: u64, reason: &str) {
        if publications == 0 {
            return;
        }
        self.add(outcome, publications);
        if let Some(times) = feed.lines.outcomes[outcome.index()].count() {
            tracing::warn!(
                channel = feed.channel.as_str(),
                publications,
                times,
                "publications do not reach the table of their channel: {reason}"
            );
        }
    }

    /// Counts a failed attempt to read a history, and logs one from time to time.
    pub(crate) fn count_history_failure(&self, feed: &Feed) {
        self.history_failures.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = feed.lines.histories.count() {
            tracing::warn!(
                channel = feed.channel.as_str(),
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
    pub(crate) fn count_retry(&self, feed: &Feed, reason: &str) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = feed.lines.retries.count() {
            let channel = feed.channel.as_str();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequent_reason_does_not_hide_another_one_or_that_of_another_channel() {
        let [a, b] = [FeedLines::default(), FeedLines::default()];
        let line = |lines: &FeedLines, outcome: Outcome| lines.outcomes[outcome.index()].count();
        assert_eq!((line(&a, Outcome::Full), line(&a, Outcome::Full)), (Some(1), None));
        assert_eq!((line(&a, Outcome::Refused), line(&b, Outcome::Full)), (Some(1), Some(1)));
    }
}
