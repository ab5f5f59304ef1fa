//! Which nodes there are.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How often a node says that it is there.
pub(super) const ANNOUNCE: Duration = Duration::from_secs(3);
/// After so long without a word a node is forgotten: three announcements were missed, and half of one is for the way.
const FORGOTTEN: Duration = Duration::from_millis(3 * 3_000 + 1_500);
/// Most nodes that are remembered; further ones are not, which is counted.
const MOST: usize = 1_000;

/// What a node tells of itself. The names are those of the server API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeInfo {
    /// Tells it from every other node, also from itself before a restart.
    pub(crate) uid: String,
    /// What its operator calls it.
    pub(crate) name: String,
    /// The version of the program.
    pub(crate) version: String,
    /// Connections of clients.
    pub(crate) num_clients: u64,
    /// Users among them; one whose connections are on several shards counts once for each of those.
    pub(crate) num_users: u64,
    /// Subscriptions of all of them.
    pub(crate) num_subs: u64,
    /// Channels with subscribers.
    pub(crate) num_channels: u64,
    /// Seconds since it was started.
    pub(crate) uptime: u64,
}

/// The nodes that have been heard of lately, this one not among them.
#[derive(Debug, Default)]
pub(super) struct Registry {
    nodes: Mutex<HashMap<String, (NodeInfo, Instant)>>,
}

/// What an announcement has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// It is a new node.
    New,
    /// It was known.
    Known,
    /// It is new, and there is no room for it.
    TooMany,
}

impl Registry {
    /// A node has announced itself.
    pub(super) fn seen(&self, info: NodeInfo, now: Instant) -> Met {
        let mut nodes = self.lock();
        let full = nodes.len() >= MOST;
        match nodes.get_mut(&info.uid) {
            Some(known) => {
                *known = (info, now);
                Met::Known
            }
            None if full => Met::TooMany,
            None => {
                nodes.insert(info.uid.clone(), (info, now));
                Met::New
            }
        }
    }

    /// A node has said that it leaves.
    pub(super) fn gone(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Whether there is a node with this uid.
    pub(super) fn knows(&self, uid: &str, now: Instant) -> bool {
        self.lock().get(uid).is_some_and(|(_, last)| now.duration_since(*last) < FORGOTTEN)
    }

    /// The nodes there are, in the order of their names.
    pub(super) fn nodes(&self, now: Instant) -> Vec<NodeInfo> {
        let mut nodes = self.lock();
        nodes.retain(|_, (_, last)| now.duration_since(*last) < FORGOTTEN);
        let mut infos: Vec<_> = nodes.values().map(|(info, _)| info.clone()).collect();
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
        assert_eq!(registry.seen(node("b"), start), Met::New);
        assert_eq!(registry.seen(node("a"), start), Met::New);
        assert_eq!(uids(&registry, start), ["a", "b"]);
        let later = start + 2 * ANNOUNCE;
        assert_eq!(registry.seen(node("b"), later), Met::Known);
        assert_eq!(uids(&registry, start + 3 * ANNOUNCE), ["a", "b"]);
        assert!(registry.knows("a", start + 3 * ANNOUNCE) && !registry.knows("a", start + 4 * ANNOUNCE));
        assert_eq!(uids(&registry, start + 4 * ANNOUNCE), ["b"]);
        registry.gone("b");
        assert!(uids(&registry, later).is_empty());
    }

    #[test]
    fn a_flood_of_nodes_is_remembered_up_to_a_bound() {
        let registry = Registry::default();
        let now = Instant::now();
        for i in 0..MOST {
            assert_eq!(registry.seen(node(&format!("n{i}")), now), Met::New);
        }
        assert_eq!(registry.seen(node("one more"), now), Met::TooMany);
        assert_eq!(registry.seen(node("n7"), now), Met::Known);
        assert_eq!(registry.nodes(now).len(), MOST);
    }
}
