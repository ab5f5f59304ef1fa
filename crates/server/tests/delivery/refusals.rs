//! A Redis whose rules change, or that takes no writes: what clients, `/ready` and the metrics show.

use serde_json::{Value, json};
use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::up::{Up, quiet};

fn say(client: &mut LineClient, command: &Value) {
    client.send(&command.to_string());
}

/// The next message of the client protocol that is no ping.
fn next(client: &mut LineClient) -> Value {
    loop {
        let message: Value = serde_json::from_str(&client.line()).expect("JSON");
        if message != json!({}) {
            return message;
        }
    }
}

fn json_client(node: &Up) -> LineClient {
    let mut client = node.line();
    say(&mut client, &json!({"id": 1, "connect": {}}));
    assert!(next(&mut client)["connect"]["client"].is_string());
    client
}

fn ready(node: &Up) -> Value {
    let response = node.get("/ready");
    let body: Value = serde_json::from_str(&response.body).expect("JSON");
    assert_eq!(body["ready"], response.status == 200);
    body
}

#[test]
fn subscribers_are_told_when_redis_refuses_their_channel_after_a_reconnect_and_go_on_when_it_does_not() {
    let redis = RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "&*", "+@all"]);
    let node = quiet(&[("broker", &format!("redis://ann:pw@{}", redis.addr()))]);
    node.wait_until_ready();
    let mut plain = node.subscriber("news");
    let mut json = json_client(&node);
    say(&mut json, &json!({"id": 2, "subscribe": {"channel": "news"}}));
    assert_eq!(next(&mut json)["id"], 2);

    redis.cli(&["ACL", "SETUSER", "ann", "resetchannels", "&tidings.node.*"]);
    for id in redis.client_ids("tidings-subscriber") {
        redis.cli(&["CLIENT", "KILL", "ID", &id]);
    }
    plain.expect("ERROR 100 broker unavailable: news is interrupted until it is back");
    let push = next(&mut json);
    assert_eq!(push["push"]["unsubscribe"]["code"], 2500, "{push}");
    say(&mut json, &json!({"id": 3, "subscribe": {"channel": "news"}}));
    let refused = next(&mut json);
    assert_eq!((&refused["error"]["code"], &refused["error"]["temporary"]), (&json!(100), &json!(true)));
    let mut not_ready = Value::Null;
    wait_until(PATIENCE, "word of it in /ready", || {
        not_ready = ready(&node);
        not_ready["part"] == "subscriptions"
    });
    assert!(!not_ready.to_string().contains("news"), "{not_ready}");
    assert!(node.get("/metrics").body.contains("\ntidings_broker_topics_refused 1\n"));
    // One that was never permitted is a permission, and does not make the node unready.
    say(&mut json, &json!({"id": 4, "subscribe": {"channel": "other"}}));
    let refused = next(&mut json);
    assert_eq!(refused["error"], json!({"code": 103, "message": "permission denied"}));
    assert!(node.get("/metrics").body.contains("\ntidings_broker_topics_refused 1\n"));

    redis.cli(&["ACL", "SETUSER", "ann", "allchannels"]);
    node.wait_until_ready();
    assert!(node.get("/metrics").body.contains("\ntidings_broker_topics_refused 0\n"));
    say(&mut json, &json!({"id": 5, "subscribe": {"channel": "news"}}));
    assert_eq!(next(&mut json)["id"], 5);
    redis.cli(&["PUBLISH", "news", "again"]);
    plain.expect("MESSAGE news again");
    assert_eq!(next(&mut json)["push"]["channel"], "news");
}

