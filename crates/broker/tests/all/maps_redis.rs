//! Maps in Redis: several nodes, expiry, lost data, and a cluster.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_broker::redis::Options;
use tidings_broker::{Broker, BrokerError, Stateful};
use tidings_map_state::{Applied, StateQuery, Suppression};
use tidings_testkit::{PATIENCE, RedisCluster, RedisServer, Reply, wait_until};
use tidings_wire::{History, HistoryQuery, Position, Topic};

use crate::cluster;
use crate::maps::{change, delivered, keys, options};
use crate::node::{Node, after, channel, impatient, name, wait};

fn following(redis: &RedisServer) -> Node {
    let node = Node::connected(impatient(redis.url()));
    follow(&node);
    node
}

/// Subscribes as a client does that has read the state.
fn follow(node: &Node) -> Position {
    node.subscribe(&channel("a"));
    let query = HistoryQuery { limit: Some(0), for_subscriber: true, ..after(None) };
    stream(node, query).position().clone()
}

fn stream(node: &Node, query: HistoryQuery) -> History {
    wait(|done| node.broker.map_stream(&name("a"), query, done)).unwrap()
}

/// The state of a map: its keys with their values.
fn state(node: &Node) -> BTreeMap<String, String> {
    let query = StateQuery { limit: 9_999, max_bytes: usize::MAX, ..StateQuery::default() };
    let page = wait(|done| node.broker.map_state(&name("a"), query, false, done)).unwrap();
    let entry = |entry: &std::sync::Arc<tidings_wire::Publication>| {
        let key = entry.extra.as_ref().unwrap().map.as_ref().unwrap().key.to_string();
        (key, String::from_utf8_lossy(&entry.body).into_owned())
    };
    page.entries.iter().map(entry).collect()
}

