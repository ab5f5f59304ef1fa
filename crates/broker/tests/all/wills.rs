//! Wills of MQTT: published by one node each, also in place of a node that has ended.

use std::time::Duration;

use bytes::Bytes;
use tidings_broker::redis::Options;
use tidings_broker::{BegunWill, Stateful as _, WillChange, WillOutcome};
use tidings_testkit::{PATIENCE, RedisCluster, RedisServer, wait_until};

use crate::node::{Node, name as channel, wait};

/// A lease that does not end within a test.
const LONG: Duration = Duration::from_secs(600);

fn change(node: &Node, change: &WillChange) -> WillOutcome {
    wait(|done| node.broker.change_will(&channel("tidings.node.wills"), change, done)).expect("an outcome")
}

fn open_for(node: &Node, lease: Duration, key: &str, connection: &str, will: &str) -> WillOutcome {
    let will = Some(Bytes::from(will.to_owned())).filter(|will| !will.is_empty());
    let (key, connection) = (key.to_owned(), connection.to_owned());
    let max_bytes = 2_000;
    change(
        node,
        &WillChange::Open {
            key,
            connection,
            will,
            lease,
            max_bytes,
            is_again: false,
            delay: Duration::ZERO,
            continues: false,
        },
    )
}

fn open(node: &Node, key: &str, connection: &str, will: &str) -> WillOutcome {
    open_for(node, LONG, key, connection, will)
}

fn close(node: &Node, key: &str, connection: &str, is_published: bool) -> Vec<String> {
    close_within(node, key, connection, is_published, LONG)
}

fn close_within(
    node: &Node,
    key: &str,
    connection: &str,
    is_published: bool,
    max_delay: Duration,
) -> Vec<String> {
    let (key, connection) = (key.to_owned(), connection.to_owned());
    begun(&change(node, &WillChange::Close { key, connection, is_published, max_delay }))
}

fn claim(node: &Node, most: usize) -> WillOutcome {
    change(node, &WillChange::Claim { lease: LONG, most })
}

fn finish(node: &Node, connection: &str) -> WillOutcome {
    change(node, &WillChange::Done { connection: connection.to_owned() })
}

fn begun(outcome: &WillOutcome) -> Vec<String> {
    let text = |BegunWill { connection, will }: &BegunWill| {
        format!("{connection}={}", String::from_utf8_lossy(will))
    };
    let mut begun: Vec<_> = outcome.begun.iter().map(text).collect();
    begun.sort();
    begun
}

fn nodes(options: impl Fn() -> Options) -> [Node; 2] {
    ["one", "two"].map(|node| {
        let node = Node::connected(Options { node: node.to_owned(), ..options() });
        // In a cluster another primary may have the wills.
        node.wait_until_it_may_publish("tidings.node.wills");
        node
    })
}

fn a_will_belongs_to_the_last_connection_of_its_client(one: &Node, two: &Node) {
    claim(one, 0);
    claim(two, 0);
    assert_eq!(open(one, "u\0a", "c1", ""), WillOutcome::default(), "a client without a will stores nothing");
    let opened = open(one, "u\0a", "c1", "bye\0 1\n");
    assert_eq!((opened.count, begun(&opened)), (1, vec![]));
    assert_eq!(close(two, "u\0a", "c1", true), [""; 0], "it is of another node");
    assert_eq!(close(one, "u\0a", "c0", true), [""; 0], "it is of another connection");
    // The client connects to another node, which publishes the will; the former node does not.
    let opened = open(two, "u\0a", "c2", "bye 2");
    assert_eq!((opened.count, begun(&opened)), (2, vec!["c1=bye\0 1\n".to_owned()]));
    assert_eq!(close(one, "u\0a", "c1", true), [""; 0]);
    assert_eq!(begun(&claim(two, 100)), ["c1=bye\0 1\n"], "until it is published");
    assert_eq!(finish(one, "c1").count, 2, "another node does not end it");
    assert_eq!(finish(two, "c1").count, 1);
    assert_eq!(begun(&claim(two, 100)), [""; 0]);
    // A clean end discards it, any other one begins its publication.
    assert_eq!(close(two, "u\0a", "c2", false), [""; 0]);
    assert_eq!(claim(two, 100).bytes, 0);
    open(two, "u\0a", "c3", "bye 3");
    assert_eq!(close(two, "u\0a", "c3", true), ["c3=bye 3"]);
    assert_eq!(close(two, "u\0a", "c3", true), [""; 0]);
    let ended = finish(two, "c3");
    assert_eq!((ended.count, ended.bytes), (0, 0));
}

