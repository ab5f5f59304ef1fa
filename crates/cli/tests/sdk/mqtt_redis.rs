//! MQTT's state in Redis: every node has the same retained messages, and publishes the wills of nodes that have ended.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use tidings_testkit::{PATIENCE, RedisCluster, RedisServer, Signal, Tidings, get_http, metric, wait_until};

use crate::test_servers::TIDINGS;

fn node(broker: &str) -> Tidings {
    Tidings::start(TIDINGS, &["--broker", broker])
}

fn port(node: &Tidings) -> String {
    node.tcp().port().to_string()
}

/// Publishes with `mosquitto_pub` and retains the message, or removes the retained one if the payload is empty.
fn retain(node: &Tidings, topic: &str, payload: &str) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-V", "mqttv5", "-p", &port(node), "-q", "1", "-r", "-t", topic]);
    if payload.is_empty() {
        command.arg("-n");
    } else {
        command.args(["-m", payload, "-D", "publish", "user-property", "unit", "C"]);
    }
    assert!(command.status().expect("mosquitto_pub is installed").success());
}

/// The first retained messages that a new subscription gets.
fn retained(node: &Tidings, filter: &str, count: usize) -> String {
    let got = Command::new("mosquitto_sub")
        .args(["-V", "mqttv5", "-p", &port(node), "-t", filter, "-C", &count.to_string(), "-W", "30"])
        .args(["-F", "%t %p %r %P"])
        .output()
        .expect("mosquitto_sub is installed");
    String::from_utf8_lossy(&got.stdout).into_owned()
}

fn every_node_has_the_same_retained_messages(broker: &str) {
    let nodes = [node(broker), node(broker)];
    retain(&nodes[0], "home/a/state", "on");
    retain(&nodes[1], "home/b/state", "off");
    retain(&nodes[1], "home/a/state", "dimmed");
    retain(&nodes[0], "home/c/state", "on");
    retain(&nodes[1], "home/c/state", "");
    let expected = "home/a/state dimmed 1 unit:C\nhome/b/state off 1 unit:C\n";
    for node in &nodes {
        // A new subscriber may get a live message that is still on its way to its node.
        let what = "the retained messages, without live ones";
        wait_until(PATIENCE, what, || retained(node, "home/+/state", 2) == expected);
    }
    for node in &nodes {
        node.signal(Signal::KILL);
    }
    drop(nodes);
    let node = node(broker);
    // Before, a subscription that cannot read the retained messages would be refused.
    wait_until(PATIENCE, "/ready is 200", || get_http(node.http(), "/ready").status == 200);
    assert_eq!(retained(&node, "#", 2), expected, "a node that has begun later");
    wait_until(PATIENCE, "the number of messages", || {
        metric(node.http(), "tidings_mqtt_retained_messages") == 2
    });
}

#[test]
fn retained_messages_are_in_redis_for_every_node() {
    every_node_has_the_same_retained_messages(&RedisServer::start().url());
}

#[test]
fn retained_messages_are_in_a_redis_cluster_for_every_node() {
    let cluster = RedisCluster::start(3);
    every_node_has_the_same_retained_messages(&cluster.url());
}

/// A raw client of 5.0.
struct Raw(TcpStream);

impl Raw {
    fn connect(address: SocketAddr, id: u8) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let connect = [b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01" as &[u8], &[id]].concat();
        stream.write_all(&connect).expect("CONNECT is sent");
        let mut raw = Self(stream);
        let connack = raw.packet();
        assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK of success");
        raw
    }

    /// A packet of less than 128 bytes.
    fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        self.0.read_exact(&mut packet).expect("a head");
        packet.resize(2 + usize::from(packet[1]), 0);
        self.0.read_exact(&mut packet[2..]).expect("a packet");
        packet
    }

    fn publish(&mut self, retain: bool, id: u8, payload: &str) {
        let flags = 0x32 | u8::from(retain);
        let head = [flags, 6 + payload.len() as u8, 0, 1, b't', 0, id, 0];
        self.0.write_all(&[&head, payload.as_bytes()].concat()).expect("PUBLISH is sent");
    }
}

