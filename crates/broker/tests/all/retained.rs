//! Retained messages of MQTT: stored for all nodes, found by topic filters, within bounds.

use std::time::Duration;

use tidings_broker::redis::Options;
use tidings_broker::{
    BrokerError, Retain, RetainOutcome, RetainedPage, RetainedQuery, RetainedTotals, Stateful,
};
use tidings_mqtt::topic::Filter;
use tidings_testkit::{PATIENCE, RedisCluster, RedisServer, wait_until};
use tidings_wire::{Extra, MessageProperties, Publication};

use crate::node::{Node, name as channel, wait};

const STORE: &str = "tidings.node.retained";
/// The allowance for a message, and the beginning of its value without expiry and extras.
const ALLOWANCE: u64 = 256 + "0 P0  0\n".len() as u64;

fn message(topic: &str, body: &str) -> Publication {
    Publication::new(channel(topic), body.to_owned())
}

fn retain_within(
    broker: &dyn Stateful,
    publication: Publication,
    ttl: Option<Duration>,
    (max_messages, max_bytes): (usize, usize),
) -> RetainOutcome {
    let change = Retain { publication, ttl, max_messages, max_bytes };
    wait(|done| broker.retain(&channel(STORE), change, done)).expect("an outcome")
}

fn retain(broker: &dyn Stateful, topic: &str, body: &str) -> RetainOutcome {
    retain_within(broker, message(topic, body), None, (10_000, 10_000_000))
}

fn page(
    broker: &dyn Stateful,
    filter: &str,
    after: &str,
    max_bytes: usize,
) -> Result<RetainedPage, BrokerError> {
    let query = RetainedQuery { filter: filter.into(), after: after.to_owned(), max_bytes };
    wait(|done| broker.retained(&channel(STORE), query, done))
}

/// The topics and bodies that match.
fn found(broker: &dyn Stateful, filter: &str) -> Vec<String> {
    let page = page(broker, filter, "", 1 << 20).expect("a page");
    assert_eq!(page.next, None);
    let text = |(publication, _): &(Publication, _)| {
        format!("{}={}", publication.channel, String::from_utf8_lossy(&publication.body))
    };
    page.messages.iter().map(text).collect()
}

fn the_last_message_of_each_topic_is_found_on_every_node(node: &Node, other: &Node) {
    let (node, other) = (&*node.broker, &*other.broker);
    assert_eq!(found(other, "#"), [""; 0]);
    for (topic, body) in [("a/b", "1"), ("a/c", "2"), ("a/b", "33"), ("$x/y", "4"), ("ä/%-", "5")] {
        assert!(matches!(retain(node, topic, body), RetainOutcome::Stored(_)));
    }
    assert_eq!(found(other, "#"), ["a/b=33", "a/c=2", "ä/%-=5"]);
    assert_eq!(found(other, "a/c"), ["a/c=2"]);
    assert_eq!(found(other, "ä/%-"), ["ä/%-=5"]);
    let totals = page(other, "", "", 0).expect("a page").totals;
    let texts = "a/b33a/c2$x/y4ä/%-5".len() as u64;
    assert_eq!(totals, RetainedTotals { messages: 4, bytes: 4 * ALLOWANCE + texts });
    assert_eq!(retain(other, "nothing", ""), RetainOutcome::Stored(totals));
    for topic in ["a/b", "a/c", "$x/y", "ä/%-"] {
        retain(other, topic, "");
    }
    assert_eq!(found(node, "a/#"), [""; 0]);
    assert_eq!(page(node, "#", "", 0).expect("a page").totals, RetainedTotals::default());
}

#[test]
fn retained_messages_are_the_same_on_every_node() {
    let redis = RedisServer::start();
    let node = || Node::connected(Options { prefix: "app:".to_owned(), ..Options::new(redis.url()) });
    the_last_message_of_each_topic_is_found_on_every_node(&node(), &node());
    assert_eq!(redis.cli(&["DBSIZE"]).int(), 0, "no key is left");
}

#[test]
fn retained_messages_are_the_same_on_every_node_of_a_cluster() {
    let cluster = RedisCluster::start(3);
    the_last_message_of_each_topic_is_found_on_every_node(
        &crate::cluster::connected(&cluster),
        &crate::cluster::connected(&cluster),
    );
}

