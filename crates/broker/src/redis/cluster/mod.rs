//! A Redis Cluster: a pair of connections to each primary, and one more connection for plain messages.
//!
//! **Plain and sharded messages.** In a cluster, a plain `PUBLISH` on any node is forwarded to all nodes and reaches
//! every `SUBSCRIBE`d client, but no `SSUBSCRIBE`d one; an `SPUBLISH` stays at the primary of its hash slot and
//! reaches only `SSUBSCRIBE`d clients. Any client may publish plainly on any node, so each channel is subscribed
//! plainly on one connection to any node. Publications of tidings with a position are sharded: the function appends to
//! the stream and calls `SPUBLISH` in one step on the primary of the slot, and each node receives them on its
//! connection to this primary. They cost the other primaries nothing, so channels with a history scale with the
//! cluster; plain publications do not. The plain name of a channel is also subscribed sharded, for clients that use
//! `SPUBLISH`. Messages between nodes are sharded too: the number of receivers in Redis' response is then the number
//! of nodes that have received the message, whereas for a plain publication it counts the subscribers on one node of
//! the cluster.
//!
//! A subscription is live when both halves are confirmed. When a slot moves, the sharded half moves with it and the
//! plain half is not touched, so no plain publication is missed or received twice. Patterns exist for plain names
//! alone; while any node has subscribed patterns, the function also calls `PUBLISH` (see the library).
//!
//! **Moved slots and failed primaries.** [`Cluster`] assigns each channel to a primary. When the assignment changes,
//! the channel's [track](super::track) is detached from one primary's connection, after all messages received there
//! were handed over, and attached to the other's, which treats it as after a lost connection: it subscribes, reads the
//! position, and fetches missed publications. Replication is asynchronous, so a promoted replica may lack the last
//! publications. The meta hash of a channel records the primary that wrote last, its term, and the position of the
//! history at the last change; a node with a higher position reports it, and the history begins anew in another epoch:
//! the loss is announced.
//!
//! | module | holds |
//! |---|---|
//! | `topology` | the owners of hash slots, merged from the responses of several nodes; no I/O |
//! | `primary` | one primary: its queue, its tracks, its two connections |
//! | `topics` | the wanted topics, their primaries, and the confirmed subscriptions; no I/O |
//! | `connection_events` | the events of the connections |
//! | `topology_watcher` | the task that keeps the topology up to date |
//!
//! Invariants:
//! - A topic is reported live only when each connection that it needs has confirmed it; when one of these is lost, this
//!   topic is reported away, and no topic that does not need the connection.
//! - A channel's track is with one primary at a time. Locks are taken in this order: the table, the routes, a
//!   primary's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use redis::Client;
use tidings_redis_dial::addr::Addr;
use tidings_redis_dial::dial::{Dialer, Nodes, Target};
use tidings_redis_dial::redirect::Redirect;
use tidings_redis_dial::url::Seeds;
use tidings_wire::{Channel, Topic};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::counters::Counters;
use super::interest::Interest;
use super::key_expiry::KeyDeadlines;
use super::link::{Link, LinkRole};
use super::names::Names;
use super::options::Options;
use super::queue::PendingRequest;
use super::slots::SLOTS;
use super::tracker::Tracker;
use crate::{Probe, SharedSink, lock};

mod connection_events;
mod primary;
mod topics;
mod topology;
mod topology_watcher;

use primary::Primary;
use topics::TopicTable;
use topology::Topology;

/// Most redirections of one request.
const MAX_REDIRECTS: u8 = 5;

/// All connections to a cluster.
pub(super) struct Cluster {
    names: Arc<Names>,
    sink: SharedSink,
    counters: Arc<Counters>,
    deadlines: Arc<KeyDeadlines>,
    options: Options,
    runtime: Handle,
    seeds: Seeds,
    /// The known nodes; never empty.
    nodes: Nodes,
    /// Topics to subscribe plainly.
    plain: Arc<Interest>,
    resets: watch::Sender<String>,
    table: Mutex<TopicTable>,
    routes: Mutex<Arc<Routes>>,
    /// Notified when the topology may have changed.
    changed: Arc<Notify>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The destinations of requests. Replaced as a whole when they change.
#[derive(Default)]
struct Routes {
    topology: Topology,
    primaries: HashMap<Addr, Arc<Primary>>,
}

impl Cluster {
    /// Starts to connect.
    pub(super) fn start(
        options: Options,
        seeds: Seeds,
        names: Arc<Names>,
        sink: SharedSink,
        counters: Arc<Counters>,
        deadlines: Arc<KeyDeadlines>,
        runtime: &Handle,
    ) -> redis::RedisResult<Arc<Self>> {
        let clients = seeds.nodes.iter().cloned().map(Client::open).collect::<Result<Vec<_>, _>>()?;
        let cluster = Arc::new(Self {
            names,
            sink,
            counters,
            deadlines,
            options,
            runtime: runtime.clone(),
            seeds,
            nodes: Arc::new(Mutex::new(clients)),
            plain: Arc::default(),
            resets: watch::Sender::default(),
            table: Mutex::default(),
            routes: Mutex::default(),
            changed: Arc::default(),
            tasks: Mutex::default(),
        });
        let link = Link {
            role: LinkRole::Plain,
            dialer: cluster.dialer(Target::Any(Arc::clone(&cluster.nodes))),
            names: Arc::clone(&cluster.names),
            interest: Arc::clone(&cluster.plain),
            tracker: Arc::new(Tracker::default()),
            deadlines: Arc::clone(&cluster.deadlines),
            sink: Arc::clone(&cluster.sink),
            events: Arc::new(connection_events::PlainEvents(Arc::downgrade(&cluster))),
            counters: Arc::clone(&cluster.counters),
            reset: cluster.resets.clone(),
            resets: cluster.resets.subscribe(),
            ping_interval: cluster.options.ping_interval,
            response_timeout: cluster.options.response_timeout,
        };
        let tasks =
            [runtime.spawn(link.run()), runtime.spawn(topology_watcher::run(Arc::downgrade(&cluster)))];
        lock(&cluster.tasks).extend(tasks);
        Ok(cluster)
    }

