//! Attackers that can read and write the deployment's Redis but do not have its keys.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidings_testkit::{LineClient, PATIENCE, RedisServer, Reply, RespClient, wait_until};

use crate::api_server::{ApiServer, USERS};
use crate::foreign_node::ForeignNode;

const CONTROL: &str = "tidings.node.control";

fn metric(server: &ApiServer, sample: &str) -> u64 {
    let text = server.get("/metrics").body;
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{sample} is not in\n{text}")).parse().expect("a number")
}

fn rejected(server: &ApiServer, reason: &str) -> u64 {
    metric(server, &format!("tidings_nodes_rejected_total{{reason=\"{reason}\"}}"))
}

/// Opens a stream; its later commands use `/emulation`. Returns the connection and the result of `connect`.
fn stream(server: &ApiServer) -> (LineClient, Value) {
    // A response to HTTP/1.0 has no chunked encoding.
    let mut stream = LineClient::connect(server.http());
    let connect = r#"{"id":1,"connect":{}}"#;
    let length = connect.len();
    stream.send_bytes(
        format!("POST /connection/http_stream HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{connect}")
            .as_bytes(),
    );
    while !stream.line().is_empty() {}
    let mut line: Value = serde_json::from_str(&stream.line()).expect("JSON");
    (stream, line["connect"].take())
}

/// A client of Redis that receives the messages between nodes.
fn eavesdropper(redis: &RedisServer) -> RespClient {
    let mut client = redis.client();
    client.command(&["PSUBSCRIBE", "tidings.node.control*"]);
    client
}

/// The channel and the body of the next message.
fn next_message(eavesdropper: &mut RespClient) -> (String, Vec<u8>) {
    match eavesdropper.reply() {
        Reply::Array(parts) => match &parts[..] {
            [_, _, channel, Reply::Bulk(body)] => (channel.text(), body.clone()),
            other => panic!("no message by a pattern: {other:?}"),
        },
        other => panic!("no message: {other:?}"),
    }
}

#[test]
fn names_of_channels_at_redis_do_not_reveal_session_secrets() {
    let redis = RedisServer::start();
    let server = ApiServer::with(&[&format!("broker={}", redis.url())]);
    let (_stream, connected) = stream(&server);
    let session = connected["session"].as_str().expect("a secret");
    let address = session.rsplit_once('.').expect("a MAC at its end").0;
    let numbers: Vec<u32> = address.split('.').map(|n| u32::from_str_radix(n, 16).expect("hex")).collect();
    // Every number in a channel's name, in every rotation, as the seed of an unkeyed hash.
    let channels = redis.cli(&["PUBSUB", "CHANNELS", "tidings.node.*"]).texts();
    assert!(!channels.is_empty());
    for name in channels {
        let Some(digits) = name.rsplit('.').next().and_then(|end| end.get(..16)) else { continue };
        let Ok(seed) = u64::from_str_radix(digits, 16) else { continue };
        for turn in 0..64 {
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            let half = |salt: u8| {
                let seed = seed.rotate_left(turn);
                u128::from(hasher.hash_one((seed, numbers[0], numbers[1], numbers[2], salt)))
            };
            let guess = format!("{address}.{:032x}", (half(3) << 64) | half(4));
            assert_ne!(guess, session, "{name} reveals the secret");
        }
    }
    let public = connected["client"].as_str().expect("an id").replace('-', "");
    assert!(!session.contains(&public));
}

#[test]
fn commands_and_tokens_between_nodes_cannot_be_read_at_redis() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let servers = ["ann", "bob"].map(|_| {
        ApiServer::with(&[
            &*broker,
            "http_api.key=sesame",
            "client.allow_anonymous_connect_without_token=true",
        ])
    });
    for server in &servers {
        wait_until(PATIENCE, "both nodes in the list", || metric(server, "tidings_nodes") == 2);
    }
    let mut eavesdropper = eavesdropper(&redis);
    let (mut stream, connected) = stream(&servers[0]);
    let own = format!("{CONTROL}.{}", connected["node"].as_str().expect("a node"));
    let command =
        json!({"id": 2, "subscribe": {"channel": "news", "token": "a-token-of-a-user"}}).to_string();
    let body = json!({"session": connected["session"], "node": connected["node"], "data": command});
    assert_eq!(servers[1].post("/emulation", &[], &body.to_string()).status, 204);
    let answer: Value = serde_json::from_str(&stream.line()).expect("JSON");
    assert_eq!(answer["id"], 2, "the command arrived: {answer}");
    let sealed = loop {
        let (channel, body) = next_message(&mut eavesdropper);
        if channel == own {
            break body;
        }
    };
    let secret = connected["session"].as_str().expect("a secret");
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &command);
    for part in ["a-token-of-a-user", secret, &base64[..40], "subscribe", "session"] {
        assert!(!sealed.windows(part.len()).any(|window| window == part.as_bytes()), "{part} can be read");
    }
}

