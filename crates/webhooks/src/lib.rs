//! Webhooks: events of channels on all nodes, sent to applications by HTTP.
//!
//! One node of the deployment observes the channels of all nodes, in intervals, and sends what has changed (`observer`,
//! `election`). Publications of clients and cache misses are sent by the node of the client.
//!
//! Invariants:
//! - A change is sent by one node. When the observing node ends without a message, another one continues from the last changes
//!   that it has received: no change is lost, and changes of the last moment may be sent twice.
//! - Nothing is unbounded: the observed channels ([`MAX_LIST`]), their users, the waiting events of each receiver.
//! - No receiver delays another one, or a client.

mod change;
mod election;
mod endpoint;
mod event;
mod message;
mod metrics;
mod observer;
mod observing;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tidings_config::{Config, PusherApp, WebhookEvent};
use tidings_log_throttle::LogThrottle;
use tidings_outbound::TlsError;
use tidings_pusher::Key;
use tidings_wire::{Channel, Publication};
use tokio::task::JoinSet;

pub use change::Change;
use endpoint::{Credentials, Endpoint, Scope};
use event::Event;
use metrics::WebhookCounters;
pub use metrics::WebhookMetrics;
use observing::Observing;

/// Most bytes of the list of channels that is observed.
pub const MAX_LIST: usize = 4 << 20;
/// Longest message between nodes in bytes.
pub const MAX_MESSAGE: usize = 4 << 20;
/// Most channels whose users may have changed that are noted between two observations. With more, all are read.
const MAX_TOUCHED: usize = 10_000;
/// Kinds of events that are found by observing all nodes.
const OBSERVED: [WebhookEvent; 5] = [
    WebhookEvent::Occupied,
    WebhookEvent::Vacated,
    WebhookEvent::Joined,
    WebhookEvent::Left,
    WebhookEvent::SubscriptionCount,
];

/// Channels with their numbers of subscriptions.
pub type ChannelCounts = BTreeMap<String, u64>;

/// The credentials of an app.
fn credentials_of(PusherApp { options, .. }: &PusherApp) -> Credentials {
    let scope = Scope::App { key: options.key.clone(), prefix: options.channel_prefix.clone() };
    Credentials { scope, secret: Key::new(options.secret.expose()) }
}

/// The deployment, as webhooks observe it.
pub trait Deployment: Send + Sync + 'static {
    /// The uid of this node.
    fn uid(&self) -> &str;

    /// The uids of the other nodes that are alive; `None` if no other node can be.
    fn others(&self) -> Option<Vec<String>>;

    /// The numbers of subscriptions of all channels on all nodes, or of those that begin with `beginning`.
    fn channels(&self, beginning: Option<&str>) -> BoxFuture<'_, Result<ChannelCounts, String>>;

    /// Whether the users of the channel are known.
    fn has_presence(&self, channel: &str) -> bool;

    /// The users that are present in the channel on any node.
    fn users(&self, channel: Channel) -> BoxFuture<'_, Result<BTreeSet<String>, String>>;

    /// Sends a message to all nodes, this one included. It may be lost.
    fn send(&self, message: &[u8]);
}

/// The webhooks of a server.
pub struct Webhooks {
    endpoints: Vec<Arc<Endpoint>>,
    interval: Duration,
    counters: Arc<WebhookCounters>,
    /// Channels on this node whose users may have changed.
    touched: Mutex<BTreeSet<String>>,
    /// There were more channels than are noted.
    touched_too_many: AtomicBool,
    /// Messages from nodes, in their order of arrival.
    observing: Mutex<Observing>,
    /// Log lines about failed observations.
    failures: LogThrottle,
}

