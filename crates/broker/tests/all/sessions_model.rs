//! The functions for sessions of MQTT compared with the types that keep sessions in memory: filters, the queue of a session, and
//! groups of shared subscriptions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use tidings_broker::redis::Options;
use tidings_broker::{SessionFunction, Stateful as _};
use tidings_mqtt::Qos;
use tidings_mqtt::topic::Filter;
use tidings_mqtt_session::{Message, MessageQueue};
use tidings_testkit::RedisServer;
use tidings_wire::{Channel, Publication};

use crate::node::{Node, name as channel, wait};

const FILTERS: [&str; 14] =
    ["#", "+", "a", "a/#", "a/+", "a/+/c", "+/b", "+/+/#", "/", "/+", "a//c", "$s/#", "+/s", "a/b/c"];
const GROUPS: [&str; 4] = ["$share/g/a/+", "$share/h/a/+", "$share/g/#", "$share/g/a/b"];
const TOPICS: [&str; 11] = ["a", "b", "a/b", "a/b/c", "/", "/b", "a//c", "$s/x", "$s", "a/b/c/d", "a/"];
/// Most bytes of a session, for a few messages.
const LIMIT: usize = 1_000;
const SESSIONS: u8 = 3;
/// The allowance for a message.
const MESSAGE_OVERHEAD: usize = 128;
/// The bytes of a message in Redis besides its body, and the allowance: QoS, seconds, length of the options, the options of so
/// many subscriptions.
fn head(subscriptions: usize) -> usize {
    format!("1 1234567890 {}\n", "10x".len() * subscriptions).len() + "10x".len() * subscriptions
}

/// Those bytes of a message of a group.
fn group_head(group: &str) -> usize {
    format!("1 1234567890 3 {}\n", group.len()).len() + "10x".len() + group.len()
}

/// The filter of a group without its name.
fn pattern(group: &str) -> &str {
    group.splitn(3, '/').nth(2).expect("a filter")
}

#[derive(Clone, Debug)]
enum Step {
    Open { session: u8, clean: bool },
    Close { session: u8 },
    Subscribe { session: u8, filter: usize, qos: u8, no_local: bool },
    Unsubscribe { session: u8, filter: usize },
    Join { session: u8, group: usize, qos: u8 },
    Leave { session: u8, group: usize },
    Publish { topic: usize, qos: u8, by: u8, size: usize },
    Read { session: u8, most: usize },
    Acknowledge { session: u8, at: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let session = 0..SESSIONS;
    prop_oneof![
        2 => (session.clone(), prop::bool::weighted(0.2)).prop_map(|(session, clean)| Step::Open { session, clean }),
        1 => session.clone().prop_map(|session| Step::Close { session }),
        4 => (session.clone(), 0..FILTERS.len(), 0..3_u8, any::<bool>())
            .prop_map(|(session, filter, qos, no_local)| Step::Subscribe { session, filter, qos, no_local }),
        1 => (session.clone(), 0..FILTERS.len())
            .prop_map(|(session, filter)| Step::Unsubscribe { session, filter }),
        3 => (session.clone(), 0..GROUPS.len(), 0..3_u8)
            .prop_map(|(session, group, qos)| Step::Join { session, group, qos }),
        1 => (session.clone(), 0..GROUPS.len()).prop_map(|(session, group)| Step::Leave { session, group }),
        10 => (0..TOPICS.len(), 0..3_u8, 0..SESSIONS, prop_oneof![9 => 100..300_usize, 1 => 300..1_100_usize])
            .prop_map(|(topic, qos, by, size)| Step::Publish { topic, qos, by, size }),
        2 => (session.clone(), 1..6_usize).prop_map(|(session, most)| Step::Read { session, most }),
        2 => (session, 0..4_usize).prop_map(|(session, at)| Step::Acknowledge { session, at }),
    ]
}

/// A session in memory.
#[derive(Debug, Default)]
struct Session {
    connection: Option<String>,
    origin: String,
    subscriptions: BTreeMap<&'static str, (u8, bool)>,
    /// The QoS in each group.
    groups: BTreeMap<&'static str, u8>,
    waiting: MessageQueue,
    /// Each message that was read and is not acknowledged, if it is of a group, and its cost.
    in_flight: Vec<(Option<Grouped>, usize)>,
    dropped: u64,
}

impl Session {
    /// Adds a message; `group` is 0 for none, or behind its index.
    fn add(&mut self, publication: &Arc<Publication>, qos: u8, group: u32) {
        let message = Message {
            publication: Arc::clone(publication),
            qos: Qos::from_number(qos).expect("below 3"),
            retain: false,
            identifier: group,
            more_identifiers: Box::default(),
            is_pattern: false,
            is_unchecked: true,
            received: 0,
        };
        self.dropped += self.waiting.push(message, LIMIT.saturating_sub(self.sent_bytes()));
    }

