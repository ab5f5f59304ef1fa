//! Readiness: whether the server should receive new clients, as `/ready` reports it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::internal::InternalChannels;
use crate::lifecycle::Lifecycle;
use tidings_canary::Canary;
use tidings_metrics::{Collect, MetricWriter};
use tidings_topic_table::TopicTable;

/// How often readiness is compared with the last state in the log.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Whether the server should receive new clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The server is ready; the duration is the round trip of the last canary through the broker.
    Ready(Duration),
    /// The server is not ready, for this reason.
    NotReady(NotReady),
}

/// Why a server should not receive new clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// The failing part: `shutdown`, `broker` (the connection), `subscriptions`, `publish`, `publish_with_history`,
    /// `history` or `presence`.
    pub part: &'static str,
    /// The reason, for an operator.
    pub reason: String,
}

impl Collect for ReadinessCheck {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let ready = matches!(self.check(), Readiness::Ready(_));
        out.gauge("tidings_ready", None, "Whether /ready returns 200 (1) or 503 (0)", u64::from(ready))?;
        out.gauge(
            "tidings_broker_topics_refused",
            None,
            "Channels and patterns that the broker rejects although it should not, so that their subscribers miss publications",
            self.rejected_topics(),
        )
    }
}

/// Derives readiness from the parts of the server.
pub(crate) struct ReadinessCheck {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) topic_table: Arc<TopicTable>,
    pub(crate) internal: Arc<InternalChannels>,
    pub(crate) canary: Arc<Canary>,
}

impl ReadinessCheck {
    /// The readiness now.
    pub(crate) fn check(&self) -> Readiness {
        let not_ready = |part, reason| Readiness::NotReady(NotReady { part, reason });
        if self.lifecycle.is_stopping() {
            return not_ready("shutdown", "the server is stopping".to_owned());
        }
        if let Some(reason) = self.topic_table.down_reason() {
            return not_ready("broker", format!("broker unavailable: {reason}"));
        }
        let rejected = self.rejected_topics();
        if rejected > 0 {
            // The response is public, so only the log has the names.
            let reason =
                format!("the broker rejects {rejected} channels or patterns; the log has the reasons");
            return not_ready("subscriptions", reason);
        }
        match self.canary.status() {
            Ok(took) => Readiness::Ready(took),
            Err(failed) => not_ready(failed.operation.name(), failed.reason),
        }
    }

    /// Topics that the broker rejects although it should not: see [`tidings_topic_table::Topics::rejected`], and internal
    /// channels.
    pub(crate) fn rejected_topics(&self) -> usize {
        self.topic_table.read().rejected() + self.internal.rejected()
    }

    /// Logs every change of readiness; runs until the task is cancelled.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut last = None;
        loop {
            let readiness = self.check();
            let part = match &readiness {
                Readiness::Ready(_) => None,
                Readiness::NotReady(NotReady { part, .. }) => Some(*part),
            };
            if last != Some(part) {
                match &readiness {
                    Readiness::Ready(took) => {
                        tracing::info!(?took, "ready: everything in use works through the broker");
                    }
                    // At the start, not being ready is no change.
                    Readiness::NotReady(NotReady { reason, .. }) if last.is_none() => {
                        tracing::debug!(reason, "not ready yet");
                    }
                    Readiness::NotReady(NotReady { part, reason }) => {
                        tracing::warn!(part, reason, "not ready");
                    }
                }
                last = Some(part);
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }
}