#[test]
fn messages_of_a_topic_keep_their_order_around_retained_ones() {
    let redis = RedisServer::start();
    let nodes = [node(&redis.url()), node(&redis.url())];
    let mut subscriber = Raw::connect(nodes[1].tcp(), b's');
    subscriber.0.write_all(b"\x82\x07\x00\x01\x00\x00\x01t\x00").expect("SUBSCRIBE is sent");
    assert_eq!(subscriber.packet()[0], 0x90, "SUBACK");
    let mut publisher = Raw::connect(nodes[0].tcp(), b'p');
    for number in 1..=90 {
        publisher.publish(number % 3 == 0, number, &format!("{number:02}"));
    }
    for number in 1..=90 {
        let puback = publisher.packet();
        assert_eq!((puback[0], puback[3]), (0x40, number), "PUBACK in the order of the messages");
    }
    for number in 1..=90 {
        let message = subscriber.packet();
        assert_eq!(message[message.len() - 2..], *format!("{number:02}").as_bytes());
    }
}

#[test]
fn a_retained_message_that_redis_does_not_have_is_not_acknowledged() {
    let mut redis = RedisServer::start();
    let node = node(&redis.url());
    let mut publisher = Raw::connect(node.tcp(), b'p');
    publisher.publish(true, 1, "kept");
    assert_eq!(publisher.packet(), [0x40, 2, 0, 1], "PUBACK of success");
    redis.kill();
    wait_until(PATIENCE, "/ready is 503", || get_http(node.http(), "/ready").status == 503);
    publisher.publish(true, 2, "lost");
    let puback = publisher.packet();
    assert_eq!((puback[0], puback[3], puback[4]), (0x40, 2, 0x80), "PUBACK 0x80");
}

impl Raw {
    /// Connects the client `w` with the retained will `off` in the topic `will`, with QoS 1.
    fn with_will(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream
            .write_all(b"\x10\x1a\x00\x04MQTT\x05\x2e\x00\x00\x00\x00\x01w\x00\x00\x04will\x00\x03off")
            .expect("CONNECT is sent");
        let mut raw = Self(stream);
        let connack = raw.packet();
        assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK of success");
        raw
    }

    /// Subscribes to the topic `will` with QoS 0.
    fn watch(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address, b's');
        raw.0.write_all(b"\x82\x0a\x00\x01\x00\x00\x04will\x00").expect("SUBSCRIBE is sent");
        assert_eq!(raw.packet()[0], 0x90, "SUBACK");
        raw
    }

    /// The payload of the next message in the topic `will` with QoS 0.
    fn will(&mut self) -> String {
        let packet = self.packet();
        assert_eq!((packet[0] & 0xf6, &packet[4..8]), (0x30, &b"will"[..]), "{packet:?}");
        String::from_utf8_lossy(&packet[9..]).into_owned()
    }
}

/// Publishes a retained message in the topic `will` with QoS 1.
fn publish_on(raw: &mut Raw) {
    raw.0.write_all(b"\x33\x0b\x00\x04will\x00\x01\x00on").expect("PUBLISH is sent");
    assert_eq!(raw.packet(), [0x40, 2, 0, 1], "PUBACK of success");
}

#[test]
fn the_wills_of_a_node_that_is_killed_are_published_once() {
    let redis = RedisServer::start();
    let nodes = [node(&redis.url()), node(&redis.url()), node(&redis.url())];
    let mut watcher = Raw::watch(nodes[1].tcp());
    let _device = Raw::with_will(nodes[0].tcp());
    wait_until(PATIENCE, "the will is counted", || metric(nodes[0].http(), "tidings_mqtt_wills") == 1);
    nodes[0].signal(Signal::KILL);
    assert_eq!(watcher.will(), "off");
    let claimed = || [1, 2].map(|at| metric(nodes[at].http(), "tidings_mqtt_wills_claimed_total"));
    wait_until(PATIENCE, "one node has published it", || claimed().iter().sum::<u64>() == 1);
    // Both have renewed their leases by then: the next message is another one.
    publish_on(&mut Raw::connect(nodes[2].tcp(), b'p'));
    assert_eq!(watcher.will(), "on");
    wait_until(PATIENCE, "no will is left", || {
        [1, 2].iter().all(|at| metric(nodes[*at].http(), "tidings_mqtt_wills") == 0)
    });
}

