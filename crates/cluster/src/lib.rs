//! Messages between the nodes of a deployment: commands to sessions on any node, the list of nodes, lists of channels.
//!
//! Nodes exchange messages through the broker, in internal channels: one for all nodes, and one for each node.
//! [`Cluster::on_publication`] runs on the broker's read thread: it only posts messages to shards and updates state. Work
//! that needs a response is deferred to the task [`Nodes::run`]. With the memory broker there is one node, which sends
//! commands to itself in the same way.
//!
//! Invariants:
//! - Messages are encrypted and authenticated with the deployment's key ([`sealing`]). A message that is not authentic,
//!   or was received before, is counted and changes nothing.
//! - A message that cannot be parsed, or that exceeds a bound, is counted and changes nothing.
//! - A list of channels is complete, or it is an error that names the missing nodes. Reports for operators
//!   ([`Nodes::collect`]) may be partial, and then name the missing nodes.

pub mod blocklist;
mod bus;
mod ended;
mod key;
mod listing;
mod local;
mod message;
mod nodes;
mod presence_eviction;
mod rebalance;
mod registry;
mod report;
mod sealing;
mod survey;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;
use tidings_broker::BrokerError;
use tidings_hub::{PollPublication, PollValue, SessionCommand};
use tidings_wire::{Channel, Topic};
use tokio::sync::mpsc;

use crate::blocklist::BlocklistChange;
use message::{Message, Payload};
use registry::{AnnounceOutcome, NodeRegistry};
use sealing::Sealer;
use survey::{NodeChannels, NodeReport, Surveys};
use tidings_metrics::{Collect, MetricWriter};

pub use bus::ClusterBus;
pub use ended::{EndedNodes, PRESENCE_TTL};
pub use key::{ClusterKey, NodeUid};
pub use listing::{ChannelCounts, ListBudget};
pub use local::{LocalNode, NodeStatistics};
pub use nodes::Nodes;
pub use rebalance::{NodeLoad, Observation, RebalanceLimits, RebalanceState, Rebalancer, Step};
pub use registry::NodeInfo;
pub use report::{Collected, NodeReporter, Reports};

/// The channel of all nodes. With a dot and a uid appended, the channel of one node.
pub const CONTROL: &str = "tidings.node.control";
/// Longest message in bytes, before encryption; longer ones are neither sent nor read.
const MAX_MESSAGE: usize = 4 << 20;
/// Most deferred items; further ones are counted as ignored.
const MAX_DEFERRED: usize = 64;

/// This node's state of the deployment.
#[derive(Debug)]
pub struct Cluster {
    uid: String,
    name: String,
    all: Channel,
    own: Channel,
    /// Digest of this node's options of channels.
    channel_options: RwLock<String>,
    registry: NodeRegistry,
    surveys: Surveys<NodeChannels>,
    reports: Surveys<NodeReport>,
    sealer: Sealer,
    /// Work for the task, see [`Nodes::run`].
    deferred: mpsc::Sender<Deferred>,
    /// Messages that could not be parsed, or exceeded a bound.
    ignored: AtomicU64,
}

/// Work for the task.
#[derive(Debug)]
enum Deferred {
    /// Announce this node, because a new node has appeared.
    Announce,
    /// Remove the members of a node that has ended.
    Evict(String),
    /// Send the list of channels on this node to another node.
    SendChannels { to: String, id: u64, pattern: Option<String> },
    /// Send the response to a query of an operator to another node.
    SendReport { to: String, id: u64, query: Value },
}

/// The receiver of the work that [`Cluster`] defers.
#[derive(Debug)]
pub struct DeferredWork(mpsc::Receiver<Deferred>);

/// A message with an effect on the sessions of this node.
#[derive(Debug)]
pub enum ClusterEvent {
    /// A command to sessions.
    SessionCommand(Arc<SessionCommand>),
    /// A change of the list of blocked users and tokens.
    Blocklist(BlocklistChange),
    /// A value of a shared poll that the application publishes.
    PollPublication(Box<PollPublication>),
    /// A node has announced itself that was unknown, or was considered ended.
    NewNode(String),
    /// Commands of the session with this secret, received by another node.
    Input(String, Bytes),
}