    /// Adds one copy for all subscriptions that match; returns whether there is one.
    fn publish(&mut self, number: u64, topic: &str, qos: u8, origin: &str, size: usize) -> bool {
        let receives = |(filter, (granted, no_local)): (&&str, &(u8, bool))| {
            let is_match = Filter::new(filter).expect("a filter").matches(topic);
            let is_own = *no_local && self.origin == origin;
            (is_match && !is_own).then_some(qos.min(*granted))
        };
        let granted: Vec<u8> = self.subscriptions.iter().filter_map(receives).collect();
        let Some(qos) = granted.iter().max().copied() else { return false };
        if qos == 0 && self.connection.is_some() {
            return false;
        }
        let body = format!("{number:>width$}", width = size + head(granted.len()));
        self.add(&Arc::new(Publication::new(Channel::new(topic).expect("a name"), body)), qos, 0);
        true
    }

    fn sent_bytes(&self) -> usize {
        self.in_flight.iter().map(|(_, cost)| cost).sum()
    }
}

/// A message of a group that passes to another member.
#[derive(Debug)]
struct Grouped {
    body: String,
    qos: u8,
    group: usize,
}

impl Grouped {
    fn of(message: &Message) -> Option<Self> {
        let group = message.identifier.checked_sub(1)? as usize;
        let body = String::from_utf8_lossy(&message.publication.body).trim().to_owned();
        Some(Self { body, qos: message.qos as u8, group })
    }
}

/// A store in Redis, and the same in memory.
struct Both<'a> {
    node: &'a Node,
    store: Channel,
    sessions: HashMap<u8, Session>,
    next: u64,
    /// The serial up to which a session was read, and its identifiers without an acknowledgement, in Redis.
    read: HashMap<u8, (u64, Vec<String>)>,
    /// The members of each group in turn: those with a connection, and those without.
    turns: [[Vec<u8>; 2]; GROUPS.len()],
    /// The bytes of each message without its head.
    sizes: HashMap<String, usize>,
}

fn number(bytes: &Bytes) -> u64 {
    String::from_utf8_lossy(bytes).parse().expect("a number")
}