fn set(node: &Node, key: &str, value: &str, ttl: Option<Duration>) -> Position {
    match change(&*node.broker, key, Some(value.into()), options(ttl)).unwrap() {
        Applied::Changed(publication) => publication.position.clone().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_on_one_node_reaches_the_subscribers_of_all_and_both_read_the_same_state() {
    let redis = RedisServer::start();
    let nodes = [following(&redis), following(&redis)];
    set(&nodes[0], "x", "1", None);
    set(&nodes[1], "y", "2", None);
    set(&nodes[0], "x", "3", None);
    change(&*nodes[1].broker, "y", None, options(None)).unwrap();
    for node in &nodes {
        wait_until(PATIENCE, "the changes", || delivered(&node.sink) == ["x", "y", "x", "-y"]);
        assert_eq!(node.sink.offsets("a"), [1, 2, 3, 4]);
        assert_eq!(state(node), BTreeMap::from([("x".into(), "3".into())]));
        assert_eq!(keys(&*node.broker), 1);
    }
}

#[test]
fn keys_that_expire_are_removed_once_for_the_subscribers_of_all_nodes() {
    let redis = RedisServer::start();
    let nodes = [following(&redis), following(&redis), following(&redis)];
    let brief = Some(Duration::from_millis(50));
    for number in 0..500 {
        set(&nodes[number % 3], &format!("k{number:03}"), "x", brief);
    }
    set(&nodes[0], "stays", "x", None);
    for node in &nodes {
        wait_until(PATIENCE, "every removal", || delivered(&node.sink).len() >= 1_001);
        let all = delivered(&node.sink);
        let removed: HashSet<_> = all.iter().filter(|key| key.starts_with('-')).collect();
        assert_eq!((all.len(), removed.len()), (1_001, 500));
        assert_eq!(node.sink.offsets("a"), (1..=1_001).collect::<Vec<_>>());
        assert_eq!(state(node).len(), 1);
    }
    let expired = |node: &Node| node.broker.counters().maps.expired.load(Ordering::Relaxed);
    assert_eq!(nodes.iter().map(expired).sum::<u64>(), 500);
}

#[test]
fn a_key_whose_node_is_gone_expires_at_the_subscribers_of_other_nodes() {
    let redis = RedisServer::start();
    let dying = following(&redis);
    let before = following(&redis);
    set(&dying, "k", "x", Some(Duration::from_millis(1_500)));
    drop(dying);
    // A node that subscribes after the change learns the deadline as well.
    let later = following(&redis);
    wait_until(PATIENCE, "the removal", || delivered(&before.sink) == ["k", "-k"]);
    wait_until(PATIENCE, "the removal at the later node", || delivered(&later.sink) == ["-k"]);
}

#[test]
fn a_key_that_is_renewed_without_a_change_does_not_expire() {
    let redis = RedisServer::start();
    let node = following(&redis);
    let ttl = options(Some(Duration::from_millis(400)));
    let renew = || {
        let set = tidings_map_state::SetKey {
            mode: tidings_map_state::KeyMode::IfChanged,
            ..tidings_map_state::SetKey::default()
        };
        let change =
            tidings_map_state::KeyChange { key: "k".into(), set: Some(set), tags: Vec::new(), info: None };
        let change = tidings_broker::MapChange { change, options: ttl, idempotency_key: None };
        wait(|done| node.broker.map_change(&name("a"), change, done)).unwrap()
    };
    assert!(matches!(renew(), Applied::Changed(_)));
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        assert!(matches!(renew(), Applied::Suppressed(Suppression::KeyExists, _)));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(delivered(&node.sink), ["k"]);
    wait_until(PATIENCE, "the removal after the last renewal", || delivered(&node.sink) == ["k", "-k"]);
}

#[test]
fn a_map_without_subscribers_shows_no_expired_keys_and_leaves_nothing_in_redis() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let brief = tidings_map_state::MapOptions {
        meta_ttl: Duration::from_millis(500),
        stream_ttl: Duration::from_millis(500),
        ..options(Some(Duration::from_millis(100)))
    };
    change(&*node.broker, "k", Some("x".into()), brief).unwrap();
    wait_until(PATIENCE, "an empty map", || keys(&*node.broker) == 0);
    assert_eq!(state(&node).len(), 0);
    let history = stream(&node, after(None));
    assert_eq!(history.publications().map(<[_]>::len), Some(2), "the removal is in the stream");
    change(&*node.broker, "k", Some("x".into()), brief).unwrap();
    wait_until(PATIENCE, "no key in Redis", || redis.cli(&["KEYS", "*"]).texts().is_empty());
}

#[test]
fn changes_during_an_outage_of_a_node_are_fetched_and_their_keys_expire() {
    let redis = RedisServer::start();
    let proxy = tidings_testkit::Proxy::to(redis.addr());
    let away = Node::connected(impatient(format!("redis://{}", proxy.addr())));
    follow(&away);
    let other = Node::connected(Options::new(redis.url()));
    set(&other, "x", "1", None);
    wait_until(PATIENCE, "the first change", || delivered(&away.sink) == ["x"]);
    proxy.black_hole();
    away.sink.wait_down();
    set(&other, "y", "2", Some(Duration::from_millis(500)));
    change(&*other.broker, "x", None, options(None)).unwrap();
    assert_eq!(change(&*away.broker, "z", Some("3".into()), options(None)), Err(BrokerError::Unavailable));
    proxy.resume();
    wait_until(PATIENCE, "the missed changes and the expiry", || {
        delivered(&away.sink) == ["x", "y", "-x", "-y"]
    });
    assert_eq!(away.sink.gaps(), []);
}

#[test]
fn when_redis_loses_its_data_subscribers_get_a_gap_and_the_map_begins_in_another_epoch() {
    let mut redis = RedisServer::start();
    let node = following(&redis);
    let last = set(&node, "k", "x", None);
    wait_until(PATIENCE, "the change", || delivered(&node.sink) == ["k"]);
    redis.kill();
    node.sink.wait_down();
    redis.restart();
    wait_until(PATIENCE, "the gap", || node.sink.gaps().len() == 1);
    node.wait_until_it_publishes();
    assert_eq!(state(&node).len(), 0);
    let next = set(&node, "k", "y", None);
    assert!(next.epoch != last.epoch && next.offset == 1);
    assert!(matches!(stream(&node, after(Some(&last))), History::Unrecoverable(_)));
}

#[test]
fn a_state_that_was_restored_from_older_data_continues_in_another_epoch() {
    let redis = RedisServer::start();
    let node = following(&redis);
    set(&node, "old", "1", None);
    let dump: Vec<(String, Reply)> = redis
        .cli(&["KEYS", "*"])
        .texts()
        .into_iter()
        .map(|key| (key.clone(), redis.cli(&["DUMP", &key])))
        .collect();
    let last = set(&node, "new", "2", None);
    wait_until(PATIENCE, "both changes", || delivered(&node.sink).len() == 2);
    redis.cli(&["FLUSHALL"]);
    for (key, value) in &dump {
        let Reply::Bulk(value) = value else { panic!("{value:?}") };
        redis.cli(&[&b"RESTORE"[..], key.as_bytes(), b"0", value]);
    }
    node.broker.reset("a test");
    wait_until(PATIENCE, "the gap", || node.sink.gaps().len() == 1);
    node.wait_until_it_publishes();
    assert_eq!(state(&node), BTreeMap::from([("old".into(), "1".into())]), "the state remains");
    let next = set(&node, "newer", "3", None);
    assert!(next.epoch != last.epoch);
    wait_until(PATIENCE, "the change", || delivered(&node.sink).last().is_some_and(|key| key == "newer"));
    assert_eq!(state(&node).len(), 2);
}

#[test]
fn a_cleared_map_in_redis_has_another_epoch_and_a_gap_for_the_subscribers_of_all_nodes() {
    let redis = RedisServer::start();
    let nodes = [following(&redis), following(&redis)];
    let last = set(&nodes[0], "k", "1", None);
    for node in &nodes {
        wait_until(PATIENCE, "the change", || delivered(&node.sink) == ["k"]);
    }
    wait(|done| nodes[1].broker.map_clear(&name("a"), done)).unwrap();
    for node in &nodes {
        wait_until(PATIENCE, "the gap", || node.sink.gaps().len() == 1);
        let gap = node.sink.gaps().remove(0);
        assert_eq!(gap.last, last);
        let query = HistoryQuery { limit: Some(0), for_subscriber: true, ..after(None) };
        assert_eq!(gap.next.as_ref(), Some(stream(node, query).position()), "new subscribers begin there");
        assert_eq!(state(node).len(), 0);
    }
    let next = set(&nodes[0], "k", "2", None);
    assert_eq!(Some(Position { offset: 0, ..next.clone() }), nodes[0].sink.gaps()[0].next);
    for node in &nodes {
        wait_until(PATIENCE, "the next change", || delivered(&node.sink) == ["k", "k"]);
        assert_eq!(node.sink.gaps().len(), 1, "one gap");
    }
}

#[test]
fn a_history_of_an_earlier_configuration_is_no_part_of_a_map() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    for body in ["1", "2"] {
        crate::node::keep(&*node.broker, "a", body, 9);
    }
    let begin = follow(&node);
    assert_eq!((begin.offset, state(&node).len()), (2, 0));
    let read = |since| stream(&node, HistoryQuery { for_subscriber: true, ..after(Some(since)) });
    assert_eq!(read(&begin).publications().map(<[_]>::len), Some(0));
    assert_eq!(set(&node, "k", "x", None).offset, 3);
    assert_eq!(stream(&node, after(Some(&begin))).publications().map(<[_]>::len), Some(1));
    assert!(matches!(
        stream(&node, after(Some(&Position { offset: 1, ..begin }))),
        History::Unrecoverable(_)
    ));
}

