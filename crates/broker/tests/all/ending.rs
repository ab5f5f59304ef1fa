//! Nodes that end without unregistering, and the members that they kept present.

use std::time::Duration;

use tidings_broker::redis::Options;
use tidings_broker::{Change, Stateful};
use tidings_testkit::{PATIENCE, RedisCluster, RedisServer, wait_until};
use tidings_wire::ClientInfo;

use crate::node::{Event, Node, channel, keep, name, wait};

fn node(url: &str, name: &str) -> Node {
    Node::connected(Options { node: name.to_owned(), ..Options::new(url) })
}

fn join(node: &Node, client: &str, is_announced: bool) {
    let info = ClientInfo { user: "ann".to_owned(), client: client.to_owned(), ..ClientInfo::default() };
    let ttl = Duration::from_secs(60);
    wait(|done| node.broker.presence_add_for_node(&name("a"), &info, ttl, is_announced, done)).unwrap();
}

fn present(node: &Node) -> Vec<String> {
    let members = wait(|done| node.broker.presence(&name("a"), usize::MAX, done)).unwrap();
    let mut clients: Vec<_> = members.into_iter().map(|info| info.client).collect();
    clients.sort();
    clients
}

/// The clients in the joins and in the leaves that a node has received.
fn changes(node: &Node) -> (Vec<String>, Vec<String>) {
    let (mut joined, mut left) = (Vec::new(), Vec::new());
    for event in node.sink.events().iter() {
        match event {
            Event::Changed(_, Change::Join(info)) => joined.push(info.client.clone()),
            Event::Changed(_, Change::Leave(info)) => left.push(info.client.clone()),
            _ => {}
        }
    }
    joined.sort();
    left.sort();
    (joined, left)
}

fn each_leave_of_an_ended_node_is_announced_once(url: &str) {
    let ended = node(url, "ended");
    let others = [node(url, "b"), node(url, "c")];
    others.iter().for_each(|other| other.subscribe(&channel("a")));
    let clients: Vec<_> = (1000..2200).map(|i| i.to_string()).collect();
    clients.iter().for_each(|client| join(&ended, client, true));
    join(&ended, "unannounced", false);
    join(&ended, "gone", true);
    wait(|done| ended.broker.presence_remove(&name("a"), "gone", done)).unwrap();
    join(&others[0], "other", true);

    // Both notice it, and both call until no member remains.
    let mut left = vec![0, 1];
    while !left.is_empty() {
        left.retain(|at| {
            wait(|done| others[*at].broker.presence_evict(&name("a"), "ended", done)).unwrap() > 0
        });
    }
    assert_eq!(present(&others[1]), ["other"]);
    for other in &others {
        // This is published after the last leave, so no leave is in flight any more.
        keep(&*other.broker, "a", "last", 1);
        wait_until(PATIENCE, "the later publication", || !other.sink.bodies("a").is_empty());
        assert_eq!(changes(other), (Vec::new(), clients.clone()));
    }

    // The node was only cut off: its members are still there, and present again.
    join(&ended, "1000", true);
    join(&ended, "1000", true);
    join(&ended, "unannounced", false);
    wait_until(PATIENCE, "the join", || changes(&others[1]).0 == ["1000"]);
    assert_eq!(present(&others[1]), ["1000", "other", "unannounced"]);
}

#[test]
fn each_leave_of_a_node_that_has_ended_is_announced_once() {
    let redis = RedisServer::start();
    each_leave_of_an_ended_node_is_announced_once(&redis.url());
}

#[test]
fn each_leave_of_a_node_that_has_ended_is_announced_once_in_a_cluster() {
    let cluster = RedisCluster::start(3);
    each_leave_of_an_ended_node_is_announced_once(&cluster.url());
}
