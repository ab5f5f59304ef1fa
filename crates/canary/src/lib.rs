//! Canaries: internal publications that are sent periodically on every path through the broker.
//!
//! An established connection or an answered ping does not prove that publications are delivered; only a publication that
//! returns does. A broker with several parts that fail independently, such as a Redis Cluster, has one path for each. On
//! each path every operation that the configuration uses is tried, see [`Operation`].
//!
//! [`paths`] stores the outcomes and derives the state of the server from them, [`send`] executes one operation, and [`run`]
//! is the task.
//!
//! Invariants:
//! - The server is ready while every operation on every path has succeeded within the limit.
//! - At the start, and after the connection to the broker was lost, earlier successes do not count.

mod paths;
mod send;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidings_broker::{BrokerError, Stateful};
use tidings_metrics::{Collect, MetricWriter, SECONDS};
use tidings_wire::{Channel, Publication, Topic};
use tokio::sync::Notify;

use paths::{DueProbes, ProbePaths};
pub use paths::{FailedProbe, Operation, ProbedFeatures};

/// Prefix of the channels of canaries; internal, see [`RESERVED_PREFIX`](tidings_wire::channel::RESERVED_PREFIX).
pub const PREFIX: &str = "tidings.node.canary.";
/// Prefix of the channels of canaries on the path of plain publications, where that is a separate path.
const PLAIN_PREFIX: &str = "tidings.node.plain.";

/// The paths through the broker, and the outcomes of the last canaries.
#[derive(Debug)]
pub struct Canary {
    /// The channel prefix of this node.
    own: String,
    /// The channel prefix of this node on the path of plain publications.
    plain: String,
    began: Instant,
    interval: Duration,
    limit: Duration,
    paths: Mutex<ProbePaths>,
    /// Rounds of canaries since the start.
    rounds: AtomicU64,
    /// Begins the next round before its time.
    next_round: Notify,
}

impl Canary {
    /// Canaries of the node with this unique number: a round each `interval`, and a success counts for `limit`.
    pub fn new(node: u64, interval: Duration, limit: Duration, features: ProbedFeatures) -> Self {
        let began = Instant::now();
        Self {
            own: format!("{PREFIX}{node:016x}"),
            plain: format!("{PLAIN_PREFIX}{node:016x}"),
            began,
            interval,
            limit,
            paths: Mutex::new(ProbePaths::new(interval, limit, features, began)),
            rounds: AtomicU64::new(0),
            next_round: Notify::new(),
        }
    }

    /// Replaces the features of the broker that are tried.
    pub fn set_features(&self, features: ProbedFeatures) {
        self.lock().set_features(features, Instant::now());
        self.next_round.notify_one();
    }

    /// Whether this is a channel of this node's canaries.
    pub fn owns(&self, channel: &Channel) -> bool {
        channel.as_str().starts_with(&self.own) || channel.as_str().starts_with(&self.plain)
    }

    /// Whether this is the topic of such a channel.
    pub fn owns_topic(&self, topic: &Topic) -> bool {
        matches!(topic, Topic::Channel(channel) if self.owns(channel))
    }

    /// A canary was received. Its body is the time at which it was sent.
    pub fn on_publication(&self, publication: &Publication) {
        let operation = match publication.position {
            Some(_) => Operation::PublishWithHistory,
            None => Operation::Publish,
        };
        let sent = std::str::from_utf8(&publication.body).ok().and_then(|s| s.parse().ok());
        if let Some(sent) = sent.map(Duration::from_micros) {
            self.succeeded(&publication.channel, operation, sent);
        }
    }

    /// An operation has succeeded that was started `sent` after the start of the server.
    fn succeeded(&self, channel: &Channel, operation: Operation, sent: Duration) {
        let now = Instant::now();
        let Some(took) = now.duration_since(self.began).checked_sub(sent) else { return };
        // A canary that was delayed for longer than the limit is no success.
        if took <= self.limit {
            self.lock().succeeded(channel, operation, took, now);
        }
    }

    /// The broker has accepted a publication, which must still return.
    fn accepted(&self, channel: &Channel, operation: Operation) {
        self.lock().accepted(channel, operation);
    }

    /// The broker has responded with an error.
    fn failed(&self, channel: &Channel, operation: Operation, error: BrokerError) {
        self.lock().failed(channel, operation, error, Instant::now());
    }

    /// The longest round trip of the last canaries, if all operations succeeded within the limit.
    ///
    /// # Errors
    /// The operation that failed, and the reason.
    pub fn status(&self) -> Result<Duration, FailedProbe> {
        self.lock().status(Instant::now())
    }

    /// The round trip of the last canary, or by how much the next one is overdue.
    pub fn lag(&self) -> Duration {
        self.lock().lag(Instant::now())
    }

    /// The broker is connected, for the first time or again: earlier successes are discarded, and all operations are
    /// tried at once.
    pub fn on_broker_up(&self) {
        self.lock().discard_outcomes();
        self.next_round.notify_one();
    }

    /// The broker has confirmed a topic, or (`false`) reports that it is unavailable.
    pub fn set_available(&self, topic: &Topic, is_available: bool) {
        if let Topic::Channel(channel) = topic
            && self.lock().set_available(channel, is_available, Instant::now())
        {
            self.next_round.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProbePaths> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for Canary {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauge(
            "tidings_broker_lag",
            SECONDS,
            "How long publications take through the broker: the round trip of the last canary, or by how much the next is overdue",
            self.lag().as_secs_f64(),
        )
    }
}

/// Sends canaries until the task is cancelled. Makes the broker reconnect when canaries are overdue while it
/// `is_connected`.
pub async fn run(canary: Arc<Canary>, broker: Arc<dyn Stateful>, is_connected: impl Fn() -> bool) {
    loop {
        let probes = broker.probes(&canary.own, &canary.plain);
        if !probes.is_empty() {
            let (added, removed) = canary.lock().replace(probes, Instant::now());
            added.into_iter().for_each(|channel| broker.subscribe(&Topic::Channel(channel)));
            removed.into_iter().for_each(|channel| broker.unsubscribe(&Topic::Channel(channel)));
        }
        let is_first = canary.rounds.fetch_add(1, Ordering::Relaxed) == 0;
        let due = canary.lock().due(Instant::now());
        for DueProbes { channel, operations, overdue } in due {
            for operation in operations {
                send::send(&canary, &broker, &channel, operation);
            }
            if let Some(reason) = overdue.filter(|_| !is_first && is_connected()) {
                tracing::warn!(reason, "reconnecting to the broker");
                broker.reset_for(&channel, &reason);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(canary.interval) => {}
            // A new connection gets the whole time limit.
            () = canary.next_round.notified() => canary.lock().restart_limits(Instant::now()),
        }
    }
}