#[test]
fn all_keys_of_a_map_share_the_hash_slot_of_its_channel() {
    let cluster = RedisCluster::start(3);
    let node = cluster::connected(&cluster);
    for name in ["a", "a{b}c", "a}b", "{}"] {
        let channel = crate::node::name(name);
        let change = |key: &str, ttl| {
            let set = Some(tidings_map_state::SetKey { body: "x".into(), ..Default::default() });
            let change = tidings_map_state::KeyChange { key: key.into(), set, tags: Vec::new(), info: None };
            let options = tidings_map_state::MapOptions { ordered: true, ..options(ttl) };
            let change =
                tidings_broker::MapChange { change, options, idempotency_key: Some(format!("once {key}")) };
            wait(|done| node.broker.map_change(&channel, change, done)).unwrap()
        };
        node.subscribe(&Topic::Channel(channel.clone()));
        change("1", Some(Duration::from_secs(60)));
        change("2", None);
        let all: Vec<_> = cluster.nodes().map(|redis| redis.cli(&["KEYS", "tidings:*"]).texts()).collect();
        let of_map: Vec<_> = all.iter().filter(|keys| !keys.is_empty()).collect();
        assert_eq!(of_map.len(), 1, "one primary: {all:?}");
        let slots: HashSet<_> = of_map[0].iter().map(|key| cluster.slot(key)).collect();
        assert_eq!((of_map[0].len(), slots.len()), (8, 1), "{of_map:?}");
        wait_until(PATIENCE, "both changes", || node.sink.publications(name).len() == 2);
        wait(|done| node.broker.map_clear(&channel, done)).unwrap();
        wait_until(PATIENCE, "the gap", || node.sink.gaps().len() == 1);
        node.sink.events().clear();
        cluster.nodes().for_each(|redis| drop(redis.cli(&["FLUSHALL"])));
    }
}

