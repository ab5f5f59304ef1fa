//! Sessions of MQTT in Redis: a client comes back to any node, and has lost nothing that was acknowledged.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tidings_testkit::{
    PATIENCE, RedisCluster, RedisServer, Signal, Tidings, get_http, metric, post_http, wait_until,
};

use crate::test_servers::TIDINGS;

pub(crate) fn node(broker: &str, flags: &[&str]) -> Tidings {
    Tidings::start(TIDINGS, &[&["--broker", broker], flags].concat())
}

pub(crate) fn nodes(broker: &str) -> [Tidings; 2] {
    let nodes = [node(broker, &[]), node(broker, &[])];
    for node in &nodes {
        wait_until(PATIENCE, "/ready is 200", || get_http(node.http(), "/ready").status == 200);
    }
    nodes
}

/// A message that a client has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) id: u16,
    pub(crate) is_again: bool,
}

/// A client of 5.0 that acknowledges nothing by itself.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) messages: VecDeque<Received>,
}

/// A packet: its first byte, and the bytes behind its length.
pub(crate) type Packet = (u8, Vec<u8>);

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).expect("a short text").to_be_bytes(), text.as_bytes()].concat()
}

fn two(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

impl Client {
    /// Connects, and returns the connection with CONNACK.
    pub(crate) fn open(address: SocketAddr, id: &str, clean: bool, expiry: u32) -> (Self, Packet) {
        Self::open_with(address, id, clean, expiry, None)
    }

    /// Connects a client that accepts so many messages without an acknowledgement.
    pub(crate) fn open_with(
        address: SocketAddr,
        id: &str,
        clean: bool,
        expiry: u32,
        receive_maximum: Option<u8>,
    ) -> (Self, Packet) {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let mut client = Self { stream, messages: VecDeque::new() };
        let length = if receive_maximum.is_some() { 8 } else { 5 };
        let mut connect = [b"\x00\x04MQTT\x05" as &[u8], &[u8::from(clean) << 1, 0, 0, length, 17]].concat();
        connect.extend(expiry.to_be_bytes());
        connect.extend(receive_maximum.map(|most| [33, 0, most]).into_iter().flatten());
        connect.extend(text(id));
        client.send(0x10, &connect);
        let connack = client.packet();
        assert_eq!(connack.0, 0x20, "CONNACK");
        (client, connack)
    }

    /// Connects to a session that is kept; returns whether it continues.
    pub(crate) fn connect(address: SocketAddr, id: &str) -> (Self, bool) {
        let (client, (_, connack)) = Self::open(address, id, false, 3_600);
        assert_eq!(connack[1], 0, "CONNACK of success");
        (client, connack[0] == 1)
    }

    /// A client without a session that is kept.
    pub(crate) fn plain(address: SocketAddr, id: &str) -> Self {
        Self::open(address, id, true, 0).0
    }

    pub(crate) fn send(&mut self, first: u8, rest: &[u8]) {
        let mut packet = vec![first];
        let mut length = rest.len();
        loop {
            let digit = u8::try_from(length % 128).expect("below 128");
            length /= 128;
            packet.push(if length > 0 { digit | 0x80 } else { digit });
            if length == 0 {
                break;
            }
        }
        packet.extend(rest);
        self.stream.write_all(&packet).expect("a packet is sent");
    }

    fn packet(&mut self) -> Packet {
        self.next_packet().expect("a packet")
    }

    /// The next packet; `None` at the end of the connection.
    fn next_packet(&mut self) -> Option<Packet> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok()?;
        let (first, mut length, mut shift) = (byte[0], 0, 0);
        loop {
            self.stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut rest = vec![0; length];
        self.stream.read_exact(&mut rest).ok()?;
        Some((first, rest))
    }

    /// The next packet that is no message; messages before it are kept.
    pub(crate) fn answer(&mut self) -> Packet {
        loop {
            let packet = self.packet();
            match received(&packet) {
                Some(message) => self.messages.push_back(message),
                None => return packet,
            }
        }
    }

    pub(crate) fn message(&mut self) -> Received {
        if let Some(message) = self.messages.pop_front() {
            return message;
        }
        let packet = self.packet();
        received(&packet).unwrap_or_else(|| panic!("a message instead of {packet:?}"))
    }

    /// The payloads of the next messages, which are acknowledged.
    pub(crate) fn payloads(&mut self, count: usize) -> Vec<String> {
        let next = |client: &mut Self| {
            let message = client.message();
            match message.qos {
                1 => client.send(0x40, &message.id.to_be_bytes()),
                2 => client.receive(message.id),
                _ => {}
            }
            message.payload
        };
        (0..count).map(|_| next(self)).collect()
    }

    /// Receives a message with QoS 2.
    fn receive(&mut self, id: u16) {
        self.send(0x50, &id.to_be_bytes());
        assert_eq!(self.answer(), (0x62, id.to_be_bytes().to_vec()), "PUBREL");
        self.send(0x70, &id.to_be_bytes());
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        self.send(0x82, &[&[0, 9, 0], &text(filter)[..], &[qos]].concat());
        assert_eq!(self.answer(), (0x90, vec![0, 9, 0, qos]), "SUBACK");
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        self.send(0xa2, &[&[0, 9, 0], &text(filter)[..]].concat());
        assert_eq!(self.answer(), (0xb0, vec![0, 9, 0, 0]), "UNSUBACK");
    }

    pub(crate) fn publish(&mut self, topic: &str, qos: u8, id: u16, payload: &str) {
        self.publish_with(0x30 | qos << 1, topic, id, payload);
    }

    fn publish_with(&mut self, first: u8, topic: &str, id: u16, payload: &str) {
        let id = id.to_be_bytes();
        let id = if first & 6 == 0 { &[][..] } else { &id };
        self.send(first, &[&text(topic), id, &[0], payload.as_bytes()].concat());
    }

    /// Publishes, and completes the exchange.
    pub(crate) fn publish_whole(&mut self, topic: &str, qos: u8, id: u16, payload: &str) {
        self.publish(topic, qos, id, payload);
        let id = id.to_be_bytes();
        match qos {
            1 => assert_eq!(self.answer(), (0x40, id.to_vec()), "PUBACK"),
            2 => {
                assert_eq!(self.answer(), (0x50, id.to_vec()), "PUBREC");
                self.send(0x62, &id);
                assert_eq!(self.answer(), (0x70, id.to_vec()), "PUBCOMP");
            }
            _ => {}
        }
    }

    pub(crate) fn disconnect(mut self) {
        self.send(0xe0, &[]);
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
    }

    /// Waits until a packet that was sent before has been processed: the answers are in order.
    pub(crate) fn settle(&mut self) {
        self.send(0xc0, &[]);
        assert_eq!(self.answer().0, 0xd0, "PINGRESP");
    }
}

fn received((first, rest): &Packet) -> Option<Received> {
    if first >> 4 != 3 {
        return None;
    }
    let end = 2 + usize::from(two(rest));
    let topic = String::from_utf8_lossy(&rest[2..end]).into_owned();
    let qos = first >> 1 & 3;
    let (id, at) = if qos == 0 { (0, end) } else { (two(&rest[end..]), end + 2) };
    // The length of the properties is one byte here.
    let payload = String::from_utf8_lossy(&rest[at + 1 + usize::from(rest[at])..]).into_owned();
    Some(Received { topic, payload, qos, id, is_again: first & 8 != 0 })
}

/// The number of sessions in Redis whose client is away, or connected.
pub(crate) fn sessions(node: &Tidings, client: &str) -> u64 {
    metric(node.http(), &format!("tidings_mqtt_shared_sessions{{client=\"{client}\"}}"))
}

/// Waits until Redis has one session whose client is not connected.
pub(crate) fn wait_until_away(node: &Tidings) {
    wait_until(PATIENCE, "the session has no connection", || sessions(node, "away") == 1);
}

fn publish_by_api(node: &Tidings, channel: &str, data: &str) {
    let body = format!(r#"{{"channel":"{channel}","data":"{data}"}}"#);
    assert_eq!(post_http(node.http(), "/api/publish", &[], &body).status, 200);
}

fn a_client_gets_what_was_published_while_it_was_away(broker: &str) {
    let nodes = nodes(broker);
    let (mut client, is_present) = Client::connect(nodes[0].tcp(), "device");
    assert!(!is_present);
    client.subscribe("home/+/state", 1);
    client.subscribe("exact", 2);
    client.disconnect();
    wait_until_away(&nodes[1]);
    let mut publisher = Client::plain(nodes[1].tcp(), "publisher");
    let mut expected = Vec::new();
    for number in 1..=40_u16 {
        let qos = if number % 2 == 0 { 1 } else { 2 };
        let payload = format!("m{number}");
        publisher.publish_whole("home/a/state", qos, number, &payload);
        expected.push(payload);
    }
    publisher.publish_whole("exact", 2, 100, "twice");
    publisher.publish_whole("other", 2, 101, "no");
    publish_by_api(&nodes[1], "home/b/state", "api");
    let mut resp = TcpStream::connect(nodes[1].tcp()).expect("a connection");
    resp.write_all(b"*3\r\n$7\r\nPUBLISH\r\n$5\r\nexact\r\n$4\r\nresp\r\n").expect("PUBLISH is sent");
    resp.read_exact(&mut [0; 4]).expect("an answer");
    expected.extend(["twice", "\"api\"", "resp"].map(str::to_owned));
    let (mut client, is_present) = Client::connect(nodes[1].tcp(), "device");
    assert!(is_present, "session present");
    assert_eq!(client.payloads(43), expected);
    // The subscriptions exist still.
    publisher.publish_whole("exact", 1, 1, "live");
    assert_eq!(client.payloads(1), ["live"]);
    client.unsubscribe("exact");
    client.settle();
    client.disconnect();
    wait_until_away(&nodes[0]);
    publisher.publish_whole("exact", 1, 1, "unsubscribed");
    publisher.publish_whole("home/c/state", 1, 1, "last");
    let (mut client, _) = Client::connect(nodes[0].tcp(), "device");
    assert_eq!(client.payloads(1), ["last"], "what was acknowledged is not sent again");
}

#[test]
fn a_client_gets_on_another_node_what_was_published_while_it_was_away() {
    a_client_gets_what_was_published_while_it_was_away(&RedisServer::start().url());
}

#[test]
fn a_client_gets_on_another_node_of_a_redis_cluster_what_was_published_while_it_was_away() {
    let cluster = RedisCluster::start(3);
    a_client_gets_what_was_published_while_it_was_away(&cluster.url());
}

#[test]
fn an_acknowledged_message_survives_the_kill_of_its_node_for_a_client_that_is_away() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let (mut client, _) = Client::connect(nodes[0].tcp(), "device");
    client.subscribe("t/#", 2);
    client.disconnect();
    wait_until_away(&nodes[0]);
    let mut publisher = Client::plain(nodes[0].tcp(), "publisher");
    publisher.publish("t/1", 1, 1, "one");
    assert_eq!(publisher.answer(), (0x40, vec![0, 1]), "PUBACK");
    publisher.publish("t/2", 2, 2, "two");
    assert_eq!(publisher.answer(), (0x50, vec![0, 2]), "PUBREC");
    nodes[0].signal(Signal::KILL);
    let (mut client, is_present) = Client::connect(nodes[1].tcp(), "device");
    assert!(is_present);
    assert_eq!(client.payloads(2), ["one", "two"]);
}

#[test]
fn an_acknowledged_message_survives_the_kill_of_the_node_of_a_connected_client() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let (mut client, _) = Client::connect(nodes[0].tcp(), "device");
    client.subscribe("t", 1);
    let mut publisher = Client::plain(nodes[0].tcp(), "publisher");
    publisher.publish_whole("t", 1, 1, "one");
    let first = client.message();
    assert_eq!((&*first.payload, first.qos, first.is_again), ("one", 1, false));
    for number in 2..=20_u16 {
        publisher.publish("t", 1, number, &number.to_string());
    }
    for number in 2..=20_u16 {
        assert_eq!(publisher.answer(), (0x40, number.to_be_bytes().to_vec()), "PUBACK");
    }
    nodes[0].signal(Signal::KILL);
    let (mut client, is_present) = Client::connect(nodes[1].tcp(), "device");
    assert!(is_present);
    let again = client.message();
    assert_eq!(again, Received { is_again: true, ..first }, "the same packet identifier");
    let rest: Vec<_> = (2..=20).map(|number: u16| number.to_string()).collect();
    client.send(0x40, &again.id.to_be_bytes());
    assert_eq!(client.payloads(19), rest);
}

