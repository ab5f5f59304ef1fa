//! The users of presence channels with Pusher sessions on this shard.
//!
//! A roster is read from the broker once, when its first session subscribes, and follows the joins and leaves of all nodes from
//! then on. Members are connections; a user is present while at least one of its connections is a member.
//!
//! Invariants:
//! - A roster exists as long as a session of this shard is subscribed to its channel.
//! - A list of members that was requested replaces all members, except those that have joined or left since the request: the
//!   list may be older than that.

use std::collections::{HashMap, HashSet};

use tidings_wire::{Channel, ClientInfo};

/// How long a roster is used before its members are read again, in seconds: in case a join or leave was lost.
const REFRESH: u64 = 60;

/// The rosters of a shard.
#[derive(Debug, Default)]
pub(crate) struct Rosters(HashMap<Channel, Roster>);

/// The users of a channel.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Number of subscribed sessions of this shard.
    sessions: usize,
    /// The user of each member, by its client id.
    members: HashMap<Box<str>, Box<str>>,
    users: HashMap<Box<str>, User>,
    /// Whether the members were read.
    is_loaded: bool,
    /// The members that have joined or left since the first request for a list that has no response yet.
    touched: HashSet<Box<str>>,
    /// Requests without a response.
    requests: usize,
    /// When the members were read or requested last, in Unix seconds.
    read_at: u64,
}

#[derive(Debug)]
struct User {
    connections: usize,
    /// The application's information, as JSON.
    info: Box<str>,
}

/// A user who has come or gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) is_added: bool,
    pub(super) user: Box<str>,
    /// The application's information, as JSON.
    pub(super) info: Box<str>,
}

/// The user of a member, and the information about it: from its subscription, or for a client of another protocol from its
/// connection.
fn user_of(info: &ClientInfo) -> (Box<str>, Box<str>) {
    let data = info.chan_info.as_deref().and_then(|data| std::str::from_utf8(data).ok());
    if let Some(member) = data.and_then(|data| tidings_pusher::Member::parse(data).ok()) {
        return (member.user_id.into(), member.user_info.unwrap_or_else(|| "{}".to_owned()).into());
    }
    let user = if info.user.is_empty() { &info.client } else { &info.user };
    (user.as_str().into(), "{}".into())
}

impl Rosters {
    pub(super) fn get(&mut self, channel: &Channel) -> Option<&mut Roster> {
        self.0.get_mut(channel)
    }

    pub(super) fn peek(&self, channel: &Channel) -> Option<&Roster> {
        self.0.get(channel)
    }

    /// A session has subscribed.
    pub(super) fn add_session(&mut self, channel: &Channel) -> &mut Roster {
        let roster = self.0.entry(channel.clone()).or_default();
        roster.sessions += 1;
        roster
    }

    /// A session is not subscribed any more.
    pub(super) fn remove_session(&mut self, channel: &Channel) {
        if let Some(roster) = self.0.get_mut(channel) {
            roster.sessions -= 1;
            if roster.sessions == 0 {
                self.0.remove(channel);
            }
        }
    }
}

impl Roster {
    pub(super) fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    /// Whether the members should be read again.
    pub(super) fn is_stale(&self, now: u64) -> bool {
        if self.is_loaded { now >= self.read_at + REFRESH } else { self.requests == 0 }
    }

    /// When the members were read or requested last, in Unix seconds; 0 before.
    pub(super) fn last_read(&self) -> u64 {
        self.read_at
    }