    /// The primary of a channel, if it is known.
    pub(super) fn primary(&self, channel: &Channel) -> Option<Arc<Primary>> {
        let slot = self.names.slot(channel);
        let routes = Arc::clone(&lock(&self.routes));
        routes.topology.owner(slot).and_then(|addr| routes.primaries.get(addr)).cloned()
    }

    /// Forwards requests that a node has redirected. Called in order, from the task of one connection.
    pub(super) fn forward(&self, requests: Vec<(PendingRequest, Redirect)>) {
        for (mut waiting, redirect) in requests {
            waiting.hops += 1;
            let addr = match redirect {
                Redirect::Moved(slot, addr) => {
                    match &addr {
                        Some(addr) => self.record_owner(slot, addr),
                        None => self.changed.notify_one(),
                    }
                    waiting.asking = false;
                    addr
                }
                Redirect::Ask(addr) => {
                    waiting.asking = true;
                    addr
                }
            };
            // A dropped request completes as `Unavailable`.
            if waiting.hops <= MAX_REDIRECTS
                && let Some(primary) = addr.and_then(|addr| self.primary_at(&addr))
            {
                primary.queue.push_forwarded(waiting);
            }
        }
    }

    fn primary_at(&self, addr: &Addr) -> Option<Arc<Primary>> {
        lock(&self.routes).primaries.get(addr).cloned()
    }

    /// Records the owner of a slot, from a redirection.
    fn record_owner(&self, slot: u16, addr: &Addr) {
        let mut routes = lock(&self.routes);
        if routes.topology.owner(slot) != Some(addr) {
            let mut topology = routes.topology.clone();
            topology.set(slot, addr);
            *routes = Arc::new(Routes { topology, primaries: routes.primaries.clone() });
        }
        drop(routes);
        self.changed.notify_one();
    }

    /// Closes all connections and makes new ones.
    pub(super) fn reset(&self, reason: &str) {
        self.resets.send_replace(reason.to_owned());
        let routes = Arc::clone(&lock(&self.routes));
        routes.primaries.values().for_each(|primary| drop(primary.resets.send_replace(reason.to_owned())));
    }

    /// Closes the connections that a publication of this channel uses, and makes new ones.
    pub(super) fn reset_for(&self, channel: &Channel, reason: &str) {
        if !self.names.is_own(channel) {
            self.resets.send_replace(reason.to_owned());
        } else if let Some(primary) = self.primary(channel) {
            primary.resets.send_replace(reason.to_owned());
        }
    }

    /// Two channels for each primary: one that tests the connections to this primary, and one that tests the route from
    /// there through the cluster to the connection for plain messages.
    pub(super) fn probes(&self, own: &str, plain: &str) -> Vec<Probe> {
        let routes = Arc::clone(&lock(&self.routes));
        let topology = &routes.topology;
        let mut found: HashMap<(bool, &Addr), Channel> = HashMap::new();
        let mut wanted: Vec<_> = (0..SLOTS).filter_map(|slot| topology.owner(slot)).collect();
        wanted.sort();
        wanted.dedup();
        // With evenly spread slots a few attempts find a channel for each primary; a primary with few slots takes more.
        for number in 0..u32::from(SLOTS) {
            if found.len() == 2 * wanted.len() {
                break;
            }
            for (is_plain, stem) in [(false, own), (true, plain)] {
                if let Ok(channel) = Channel::new(format!("{stem}.{number}"))
                    && let Some(owner) = topology.owner(self.names.slot(&channel))
                {
                    found.entry((is_plain, owner)).or_insert(channel);
                }
            }
        }
        let what = |plain: bool, addr: &Addr| match plain {
            true => format!("{addr} of the cluster, plainly"),
            false => format!("{addr} of the cluster"),
        };
        let mut probes: Vec<_> = found
            .into_iter()
            // The nodes' own channels have no envelopes, so no histories: see `Names::sharded_names`.
            .map(|((plain, addr), channel)| Probe { channel, through: what(plain, addr), stateful: plain })
            .collect();
        probes.sort_by(|a, b| a.through.cmp(&b.through));
        probes
    }

