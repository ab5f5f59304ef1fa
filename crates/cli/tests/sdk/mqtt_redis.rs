//! MQTT's state in Redis: every node has the same retained messages.

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
        assert_eq!(retained(node, "home/+/state", 2), expected);
    }
    for node in &nodes {
        node.signal(Signal::KILL);
    }
    drop(nodes);
    let node = node(broker);
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
