//! The counters of spans.

use std::fmt;

use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};

labels! {
    /// What became of a span.
    pub(crate) enum SpanOutcome {
        /// The collector has accepted it.
        Exported => "exported",
        /// The collector has rejected it.
        Rejected => "rejected",
        /// The collector has not answered, or with an error.
        Failed => "failed",
        /// The queue was full.
        Dropped => "dropped",
    }
}

/// The spans by outcome.
#[derive(Debug, Default)]
pub(crate) struct SpanCounters(KeyedCounters<SpanOutcome>);

impl SpanCounters {
    pub(crate) fn add(&self, outcome: SpanOutcome, count: u64) {
        self.0.add_many(outcome, count);
    }
}

impl Collect for SpanCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_spans",
            "Spans of traces, by whether the collector has accepted them; a span is dropped when the queue is full",
            "outcome",
            self.0.iter(),
        )
    }
}