#[test]
fn a_map_follows_its_slot_through_a_cluster() {
    let cluster = RedisCluster::start(3);
    let nodes = [cluster::connected(&cluster), cluster::connected(&cluster)];
    nodes.iter().for_each(|node| drop(follow(node)));
    let ttl = Some(Duration::from_secs(4));
    set(&nodes[0], "x", "1", None);
    set(&nodes[0], "brief", "1", ttl);
    let from = cluster.primary_of("a");
    cluster.move_slot(cluster.slot("a"), from, (from + 1) % 3, || {
        // Refused or carried out, as the slot is on its way; then it succeeds.
        wait_until(PATIENCE, "a change while the slot is moved", || {
            change(&*nodes[1].broker, "y", Some("2".into()), options(None)).is_ok()
                || change(&*nodes[1].broker, "y", Some("2".into()), options(None))
                    == Err(BrokerError::Unavailable)
                || change(&*nodes[1].broker, "y", Some("2".into()), options(None))
                    .is_err_and(|error| matches!(error, BrokerError::Failed(_)))
        });
    });
    wait_until(PATIENCE, "a change at the new primary", || {
        change(&*nodes[1].broker, "z", Some("3".into()), options(None)).is_ok()
    });
    for node in &nodes {
        wait_until(PATIENCE, "the changes and the expiry", || {
            let all = delivered(&node.sink);
            all.iter().any(|key| key == "z") && all.iter().any(|key| key == "-brief")
        });
        let all = delivered(&node.sink);
        assert_eq!(all.iter().filter(|key| *key == "-brief").count(), 1, "{all:?}");
        let offsets = node.sink.offsets("a");
        assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
        assert_eq!(node.sink.gaps(), []);
    }
    assert_eq!(state(&nodes[0]), state(&nodes[1]));
}

#[test]
fn a_key_can_be_removed_when_redis_is_full() {
    let redis = RedisServer::start();
    let node = following(&redis);
    set(&node, "k", "x", None);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = change(&*node.broker, "other", Some("x".into()), options(None));
    assert_eq!(full, Err(BrokerError::Failed("OOM")));
    assert!(matches!(change(&*node.broker, "k", None, options(None)), Ok(Applied::Changed(_))));
    wait_until(PATIENCE, "the removal", || delivered(&node.sink) == ["k", "-k"]);
}

#[test]
fn versions_are_compared_without_rounding() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let put = |number: u64, epoch: &str| {
        let version = Some(tidings_map_state::Version { number, epoch: epoch.into() });
        let set = Some(tidings_map_state::SetKey { version, ..Default::default() });
        let change = tidings_map_state::KeyChange { key: "k".into(), set, tags: Vec::new(), info: None };
        let change = tidings_broker::MapChange { change, options: options(None), idempotency_key: None };
        matches!(wait(|done| node.broker.map_change(&name("a"), change, done)), Ok(Applied::Changed(_)))
    };
    let numbers = [9, 10, 1 << 53, (1 << 53) + 1, u64::MAX - 1, u64::MAX];
    assert_eq!(numbers.map(|number| put(number, "e")), [true; 6]);
    assert_eq!(numbers.map(|number| put(number, "e")), [false; 6]);
    assert!(put(1, "f"), "in another epoch");
}

