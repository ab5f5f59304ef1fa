//! Groups of shared subscriptions: each publication goes to one member of a group (MQTT 5.0 §4.8.2).

use std::collections::HashMap;
use std::sync::Arc;

use tidings_mqtt::topic::Filter;
use tidings_mqtt_session::{Connection, Options};
use tidings_wire::{Publication, Topic};

/// A member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// A connection.
    Connected(Connection),
    /// A session without a connection.
    Parked(u64),
}

/// The members with one filter, `$share/NAME/FILTER`.
#[derive(Debug)]
struct Group {
    filter: Box<str>,
    members: Vec<(Member, Options)>,
    /// The index of the member that is next in turn.
    next: usize,
}

/// All groups, by the topic that has their publications.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_topic: HashMap<Topic, Vec<Group>>,
}

impl Groups {
    pub(super) fn has(&self, topic: &Topic) -> bool {
        self.by_topic.contains_key(topic)
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        self.by_topic.values().map(Vec::len).sum()
    }

    /// Adds a member, or replaces its options.
    pub(super) fn join(&mut self, topic: &Topic, filter: &str, member: Member, options: Options) {
        let groups = self.by_topic.entry(topic.clone()).or_default();
        let at = groups.iter().position(|group| *group.filter == *filter).unwrap_or_else(|| {
            groups.push(Group { filter: filter.into(), members: Vec::new(), next: 0 });
            groups.len() - 1
        });
        let members = &mut groups[at].members;
        match members.iter_mut().find(|(known, _)| *known == member) {
            Some((_, known)) => *known = options,
            None => members.push((member, options)),
        }
    }

    /// Removes a member; returns whether the topic has no group any more.
    pub(super) fn leave(&mut self, topic: &Topic, filter: &str, member: Member) -> bool {
        let Some(groups) = self.by_topic.get_mut(topic) else { return false };
        if let Some(group) = groups.iter_mut().find(|group| *group.filter == *filter) {
            group.members.retain(|(known, _)| *known != member);
        }
        groups.retain(|group| !group.members.is_empty());
        let is_empty = groups.is_empty();
        if is_empty {
            self.by_topic.remove(topic);
        }
        is_empty
    }

    /// Replaces a member by another one, with the same place.
    pub(super) fn replace(&mut self, topic: &Topic, filter: &str, former: Member, new: Member) {
        let groups = self.by_topic.get_mut(topic).into_iter().flatten();
        for (member, _) in
            groups.filter(|group| *group.filter == *filter).flat_map(|group| &mut group.members)
        {
            if *member == former {
                *member = new;
            }
        }
    }

    /// The members that get a publication, one of each group: connected ones in turn, and those without a connection if there is
    /// no other. `excluded` is a connection that has ended.
    pub(super) fn select(
        &mut self,
        topic: &Topic,
        publication: &Arc<Publication>,
        only: Option<&str>,
        excluded: Option<Connection>,
    ) -> Vec<(Box<str>, Member, Options)> {
        let Some(groups) = self.by_topic.get_mut(topic) else { return Vec::new() };
        let channel = publication.channel.as_str();
        let is_wanted = |group: &&mut Group| {
            only.is_none_or(|only| *group.filter == *only)
                && Filter::new(&group.filter).is_ok_and(|filter| filter.matches(channel))
        };
        let selected = groups.iter_mut().filter(is_wanted).filter_map(|group| {
            let count = group.members.len();
            let turn = |offset| (group.next + offset) % count;
            let is_connected =
                |at: &usize| matches!(group.members[*at].0, Member::Connected(one) if Some(one) != excluded);
            let is_parked = |at: &usize| matches!(group.members[*at].0, Member::Parked(_));
            let at = (0..count).map(turn).find(is_connected);
            let at = at.or_else(|| (0..count).map(turn).find(is_parked))?;
            group.next = (at + 1) % count;
            let (member, options) = group.members[at];
            Some((group.filter.clone(), member, options))
        });
        selected.collect()
    }
}

#[cfg(test)]
mod tests {
    use tidings_mqtt::{Qos, RetainHandling};
    use tidings_wire::Channel;

    use super::*;

    #[test]
    fn members_get_publications_in_turn_and_absent_ones_if_there_is_no_other() {
        let mut groups = Groups::default();
        let topic = Topic::Channel(Channel::new("t").unwrap());
        let options = Options {
            qos: Qos::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            is_pattern: false,
            identifier: 0,
            retain_handling: RetainHandling::Send,
        };
        let connection = |slot| Connection { shard: 0, slot, generation: 0 };
        let member = |slot| Member::Connected(connection(slot));
        for slot in [1, 2] {
            groups.join(&topic, "$share/g/t", member(slot), options);
        }
        groups.join(&topic, "$share/g/t", Member::Parked(3), options);
        groups.join(&topic, "$share/h/t", member(4), options);
        let publication = Arc::new(Publication::new(Channel::new("t").unwrap(), "x"));
        let select = |groups: &mut Groups, excluded| -> Vec<Member> {
            groups
                .select(&topic, &publication, Some("$share/g/t"), excluded)
                .into_iter()
                .map(|one| one.1)
                .collect()
        };
        let turns: Vec<_> = (0..4).flat_map(|_| select(&mut groups, None)).collect();
        assert_eq!(turns, [member(1), member(2), member(1), member(2)]);
        assert_eq!(select(&mut groups, Some(connection(1))), [member(2)]);
        for slot in [1, 2] {
            assert!(!groups.leave(&topic, "$share/g/t", member(slot)));
        }
        assert_eq!(select(&mut groups, None), [Member::Parked(3)]);
        assert_eq!(groups.select(&topic, &publication, None, None).len(), 2, "one of each group");
        groups.replace(&topic, "$share/g/t", Member::Parked(3), member(5));
        assert_eq!(select(&mut groups, None), [member(5)]);
        assert!(!groups.leave(&topic, "$share/g/t", member(5)));
        assert!(groups.leave(&topic, "$share/h/t", member(4)));
        assert!(!groups.has(&topic));
    }
}
