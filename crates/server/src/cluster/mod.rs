//! The nodes of a deployment among themselves: orders to sessions wherever they are, who is there, what all have.
//!
//! Nodes speak through the broker, in channels of their own: one that all hear, and one for each. What arrives is
//! judged in [`Cluster::heard`], on the thread that reads from the broker: it only posts mail and notes things down.
//! What takes a response is deferred to the task [`Nodes::run`]. With the memory broker there is one node, and its orders to
//! itself take the same way.
//!
//! Invariants:
//! - Channels that begin with [`RESERVED_PREFIX`](tidings_wire::channel::RESERVED_PREFIX) are the server's own: no client and no backend subscribes or publishes
//!   there, and nothing published there reaches anybody's pattern.
//! - Messages are sealed with the deployment's key ([`sealing`]): what a holder of the key has not sealed, and what was
//!   received before, is counted and changes nothing.
//! - A message that cannot be understood, or for which there is no room, is counted and changes nothing.
//! - An answer about all nodes is whole, or it is an error that names the nodes which are missing from it.

mod bus;
mod evicting;
mod key;
mod message;
mod nodes;
mod registry;
mod sealing;
mod survey;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;
use tidings_broker::BrokerError;
use tidings_hub::Directive;
use tidings_wire::{Channel, Topic};
use tokio::sync::mpsc;

use crate::blocklist::Change;
use crate::metrics::{Collect, MetricWriter};
use message::{Message, Say};
use registry::{Met, Registry};
use sealing::Sealer;
use survey::Surveys;

pub(crate) use bus::ClusterBus;
pub(crate) use key::{ClusterKey, Uid};
pub(crate) use nodes::Nodes;
pub(crate) use registry::NodeInfo;

/// The channel that all nodes hear; with a dot and a node's uid behind it, that of the one.
pub(crate) const CONTROL: &str = "tidings.node.control";
/// Longest message in bytes, before it is sealed; a longer one is not sent, and not read.
const MAX_MESSAGE: usize = 4 << 20;
/// Questions of other nodes, and reasons to announce oneself, that may wait for the task; further ones are counted.
const TODO: usize = 64;

/// This node among the others.
#[derive(Debug)]
pub(crate) struct Cluster {
    uid: String,
    name: String,
    all: Channel,
    own: Channel,
    /// Digest of this node's options of channels.
    channel_options: String,
    registry: Registry,
    surveys: Surveys,
    sealer: Sealer,
    /// Work for the task, see [`Nodes::run`].
    todo: mpsc::Sender<Todo>,
    /// Messages that were not understood, or for which there was no room.
    pub(crate) ignored: AtomicU64,
}

/// What the task is to do.
#[derive(Debug)]
enum Todo {
    /// Say who this is: somebody new wants to know.
    Announce,
    /// Take out what a node has left that is gone.
    Evict(String),
    /// Tell a node the channels here.
    Answer { to: String, id: u64, pattern: Option<String> },
}

/// The receiving end of the work that [`Cluster`] defers.
#[derive(Debug)]
pub(crate) struct Work(mpsc::Receiver<Todo>);

/// What other nodes have for sessions here.
#[derive(Debug)]
pub(crate) enum Heard {
    /// An order to all that it concerns.
    Order(Arc<Directive>),
    /// A change of the list of blocked users and tokens.
    Blocklist(Change),
    /// A node announces itself that was not known, or was taken for ended.
    NewNode(String),
    /// Commands that the session with this secret has sent elsewhere.
    Input(String, Bytes),
}

/// Why something was not carried to other nodes.
#[derive(Debug, Error)]
pub(crate) enum ClusterError {
    /// The broker did not take it.
    #[error("{0}")]
    Broker(#[from] BrokerError),
    /// No node has heard it, not even this one: its connection for hearing is being made.
    #[error("no node has heard it")]
    Unheard,
    /// There is no such node.
    #[error("no such node")]
    Nowhere,
    /// It is longer than [`MAX_MESSAGE`].
    #[error("more than {MAX_MESSAGE} bytes for other nodes")]
    TooLong,
    /// These nodes are known, and have not answered in time.
    #[error("no answer within 3 s from: {0}")]
    Silent(String),
    /// These nodes have more channels than fit into an answer.
    #[error("too many channels to tell, ask with a pattern; on: {0}")]
    TooMany(String),
    /// The channels of all nodes together are more than there is room for.
    #[error("too many channels to tell; ask with a pattern")]
    TooLarge,
}

impl Cluster {
    /// A node with this uid, which no other has, this name for people, a digest of its options of channels, and the
    /// deployment's key; and the work that it defers to [`Nodes::run`].
    pub(crate) fn new(uid: Uid, name: String, channel_options: String, key: ClusterKey) -> (Self, Work) {
        let channel = |name: String| Channel::new(name).expect("a short name");
        let (todo, work) = mpsc::channel(TODO);
        let cluster = Self {
            all: channel(CONTROL.to_owned()),
            own: channel(format!("{CONTROL}.{uid}")),
            sealer: Sealer::new(uid, key),
            uid: uid.to_string(),
            name,
            channel_options,
            registry: Registry::default(),
            surveys: Surveys::default(),
            todo,
            ignored: AtomicU64::new(0),
        };
        (cluster, Work(work))
    }

