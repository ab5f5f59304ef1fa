//! Effects on clients, `/ready` and metrics when the access rules of Redis change or it rejects writes.

use serde_json::{Value, json};
use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::node::{TestNode, start_quiet_node};

fn send(client: &mut LineClient, command: &Value) {
    client.send(&command.to_string());
}

/// The next message of the client protocol that is not a ping.
fn next(client: &mut LineClient) -> Value {
    loop {
        let message: Value = serde_json::from_str(&client.line()).expect("JSON");
        if message != json!({}) {
            return message;
        }
    }
}

fn json_client(node: &TestNode) -> LineClient {
    let mut client = node.line();
    send(&mut client, &json!({"id": 1, "connect": {}}));
    assert!(next(&mut client)["connect"]["client"].is_string());
    client
}

fn ready(node: &TestNode) -> Value {
    let response = node.get("/ready");
    let body: Value = serde_json::from_str(&response.body).expect("JSON");
    assert_eq!(body["ready"], response.status == 200);
    body
}

#[test]
fn a_channel_that_redis_rejects_after_a_reconnect_is_interrupted_until_redis_permits_it() {
    let redis = RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "&*", "+@all"]);
    let node = start_quiet_node(&[("broker", &format!("redis://ann:pw@{}", redis.addr()))]);
    node.wait_until_ready();
    let mut plain = node.subscriber("news");
    let mut json = json_client(&node);
    send(&mut json, &json!({"id": 2, "subscribe": {"channel": "news"}}));
    assert_eq!(next(&mut json)["id"], 2);

    redis.cli(&["ACL", "SETUSER", "ann", "resetchannels", "&tidings.node.*"]);
    for id in redis.client_ids("tidings-subscriber") {
        redis.cli(&["CLIENT", "KILL", "ID", &id]);
    }
    plain.expect("ERROR 100 broker unavailable: news is interrupted until it is back");
    let push = next(&mut json);
    assert_eq!(push["push"]["unsubscribe"]["code"], 2500, "{push}");
    send(&mut json, &json!({"id": 3, "subscribe": {"channel": "news"}}));
    let refused = next(&mut json);
    assert_eq!((&refused["error"]["code"], &refused["error"]["temporary"]), (&json!(100), &json!(true)));
    let mut not_ready = Value::Null;
    wait_until(PATIENCE, "the failing part in /ready", || {
        not_ready = ready(&node);
        not_ready["part"] == "subscriptions"
    });
    assert!(!not_ready.to_string().contains("news"), "{not_ready}");
    assert!(node.get("/metrics").body.contains("\ntidings_broker_topics_refused 1\n"));
    // A channel that was never permitted is an error for its client only, and the node stays ready.
    send(&mut json, &json!({"id": 4, "subscribe": {"channel": "other"}}));
    let refused = next(&mut json);
    assert_eq!(refused["error"], json!({"code": 103, "message": "permission denied"}));
    assert!(node.get("/metrics").body.contains("\ntidings_broker_topics_refused 1\n"));

    redis.cli(&["ACL", "SETUSER", "ann", "allchannels"]);
    node.wait_until_ready();
    assert!(node.get("/metrics").body.contains("\ntidings_broker_topics_refused 0\n"));
    send(&mut json, &json!({"id": 5, "subscribe": {"channel": "news"}}));
    assert_eq!(next(&mut json)["id"], 5);
    redis.cli(&["PUBLISH", "news", "again"]);
    plain.expect("MESSAGE news again");
    assert_eq!(next(&mut json)["push"]["channel"], "news");
}

#[test]
fn ready_names_the_failing_part() {
    let redis = RedisServer::start_with(&["--user", "ann", "on", ">pw", "~*", "&*", "+@all"]);
    let node = start_quiet_node(&[
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
    // A function needs the permissions of its commands.
    part(&["-publish"], "publish");
    part(&["-xadd"], "publish_with_history");
    part(&["-xrevrange"], "history");
    part(&["-zadd"], "presence");
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let mut reason = String::new();
    wait_until(PATIENCE, "the failing part of a full Redis", || {
        let not_ready = ready(&node);
        reason = not_ready["reason"].to_string();
        not_ready["part"] == "publish_with_history" || not_ready["part"] == "presence"
    });
    assert!(reason.contains("(OOM)") && !reason.contains("maxmemory"), "{reason}");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    node.wait_until_ready();
}

#[test]
fn after_a_short_restart_of_redis_earlier_canaries_do_not_count() {
    let mut redis = RedisServer::start();
    let node = start_quiet_node(&[
        ("broker", &redis.url()),
        // Longer than the test, so that earlier successes would count if they were not discarded.
        ("ready.canary_limit", "1m"),
        ("ready.canary_interval", "50ms"),
        ("channel.without_namespace.history_size", "10"),
        ("channel.without_namespace.history_ttl", "60s"),
    ]);
    node.wait_until_ready();
    redis.kill();
    wait_until(PATIENCE, "the server to notice", || ready(&node)["part"] == "broker");
    // After the restart it rejects writes.
    redis.restart_with(&["--maxmemory", "1"]);
    let mut seen = Vec::new();
    wait_until(PATIENCE, "the failing part", || {
        let now = ready(&node);
        seen.push(now.clone());
        assert_eq!(now["ready"], false, "{seen:?}");
        now["part"] == "publish_with_history"
    });
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    node.wait_until_ready();
}

#[test]
fn after_a_long_outage_of_redis_only_clients_with_a_history_are_moved_one_by_one() {
    const CLIENTS: usize = 20;
    let mut redis = RedisServer::start();
    let node = start_quiet_node(&[
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
                send(&mut client, &json!({"id": id, "subscribe": {"channel": channel}}));
                assert!(next(&mut client)["subscribe"].is_object());
            }
            client
        })
        .collect();
    // After a short outage no client is moved.
    redis.kill();
    wait_until(PATIENCE, "the server to notice", || ready(&node)["part"] == "broker");
    redis.restart();
    node.wait_until_ready();
    assert!(node.get("/metrics").body.contains("\ntidings_clients_moved_total 0\n"));
    assert_eq!(node.connections(), CLIENTS + 2);

    redis.kill();
    let moved =
        |node: &TestNode| usize::try_from(node.metric("tidings_clients_moved_total")).expect("a number");
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
    // Clients that connect during the outage are served as far as possible, and are not moved.
    let mut new = json_client(&node);
    send(&mut new, &json!({"id": 2, "subscribe": {"channel": "hist:a"}}));
    let refused = next(&mut new);
    assert_eq!((&refused["error"]["code"], &refused["error"]["temporary"]), (&json!(100), &json!(true)));
    drop((clients, plain));
    wait_until(PATIENCE, "only clients that were not moved", || node.connections() == 2);
}