#[test]
fn messages_with_qos_2_arrive_exactly_once_over_a_change_of_node() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let (mut client, _) = Client::connect(nodes[0].tcp(), "device");
    client.subscribe("t", 2);
    // From the client: published, and not released before the node is killed.
    client.publish("t", 2, 7, "once");
    let answer = client.answer();
    assert_eq!(answer, (0x50, vec![0, 7]), "PUBREC");
    // To the client: received, and not completed.
    let message = client.message();
    assert_eq!((&*message.payload, message.qos), ("once", 2));
    client.send(0x50, &message.id.to_be_bytes());
    assert_eq!(client.answer(), (0x62, message.id.to_be_bytes().to_vec()), "PUBREL");
    nodes[0].signal(Signal::KILL);
    let (mut client, is_present) = Client::connect(nodes[1].tcp(), "device");
    assert!(is_present);
    assert_eq!(client.packet(), (0x62, message.id.to_be_bytes().to_vec()), "PUBREL again, and no PUBLISH");
    client.send(0x70, &message.id.to_be_bytes());
    client.publish_with(0x3c, "t", 7, "once");
    assert_eq!(client.answer(), (0x50, vec![0, 7]), "PUBREC");
    client.send(0x62, &[0, 7]);
    assert_eq!(client.answer(), (0x70, vec![0, 7]), "PUBCOMP");
    client.publish("t", 2, 7, "next");
    assert_eq!(client.answer(), (0x50, vec![0, 7]), "PUBREC of another message");
    let next = client.message();
    assert_eq!((&*next.payload, next.qos), ("next", 2), "the first one was published once");
}

