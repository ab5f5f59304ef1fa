//! Shared subscriptions with Redis: each message goes to one member of a group in the deployment.

use std::collections::BTreeSet;

use tidings_testkit::{PATIENCE, RedisCluster, RedisServer, Signal, wait_until};

use crate::mqtt_sessions::{Client, node, nodes, sessions, wait_until_away};

const GROUP: &str = "$share/workers/jobs/+";

fn publish(publisher: &mut Client, qos: u8, numbers: std::ops::Range<u16>) -> BTreeSet<String> {
    for number in numbers.clone() {
        publisher.publish_whole("jobs/a", qos, number, &number.to_string());
    }
    numbers.map(|number| number.to_string()).collect()
}

fn each_message_goes_to_one_member_of_the_deployment(broker: &str) {
    let nodes = nodes(broker);
    let (kept, _) = Client::connect(nodes[0].tcp(), "kept");
    let mut members = [kept, Client::plain(nodes[0].tcp(), "x"), Client::plain(nodes[1].tcp(), "y")];
    members.iter_mut().for_each(|client| client.subscribe(GROUP, 2));
    let (mut other, _) = Client::connect(nodes[1].tcp(), "other");
    other.subscribe("$share/others/#", 1);
    for (qos, numbers) in [(1, 1..31), (2, 31..61), (0, 61..91)] {
        let mut publisher = Client::plain(nodes[usize::from(qos) % 2].tcp(), "publisher");
        let expected = publish(&mut publisher, qos, numbers);
        let all: BTreeSet<_> = members.iter_mut().flat_map(|client| client.payloads(10)).collect();
        assert_eq!(all, expected, "ten messages with QoS {qos} for each of three members");
        let got: BTreeSet<_> = other.payloads(30).into_iter().collect();
        assert_eq!(got, expected, "one member of each group");
        publisher.disconnect();
    }
    for client in members.iter_mut().chain([&mut other]) {
        client.settle();
        assert!(client.messages.is_empty(), "{:?}", client.messages);
    }
}

#[test]
fn each_message_of_a_shared_subscription_goes_to_one_member_of_all_nodes_in_turn() {
    each_message_goes_to_one_member_of_the_deployment(&RedisServer::start().url());
}

#[test]
fn each_message_of_a_shared_subscription_goes_to_one_member_with_a_redis_cluster() {
    let cluster = RedisCluster::start(3);
    each_message_goes_to_one_member_of_the_deployment(&cluster.url());
}

#[test]
fn absent_members_get_messages_if_no_member_is_connected() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let mut publisher = Client::plain(nodes[1].tcp(), "publisher");
    for id in ["x", "y"] {
        let (mut client, _) = Client::connect(nodes[0].tcp(), id);
        client.subscribe(GROUP, 1);
        client.disconnect();
    }
    wait_until(PATIENCE, "both are away", || sessions(&nodes[1], "away") == 2);
    let mut plain = Client::plain(nodes[1].tcp(), "z");
    plain.subscribe(GROUP, 1);
    publisher.publish_whole("jobs/a", 1, 1, "connected");
    assert_eq!(plain.payloads(1), ["connected"]);
    plain.unsubscribe(GROUP);
    let expected = publish(&mut publisher, 1, 1..11);
    let mut all = Vec::new();
    for id in ["x", "y"] {
        let (mut client, is_present) = Client::connect(nodes[1].tcp(), id);
        assert!(is_present);
        let got = client.payloads(5);
        client.settle();
        assert!(client.messages.is_empty());
        all.extend(got);
    }
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), expected, "in turn");
    assert!(plain.messages.is_empty());
}

