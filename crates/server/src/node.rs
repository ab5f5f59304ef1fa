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
    pub(crate) api: crate::api::Counters,
    pub(crate) redis: Option<Arc<tidings_broker::redis::Redis>>,
    pub(crate) gate: Gate,
    /// What does TLS handshakes, if there is TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) draining: AtomicBool,
}

/// Whether the server should be sent clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes; so long took the last canary through the broker.
    Ready(Duration),
    /// No, for this reason.
    NotReady(String),
}

impl Node {
    /// Whether the server should be sent clients.
    pub fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Relaxed) {
            return Readiness::NotReady("the server is stopping".into());
        }
        if let Some(reason) = self.router.down_reason() {
            return Readiness::NotReady(format!("broker unavailable: {reason}"));
        }
        match self.router.canary().verdict() {
            Ok(took) => Readiness::Ready(took),
            Err(why) => Readiness::NotReady(why),
        }
    }
}
