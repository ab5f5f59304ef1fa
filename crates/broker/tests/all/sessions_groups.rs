//! Messages of groups of shared subscriptions that pass from one session of MQTT in Redis to another.

use bytes::Bytes;
use tidings_broker::redis::Options;
use tidings_broker::{SessionFunction, Stateful as _};
use tidings_testkit::RedisServer;
use tidings_wire::Channel;

use crate::node::{Node, name as channel, wait};

const GROUP: &str = "$share/g/t";

struct Store<'a> {
    node: &'a Node,
    store: Channel,
}

impl Store<'_> {
    fn call(&self, function: SessionFunction, args: &[&str]) -> Vec<Bytes> {
        let args = args.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
        wait(|done| self.node.broker.call_sessions(&self.store, function, args, done)).expect("an answer")
    }

    /// Connects a session, whose connection has the same name.
    fn open(&self, session: &str, clean: bool) {
        let clean = if clean { "1" } else { "0" };
        let limits = ["1000", "100000", "1000000"];
        let args = [&["n", "600000", session, session, "60", clean, "1"], &limits[..]].concat();
        self.call(SessionFunction::Open, &args);
    }

    /// Connects a session that is a member with QoS 2.
    fn join(&self, session: &str) {
        self.open(session, false);
        self.call(SessionFunction::Steps, &["n", session, session, "S", GROUP, "20x"]);
    }

    fn close(&self, session: &str, expiry: &str, sent: &str) {
        let args = ["n", session, session, expiry, sent, "100000", "1000000"];
        assert_eq!(self.call(SessionFunction::Close, &args)[0], "0");
    }

    fn publish(&self, qos: &str, message: &str) {
        let answer =
            self.call(SessionFunction::Append, &["t", "", qos, "1000000", "10000000", message, "", ""]);
        assert_eq!(answer[0], "1", "one copy");
    }

    /// The messages that a connected session reads.
    fn read(&self, session: &str, most: &str) -> Vec<String> {
        let answer = self.call(SessionFunction::Read, &["n", session, session, "0", most, "100000"]);
        let values = answer[3..].chunks_exact(3).map(|parts| String::from_utf8_lossy(&parts[2]).into_owned());
        values.map(|value| value.rsplit_once(GROUP).expect("a message of the group").1.to_owned()).collect()
    }
}

#[test]
fn messages_of_a_session_that_ends_pass_to_other_members_except_those_with_qos_2_that_were_sent() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let store = Store { node: &node, store: channel("tidings.node.s") };
    let ends: [fn(&Store<'_>); 2] = [|store| store.open("a", true), |store| store.close("a", "0", "")];
    for (index, end) in ends.into_iter().enumerate() {
        let (a, b) = ("a", format!("b{index}"));
        store.join(a);
        store.join(&b);
        store.close(&b, "60", "");
        for (qos, message) in [("2", "m1"), ("1", "m2"), ("2", "m3"), ("0", "m4")] {
            store.publish(qos, message);
        }
        assert_eq!(store.read(a, "2"), ["m1", "m2"]);
        end(&store);
        store.open(&b, false);
        assert_eq!(store.read(&b, "9"), ["m2", "m3", "m4"], "no other client gets m1 (MQTT-4.8.2-5)");
        store.close(&b, "0", "");
        let left = redis.cli(&["KEYS", "tidings:mqttqueue:*"]).texts();
        assert_eq!(left, [""; 0], "the end of a session without other members leaves nothing");
    }
}

#[test]
fn messages_that_were_not_sent_pass_to_connected_members_alone_while_their_session_is_kept() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let store = Store { node: &node, store: channel("tidings.node.s") };
    store.join("a");
    store.join("b");
    store.close("b", "60", "");
    store.publish("1", "m1");
    store.publish("1", "m2");
    // Both were read, and one was sent.
    assert_eq!(store.read("a", "9"), ["m1", "m2"]);
    store.close("a", "60", "1");
    store.open("b", false);
    assert_eq!(store.read("b", "9"), [""; 0], "it was away");
    store.open("a", false);
    store.close("a", "60", "1");
    assert_eq!(store.read("b", "9"), ["m2"]);
    store.open("a", false);
    assert_eq!(store.read("a", "9"), ["m1"], "what was sent stays");
}

#[test]
fn many_messages_pass_to_other_members_in_steps_of_bounded_size() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let store = Store { node: &node, store: channel("tidings.node.s") };
    store.join("a");
    for number in 0..1_200 {
        store.publish("1", &format!("m{number}"));
    }
    store.join("b");
    let queued = || redis.cli(&["HLEN", "tidings:mqttqueue:16:{tidings.node.s}:b"]).int();
    let close = [&["n", "a", "a", "0", ""], &["1000000", "10000000"][..]].concat();
    assert_eq!(store.call(SessionFunction::Close, &close)[0], "0");
    assert_eq!(queued(), 500);
    let sweep = || store.call(SessionFunction::Sweep, &["n", "600000", "100", "1000000", "10000000", ""]);
    assert_eq!((&sweep()[7][..], queued()), (&b"1"[..], 1_000));
    assert_eq!((&sweep()[7][..], queued()), (&b"0"[..], 1_200));
    assert_eq!(redis.cli(&["KEYS", "tidings:mqtt*:\u{3}*"]).texts(), [""; 0], "the session has ended");
}

#[test]
fn messages_stay_in_a_session_that_is_kept_while_no_other_member_has_room() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let store = Store { node: &node, store: channel("tidings.node.s") };
    ["a", "b"].iter().for_each(|session| store.join(session));
    // The end of a connection has a bound of 100,000 bytes.
    let messages = [1, 2, 3, 4, 5, 6].map(|number| format!("{number:>30000}"));
    messages.iter().for_each(|message| store.publish("1", message));
    store.close("a", "60", "");
    store.open("a", false);
    assert_eq!([store.read("a", "9").len(), store.read("b", "9").len()], [3, 3]);
    // A message that the client of b acknowledges makes room.
    store.call(SessionFunction::Steps, &["n", "b", "b", "A", "1"]);
    store.close("a", "60", "0");
    store.open("a", false);
    assert_eq!([store.read("a", "9").len(), store.read("b", "9").len()], [2, 3]);
}
