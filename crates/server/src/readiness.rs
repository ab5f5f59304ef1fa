//! Readiness: whether the server should receive new clients, as `/ready` reports it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::canary::Canary;
use crate::interest::Interests;
use crate::internal::InternalChannels;
use crate::lifecycle::Lifecycle;
use tidings_metrics::{Collect, MetricWriter};

/// How often readiness is compared with the last state in the log.
const WATCH: Duration = Duration::from_millis(100);

/// Whether the server should receive new clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It should; the duration is the round trip of the last canary through the broker.
    Ready(Duration),
    /// It should not, for this reason.
    NotReady(NotReady),
}

/// Why a server should not receive new clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// What does not work: `shutdown`, `broker` (the connection), `subscriptions`, `publish`, `publish_with_history`,
    /// `history` or `presence`.
    pub part: &'static str,
    /// The reason, for an operator.
    pub reason: String,
}

impl Collect for ReadinessCheck {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let ready = matches!(self.check(), Readiness::Ready(_));
        out.gauge("tidings_ready", None, "Whether /ready says 200 (1) or 503 (0)", u64::from(ready))?;
        out.gauge(
            "tidings_broker_topics_refused",
            None,
            "Channels and patterns that the broker does not subscribe although it should, so that their subscribers miss publications",
            self.refused_topics(),
        )
    }
}

/// What readiness is derived from.
pub(crate) struct ReadinessCheck {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) interests: Arc<Interests>,
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
        if let Some(reason) = self.interests.down_reason() {
            return not_ready("broker", format!("broker unavailable: {reason}"));
        }
        let refused = self.refused_topics();
        if refused > 0 {
            // The response is public, so the names are in the log alone.
            let reason =
                format!("the broker refuses to subscribe {refused} channels or patterns; the log says why");
            return not_ready("subscriptions", reason);
        }
        match self.canary.verdict() {
            Ok(took) => Readiness::Ready(took),
            Err(failing) => not_ready(failing.part.name(), failing.reason),
        }
    }

    /// Topics that the broker should have subscribed and refuses: see [`crate::interest::Table::refused`], and internal
    /// channels.
    pub(crate) fn refused_topics(&self) -> usize {
        self.interests.read().refused() + self.internal.refused()
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
            tokio::time::sleep(WATCH).await;
        }
    }
}
