//! A Redis Cluster: publications on any node arrive, slots move, primaries fail, and every loss is reported.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidings_broker::redis::Options;
use tidings_broker::{Broker, BrokerError, Change, PresenceStats, PublishOptions, Published, Stateful};
use tidings_testkit::{PATIENCE, RedisCluster, RedisServer, Reply, wait_until};
use tidings_wire::{ClientInfo, Extra, Position};

use crate::node::{
    Event, Node, after, channel, history_of, impatient, keep, name, page, pattern, position, publish_with,
    wait,
};

/// A node that has subscribed on the whole cluster and can publish on every primary.
pub(crate) fn connected(cluster: &RedisCluster) -> Node {
    connected_with(cluster, impatient(cluster.url()))
}

/// As [`connected`], with the connection for plain messages to another server than this one: all channels are away when
/// that one fails. A busy machine takes no connection from it either.
fn connected_beside(cluster: &RedisCluster, at: usize) -> Node {
    let listening =
        || cluster.node(at).cli(&["CLIENT", "LIST"]).text().matches("name=tidings-subscriber").count();
    loop {
        let node =
            connected_with(cluster, Options { response_timeout: PATIENCE, ..impatient(cluster.url()) });
        if listening() == 1 {
            return node;
        }
        drop(node);
        wait_until(PATIENCE, "the end of its connections", || listening() == 0);
    }
}

fn connected_with(cluster: &RedisCluster, options: Options) -> Node {
    let node = Node::start(Options { own: &["tidings.own."], ..options });
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
    let mut sent = Vec::new();
    for (at, redis) in cluster.nodes().enumerate() {
        for name in &names {
            redis.cli(&["PUBLISH", name, &format!("from {at}")]);
        }
        sent.push(format!("from {at}"));
    }
    // Sharded publications of other clients arrive as well.
    for (primary, name) in names.iter().enumerate() {
        assert_eq!(cluster.node(primary).cli(&["SPUBLISH", name, "sharded"]).int(), 2);
    }
    sent.push("sharded".to_owned());
    sent.sort();
    for node in &nodes {
        for name in &names {
            wait_until(PATIENCE, "every message once", || {
                let mut bodies = node.sink.bodies(name);
                bodies.sort();
                bodies == sent
            });
        }
        node.sink.wait(
            18,
            "every plain message through the pattern",
            |event| matches!(event, Event::Delivered { topic, .. } if topic == "new*"),
        );
    }
}

#[test]
fn publications_with_a_position_reach_all_nodes_in_order_and_patterns_once() {
    let cluster = RedisCluster::start(3);
    let nodes = [connected(&cluster), connected(&cluster)];
    // Names with spaces and non-ASCII characters are ordinary names.
    let names: Vec<_> = (0..3).map(|primary| cluster.name_at(primary, "kept ☕ ")).collect();
    for node in &nodes {
        names.iter().for_each(|name| node.subscribe(&channel(name)));
    }
    let publish = |from: u64, receivers: u64| {
        for number in from..from + 10 {
            for (primary, name) in names.iter().enumerate() {
                // Through a node, and by another client, which does not use the names of keys.
                if number % 2 == 0 {
                    let options =
                        PublishOptions { history: Some(history_of(100)), ..PublishOptions::default() };
                    let done = publish_with(&*nodes[0].broker, name, &number.to_string(), options).unwrap();
                    assert_eq!((done.receivers, done.position.unwrap().offset), (receivers, number));
                } else {
                    let call = ["FCALL", "tidings_publish", "1", name, &number.to_string()];
                    let Reply::Array(parts) = cluster.node(primary).cli(&call) else { panic!("no array") };
                    assert_eq!(parts[1].clone().text(), number.to_string());
                }
            }
        }
    };
    publish(1, 2);
    let expected: Vec<_> = (1..=10).collect();
    for node in &nodes {
        for name in &names {
            wait_until(PATIENCE, "ten of each", || node.sink.offsets(name) == expected);
        }
    }
    assert_eq!(position(&*nodes[1].broker, &names[2]).offset, 10);
    let third = Position { offset: 3, ..position(&*nodes[1].broker, &names[1]) };
    let page = page(&*nodes[1].broker, &names[1], after(Some(&third)));
    assert_eq!(page.publications.len(), 7);
    assert_eq!(page.publications[0].body, "4");

    nodes[0].subscribe(&pattern("kep*"));
    nodes[0].sink.events().clear();
    publish(11, 2);
    let through = |event: &Event| matches!(event, Event::Delivered { topic, .. } if topic == "kep*");
    nodes[0].sink.wait(30, "all through the pattern", through);
    let by_name = |event: &Event| matches!(event, Event::Delivered { topic, .. } if topic != "kep*");
    nodes[0].sink.wait(30, "all by name", by_name);
    for name in &names {
        wait_until(PATIENCE, "all by name", || nodes[1].sink.offsets(name).len() == 20);
    }
    assert_eq!(nodes[0].sink.count(through), 30);
    assert_eq!(
        nodes[0].sink.count(|event| matches!(event, Event::Delivered { .. })),
        60,
        "and each by name once"
    );
    // Without patterns, no such publication goes through the whole cluster.
    nodes[0].broker.unsubscribe(&pattern("kep*"));
    wait_until(PATIENCE, "the unsubscription of the pattern channel", || {
        cluster.nodes().all(|redis| redis.cli(&["PUBSUB", "NUMSUB", "tidings\x1fpatterns"]).texts()[1] == "0")
    });
    for node in &nodes {
        assert_eq!(node.sink.gaps(), []);
    }
}

