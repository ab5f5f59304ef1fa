//! Publications through Redis arrive in order, once, and only at their subscribers.

use std::sync::atomic::Ordering;
use std::thread;

use crate::node::{Event, Node, channel, pattern};
use tidings_broker::redis::Options;
use tidings_broker::{Broker, BrokerError};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

#[test]
fn a_plain_publish_of_any_client_reaches_channel_and_pattern() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    node.subscribe(&channel("scores:nba"));
    node.subscribe(&pattern("scores:*"));
    node.sink.events().clear();
    let body = b"LAL 101\r\n\0\xff BOS 99";
    assert_eq!(redis.cli(&[b"PUBLISH".as_slice(), b"scores:nba", body]).int(), 2);
    node.sink.wait(2, "both deliveries", |event| matches!(event, Event::Delivered { .. }));
    let received = |topic: &str| Event::Delivered {
        topic: topic.to_owned(),
        channel: "scores:nba".to_owned(),
        body: body.to_vec(),
    };
    assert_eq!(*node.sink.events(), [received("scores:nba"), received("scores:*")]);
}

#[test]
fn under_load_every_publication_arrives_once_and_in_order_of_its_publisher() {
    const EACH: usize = 20_000;
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    node.subscribe(&channel("load:0"));
    node.subscribe(&channel("load:1"));
    thread::scope(|scope| {
        for publisher in 0..3 {
            let redis = &redis;
            scope.spawn(move || {
                let mut client = redis.client();
                for start in (0..EACH).step_by(500) {
                    let batch: Vec<_> = (start..start + 500)
                        .map(|i| {
                            let channel = format!("load:{}", i % 2);
                            vec![
                                b"PUBLISH".to_vec(),
                                channel.into_bytes(),
                                format!("{publisher}:{i}").into_bytes(),
                            ]
                        })
                        .collect();
                    assert!(client.pipeline(&batch).iter().all(|reply| reply.int() == 1));
                }
            });
        }
        // One more publisher uses the broker itself, without waiting for outcomes.
        for i in 0..EACH {
            let done = Box::new(|outcome: Result<_, _>| assert!(outcome.is_ok()));
            let name = tidings_wire::Channel::new(format!("load:{}", i % 2)).unwrap();
            node.broker.publish(&name, format!("3:{i}").into(), done);
        }
    });
    let all = 4 * EACH;
    wait_until(PATIENCE, "every publication", || {
        node.sink.count(|event| matches!(event, Event::Delivered { .. })) >= all
    });
    for parity in 0..2 {
        let bodies = node.sink.bodies(&format!("load:{parity}"));
        assert_eq!(bodies.len(), all / 2);
        for publisher in 0..4 {
            let prefix = format!("{publisher}:");
            let numbers = bodies.iter().filter_map(|body| body.strip_prefix(&prefix)?.parse::<usize>().ok());
            assert!(numbers.eq((parity..EACH).step_by(2)), "publisher {publisher} in load:{parity}");
        }
    }
    assert_eq!(node.broker.counters().received.load(Ordering::Relaxed), all as u64);
}

#[test]
fn deployments_with_different_prefixes_on_one_redis_are_separate() {
    let redis = RedisServer::start();
    let with = |prefix: &str| {
        let node = Node::connected(Options { prefix: prefix.to_owned(), ..Options::new(redis.url()) });
        node.subscribe(&channel("news"));
        node.subscribe(&pattern("n*"));
        node
    };
    let (a, b, bare) = (with("a*:"), with("ab:"), with(""));
    a.publish("news", b"from a").unwrap();
    b.publish("news", b"from b").unwrap();
    bare.publish("news", b"from the bare one").unwrap();
    redis.cli(&["PUBLISH", "a*:news", "last"]);
    redis.cli(&["PUBLISH", "ab:news", "last"]);
    redis.cli(&["PUBLISH", "news", "last"]);
    for (node, own) in [(&a, "from a"), (&b, "from b"), (&bare, "from the bare one")] {
        wait_until(PATIENCE, "the last message", || node.sink.bodies("news").iter().any(|b| b == "last"));
        assert_eq!(node.sink.bodies("news"), [own, "last"]);
        node.sink.wait(4, "each message through the pattern too", |e| matches!(e, Event::Delivered { .. }));
        assert_eq!(node.sink.count(|e| matches!(e, Event::Delivered { .. })), 4);
    }
}

