//! The functions for sessions of MQTT compared with the types that keep sessions in memory: filters, and the queue of a session.

use std::collections::{BTreeMap, HashMap};
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
const TOPICS: [&str; 11] = ["a", "b", "a/b", "a/b/c", "/", "/b", "a//c", "$s/x", "$s", "a/b/c/d", "a/"];
/// Most bytes of a session, for a few messages.
const LIMIT: usize = 1_000;
const SESSIONS: u8 = 3;
/// The bytes of a message in Redis besides its body, and the allowance: QoS, seconds, length of the options, the options of so
/// many subscriptions.
fn head(subscriptions: usize) -> usize {
    format!("1 1234567890 {}\n", "10x".len() * subscriptions).len() + "10x".len() * subscriptions
}

#[derive(Clone, Debug)]
enum Step {
    Open { session: u8, clean: bool },
    Close { session: u8 },
    Subscribe { session: u8, filter: usize, qos: u8, no_local: bool },
    Unsubscribe { session: u8, filter: usize },
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
    waiting: MessageQueue,
    /// Body, QoS and cost of each message that was read and is not acknowledged.
    in_flight: Vec<(String, u8, usize)>,
    dropped: u64,
}

impl Session {
    fn add(&mut self, publication: &Arc<Publication>, qos: u8) {
        let message = Message {
            publication: Arc::clone(publication),
            qos: Qos::from_number(qos).expect("below 3"),
            retain: false,
            identifier: 0,
            more_identifiers: Box::default(),
            is_pattern: false,
            is_unchecked: true,
            received: 0,
        };
        let sent: usize = self.in_flight.iter().map(|(_, _, cost)| cost).sum();
        self.dropped += self.waiting.push(message, LIMIT.saturating_sub(sent));
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
                if self.call_for(SessionFunction::Close, session, &["60"]).is_some() {
                    self.sessions.get_mut(&session).expect("a session").connection = None;
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
        let answer =
            self.call(SessionFunction::Open, &["n", "600000", &key, &connection, "60", &flag, "1", "10"]);
        if clean {
            self.sessions.remove(&session);
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
        let expected: Vec<_> = known.subscriptions.iter().map(options).collect();
        prop_assert_eq!(found, expected, "subscriptions");
        Ok(())
    }

    fn publish(&mut self, topic: &str, qos: u8, by: u8, size: usize) -> Result<(), TestCaseError> {
        self.next += 1;
        let origin = self.sessions.get(&by).map_or("nobody", |session| &session.origin).to_owned();
        // As many bytes in both: the model counts the topic, Redis the head.
        let message = format!("{:1$}", self.next, size + topic.len());
        let limit = LIMIT.to_string();
        let args = [topic, &origin, &qos.to_string(), &limit, "1000000", &message, ""];
        let answer = self.call(SessionFunction::Append, &args);
        let mut copies = 0;
        for session in self.sessions.values_mut() {
            let receives = |(filter, (granted, no_local)): (&&str, &(u8, bool))| {
                let is_match = Filter::new(filter).expect("a filter").matches(topic);
                let is_own = *no_local && session.origin == origin;
                (is_match && !is_own).then_some(qos.min(*granted))
            };
            let granted: Vec<u8> = session.subscriptions.iter().filter_map(receives).collect();
            let Some(qos) = granted.iter().max().copied() else { continue };
            if qos > 0 || session.connection.is_none() {
                copies += 1;
                let body = format!("{:1$}", self.next, size + head(granted.len()));
                session.add(&Arc::new(Publication::new(Channel::new(topic).expect("a name"), body)), qos);
            }
        }
        prop_assert_eq!(number(&answer[0]), copies, "copies for {}", topic);
        Ok(())
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
            let (qos, found) = (&value[..1], value.rsplit('x').next().expect("a message").trim());
            prop_assert_eq!((found, qos), (&*body, &*(message.qos as u8).to_string()));
            *read = number(&parts[1]);
            if message.qos != Qos::AtMostOnce {
                ids.push(String::from_utf8_lossy(&parts[0]).into_owned());
                known.in_flight.push((body, message.qos as u8, message.cost()));
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
        let mut both = Both { node: &node, store, sessions: HashMap::new(), next: 0, read: HashMap::new() };
        for step in &steps {
            both.apply(step)?;
        }
        for session in 0..SESSIONS {
            both.read(session, 100)?;
        }
        // Without sessions nothing is left.
        for session in 0..SESSIONS {
            both.open(session, true)?;
            both.call_for(SessionFunction::Close, session, &["0"]);
        }
        let bytes = both.call(SessionFunction::Sweep, &["n", "600000", "100"]);
        prop_assert_eq!((&bytes[0][..], &bytes[2][..]), (&b"0"[..], &b"0"[..]), "sessions and bytes");
        let left = redis.cli(&["KEYS", &format!("tidings:mqtt[fl]*{}*", both.store.as_str())]);
        prop_assert_eq!(format!("{:?}", left), format!("{:?}", redis.cli(&["KEYS", "no such key"])));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
