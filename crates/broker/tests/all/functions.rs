//! Any client may call the functions in Redis, and no message is mistaken for another kind.

use std::collections::HashSet;
use std::process::Command;
use std::sync::atomic::Ordering;

use tidings_broker::redis::Options;
use tidings_broker::{Broker, PublishOptions};
use tidings_testkit::{PATIENCE, RedisServer, Reply, wait_until};

use crate::node::{Event, Node, after, channel, history_of, keep, page, pattern, publish_with};

#[test]
fn redis_cli_publishes_with_a_position_by_calling_the_function() {
    let redis = RedisServer::start();
    let node = Node::connected(Options { prefix: "app:".to_owned(), ..Options::new(redis.url()) });
    node.subscribe(&channel("news"));
    let port = redis.port().to_string();
    let output = Command::new("redis-cli")
        .args(["-p", &port, "FCALL", "tidings_publish", "1", "app:news", "hello world"])
        .output()
        .expect("redis-cli on the PATH");
    let answer = String::from_utf8(output.stdout).unwrap();
    let position = page(&*node.broker, "news", after(None)).position;
    assert_eq!(answer.lines().collect::<Vec<_>>(), ["1", "1", position.epoch.as_str(), "0"]);
    wait_until(PATIENCE, "the message", || node.sink.bodies("news") == ["hello world"]);
    assert_eq!(node.sink.publications("news")[0].position, Some(position.clone()));
    // A publication of a node continues from there.
    assert_eq!(keep(&*node.broker, "news", "down the hole", 9).offset, 2);
    assert_eq!(page(&*node.broker, "news", after(Some(&position))).publications[0].body, "down the hole");
}

#[test]
fn invalid_arguments_of_a_function_are_an_error_and_change_nothing() {
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

/// The part of a key that decides its slot in a cluster
/// (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>).
fn hashed(key: &str) -> &str {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

#[test]
fn all_keys_of_a_channel_share_a_hash_slot_with_its_name() {
    let names = ["news", "a{b}c", "{news}", "{}", "a{c"];
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    for name in names {
        redis.cli(&["FLUSHALL"]);
        let key = PublishOptions { idempotency_key: Some("k".to_owned()), ..PublishOptions::default() };
        publish_with(&*node.broker, name, "x", PublishOptions { history: Some(history_of(9)), ..key })
            .unwrap();
        redis.cli(&["FCALL", "tidings_presence_add", "1", name, "c", "1:u", "9999"]);
        let keys = redis.cli(&["KEYS", "*"]).texts();
        assert_eq!(keys.len(), 5, "{keys:?}");
        let slots: HashSet<_> = keys.iter().map(|key| hashed(key)).collect();
        assert_eq!(slots.len(), 1, "{slots:?}");
        // A name with an unfinished tag cannot be matched; its keys are still together.
        if !["{}", "a{c"].contains(&name) {
            assert_eq!(slots, HashSet::from([hashed(name)]));
        }
    }
    // No two names share a key.
    redis.cli(&["FLUSHALL"]);
    names.iter().for_each(|name| drop(keep(&*node.broker, name, "x", 9)));
    assert_eq!(redis.cli(&["KEYS", "tidings:stream:*"]).texts().len(), names.len());
}

#[test]
fn a_plain_publish_is_always_delivered_as_its_body() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    node.subscribe(&channel("a"));
    let position = keep(&*node.broker, "a", "1", 9);
    let likeness = format!("P2 {} 0\nforged", position.epoch);
    redis.cli(&["PUBLISH", "a", &likeness]);
    // Messages on a channel for envelopes that are no envelopes are dropped and counted.
    redis.cli(&["PUBLISH", "a\x1ftidings", "forged"]);
    keep(&*node.broker, "a", "2", 9);
    wait_until(PATIENCE, "the last", || node.sink.bodies("a") == ["1", &likeness, "2"]);
    assert_eq!(node.sink.offsets("a"), [1, 0, 2]);
    assert_eq!(node.broker.counters().invalid_envelopes.load(Ordering::Relaxed), 1);
}

#[test]
fn names_may_be_any_text_and_none_equals_a_name_for_envelopes() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let names = ["my room ☕", "news tidings", "a {b} c", "news"];
    for topic in names.map(channel).into_iter().chain([pattern("my *")]) {
        node.subscribe(&topic);
    }
    for name in names {
        keep(&*node.broker, name, "1", 9);
        redis.cli(&["PUBLISH", name, "P2 e 0\nplain"]);
        keep(&*node.broker, name, "2", 9);
        wait_until(PATIENCE, "all", || node.sink.bodies(name).iter().filter(|body| *body == "2").count() > 0);
        assert_eq!(node.sink.offsets(name).iter().copied().max(), Some(2), "{name}");
        assert_eq!(page(&*node.broker, name, after(None)).publications.len(), 2);
    }
    assert_eq!(node.sink.bodies("news tidings"), ["1", "P2 e 0\nplain", "2"]);
    assert_eq!(node.sink.bodies("news"), ["1", "P2 e 0\nplain", "2"]);
    assert_eq!(node.broker.counters().invalid_names.load(Ordering::Relaxed), 0);
    assert_eq!(node.broker.counters().invalid_envelopes.load(Ordering::Relaxed), 0);
}

#[test]
fn a_pattern_receives_publications_with_a_position_once() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    for topic in [pattern("*"), pattern("new?"), pattern("sport"), channel("news")] {
        node.subscribe(&topic);
    }
    node.sink.events().clear();
    keep(&*node.broker, "news", "1", 9);
    keep(&*node.broker, "news", "2", 9);
    redis.cli(&["PUBLISH", "news", "3"]);
    node.sink.wait(9, "all deliveries", |event| matches!(event, Event::Delivered { .. }));
    for topic in ["*", "new?", "news"] {
        let received: Vec<_> = node
            .sink
            .events()
            .iter()
            .filter_map(|event| match event {
                Event::Delivered { topic: t, body, .. } if t == topic => Some(body.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(received, [b"1", b"2", b"3"], "{topic}");
    }
    assert_eq!(node.broker.counters().invalid_names.load(Ordering::Relaxed), 0);
}

#[test]
fn flushed_functions_are_loaded_again_by_both_connections() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    redis.cli(&["FUNCTION", "FLUSH", "SYNC"]);
    // The subscriber connection needs one to subscribe, the publisher connection one to publish.
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
