//! The nodes of a deployment: the list of nodes, the list of channels of all nodes, and the task that responds to other
//! nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_broker::BrokerError;
use tidings_wire::{Channel, Pattern};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::message::Payload;
use super::registry::{ANNOUNCE_INTERVAL, NodeInfo};
use super::{
    CONTROL, Cluster, ClusterBus, ClusterError, Deferred, DeferredWork, MAX_MESSAGE, presence_eviction,
    survey,
};
use super::{ChannelCounts, EndedNodes, ListBudget, LocalNode, NodeLoad, NodeReporter, Reports};

/// Bytes of a channel in a message besides its name.
const CHANNEL_OVERHEAD: usize = 32;
/// Delay before a failed announcement is repeated.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// How often the registry is checked for nodes that have ended.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Timeout of the responses of other nodes; also in the text of [`ClusterError::Timeout`].
pub(super) const SURVEY_TIMEOUT: Duration = Duration::from_secs(3);

/// All nodes of the deployment.
pub struct Nodes {
    /// Sends messages to the nodes.
    pub bus: ClusterBus,
    /// This node.
    pub local: Arc<dyn LocalNode>,
    /// The nodes that ended recently.
    pub ended: Arc<EndedNodes>,
    /// Whether other nodes may use the same broker.
    pub is_shared: bool,
}

impl Nodes {
    pub(super) fn cluster(&self) -> &Cluster {
        self.bus.cluster()
    }

    /// All nodes, this one first.
    pub fn list(&self) -> Vec<NodeInfo> {
        let mut nodes = vec![self.info()];
        nodes.extend(self.cluster().others());
        nodes
    }

    /// The channels that match the pattern (without one: all) and have subscribers on any node, with their numbers of
    /// subscribers.
    ///
    /// # Errors
    /// [`ClusterError`], also if the response of a single node is missing or the channels exceed `budget`.
    pub async fn channels(
        &self,
        pattern: Option<&Pattern>,
        mut budget: ListBudget,
    ) -> Result<ChannelCounts, ClusterError> {
        let cluster = self.cluster();
        let others = cluster.others();
        let mut all = self.local.channels(pattern, &mut budget).ok_or(ClusterError::TooLarge)?;
        if !self.local.is_broker_up() {
            // The number of other nodes is unknown.
            return Err(BrokerError::Unavailable.into());
        }
        if others.is_empty() {
            return Ok(all);
        }
        // New nodes respond too.
        let mut survey = cluster.surveys.open(others.len() + 16);
        let pattern = pattern.map(|pattern| pattern.as_str().to_owned());
        self.bus.send(&cluster.all, Payload::ChannelsRequest { id: survey.id, pattern }).await?;
        let mut missing = others;
        let mut too_many = Vec::new();
        let end = tokio::time::Instant::now() + SURVEY_TIMEOUT;
        while !missing.is_empty() {
            let Ok(Some((from, response))) = tokio::time::timeout_at(end, survey.responses.recv()).await
            else {
                break;
            };
            let Some(at) = missing.iter().position(|node| node.uid == from) else { continue };
            let info = missing.swap_remove(at);
            match response {
                Some(channels) => {
                    if !survey::add(&mut all, channels, &mut budget) {
                        return Err(ClusterError::TooLarge);
                    }
                }
                None => too_many.push(info.name),
            }
        }
        if !missing.is_empty() {
            let names: Vec<_> = missing.into_iter().map(|node| node.name).collect();
            return Err(ClusterError::Timeout(names.join(", ")));
        }
        if !too_many.is_empty() {
            return Err(ClusterError::TooMany(too_many.join(", ")));
        }
        Ok(all)
    }