#[test]
fn presence_results_histories_and_messages_between_nodes_work_on_every_primary() {
    let cluster = RedisCluster::start(3);
    let nodes = [connected(&cluster), connected(&cluster)];
    let (one, two) = (&*nodes[0].broker, &*nodes[1].broker);
    for primary in 0..3 {
        let at = cluster.name_at(primary, "room");
        nodes[1].subscribe(&channel(&at));
        let ann = ClientInfo { user: "ann".into(), client: format!("c{primary}"), ..ClientInfo::default() };
        wait(|done| one.presence_add(&name(&at), &ann, Duration::from_secs(60), done)).unwrap();
        assert_eq!(
            wait(|done| two.presence(&name(&at), usize::MAX, done)).unwrap(),
            std::slice::from_ref(&ann)
        );
        let stats = PresenceStats { clients: 1, users: 1 };
        assert_eq!(wait(|done| two.presence_stats(&name(&at), done)).unwrap(), stats);
        wait(|done| two.presence_remove(&name(&at), &ann.client, done)).unwrap();
        assert_eq!(wait(|done| one.presence(&name(&at), usize::MAX, done)).unwrap(), []);
        wait(|done| one.announce(&name(&at), Change::Join(ann.clone()), done)).unwrap();
        let joined = Event::Changed(at.clone(), Change::Join(ann.clone()));
        nodes[1].sink.wait(1, "the join", |event| *event == joined);

        let tags = || vec![("a".into(), "b".into())];
        let extra = || Extra { info: Some(ann.clone()), tags: tags(), ..Extra::default() };
        let once = || PublishOptions {
            history: Some(history_of(9)),
            idempotency_key: Some("k".into()),
            extra: Some(Box::new(extra())),
        };
        let first = publish_with(one, &at, "once", once()).unwrap();
        let again = publish_with(two, &at, "twice", once()).unwrap();
        assert_eq!(again, Published { repeated: true, ..first });
        // Tags without a position.
        let extra = Extra { tags: tags(), ..Extra::default() };
        let tags = PublishOptions { extra: Some(Box::new(extra)), ..PublishOptions::default() };
        publish_with(one, &at, "tagged", tags).unwrap();
        wait_until(PATIENCE, "both", || nodes[1].sink.publications(&at).len() == 2);
        for publication in nodes[1].sink.publications(&at) {
            assert_eq!(publication.extra.as_ref().unwrap().tags, [("a".to_owned(), "b".to_owned())]);
        }
        let before = position(two, &at);
        wait(|done| two.history_remove(&name(&at), done)).unwrap();
        assert_eq!(page(one, &at, after(None)).publications, []);
        assert_eq!(position(one, &at), before);

        // For messages between nodes, the number of receivers is right.
        let own = cluster.name_at(primary, "tidings.own.");
        assert_eq!(nodes[0].publish(&own, b"anybody?").unwrap().receivers, 0);
        nodes.iter().for_each(|node| node.subscribe(&channel(&own)));
        assert_eq!(nodes[0].publish(&own, b"anybody?").unwrap().receivers, 2);
        wait_until(PATIENCE, "both have it", || {
            nodes.iter().all(|node| node.sink.bodies(&own) == ["anybody?"])
        });
    }
}