#[test]
fn a_session_is_taken_over_by_a_connection_to_another_node_and_a_clean_start_ends_it() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let (mut former, _) = Client::connect(nodes[0].tcp(), "device");
    former.subscribe("t", 1);
    let (mut client, is_present) = Client::connect(nodes[1].tcp(), "device");
    assert!(is_present);
    let (first, rest) = former.answer();
    assert_eq!((first, rest[0]), (0xe0, 0x8e), "DISCONNECT: session taken over");
    let mut publisher = Client::plain(nodes[0].tcp(), "publisher");
    publisher.publish_whole("t", 1, 1, "one");
    assert_eq!(client.payloads(1), ["one"]);
    client.disconnect();
    let (client, (_, connack)) = Client::open(nodes[0].tcp(), "device", true, 3_600);
    assert_eq!(connack[..2], [0, 0], "a new session");
    client.disconnect();
    wait_until_away(&nodes[1]);
    publisher.publish_whole("t", 1, 1, "two");
    let (mut client, is_present) = Client::connect(nodes[1].tcp(), "device");
    assert!(is_present);
    client.settle();
    assert!(client.messages.is_empty(), "the subscription has ended with the session");
}

#[test]
fn a_session_expires_in_redis_also_if_its_node_is_killed() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let (short, _) = Client::open(nodes[0].tcp(), "short", true, 1);
    short.disconnect();
    let (_killed, _) = Client::open(nodes[0].tcp(), "killed", true, 1);
    nodes[0].signal(Signal::KILL);
    wait_until(PATIENCE, "both have expired", || {
        ["away", "connected"].map(|client| sessions(&nodes[1], client)) == [0; 2]
    });
    wait_until(PATIENCE, "they are counted", || {
        metric(nodes[1].http(), "tidings_mqtt_shared_sessions_expired") == 2
    });
    assert!(!Client::connect(nodes[1].tcp(), "short").1);
    assert!(!Client::connect(nodes[1].tcp(), "killed").1);
}