#[test]
fn filters_match_in_redis_as_on_a_node() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let topics = [
        "a", "a/", "a/b", "a/b/c", "a//c", "/a", "/", "ab", "ab/c", "b", "b/a.c", "b/axc", "$SYS/a", "$SYS",
        "é/b", "a/$x", "%a/^b$", "(/[",
    ];
    for topic in &topics {
        retain(&*node.broker, topic, "x");
    }
    for filter in [
        "#", "+", "+/+", "+/#", "a", "a/#", "a/+", "a/+/c", "a/+/#", "+/b", "/+", "/#", "+/", "b/a.c", "b/+",
        "$SYS/#", "$SYS/+", "$SYS", "é/+", "%a/+", "%a/^b$", "(/+", "(/[", "ab/#", "+/b/c", "+/+/+",
        "none/#", "+/a/#",
    ] {
        let mut expected: Vec<_> =
            topics.iter().filter(|topic| Filter::new(filter).unwrap().matches(topic)).collect();
        expected.sort();
        let expected: Vec<_> = expected.iter().map(|topic| format!("{topic}=x")).collect();
        assert_eq!(found(&*node.broker, filter), expected, "{filter}");
    }
}

#[test]
fn properties_and_the_rest_of_the_lifetime_are_kept_until_the_message_expires() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let properties = MessageProperties { retain: true, expiry: Some(60), ..MessageProperties::default() };
    let extra = Extra { message: Some(Box::new(properties)), ..Extra::default() };
    let publication = Publication { extra: Some(Box::new(extra)), ..message("t", "body\n") };
    let broker = &*node.broker;
    retain_within(broker, publication.clone(), Some(Duration::from_secs(60)), (2, 10_000));
    let found_page = page(broker, "t", "", 1_000).unwrap();
    let [(stored, Some(left))] = &found_page.messages[..] else { panic!("{found_page:?}") };
    assert_eq!(*stored, publication);
    assert!(*left <= Duration::from_secs(60) && *left > Duration::from_secs(30), "{left:?}");
    retain_within(broker, message("t", "short"), Some(Duration::from_millis(20)), (2, 10_000));
    wait_until(PATIENCE, "the expiry", || found(broker, "t").is_empty());
    // Its room is free.
    retain_within(broker, message("a", "1"), None, (2, 10_000));
    let stored = retain_within(broker, message("b", "1"), None, (2, 10_000));
    assert_eq!(stored, RetainOutcome::Stored(RetainedTotals { messages: 2, bytes: 2 * (ALLOWANCE + 2) }));
}

#[test]
fn messages_beyond_a_bound_are_refused_and_none_is_evicted() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let broker = &*node.broker;
    let limits = (2, 1_000);
    for topic in ["a", "b"] {
        retain_within(broker, message(topic, "1"), None, limits);
    }
    assert_eq!(retain_within(broker, message("c", "1"), None, limits), RetainOutcome::TooManyMessages);
    let long = "x".repeat(500);
    assert_eq!(retain_within(broker, message("a", &long), None, limits), RetainOutcome::TooManyBytes);
    assert_eq!(found(broker, "#"), ["a=1", "b=1"]);
    assert!(matches!(retain_within(broker, message("b", "2"), None, limits), RetainOutcome::Stored(_)));
    assert_eq!(page(broker, "#", "", 500), Err(BrokerError::LimitExceeded(500)));
}

#[test]
fn many_topics_are_read_in_pages_without_a_long_pause_of_redis() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let broker = &*node.broker;
    for number in 0..2_100 {
        let publication = message(&format!("a/{number:04}/b"), "x");
        let change = Retain { publication, ttl: None, max_messages: 10_000, max_bytes: 10_000_000 };
        broker.retain(&channel(STORE), change, Box::new(|_| {}));
    }
    let mut after = String::new();
    let mut sizes = Vec::new();
    loop {
        let page = page(broker, "a/+/b", &after, 10_000_000).unwrap();
        sizes.push(page.messages.len());
        let Some(next) = page.next else { break };
        after = next;
    }
    assert_eq!(sizes, [1_000, 1_000, 100]);
}
