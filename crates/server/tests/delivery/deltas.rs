//! Deltas between publications: a subscriber that applies them gets exactly the publications.

use serde_json::{Value, json};
use tidings_testkit::{LineClient, RedisServer};

use crate::node::{TestNode, start_quiet_node};

const OPTIONS: &[(&str, &str)] = &[
    ("channel.without_namespace.allowed_delta_types", "fossil"),
    ("channel.without_namespace.delta_publish", "true"),
    ("channel.without_namespace.allow_tags_filter", "true"),
];

/// A client in JSON lines that applies deltas.
struct Subscriber {
    line: LineClient,
    /// The content of the last publication.
    base: Option<Vec<u8>>,
    /// The bodies of all publications.
    bodies: Vec<String>,
    deltas: usize,
    /// The code of the end of the subscription.
    ended: Option<u64>,
}

impl Subscriber {
    fn connect(node: &TestNode) -> Self {
        let mut line = node.line();
        line.send("{\"id\":1,\"connect\":{}}");
        assert!(line.line().contains("\"connect\""));
        Self { line, base: None, bodies: Vec::new(), deltas: 0, ended: None }
    }

    /// Subscribes with these options besides the deltas; the result.
    fn subscribe(&mut self, mut options: Value) -> Value {
        options["channel"] = json!("news");
        options["delta"] = json!("fossil");
        self.base = None;
        self.line.send(&json!({"id": 2, "subscribe": options}).to_string());
        loop {
            if let Some(reply) = self.take() {
                let result = reply["subscribe"].clone();
                assert_eq!(result["delta"], true, "{reply}");
                let missed = result["publications"].as_array().cloned().unwrap_or_default();
                missed.iter().for_each(|publication| self.publication(publication));
                return result;
            }
        }
    }

