//! A Redis Cluster: what is published anywhere is heard, slots move, primaries fail, and nothing is lost in silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidings_broker::redis::Options;
use tidings_broker::{
    Broker, BrokerError, Change, History, PresenceStats, PublishOptions, Stateful,
};
use tidings_testkit::{PATIENCE, RedisCluster, Reply, wait_until};
use tidings_wire::ClientInfo;

use crate::node::{
    Event, Node, after, channel, history, history_of, impatient, keep, name, page, pattern, position, publish_with, wait,
};

/// A node that has all of a cluster, and can publish on every primary.
fn connected(cluster: &RedisCluster) -> Node {
    let node = Node::start(impatient(cluster.url()));
    node.sink.wait_up(1);
    for primary in 0..3 {
        node.wait_until_it_may_publish(&cluster.name_at(primary, "tidings-probe"));
    }
    node
}

#[test]
fn a_plain_publication_on_any_node_reaches_every_subscriber_of_channels_on_every_primary() {
    let cluster = RedisCluster::with_replicas(3, 1);
    let nodes = [connected(&cluster), connected(&cluster)];
    let names: Vec<_> = (0..3).map(|primary| cluster.name_at(primary, "news")).collect();
    for node in &nodes {
        names.iter().for_each(|name| node.subscribe(&channel(name)));
        node.subscribe(&pattern("new*"));
    }
    let mut said = Vec::new();
    for (at, redis) in cluster.nodes().enumerate() {
        for name in &names {
            redis.cli(&["PUBLISH", name, &format!("from {at}")]);
        }
        said.push(format!("from {at}"));
    }
    // And who has sharded publications of his own is heard too.
    for (primary, name) in names.iter().enumerate() {
        assert_eq!(cluster.node(primary).cli(&["SPUBLISH", name, "sharded"]).int(), 2);
    }
    said.push("sharded".to_owned());
    said.sort();
    for node in &nodes {
        for name in &names {
            wait_until(PATIENCE, "every message once", || {
                let mut bodies = node.sink.bodies(name);
                bodies.sort();
                bodies == said
            });
        }
        node.sink.wait(18, "every plain message through the pattern", |event| {
            matches!(event, Event::Heard { topic, .. } if topic == "new*")
        });
    }
}