    /// Announces this node, responds to other nodes and removes the members of ended nodes, until the task is cancelled.
    /// With the memory broker there are no other nodes, and it returns at once.
    pub async fn run(self: Arc<Self>, DeferredWork(mut work): DeferredWork, reporter: Arc<dyn NodeReporter>) {
        if !self.is_shared {
            return;
        }
        let cluster = self.cluster();
        let mut announce = tokio::time::interval(ANNOUNCE_INTERVAL);
        announce.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Cancelled when this task ends.
        let mut evicting = JoinSet::new();
        let mut reports = Reports::new(self.bus.clone(), reporter);
        loop {
            let deferred = tokio::select! {
                _ = announce.tick() => Deferred::Announce,
                _ = check.tick() => {
                    for info in cluster.registry.take_ended(Instant::now()) {
                        tracing::warn!(node = info.name, "a node has ended without a message; its members are removed");
                        self.spawn_eviction(&mut evicting, info.uid);
                    }
                    continue;
                }
                _ = evicting.join_next(), if !evicting.is_empty() => continue,
                () = reports.sent(), if !reports.is_empty() => continue,
                deferred = work.recv() => match deferred {
                    Some(deferred) => deferred,
                    None => return,
                },
            };
            let is_announcement = matches!(deferred, Deferred::Announce);
            let (channel, payload) = match deferred {
                Deferred::Announce => (cluster.all.clone(), Payload::Node(self.info())),
                Deferred::Evict(uid) => {
                    self.spawn_eviction(&mut evicting, uid);
                    continue;
                }
                Deferred::SendReport { to, id, query } => {
                    reports.send(&to, id, query);
                    continue;
                }
                Deferred::SendChannels { to, id, pattern } => {
                    let Ok(channel) = Channel::new(format!("{CONTROL}.{to}")) else { continue };
                    let pattern = pattern.map(Pattern::new).transpose();
                    let mut budget = ListBudget::new(MAX_MESSAGE, CHANNEL_OVERHEAD);
                    // An invalid pattern matches nothing.
                    let channels = match pattern {
                        Ok(pattern) => self.local.channels(pattern.as_ref(), &mut budget),
                        Err(_) => Some(ChannelCounts::new()),
                    };
                    (channel, Payload::ChannelsResponse { id, channels })
                }
            };
            if let Err(error) = self.bus.send(&channel, payload).await {
                tracing::debug!(%error, "a message to other nodes was not delivered");
                if is_announcement {
                    announce.reset_after(RETRY_DELAY);
                }
            }
        }
    }

    /// Removes the members of an ended node in a task of `evicting`.
    fn spawn_eviction(&self, evicting: &mut JoinSet<()>, uid: String) {
        self.ended.add(&uid, Instant::now());
        evicting.spawn(presence_eviction::evict(self.bus.clone(), Arc::clone(&self.local), uid));
    }

    /// Announces this node now, because it is not ready any more.
    pub fn announce(&self) {
        if self.is_shared {
            self.cluster().defer(Deferred::Announce);
        }
    }

    /// The connections of the other nodes, as they have announced them.
    pub fn loads(&self, now: Instant) -> Vec<NodeLoad> {
        self.cluster().registry.loads(now)
    }

    /// Notifies the other nodes that this node leaves. Call it after the last announcement. Waits at most `timeout`.
    pub async fn leave(&self, timeout: Duration) {
        if self.is_shared {
            let sent = self.bus.send(&self.cluster().all, Payload::Leave {});
            // If it fails, the other nodes remove this one after its announcements stop.
            let _ = tokio::time::timeout(timeout, sent).await;
        }
    }

    /// The information about this node for its announcements and the server API.
    fn info(&self) -> NodeInfo {
        let cluster = self.cluster();
        let statistics = self.local.statistics();
        NodeInfo {
            uid: cluster.uid.clone(),
            name: cluster.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            num_clients: statistics.clients,
            num_users: statistics.users,
            num_subs: statistics.subscriptions,
            num_channels: statistics.channels,
            uptime: statistics.uptime.as_secs(),
            ready: Some(self.local.is_ready()),
            num_moving: statistics.moving,
            channel_options: cluster.channel_options(),
        }
    }
}
