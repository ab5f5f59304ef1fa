//! The nodes of a deployment: who is there, which channels they have, and the task that answers other nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_broker::BrokerError;
use tidings_wire::{Channel, Pattern};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::message::Payload;
use super::registry::{ANNOUNCE, NodeInfo};
use super::{
    CONTROL, Cluster, ClusterBus, ClusterError, Deferred, DeferredWork, MAX_MESSAGE, evicting, survey,
};
use super::{ChannelCounts, EndedNodes, ListBudget, LocalNode};

/// Bytes that a channel takes in a message besides its name.
const LISTED: usize = 32;
/// The delay before a failed announcement is repeated.
const AGAIN: Duration = Duration::from_millis(250);
/// How often the registry is checked for nodes that have ended.
const LOOK: Duration = Duration::from_secs(1);
/// How long other nodes may take to respond; the text of [`ClusterError::Silent`] names it.
const SURVEY: Duration = Duration::from_secs(3);

/// This node and the others.
pub struct Nodes {
    /// Publishes messages to the others.
    pub bus: ClusterBus,
    /// This node.
    pub local: Arc<dyn LocalNode>,
    /// The nodes that have ended lately.
    pub ended: Arc<EndedNodes>,
    /// Whether other nodes may use the same broker.
    pub is_shared: bool,
}

impl Nodes {
    fn cluster(&self) -> &Cluster {
        self.bus.cluster()
    }

    /// All nodes, this one first.
    pub fn list(&self) -> Vec<NodeInfo> {
        let mut nodes = vec![self.info()];
        nodes.extend(self.cluster().others());
        nodes
    }

    /// The channels that have subscribers on any node, with how many: those that match, if a pattern is given. No more
    /// than fit into `budget` are gathered.
    ///
    /// # Errors
    /// [`ClusterError`], also when a single node is missing.
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
        self.bus.send(&cluster.all, Payload::Ask { id: survey.id, pattern }).await?;
        let mut silent: Vec<_> = others;
        let mut too_many = Vec::new();
        let end = tokio::time::Instant::now() + SURVEY;
        while !silent.is_empty() {
            let Ok(Some((from, answer))) = tokio::time::timeout_at(end, survey.answers.recv()).await else {
                break;
            };
            let Some(at) = silent.iter().position(|node| node.uid == from) else { continue };
            let info = silent.swap_remove(at);
            match answer {
                Some(channels) => {
                    if !survey::add(&mut all, channels, &mut budget) {
                        return Err(ClusterError::TooLarge);
                    }
                }
                None => too_many.push(info.name),
            }
        }
        if !silent.is_empty() {
            let names: Vec<_> = silent.into_iter().map(|node| node.name).collect();
            return Err(ClusterError::Silent(names.join(", ")));
        }
        if !too_many.is_empty() {
            return Err(ClusterError::TooMany(too_many.join(", ")));
        }
        Ok(all)
    }

    /// Announces this node, responds to other nodes and removes the members of ended nodes, until the task is cancelled.
    /// With the memory broker there are no other nodes, and it returns at once.
    pub async fn run(self: Arc<Self>, DeferredWork(mut work): DeferredWork) {
        if !self.is_shared {
            return;
        }
        let cluster = self.cluster();
        let mut beat = tokio::time::interval(ANNOUNCE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Cancelled when this task ends.
        let mut evicting = JoinSet::new();
        loop {
            let deferred = tokio::select! {
                _ = beat.tick() => Deferred::Announce,
                _ = look.tick() => {
                    for info in cluster.registry.take_ended(Instant::now()) {
                        tracing::warn!(node = info.name, "a node has ended without leaving; its members are removed");
                        self.spawn_eviction(&mut evicting, info.uid);
                    }
                    continue;
                }
                _ = evicting.join_next(), if !evicting.is_empty() => continue,
                deferred = work.recv() => match deferred {
                    Some(deferred) => deferred,
                    None => return,
                },
            };
            let announces = matches!(deferred, Deferred::Announce);
            let (channel, payload) = match deferred {
                Deferred::Announce => (cluster.all.clone(), Payload::Node(self.info())),
                Deferred::Evict(uid) => {
                    self.spawn_eviction(&mut evicting, uid);
                    continue;
                }
                Deferred::Answer { to, id, pattern } => {
                    let Ok(channel) = Channel::new(format!("{CONTROL}.{to}")) else { continue };
                    let pattern = pattern.map(Pattern::new).transpose();
                    let mut budget = ListBudget::new(MAX_MESSAGE, LISTED);
                    // An invalid pattern matches nothing.
                    let channels = match pattern {
                        Ok(pattern) => self.local.channels(pattern.as_ref(), &mut budget),
                        Err(_) => Some(ChannelCounts::new()),
                    };
                    (channel, Payload::Answer { id, channels })
                }
            };
            if let Err(error) = self.bus.send(&channel, payload).await {
                tracing::debug!(%error, "a message to other nodes was not delivered");
                if announces {
                    beat.reset_after(AGAIN);
                }
            }
        }
    }

    /// Removes the members of an ended node in a task of `evicting`.
    fn spawn_eviction(&self, evicting: &mut JoinSet<()>, uid: String) {
        self.ended.add(&uid, Instant::now());
        evicting.spawn(evicting::evict(self.bus.clone(), Arc::clone(&self.local), uid));
    }

    /// Tells the other nodes that this node leaves. Call it when the node announces itself no more. Waits at most `within`.
    pub async fn leave(&self, within: Duration) {
        if self.is_shared {
            let gone = self.bus.send(&self.cluster().all, Payload::Gone {});
            // Without the message they notice the missing announcements.
            let _ = tokio::time::timeout(within, gone).await;
        }
    }

    /// The information about this node that other nodes and the server API show.
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
            channel_options: cluster.channel_options.clone(),
        }
    }
}