fn wills_of_an_ended_node_are_claimed_once(one: &Node, two: &Node) {
    claim(two, 0);
    for number in 1..=3 {
        open_for(one, Duration::from_millis(1), &format!("k{number}"), &format!("c{number}"), "bye");
    }
    // One of them was begun by the node that ends.
    close(one, "k1", "c1", true);
    let mut claimed = Vec::new();
    wait_until(PATIENCE, "the lease has ended", || {
        claimed = begun(&claim(two, 2));
        !claimed.is_empty()
    });
    assert_eq!(claimed.len(), 2, "at most two at once: {claimed:?}");
    assert_eq!(claimed[0], "c1=bye", "those that were begun first");
    claimed = begun(&claim(two, 100));
    assert_eq!(claimed, ["c1=bye", "c2=bye", "c3=bye"]);
    // The node was only away: its claim reports the ended lease and returns no wills.
    let renewed = claim(one, 100);
    assert!(renewed.had_no_lease && renewed.begun.is_empty(), "{renewed:?}");
    assert!(!claim(one, 100).had_no_lease);
    assert_eq!(begun(&open_again(one, "k2", "c2", "later")), [""; 0]);
    open(two, "k3", "c4", "newer");
    assert_eq!(begun(&open_again(one, "k3", "c3", "later")), [""; 0], "the client has another connection");
    for connection in ["c1", "c2", "c3"] {
        finish(two, connection);
    }
    assert_eq!(close(one, "k2", "c2", true), ["c2=later"]);
    assert_eq!(close(two, "k3", "c4", true), ["c4=newer"]);
    finish(one, "c2");
    assert_eq!(finish(two, "c4").bytes, 0);
}

/// Stores a will again, as a node does that had no lease.
fn open_again(node: &Node, key: &str, connection: &str, will: &str) -> WillOutcome {
    let (key, connection) = (key.to_owned(), connection.to_owned());
    let will = Some(Bytes::from(will.to_owned()));
    change(
        node,
        &WillChange::Open {
            key,
            connection,
            will,
            lease: LONG,
            max_bytes: 2_000,
            is_again: true,
            delay: Duration::ZERO,
            continues: true,
        },
    )
}

fn a_will_that_two_nodes_publish_is_counted_once(one: &Node, two: &Node) {
    open_for(one, Duration::from_millis(1), "k1", "c1", "bye");
    change(one, &WillChange::Claim { lease: Duration::from_millis(1), most: 0 });
    wait_until(PATIENCE, "the lease has ended", || begun(&claim(two, 100)) == ["c1=bye"]);
    // The connection had not ended: its node stores the will again, and publishes it before the other one is done.
    open_again(one, "k1", "c1", "bye");
    assert_eq!(close(one, "k1", "c1", true), ["c1=bye"]);
    assert_eq!(begun(&claim(two, 100)), [""; 0], "it is of the last publisher");
    assert_eq!(finish(two, "c1").count, 1);
    let ended = finish(one, "c1");
    assert_eq!((ended.count, ended.bytes), (0, 0));
    open(one, "k2", "c2", "bye");
    assert_eq!(close(one, "k2", "c2", false), [""; 0]);
}