#[test]
fn forged_and_repeated_messages_are_counted_and_change_nothing() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let server = ApiServer::with(&[&[&*broker], &USERS[..]].concat());
    let mut member = server.user("ann");
    let command = json!({"say": {"order": {"user": "ann", "client": null, "session": null,
        "order": {"disconnect": {"code": 4501, "reason": "forged", "except": []}}}}});
    let publish = |body: &[u8]| {
        redis.client().command(&[&b"PUBLISH"[..], CONTROL.as_bytes(), body]);
    };
    let key = |uid, key| ForeignNode::new(uid, "client.token.hmac_secret_key", key);
    let gone = json!({"say": {"gone": {}}});

    publish(command.to_string().as_bytes());
    wait_until(PATIENCE, "a plain command to be counted", || rejected(&server, "unsealed") == 1);
    publish(&key(1, "other").seal(CONTROL, &command));
    wait_until(PATIENCE, "a command with another key to be counted", || {
        rejected(&server, "other_secret") == 1
    });
    let mut changed = key(2, "users").seal(CONTROL, &command);
    *changed.last_mut().expect("a tag") ^= 1;
    publish(&changed);
    publish(&key(3, "users").seal("tidings.node.control.elsewhere", &command));
    wait_until(PATIENCE, "forged commands to be counted", || rejected(&server, "forged") == 2);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis();
    let old = u64::try_from(now).expect("a time of this era") - 61_000;
    publish(&key(4, "users").seal_at(CONTROL, &command, old));
    wait_until(PATIENCE, "an old command to be counted", || rejected(&server, "stale") == 1);
    member.expect_nothing();

    // A message of another node, repeated by an attacker.
    let harmless = key(5, "users").seal(CONTROL, &gone);
    publish(&harmless);
    publish(&harmless);
    wait_until(PATIENCE, "a repeated message to be counted", || rejected(&server, "replayed") == 1);
    // A new authentic command takes effect.
    publish(&key(6, "users").seal(CONTROL, &command));
    assert_eq!(member.push("disconnect").1["code"], 4501);
    member.expect_close();
}

#[test]
fn a_replayed_command_has_no_effect() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let server = ApiServer::with(&[&[&*broker], &USERS[..]].concat());
    let mut eavesdropper = eavesdropper(&redis);
    // The second command starts after the first is in the mailbox of every shard, so that the first does not concern the new
    // connection of its user.
    let mut members = ["ann", "bob"].map(|user| server.user(user));
    for user in ["ann", "bob"] {
        server.call("disconnect", &json!({"user": user}));
    }
    for member in &mut members {
        member.push("disconnect");
        member.expect_close();
    }
    let mut again = server.user("ann");
    // The overheard messages include announcements.
    let mut overheard = Vec::new();
    redis.client().command(&["PUBLISH", CONTROL, "the end"]);
    loop {
        let (_, body) = next_message(&mut eavesdropper);
        if body == b"the end" {
            break;
        }
        overheard.push(body);
    }
    assert!(!overheard.is_empty());
    for body in &overheard {
        redis.client().command(&[&b"PUBLISH"[..], CONTROL.as_bytes(), body]);
    }
    let count = overheard.len() as u64;
    wait_until(PATIENCE, "repeated messages to be counted", || rejected(&server, "replayed") == count);
    again.expect_nothing();
}

#[test]
fn nodes_with_different_secrets_reject_and_count_each_other_s_messages() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let secrets = ["cluster.secret=0123456789abcdef", "cluster.secret=fedcba9876543210"];
    let servers = secrets.map(|secret| ApiServer::with(&[&[&*broker, secret], &USERS[..]].concat()));
    let mut member = servers[1].user("ann");
    servers[0].call("disconnect", &json!({"user": "ann"}));
    for server in &servers {
        wait_until(PATIENCE, "messages with another secret to be counted", || {
            rejected(server, "other_secret") > 0
        });
        assert_eq!(metric(server, "tidings_nodes"), 1);
    }
    member.expect_nothing();
}