    fn unsubscribe(&mut self) {
        self.line.send(r#"{"id":3,"unsubscribe":{"channel":"news"}}"#);
        while self.take().is_none() {}
    }

    /// Reads a message; returns a reply.
    fn take(&mut self) -> Option<Value> {
        let message: Value = serde_json::from_str(&self.line.line()).expect("JSON");
        let push = &message["push"];
        if push["pub"].is_object() {
            self.publication(&push["pub"]);
        } else if push["unsubscribe"].is_object() {
            self.ended = push["unsubscribe"]["code"].as_u64();
        } else if message["id"].is_number() {
            return Some(message);
        }
        None
    }

    fn publication(&mut self, publication: &Value) {
        let data = publication["data"].as_str().unwrap_or_else(|| panic!("a text: {publication}")).as_bytes();
        let content = if publication["delta"] == true {
            self.deltas += 1;
            tidings_fossil::apply(self.base.as_deref().expect("a base"), data, 1 << 20).expect("a delta")
        } else {
            data.to_vec()
        };
        self.bodies.push(String::from_utf8(content.clone()).expect("UTF-8"));
        self.base = Some(content);
    }

    /// Reads until this is the last body.
    fn read_until(&mut self, body: &str) {
        while self.bodies.last().is_none_or(|last| last != body) {
            assert!(self.take().is_none());
        }
    }
}

/// A document of which one of 20 entries changes with each number.
fn document(number: usize) -> String {
    let entry = |index: usize| {
        let changes = (number + 19 - index) / 20;
        format!("{{\"team\":\"Ø{index}\",\"goals\":{changes},\"text\":\"é\\\"中{}\"}}", changes % 7)
    };
    format!("[{}]", (0..20).map(entry).collect::<Vec<_>>().join(","))
}

fn publish(node: &TestNode, bodies: impl IntoIterator<Item = String>) {
    let command = |body: String| vec![b"PUBLISH".to_vec(), b"news".to_vec(), body.into_bytes()];
    let commands: Vec<_> = bodies.into_iter().map(command).collect();
    node.resp().pipeline(&commands);
}

/// Subscribers come and go while a document is published, one at a time and in batches.
fn applied_deltas_are_the_publications(node: &TestNode) {
    let mut reader = Subscriber::connect(node);
    let mut plain = node.line();
    plain.send("{\"id\":1,\"connect\":{}}");
    plain.line();
    plain.send("{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}");
    plain.line();
    reader.subscribe(json!({}));
    let mut guests: Vec<(usize, Subscriber)> = Vec::new();
    let mut published = 0;
    for round in 0..40 {
        let count = [1, 2, 1, 30][round % 4];
        publish(node, (published..published + count).map(document));
        published += count;
        // Everything before a guest subscribes is delivered, so that it gets what follows.
        reader.read_until(&document(published - 1));
        if round % 3 == 0 {
            let mut guest = Subscriber::connect(node);
            guest.subscribe(json!({}));
            guests.push((published, guest));
        }
        if round % 7 == 6 {
            let (from, mut guest) = guests.remove(0);
            guest.unsubscribe();
            assert_eq!(guest.bodies, (from..published).map(document).collect::<Vec<_>>());
        }
    }
    for (from, mut guest) in guests {
        if from < published {
            guest.read_until(&document(published - 1));
        }
        assert_eq!(guest.bodies, (from..published).map(document).collect::<Vec<_>>());
        assert!(guest.deltas + 1 >= guest.bodies.len(), "{} of {}", guest.deltas, guest.bodies.len());
    }
    assert_eq!(reader.bodies, (0..published).map(document).collect::<Vec<_>>());
    assert_eq!(reader.deltas, published - 1);
    for number in 0..published {
        let push: Value = serde_json::from_str(&plain.line()).expect("JSON");
        assert_eq!(
            push["push"]["pub"]["data"].to_string(),
            serde_json::from_str::<Value>(&document(number)).expect("JSON").to_string()
        );
        assert_eq!(push["push"]["pub"]["delta"], Value::Null);
    }
    let (before, after) = (node.sum(|m| &m.deltas.plain), node.sum(|m| &m.deltas.compressed));
    assert!(after * 4 < before, "{before} bytes became {after}");
}

#[test]
fn applied_deltas_are_the_publications_with_the_memory_broker() {
    applied_deltas_are_the_publications(&start_quiet_node(OPTIONS));
}

#[test]
fn applied_deltas_are_the_publications_with_redis() {
    let redis = RedisServer::start();
    let node = start_quiet_node(&[OPTIONS, &[("broker", &redis.url())]].concat());
    node.wait_until_ready();
    applied_deltas_are_the_publications(&node);
}

#[test]
fn a_publication_that_is_not_marked_is_sent_in_full_and_is_the_base_of_the_next_one() {
    let node = start_quiet_node(&[OPTIONS, &[("channel.without_namespace.delta_publish", "false")]].concat());
    let mut reader = Subscriber::connect(&node);
    reader.subscribe(json!({}));
    let api = |number: usize, delta: bool| {
        let data: Value = serde_json::from_str(&document(number)).expect("JSON");
        let body = json!({"channel": "news", "data": data, "delta": delta}).to_string();
        let answer = node.post("/api/publish", &[], &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    for number in 0..3 {
        api(number, false);
    }
    publish(&node, ["plain".to_owned()]);
    api(3, true);
    api(4, false);
    api(5, true);
    publish(&node, ["end".to_owned()]);
    reader.read_until("\"end\"");
    let same = |number: usize| serde_json::from_str::<Value>(&document(number)).expect("JSON").to_string();
    let expected =
        [same(0), same(1), same(2), "\"plain\"".into(), same(3), same(4), same(5), "\"end\"".into()];
    assert_eq!(reader.bodies, expected);
    // The document has nothing in common with `plain`, so the delta would be longer.
    assert_eq!(reader.deltas, 1);
}

#[test]
fn a_marked_publication_is_a_delta_on_every_node() {
    let redis = RedisServer::start();
    let unmarked = ("channel.without_namespace.delta_publish", "false");
    let nodes = [(); 2].map(|()| {
        let node = start_quiet_node(&[OPTIONS, &[unmarked, ("broker", &redis.url())]].concat());
        node.wait_until_ready();
        node
    });
    let mut readers: Vec<_> = nodes.iter().map(Subscriber::connect).collect();
    readers.iter_mut().for_each(|reader| _ = reader.subscribe(json!({})));
    let body = |number: usize| json!({"n": number, "same": "x".repeat(100)});
    for number in 0..10 {
        let request = json!({"channel": "news", "data": body(number), "delta": number % 2 == 1});
        let answer = nodes[number % 3 % 2].post("/api/publish", &[], &request.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    for reader in &mut readers {
        reader.read_until(&body(9).to_string());
        assert_eq!(reader.bodies, (0..10).map(|number| body(number).to_string()).collect::<Vec<_>>());
        assert_eq!(reader.deltas, 5);
    }
}

#[test]
fn a_selection_has_a_base_of_its_own() {
    let node = start_quiet_node(OPTIONS);
    let mut subscribers: Vec<_> = ["red", "blue"]
        .into_iter()
        .map(|team| {
            let mut subscriber = Subscriber::connect(&node);
            subscriber.subscribe(json!({"tf": {"key": "team", "cmp": "eq", "val": team}}));
            (team, subscriber)
        })
        .collect();
    for number in 0..30 {
        let team = if number % 3 == 0 { "red" } else { "blue" };
        let body = json!({"channel": "news", "data": {"n": number, "same": "x".repeat(100)}, "tags": {"team": team}});
        assert_eq!(node.post("/api/publish", &[], &body.to_string()).status, 200);
    }
    for (team, subscriber) in &mut subscribers {
        let expected: Vec<_> = (0..30)
            .filter(|n| (n % 3 == 0) == (*team == "red"))
            .map(|n| json!({"n": n, "same": "x".repeat(100)}).to_string())
            .collect();
        subscriber.read_until(expected.last().expect("some"));
        assert_eq!(subscriber.bodies, expected);
        assert_eq!(subscriber.deltas, expected.len() - 1);
    }
}

#[test]
fn recovered_publications_are_sent_in_full_and_deltas_follow() {
    let history: &[_] = &[
        ("channel.without_namespace.history_size", "100"),
        ("channel.without_namespace.history_ttl", "1m"),
        ("channel.without_namespace.force_recovery", "true"),
    ];
    let node = start_quiet_node(&[OPTIONS, history].concat());
    let mut first = Subscriber::connect(&node);
    let position = first.subscribe(json!({}));
    publish(&node, (0..5).map(document));
    first.read_until(&document(4));
    let mut second = Subscriber::connect(&node);
    let result = second.subscribe(json!({"recover": true, "offset": 2, "epoch": position["epoch"]}));
    assert_eq!((&result["recovered"], second.bodies.len(), second.deltas), (&json!(true), 3, 0));
    publish(&node, (5..8).map(document));
    for subscriber in [&mut first, &mut second] {
        subscriber.read_until(&document(7));
    }
    assert_eq!(second.bodies, (2..8).map(document).collect::<Vec<_>>());
    assert_eq!(second.deltas, 2, "the first one after the recovery is in full");
    assert_eq!(first.bodies, (0..8).map(document).collect::<Vec<_>>());
}

#[test]
fn a_slow_subscriber_gets_applicable_deltas_and_the_newest_publication_in_full() {
    for policy in ["latest", "drop_oldest"] {
        let slow: &[_] = &[
            ("client.queue_max_size", "65536"),
            ("channel.without_namespace.slow_consumer", policy),
            ("client.slow_close_delay", "60s"),
        ];
        let node = start_quiet_node(&[OPTIONS, slow].concat());
        let mut reader = Subscriber::connect(&node);
        reader.subscribe(json!({}));
        // Deltas of about a third of their publications, so that the socket's buffer fills up soon.
        let body = |n: usize| {
            let letter = |index: usize| {
                char::from(b'a' + ((index * 31 + n * if index % 40 < 20 { 7 } else { 0 }) % 26) as u8)
            };
            format!("\"{n} {}\"", (0..3000).map(letter).collect::<String>())
        };
        let mut published = 0;
        let dropped = || {
            tidings_hub::Overflow::COUNT > 0
                && node.sum(|m| &m.dropped[tidings_hub::Overflow::Unsubscribe]) > 0
        };
        while !dropped() {
            assert!(published < 200_000, "nothing was dropped");
            publish(&node, (published..published + 100).map(body));
            published += 100;
        }
        // Every delta applies: each publication is one of them, in order.
        while reader.ended.is_none() {
            assert!(reader.take().is_none());
        }
        assert_eq!(reader.ended, Some(2500));
        let numbers: Vec<usize> = reader
            .bodies
            .iter()
            .map(|text| {
                let number = text[1..text.find(' ').expect("a number")].parse().expect("a number");
                assert_eq!(*text, body(number));
                number
            })
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        let gaps = numbers.windows(2).filter(|pair| pair[0] + 1 < pair[1]).count();
        assert_eq!(gaps, usize::from(policy == "latest"), "the newest one alone is kept with `latest`");
        assert!(reader.deltas > 0);
        // It subscribes again, and gets the next one in full.
        let before = reader.bodies.len();
        reader.subscribe(json!({}));
        publish(&node, [body(published)]);
        reader.read_until(&body(published));
        assert_eq!(reader.bodies.len(), before + 1);
    }
}