/// Calls the publishing function at one node of the cluster, and waits for its replica.
fn publish_and_wait(redis: &RedisServer, name: &str, body: &str) -> u64 {
    let mut client = redis.client();
    let Reply::Array(parts) = client.command(&["FCALL", "tidings_publish", "1", name, body]) else {
        panic!("not published")
    };
    assert_eq!(client.command(&["WAIT", "1", "5000"]).int(), 1, "the replica has it");
    parts[1].clone().text().parse().unwrap()
}

/// Waits until a node is the primary of its slots.
fn wait_until_promoted(redis: &RedisServer) {
    wait_until(PATIENCE, "the replica is promoted", || {
        let nodes = redis.cli(&["CLUSTER", "NODES"]).text();
        nodes.lines().any(|line| line.contains("myself,master") && line.contains('-'))
            && redis.cli(&["CLUSTER", "INFO"]).text().contains("cluster_state:ok")
    });
}

/// More publications than are made while a slot is moved, however fast the machine is.
const WINDOW: usize = 100_000;

/// Publishes with a position until a publication is accepted.
fn keep_at_last(node: &Node, name: &str, body: &str) -> Position {
    let mut position = None;
    wait_until(PATIENCE, "a publication is taken", || {
        let options = PublishOptions { history: Some(history_of(WINDOW)), ..PublishOptions::default() };
        match publish_with(&*node.broker, name, body, options) {
            Ok(published) => position = published.position,
            Err(BrokerError::Unavailable) => {}
            Err(error) => panic!("{error}"),
        }
        position.is_some()
    });
    position.unwrap()
}

#[test]
fn after_a_failover_subscribers_get_everything_that_was_replicated() {
    let mut cluster = RedisCluster::with_replicas(3, 1);
    let node = connected_beside(&cluster, 0);
    let (lost, other) = (cluster.name_at(0, "lost"), cluster.name_at(1, "other"));
    for name in [&lost, &other] {
        node.subscribe(&channel(name));
    }
    for number in 1..=20 {
        assert_eq!(publish_and_wait(cluster.node(0), &lost, &number.to_string()), number);
    }
    wait_until(PATIENCE, "the first twenty", || node.sink.offsets(&lost).len() == 20);
    let epoch = position(&*node.broker, &lost).epoch;
    node.sink.events().clear();
    cluster.node_mut(0).kill();
    node.sink.wait(1, "the channel is away", |event| *event == Event::Away(channel(&lost)));
    // Another client publishes at once on the new primary, before or after the node has found it.
    wait_until_promoted(cluster.node(3));
    for number in 21..=40 {
        let call = ["FCALL", "tidings_publish", "1", &lost, &number.to_string()];
        assert!(matches!(cluster.node(3).cli(&call), Reply::Array(_)));
    }
    cluster.node(2).cli(&["PUBLISH", &lost, "plain"]);
    assert_eq!(keep_at_last(&node, &lost, "41"), Position { offset: 41, epoch });
    keep(&*node.broker, &other, "beside", 9);
    node.sink.wait_live(1, &channel(&lost));
    wait_until(PATIENCE, "all forty-one", || node.sink.offsets(&lost).len() == 42);
    let positioned: Vec<_> = node.sink.offsets(&lost).into_iter().filter(|offset| *offset > 0).collect();
    assert_eq!(positioned, (1..=41).collect::<Vec<_>>());
    assert_eq!(node.sink.gaps(), []);
    wait_until(PATIENCE, "the publication in the other channel", || node.sink.offsets(&other) == [1]);
    let elsewhere = |event: &Event| *event == Event::Away(channel(&other)) || matches!(event, Event::Down(_));
    assert_eq!(node.sink.count(elsewhere), 0, "the others were as they were");
}

