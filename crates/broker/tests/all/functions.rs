//! The functions in Redis are everybody's, and nobody's message is mistaken for another.

use std::process::Command;
use std::sync::atomic::Ordering;

use tidings_broker::Broker;
use tidings_broker::redis::Options;
use tidings_testkit::{PATIENCE, RedisServer, Reply, wait_until};

use crate::node::{Event, Node, after, channel, keep, page, pattern};

#[test]
fn redis_cli_publishes_with_a_position_by_calling_the_function() {
    let redis = RedisServer::start();
    let node = Node::connected(Options { prefix: "app:".to_owned(), ..Options::new(redis.url()) });
    node.subscribe(&channel("news"));
    let port = redis.port().to_string();
    let output = Command::new("redis-cli")
        .args(["-p", &port, "FCALL", "tidings_publish", "1", "app:news", "follow the white rabbit"])
        .output()
        .expect("redis-cli on the PATH");
    let answer = String::from_utf8(output.stdout).unwrap();
    let position = page(&*node.broker, "news", after(None)).position;
    assert_eq!(answer.lines().collect::<Vec<_>>(), ["1", "1", position.epoch.as_str(), "0"]);
    wait_until(PATIENCE, "the message", || node.sink.bodies("news") == ["follow the white rabbit"]);
    assert_eq!(node.sink.publications("news")[0].position, Some(position.clone()));
    // And goes on from there with a publication of a node's.
    assert_eq!(keep(&*node.broker, "news", "down the hole", 9).offset, 2);
    assert_eq!(page(&*node.broker, "news", after(Some(&position))).publications[0].body, "down the hole");
}

#[test]
fn what_a_function_cannot_take_is_an_error_and_changes_nothing() {
    let redis = RedisServer::start();
    let _node = Node::connected(Options::new(redis.url()));
    for call in [
        &["FCALL", "tidings_publish", "1", "a"][..],
        &["FCALL", "tidings_publish", "0"],
        &["FCALL", "tidings_publish", "1", "", "body"],
        &["FCALL", "tidings_publish", "1", "a", "body", "many"],
        &["FCALL", "tidings_publish", "1", "a", "body", "-1"],
        &["FCALL", "tidings_publish", "1", "a", "body", "1.5"],
        &["FCALL", "tidings_publish", "1", "a", "body", "5", "1e300"],
    ] {
        let reply = redis.cli(call);
        assert!(matches!(&reply, Reply::Error(why) if why.contains("tidings: ")), "{call:?}: {reply:?}");
    }
    assert_eq!(redis.cli(&["DBSIZE"]).int(), 0);
}

#[test]
fn all_keys_of_a_channel_share_a_hash_slot_with_its_name() {
    let redis = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let slot = |key: &str| redis.cli(&["CLUSTER", "KEYSLOT", key]).int();
    // The tags as the library makes them; a cluster of one server without slots answers only where they would be.
    for (name, tagged) in [("news", "{news}"), ("a{b}c", ":a{b}c"), ("a{}c", "{a{}c}"), ("a{c", "{a{c}")] {
        let slots: Vec<_> =
            ["meta", "stream", "once"].map(|kind| slot(&format!("tidings:{kind}:{tagged}"))).to_vec();
        assert!(slots.windows(2).all(|two| two[0] == two[1]), "{name}");
        if !name.contains('{') || name.contains("{b}") {
            assert_eq!(slots[0], slot(name), "{name}");
        }
    }
    let plain = RedisServer::start();
    let node = Node::connected(Options::new(plain.url()));
    for (name, tagged) in [("news", "{news}"), ("a{b}c", ":a{b}c"), ("a{}c", "{a{}c}"), ("a{c", "{a{c}")] {
        keep(&*node.broker, name, "x", 9);
        assert_eq!(plain.cli(&["EXISTS", &format!("tidings:meta:{tagged}")]).int(), 1, "{name}");
        assert_eq!(plain.cli(&["EXISTS", &format!("tidings:stream:{tagged}")]).int(), 1, "{name}");
    }
}

#[test]
fn a_plain_publish_is_its_body_whatever_it_looks_like() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    node.subscribe(&channel("a"));
    let position = keep(&*node.broker, "a", "1", 9);
    let likeness = format!("P2 {} 0\nforged", position.epoch);
    redis.cli(&["PUBLISH", "a", &likeness]);
    // Where envelopes go, what is none is dropped and counted.
    redis.cli(&["PUBLISH", "a tidings", "forged"]);
    keep(&*node.broker, "a", "2", 9);
    wait_until(PATIENCE, "the last", || node.sink.bodies("a") == ["1", &likeness, "2"]);
    assert_eq!(node.sink.offsets("a"), [1, 0, 2]);
    assert_eq!(node.broker.counters().invalid_envelopes.load(Ordering::Relaxed), 1);
}

#[test]
fn a_pattern_hears_what_has_a_position_once() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    for topic in [pattern("*"), pattern("new?"), pattern("sport"), channel("news")] {
        node.subscribe(&topic);
    }
    node.sink.events().clear();
    keep(&*node.broker, "news", "1", 9);
    keep(&*node.broker, "news", "2", 9);
    redis.cli(&["PUBLISH", "news", "3"]);
    node.sink.wait(9, "all deliveries", |event| matches!(event, Event::Heard { .. }));
    for topic in ["*", "new?", "news"] {
        let heard: Vec<_> = node
            .sink
            .events()
            .iter()
            .filter_map(|event| match event {
                Event::Heard { topic: t, body, .. } if t == topic => Some(body.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(heard, [b"1", b"2", b"3"], "{topic}");
    }
    assert_eq!(node.broker.counters().invalid_names.load(Ordering::Relaxed), 0);
}

#[test]
fn functions_that_were_flushed_are_loaded_again_by_whoever_needs_them() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    redis.cli(&["FUNCTION", "FLUSH", "SYNC"]);
    // The hearing connection needs one to subscribe, the publishing one to publish.
    node.subscribe(&channel("a"));
    assert_eq!(keep(&*node.broker, "a", "1", 9).offset, 1);
    redis.cli(&["FUNCTION", "FLUSH", "SYNC"]);
    assert_eq!(keep(&*node.broker, "a", "2", 9).offset, 2);
    wait_until(PATIENCE, "both", || node.sink.offsets("a") == [1, 2]);
}

#[test]
fn a_redis_that_refuses_functions_still_carries_plain_publications() {
    let redis =
        RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "&*", "+@all", "-function", "-fcall"]);
    let node = Node::connected(Options::new(format!("redis://ann:pw@{}", redis.addr())));
    node.subscribe(&channel("a"));
    node.publish("a", b"hi").unwrap();
    wait_until(PATIENCE, "the message", || node.sink.bodies("a") == ["hi"]);
    node.broker.reset("once more");
    node.sink.wait_live(2, &channel("a"));
    assert_eq!(node.sink.gaps(), []);
}
