//! Metrics of webhooks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_metrics::{BYTES, Collect, KeyedCounters, MetricWriter, labels};

use crate::Webhooks;

labels! {
    /// What became of an event for one receiver.
    pub(crate) enum EventOutcome {
        /// The receiver has accepted it.
        Delivered => "delivered",
        /// The receiver has not accepted it in time.
        Expired => "expired",
        /// The queue was full.
        Dropped => "dropped",
    }
}

/// The counters of all receivers.
#[derive(Debug, Default)]
pub(crate) struct WebhookCounters {
    pub(crate) events: KeyedCounters<EventOutcome>,
    pub(crate) failed_requests: AtomicU64,
    /// Observations of all nodes that failed, or were not complete.
    pub(crate) failed_observations: AtomicU64,
}

/// Reports the metrics of webhooks.
pub struct WebhookMetrics(pub Arc<Webhooks>);

impl Collect for WebhookMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let counters = self.0.counters();
        out.counters(
            "tidings_webhook_events",
            "Events for receivers of webhooks, by outcome; an event is dropped when the queue is full, and expires when no \
             request succeeds within webhooks.retry_for",
            "outcome",
            counters.events.iter(),
        )?;
        out.counter(
            "tidings_webhook_requests_failed",
            None,
            "Requests of webhooks that failed, and are repeated",
            counters.failed_requests.load(Ordering::Relaxed),
        )?;
        out.counter(
            "tidings_webhook_observations_failed",
            None,
            "Observations of the channels of all nodes that failed; the next one finds their changes, too",
            counters.failed_observations.load(Ordering::Relaxed),
        )?;
        out.gauge(
            "tidings_webhook_queue",
            BYTES,
            "Bytes of events that wait for receivers of webhooks",
            self.0.queued_bytes(),
        )
    }
}