#[test]
fn publications_that_a_failed_primary_had_not_replicated_are_reported_lost() {
    let mut cluster = RedisCluster::with_replicas(3, 1);
    let node = connected(&cluster);
    let (lossy, idle) = (cluster.name_at(0, "lossy"), cluster.name_at(0, "idle"));
    for name in [&lossy, &idle] {
        node.subscribe(&channel(name));
        for number in 1..=10 {
            publish_and_wait(cluster.node(0), name, &number.to_string());
        }
    }
    // The replica is locked out. Later publications are on the primary alone, and at the nodes that have received them.
    let mut primary = cluster.node(0).client();
    primary.command(&["CONFIG", "SET", "requirepass", "locked"]);
    primary.command(&["CLIENT", "KILL", "TYPE", "replica"]);
    keep(&*node.broker, &lossy, "11", 1_000);
    keep(&*node.broker, &lossy, "12", 1_000);
    wait_until(PATIENCE, "twelve and ten", || {
        (node.sink.offsets(&lossy).len(), node.sink.offsets(&idle).len()) == (12, 10)
    });
    let before = node.sink.publications(&lossy)[11].position.clone().unwrap();
    cluster.node_mut(0).kill();
    wait_until_promoted(cluster.node(3));
    // The same offsets are assigned again, and further ones, perhaps before the node has queried the position.
    for number in 0..5 {
        cluster.node(3).cli(&["FCALL", "tidings_publish", "1", &lossy, &format!("other {number}")]);
    }
    wait_until(PATIENCE, "the reported loss", || node.sink.gaps().iter().any(|gap| gap.last == before));
    let position = keep_at_last(&node, &lossy, "after");
    assert_ne!(position.epoch, before.epoch, "another epoch after a loss");
    wait_until(PATIENCE, "it goes on", || {
        node.sink.bodies(&lossy).last().is_some_and(|body| body == "after")
    });
    // Other channels without a loss continue, in the same slot or not.
    keep_at_last(&node, &idle, "11");
    wait_until(PATIENCE, "the idle one", || node.sink.offsets(&idle) == (1..=11).collect::<Vec<_>>());
    assert_eq!(node.sink.gaps().len(), 1);
}

