//! Publications that are missed during an outage are delivered in order and once, or reported lost.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tidings_broker::redis::{Options, Redis};
use tidings_broker::{BrokerError, Gap, PublishOptions};
use tidings_testkit::{PATIENCE, Proxy, RedisServer, wait_until};
use tidings_wire::Position;

use crate::node::{Event, Node, channel, history_of, impatient, keep, position, publish_with};

/// Publishes without the node, as any Redis client may.
fn fcall(redis: &RedisServer, name: &str, body: &str, size: usize) -> Position {
    let reply = redis.cli(&["FCALL", "tidings_publish", "1", name, body, &size.to_string()]).texts();
    Position { offset: reply[1].parse().unwrap(), epoch: reply[2].as_str().into() }
}

/// A node behind a proxy, so that it alone can be disconnected from Redis.
fn behind_a_proxy(redis: &RedisServer) -> (Proxy, Node) {
    let proxy = Proxy::to(redis.addr());
    let node = Node::connected(impatient(format!("redis://{}", proxy.addr())));
    (proxy, node)
}

/// Disconnects the node, runs `act`, and waits until the channel is live again.
fn while_cut_off(proxy: &Proxy, node: &Node, name: &str, act: impl FnOnce()) {
    let live = |event: &Event| *event == Event::Live(channel(name));
    let before = node.sink.count(live);
    proxy.black_hole();
    node.sink.wait_down();
    act();
    proxy.resume();
    node.sink.wait(before + 1, "live again", live);
    node.wait_until_it_publishes();
}

#[test]
fn missed_publications_are_delivered_before_the_channel_is_live_again() {
    let redis = RedisServer::start();
    let (proxy, node) = behind_a_proxy(&redis);
    let names: Vec<_> = (0..20).map(|i| format!("a{i}")).collect();
    for name in &names {
        node.subscribe(&channel(name));
        // Some have a history before they are subscribed, some get one while no connection receives them.
        if name.len() == 2 {
            fcall(&redis, name, "1", 1_000);
        }
    }
    wait_until(PATIENCE, "the first", || {
        names.iter().filter(|name| node.sink.offsets(name) == [1]).count() == 10
    });
    while_cut_off(&proxy, &node, "a0", || {
        for name in &names {
            // More than is fetched at once.
            for i in 0..if name == "a0" { 300 } else { 3 } {
                fcall(&redis, name, &i.to_string(), 1_000);
            }
        }
    });
    let received = node.sink.offsets("a0");
    assert!(received.iter().copied().eq(1..=301), "{received:?}");
    for name in &names {
        let top = fcall(&redis, name, "last", 1_000).offset;
        wait_until(PATIENCE, "the last", || node.sink.offsets(name).last() == Some(&top));
        assert!(node.sink.offsets(name).into_iter().eq(1..=top), "{name}");
    }
    assert_eq!(node.sink.gaps(), []);
    assert_eq!(node.broker.counters().fetched.load(Ordering::Relaxed), 300 + 19 * 3);
}

#[test]
fn publications_missing_in_the_history_are_reported_lost() {
    let redis = RedisServer::start();
    let (proxy, node) = behind_a_proxy(&redis);
    node.subscribe(&channel("a"));
    let last = fcall(&redis, "a", "1", 5);
    wait_until(PATIENCE, "the first", || node.sink.offsets("a") == [1]);
    while_cut_off(&proxy, &node, "a", || (2..=10).for_each(|i| drop(fcall(&redis, "a", &i.to_string(), 5))));
    let next = Position { offset: 10, ..last.clone() };
    assert_eq!(node.sink.gaps(), [Gap { last, next: Some(next) }]);
    assert_eq!(node.broker.counters().gaps.load(Ordering::Relaxed), 1);
    fcall(&redis, "a", "11", 5);
    wait_until(PATIENCE, "the next", || node.sink.offsets("a") == [1, 11]);
}

