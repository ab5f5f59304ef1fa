//! The wanted topics, the primary of each, and their confirmed subscriptions; no I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidings_wire::Topic;

use super::Primary;
use super::topology::Topology;
use crate::redis::addr::Addr;
use crate::redis::names::Names;

/// All wanted topics of this node.
#[derive(Default)]
pub(super) struct TopicTable {
    topics: HashMap<Topic, TopicState>,
    /// The topology that assigns channels to primaries.
    pub(super) topology: Topology,
    /// The primaries that have slots; a pattern needs them all.
    all: Vec<u32>,
    /// The primaries to which there is a connection.
    up: HashSet<u32>,
    /// Whether there is a connection for plain messages.
    pub(super) plain_up: bool,
}

struct TopicState {
    /// A channel of the deployment itself: needs only the connection to its primary.
    own: bool,
    /// A channel's primary.
    home: Option<Arc<Primary>>,
    plain: bool,
    /// The primaries that have confirmed it.
    at: Vec<u32>,
    /// The sink was informed that the topic is live, and has not been informed since that it is away.
    reported_live: bool,
}

impl TopicState {
    fn is_complete(&self, topic: &Topic, all: &[u32], plain_up: bool) -> bool {
        let there = match topic {
            Topic::Channel(_) => self.home.as_ref().is_some_and(|home| self.at.contains(&home.id)),
            Topic::Pattern(_) => !all.is_empty() && all.iter().all(|id| self.at.contains(id)),
        };
        // While the broker as a whole is down, no topic is reported live.
        there && plain_up && (self.own || self.plain)
    }

    fn needs(&self, topic: &Topic, id: u32, all: &[u32]) -> bool {
        match topic {
            Topic::Channel(_) => self.home.as_ref().is_some_and(|home| home.id == id),
            Topic::Pattern(_) => all.contains(&id),
        }
    }
}

impl TopicTable {
    /// Adds a topic, with its primary if it has one.
    pub(super) fn insert(&mut self, topic: &Topic, own: bool, home: Option<Arc<Primary>>) {
        self.topics.entry(topic.clone()).or_insert(TopicState {
            own,
            home,
            plain: false,
            at: Vec::new(),
            reported_live: false,
        });
    }

    /// Removes a topic; returns its primary.
    pub(super) fn remove(&mut self, topic: &Topic) -> Option<Arc<Primary>> {
        self.topics.remove(topic)?.home
    }

    pub(super) fn has(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }

    pub(super) fn is_up(&self, id: u32) -> bool {
        self.up.contains(&id)
    }

    /// Whether there is a connection to every primary that has slots.
    pub(super) fn all_up(&self) -> bool {
        !self.all.is_empty() && self.all.iter().all(|id| self.up.contains(id))
    }

    /// Whether a channel is assigned to this primary.
    pub(super) fn is_home(&self, id: u32) -> bool {
        self.topics.values().any(|entry| entry.home.as_ref().is_some_and(|home| home.id == id))
    }

    pub(super) fn patterns(&self) -> Vec<Topic> {
        self.topics.keys().filter(|topic| matches!(topic, Topic::Pattern(_))).cloned().collect()
    }

    /// Records confirmations of the plain half; returns the topics that are live now.
    pub(super) fn confirm_plain(&mut self, topics: &[Topic]) -> Vec<Topic> {
        self.confirm(topics, |entry| entry.plain = true)
    }

    /// Records confirmations by a primary; returns the topics that are live now.
    pub(super) fn confirm_at(&mut self, id: u32, topics: &[Topic]) -> Vec<Topic> {
        self.confirm(topics, |entry| {
            if !entry.at.contains(&id) {
                entry.at.push(id);
            }
        })
    }

    /// A connection also confirms a topic again that was removed and added again; it is reported live again then.
    fn confirm(&mut self, topics: &[Topic], note: impl Fn(&mut TopicState)) -> Vec<Topic> {
        let mut live = Vec::new();
        for topic in topics {
            let Some(entry) = self.topics.get_mut(topic) else { continue };
            note(entry);
            if !entry.reported_live && entry.is_complete(topic, &self.all, self.plain_up) {
                entry.reported_live = true;
                live.push(topic.clone());
            }
        }
        live
    }

    /// The topics that are live and have not been reported so.
    pub(super) fn complete(&mut self) -> Vec<Topic> {
        let (all, plain_up) = (&self.all, self.plain_up);
        let news = self
            .topics
            .iter_mut()
            .filter(|(topic, entry)| !entry.reported_live && entry.is_complete(topic, all, plain_up));
        news.map(|(topic, entry)| {
            entry.reported_live = true;
            topic.clone()
        })
        .collect()
    }

    /// Records the loss of the connection for plain messages: no topic is live any more.
    pub(super) fn plain_down(&mut self) {
        self.plain_up = false;
        for entry in self.topics.values_mut() {
            (entry.plain, entry.reported_live) = (false, false);
        }
    }

    pub(super) fn primary_up(&mut self, id: u32) {
        self.up.insert(id);
    }

    /// Records the loss of a primary's connection; returns the topics that are away now.
    pub(super) fn primary_down(&mut self, id: u32) -> Vec<Topic> {
        self.up.remove(&id);
        let all = &self.all;
        let mut away = Vec::new();
        for (topic, entry) in &mut self.topics {
            entry.at.retain(|at| *at != id);
            if entry.needs(topic, id, all) {
                entry.reported_live = false;
                away.push(topic.clone());
            }
        }
        away
    }

    /// Moves channels to the primaries of their slots, together with their tracks. Returns the topics that are away
    /// now, because the connection to the new primary is not up yet.
    pub(super) fn follow(
        &mut self,
        topology: &Topology,
        primaries: &HashMap<Addr, Arc<Primary>>,
        names: &Names,
    ) -> Vec<Topic> {
        self.topology = topology.clone();
        self.all = primaries
            .iter()
            .filter(|(addr, _)| topology.serves(addr))
            .map(|(_, primary)| primary.id)
            .collect();
        let mut away = Vec::new();
        for (topic, entry) in &mut self.topics {
            let Topic::Channel(channel) = topic else {
                if entry.reported_live && !entry.is_complete(topic, &self.all, self.plain_up) {
                    entry.reported_live = false;
                    away.push(topic.clone());
                }
                continue;
            };
            let owner = topology.owner(names.slot(channel)).and_then(|addr| primaries.get(addr));
            // A slot without an owner will get one again; until then its channels stay with their primary.
            let Some(owner) = owner else { continue };
            if entry.home.as_ref().is_some_and(|home| home.id == owner.id) {
                continue;
            }
            let was_up = entry.home.as_ref().is_some_and(|home| self.up.contains(&home.id));
            if let Some(home) = &entry.home {
                home.interest.unsubscribe(topic);
                if let Some(track) = home.release(channel) {
                    owner.tracker.attach(track);
                }
            }
            owner.interest.subscribe(topic);
            entry.home = Some(Arc::clone(owner));
            entry.at.clear();
            // Between two connections that are up, no message with a position is missed: it is fetched.
            if !(was_up && self.up.contains(&owner.id)) && std::mem::take(&mut entry.reported_live) {
                away.push(topic.clone());
            }
        }
        away
    }
}
