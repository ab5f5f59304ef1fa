//! The registry of the other nodes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How often a node announces itself.
pub(super) const ANNOUNCE: Duration = Duration::from_secs(3);
/// A node without an announcement for this long has ended: three announcements, and half of one for delays.
const EXPIRY: Duration = Duration::from_millis(3 * 3_000 + 1_500);
/// Most nodes in the registry; further ones are counted as ignored.
const MOST: usize = 1_000;

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
}

/// The longest time between two announcements of its own that a node receives back. Past it the node was cut off from the
/// broker or suspended, and has missed the announcements of other nodes too.
const CUT_OFF: Duration = Duration::from_millis(2 * 3_000 + 1_500);

/// The other nodes, with the time of the last announcement.
#[derive(Debug, Default)]
pub(super) struct Registry {
    nodes: Mutex<HashMap<String, (NodeInfo, Instant)>>,
    /// When this node last received an announcement of its own.
    own: Mutex<Option<Instant>>,
}

/// What an announcement has changed in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// The node is new.
    New,
    /// The node was known.
    Known,
    /// The node is new, and the registry is full.
    TooMany,
}

impl Registry {
    /// Records an announcement.
    pub(super) fn announced(&self, info: NodeInfo, now: Instant) -> Announced {
        let mut nodes = self.lock();
        let full = nodes.len() >= MOST;
        match nodes.get_mut(&info.uid) {
            Some(known) => {
                *known = (info, now);
                Announced::Known
            }
            None if full => Announced::TooMany,
            None => {
                nodes.insert(info.uid.clone(), (info, now));
                Announced::New
            }
        }
    }

    /// This node has received an announcement of its own. After it was cut off ([`CUT_OFF`]), the time without
    /// announcements of other nodes is counted from now.
    pub(super) fn own_received(&self, now: Instant) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let was_connected = own.is_some_and(|last| now.duration_since(last) < CUT_OFF);
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
        if own.is_none_or(|last| now.duration_since(last) >= CUT_OFF) {
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

    /// A node leaves.
    pub(super) fn gone(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Whether the node with this uid is alive.
    pub(super) fn knows(&self, uid: &str, now: Instant) -> bool {
        self.lock().get(uid).is_some_and(|(_, last)| now.duration_since(*last) < EXPIRY)
    }

    /// The nodes that are alive, in the order of their names.
    pub(super) fn nodes(&self, now: Instant) -> Vec<NodeInfo> {
        let nodes = self.lock();
        // Overdue nodes stay in the map until they are taken: see [`Registry::take_ended`].
        let known = nodes.values().filter(|(_, last)| now.duration_since(*last) < EXPIRY);
        let mut infos: Vec<_> = known.map(|(info, _)| info.clone()).collect();
        infos.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
        infos
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

    fn uids(registry: &Registry, now: Instant) -> Vec<String> {
        registry.nodes(now).into_iter().map(|info| info.uid).collect()
    }

    #[test]
    fn a_node_is_known_until_it_has_missed_three_announcements_or_says_that_it_goes() {
        let registry = Registry::default();
        let start = Instant::now();
        assert_eq!(registry.announced(node("b"), start), Announced::New);
        assert_eq!(registry.announced(node("a"), start), Announced::New);
        assert_eq!(uids(&registry, start), ["a", "b"]);
        let later = start + 2 * ANNOUNCE;
        assert_eq!(registry.announced(node("b"), later), Announced::Known);
        assert_eq!(uids(&registry, start + 3 * ANNOUNCE), ["a", "b"]);
        assert!(registry.knows("a", start + 3 * ANNOUNCE) && !registry.knows("a", start + 4 * ANNOUNCE));
        assert_eq!(uids(&registry, start + 4 * ANNOUNCE), ["b"]);
        registry.gone("b");
        assert!(uids(&registry, start + 4 * ANNOUNCE).is_empty());
    }

    #[test]
    fn a_node_that_was_deaf_itself_takes_no_other_for_ended() {
        let registry = Registry::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        registry.own_received(start);
        assert_eq!(registry.announced(node("a"), start), Announced::New);
        // Cut off for a minute.
        assert_eq!(registry.take_ended(after(60)), []);
        registry.own_received(after(60));
        assert_eq!(registry.take_ended(after(60)), []);
        // It hears itself, and nothing of the other.
        for seconds in [63, 66, 69] {
            registry.own_received(after(seconds));
            assert_eq!(registry.take_ended(after(seconds)), []);
        }
        registry.own_received(after(72));
        let ended: Vec<_> = registry.take_ended(after(72)).into_iter().map(|info| info.uid).collect();
        assert_eq!(ended, ["a"]);
        assert_eq!(registry.take_ended(after(72)), [], "each once");
    }

    #[test]
    fn a_flood_of_nodes_is_remembered_up_to_a_bound() {
        let registry = Registry::default();
        let now = Instant::now();
        for i in 0..MOST {
            assert_eq!(registry.announced(node(&format!("n{i}")), now), Announced::New);
        }
        assert_eq!(registry.announced(node("one more"), now), Announced::TooMany);
        assert_eq!(registry.announced(node("n7"), now), Announced::Known);
        assert_eq!(registry.nodes(now).len(), MOST);
    }
}