impl Both<'_> {
    fn call(&self, function: SessionFunction, args: &[&str]) -> Vec<Bytes> {
        let args = args.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
        wait(|done| self.node.broker.call_sessions(&self.store, function, args, done)).expect("an answer")
    }

    /// Calls a function that a connection calls; `None` if the session has no connection.
    fn call_for(&self, function: SessionFunction, session: u8, args: &[&str]) -> Option<Vec<Bytes>> {
        let connection = self.sessions.get(&session)?.connection.clone()?;
        let answer = self.call(function, &[&["n", &session.to_string(), &connection], args].concat());
        assert_eq!(answer[0], "0", "the session is its own");
        Some(answer)
    }

    fn apply(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Open { session, clean } => return self.open(session, clean),
            Step::Close { session } => {
                let limit = LIMIT.to_string();
                if self.call_for(SessionFunction::Close, session, &["60", "", &limit, "1000000"]).is_some() {
                    self.close(session);
                }
            }
            Step::Subscribe { session, filter, qos, no_local } => {
                let (filter, options) = (FILTERS[filter], format!("{qos}{}x", u8::from(no_local)));
                if self.call_for(SessionFunction::Steps, session, &["S", filter, &options]).is_some() {
                    let subscriptions =
                        &mut self.sessions.get_mut(&session).expect("a session").subscriptions;
                    subscriptions.insert(filter, (qos, no_local));
                }
            }
            Step::Unsubscribe { session, filter } => {
                if self.call_for(SessionFunction::Steps, session, &["U", FILTERS[filter]]).is_some() {
                    self.sessions.get_mut(&session).expect("a session").subscriptions.remove(FILTERS[filter]);
                }
            }
            Step::Join { session, group, qos } => {
                let options = format!("{qos}0x");
                if self.call_for(SessionFunction::Steps, session, &["S", GROUPS[group], &options]).is_some() {
                    let groups = &mut self.sessions.get_mut(&session).expect("a session").groups;
                    if groups.insert(GROUPS[group], qos).is_none() {
                        self.turns[group][0].push(session);
                    }
                }
            }
            Step::Leave { session, group } => {
                if self.call_for(SessionFunction::Steps, session, &["U", GROUPS[group]]).is_some() {
                    self.sessions.get_mut(&session).expect("a session").groups.remove(GROUPS[group]);
                    self.turns[group][0].retain(|member| *member != session);
                }
            }
            Step::Publish { topic, qos, by, size } => return self.publish(TOPICS[topic], qos, by, size),
            Step::Read { session, most } => return self.read(session, most),
            Step::Acknowledge { session, at } => {
                let id = self.read.get(&session).and_then(|(_, ids)| ids.get(at)).cloned();
                let Some(id) = id else { return Ok(()) };
                if self.call_for(SessionFunction::Steps, session, &["A", &id]).is_some() {
                    self.read.get_mut(&session).expect("a read").1.remove(at);
                    self.sessions.get_mut(&session).expect("a session").in_flight.remove(at);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, session: u8, clean: bool) -> Result<(), TestCaseError> {
        self.next += 1;
        let connection = format!("c{}", self.next);
        let key = session.to_string();
        let flag = u8::from(clean).to_string();
        let limit = LIMIT.to_string();
        let args = ["n", "600000", &key, &connection, "60", &flag, "1", "10", &limit, "1000000"];
        let answer = self.call(SessionFunction::Open, &args);
        if clean {
            self.remove(session);
        }
        for turns in &mut self.turns {
            if turns.iter().flatten().any(|member| *member == session) {
                turns.iter_mut().for_each(|members| members.retain(|member| *member != session));
                turns[0].push(session);
            }
        }
        let is_new = !self.sessions.contains_key(&session);
        prop_assert_eq!(number(&answer[0]), if is_new { 1 } else { 3 });
        let known = self.sessions.entry(session).or_default();
        known.connection = Some(connection.clone());
        known.origin = connection;
        let (read, ids) = self.read.entry(session).or_default();
        if is_new {
            (*read, *ids) = (0, Vec::new());
            return Ok(());
        }
        prop_assert_eq!(number(&answer[2]), std::mem::take(&mut known.dropped), "dropped");
        let pairs = answer[5..].chunks_exact(2).map(|pair| {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            (text(&pair[0]), text(&pair[1]))
        });
        let mut found: Vec<_> = pairs.collect();
        found.sort();
        let options = |(filter, (qos, no_local)): (&&str, &(u8, bool))| {
            ((*filter).to_owned(), format!("{qos}{}x", u8::from(*no_local)))
        };
        let mut expected: Vec<_> = known.subscriptions.iter().map(options).collect();
        expected.extend(known.groups.iter().map(|(group, qos)| ((*group).to_owned(), format!("{qos}0x"))));
        expected.sort();
        prop_assert_eq!(found, expected, "subscriptions");
        Ok(())
    }

    fn publish(&mut self, topic: &str, qos: u8, by: u8, size: usize) -> Result<(), TestCaseError> {
        self.next += 1;
        let origin = self.sessions.get(&by).map_or("nobody", |session| &session.origin).to_owned();
        // As many bytes in both: the model counts the topic, Redis the head.
        let message = format!("{:1$}", self.next, size + topic.len());
        let limit = LIMIT.to_string();
        let args = [topic, &origin, &qos.to_string(), &limit, "1000000", &message, "", ""];
        let answer = self.call(SessionFunction::Append, &args);
        self.sizes.insert(self.next.to_string(), message.len());
        let (mut copies, mut served) = (0, BTreeSet::new());
        let patterns = GROUPS.iter().map(|group| pattern(group));
        let filters: BTreeSet<&str> = patterns.chain(FILTERS).collect();
        // In the order of the filters; groups are before sessions.
        for filter in
            filters.into_iter().filter(|filter| Filter::new(filter).expect("a filter").matches(topic))
        {
            let groups: BTreeMap<_, _> = GROUPS.iter().enumerate().map(|(at, group)| (group, at)).collect();
            for (_, group) in groups.into_iter().filter(|(group, _)| pattern(group) == filter) {
                let message = Grouped { body: self.next.to_string(), qos, group };
                copies += u64::from(self.add_to_group(&message, None, false));
            }
            for key in 0..SESSIONS {
                let Some(session) = self.sessions.get_mut(&key) else { continue };
                if session.subscriptions.contains_key(filter) && served.insert(key) {
                    copies += u64::from(session.publish(self.next, topic, qos, &origin, size));
                }
            }
        }
        prop_assert_eq!(number(&answer[0]), copies, "copies for {}", topic);
        Ok(())
    }

    /// The client of a session is away: messages of groups pass to members with a connection.
    fn close(&mut self, session: u8) {
        let known = self.sessions.get_mut(&session).expect("a session");
        known.connection = None;
        let mut all = std::mem::take(&mut known.waiting);
        for turns in &mut self.turns {
            if turns[0].contains(&session) {
                turns[0].retain(|member| *member != session);
                turns[1].push(session);
            }
        }
        let (mut rest, mut staying) = (MessageQueue::default(), BTreeSet::new());
        while let Some(message) = all.pop() {
            let is_passed = Grouped::of(&message).is_some_and(|grouped| {
                let is_passed =
                    !staying.contains(&grouped.group) && self.add_to_group(&grouped, Some(session), true);
                if !is_passed {
                    staying.insert(grouped.group);
                }
                is_passed
            });
            if !is_passed {
                rest.push(message, usize::MAX);
            }
        }
        self.sessions.get_mut(&session).expect("a session").waiting = rest;
    }

    /// A session ends: messages of groups pass to other members, also those with QoS 1 that were sent.
    fn remove(&mut self, session: u8) {
        let Some(mut known) = self.sessions.remove(&session) else { return };
        for members in self.turns.iter_mut().flatten() {
            members.retain(|member| *member != session);
        }
        for (message, _) in known.in_flight.iter().filter_map(|(sent, cost)| Some((sent.as_ref()?, cost))) {
            if message.qos == 1 {
                self.add_to_group(message, None, false);
            }
        }
        while let Some(message) = known.waiting.pop() {
            if let Some(grouped) = Grouped::of(&message) {
                self.add_to_group(&grouped, None, false);
            }
        }
    }

    /// Adds a message to the next member of its group with room, or else to the next one if the message may go to absent clients;
    /// returns whether there is one.
    fn add_to_group(&mut self, message: &Grouped, except: Option<u8>, is_connected: bool) -> bool {
        let [connected, away] = &self.turns[message.group];
        let members = connected.iter().chain(away.iter().filter(|_| !is_connected)).copied();
        let members: Vec<u8> = members.filter(|member| Some(*member) != except).collect();
        let size = self.sizes[&message.body];
        let cost = size + group_head(GROUPS[message.group]);
        let has_room = |member: &&u8| {
            let session = &self.sessions[*member];
            session.waiting.bytes() + session.sent_bytes() + MESSAGE_OVERHEAD + cost <= LIMIT
        };
        let without_room = members.first().filter(|_| !is_connected);
        let Some(member) = members.iter().find(has_room).or(without_room).copied() else { return false };
        let turns = &mut self.turns[message.group];
        let members = if turns[0].contains(&member) { &mut turns[0] } else { &mut turns[1] };
        members.retain(|other| *other != member);
        members.push(member);
        let (session, group) = (self.sessions.get_mut(&member).expect("a member"), GROUPS[message.group]);
        let body = format!("{:1$}", message.body, size + group_head(group) - "t".len());
        let publication = Publication::new(Channel::new("t").expect("a name"), body);
        let qos = message.qos.min(session.groups[group]);
        session.add(&Arc::new(publication), qos, message.group as u32 + 1);
        true
    }

    fn read(&mut self, session: u8, most: usize) -> Result<(), TestCaseError> {
        let (after, _) = self.read.entry(session).or_default();
        let (after, count) = (after.to_string(), most.to_string());
        let Some(answer) = self.call_for(SessionFunction::Read, session, &[&after, &count, "1000000"]) else {
            return Ok(());
        };
        let known = self.sessions.get_mut(&session).expect("a session");
        prop_assert_eq!(number(&answer[2]), known.dropped, "dropped");
        let (read, ids) = self.read.get_mut(&session).expect("a read");
        for parts in answer[3..].chunks_exact(3) {
            let value = String::from_utf8_lossy(&parts[2]).into_owned();
            let message = known.waiting.pop();
            prop_assert!(message.is_some(), "{} waits in Redis alone", value);
            let message = message.expect("a message");
            let body = String::from_utf8_lossy(&message.publication.body).trim().to_owned();
            let group = message.identifier.checked_sub(1).map_or("", |group| GROUPS[group as usize]);
            let found = value.rsplit('x').next().expect("a message");
            let (qos, found) = (&value[..1], found.strip_prefix(group).unwrap_or(found).trim());
            prop_assert_eq!((found, qos), (&*body, &*(message.qos as u8).to_string()));
            *read = number(&parts[1]);
            if message.qos != Qos::AtMostOnce {
                ids.push(String::from_utf8_lossy(&parts[0]).into_owned());
                known.in_flight.push((Grouped::of(&message), message.cost()));
            }
        }
        prop_assert_eq!(number(&answer[1]) == 1, !known.waiting.is_empty(), "more");
        Ok(())
    }
}

#[test]
fn sessions_in_redis_are_as_those_in_memory() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let store = AtomicU64::new(0);
    let steps = prop::collection::vec(step(), 1..80);
    let mut runner = TestRunner::new(ProptestConfig { cases: 200, ..ProptestConfig::default() });
    let outcome = runner.run(&steps, |steps| {
        let store = channel(&format!("tidings.node.s{}", store.fetch_add(1, Ordering::Relaxed)));
        let mut both = Both {
            node: &node,
            store,
            sessions: HashMap::new(),
            next: 0,
            read: HashMap::new(),
            turns: Default::default(),
            sizes: HashMap::new(),
        };
        for step in &steps {
            both.apply(step)?;
        }
        for session in 0..SESSIONS {
            both.read(session, 100)?;
        }
        // Without sessions nothing is left.
        for session in 0..SESSIONS {
            both.open(session, true)?;
            both.call_for(SessionFunction::Close, session, &["0", "", "1000", "1000000"]);
            both.remove(session);
        }
        let bytes = both.call(SessionFunction::Sweep, &["n", "600000", "100"]);
        prop_assert_eq!((&bytes[0][..], &bytes[2][..]), (&b"0"[..], &b"0"[..]), "sessions and bytes");
        let left = redis.cli(&["KEYS", &format!("tidings:mqtt[^bcn]*{}*", both.store.as_str())]);
        prop_assert_eq!(format!("{:?}", left), format!("{:?}", redis.cli(&["KEYS", "no such key"])));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_publication_reaches_each_session_once_in_steps_of_bounded_size() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let store = channel("tidings.node.s");
    let call = |function, args: &[&str]| {
        let args = args.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
        wait(|done| node.broker.call_sessions(&store, function, args, done)).expect("an answer")
    };
    const MANY: usize = 1_500;
    for number in 0..MANY {
        let (key, connection) = (format!("k{number}"), format!("c{number}"));
        call(SessionFunction::Open, &["n", "600000", &key, &connection, "60", "0", "1", "10000"]);
        // The filters overlap, and every fifth session is a member of a group.
        let steps =
            ["n", &key, &connection, "S", "a/+", "10x", "S", "a/b", "20x", "S", "$share/g/a/b", "10x"];
        call(SessionFunction::Steps, &steps[..if number % 5 == 0 { 12 } else { 9 }]);
    }
    let append = |key: &str, progress: &str| {
        call(SessionFunction::Append, &["a/b", "", "1", "100000", "100000000", "m", key, progress, "1"])
    };
    let queued =
        |key: &str| redis.cli(&["HLEN", &format!("tidings:mqttqueue:16:{{tidings.node.s}}:{key}")]).int();
    // Before later publications wait, it is added to nobody.
    let asked = call(SessionFunction::Append, &["a/b", "", "1", "100000", "100000000", "m", "", "", ""]);
    assert_eq!((&asked[0][..], asked.len(), queued("k1")), (&b"0"[..], 4, 0), "{asked:?}");
    // The publisher has not got the answer, and repeats the publication. Both callers continue to their ends, one after the other.
    let mut callers = [Some(String::new()), Some(String::new())];
    let (mut copies, mut ends) = (vec![0], Vec::new());
    while let Some(at) = (0..2).filter(|at| callers[*at].is_some()).min_by_key(|at| (copies.len() + at) % 2) {
        let answer = append("key", callers[at].as_deref().unwrap_or_default());
        copies.push(number(&answer[0]));
        callers[at] = answer.get(3).map(|next| String::from_utf8_lossy(next).into_owned());
        if callers[at].is_none() {
            ends.push(number(&answer[0]));
        }
    }
    assert_eq!(ends, [MANY as u64 + 1; 2], "one copy of each session, and one of the group");
    assert!(copies.windows(2).all(|pair| pair[1] - pair[0] <= 500), "{copies:?}");
    let lengths: Vec<_> = (0..MANY).map(|number| queued(&format!("k{number}"))).collect();
    assert_eq!(lengths.iter().sum::<i64>(), MANY as i64 + 1);
    assert_eq!(lengths.iter().filter(|length| **length == 1).count(), MANY - 1);
    // It is added once under its key.
    assert_eq!(number(&append("key", "")[0]), MANY as u64 + 1);
    assert_eq!(queued("k1"), 1);
    assert_eq!(redis.cli(&["KEYS", "tidings:mqttserved:*"]).texts(), [""; 0]);
}