#[test]
fn ready_names_the_part_that_does_not_work() {
    let redis = RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "&*", "+@all"]);
    let node = quiet(&[
        ("broker", &format!("redis://ann:pw@{}", redis.addr())),
        ("ready.canary_interval", "50ms"),
        ("ready.canary_limit", "400ms"),
        ("channel.without_namespace.history_size", "10"),
        ("channel.without_namespace.history_ttl", "60s"),
        ("channel.without_namespace.presence", "true"),
    ]);
    node.wait_until_ready();
    let part = |rules: &[&str], part: &str| {
        let all = [&["ACL", "SETUSER", "ann", "allkeys", "allchannels", "+@all"][..], rules].concat();
        redis.cli(&all);
        wait_until(PATIENCE, part, || ready(&node)["part"] == part);
        redis.cli(&["ACL", "SETUSER", "ann", "allkeys", "allchannels", "+@all"]);
        node.wait_until_ready();
    };
    // A function needs what its commands need.
    part(&["-publish"], "publish");
    part(&["-xadd"], "publish_with_history");
    part(&["-xrevrange"], "history");
    part(&["-zadd"], "presence");
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let mut reason = String::new();
    wait_until(PATIENCE, "a full Redis to show", || {
        let not_ready = ready(&node);
        reason = not_ready["reason"].to_string();
        not_ready["part"] == "publish_with_history" || not_ready["part"] == "presence"
    });
    assert!(reason.contains("(OOM)") && !reason.contains("maxmemory"), "{reason}");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    node.wait_until_ready();
}

#[test]
fn after_a_short_restart_of_redis_nothing_counts_that_was_proved_before() {
    let mut redis = RedisServer::start();
    let node = quiet(&[
        ("broker", &redis.url()),
        // Long enough for what was proved before to count for the whole test, if it did.
        ("ready.canary_limit", "1m"),
        ("ready.canary_interval", "50ms"),
        ("channel.without_namespace.history_size", "10"),
        ("channel.without_namespace.history_ttl", "60s"),
    ]);
    node.wait_until_ready();
    redis.kill();
    wait_until(PATIENCE, "the server to notice", || ready(&node)["part"] == "broker");
    // It comes back, and takes no writes.
    redis.restart_with(&["--maxmemory", "1"]);
    let mut seen = Vec::new();
    wait_until(PATIENCE, "the part that does not work", || {
        let now = ready(&node);
        seen.push(now.clone());
        assert_eq!(now["ready"], false, "{seen:?}");
        now["part"] == "publish_with_history"
    });
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    node.wait_until_ready();
}

#[test]
fn clients_with_a_history_are_moved_one_by_one_when_redis_is_away_for_long_and_others_stay() {
    const CLIENTS: usize = 20;
    let mut redis = RedisServer::start();
    let node = quiet(&[
        ("broker", &redis.url()),
        ("client.broker_down_delay", "1s"),
        ("channel.namespaces", "hist"),
        ("channel.namespaces.hist.history_size", "10"),
        ("channel.namespaces.hist.history_ttl", "60s"),
    ]);
    node.wait_until_ready();
    let mut stays = node.subscriber("news");
    let mut plain = node.subscriber("hist:b");
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = json_client(&node);
            for (id, channel) in [(2, "hist:a"), (3, "hist:b"), (4, "news")] {
                say(&mut client, &json!({"id": id, "subscribe": {"channel": channel}}));
                assert!(next(&mut client)["subscribe"].is_object());
            }
            client
        })
        .collect();
    // A short absence moves nobody.
    redis.kill();
    wait_until(PATIENCE, "the server to notice", || ready(&node)["part"] == "broker");
    redis.restart();
    node.wait_until_ready();
    assert!(node.get("/metrics").body.contains("\ntidings_clients_moved_total 0\n"));
    assert_eq!(node.connections(), CLIENTS + 2);

    redis.kill();
    let moved = |node: &Up| usize::try_from(node.metric("tidings_clients_moved_total")).expect("a number");
    let mut seen = Vec::new();
    wait_until(PATIENCE, "all to be moved", || {
        seen.push(moved(&node));
        seen.last() == Some(&(CLIENTS + 1))
    });
    assert!(seen.iter().any(|count| (3..CLIENTS - 3).contains(count)), "all at once: {seen:?}");
    for client in &mut clients {
        let push = next(client);
        assert_eq!(push["push"]["disconnect"]["code"], 3011, "{push}");
        client.expect_closed();
    }
    plain.expect("ERROR 3011 force reconnect: broker unavailable");
    stays.send("PING");
    stays.expect("PONG");
    // Those that come meanwhile are served, as far as that is possible, and stay.
    let mut new = json_client(&node);
    say(&mut new, &json!({"id": 2, "subscribe": {"channel": "hist:a"}}));
    let refused = next(&mut new);
    assert_eq!((&refused["error"]["code"], &refused["error"]["temporary"]), (&json!(100), &json!(true)));
    drop((clients, plain));
    wait_until(PATIENCE, "only those that stay", || node.connections() == 2);
}