/// The number of dropped messages in a CONNACK.
fn dropped((_, connack): &Packet) -> Option<usize> {
    let at = connack.windows(9).position(|window| window == b"\0\x07dropped")? + 9;
    let value = &connack[at + 2..at + 2 + usize::from(two(&connack[at..]))];
    String::from_utf8_lossy(value).parse().ok()
}

#[test]
fn a_session_in_redis_beyond_its_bytes_drops_qos_0_first_and_its_client_finds_the_number() {
    let redis = RedisServer::start();
    let limit = "2048";
    let node = Tidings::builder(TIDINGS)
        .args(["--broker", &redis.url()])
        .env("TIDINGS_MQTT_SESSION_QUEUE_SIZE", limit)
        .start();
    let (mut client, _) = Client::connect(node.tcp(), "device");
    client.subscribe("t", 2);
    client.disconnect();
    wait_until_away(&node);
    let mut publisher = Client::plain(node.tcp(), "publisher");
    let payload = |number: u16| format!("{number:03}{}", "x".repeat(100));
    publisher.publish_whole("t", 1, 1, &payload(1));
    publisher.publish_whole("t", 0, 0, "zero");
    publisher.publish_whole("t", 1, 2, &payload(2));
    let (mut client, (_, connack)) = Client::open(node.tcp(), "device", false, 3_600);
    assert_eq!(dropped(&(0x20, connack)), None);
    assert_eq!(client.payloads(3), [payload(1), "zero".to_owned(), payload(2)], "all fit");
    client.settle();
    client.disconnect();
    wait_until_away(&node);
    publisher.publish_whole("t", 0, 0, "zero");
    for number in 1..=20 {
        publisher.publish_whole("t", 1, number, &payload(number));
    }
    let (mut client, connack) = Client::open(node.tcp(), "device", false, 3_600);
    let dropped = dropped(&connack).expect("a number of dropped messages");
    assert!((10..19).contains(&dropped), "{dropped}");
    let kept: Vec<_> = (u16::try_from(dropped).expect("below 20")..=20).map(payload).collect();
    assert_eq!(client.payloads(kept.len()), kept, "the newest ones, without that with QoS 0");
    wait_until(PATIENCE, "they are counted", || {
        metric(node.http(), "tidings_mqtt_shared_session_messages_dropped") == dropped as u64
    });
    // A client that is connected and acknowledges nothing is disconnected, because it would not notice the loss.
    for number in 1..=20 {
        publisher.publish_whole("t", 1, number, &payload(number));
    }
    let (first, rest) = client.answer();
    assert_eq!((first, rest[0]), (0xe0, 0x97), "DISCONNECT: quota exceeded");
    assert!(
        self::dropped(&Client::open(node.tcp(), "device", false, 3_600).1).is_some_and(|count| count > 0)
    );
}

