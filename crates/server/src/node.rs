//! One server as the rest of the control plane sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidings_shard::{Mailbox, Metrics, Process};

use crate::config::Config;
use crate::http::upgrade::Gate;
use crate::router::Router;
use crate::tls::Tls;

/// What HTTP handlers and metrics look at. Everything in it is shared and cheap to read.
pub struct Node {
    /// The configuration it was started with.
    pub config: Config,
    /// When it was started.
    pub began: Instant,
    /// Each shard's numbers.
    pub shards: Vec<Arc<Metrics>>,
    /// What all shards share.
    pub process: Arc<Process>,
    /// Its listeners as users are told of them, see [`crate::Server::announcements`].
    pub(crate) announcements: Vec<String>,
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
    pub(crate) router: Arc<Router>,
    /// What the hooks count.
    pub(crate) hooks: Arc<crate::proxy::Counters>,
    /// Decides about clients where that takes more than the options of channels.
    pub(crate) decisions: Option<crate::authority::Decisions>,
    pub(crate) api: crate::api::Counters,
    pub(crate) redis: Option<Arc<tidings_broker::redis::Redis>>,
    pub(crate) memory: Option<Arc<tidings_broker::memory::Memory>>,
    pub(crate) gate: Gate,
    /// What does TLS handshakes, if there is TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// The server is about to stop and still serves everything; only `/ready` is 503.
    pub(crate) lame_duck: AtomicBool,
    /// The server is stopping and takes no more clients.
    pub(crate) draining: AtomicBool,
}

/// Whether the server should be sent clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes; so long took the last canary through the broker.
    Ready(Duration),
    /// No, for this reason.
    NotReady(NotReady),
}

/// Why a server should not be sent clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// What does not work: `shutdown`, `broker` (the connection), `subscriptions`, `publish`, `publish_with_history`,
    /// `history` or `presence`.
    pub part: &'static str,
    /// In words for an operator.
    pub reason: String,
}

impl Node {
    /// Whether the server should be sent clients.
    pub fn readiness(&self) -> Readiness {
        let not_ready = |part, reason| Readiness::NotReady(NotReady { part, reason });
        if self.lame_duck.load(Ordering::Relaxed) || self.draining.load(Ordering::Relaxed) {
            return not_ready("shutdown", "the server is stopping".to_owned());
        }
        if let Some(reason) = self.router.down_reason() {
            return not_ready("broker", format!("broker unavailable: {reason}"));
        }
        let refused = self.router.refused_topics();
        if refused > 0 {
            // Their names are in the log: this is read by anybody.
            let reason =
                format!("the broker refuses to subscribe {refused} channels or patterns; the log says why");
            return not_ready("subscriptions", reason);
        }
        match self.router.canary().verdict() {
            Ok(took) => Readiness::Ready(took),
            Err(failing) => not_ready(failing.part.name(), failing.reason),
        }
    }
}

/// How often the log is told of changes.
const WATCH: Duration = Duration::from_millis(100);

/// Logs every change of a server's readiness, for ever.
pub(crate) async fn watch_readiness(node: Arc<Node>) {
    let mut last = None;
    loop {
        let readiness = node.readiness();
        let part = match &readiness {
            Readiness::Ready(_) => None,
            Readiness::NotReady(NotReady { part, .. }) => Some(*part),
        };
        if last != Some(part) {
            match &readiness {
                Readiness::Ready(took) => {
                    tracing::info!(?took, "ready: everything in use works through the broker");
                }
                // What has not begun yet is no change.
                Readiness::NotReady(NotReady { reason, .. }) if last.is_none() => {
                    tracing::debug!(reason, "not ready yet");
                }
                Readiness::NotReady(NotReady { part, reason }) => tracing::warn!(part, reason, "not ready"),
            }
            last = Some(part);
        }
        tokio::time::sleep(WATCH).await;
    }
}
