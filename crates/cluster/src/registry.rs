//! The registry of the other nodes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::rebalance::NodeLoad;

/// How often a node announces itself.
pub(super) const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(3);
/// A node without an announcement for this long has ended: three announcements, and half of one for delays.
const EXPIRY: Duration = Duration::from_millis(3 * 3_000 + 1_500);
/// Most nodes in the registry; further ones are counted as ignored.
const MAX_NODES: usize = 1_000;

/// Information about a node. The field names are those of the server API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The unique id, new with each start.
    pub uid: String,
    /// The name that the operator gave it.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// Connections of clients.
    pub num_clients: u64,
    /// Users of these connections; a user with connections on several shards is counted once for each.
    pub num_users: u64,
    /// Subscriptions of these connections.
    pub num_subs: u64,
    /// Channels with subscribers.
    pub num_channels: u64,
    /// Seconds since the start.
    pub uptime: u64,
    /// Digest of the options of channels: nodes of one version that share a broker should have the same.
    #[serde(default)]
    pub channel_options: String,
    /// Whether the node is ready to receive clients (`/ready`). Earlier versions do not announce it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Clients that the node has moved to other nodes within the last seconds (`cluster.rebalance`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_moving: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Longest time between two announcements of its own that a connected node receives back. After a longer gap the node was
/// disconnected from the broker or suspended, and has missed the announcements of other nodes too.
const OWN_EXPIRY: Duration = Duration::from_millis(2 * 3_000 + 1_500);

/// The other nodes, with the time of the last announcement.
#[derive(Debug, Default)]
pub(super) struct NodeRegistry {
    nodes: Mutex<HashMap<String, (NodeInfo, Instant)>>,
    /// When this node last received an announcement of its own.
    own: Mutex<Option<Instant>>,
}

/// The effect of an announcement on the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnnounceOutcome {
    /// The node is new.
    New,
    /// The node was known.
    Known,
    /// The node is new, and the registry is full.
    TooMany,
}

impl NodeRegistry {
    /// Records an announcement.
    pub(super) fn announce(&self, info: NodeInfo, now: Instant) -> AnnounceOutcome {
        let mut nodes = self.lock();
        let full = nodes.len() >= MAX_NODES;
        match nodes.get_mut(&info.uid) {
            Some(known) => {
                *known = (info, now);
                AnnounceOutcome::Known
            }
            None if full => AnnounceOutcome::TooMany,
            None => {
                nodes.insert(info.uid.clone(), (info, now));
                AnnounceOutcome::New
            }
        }
    }