#[test]
fn lost_data_begins_another_epoch_and_is_always_reported() {
    let redis = RedisServer::start();
    let (proxy, node) = behind_a_proxy(&redis);
    node.subscribe(&channel("a"));
    let first = fcall(&redis, "a", "1", 9);
    wait_until(PATIENCE, "the first", || node.sink.offsets("a") == [1]);
    // While the node is connected.
    redis.cli(&["FLUSHALL"]);
    let second = fcall(&redis, "a", "2", 9);
    assert_ne!(first.epoch, second.epoch);
    wait_until(PATIENCE, "the second", || node.sink.offsets("a") == [1, 1]);
    let begin = |position: &Position| Some(Position { offset: 0, ..position.clone() });
    assert_eq!(node.sink.gaps(), [Gap { last: first, next: begin(&second) }]);
    // The same while the node is disconnected.
    while_cut_off(&proxy, &node, "a", || drop(redis.cli(&["FLUSHALL"])));
    let third = position(&*node.broker, "a");
    assert_ne!(second.epoch, third.epoch);
    assert_eq!(node.sink.gaps()[1..], [Gap { last: second, next: Some(third.clone()) }]);
    assert_eq!(fcall(&redis, "a", "3", 9), Position { offset: 1, ..third });
    wait_until(PATIENCE, "the third", || node.sink.offsets("a") == [1, 1, 1]);
}

#[test]
fn a_redis_with_older_data_does_not_assign_the_same_offsets_again() {
    let redis = RedisServer::start();
    let (proxy, node) = behind_a_proxy(&redis);
    node.subscribe(&channel("a"));
    (1..=5).for_each(|i| drop(fcall(&redis, "a", &i.to_string(), 9)));
    wait_until(PATIENCE, "all", || node.sink.offsets("a").len() == 5);
    while_cut_off(&proxy, &node, "a", || {
        // The state after only the first two have reached the disk, or the replica that was promoted.
        redis.cli(&["HSET", "tidings:meta:{a}", "o", "2"]);
        redis.cli(&["XDEL", "tidings:stream:{a}", "3-0", "4-0", "5-0"]);
    });
    let gaps = node.sink.gaps();
    assert_eq!(gaps.len(), 1);
    let now = position(&*node.broker, "a");
    assert_ne!(gaps[0].last.epoch, now.epoch);
    assert_eq!((gaps[0].last.offset, &gaps[0].next), (5, &Some(now.clone())));
    assert_eq!(fcall(&redis, "a", "again", 9), Position { offset: 1, ..now });
}

#[test]
fn a_message_after_skipped_offsets_is_held_until_they_are_fetched() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    node.subscribe(&channel("a"));
    let first = fcall(&redis, "a", "1", 9);
    // Appended, but not published, like a message that is lost in transit.
    for i in 2..=4 {
        redis.cli(&["XADD", "tidings:stream:{a}", &i.to_string(), "b", &i.to_string()]);
        redis.cli(&["HINCRBY", "tidings:meta:{a}", "o", "1"]);
    }
    fcall(&redis, "a", "5", 9);
    redis.cli(&["PUBLISH", "a\x1ftidings", &format!("P3 {} 0\n3", first.epoch)]);
    fcall(&redis, "a", "6", 9);
    wait_until(PATIENCE, "all", || node.sink.offsets("a").len() == 6);
    assert_eq!(node.sink.bodies("a"), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(node.sink.gaps(), []);
}

#[test]
fn a_channel_unsubscribed_during_an_outage_fetches_nothing() {
    let redis = RedisServer::start();
    let (proxy, node) = behind_a_proxy(&redis);
    node.subscribe(&channel("a"));
    node.subscribe(&channel("b"));
    fcall(&redis, "a", "1", 9);
    wait_until(PATIENCE, "the first", || node.sink.offsets("a") == [1]);
    while_cut_off(&proxy, &node, "b", || {
        tidings_broker::Broker::unsubscribe(&*node.broker, &channel("a"));
        fcall(&redis, "a", "2", 9);
    });
    node.subscribe(&channel("a"));
    fcall(&redis, "a", "3", 9);
    wait_until(PATIENCE, "the third", || node.sink.offsets("a") == [1, 3]);
    assert_eq!(node.sink.gaps(), []);
}