    /// Whether a connection of the user is a member.
    pub(super) fn has_user(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// The members are requested from the broker.
    pub(super) fn requested(&mut self, now: u64) {
        self.requests += 1;
        self.read_at = now;
    }

    /// A request has failed, or its session has ended.
    pub(super) fn request_ended(&mut self) {
        self.requests = self.requests.saturating_sub(1);
        if self.requests == 0 {
            self.touched.clear();
        }
    }

    /// A member has joined or left. Returns the user that has come or gone by it, once the members were read.
    pub(super) fn on_change(&mut self, joined: bool, info: &ClientInfo) -> Option<Change> {
        if self.requests > 0 {
            self.touched.insert(info.client.as_str().into());
        }
        let change = if joined { self.add(info) } else { self.remove(&info.client) };
        change.filter(|_| self.is_loaded)
    }

    /// A list of all members. Returns the users that have come or gone unnoticed.
    pub(super) fn on_list(&mut self, list: &[ClientInfo]) -> Vec<Change> {
        let mut changes = Vec::new();
        let listed: HashSet<&str> = list.iter().map(|info| info.client.as_str()).collect();
        for info in list {
            if !self.touched.contains(info.client.as_str()) {
                changes.extend(self.add(info));
            }
        }
        let gone: Vec<Box<str>> = self
            .members
            .keys()
            .filter(|client| !listed.contains(&***client) && !self.touched.contains(*client))
            .cloned()
            .collect();
        for client in gone {
            changes.extend(self.remove(&client));
        }
        self.request_ended();
        if !std::mem::replace(&mut self.is_loaded, true) {
            changes.clear();
        }
        changes
    }

    fn add(&mut self, info: &ClientInfo) -> Option<Change> {
        if self.members.contains_key(info.client.as_str()) {
            return None;
        }
        let (user, data) = user_of(info);
        self.members.insert(info.client.as_str().into(), user.clone());
        if let Some(known) = self.users.get_mut(&user) {
            known.connections += 1;
            return None;
        }
        self.users.insert(user.clone(), User { connections: 1, info: data.clone() });
        Some(Change { is_added: true, user, info: data })
    }

    fn remove(&mut self, client: &str) -> Option<Change> {
        let user = self.members.remove(client)?;
        let known = self.users.get_mut(&user)?;
        known.connections -= 1;
        if known.connections > 0 {
            return None;
        }
        let User { info, .. } = self.users.remove(&user)?;
        Some(Change { is_added: false, user, info })
    }

    /// Whether the channel has as many users as allowed, without `user`.
    pub(super) fn is_full(&self, user: &str, limit: usize) -> bool {
        !self.users.contains_key(user) && self.users.len() >= limit
    }

    /// The data of `pusher_internal:subscription_succeeded` for a new member with this data.
    pub(super) fn describe(&self, own: &tidings_pusher::Member) -> String {
        let own_info = own.user_info.as_deref().unwrap_or("{}");
        let is_known = self.users.contains_key(own.user_id.as_str());
        let mut users: Vec<(&str, &str)> =
            self.users.iter().map(|(user, about)| (&**user, &*about.info)).collect();
        if !is_known {
            users.push((&own.user_id, own_info));
        }
        users.sort_unstable();
        let name = |user: &str| serde_json::to_string(user).unwrap_or_default();
        let ids: Vec<String> = users.iter().map(|(user, _)| name(user)).collect();
        let hash: Vec<String> = users.iter().map(|(user, info)| format!("{}:{info}", name(user))).collect();
        format!(
            "{{\"presence\":{{\"count\":{},\"ids\":[{}],\"hash\":{{{}}}}}}}",
            users.len(),
            ids.join(","),
            hash.join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

    use proptest::prelude::*;
    use tidings_pusher::Member;

    use super::*;

    fn member(client: &str, user: &str) -> ClientInfo {
        let data = format!("{{\"user_id\":\"{user}\",\"user_info\":{{\"n\":1}}}}");
        ClientInfo { client: client.into(), chan_info: Some(data.into()), ..ClientInfo::default() }
    }

    fn change(is_added: bool, user: &str) -> Option<Change> {
        Some(Change { is_added, user: user.into(), info: "{\"n\":1}".into() })
    }

    #[test]
    fn a_user_comes_with_the_first_connection_and_goes_with_the_last() {
        let mut roster = Roster { is_loaded: true, ..Roster::default() };
        assert_eq!(roster.on_change(true, &member("1", "ann")), change(true, "ann"));
        assert_eq!(roster.on_change(true, &member("2", "ann")), None);
        assert_eq!(roster.on_change(true, &member("2", "ann")), None, "again");
        assert_eq!(roster.on_change(false, &member("1", "ann")), None);
        assert_eq!(roster.on_change(false, &member("3", "ann")), None, "an unknown member");
        assert_eq!(roster.on_change(false, &member("2", "ann")), change(false, "ann"));
        assert_eq!(roster.on_change(false, &member("2", "ann")), None, "again");
    }

    #[test]
    fn a_list_does_not_undo_joins_and_leaves_since_its_request() {
        let mut roster = Roster::default();
        roster.requested(0);
        assert_eq!(roster.on_change(true, &member("2", "bob")), None, "not loaded");
        assert_eq!(roster.on_change(false, &member("1", "ann")), None);
        assert!(roster.on_list(&[member("1", "ann"), member("3", "cat")]).is_empty());
        let own = Member { user_id: "own".into(), user_info: None };
        assert_eq!(
            roster.describe(&own),
            r#"{"presence":{"count":3,"ids":["bob","cat","own"],"hash":{"bob":{"n":1},"cat":{"n":1},"own":{}}}}"#
        );
        assert!(roster.is_stale(REFRESH) && !roster.is_stale(REFRESH - 1));
        roster.requested(REFRESH);
        let changes = roster.on_list(&[member("3", "cat"), member("4", "dan")]);
        assert_eq!(
            changes.into_iter().map(Some).collect::<Vec<_>>(),
            [change(true, "dan"), change(false, "bob")]
        );
    }

    /// A step of a channel, of its broker, or of a shard.
    #[derive(Clone, Debug)]
    enum Step {
        /// The connection joins, or leaves if it is present.
        Toggle(usize),
        /// The oldest join or leave that is on its way arrives.
        Arrive,
        /// The members are requested.
        Request,
        /// The broker reads the members for the oldest request.
        Read,
        /// The oldest list arrives.
        Respond,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..6_usize).prop_map(Step::Toggle),
            4 => Just(Step::Arrive),
            1 => Just(Step::Request),
            1 => Just(Step::Read),
            1 => Just(Step::Respond),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// Joins and leaves arrive later than they take effect, and lists are older than they arrive. What members are sent
        /// leads to the users that are present in the end, and no user comes or goes twice.
        #[test]
        fn members_agree_with_the_channel_in_the_end(steps in steps()) {
            let own = |connection: usize| member(&connection.to_string(), ["ann", "bob", "cat"][connection % 3]);
            let mut present: Vec<usize> = Vec::new();
            let (mut on_the_way, mut requested, mut lists) = (VecDeque::new(), 0, VecDeque::new());
            let mut roster = Roster::default();
            roster.requested(0);
            requested += 1;
            let mut users: Option<BTreeSet<String>> = None;
            let apply = |users: &mut Option<BTreeSet<String>>, changes: Vec<Change>| {
                for change in changes {
                    let users = users.as_mut().expect("no change before the list");
                    let user = change.user.to_string();
                    assert!(if change.is_added { users.insert(user) } else { users.remove(&user) });
                }
            };
            let finish = [Step::Read, Step::Respond, Step::Read, Step::Respond, Step::Arrive];
            let rest = std::iter::repeat_n(finish, 80).flatten();
            for step in steps.into_iter().chain(rest) {
                match step {
                    Step::Toggle(connection) => {
                        let joined = !present.contains(&connection);
                        if joined {
                            present.push(connection);
                        } else {
                            present.retain(|other| *other != connection);
                        }
                        on_the_way.push_back((joined, connection));
                    }
                    Step::Arrive => {
                        if let Some((joined, connection)) = on_the_way.pop_front() {
                            let change = roster.on_change(joined, &own(connection));
                            apply(&mut users, change.into_iter().collect());
                        }
                    }
                    Step::Request => {
                        roster.requested(0);
                        requested += 1;
                    }
                    Step::Read if requested > 0 => {
                        requested -= 1;
                        lists.push_back(present.iter().map(|connection| own(*connection)).collect::<Vec<_>>());
                    }
                    Step::Respond => {
                        if let Some(list) = lists.pop_front() {
                            let changes = roster.on_list(&list);
                            apply(&mut users, changes);
                            let known = || roster.users.keys().map(|user| String::from(&**user)).collect();
                            users.get_or_insert_with(known);
                        }
                    }
                    Step::Read => {}
                }
            }
            let expected: BTreeSet<String> =
                present.iter().map(|connection| String::from(user_of(&own(*connection)).0)).collect();
            prop_assert_eq!(users, Some(expected));
        }
    }

    #[test]
    fn a_roster_ends_with_its_last_session() {
        let (mut rosters, channel) = (Rosters::default(), Channel::new("presence-a").unwrap());
        rosters.add_session(&channel);
        rosters.add_session(&channel).is_loaded = true;
        rosters.remove_session(&channel);
        assert!(rosters.get(&channel).is_some_and(|roster| roster.is_loaded()));
        rosters.remove_session(&channel);
        assert!(rosters.get(&channel).is_none());
    }

    #[test]
    fn a_member_of_another_protocol_has_the_user_of_its_connection() {
        let info = |user: &str| ClientInfo { client: "c".into(), user: user.into(), ..ClientInfo::default() };
        assert_eq!(&*user_of(&info("ann")).0, "ann");
        assert_eq!(&*user_of(&info("")).0, "c");
    }

    #[test]
    fn a_full_channel_is_open_to_the_users_in_it() {
        let mut roster = Roster { is_loaded: true, ..Roster::default() };
        roster.on_change(true, &member("1", "ann"));
        assert!(roster.is_full("bob", 1) && !roster.is_full("ann", 1) && !roster.is_full("bob", 2));
    }
}
