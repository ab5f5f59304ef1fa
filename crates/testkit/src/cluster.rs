//! A real Redis Cluster for one test.

use crate::{PATIENCE, RedisServer, Reply, free_port, wait_until};

/// How many hash slots there are.
const SLOTS: usize = 16_384;
/// The silence in milliseconds after which a node counts as failed. A failover takes about twice that.
const FAILOVER_TIMEOUT: &str = "1000";
/// The same without replicas, where no failover is expected. Redis drops a link of its cluster bus, and the plain
/// publications queued on it, after half of this time; on a busy machine a second is too short for a test that counts
/// them.
const NODE_TIMEOUT: &str = "15000";

/// Several `redis-server`s that form a cluster, each on a free port of the loopback address; killed on drop.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Node>,
    primaries: usize,
}

#[derive(Debug)]
struct Node {
    server: RedisServer,
    bus: u16,
    id: String,
}

impl RedisCluster {
    /// Starts this many primaries without replicas. The slots are distributed evenly, in order.
    ///
    /// # Panics
    /// When the cluster does not start.
    pub fn start(primaries: usize) -> Self {
        Self::with_replicas(primaries, 0)
    }

    /// Starts this many primaries, each with `each` replicas.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn with_replicas(primaries: usize, each: usize) -> Self {
        let timeout = if each == 0 { NODE_TIMEOUT } else { FAILOVER_TIMEOUT };
        let mut cluster =
            Self { nodes: (0..primaries * (1 + each)).map(|_| Node::start(timeout)).collect(), primaries };
        for (at, node) in cluster.nodes[..primaries].iter().enumerate() {
            let (first, last) = (SLOTS * at / primaries, SLOTS * (at + 1) / primaries - 1);
            ok(&node.server.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]));
            ok(&node.server.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]));
        }
        for node in &cluster.nodes[1..] {
            cluster.meet(node);
        }
        cluster.wait_until_whole();
        for at in primaries..cluster.nodes.len() {
            let primary = cluster.nodes[at % primaries].id.clone();
            ok(&cluster.nodes[at].server.cli(&["CLUSTER", "REPLICATE", &primary]));
        }
        wait_until(PATIENCE, "replicas that have all data", || {
            cluster.nodes[primaries..].iter().all(|node| {
                node.server.cli(&["INFO", "replication"]).text().contains("master_link_status:up")
            })
        });
        // A replica can be elected only after the other nodes have recorded its primary.
        wait_until(PATIENCE, "all nodes know the replicas", || {
            cluster.nodes.iter().all(|node| {
                node.server.cli(&["CLUSTER", "NODES"]).text().matches("slave").count() == primaries * each
            })
        });
        cluster.primaries = primaries;
        cluster
    }

    /// Starts one more node, a primary without slots. Returns its index.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn add_primary(&mut self) -> usize {
        let node = Node::start(NODE_TIMEOUT);
        self.meet(&node);
        self.nodes.push(node);
        self.wait_until_whole();
        self.nodes.len() - 1
    }

    /// Its URL, with all nodes: `redis+cluster://127.0.0.1:7000,127.0.0.1:7001`.
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.server.addr().to_string()).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// The nodes: the primaries first, then their replicas: that of the first one, of the second one, and so on.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &RedisServer> {
        self.nodes.iter().map(|node| &node.server)
    }

    /// One of the nodes.
    ///
    /// # Panics
    /// When the index is out of range.
    pub fn node(&self, at: usize) -> &RedisServer {
        &self.nodes[at].server
    }

    /// One of the nodes, to kill and restart.
    ///
    /// # Panics
    /// When the index is out of range.
    pub fn node_mut(&mut self, at: usize) -> &mut RedisServer {
        &mut self.nodes[at].server
    }

    /// The index of the primary that initially had a key or channel.
    ///
    /// # Panics
    /// When the first node is not running.
    pub fn primary_of(&self, name: &str) -> usize {
        (self.slot(name) * self.primaries + self.primaries - 1) / SLOTS
    }

    /// The hash slot of a key or channel.
    ///
    /// # Panics
    /// When no node is running.
    pub fn slot(&self, name: &str) -> usize {
        let node = self.nodes.iter().find(|node| node.server.is_running()).expect("a node that runs");
        usize::try_from(node.server.cli(&["CLUSTER", "KEYSLOT", name]).int()).expect("a slot")
    }

    /// A name with this prefix that this primary initially has.
    ///
    /// # Panics
    /// When the first node is not running.
    pub fn name_at(&self, primary: usize, begins: &str) -> String {
        (0..)
            .map(|number| format!("{begins}{number}"))
            .find(|name| self.primary_of(name) == primary)
            .expect("one")
    }

    /// Moves a slot from one primary to another, as `redis-cli --cluster reshard` does. Calls `halfway` when half of
    /// its keys were moved.
    ///
    /// # Panics
    /// When a node returns an error.
    pub fn move_slot(&self, slot: usize, from: usize, to: usize, halfway: impl FnOnce()) {
        let (slot, source, target) = (slot.to_string(), &self.nodes[from], &self.nodes[to]);
        ok(&target.server.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source.id]));
        ok(&source.server.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target.id]));
        let count = source.server.cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot]).int();
        let port = target.server.port().to_string();
        let migrate = |count: i64| {
            let keys = source.server.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, &count.to_string()]).texts();
            for key in &keys {
                ok(&source.server.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]));
            }
            keys.len()
        };
        migrate(count / 2);
        halfway();
        while migrate(100) > 0 {}
        // The target first, so that the slot is never without a primary.
        for node in [target, source] {
            ok(&node.server.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &target.id]));
        }
    }

    fn meet(&self, node: &Node) {
        let (port, bus) = (node.server.port().to_string(), node.bus.to_string());
        ok(&self.nodes[0].server.cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]));
    }

    fn wait_until_whole(&self) {
        let count = format!("cluster_known_nodes:{}", self.nodes.len());
        wait_until(PATIENCE, "a whole cluster", || {
            self.nodes.iter().all(|node| {
                let info = node.server.cli(&["CLUSTER", "INFO"]).text();
                let known = node.server.cli(&["CLUSTER", "NODES"]).text();
                info.contains("cluster_state:ok") && info.contains(&count) && !known.contains("handshake")
            })
        });
    }
}

impl Node {
    fn start(node_timeout: &str) -> Self {
        let bus = free_port();
        let server = RedisServer::start_with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus.to_string(),
            "--cluster-node-timeout",
            node_timeout,
            // A primary without slots stays a primary.
            "--cluster-allow-replica-migration",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ]);
        let id = server.cli(&["CLUSTER", "MYID"]).text();
        Self { server, bus, id }
    }
}

#[track_caller]
fn ok(reply: &Reply) {
    assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
}