#[test]
fn sessions_of_absent_clients_take_no_room_from_a_connected_client() {
    let redis = RedisServer::start();
    let node = Tidings::builder(TIDINGS)
        .args(["--broker", &redis.url()])
        .env("TIDINGS_MQTT_SESSIONS_MAX_BYTES", "4096")
        .start();
    let (mut absent, _) = Client::connect(node.tcp(), "absent");
    absent.subscribe("t", 1);
    absent.disconnect();
    wait_until_away(&node);
    let (mut client, _) = Client::connect(node.tcp(), "device");
    client.subscribe("own", 1);
    let mut publisher = Client::plain(node.tcp(), "publisher");
    for number in 1..=30 {
        publisher.publish_whole("t", 1, number, &"x".repeat(100));
    }
    let large = "y".repeat(500);
    publisher.publish_whole("own", 1, 1, &large);
    assert_eq!(client.payloads(1), [large]);
    let (_, connack) = Client::open(node.tcp(), "absent", false, 3_600);
    assert!(dropped(&connack).is_some_and(|count| count > 0), "the bound applies to absent clients");
}

#[test]
fn a_client_returns_and_gets_its_messages_while_redis_is_full() {
    let redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    let mut device = with_will(&node, true, 0, "bye");
    device.subscribe("t", 1);
    device.disconnect();
    wait_until_away(&node);
    Client::plain(node.tcp(), "publisher").publish_whole("t", 1, 1, "one");
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let mut device = with_will(&node, false, 0, "bye");
    assert_eq!(device.payloads(1), ["one"]);
    device.settle();
}

#[test]
fn while_redis_is_away_nothing_is_acknowledged_that_is_not_kept() {
    let mut redis = RedisServer::persistent();
    let nodes = nodes(&redis.url());
    let (mut client, _) = Client::connect(nodes[0].tcp(), "device");
    client.subscribe("t", 1);
    let mut publisher = Client::plain(nodes[1].tcp(), "publisher");
    publisher.publish_whole("t", 1, 1, "before");
    assert_eq!(client.payloads(1), ["before"]);
    redis.kill();
    for node in &nodes {
        wait_until(PATIENCE, "/ready is 503", || get_http(node.http(), "/ready").status == 503);
    }
    for (qos, answer) in [(1, 0x40), (2, 0x50)] {
        publisher.publish("t", qos, 2, "lost");
        let (first, rest) = publisher.answer();
        assert_eq!((first, &rest[..3]), (answer, &[0, 2, 0x80][..]), "an error for QoS {qos}");
    }
    let (_, (_, connack)) = Client::open(nodes[1].tcp(), "other", false, 3_600);
    assert_eq!(connack[1], 0x88, "CONNACK: server unavailable");
    redis.restart();
    for node in &nodes {
        wait_until(PATIENCE, "/ready is 200", || get_http(node.http(), "/ready").status == 200);
    }
    publisher.publish_whole("t", 1, 3, "after");
    assert_eq!(client.payloads(1), ["after"], "the connection and its session continue");
}

