//! Connections break in every possible way, and every subscription is restored.

use std::sync::atomic::Ordering;

use tidings_broker::redis::Options;
use tidings_broker::{Broker, BrokerError};
use tidings_testkit::{PATIENCE, Proxy, RedisServer, wait_until};

use crate::node::{Event, Node, channel, impatient, pattern};

#[test]
fn redis_may_be_absent_at_the_start_and_appear_later() {
    let mut redis = RedisServer::absent();
    let node = Node::start(Options::new(redis.url()));
    node.broker.subscribe(&channel("updates"));
    assert!(node.sink.wait_down().contains("refused"), "the reason is reported");
    assert_eq!(node.publish("updates", b"too early"), Err(BrokerError::Unavailable));
    redis.restart();
    node.sink.wait_live(1, &channel("updates"));
    let events = node.sink.events().clone();
    let down = events.iter().position(|event| matches!(event, Event::Down(_)));
    let up = events.iter().position(|event| *event == Event::Up);
    let live = events.iter().position(|event| matches!(event, Event::Live(_)));
    assert!(down < up && up < live, "{events:?}");
    node.wait_until_it_publishes();
    node.publish("updates", b"here").unwrap();
    wait_until(PATIENCE, "the message", || node.sink.bodies("updates") == ["here"]);
    assert_eq!(node.broker.counters().reconnects.load(Ordering::Relaxed), 0, "this was the first connection");
}

#[test]
fn after_a_restart_of_redis_every_topic_is_subscribed_again() {
    let mut redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let topics = [channel("a"), channel("b"), pattern("c*")];
    topics.iter().for_each(|topic| node.subscribe(topic));
    for round in 2..4 {
        redis.kill();
        node.sink.wait_down();
        // Changes during the outage are applied too.
        let meanwhile = channel(&format!("meanwhile{round}"));
        node.broker.subscribe(&meanwhile);
        node.broker.unsubscribe(&channel("b"));
        redis.restart();
        node.sink.wait_up(round);
        for topic in [&topics[0], &topics[2]] {
            node.sink.wait_live(round, topic);
        }
        node.sink.wait_live(1, &meanwhile);
        assert_eq!(redis.cli(&["PUBSUB", "NUMSUB", "b"]).texts(), ["b", "0"]);
        node.wait_until_it_publishes();
        node.publish("cat", b"meow").unwrap();
        let meows = |event: &Event| matches!(event, Event::Delivered { topic, .. } if topic == "c*");
        node.sink.wait(round - 1, "a message through the pattern", meows);
    }
    assert_eq!(node.broker.counters().reconnects.load(Ordering::Relaxed), 2);
}

#[test]
fn a_killed_connection_is_replaced_and_ten_thousand_topics_are_subscribed_again() {
    const TOPICS: usize = 10_000;
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    for i in 0..TOPICS {
        node.broker.subscribe(&channel(&format!("topic:{i}")));
    }
    let live = |event: &Event| matches!(event, Event::Live(_));
    node.sink.wait(TOPICS, "every topic live", live);
    let [id] = &redis.client_ids("tidings-subscriber")[..] else { panic!("one subscriber was expected") };
    redis.cli(&["CLIENT", "KILL", "ID", id]);
    node.sink.wait(2 * TOPICS, "every topic live again", live);
    assert_eq!(node.sink.count(live), 2 * TOPICS);
    assert_eq!(redis.cli(&["PUBSUB", "CHANNELS"]).texts().len(), 2 * TOPICS, "two names each");
    for i in [0, TOPICS / 2, TOPICS - 1] {
        assert_eq!(redis.cli(&["PUBLISH", &format!("topic:{i}"), "hi"]).int(), 1);
    }
    node.sink.wait(3, "the messages", |event| matches!(event, Event::Delivered { .. }));
    assert_eq!(node.publish("topic:0", b"hi").map(|p| p.receivers), Ok(1), "publishing never stopped");
}

#[test]
fn a_silent_connection_is_replaced() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.addr());
    let node = Node::connected(impatient(format!("redis://{}", proxy.addr())));
    node.subscribe(&channel("a"));
    proxy.black_hole();
    let outcome = node.publish("a", b"into the void");
    assert_eq!(outcome, Err(BrokerError::Unavailable));
    let reason = node.sink.wait_down();
    assert!(reason.contains("no answer within") || reason.contains("no connection within"), "{reason}");
    proxy.resume();
    node.sink.wait_live(2, &channel("a"));
    node.wait_until_it_publishes();
}

#[test]
fn a_connection_without_a_greeting_times_out() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.addr());
    proxy.black_hole();
    let node = Node::start(impatient(format!("redis://{}", proxy.addr())));
    assert!(node.sink.wait_down().contains("no connection within"));
    proxy.resume();
    node.sink.wait_up(1);
}

#[test]
fn an_idle_publisher_connection_that_redis_closes_is_replaced_at_once() {
    let redis = RedisServer::start();
    let node = Node::connected(Options { ping_interval: PATIENCE * 10, ..Options::new(redis.url()) });
    let before = redis.client_ids("tidings-publisher");
    redis.cli(&["CLIENT", "KILL", "ID", &before[0]]);
    wait_until(PATIENCE, "another connection", || {
        let now = redis.client_ids("tidings-publisher");
        now.len() == 1 && now != before
    });
    node.wait_until_it_publishes();
}

#[test]
fn a_reset_replaces_both_connections() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    node.subscribe(&channel("a"));
    let ids = redis.client_ids("tidings-");
    assert_eq!(ids.len(), 2);
    node.broker.reset("the canary did not come back");
    node.sink.wait_live(2, &channel("a"));
    let reported = |event: &Event| *event == Event::Down("reset: the canary did not come back".to_owned());
    assert_eq!(node.sink.count(reported), 1);
    wait_until(PATIENCE, "two new connections", || {
        let now = redis.client_ids("tidings-");
        now.len() == 2 && !now.iter().any(|id| ids.contains(id))
    });
    node.wait_until_it_publishes();
}

#[test]
fn a_master_that_becomes_a_replica_is_left_by_both_connections() {
    let (redis, other) = (RedisServer::start(), RedisServer::start());
    let node = Node::connected(impatient(redis.url()));
    node.subscribe(&channel("a"));
    let ids = redis.client_ids("tidings-");
    redis.cli(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    node.sink.wait_live(2, &channel("a"));
    let reported = |event: &Event| *event == Event::Down("reset: the master has become a replica".to_owned());
    assert_eq!(node.sink.count(reported), 1);
    wait_until(PATIENCE, "two new connections", || {
        let now = redis.client_ids("tidings-");
        now.len() == 2 && !now.iter().any(|id| ids.contains(id))
    });
}

#[test]
fn a_dropped_broker_closes_its_connections() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    drop(node.broker);
    wait_until(PATIENCE, "no connection", || redis.client_ids("tidings-").is_empty());
}
