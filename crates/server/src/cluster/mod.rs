//! The nodes of a deployment among themselves: orders to sessions wherever they are, who is there, what all have.
//!
//! Nodes speak through the broker, in channels of their own: one that all hear, and one for each. What arrives is
//! judged in [`Cluster::heard`], on the thread that reads from the broker: it only posts mail and notes things down.
//! What takes an answer is left to the task [`run`]. With the memory broker there is one node, and its orders to
//! itself take the same way.
//!
//! Invariants:
//! - Channels that begin with [`RESERVED_PREFIX`](tidings_wire::channel::RESERVED_PREFIX) are the server's own: no client and no backend subscribes or publishes
//!   there, and nothing published there reaches anybody's pattern.
//! - Messages are sealed with the deployment's key ([`sealing`]): what a holder of the key has not sealed, and what was
//!   received before, is counted and changes nothing.
//! - A message that cannot be understood, or for which there is no room, is counted and changes nothing.
//! - An answer about all nodes is whole, or it is an error that names the nodes which are missing from it.

mod evicting;
mod key;
mod message;
mod registry;
mod sealing;
mod survey;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;
use tidings_broker::BrokerError;
use tidings_hub::Directive;
use tidings_shard::Metrics;
use tidings_wire::{Channel, Pattern, Topic};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::blocklist::Change;
use crate::node::Node;
use crate::router::Router;
use message::{Data, Message, Say};
use registry::{ANNOUNCE, Met, Registry};
use sealing::Sealer;
use survey::Surveys;

pub(crate) use key::{ClusterKey, Uid};
pub(crate) use registry::NodeInfo;
pub(crate) use survey::{Channels, Room};