    /// What it must hear.
    pub(crate) fn topics(&self) -> [Topic; 2] {
        [self.all.clone().into(), self.own.clone().into()]
    }

    /// The uid of this node.
    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    /// How many other nodes of this version have other options of channels.
    fn different(&self) -> usize {
        self.others().iter().filter(|info| self.differs(info)).count()
    }

    /// A digest says nothing about another version, which may have other options.
    fn differs(&self, info: &NodeInfo) -> bool {
        info.version == env!("CARGO_PKG_VERSION") && info.channel_options != self.channel_options
    }

    /// Says in the log, once for each change, that a node has other options.
    fn compare(&self, info: &NodeInfo) {
        let known = self.registry.channel_options(&info.uid);
        if self.differs(info) && known.as_ref() != Some(&info.channel_options) {
            tracing::warn!(
                node = info.name,
                "another node on this broker has other options of channels (channel.without_namespace, \
                 channel.namespaces): clients are treated differently there; give all nodes the same configuration"
            );
        }
    }

    /// Whether a node with this uid announces itself.
    pub(crate) fn knows(&self, uid: &str) -> bool {
        self.registry.knows(uid, Instant::now())
    }

    /// Nodes known beside this one.
    pub(crate) fn others(&self) -> Vec<NodeInfo> {
        self.registry.nodes(Instant::now())
    }

    /// Seals what is to be published in one of the server's own channels.
    pub(crate) fn seal(&self, channel: &Channel, message: &[u8]) -> Bytes {
        self.sealer.seal(channel, message)
    }

    /// Opens what was published in one of them. What is not authentic or was received before has been counted.
    pub(crate) fn open(&self, channel: &Channel, body: &[u8]) -> Option<(Uid, Vec<u8>)> {
        self.sealer.open(channel, body).ok()
    }

    /// Messages that were rejected before they were read, by the metric's label value.
    fn rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.sealer.rejected()
    }

    /// Judges what was published in one of its channels. Gives what is for sessions, if it is that.
    pub(crate) fn heard(&self, channel: &Channel, body: &[u8]) -> Option<Heard> {
        if body.len() > MAX_MESSAGE + sealing::OVERHEAD {
            return self.ignore();
        }
        let (from, message) = self.open(channel, body)?;
        let (from, message) = (from.to_string(), Message::read(&message).ok());
        let Some(Message { say }) = message else { return self.ignore() };
        let own = from == self.uid;
        match say {
            Say::Order(directive) => match Directive::try_from(directive) {
                Ok(directive) => return Some(Heard::Order(Arc::new(directive))),
                Err(_) => return self.ignore(),
            },
            Say::Blocklist(change) => return Some(Heard::Blocklist(change)),
            Say::Node(_) if own => self.registry.heard_own(Instant::now()),
            Say::Gone {} | Say::Ask { .. } if own => {}
            Say::Node(info) if info.uid != from => return self.ignore(),
            Say::Node(info) => {
                self.compare(&info);
                match self.registry.seen(info, Instant::now()) {
                    Met::New => {
                        self.leave(Todo::Announce);
                        return Some(Heard::NewNode(from));
                    }
                    Met::Known => {}
                    Met::TooMany => return self.ignore(),
                }
            }
            Say::Gone {} => {
                self.registry.gone(&from);
                // It takes its members out as its sessions end. Should its time to stop have been too short, some are left.
                self.leave(Todo::Evict(from));
            }
            Say::Input { session, data } => return Some(Heard::Input(session, data.0)),
            Say::Ask { id, pattern } => self.leave(Todo::Answer { to: from, id, pattern }),
            Say::Answer { id, channels } => {
                // One that comes too late is nothing to worry about.
                self.surveys.answered(id, (from, channels));
            }
        }
        None
    }

    fn ignore<T>(&self) -> Option<T> {
        self.count_ignored();
        None
    }

    /// Counts a message for which there was no room.
    pub(crate) fn count_ignored(&self) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
    }

    /// Leaves something to the task.
    fn leave(&self, todo: Todo) {
        if self.todo.try_send(todo).is_err() {
            self.ignored.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Collect for Cluster {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauge(
            "tidings_nodes",
            None,
            "Servers on this broker, this one included",
            self.others().len() as u64 + 1,
        )?;
        out.gauge(
            "tidings_nodes_different",
            None,
            "Other servers on this broker that have other options of channels than this one",
            self.different(),
        )?;
        out.counters(
            "tidings_nodes_rejected",
            "Messages between nodes that were not authentic, or not for the first time, and changed nothing",
            "reason",
            self.rejected(),
        )?;
        out.counter(
            "tidings_nodes_ignored",
            None,
            "Messages of other nodes that were not understood, or for which there was no room",
            self.ignored.load(Ordering::Relaxed),
        )
    }
}