#[test]
fn a_client_whose_session_redis_has_lost_is_told_so() {
    let redis = RedisServer::start();
    let node = node(&redis.url(), &[]);
    let (mut client, _) = Client::connect(node.tcp(), "device");
    client.subscribe("t", 1);
    redis.cli(&["FLUSHALL"]);
    let (first, rest) = client.answer();
    assert_eq!((first, rest[0]), (0xe0, 0x89), "DISCONNECT: server busy");
    assert!(!Client::connect(node.tcp(), "device").1, "no session present");
}

/// Connects the client `device`, whose session is kept for an hour, with a will that waits for `delay` seconds.
fn with_will(node: &Tidings, clean: bool, delay: u32, payload: &str) -> Client {
    let stream = TcpStream::connect(node.tcp()).expect("a connection");
    let mut client = Client { stream, messages: VecDeque::new() };
    let mut connect = [b"\x00\x04MQTT\x05" as &[u8], &[0x0c | u8::from(clean) << 1, 0, 0, 5, 17]].concat();
    connect.extend(3_600_u32.to_be_bytes());
    connect.extend(text("device"));
    connect.extend([5, 24]);
    connect.extend(delay.to_be_bytes());
    connect.extend([text("will"), text(payload)].concat());
    client.send(0x10, &connect);
    assert_eq!(client.packet().1[1], 0, "CONNACK of success");
    client
}

#[test]
fn a_session_that_begins_while_a_retained_message_is_stored_gets_the_message() {
    // The stores of retained messages and of sessions are on different primaries.
    let cluster = RedisCluster::start(5);
    let paused = cluster.primary_of("tidings.node.retained");
    assert_ne!(paused, cluster.primary_of("tidings.node.sessions"));
    let topic = cluster.name_at((paused + 1) % 5, "t");
    let node = node(&cluster.url(), &[]);
    wait_until(PATIENCE, "/ready is 200", || get_http(node.http(), "/ready").status == 200);
    let mut publisher = Client::plain(node.tcp(), "publisher");
    // The node knows that there is no session.
    wait_until(PATIENCE, "a publication needs none", || {
        publisher.publish_whole(&topic, 1, 1, "before");
        metric(node.http(), "tidings_mqtt_shared_sessions{client=\"away\"}") == 0
    });
    cluster.node(paused).cli(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    publisher.publish_with(0x33, &topic, 2, "retained");
    let (mut client, _) = Client::connect(node.tcp(), "device");
    // Without the retained messages, which are on the other primary.
    client.send(0x82, &[&[0, 9, 0], &text(&topic)[..], &[0x21]].concat());
    assert_eq!(client.answer(), (0x90, vec![0, 9, 0, 1]), "SUBACK");
    client.disconnect();
    cluster.node(paused).cli(&["CLIENT", "UNPAUSE"]);
    assert_eq!(publisher.answer().1[..2], [0, 2], "PUBACK, when the message is stored");
    let (mut client, is_present) = Client::connect(node.tcp(), "device");
    assert!(is_present);
    assert_eq!(client.payloads(1), ["retained"]);
}

#[test]
fn a_will_with_a_delay_is_discarded_on_another_node_if_the_session_continues() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let mut watcher = Client::plain(nodes[0].tcp(), "watcher");
    watcher.subscribe("will", 1);
    drop(with_will(&nodes[0], false, 3_600, "first"));
    wait_until_away(&nodes[1]);
    drop(with_will(&nodes[1], false, 3_600, "second"));
    wait_until_away(&nodes[1]);
    let device = with_will(&nodes[0], true, 1, "third");
    assert_eq!(watcher.payloads(1), ["second"], "the session has ended, and the first will is discarded");
    drop(device);
    assert_eq!(watcher.payloads(1), ["third"], "the delay has passed");
}

#[test]
fn a_disconnect_that_shortens_the_session_shortens_the_delay_of_the_will() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis.url());
    let mut watcher = Client::plain(nodes[1].tcp(), "watcher");
    watcher.subscribe("will", 1);
    for expiry in [0, 1] {
        let mut device = with_will(&nodes[0], true, 3_600, "bye");
        // The reason `disconnect with will message`, and the interval.
        device.send(0xe0, &[4, 5, 17, 0, 0, 0, expiry]);
        assert_eq!(watcher.payloads(1), ["bye"], "the session has ended after {expiry} s");
    }
}
