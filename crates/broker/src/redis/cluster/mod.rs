//! A Redis Cluster: a pair of connections to each primary, and one beside them for what is published plainly.
//!
//! **What is heard where.** In a cluster a plain `PUBLISH` on any node is carried to all nodes and heard by whoever has
//! said `SUBSCRIBE` to any of them, but not by those who have said `SSUBSCRIBE`; an `SPUBLISH` is heard at its hash
//! slot's primary alone, and only by those. Anybody may publish plainly on any node, so each channel is subscribed
//! plainly, on the one connection that is there for it, to a node that does not matter. What tidings itself publishes
//! with a position travels sharded: the function appends to the stream and says `SPUBLISH` in one step on the primary of
//! the slot, and each node hears that on its connection to this primary. It costs the other primaries nothing, so
//! channels with a history scale with the cluster; plain publications, as everywhere in Redis, do not. The plain name of
//! a channel is subscribed sharded as well, for those who `SPUBLISH` themselves. What nodes tell each other is sharded
//! too: then the number of receivers that Redis answers is that of the nodes which have heard it, whereas of a plain
//! publication it counts those on one node of the cluster.
//!
//! Both halves of a subscription must stand before it is called live. A slot that moves takes the sharded half along,
//! and the plain one is not touched, so no plain publication is missed or heard twice for it. Patterns exist for plain
//! names alone; while any node listens to patterns, the function says `PUBLISH` besides (see the library).
//!
//! **A slot that moves, a primary that fails.** [`Fleet`] knows which primary each channel is with. When that changes, the
//! channel's [track](super::track) is taken from one primary's connection, after everything heard there was handed over,
//! and given to the other's, which treats it as after a lost connection: it subscribes, asks for the position, and
//! fetches what is missing. Replication is asynchronous, so a promoted replica may lack the last publications. The meta
//! hash of a channel holds which primary wrote last, in which term, and how far the history had come when that changed;
//! a node that has heard more than that tells so, and the history begins anew, in another epoch: the loss is announced.
//!
//! | module | holds |
//! |---|---|
//! | `slots` | hash slots |
//! | `topology` | who serves them, from what the nodes say; no I/O |
//! | `redirect` | `MOVED` and `ASK` |
//! | `member` | one primary: its queue, its tracks, its two connections |
//! | `table` | which topics are wanted, where they are, and what of them is confirmed; no I/O |
//! | `news` | what the connections report |
//! | `subscriptions`, `later` | subscribing at one primary, and trying again |
//! | `lookout` | the task that keeps the topology true |
//!
//! Invariants:
//! - A topic is called live only when each connection that it needs has confirmed it; when one of these is lost, it is
//!   told to be away, and nobody else is.
//! - A channel's track is with one primary at a time. Locks are taken in this order: the table, the routes, a member's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo};
use tidings_wire::{Channel, Topic};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::dial::{Dialer, Nodes, Secrets, Target};
use super::interest::Interest;
use super::link::{Link, Part};
use super::names::Names;
use super::queue::Waiting;
use super::tracker::Tracker;
use super::{Counters, Options};
use crate::{Probe, SharedSink, lock};

mod later;
mod lookout;
mod member;
mod news;
mod redirect;
pub(super) mod slots;
mod subscriptions;
mod table;
mod topology;

pub(super) use later::Later;
pub(super) use member::Member;
pub(super) use redirect::Redirect;
pub(super) use topology::Addr;

use slots::SLOTS;
use table::Table;
use topology::Topology;

/// How often one request is sent on before it is given up.
const HOPS: u8 = 5;

/// What is known before the first connection.
pub(super) struct Seeds {
    /// One node each, with the credentials and the kind of connection that all nodes share.
    pub(super) nodes: Vec<ConnectionInfo>,
    pub(super) secrets: Secrets,
}