/// Why a message was not delivered, or a response is incomplete.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The broker rejected the message.
    #[error("{0}")]
    Broker(#[from] BrokerError),
    /// No node has received the message, not even this one: its subscription is not established.
    #[error("no node has received it")]
    NoReceiver,
    /// There is no such node.
    #[error("no such node")]
    NoSuchNode,
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("more than {MAX_MESSAGE} bytes for other nodes")]
    TooLong,
    /// These nodes have not responded in time.
    #[error("no answer within 3 s from: {0}")]
    Timeout(String),
    /// These nodes have more channels than fit into a response.
    #[error("too many channels for a response; use a pattern; on: {0}")]
    TooMany(String),
    /// The channels of all nodes together exceed the budget.
    #[error("too many channels for a response; use a pattern")]
    TooLarge,
}

impl Cluster {
    /// A node with this unique id, this name for operators, a digest of its options of channels, and the deployment's
    /// key; and the work that it defers to [`Nodes::run`].
    pub fn new(uid: NodeUid, name: String, channel_options: String, key: ClusterKey) -> (Self, DeferredWork) {
        let channel = |name: String| Channel::new(name).expect("a short name");
        let (deferred, work) = mpsc::channel(MAX_DEFERRED);
        let cluster = Self {
            all: channel(CONTROL.to_owned()),
            own: channel(format!("{CONTROL}.{uid}")),
            sealer: Sealer::new(uid, key),
            uid: uid.to_string(),
            name,
            channel_options: RwLock::new(channel_options),
            registry: NodeRegistry::default(),
            surveys: Surveys::default(),
            reports: Surveys::default(),
            deferred,
            ignored: AtomicU64::new(0),
        };
        (cluster, DeferredWork(work))
    }

    /// The channels that the node must be subscribed to.
    pub fn topics(&self) -> [Topic; 2] {
        [self.all.clone().into(), self.own.clone().into()]
    }

    /// The uid of this node.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The digest of this node's options of channels.
    fn channel_options(&self) -> String {
        self.channel_options.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the digest of this node's options of channels. The next announcement contains it.
    pub fn set_channel_options(&self, digest: String) {
        *self.channel_options.write().unwrap_or_else(PoisonError::into_inner) = digest;
    }

    /// Number of other nodes of the same version with different options of channels.
    fn different_count(&self) -> usize {
        self.others().iter().filter(|info| self.differs(info)).count()
    }

    /// Whether a node has different options of channels. Digests of another version are not compared, because it may have
    /// other options.
    fn differs(&self, info: &NodeInfo) -> bool {
        info.version == env!("CARGO_PKG_VERSION") && info.channel_options != self.channel_options()
    }

    /// Logs, once for each change, that a node has different options of channels.
    fn warn_if_different(&self, info: &NodeInfo) {
        let known = self.registry.channel_options(&info.uid);
        if self.differs(info) && known.as_ref() != Some(&info.channel_options) {
            tracing::warn!(
                node = info.name,
                "another node on this broker has other options of channels (channel.without_namespace, \
                 channel.namespaces), so that clients have other permissions there; give all nodes the same configuration"
            );
        }
    }

    /// Whether the node with this uid is alive.
    pub fn is_alive(&self, uid: &str) -> bool {
        self.registry.is_alive(uid, Instant::now())
    }

    /// The other nodes.
    pub fn others(&self) -> Vec<NodeInfo> {
        self.registry.nodes(Instant::now())
    }

    /// Encrypts a message for an internal channel.
    pub fn seal(&self, channel: &Channel, message: &[u8]) -> Bytes {
        self.sealer.seal(channel, message)
    }

    /// Decrypts a message from an internal channel. A message that is not authentic, or was received before, is counted.
    pub fn open(&self, channel: &Channel, body: &[u8]) -> Option<(NodeUid, Vec<u8>)> {
        self.sealer.open(channel, body).ok()
    }

    /// Messages that were rejected before they were parsed, by the metric's label value.
    fn rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.sealer.rejected()
    }

