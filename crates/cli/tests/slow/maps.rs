//! Presence as a map, with a node that is killed. It takes longer than `map.key_ttl` of presence, which is at least 50 seconds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_testkit::{LineClient, PATIENCE, RedisServer, Tidings, post_http, wait_until};

use crate::TIDINGS;

const KEY_TTL: Duration = Duration::from_secs(50);

fn node(redis: &RedisServer) -> Tidings {
    let settings = [
        "client.ping_interval=10m",
        "channel.namespaces=room,clients,users",
        "channel.namespaces.room.map_clients_presence_channel_prefix=clients:",
        "channel.namespaces.room.map_users_presence_channel_prefix=users:",
        "channel.namespaces.clients.subscription_type=map_clients",
        "channel.namespaces.clients.map.mode=recoverable",
        "channel.namespaces.clients.map.key_ttl=50s",
        "channel.namespaces.users.subscription_type=map_users",
        "channel.namespaces.users.map.mode=recoverable",
    ];
    let url = redis.url();
    let mut flags = vec!["--broker", &url];
    flags.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    Tidings::start(TIDINGS, &flags)
}

/// A client that speaks the client protocol as lines of JSON.
struct Client {
    lines: LineClient,
    id: String,
}

impl Client {
    fn connected(node: &Tidings) -> Self {
        let mut client = Self { lines: LineClient::connect(node.tcp()), id: String::new() };
        client.id =
            client.request(json!({"connect": {}}))["connect"]["client"].as_str().expect("an id").into();
        client
    }

    /// Sends a command and returns the reply.
    fn request(&mut self, mut command: Value) -> Value {
        command["id"] = 1.into();
        self.lines.send(&command.to_string());
        loop {
            let line: Value = serde_json::from_str(&self.lines.line()).expect("JSON");
            if line["id"] == 1 {
                assert!(line.get("error").is_none(), "{line}");
                return line;
            }
        }
    }
}

fn keys(node: &Tidings) -> Vec<String> {
    let body = json!({"channel": "clients:room:1", "limit": 100}).to_string();
    let reply = post_http(node.http(), "/api/map_read_state", &[], body);
    let reply: Value = serde_json::from_str(&reply.body).expect("JSON");
    let entries = reply["result"]["entries"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["key"].as_str().expect("a key").to_owned()).collect()
}

#[test]
#[ignore = "a minute, because of the least key_ttl of presence: make test-slow"]
fn the_clients_of_a_killed_node_leave_the_maps_of_presence_within_their_time_to_live() {
    let redis = RedisServer::start();
    let (dying, lives) = (node(&redis), node(&redis));
    let room = json!({"subscribe": {"channel": "room:1"}});
    let (mut lost, mut stays) = (Client::connected(&dying), Client::connected(&lives));
    lost.request(room.clone());
    stays.request(room);
    wait_until(PATIENCE, "both clients", || keys(&lives).len() == 2);
    let mut follower = Client::connected(&lives);
    let map = |more: Value| {
        let mut fields = json!({"channel": "clients:room:1", "type": 2});
        fields.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"subscribe": fields})
    };
    let state = follower.request(map(json!({"phase": 2})))["subscribe"].clone();
    assert_eq!(state["state"].as_array().map(Vec::len), Some(2), "{state}");
    follower.request(map(json!({"phase": 1, "offset": state["offset"], "epoch": state["epoch"]})));
    drop(dying);
    let killed = Instant::now();
    let push = follower.lines.line_within(KEY_TTL + PATIENCE).expect("a removal");
    let push: Value = serde_json::from_str(&push).expect("JSON");
    let publication = &push["push"]["pub"];
    assert_eq!((&publication["key"], &publication["removed"]), (&json!(lost.id), &json!(true)), "{push}");
    assert!(killed.elapsed() < KEY_TTL + Duration::from_secs(5), "{:?}", killed.elapsed());
    assert_eq!(keys(&lives), [stays.id]);
    follower.lines.expect_silence(Duration::from_secs(2));
}