    fn dialer(&self, target: Target) -> Dialer {
        Dialer::new(target, self.seeds.secrets.clone(), self.options.connect_timeout)
    }

    /// Applies a new topology: connects to new primaries, moves channels to the primaries of their slots, closes
    /// connections to nodes that are no primaries any more.
    fn apply_topology(self: &Arc<Self>, topology: Topology) {
        let mut table = lock(&self.table);
        let first = table.topology.primaries.is_empty();
        let mut primaries = lock(&self.routes).primaries.clone();
        let wanted_patterns = table.patterns();
        for addr in &topology.primaries {
            if !primaries.contains_key(addr) {
                match Primary::start(self, addr) {
                    Ok(primary) => {
                        wanted_patterns.iter().for_each(|topic| primary.interest.subscribe(topic));
                        drop(primaries.insert(addr.clone(), primary));
                    }
                    Err(error) => tracing::warn!("redis {addr}: {error}"),
                }
            }
        }
        let clients: Vec<_> = topology.nodes.iter().filter_map(|addr| self.seeds.client(addr).ok()).collect();
        if !clients.is_empty() {
            *lock(&self.nodes) = clients;
        }
        *lock(&self.routes) = Arc::new(Routes { topology: topology.clone(), primaries: primaries.clone() });
        if table.topology != topology {
            tracing::info!("redis: a cluster of {} primaries", topology.primaries.len());
            let away = table.follow(&topology, &primaries, &self.names);
            self.report_away(&away, "the hash slot is being moved");
        }
        primaries.retain(|addr, primary| {
            let stays = topology.primaries.contains(addr) || table.is_home(primary.id);
            if !stays {
                tracing::info!("redis {addr}: no longer a primary of the cluster");
                primary.stop();
            }
            stays
        });
        *lock(&self.routes) = Arc::new(Routes { topology, primaries: primaries.clone() });
        if first && table.plain_up {
            self.sink.up();
        }
        let live = table.complete();
        self.report_live(&live);
        drop(table);
        for primary in primaries.values() {
            primary.tracker.sweep(|channel| primary.interest.contains(&Topic::Channel(channel.clone())));
        }
    }

    fn report_live(&self, topics: &[Topic]) {
        if !topics.is_empty() {
            self.sink.live(topics);
        }
    }

    fn report_away(&self, topics: &[Topic], reason: &str) {
        if !topics.is_empty() {
            self.sink.away(topics, reason);
        }
    }

    /// Adds a topic to the wanted ones.
    pub(super) fn subscribe(&self, topic: &Topic) {
        let mut table = lock(&self.table);
        let own = matches!(topic, Topic::Channel(channel) if self.names.is_own(channel));
        if !own {
            self.plain.subscribe(topic);
        }
        let routes = Arc::clone(&lock(&self.routes));
        let home = match topic {
            Topic::Channel(channel) => {
                let slot = self.names.slot(channel);
                table.topology.owner(slot).and_then(|addr| routes.primaries.get(addr)).cloned()
            }
            Topic::Pattern(_) => None,
        };
        let reachable = match (topic, &home) {
            (Topic::Pattern(_), _) => {
                routes.primaries.values().for_each(|primary| primary.interest.subscribe(topic));
                table.all_up()
            }
            (_, Some(home)) => {
                if let Topic::Channel(channel) = topic
                    && !table.has(topic)
                {
                    home.tracker.drop_foreign_track(channel);
                }
                home.interest.subscribe(topic);
                table.is_up(home.id)
            }
            (_, None) => false,
        };
        table.insert(topic, own, home);
        if !reachable {
            self.report_away(std::slice::from_ref(topic), "its primary is away");
        }
    }

    /// Whether a topic is wanted.
    pub(super) fn is_wanted(&self, topic: &Topic) -> bool {
        lock(&self.table).has(topic)
    }

    /// Removes a topic from the wanted ones.
    pub(super) fn unsubscribe(&self, topic: &Topic) {
        let mut table = lock(&self.table);
        self.plain.unsubscribe(topic);
        let home = table.remove(topic);
        match (topic, home) {
            (Topic::Channel(channel), Some(home)) => {
                home.interest.unsubscribe(topic);
                home.tracker.drop_foreign_track(channel);
            }
            (Topic::Pattern(_), _) => {
                let routes = Arc::clone(&lock(&self.routes));
                routes.primaries.values().for_each(|primary| primary.interest.unsubscribe(topic));
            }
            _ => {}
        }
    }

    /// Closes all connections.
    pub(super) fn stop(&self) {
        lock(&self.tasks).iter().for_each(JoinHandle::abort);
        let routes = Arc::clone(&lock(&self.routes));
        routes.primaries.values().for_each(|primary| primary.stop());
    }
}

/// Does not keep the cluster's connections alive.
type WeakCluster = Weak<Cluster>;