    /// Handles a message from one of the cluster channels. Returns an event if the message concerns sessions.
    pub fn on_publication(&self, channel: &Channel, body: &[u8]) -> Option<ClusterEvent> {
        if body.len() > MAX_MESSAGE + sealing::OVERHEAD {
            return self.ignore();
        }
        let (from, message) = self.open(channel, body)?;
        let (from, message) = (from.to_string(), Message::parse(&message).ok());
        let Some(Message { payload }) = message else { return self.ignore() };
        let own = from == self.uid;
        match payload {
            Payload::SessionCommand(command) => match SessionCommand::try_from(command) {
                Ok(command) => return Some(ClusterEvent::SessionCommand(Arc::new(command))),
                Err(_) => return self.ignore(),
            },
            Payload::Blocklist(change) => return Some(ClusterEvent::Blocklist(change)),
            Payload::Node(_) if own => self.registry.on_own_announcement(Instant::now()),
            Payload::Leave {} | Payload::ChannelsRequest { .. } | Payload::ReportRequest { .. } if own => {}
            Payload::Node(info) if info.uid != from => return self.ignore(),
            Payload::Node(info) => {
                self.warn_if_different(&info);
                match self.registry.announce(info, Instant::now()) {
                    AnnounceOutcome::New => {
                        self.defer(Deferred::Announce);
                        return Some(ClusterEvent::NewNode(from));
                    }
                    AnnounceOutcome::Known => {}
                    AnnounceOutcome::TooMany => return self.ignore(),
                }
            }
            Payload::Leave {} => {
                self.registry.remove(&from);
                // The node removes its members as its sessions end. Some remain if its time to stop was too short.
                self.defer(Deferred::Evict(from));
            }
            Payload::PollPublication { channel, key, data, version, epoch } => {
                let Ok(channel) = Channel::new(channel) else { return self.ignore() };
                let value = PollValue { key, data: Some(data.0), version, removed: false };
                return Some(ClusterEvent::PollPublication(Box::new(PollPublication {
                    channel,
                    value,
                    epoch,
                })));
            }
            Payload::Input { session, data } => return Some(ClusterEvent::Input(session, data.0)),
            Payload::ChannelsRequest { id, pattern } => {
                self.defer(Deferred::SendChannels { to: from, id, pattern });
            }
            Payload::ChannelsResponse { id, channels } => {
                // A late response is discarded.
                self.surveys.on_response(id, (from, channels));
            }
            Payload::ReportRequest { id, query } => {
                self.defer(Deferred::SendReport { to: from, id, query });
            }
            Payload::ReportResponse { id, report } => {
                self.reports.on_response(id, (from, report));
            }
        }
        None
    }

    fn ignore<T>(&self) -> Option<T> {
        self.count_ignored();
        None
    }

    /// Counts a message that exceeds a bound.
    pub fn count_ignored(&self) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
    }

    /// Defers work to the task.
    fn defer(&self, deferred: Deferred) {
        if self.deferred.try_send(deferred).is_err() {
            self.ignored.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Collect for Cluster {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauge(
            "tidings_nodes",
            None,
            "Nodes on this broker, including this one",
            self.others().len() as u64 + 1,
        )?;
        out.gauge(
            "tidings_nodes_different",
            None,
            "Other nodes on this broker with different options of channels",
            self.different_count(),
        )?;
        out.counters(
            "tidings_nodes_rejected",
            "Messages between nodes that were rejected because they were not authentic or were received before",
            "reason",
            self.rejected(),
        )?;
        out.counter(
            "tidings_nodes_ignored",
            None,
            "Messages of other nodes that were ignored because they could not be parsed or exceeded a limit",
            self.ignored.load(Ordering::Relaxed),
        )
    }
}