/// All connections to a cluster.
pub(super) struct Fleet {
    names: Arc<Names>,
    sink: SharedSink,
    counters: Arc<Counters>,
    options: Options,
    runtime: Handle,
    seeds: Seeds,
    /// What is known of where nodes are; never empty.
    nodes: Nodes,
    /// What is to be subscribed plainly.
    plain: Arc<Interest>,
    resets: watch::Sender<String>,
    table: Mutex<Table>,
    routes: Mutex<Arc<Routes>>,
    /// The topology is no longer what it was.
    changed: Arc<Notify>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Where requests go. A new one replaces it when that changes.
#[derive(Default)]
struct Routes {
    topology: Topology,
    members: HashMap<Addr, Arc<Member>>,
}

impl Fleet {
    /// Starts to connect.
    pub(super) fn start(
        options: Options,
        seeds: Seeds,
        names: Arc<Names>,
        sink: SharedSink,
        counters: Arc<Counters>,
        runtime: &Handle,
    ) -> redis::RedisResult<Arc<Self>> {
        let clients = seeds.nodes.iter().cloned().map(Client::open).collect::<Result<Vec<_>, _>>()?;
        let fleet = Arc::new(Self {
            names,
            sink,
            counters,
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
            part: Part::Plain,
            dialer: fleet.dialer(Target::Any(Arc::clone(&fleet.nodes))),
            names: Arc::clone(&fleet.names),
            interest: Arc::clone(&fleet.plain),
            tracker: Arc::new(Tracker::default()),
            sink: Arc::clone(&fleet.sink),
            news: Arc::new(news::Plain(Arc::downgrade(&fleet))),
            counters: Arc::clone(&fleet.counters),
            reset: fleet.resets.clone(),
            resets: fleet.resets.subscribe(),
            ping_interval: fleet.options.ping_interval,
            response_timeout: fleet.options.response_timeout,
        };
        let tasks = [runtime.spawn(link.run()), runtime.spawn(lookout::run(Arc::downgrade(&fleet)))];
        lock(&fleet.tasks).extend(tasks);
        Ok(fleet)
    }

    /// The primary that a channel is with, if that is known.
    pub(super) fn member(&self, channel: &Channel) -> Option<Arc<Member>> {
        let slot = self.names.slot(channel);
        let routes = Arc::clone(&lock(&self.routes));
        routes.topology.owner(slot).and_then(|addr| routes.members.get(addr)).cloned()
    }

    /// Sends on what a node has not done, because it is somewhere else. In order, from the task of one connection.
    pub(super) fn send_on(&self, requests: Vec<(Waiting, Redirect)>) {
        for (mut waiting, redirect) in requests {
            waiting.hops += 1;
            let addr = match redirect {
                Redirect::Moved(slot, addr) => {
                    match &addr {
                        Some(addr) => self.seen(slot, addr),
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
            // Dropped, it is answered `Unavailable`.
            if waiting.hops <= HOPS
                && let Some(member) = addr.and_then(|addr| self.member_at(&addr))
            {
                member.queue.push_on(waiting);
            }
        }
    }

    fn member_at(&self, addr: &Addr) -> Option<Arc<Member>> {
        lock(&self.routes).members.get(addr).cloned()
    }

    /// A node has said that a slot is there.
    fn seen(&self, slot: u16, addr: &Addr) {
        let mut routes = lock(&self.routes);
        if routes.topology.owner(slot) != Some(addr) {
            let mut topology = routes.topology.clone();
            topology.set(slot, addr);
            *routes = Arc::new(Routes { topology, members: routes.members.clone() });
        }
        drop(routes);
        self.changed.notify_one();
    }

    /// Makes all connections anew.
    pub(super) fn reset(&self, reason: &str) {
        self.resets.send_replace(reason.to_owned());
        let routes = Arc::clone(&lock(&self.routes));
        routes.members.values().for_each(|member| drop(member.resets.send_replace(reason.to_owned())));
    }

    /// Makes the connections anew that a publication of this channel takes.
    pub(super) fn reset_for(&self, channel: &Channel, reason: &str) {
        if !self.names.is_own(channel) {
            self.resets.send_replace(reason.to_owned());
        } else if let Some(member) = self.member(channel) {
            member.resets.send_replace(reason.to_owned());
        }
    }

    /// Two channels for each primary: one by which its own connections are tried, one that goes from there through the
    /// cluster to the connection for plain messages.
    pub(super) fn probes(&self, own: &str, plain: &str) -> Vec<Probe> {
        let routes = Arc::clone(&lock(&self.routes));
        let topology = &routes.topology;
        let mut found: HashMap<(bool, &Addr), Channel> = HashMap::new();
        let mut wanted: Vec<_> = (0..SLOTS).filter_map(|slot| topology.owner(slot)).collect();
        wanted.sort();
        wanted.dedup();
        // Where slots are spread evenly, a few tries for each are enough; one with very few slots takes more.
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
            // Nodes' own channels have no envelopes, so no histories: see `Names::sharded_names`.
            .map(|((plain, addr), channel)| Probe { channel, through: what(plain, addr), stateful: plain })
            .collect();
        probes.sort_by(|a, b| a.through.cmp(&b.through));
        probes
    }

    fn dialer(&self, target: Target) -> Dialer {
        Dialer::new(target, self.seeds.secrets.clone(), self.options.connect_timeout)
    }

    /// Whether connections are encrypted.
    fn has_tls(&self) -> bool {
        self.seeds.nodes.iter().any(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }))
    }

    /// A client for a node, with the credentials and the kind of connection of the first seed.
    fn client(&self, addr: &Addr) -> redis::RedisResult<Client> {
        let (host, port) = (addr.host.to_string(), addr.port);
        let seed = &self.seeds.nodes[0];
        let addr = match seed.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        Client::open(seed.clone().set_addr(addr))
    }

    /// Takes over what is known of the cluster by now: starts connections to new primaries, has channels follow their
    /// slots, ends connections to those that are none any more.
    fn adopt(self: &Arc<Self>, topology: Topology) {
        let mut table = lock(&self.table);
        let first = table.home_of_all.primaries.is_empty();
        let mut members = lock(&self.routes).members.clone();
        let wanted_patterns = table.patterns();
        for addr in &topology.primaries {
            if !members.contains_key(addr) {
                match Member::start(self, addr) {
                    Ok(member) => {
                        wanted_patterns.iter().for_each(|topic| member.interest.subscribe(topic));
                        drop(members.insert(addr.clone(), member));
                    }
                    Err(error) => tracing::warn!("redis {addr}: {error}"),
                }
            }
        }
        let clients: Vec<_> = topology.nodes.iter().filter_map(|addr| self.client(addr).ok()).collect();
        if !clients.is_empty() {
            *lock(&self.nodes) = clients;
        }
        *lock(&self.routes) = Arc::new(Routes { topology: topology.clone(), members: members.clone() });
        if table.home_of_all != topology {
            tracing::info!("redis: a cluster of {} primaries", topology.primaries.len());
            let away = table.follow(&topology, &members, &self.names);
            self.say_away(&away, "the hash slot is being moved");
        }
        members.retain(|addr, member| {
            let stays = topology.primaries.contains(addr) || table.is_home(member.id);
            if !stays {
                tracing::info!("redis {addr}: no longer a primary of the cluster");
                member.stop();
            }
            stays
        });
        *lock(&self.routes) = Arc::new(Routes { topology, members: members.clone() });
        if first && table.plain_up {
            self.sink.up();
        }
        let live = table.complete();
        self.say_live(&live);
        drop(table);
        for member in members.values() {
            member.tracker.sweep(|channel| member.interest.knows(&Topic::Channel(channel.clone())));
        }
    }

    fn say_live(&self, topics: &[Topic]) {
        if !topics.is_empty() {
            self.sink.live(topics);
        }
    }

    fn say_away(&self, topics: &[Topic], reason: &str) {
        if !topics.is_empty() {
            self.sink.away(topics, reason);
        }
    }

    /// Wants a topic.
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
                table.home_of_all.owner(slot).and_then(|addr| routes.members.get(addr)).cloned()
            }
            Topic::Pattern(_) => None,
        };
        let reachable = match (topic, &home) {
            (Topic::Pattern(_), _) => {
                routes.members.values().for_each(|member| member.interest.subscribe(topic));
                table.all_up()
            }
            (_, Some(home)) => {
                if let Topic::Channel(channel) = topic
                    && !table.has(topic)
                {
                    home.tracker.disown(channel);
                }
                home.interest.subscribe(topic);
                table.is_up(home.id)
            }
            (_, None) => false,
        };
        table.want(topic, own, home);
        if !reachable {
            self.say_away(std::slice::from_ref(topic), "its primary is away");
        }
    }

    /// Wants a topic no longer.
    pub(super) fn unsubscribe(&self, topic: &Topic) {
        let mut table = lock(&self.table);
        self.plain.unsubscribe(topic);
        let home = table.unwant(topic);
        match (topic, home) {
            (Topic::Channel(channel), Some(home)) => {
                home.interest.unsubscribe(topic);
                home.tracker.disown(channel);
            }
            (Topic::Pattern(_), _) => {
                let routes = Arc::clone(&lock(&self.routes));
                routes.members.values().for_each(|member| member.interest.unsubscribe(topic));
            }
            _ => {}
        }
    }

    /// Ends all connections.
    pub(super) fn stop(&self) {
        lock(&self.tasks).iter().for_each(JoinHandle::abort);
        let routes = Arc::clone(&lock(&self.routes));
        routes.members.values().for_each(|member| member.stop());
    }
}

/// The fleet, while it is there.
type Ashore = Weak<Fleet>;

/// How long a node may take to say what it knows.
fn patience(options: &Options) -> Duration {
    options.response_timeout
}