/// Stops threads when it is dropped, also when the test panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_moving_slot_under_load_loses_and_repeats_nothing() {
    let mut cluster = RedisCluster::start(3);
    let nodes = [connected(&cluster), connected(&cluster)];
    // A primary that was unknown at the start.
    let new = cluster.add_primary();
    let tag = cluster.name_at(0, "t");
    let (kept, plain, late) = (format!("{{{tag}}}kept"), format!("{{{tag}}}plain"), format!("{{{tag}}}late"));
    for node in &nodes {
        node.subscribe(&channel(&kept));
        node.subscribe(&channel(&plain));
    }
    let slot = cluster.slot(&tag);
    let stop = AtomicBool::new(false);
    let (published, sent) = std::thread::scope(|scope| {
        let end = Ends(&stop);
        let publisher = scope.spawn(|| {
            let mut positions = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let body = positions.len().to_string();
                positions.push((keep_at_last(&nodes[0], &kept, &body), body));
            }
            positions
        });
        let talker = scope.spawn(|| {
            let mut sent = Vec::new();
            let mut redis = cluster.node(1).client();
            while !stop.load(Ordering::Relaxed) {
                let body = format!("{}", sent.len());
                redis.command(&["PUBLISH", &plain, &body]);
                sent.push(body);
                std::thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        for (from, to) in [(0, new), (new, 1), (1, 0)] {
            let before = nodes[1].sink.offsets(&kept).len();
            cluster.move_slot(slot, from, to, || {
                // Half of the keys are here, half there, and a client subscribes.
                let late = channel(&format!("{late}{to}"));
                nodes[1].subscribe(&late);
            });
            let moved = ["PUBSUB", "SHARDNUMSUB", &kept];
            wait_until(PATIENCE, "subscriptions of both nodes at the new primary", || {
                cluster.node(to).cli(&moved).texts().last().is_some_and(|count| count == "2")
            });
            wait_until(PATIENCE, "it goes on there", || nodes[1].sink.offsets(&kept).len() > before + 20);
        }
        drop(end);
        (publisher.join().unwrap(), talker.join().unwrap())
    });
    let last = published.last().unwrap().0.offset;
    assert!(
        published.iter().all(|(position, _)| position.epoch == published[0].0.epoch),
        "one epoch throughout"
    );
    for node in &nodes {
        wait_until(PATIENCE, "the last one", || node.sink.offsets(&kept).last() == Some(&last));
        assert_eq!(node.sink.gaps(), []);
        assert_eq!(node.sink.offsets(&kept), (1..=last).collect::<Vec<_>>());
        let received = node.sink.bodies(&kept);
        for (position, body) in &published {
            assert_eq!(received[usize::try_from(position.offset).unwrap() - 1], *body);
        }
        wait_until(PATIENCE, "the last message", || node.sink.bodies(&plain).len() >= sent.len());
        assert_eq!(node.sink.bodies(&plain), sent);
        assert_eq!(node.sink.gaps(), []);
    }
}

#[test]
fn missed_publications_are_fetched_while_their_slot_is_being_moved() {
    let cluster = RedisCluster::start(3);
    let node = connected(&cluster);
    let name = cluster.name_at(0, "moved");
    node.subscribe(&channel(&name));
    for number in 1..=5 {
        let call = ["FCALL", "tidings_publish", "1", &name, &number.to_string()];
        assert!(matches!(cluster.node(0).cli(&call), Reply::Array(_)));
    }
    wait_until(PATIENCE, "the first five", || node.sink.offsets(&name).len() == 5);
    let slot = cluster.slot(&name).to_string();
    let ids = [0, 1].map(|at| cluster.node(at).cli(&["CLUSTER", "MYID"]).text());
    let mut source = cluster.node(0).client();
    cluster.node(1).cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]);
    source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]);
    // The node is locked out, misses one publication, and reconnects when all keys are at the other primary.
    source.command(&["CONFIG", "SET", "requirepass", "locked"]);
    source.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    node.sink.wait(1, "the channel is away", |event| *event == Event::Away(channel(&name)));
    let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).texts();
    // Called with the channel's name, which is no key here, Redis would redirect the call.
    let meta = keys.iter().find(|key| key.starts_with("tidings:meta:")).expect("the channel's state");
    let published = source.command(&["FCALL", "tidings_keyed_publish", "1", meta, "6"]);
    assert!(matches!(published, Reply::Array(_)), "{published:?}");
    let port = cluster.node(1).port().to_string();
    for key in keys {
        assert_eq!(source.command(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]).text(), "OK");
    }
    source.command(&["CONFIG", "SET", "requirepass", ""]);
    wait_until(PATIENCE, "the sixth", || node.sink.offsets(&name) == (1..=6).collect::<Vec<_>>());
    assert_eq!(node.sink.gaps(), []);
}

#[test]
fn a_server_without_cluster_support_is_reported() {
    let redis = RedisServer::start();
    let node = Node::start(Options::new(format!("redis+cluster://{}", redis.addr())));
    assert!(node.sink.wait_down().contains("cluster support disabled"));
    assert_eq!(node.publish("a", b"x"), Err(BrokerError::Unavailable));
    node.broker.subscribe(&channel("a"));
    node.sink.wait(1, "the channel is away", |event| *event == Event::Away(channel("a")));
}

#[test]
fn there_are_probes_for_every_primary_and_for_the_route_through_the_cluster() {
    let cluster = RedisCluster::start(3);
    let node = connected(&cluster);
    let probes = node.broker.probes("tidings.own.x", "tidings.plain.x");
    assert_eq!(probes.len(), 6);
    for stem in ["tidings.own.x", "tidings.plain.x"] {
        let mut primaries: Vec<_> = probes
            .iter()
            .filter(|probe| probe.channel.as_str().starts_with(stem))
            .map(|probe| cluster.primary_of(probe.channel.as_str()))
            .collect();
        primaries.sort_unstable();
        assert_eq!(primaries, [0, 1, 2]);
    }
    for probe in probes {
        node.subscribe(&probe.channel.clone().into());
        node.publish(probe.channel.as_str(), b"tweet").unwrap();
        wait_until(PATIENCE, &probe.through, || node.sink.bodies(probe.channel.as_str()) == ["tweet"]);
    }
}