fn a_client_that_opens_reports_the_ended_lease(one: &Node, two: &Node) {
    // A claim with a lease of 1 ms, so that it ends.
    change(one, &WillChange::Claim { lease: Duration::from_millis(1), most: 0 });
    open_for(one, Duration::from_millis(1), "k1", "c1", "bye");
    wait_until(PATIENCE, "the lease has ended", || begun(&claim(two, 100)) == ["c1=bye"]);
    let opened = open(one, "k2", "c2", "other");
    assert!(opened.had_no_lease && !opened.is_full, "the will of c1 is lost, and the lease is renewed now");
    assert!(!claim(one, 100).had_no_lease);
    assert!(!open(one, "k3", "c3", "other").had_no_lease);
    finish(two, "c1");
    close(one, "k2", "c2", false);
    close(one, "k3", "c3", false);
    assert_eq!(claim(one, 100).count, 0);
}

fn wills_beyond_the_bound_are_refused(node: &Node) {
    assert!(!open(node, "k1", "c1", &"x".repeat(1_000)).is_full);
    let refused = open(node, "k2", "c2", &"x".repeat(1_000));
    assert!(refused.is_full && refused.count == 1, "{refused:?}");
    assert!(refused.bytes > 1_256 && refused.bytes < 1_300, "{refused:?}");
    close(node, "k1", "c1", false);
    assert!(!open(node, "k2", "c2", &"x".repeat(1_000)).is_full);
    close(node, "k2", "c2", false);
}

fn delayed(node: &Node, key: &str, connection: &str, delay: Duration, continues: bool) -> Vec<String> {
    let (key, connection) = (key.to_owned(), connection.to_owned());
    let (will, max_bytes, is_again) = (Some(Bytes::from_static(b"bye")), 2_000, false);
    let open = WillChange::Open { key, connection, will, lease: LONG, max_bytes, is_again, delay, continues };
    begun(&change(node, &open))
}

fn a_will_waits_for_its_delay_and_a_session_that_continues_discards_it(one: &Node, two: &Node) {
    assert_eq!(delayed(one, "k1", "c1", LONG, true), [""; 0]);
    assert_eq!(close(one, "k1", "c1", true), [""; 0], "it waits");
    assert_eq!(delayed(two, "k1", "c2", LONG, true), [""; 0], "the client has returned in time");
    assert_eq!(close(two, "k1", "c2", true), [""; 0]);
    assert_eq!(delayed(one, "k1", "c3", LONG, false), ["c2=bye"], "the session has ended");
    finish(one, "c2");
    assert_eq!(
        delayed(one, "k1", "c4", Duration::from_millis(1), true),
        [""; 0],
        "a session that is taken over"
    );
    close(one, "k1", "c4", true);
    wait_until(PATIENCE, "the delay has passed", || begun(&claim(two, 100)) == ["c4=bye"]);
    finish(two, "c4");
    // Its session is kept for a shorter time, or not at all.
    delayed(one, "k1", "c5", LONG, true);
    assert_eq!(close_within(one, "k1", "c5", true, Duration::from_millis(1)), [""; 0], "it waits");
    wait_until(PATIENCE, "the session has ended", || begun(&claim(two, 100)) == ["c5=bye"]);
    finish(two, "c5");
    delayed(one, "k1", "c6", LONG, true);
    assert_eq!(close_within(one, "k1", "c6", true, Duration::ZERO), ["c6=bye"]);
    let ended = finish(one, "c6");
    assert_eq!((ended.count, ended.bytes), (0, 0));
}

fn all(options: impl Fn() -> Options) {
    let [one, two] = nodes(options);
    a_will_belongs_to_the_last_connection_of_its_client(&one, &two);
    wills_beyond_the_bound_are_refused(&one);
    wills_of_an_ended_node_are_claimed_once(&one, &two);
    a_client_that_opens_reports_the_ended_lease(&one, &two);
    a_will_that_two_nodes_publish_is_counted_once(&one, &two);
    a_will_waits_for_its_delay_and_a_session_that_continues_discards_it(&one, &two);
}

#[test]
fn a_will_has_one_publisher() {
    let redis = RedisServer::start();
    all(|| Options { prefix: "app:".to_owned(), ..Options::new(redis.url()) });
}

#[test]
fn a_will_has_one_publisher_in_a_cluster() {
    let cluster = RedisCluster::start(3);
    all(|| Options { prefix: "app:".to_owned(), ..Options::new(cluster.url()) });
}