#[test]
fn a_client_that_returns_before_its_node_is_found_dead_is_not_declared_dead_afterwards() {
    let redis = RedisServer::start();
    let nodes = [node(&redis.url()), node(&redis.url())];
    let mut watcher = Raw::watch(nodes[1].tcp());
    let _device = Raw::with_will(nodes[0].tcp());
    nodes[0].signal(Signal::KILL);
    // The will of the former connection comes first.
    let mut device = Raw::with_will(nodes[1].tcp());
    publish_on(&mut device);
    assert_eq!([watcher.will(), watcher.will()], ["off", "on"]);
    let leases = || redis.cli(&["ZCARD", "tidings:willnodes:{tidings.node.wills}"]).int();
    wait_until(PATIENCE, "the node is found dead", || leases() == 1);
    assert_eq!(retained(&nodes[1], "will", 1).split(' ').nth(1), Some("on"));
    // A clean end discards the will.
    device.0.write_all(b"\xe0\x00").expect("DISCONNECT is sent");
    wait_until(PATIENCE, "no will is left", || {
        redis.cli(&["EXISTS", "tidings:wills:{tidings.node.wills}"]).int() == 0
    });
    assert_eq!(retained(&nodes[1], "will", 1).split(' ').nth(1), Some("on"));
}

#[test]
fn a_node_whose_lease_has_ended_stores_the_wills_of_its_clients_again() {
    let redis = RedisServer::start();
    let nodes = [node(&redis.url()), node(&redis.url())];
    let mut watcher = Raw::watch(nodes[1].tcp());
    let _device = Raw::with_will(nodes[0].tcp());
    let keys = || redis.cli(&["KEYS", "tidings:willsof:*"]).texts();
    let uid = keys()[0].rsplit(':').next().expect("a uid").to_owned();
    wait_until(PATIENCE, "the other node claims the will", || {
        redis.cli(&["ZADD", "tidings:willnodes:{tidings.node.wills}", "1", &*uid]);
        metric(nodes[1].http(), "tidings_mqtt_wills_claimed_total") == 1
    });
    assert_eq!(watcher.will(), "off", "the client is gone for the other node");
    wait_until(PATIENCE, "its node has stored it again", || {
        keys().iter().any(|key| key.ends_with(&uid)) && metric(nodes[1].http(), "tidings_mqtt_wills") == 1
    });
    nodes[0].signal(Signal::KILL);
    assert_eq!(watcher.will(), "off");
}

#[test]
fn a_deployment_that_is_killed_as_a_whole_publishes_its_wills_after_its_start() {
    let redis = RedisServer::start();
    let killed = node(&redis.url());
    let _device = Raw::with_will(killed.tcp());
    killed.signal(Signal::KILL);
    drop(killed);
    let node = node(&redis.url());
    assert_eq!(Raw::watch(node.tcp()).will(), "off");
}

#[test]
fn a_will_that_redis_does_not_have_is_not_accepted_and_one_that_it_has_is_published_when_it_returns() {
    let mut redis = RedisServer::persistent();
    let node = node(&redis.url());
    let device = Raw::with_will(node.tcp());
    redis.kill();
    wait_until(PATIENCE, "/ready is 503", || get_http(node.http(), "/ready").status == 503);
    let mut stream = TcpStream::connect(node.tcp()).expect("a connection");
    stream
        .write_all(b"\x10\x1a\x00\x04MQTT\x05\x2e\x00\x00\x00\x00\x01x\x00\x00\x04will\x00\x03off")
        .expect("CONNECT is sent");
    let connack = Raw(stream).packet();
    assert_eq!((connack[0], connack[3]), (0x20, 0x88), "CONNACK: server unavailable");
    drop(device);
    redis.restart();
    wait_until(PATIENCE, "/ready is 200", || get_http(node.http(), "/ready").status == 200);
    assert_eq!(Raw::watch(node.tcp()).will(), "off");
}