#[test]
fn a_member_that_disconnects_hands_messages_that_were_not_sent_to_another_member() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let mut publisher = Client::plain(nodes[1].tcp(), "publisher");
    for expiry in [0, 3_600] {
        // It accepts one message until it has acknowledged it.
        let (mut slow, _) = Client::open_with(nodes[0].tcp(), "slow", true, expiry, Some(1));
        slow.subscribe(GROUP, 1);
        let expected = publish(&mut publisher, 1, 1..11);
        let first = slow.message();
        let mut other = Client::plain(nodes[1].tcp(), "other");
        other.subscribe(GROUP, 1);
        slow.disconnect();
        // That of a session that has ended is passed on too, with QoS 1.
        let mut got: BTreeSet<_> = other.payloads(if expiry == 0 { 10 } else { 9 }).into_iter().collect();
        if expiry > 0 {
            let (mut slow, is_present) = Client::connect(nodes[1].tcp(), "slow");
            assert!(is_present);
            let again = slow.message();
            assert_eq!((&again.payload, again.is_again), (&first.payload, true), "it was sent before");
            slow.settle();
            assert!(slow.messages.is_empty());
            got.insert(again.payload);
        }
        assert_eq!(got, expected);
        other.settle();
        assert!(other.messages.is_empty());
        other.disconnect();
    }
}

#[test]
fn a_kill_of_a_node_loses_no_acknowledged_message_of_a_shared_subscription() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    // One without a session that is kept, one with, which does not return; both acknowledge nothing.
    let mut plain = Client::plain(nodes[0].tcp(), "plain");
    let (mut kept, _) = Client::open_with(nodes[0].tcp(), "kept", true, 3_600, Some(1));
    plain.subscribe(GROUP, 1);
    kept.subscribe(GROUP, 1);
    let mut publisher = Client::plain(nodes[0].tcp(), "publisher");
    let expected = publish(&mut publisher, 1, 1..21);
    let sent = kept.message().payload;
    plain.message();
    nodes[0].signal(Signal::KILL);
    let mut other = Client::plain(nodes[1].tcp(), "other");
    other.subscribe(GROUP, 1);
    // When the lease of the node has ended, all but the one that was sent to the session that continues.
    let mut got: BTreeSet<_> = other.payloads(19).into_iter().collect();
    assert!(!got.contains(&sent));
    let (mut kept, is_present) = Client::connect(nodes[1].tcp(), "kept");
    assert!(is_present);
    got.extend(kept.payloads(1));
    assert_eq!(got, expected);
}

#[test]
fn a_member_with_a_session_gets_its_messages_on_another_node_after_a_kill() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let (mut client, _) = Client::connect(nodes[0].tcp(), "device");
    client.subscribe(GROUP, 2);
    let mut publisher = Client::plain(nodes[0].tcp(), "publisher");
    publisher.publish("jobs/a", 2, 1, "two");
    assert_eq!(publisher.answer(), (0x50, vec![0, 1]), "PUBREC");
    let first = client.message();
    nodes[0].signal(Signal::KILL);
    let (mut client, _) = Client::connect(nodes[1].tcp(), "device");
    let again = client.message();
    assert_eq!((again.id, &*again.payload, again.is_again), (first.id, "two", true));
}

#[test]
fn publications_of_the_api_reach_one_member() {
    let redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    wait_until(PATIENCE, "/ready is 200", || tidings_testkit::get_http(node.http(), "/ready").status == 200);
    let mut members = ["x", "y"].map(|id| Client::plain(node.tcp(), id));
    for member in &mut members {
        member.subscribe(GROUP, 1);
    }
    for number in 0..4 {
        let body = format!(r#"{{"channel":"jobs/a","data":"{number}"}}"#);
        assert_eq!(tidings_testkit::post_http(node.http(), "/api/publish", &[], &body).status, 200);
    }
    let got = members.each_mut().map(|member| member.payloads(2));
    let all: BTreeSet<_> = got.iter().flatten().cloned().collect();
    assert_eq!(all.len(), 4, "{got:?}");
}

#[test]
fn the_session_of_shared_subscriptions_ends_with_its_connection() {
    let redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    let (mut away, _) = Client::connect(node.tcp(), "away");
    away.subscribe("t", 1);
    away.disconnect();
    wait_until_away(&node);
    let mut plain = Client::plain(node.tcp(), "plain");
    plain.subscribe("$share/g/t", 1);
    wait_until(PATIENCE, "it has a session", || sessions(&node, "connected") == 1);
    plain.disconnect();
    wait_until(PATIENCE, "it has none", || sessions(&node, "connected") == 0);
    assert_eq!(redis.cli(&["KEYS", "tidings:mqttmembers:*"]).texts(), [""; 0]);
}