/// Publishes for a while to three channels and records the outcome of each body.
fn publish_until(stop: &AtomicBool, broker: &Redis, outcomes: &Mutex<HashMap<String, Position>>) -> usize {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let (name, body) = (format!("a{}", sent % 3), format!("{sent}"));
        let options = PublishOptions { history: Some(history_of(1_000_000)), ..PublishOptions::default() };
        match publish_with(broker, &name, &body, options) {
            Ok(published) => {
                outcomes.lock().unwrap().insert(body, published.position.unwrap());
            }
            Err(BrokerError::Unavailable) => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
        sent += 1;
    }
    sent
}

#[test]
fn killed_connections_and_restarts_cause_no_loss_repetition_or_disorder() {
    let mut redis = RedisServer::persistent();
    let nodes = [(); 2].map(|()| Node::connected(impatient(redis.url())));
    let names = ["a0", "a1", "a2"];
    for node in &nodes {
        names.iter().for_each(|name| node.subscribe(&channel(name)));
    }
    let stop = AtomicBool::new(false);
    let outcomes = Mutex::default();
    let received = |node: &Node| names.iter().map(|name| node.sink.offsets(name).len()).sum::<usize>();
    let sent = thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_until(&stop, &nodes[0].broker, &outcomes));
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..16 {
            let goal = received(&nodes[1]) + random.usize(5..60);
            wait_until(PATIENCE, "publications to go on", || received(&nodes[1]) >= goal);
            if round % 6 == 5 {
                redis.restart();
                continue;
            }
            let kind = if random.u8(0..4) == 0 { "tidings-" } else { "tidings-subscriber" };
            let ids = redis.client_ids(kind);
            for id in ids.iter().filter(|_| random.bool()) {
                redis.cli(&["CLIENT", "KILL", "ID", id]);
            }
        }
        stop.store(true, Ordering::Relaxed);
        publisher.join().unwrap()
    });
    let outcomes = outcomes.into_inner().unwrap();
    assert!(outcomes.len() > 100, "{} of {sent} were published", outcomes.len());
    nodes.iter().for_each(Node::wait_until_it_publishes);
    for name in names {
        let top = keep(&*nodes[0].broker, name, "last", 1_000_000);
        for node in &nodes {
            wait_until(PATIENCE, "the last", || node.sink.offsets(name).last() == Some(&top.offset));
            let offsets = node.sink.offsets(name);
            let strange: Vec<_> = offsets.windows(2).filter(|two| two[1] != two[0] + 1).collect();
            let all = offsets.len() as u64 == top.offset;
            assert!(strange.is_empty() && all, "{name}: {strange:?} of {top:?}, {:?}", node.sink.gaps());
            let publications = node.sink.publications(name);
            let bodies: Vec<_> = publications.iter().map(|p| String::from_utf8_lossy(&p.body)).collect();
            for (body, position) in &outcomes {
                if let Some(index) = bodies.iter().position(|received| received == body) {
                    assert_eq!(publications[index].position.as_ref(), Some(position), "{body}");
                }
            }
            let mut numbers = bodies.iter().filter_map(|body| body.parse::<u32>().ok());
            assert!(
                numbers.by_ref().is_sorted_by(|a, b| a < b),
                "{name}: in the publisher's order, none twice"
            );
        }
    }
    for node in &nodes {
        let all: Vec<_> = names.iter().flat_map(|name| node.sink.bodies(name)).collect();
        let lost = outcomes.keys().filter(|body| !all.contains(body)).count();
        assert_eq!((lost, node.sink.gaps()), (0, Vec::new()));
        assert!(
            node.broker.counters().fetched.load(Ordering::Relaxed) > 0,
            "at least one missed publication"
        );
    }
}