impl Webhooks {
    /// The webhooks of a configuration; `None` without receivers.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` address when TLS cannot be set up.
    pub fn from_config(config: &Config) -> Result<Option<Self>, TlsError> {
        let options = &config.webhooks;
        let beginnings = || options.channel_prefixes.iter().map(|name| name.as_str().to_owned()).collect();
        let mut endpoints = Vec::new();
        for webhook in &options.endpoints {
            let (scope, secret) = (Scope::Channels(beginnings()), Key::new(options.secret.expose()));
            let credentials = Credentials { scope, secret };
            endpoints.push(Endpoint::new(webhook, "webhooks.endpoints", None, credentials, options)?);
        }
        for app in config.pusher_apps() {
            for webhook in &app.options.webhooks {
                let (option, id) = ("pusher.apps[].webhooks", Some(app.id.clone()));
                endpoints.push(Endpoint::new(webhook, option, id, credentials_of(&app), options)?);
            }
        }
        let webhooks = Self {
            endpoints: endpoints.into_iter().map(Arc::new).collect(),
            interval: options.interval,
            counters: Arc::default(),
            touched: Mutex::default(),
            touched_too_many: AtomicBool::new(false),
            observing: Mutex::new(Observing::new(options.grace, options.interval)),
            failures: LogThrottle::new(),
        };
        Ok((!webhooks.endpoints.is_empty()).then_some(webhooks))
    }

    /// Uses the keys, secrets and prefixes that the apps of the Pusher protocol have after a reload. The receivers of a removed app
    /// get no further events, but those that wait. The receivers stay those of the start.
    pub fn reconfigure_apps(&self, config: &Config) {
        let apps = config.pusher_apps();
        for endpoint in &self.endpoints {
            let Some(id) = &endpoint.app else { continue };
            endpoint.set_credentials(apps.iter().find(|app| app.id == *id).map(credentials_of));
        }
    }

    pub(crate) fn counters(&self) -> &WebhookCounters {
        &self.counters
    }

    /// The bytes of all waiting events.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.queue.bytes()).sum()
    }

    /// Counts an observation that failed, or is not complete.
    fn count_failure(&self, reason: &str) {
        self.counters.failed_observations.fetch_add(1, Ordering::Relaxed);
        if let Some(failures) = self.failures.count() {
            tracing::warn!(
                reason,
                failures,
                "webhooks: the channels of all nodes were not observed completely"
            );
        }
    }

    fn is_wanted(&self, kind: WebhookEvent, channel: &str) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.wants(kind, channel))
    }

    fn add(&self, event: &Event<'_>) {
        let now = Instant::now();
        self.endpoints.iter().for_each(|endpoint| endpoint.add(event, now, &self.counters));
    }

    /// Whether a receiver gets publications of clients in this channel.
    pub fn wants_published(&self, channel: &Channel) -> bool {
        self.is_wanted(WebhookEvent::Published, channel.as_str())
    }

    /// A client has published.
    pub fn published(&self, publication: &Publication) {
        if let Some(client) = publication.extra.as_ref().and_then(|extra| extra.info.as_ref()) {
            self.add(&Event::Published { publication, client });
        }
    }

    /// A subscriber of a channel that keeps its last publication has found none.
    pub fn cache_miss(&self, channel: &Channel) {
        self.add(&Event::CacheMiss(channel.as_str()));
    }

    /// The users of a channel may have changed on this node.
    pub fn touch(&self, channel: &Channel) {
        let name = channel.as_str();
        if !self.is_wanted(WebhookEvent::Joined, name) && !self.is_wanted(WebhookEvent::Left, name) {
            return;
        }
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.len() < MAX_TOUCHED {
            touched.insert(name.to_owned());
        } else {
            self.touched_too_many.store(true, Ordering::Relaxed);
        }
    }

    /// A message of a node. Does not block.
    pub fn on_message(&self, from: &str, message: &[u8]) {
        let Ok(message) = serde_json::from_slice(message) else { return };
        self.lock().on_message(from, message, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Observing> {
        self.observing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Observes and delivers until the task is cancelled.
    pub async fn run(self: Arc<Self>, deployment: Arc<dyn Deployment>) {
        // Cancelled when this task ends.
        let mut deliveries = JoinSet::new();
        for endpoint in &self.endpoints {
            deliveries.spawn(Arc::clone(endpoint).run(Arc::clone(&self.counters)));
        }
        if self.endpoints.iter().any(|endpoint| endpoint.wants_any(&OBSERVED)) {
            self.observe_forever(&*deployment).await;
        }
        while deliveries.join_next().await.is_some() {}
    }

    /// Waits until all events are delivered; at most `timeout`.
    pub async fn flush(&self, timeout: Duration) {
        let idle = async {
            while !self.endpoints.iter().all(|endpoint| endpoint.queue.is_idle()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(timeout, idle).await;
    }
}