/// The channel that all nodes hear; with a dot and a node's uid behind it, that of the one.
pub(crate) const CONTROL: &str = "tidings.node.control";
/// Longest message in bytes, before it is sealed; a longer one is not sent, and not read.
const MAX_MESSAGE: usize = 4 << 20;
/// What a channel takes in a message besides its name.
const LISTED: usize = 32;
/// When an announcement that did not get out is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often nodes are looked for that have ended.
const LOOK: Duration = Duration::from_secs(1);
/// How long nodes may take to answer a question; [`ClusterError::Silent`] says it.
const SURVEY: Duration = Duration::from_secs(3);
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
    todo: mpsc::Sender<Todo>,
    /// The other end of `todo`, until the task takes it.
    work: Mutex<Option<mpsc::Receiver<Todo>>>,
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
    /// deployment's key.
    pub(crate) fn new(uid: Uid, name: String, channel_options: String, key: ClusterKey) -> Self {
        let channel = |name: String| Channel::new(name).expect("a short name");
        let (todo, work) = mpsc::channel(TODO);
        Self {
            all: channel(CONTROL.to_owned()),
            own: channel(format!("{CONTROL}.{uid}")),
            sealer: Sealer::new(uid, key),
            uid: uid.to_string(),
            name,
            channel_options,
            registry: Registry::default(),
            surveys: Surveys::default(),
            todo,
            work: Mutex::new(Some(work)),
            ignored: AtomicU64::new(0),
        }
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
    pub(crate) fn different(&self) -> usize {
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
    pub(crate) fn rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
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

/// Has an order carried out by every session that it concerns, on every node; done when it is on its way to them.
///
/// # Errors
/// [`ClusterError`]: nobody has been told then.
pub(crate) async fn order(router: &Router, directive: &Directive) -> Result<(), ClusterError> {
    match send(router, &router.cluster().all, Say::Order(directive.into())).await? {
        0 => Err(ClusterError::Unheard),
        _ => Ok(()),
    }
}

/// Has every node take over a change of the list of blocked users and tokens; done when it is on its way to them.
///
/// # Errors
/// [`ClusterError`]: no node has been told then.
pub(crate) async fn change_blocklist(node: &Node, change: Change) -> Result<(), ClusterError> {
    match send(&node.router, &node.router.cluster().all, Say::Blocklist(change)).await? {
        0 => Err(ClusterError::Unheard),
        _ => Ok(()),
    }
}

/// Gives commands to the session with this secret on another node, the one with this uid: its connection goes only the
/// other way. Commands given one after the other arrive in that order. `data` is one frame of them, in the session's
/// own encoding.
///
/// # Errors
/// [`ClusterError::Nowhere`] when there is no such node; whether it has the session is not waited for. Others of
/// [`ClusterError`] when the node cannot be told.
pub(crate) async fn forward(node: &Node, to: &str, session: &str, data: Bytes) -> Result<(), ClusterError> {
    if !node.router.cluster().registry.knows(to, Instant::now()) {
        return Err(ClusterError::Nowhere);
    }
    let channel = Channel::new(format!("{CONTROL}.{to}")).map_err(|_| ClusterError::Nowhere)?;
    match send(&node.router, &channel, Say::Input { session: session.to_owned(), data: Data(data) }).await? {
        0 => Err(ClusterError::Nowhere),
        _ => Ok(()),
    }
}

/// All nodes, this one first.
pub(crate) fn nodes(node: &Node) -> Vec<NodeInfo> {
    let mut nodes = vec![node.info()];
    nodes.extend(node.router.cluster().others());
    nodes
}

/// The channels that have subscribers on any node, with how many: those that match, if a pattern is given. No more
/// than fit into `room` are gathered.
///
/// # Errors
/// [`ClusterError`], also when a single node is missing.
pub(crate) async fn channels(
    node: &Node,
    pattern: Option<&Pattern>,
    mut room: Room,
) -> Result<Channels, ClusterError> {
    let cluster = node.router.cluster();
    let others = cluster.others();
    let mut all = node.router.channels(pattern, &mut room).ok_or(ClusterError::TooLarge)?;
    if node.router.down_reason().is_some() {
        // Nobody knows how many others there are.
        return Err(BrokerError::Unavailable.into());
    }
    if others.is_empty() {
        return Ok(all);
    }
    // Newcomers answer too.
    let mut survey = cluster.surveys.open(others.len() + 16);
    let pattern = pattern.map(|pattern| pattern.as_str().to_owned());
    send(&node.router, &cluster.all, Say::Ask { id: survey.id, pattern }).await?;
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
                if !survey::add(&mut all, channels, &mut room) {
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

/// Announces this node and answers the others, for ever. With the memory broker there are no others.
pub(crate) async fn run(node: Arc<Node>) {
    let cluster = node.router.cluster();
    let work = cluster.work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut work) = work.filter(|_| node.redis.is_some()) else { return };
    let mut beat = tokio::time::interval(ANNOUNCE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Dropped with this task, and so are they.
    let mut evicting = JoinSet::new();
    loop {
        let todo = tokio::select! {
            _ = beat.tick() => Todo::Announce,
            _ = look.tick() => {
                for info in cluster.registry.take_ended(Instant::now()) {
                    tracing::warn!(node = info.name, "a node has ended without a word; its members are taken out");
                    evicting.spawn(evicting::evict(Arc::clone(&node), info.uid));
                }
                continue;
            }
            _ = evicting.join_next(), if !evicting.is_empty() => continue,
            todo = work.recv() => match todo {
                Some(todo) => todo,
                None => return,
            },
        };
        let announces = matches!(todo, Todo::Announce);
        let (channel, say) = match todo {
            Todo::Announce => (cluster.all.clone(), Say::Node(node.info())),
            Todo::Evict(uid) => {
                evicting.spawn(evicting::evict(Arc::clone(&node), uid));
                continue;
            }
            Todo::Answer { to, id, pattern } => {
                let Ok(channel) = Channel::new(format!("{CONTROL}.{to}")) else { continue };
                let pattern = pattern.map(Pattern::new).transpose();
                let mut room = Room::new(MAX_MESSAGE, LISTED);
                // A pattern that cannot be matches nothing.
                let channels = match pattern {
                    Ok(pattern) => node.router.channels(pattern.as_ref(), &mut room),
                    Err(_) => Some(Channels::new()),
                };
                (channel, Say::Answer { id, channels })
            }
        };
        if let Err(error) = send(&node.router, &channel, say).await {
            tracing::debug!(%error, "other nodes could not be told");
            if announces {
                beat.reset_after(AGAIN);
            }
        }
    }
}

/// Tells the others that this node leaves, when it announces itself no more. Waits until that is on its way, but not
/// for long.
pub(crate) async fn leave(node: &Node, within: Duration) {
    if node.redis.is_some() {
        let gone = send(&node.router, &node.router.cluster().all, Say::Gone {});
        // Without it they find out by themselves.
        let _ = tokio::time::timeout(within, gone).await;
    }
}

impl Node {
    /// What is told of this node.
    pub(crate) fn info(&self) -> NodeInfo {
        let cluster = self.router.cluster();
        let sum = |of: fn(&Metrics) -> &AtomicU64| -> u64 {
            self.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
        };
        NodeInfo {
            uid: cluster.uid.clone(),
            name: cluster.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            num_clients: self.process.connections.load(Ordering::Relaxed) as u64,
            num_users: sum(|m| &m.users),
            num_subs: sum(|m| &m.subscriptions),
            num_channels: self.router.subscribed().0 as u64,
            uptime: self.began.elapsed().as_secs(),
            channel_options: cluster.channel_options.clone(),
        }
    }
}

/// Publishes a message and gives how many have heard it.
async fn send(router: &Router, channel: &Channel, say: Say) -> Result<u64, ClusterError> {
    let message = Message { say }.write();
    if message.len() > MAX_MESSAGE {
        return Err(ClusterError::TooLong);
    }
    let body = router.cluster().seal(channel, &message);
    let broker = router.broker().ok_or(BrokerError::Unavailable)?;
    let (done, outcome) = oneshot::channel();
    broker.publish(
        channel,
        body,
        Box::new(move |outcome| {
            let _ = done.send(outcome);
        }),
    );
    let published = outcome.await.map_err(|_| BrokerError::Unavailable)?;
    Ok(published?.receivers)
}
