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
    /// Digest of its options of channels: nodes of one version that share a broker should have the same.
    #[serde(default)]
    pub(crate) channel_options: String,
}

/// How far apart a node's own announcements may be heard by itself. Past it, it was cut off from the broker or stood still,
/// and has missed those of others as well.
const DEAF: Duration = Duration::from_millis(2 * 3_000 + 1_500);

/// The nodes that have been heard of lately, this one not among them.
#[derive(Debug, Default)]
pub(super) struct Registry {
    nodes: Mutex<HashMap<String, (NodeInfo, Instant)>>,
    /// When this node last heard an announcement of its own.
    own: Mutex<Option<Instant>>,
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

    /// This node has heard an announcement of its own. Where it had not for too long, the silence of others says nothing
    /// against them: it counts from now.
    pub(super) fn heard_own(&self, now: Instant) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let listened = own.is_some_and(|last| now.duration_since(last) < DEAF);
        *own = Some(now);
        if !listened {
            for (_, last) in self.lock().values_mut() {
                *last = now;
            }
        }
    }

    /// The nodes that have ended without a word, which are forgotten by this: nothing was heard of them for long enough
    /// while this node could hear. Gives each once, while it listens.
    pub(super) fn take_ended(&self, now: Instant) -> Vec<NodeInfo> {
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.is_none_or(|last| now.duration_since(last) >= DEAF) {
            return Vec::new();
        }
        let mut nodes = self.lock();
        nodes
            .extract_if(|_, (_, last)| now.duration_since(*last) >= FORGOTTEN)
            .map(|(_, (info, _))| info)
            .collect()
    }

    /// The digest of a node's options of channels, as it last said.
    pub(super) fn channel_options(&self, uid: &str) -> Option<String> {
        self.lock().get(uid).map(|(info, _)| info.channel_options.clone())
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
        let nodes = self.lock();
        // Those that are silent stay until they are taken: see [`Registry::take_ended`].
        let known = nodes.values().filter(|(_, last)| now.duration_since(*last) < FORGOTTEN);
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
        assert_eq!(registry.seen(node("b"), start), Met::New);
        assert_eq!(registry.seen(node("a"), start), Met::New);
        assert_eq!(uids(&registry, start), ["a", "b"]);
        let later = start + 2 * ANNOUNCE;
        assert_eq!(registry.seen(node("b"), later), Met::Known);
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
        registry.heard_own(start);
        assert_eq!(registry.seen(node("a"), start), Met::New);
        // Cut off for a minute.
        assert_eq!(registry.take_ended(after(60)), []);
        registry.heard_own(after(60));
        assert_eq!(registry.take_ended(after(60)), []);
        // It hears itself, and nothing of the other.
        for seconds in [63, 66, 69] {
            registry.heard_own(after(seconds));
            assert_eq!(registry.take_ended(after(seconds)), []);
        }
        registry.heard_own(after(72));
        let ended: Vec<_> = registry.take_ended(after(72)).into_iter().map(|info| info.uid).collect();
        assert_eq!(ended, ["a"]);
        assert_eq!(registry.take_ended(after(72)), [], "each once");
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
