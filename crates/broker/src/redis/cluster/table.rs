//! Which topics are wanted, with which primary each is, and what of it is confirmed; no I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidings_wire::Topic;

use super::Member;
use super::topology::{Addr, Topology};
use crate::redis::names::Names;

/// All topics of this node.
#[derive(Default)]
pub(super) struct Table {
    topics: HashMap<Topic, Entry>,
    /// The topology by which channels have their homes.
    pub(super) home_of_all: Topology,
    /// The primaries that have slots; a pattern needs them all.
    all: Vec<u32>,
    /// The primaries to which there is a connection.
    up: HashSet<u32>,
    /// Whether there is a connection for plain messages.
    pub(super) plain_up: bool,
}

struct Entry {
    /// Needs no connection but that to its primary.
    own: bool,
    /// A channel's primary.
    home: Option<Arc<Member>>,
    plain: bool,
    /// The primaries that have confirmed it.
    at: Vec<u32>,
    /// The sink was told that it is live, and not that it is away since.
    said: bool,
}

impl Entry {
    fn is_complete(&self, topic: &Topic, all: &[u32], plain_up: bool) -> bool {
        let there = match topic {
            Topic::Channel(_) => self.home.as_ref().is_some_and(|home| self.at.contains(&home.id)),
            Topic::Pattern(_) => !all.is_empty() && all.iter().all(|id| self.at.contains(id)),
        };
        // While the broker is down as a whole, nothing is said to be live.
        there && plain_up && (self.own || self.plain)
    }

    fn needs(&self, topic: &Topic, id: u32, all: &[u32]) -> bool {
        match topic {
            Topic::Channel(_) => self.home.as_ref().is_some_and(|home| home.id == id),
            Topic::Pattern(_) => all.contains(&id),
        }
    }
}

impl Table {
    /// Wants a topic, with its primary if it has one.
    pub(super) fn want(&mut self, topic: &Topic, own: bool, home: Option<Arc<Member>>) {
        self.topics.entry(topic.clone()).or_insert(Entry {
            own,
            home,
            plain: false,
            at: Vec::new(),
            said: false,
        });
    }

    /// Wants it no longer; gives its primary.
    pub(super) fn unwant(&mut self, topic: &Topic) -> Option<Arc<Member>> {
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

    /// Whether any channel is with this primary.
    pub(super) fn is_home(&self, id: u32) -> bool {
        self.topics.values().any(|entry| entry.home.as_ref().is_some_and(|home| home.id == id))
    }

    pub(super) fn patterns(&self) -> Vec<Topic> {
        self.topics.keys().filter(|topic| matches!(topic, Topic::Pattern(_))).cloned().collect()
    }

    /// These are heard plainly; gives those that are live by that.
    pub(super) fn heard_plainly(&mut self, topics: &[Topic]) -> Vec<Topic> {
        self.confirm(topics, |entry| entry.plain = true)
    }

    /// These are heard at a primary; gives those that are live by that.
    pub(super) fn heard_at(&mut self, id: u32, topics: &[Topic]) -> Vec<Topic> {
        self.confirm(topics, |entry| {
            if !entry.at.contains(&id) {
                entry.at.push(id);
            }
        })
    }

    /// The connection says a topic again that was dropped and wanted anew: so is it said on.
    fn confirm(&mut self, topics: &[Topic], note: impl Fn(&mut Entry)) -> Vec<Topic> {
        let mut live = Vec::new();
        for topic in topics {
            let Some(entry) = self.topics.get_mut(topic) else { continue };
            note(entry);
            if !entry.said && entry.is_complete(topic, &self.all, self.plain_up) {
                entry.said = true;
                live.push(topic.clone());
            }
        }
        live
    }

    /// Gives those that are live and were not said to be.
    pub(super) fn complete(&mut self) -> Vec<Topic> {
        let (all, plain_up) = (&self.all, self.plain_up);
        let news = self
            .topics
            .iter_mut()
            .filter(|(topic, entry)| !entry.said && entry.is_complete(topic, all, plain_up));
        news.map(|(topic, entry)| {
            entry.said = true;
            topic.clone()
        })
        .collect()
    }

    /// Nothing is heard plainly any more, and nothing is live.
    pub(super) fn plain_down(&mut self) {
        self.plain_up = false;
        for entry in self.topics.values_mut() {
            (entry.plain, entry.said) = (false, false);
        }
    }

    pub(super) fn member_up(&mut self, id: u32) {
        self.up.insert(id);
    }

    /// Nothing is heard at a primary any more; gives the topics that are away by that.
    pub(super) fn member_down(&mut self, id: u32) -> Vec<Topic> {
        self.up.remove(&id);
        let all = &self.all;
        let mut away = Vec::new();
        for (topic, entry) in &mut self.topics {
            entry.at.retain(|at| *at != id);
            if entry.needs(topic, id, all) {
                entry.said = false;
                away.push(topic.clone());
            }
        }
        away
    }

    /// Has channels follow their slots: what was heard of each before goes along. Gives the topics that are away by that,
    /// because the connection to where they are now does not stand yet.
    pub(super) fn follow(
        &mut self,
        topology: &Topology,
        members: &HashMap<Addr, Arc<Member>>,
        names: &Names,
    ) -> Vec<Topic> {
        self.home_of_all = topology.clone();
        self.all =
            members.iter().filter(|(addr, _)| topology.serves(addr)).map(|(_, member)| member.id).collect();
        let mut away = Vec::new();
        for (topic, entry) in &mut self.topics {
            let Topic::Channel(channel) = topic else {
                if entry.said && !entry.is_complete(topic, &self.all, self.plain_up) {
                    entry.said = false;
                    away.push(topic.clone());
                }
                continue;
            };
            let owner = topology.owner(names.slot(channel)).and_then(|addr| members.get(addr));
            // A slot that nobody has will come back somewhere; until then its channels stay where they were.
            let Some(owner) = owner else { continue };
            if entry.home.as_ref().is_some_and(|home| home.id == owner.id) {
                continue;
            }
            let was_up = entry.home.as_ref().is_some_and(|home| self.up.contains(&home.id));
            if let Some(home) = &entry.home {
                home.interest.unsubscribe(topic);
                if let Some(track) = home.release(channel) {
                    owner.tracker.adopt(track);
                }
            }
            owner.interest.subscribe(topic);
            entry.home = Some(Arc::clone(owner));
            entry.at.clear();
            // Between two connections that stand, nothing with a position is missed: it is fetched.
            if !(was_up && self.up.contains(&owner.id)) && std::mem::take(&mut entry.said) {
                away.push(topic.clone());
            }
        }
        away
    }
}