#[test]
fn a_refused_channel_does_not_affect_the_others() {
    let redis =
        RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "resetchannels", "&news:*", "+@all"]);
    let node = Node::start(Options::new(format!("redis://ann:pw@{}", redis.addr())));
    let allowed: Vec<_> = (0..700).map(|i| channel(&format!("news:{i}"))).collect();
    for (i, topic) in allowed.iter().enumerate() {
        if i == 300 {
            node.broker.subscribe(&channel("secret"));
            node.broker.subscribe(&pattern("secret:*"));
        }
        node.broker.subscribe(topic);
    }
    node.sink.wait(2, "both refusals", |event| matches!(event, Event::Refused(..)));
    for topic in &allowed {
        node.sink.wait_live(1, topic);
    }
    for event in node.sink.events().iter() {
        match event {
            Event::Refused(topic, error) => {
                assert!([channel("secret"), pattern("secret:*")].contains(topic), "{topic:?}");
                assert_eq!(*error, BrokerError::NotPermitted);
            }
            Event::Live(topic) => assert!(allowed.contains(topic), "{topic:?}"),
            Event::Up => {}
            other => panic!("{other:?}"),
        }
    }
    node.wait_until_it_may_publish("news:1");
    assert_eq!(node.publish("secret", b"hi"), Err(BrokerError::NotPermitted));
    node.publish("news:1", b"hi").unwrap();
    node.sink.wait(1, "a message of an allowed channel", |event| matches!(event, Event::Delivered { .. }));
}

#[test]
fn a_refused_channel_is_retried_when_it_is_subscribed_again() {
    let redis = RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "resetchannels", "+@all"]);
    let node = Node::start(Options::new(format!("redis://ann:pw@{}", redis.addr())));
    node.broker.subscribe(&channel("a"));
    node.sink.wait(1, "the refusal", |event| matches!(event, Event::Refused(..)));
    redis.cli(&["ACL", "SETUSER", "ann", "&a", "&a?tidings"]);
    node.subscribe(&channel("a"));
}

#[test]
fn a_subscription_refused_after_a_reconnect_is_made_when_it_is_permitted_again() {
    let redis = RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "&*", "+@all"]);
    let node = Node::start(Options::new(format!("redis://ann:pw@{}", redis.addr())));
    let topics: Vec<_> = (0..700).map(|i| channel(&format!("a{i}"))).collect();
    topics.iter().for_each(|topic| node.broker.subscribe(topic));
    topics.iter().for_each(|topic| node.sink.wait_live(1, topic));
    redis.cli(&["ACL", "SETUSER", "ann", "resetchannels", "&a1", "&a1?tidings"]);
    for id in redis.client_ids("tidings-subscriber") {
        redis.cli(&["CLIENT", "KILL", "ID", &id]);
    }
    node.sink.wait(699, "all refusals", |event| matches!(event, Event::Refused(..)));
    node.sink.wait_live(2, &topics[1]);
    redis.cli(&["ACL", "SETUSER", "ann", "allchannels"]);
    for topic in &topics {
        node.sink.wait_live(2, topic);
    }
    assert_eq!(node.sink.count(|event| *event == Event::Up), 2, "on one connection");
    redis.cli(&["PUBLISH", "a699", "hi"]);
    wait_until(PATIENCE, "the message", || node.sink.bodies("a699") == ["hi"]);
}

#[test]
fn messages_with_an_invalid_name_are_counted_and_dropped() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    node.subscribe(&pattern("*"));
    node.sink.events().clear();
    for name in ["two\twords", "na\u{85}ve", &"x".repeat(256), "two words, naïve"] {
        redis.cli(&["PUBLISH", name, "hi"]);
    }
    node.sink.wait(1, "the one with a name", |event| matches!(event, Event::Delivered { .. }));
    assert_eq!(node.sink.events().len(), 1);
    assert_eq!(node.broker.counters().invalid_names.load(Ordering::Relaxed), 3);
}

#[test]
fn fast_changes_of_topics_end_in_the_last_wanted_state() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let (kept, dropped) = (channel("kept"), channel("dropped"));
    node.subscribe(&dropped);
    for round in 0..2_000 {
        node.broker.subscribe(&kept);
        node.broker.subscribe(&dropped);
        if round % 7 == 0 {
            thread::yield_now();
        }
        node.broker.unsubscribe(&kept);
        node.broker.unsubscribe(&dropped);
    }
    node.subscribe(&kept);
    let mut client = redis.client();
    wait_until(PATIENCE, "the dropped one to be unsubscribed", || {
        client.command(&["PUBSUB", "NUMSUB", "kept", "dropped"]).texts() == ["kept", "1", "dropped", "0"]
    });
    node.publish("kept", b"hi").unwrap();
    wait_until(PATIENCE, "the message", || node.sink.bodies("kept") == ["hi"]);
}
