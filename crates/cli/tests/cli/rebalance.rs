//! Rebalancing: clients that recover are moved to a node that has joined.

use serde_json::{Value, json};
use tidings_testkit::{LineClient, PATIENCE, RedisServer, Tidings, metric, post_http, wait_until};

use crate::tool::server;

fn node(redis: &RedisServer) -> Tidings {
    let broker = redis.url();
    let mut flags = vec!["--broker", &broker];
    for option in [
        "cluster.rebalance.enabled=true",
        "cluster.rebalance.rate=1000",
        "cluster.rebalance.settle=100ms",
        "cluster.rebalance.min_connection_age=100ms",
        "channel.without_namespace.history_size=100",
        "channel.without_namespace.history_ttl=1m",
    ] {
        flags.extend(["--set", option]);
    }
    server(&flags)
}

fn publish(node: &Tidings, number: u64) {
    let response =
        post_http(node.http(), "/api/publish", &[], json!({"channel": "news", "data": number}).to_string());
    assert!(response.body.contains("result"), "{}", response.body);
}

fn is_in_state(node: &Tidings, state: &str) -> bool {
    metric(node.http(), &format!("tidings_rebalance_state{{state=\"{state}\"}}")) == 1
}

/// A client of the client protocol on the line port.
struct Subscriber {
    line: LineClient,
    epoch: Value,
    offset: u64,
    received: Vec<u64>,
}

impl Subscriber {
    fn connect(node: &Tidings, recoverable: bool) -> Self {
        let line = LineClient::connect(node.tcp());
        let mut client = Self { line, epoch: Value::Null, offset: 0, received: Vec::new() };
        let reply = client.subscribe(&json!({"channel": "news", "recoverable": recoverable}));
        assert_eq!(reply["recoverable"] == true, recoverable, "{reply}");
        client
    }

    fn subscribe(&mut self, command: &Value) -> Value {
        self.line.send(r#"{"id":1,"connect":{}}"#);
        self.line.send(&json!({"id": 2, "subscribe": command}).to_string());
        loop {
            let message: Value = serde_json::from_str(&self.line.line()).expect("JSON");
            if message["id"] == 2 {
                let reply = message["subscribe"].clone();
                self.epoch = reply["epoch"].clone();
                self.offset = reply["offset"].as_u64().unwrap_or(0);
                return reply;
            }
        }
    }

    fn take(&mut self, publication: &Value) {
        self.offset = publication["offset"].as_u64().expect("an offset");
        self.received.push(publication["data"].as_u64().expect("a number"));
    }

    /// Reads up to a publication or a disconnect. Returns whether the client must reconnect.
    fn is_disconnected_before(&mut self, number: u64) -> bool {
        while self.received.last() != Some(&number) {
            let message: Value = serde_json::from_str(&self.line.line()).expect("JSON");
            let push = &message["push"];
            if push["pub"].is_object() {
                self.take(&push["pub"]);
            }
            if push["disconnect"].is_object() {
                assert_eq!(push["disconnect"]["code"], 3011, "{message}");
                return true;
            }
        }
        false
    }

    /// Connects to a node and recovers.
    fn reconnect(&mut self, node: &Tidings) {
        self.line = LineClient::connect(node.tcp());
        let position =
            json!({"channel": "news", "recover": true, "epoch": self.epoch, "offset": self.offset});
        let reply = self.subscribe(&position);
        assert_eq!(reply["recovered"], true, "{reply}");
        for publication in reply["publications"].as_array().unwrap_or(&Vec::new()) {
            self.take(publication);
        }
    }
}

#[test]
fn clients_that_recover_move_to_a_node_that_joins_and_others_stay() {
    let redis = RedisServer::start();
    let first = node(&redis);
    first.wait_for_log("ready: everything in use works");
    let mut clients: Vec<_> = (0..30).map(|_| Subscriber::connect(&first, true)).collect();
    let mut unrecoverable = Subscriber::connect(&first, false);
    let mut plain = LineClient::connect(first.tcp());
    plain.send("SUBSCRIBE news");
    plain.expect("CONFIRMED");
    publish(&first, 1);
    let second = node(&redis);
    wait_until(PATIENCE, "half of the clients to be moved", || {
        metric(first.http(), "tidings_rebalance_moved_total") == 16
    });
    publish(&first, 2);
    let mut moved = 0;
    for client in &mut clients {
        if client.is_disconnected_before(2) {
            client.reconnect(&second);
            moved += 1;
        }
    }
    assert_eq!(moved, 16);
    publish(&second, 3);
    for client in clients.iter_mut().chain([&mut unrecoverable]) {
        assert!(!client.is_disconnected_before(3), "it stays");
        assert_eq!(client.received, [1, 2, 3]);
    }
    for number in 1..=3 {
        plain.expect(&format!("MESSAGE news {number}"));
    }
    for node in [&first, &second] {
        wait_until(PATIENCE, "the end of rebalancing", || is_in_state(node, "balanced"));
    }
    assert_eq!(metric(first.http(), "tidings_rebalance_moved_total"), 16);
    assert_eq!(metric(second.http(), "tidings_rebalance_moved_total"), 0);
    assert_eq!(metric(first.http(), "tidings_rebalance_returned_total"), 0);
}

#[test]
fn clients_that_the_balancer_returns_are_counted_and_rebalancing_stops() {
    let redis = RedisServer::start();
    let first = node(&redis);
    first.wait_for_log("ready: everything in use works");
    let mut clients: Vec<_> = (0..60).map(|_| Subscriber::connect(&first, true)).collect();
    let second = node(&redis);
    wait_until(PATIENCE, "half of the clients to be moved", || {
        metric(first.http(), "tidings_rebalance_moved_total") == 30
    });
    publish(&first, 1);
    let mut returned = 0;
    for client in &mut clients {
        if client.is_disconnected_before(1) {
            client.reconnect(&first);
            returned += 1;
        }
    }
    assert_eq!(returned, 30);
    first.wait_for_log("moved clients have connected to this node again");
    assert_eq!(metric(first.http(), "tidings_rebalance_returned_total"), 30);
    wait_until(PATIENCE, "the stop", || is_in_state(&first, "stopped"));
    assert!(!is_in_state(&second, "stopped"));
    assert_eq!(metric(first.http(), "tidings_rebalance_moved_total"), 30);
}
