//! Registers: values that all nodes read, each until its expiry.

use std::time::Duration;

use bytes::Bytes;
use tidings_broker::redis::Options;
use tidings_broker::{BrokerError, Stateful};
use tidings_testkit::{PATIENCE, RedisCluster, RedisServer, wait_until};

use crate::node::{Node, name as channel, wait};

fn keep(broker: &dyn Stateful, name: &str, value: &str, ttl: Option<Duration>) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    wait(|done| broker.register_set(&channel("register"), name, value, ttl, done)).expect("stored");
}

fn kept(broker: &dyn Stateful) -> Vec<String> {
    let values: Result<Vec<Bytes>, BrokerError> =
        wait(|done| broker.register_values(&channel("register"), done));
    let mut texts: Vec<_> =
        values.expect("read").iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    texts.sort();
    texts
}

fn values_are_read_on_every_node_until_they_end(node: &Node, other: &Node) {
    let (node, other) = (&*node.broker, &*other.broker);
    assert_eq!(kept(other), [""; 0]);
    keep(node, "a", "one", None);
    keep(node, "b", "two", Some(Duration::from_secs(3_600)));
    assert_eq!(kept(other), ["one", "two"]);
    keep(other, "a", "three", Some(Duration::from_millis(50)));
    keep(other, "b", "four", None);
    // An expired value is removed when the next one is stored.
    wait_until(PATIENCE, "a value to end", || {
        keep(node, "c", "five", None);
        kept(other) == ["five", "four"]
    });
    wait(|done| other.register_remove(&channel("register"), "b", done)).expect("removed");
    wait(|done| other.register_remove(&channel("register"), "nothing", done)).expect("removed");
    assert_eq!(kept(node), ["five"]);
}

#[test]
fn a_register_is_the_same_on_every_node() {
    let redis = RedisServer::start();
    let node = || Node::connected(Options { prefix: "app:".to_owned(), ..Options::new(redis.url()) });
    values_are_read_on_every_node_until_they_end(&node(), &node());
}

#[test]
fn a_register_is_the_same_on_every_node_of_a_cluster() {
    let cluster = RedisCluster::start(3);
    values_are_read_on_every_node_until_they_end(
        &crate::cluster::connected(&cluster),
        &crate::cluster::connected(&cluster),
    );
}

#[test]
fn a_full_register_still_accepts_changes_of_its_values() {
    let redis = RedisServer::start();
    let _node = Node::connected(Options::new(redis.url()));
    let keep =
        |name: &str| redis.cli(&["FCALL", "tidings_keep", "1", "register", name, "value", "", "2"]).text();
    assert_eq!([keep("a"), keep("b"), keep("a")], ["OK", "OK", "OK"]);
    assert!(keep("c").contains("the register is full"));
    assert_eq!(redis.cli(&["FCALL", "tidings_forget", "1", "register", "a"]).text(), "OK");
    assert_eq!(keep("c"), "OK");
}