/// Adds `count` keys that have expired to the map, as copies of its key `k`.
fn add_expired(redis: &RedisServer, count: usize) {
    let script = "local value = redis.call('HGET', 'tidings:mapvalues:{a}', 'k')
        for number = 1, ARGV[1] do
          local key = string.format('gone%05d', number)
          redis.call('HSET', 'tidings:mapvalues:{a}', key, value)
          redis.call('ZADD', 'tidings:mapindex:{a}', 0, key)
          redis.call('ZADD', 'tidings:mapdeadlines:{a}', 1, key)
        end
        redis.call('HINCRBY', 'tidings:map:{a}', 'b', 400 * ARGV[1])";
    let added = redis.cli(&["EVAL", script, "0", &count.to_string()]);
    assert!(matches!(added, Reply::Nil), "{added:?}");
}

#[test]
fn a_page_behind_many_expired_keys_is_reached_by_pages_without_keys() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    for key in ["k", "z1", "z2"] {
        set(&node, key, "1", None);
    }
    add_expired(&redis, 6_000);
    let (mut cursor, mut sizes, mut found) = (String::new(), Vec::new(), Vec::new());
    loop {
        let query = StateQuery { cursor, limit: 10, max_bytes: usize::MAX, ..StateQuery::default() };
        let page = wait(|done| node.broker.map_state(&name("a"), query, false, done)).unwrap();
        sizes.push(page.entries.len());
        found.extend(
            page.entries
                .iter()
                .map(|entry| entry.extra.as_ref().unwrap().map.as_ref().unwrap().key.to_string()),
        );
        cursor = page.cursor;
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(sizes[0], 0, "a call examines a bounded number of keys");
    assert_eq!(found, ["k", "z1", "z2"]);
}

#[test]
fn keys_of_earlier_options_stay_in_redis_for_their_lifetime() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let with = |seconds| tidings_map_state::MapOptions {
        meta_ttl: Duration::from_secs(1),
        stream_ttl: Duration::from_secs(1),
        ..options(Some(Duration::from_secs(seconds)))
    };
    let set_for =
        |key: &str, seconds| _ = change(&*node.broker, key, Some("x".into()), with(seconds)).unwrap();
    let left = || match redis.cli(&["PTTL", "tidings:mapvalues:{a}"]) {
        Reply::Int(left) => left,
        other => panic!("{other:?}"),
    };
    set(&node, "forever", "x", None);
    set_for("long", 100);
    assert_eq!(left(), -1, "a key without expiry keeps the map");
    change(&*node.broker, "forever", None, with(100)).unwrap();
    assert!((90_000..=101_000).contains(&left()), "{}", left());
    set_for("short", 5);
    assert!((90_000..=101_000).contains(&left()), "the map stays as long as its last key: {}", left());
}

#[test]
fn a_map_whose_values_were_evicted_has_room_and_no_former_keys() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    let value = "x".repeat(1 << 19);
    for key in ["a", "b"] {
        _ = change(
            &*node.broker,
            key,
            Some(value.clone()),
            tidings_map_state::MapOptions { bytes: 3 << 19, ..options(None) },
        );
    }
    redis.cli(&["DEL", "tidings:mapvalues:{a}"]);
    let narrow = tidings_map_state::MapOptions { bytes: 3 << 18, ..options(None) };
    change(&*node.broker, "c", Some(value), narrow).unwrap();
    assert_eq!(state(&node).len(), 1);
    let Reply::Int(indexed) = redis.cli(&["ZCARD", "tidings:mapindex:{a}"]) else { panic!("no number") };
    assert_eq!(indexed, 1);
}

#[test]
fn a_value_is_not_refused_because_of_keys_that_have_expired() {
    let redis = RedisServer::start();
    let node = Node::connected(Options::new(redis.url()));
    set(&node, "k", "1", None);
    add_expired(&redis, 1_500);
    // The bound is 1,000 keys.
    set(&node, "new", "1", None);
    assert_eq!(state(&node).len(), 2);
}