    /// This node has received an announcement of its own. After it was disconnected ([`OWN_EXPIRY`]), the time without
    /// announcements of other nodes is counted from now.
    pub(super) fn on_own_announcement(&self, now: Instant) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let was_connected = own.is_some_and(|last| now.duration_since(last) < OWN_EXPIRY);
        *own = Some(now);
        if !was_connected {
            for (_, last) in self.lock().values_mut() {
                *last = now;
            }
        }
    }

    /// Removes and returns the nodes that have ended without a message: their announcements are overdue while this node
    /// received its own.
    pub(super) fn take_ended(&self, now: Instant) -> Vec<NodeInfo> {
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.is_none_or(|last| now.duration_since(last) >= OWN_EXPIRY) {
            return Vec::new();
        }
        let mut nodes = self.lock();
        nodes
            .extract_if(|_, (_, last)| now.duration_since(*last) >= EXPIRY)
            .map(|(_, (info, _))| info)
            .collect()
    }

    /// The digest of a node's options of channels, from its last announcement.
    pub(super) fn channel_options(&self, uid: &str) -> Option<String> {
        self.lock().get(uid).map(|(info, _)| info.channel_options.clone())
    }

    /// Removes a node that leaves.
    pub(super) fn remove(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Whether the node with this uid is alive.
    pub(super) fn is_alive(&self, uid: &str, now: Instant) -> bool {
        self.lock().get(uid).is_some_and(|(_, last)| now.duration_since(*last) < EXPIRY)
    }

    /// The nodes that are alive, in the order of their names.
    pub(super) fn nodes(&self, now: Instant) -> Vec<NodeInfo> {
        let nodes = self.lock();
        // Overdue nodes stay in the map until `take_ended` removes them.
        let known = nodes.values().filter(|(_, last)| now.duration_since(*last) < EXPIRY);
        let mut infos: Vec<_> = known.map(|(info, _)| info.clone()).collect();
        infos.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
        infos
    }

    /// The load of each node, including those whose announcements are overdue.
    pub(super) fn loads(&self, now: Instant) -> Vec<NodeLoad> {
        let nodes = self.lock();
        let load = |(info, last): &(NodeInfo, Instant)| NodeLoad {
            uid: info.uid.clone(),
            clients: info.num_clients,
            moving: info.num_moving,
            ready: info.ready,
            age: now.saturating_duration_since(*last),
        };
        nodes.values().map(load).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (NodeInfo, Instant)>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(uid: &str) -> NodeInfo {
        NodeInfo { uid: uid.into(), name: uid.to_uppercase(), ..NodeInfo::default() }
    }

    fn uids(registry: &NodeRegistry, now: Instant) -> Vec<String> {
        registry.nodes(now).into_iter().map(|info| info.uid).collect()
    }

    #[test]
    fn a_node_is_alive_until_it_has_missed_three_announcements_or_leaves() {
        let registry = NodeRegistry::default();
        let start = Instant::now();
        assert_eq!(registry.announce(node("b"), start), AnnounceOutcome::New);
        assert_eq!(registry.announce(node("a"), start), AnnounceOutcome::New);
        assert_eq!(uids(&registry, start), ["a", "b"]);
        let later = start + 2 * ANNOUNCE_INTERVAL;
        assert_eq!(registry.announce(node("b"), later), AnnounceOutcome::Known);
        assert_eq!(uids(&registry, start + 3 * ANNOUNCE_INTERVAL), ["a", "b"]);
        assert!(
            registry.is_alive("a", start + 3 * ANNOUNCE_INTERVAL)
                && !registry.is_alive("a", start + 4 * ANNOUNCE_INTERVAL)
        );
        assert_eq!(uids(&registry, start + 4 * ANNOUNCE_INTERVAL), ["b"]);
        registry.remove("b");
        assert!(uids(&registry, start + 4 * ANNOUNCE_INTERVAL).is_empty());
    }

    #[test]
    fn a_node_that_was_disconnected_itself_considers_no_other_ended() {
        let registry = NodeRegistry::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        registry.on_own_announcement(start);
        assert_eq!(registry.announce(node("a"), start), AnnounceOutcome::New);
        // Disconnected for a minute.
        assert_eq!(registry.take_ended(after(60)), []);
        registry.on_own_announcement(after(60));
        assert_eq!(registry.take_ended(after(60)), []);
        // It receives its own announcements, and none of the other node.
        for seconds in [63, 66, 69] {
            registry.on_own_announcement(after(seconds));
            assert_eq!(registry.take_ended(after(seconds)), []);
        }
        registry.on_own_announcement(after(72));
        let ended: Vec<_> = registry.take_ended(after(72)).into_iter().map(|info| info.uid).collect();
        assert_eq!(ended, ["a"]);
        assert_eq!(registry.take_ended(after(72)), [], "each node is returned once");
    }

    #[test]
    fn nodes_are_stored_up_to_a_bound() {
        let registry = NodeRegistry::default();
        let now = Instant::now();
        for i in 0..MAX_NODES {
            assert_eq!(registry.announce(node(&format!("n{i}")), now), AnnounceOutcome::New);
        }
        assert_eq!(registry.announce(node("one more"), now), AnnounceOutcome::TooMany);
        assert_eq!(registry.announce(node("n7"), now), AnnounceOutcome::Known);
        assert_eq!(registry.nodes(now).len(), MAX_NODES);
    }
}
