//! Delivery with a real Redis.

use std::thread;
use std::time::Duration;

use tidings_server::Readiness;
use tidings_testkit::{LineClient, PATIENCE, Proxy, RedisServer, Reply, wait_until};

use crate::node::{TestNode, start_node, start_quiet_node};

fn node_on(redis: &RedisServer) -> TestNode {
    let node = start_quiet_node(&[("broker", &redis.url())]);
    node.wait_until_ready();
    node
}

/// Publishes `0..count` to `channel` at Redis itself, pipelined, from a thread.
fn publish_numbers(redis: &RedisServer, channel: &'static str, count: usize) -> thread::JoinHandle<()> {
    let mut client = redis.client();
    thread::spawn(move || {
        let numbers: Vec<usize> = (0..count).collect();
        for chunk in numbers.chunks(500) {
            let commands: Vec<Vec<Vec<u8>>> = chunk
                .iter()
                .map(|n| vec![b"PUBLISH".to_vec(), channel.into(), n.to_string().into_bytes()])
                .collect();
            client.pipeline(&commands);
        }
    })
}

fn expect_numbers(client: &mut LineClient, channel: &str, count: usize) {
    for n in 0..count {
        client.expect(&format!("MESSAGE {channel} {n}"));
    }
}

#[test]
fn a_publication_of_redis_cli_arrives_on_the_line_port() {
    let redis = RedisServer::start();
    let node = start_node(&[("broker", &redis.url())]);
    node.wait_until_ready();
    let mut client = node.line();
    client.send("hello");
    client.expect("hello");
    wait_until(PATIENCE, "the automatic subscription at Redis", || numsub(&redis, "updates") == 1);
    assert_eq!(redis.cli(&["PUBLISH", "updates", "hello world"]), Reply::Int(1));
    client.expect("hello world");
}

#[test]
fn every_subscriber_on_every_node_gets_every_message_once_and_in_order() {
    const MESSAGES: usize = 3_000;
    let redis = RedisServer::start();
    let nodes = [node_on(&redis), node_on(&redis)];
    let mut clients: Vec<LineClient> = (0..20).map(|i| nodes[i % 2].subscriber("news")).collect();
    let publisher = publish_numbers(&redis, "news", MESSAGES);
    for client in &mut clients {
        expect_numbers(client, "news", MESSAGES);
    }
    publisher.join().expect("published");
    for client in &mut clients {
        client.send("PING");
        client.expect("PONG");
    }
}

#[test]
fn every_one_of_a_thousand_connections_gets_every_message() {
    const CONNECTIONS: usize = 1_000;
    let redis = RedisServer::start();
    let node = node_on(&redis);
    let mut clients: Vec<LineClient> = (0..CONNECTIONS).map(|_| node.subscriber("news")).collect();
    assert_eq!(numsub(&redis, "news"), 1, "one subscription at Redis for all of them");
    let publisher = publish_numbers(&redis, "news", 20);
    for client in &mut clients {
        expect_numbers(client, "news", 20);
    }
    publisher.join().expect("published");
    drop(clients);
    wait_until(PATIENCE, "all connections to be removed", || node.connections() == 0);
}

#[test]
fn a_publication_through_one_node_reaches_the_other_node_and_clients_of_redis() {
    let redis = RedisServer::start();
    let nodes = [node_on(&redis), node_on(&redis)];
    let mut at_redis = redis.client();
    at_redis.command(&["SUBSCRIBE", "news"]);
    let mut there = nodes[1].subscriber("news");
    let mut here = nodes[0].line();
    here.send("PUBLISH news from a line");
    here.expect("CONFIRMED");
    there.expect("MESSAGE news from a line");
    assert_eq!(at_redis.reply().texts(), ["message", "news", "from a line"]);
    // The reply in RESP is the count of Redis: the other node, and the client of Redis.
    assert_eq!(nodes[0].resp().command(&["PUBLISH", "news", "by RESP"]), Reply::Int(2));
    there.expect("MESSAGE news by RESP");
    let mut pattern = nodes[0].resp();
    pattern.command(&["PSUBSCRIBE", "ne*"]);
    redis.cli(&["PUBLISH", "news", "matched"]);
    assert_eq!(pattern.reply().texts(), ["pmessage", "ne*", "news", "matched"]);
}

#[test]
fn a_channel_is_subscribed_at_redis_while_it_has_subscribers_and_shortly_after() {
    let redis = RedisServer::start();
    let node = start_quiet_node(&[("broker", &redis.url()), ("broker_linger", "200ms")]);
    node.wait_until_ready();
    assert_eq!(numsub(&redis, "news"), 0);
    let first = node.subscriber("news");
    let second = node.subscriber("news");
    assert_eq!(numsub(&redis, "news"), 1);
    drop(first);
    drop(second);
    wait_until(PATIENCE, "the channel to be unsubscribed at Redis", || numsub(&redis, "news") == 0);
    let mut third = node.subscriber("news");
    redis.cli(&["PUBLISH", "news", "again"]);
    third.expect("MESSAGE news again");
}

#[test]
fn the_server_starts_without_redis_and_works_when_redis_is_available() {
    let mut redis = RedisServer::absent();
    let node = start_node(&[("broker", &redis.url())]);
    let mut client = node.line();
    client.send("still an echo");
    client.expect("still an echo");
    client.send("SUBSCRIBE news");
    client.expect("ERROR 100 broker unavailable");
    client.send("PUBLISH news x");
    client.expect("ERROR 100 broker unavailable");
    assert_eq!(node.get("/health").status, 200);
    let ready = node.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("\"reason\":\"broker unavailable"), "{ready:?}");
    redis.restart();
    node.wait_until_ready();
    assert_eq!(node.get("/ready").status, 200);
    wait_until(PATIENCE, "the automatic subscription to take effect", || numsub(&redis, "updates") == 1);
    redis.cli(&["PUBLISH", "updates", "at last"]);
    client.expect("at last");
    client.send("SUBSCRIBE news");
    client.expect("CONFIRMED");
}

#[test]
fn after_a_restart_of_redis_every_subscription_is_restored() {
    let mut redis = RedisServer::start();
    let node = node_on(&redis);
    let mut clients: Vec<LineClient> = (0..50).map(|i| node.subscriber(&format!("c{i}"))).collect();
    for _ in 0..2 {
        redis.kill();
        wait_until(PATIENCE, "the server to notice", || matches!(node.readiness(), Readiness::NotReady(_)));
        let mut late = node.line();
        late.send("SUBSCRIBE c1");
        late.expect("ERROR 100 broker unavailable");
        redis.restart();
        node.wait_until_ready();
        wait_until(PATIENCE, "all channels to be subscribed again", || {
            (0..50).all(|i| numsub(&redis, &format!("c{i}")) == 1)
        });
        for (i, client) in clients.iter_mut().enumerate() {
            redis.cli(&["PUBLISH", &format!("c{i}"), "back"]);
            client.expect(&format!("MESSAGE c{i} back"));
        }
    }
}

#[test]
fn ready_is_503_when_redis_stops_responding_on_an_open_connection() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.addr());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let node = start_quiet_node(&[
        ("broker", &url),
        ("ready.canary_interval", "50ms"),
        ("ready.canary_limit", "500ms"),
        ("redis.response_timeout", "30s"),
    ]);
    node.wait_until_ready();
    let mut client = node.subscriber("news");
    proxy.black_hole();
    wait_until(Duration::from_secs(5), "/ready to be 503", || node.get("/ready").status == 503);
    assert_eq!(node.get("/health").status, 200);
    proxy.resume();
    node.wait_until_ready();
    wait_until(PATIENCE, "the channel to be subscribed again", || numsub(&redis, "news") >= 1);
    redis.cli(&["PUBLISH", "news", "through"]);
    client.expect("MESSAGE news through");
}

#[test]
fn different_prefixes_on_one_redis_are_separate() {
    let redis = RedisServer::start();
    let a = start_quiet_node(&[("broker", &redis.url()), ("redis.prefix", "a.")]);
    let b = start_quiet_node(&[("broker", &redis.url()), ("redis.prefix", "b.")]);
    a.wait_until_ready();
    b.wait_until_ready();
    let (mut in_a, mut in_b) = (a.subscriber("news"), b.subscriber("news"));
    let mut publisher = a.line();
    publisher.send("PUBLISH news for a");
    publisher.expect("CONFIRMED");
    redis.cli(&["PUBLISH", "b.news", "for b"]);
    redis.cli(&["PUBLISH", "news", "for none"]);
    in_a.expect("MESSAGE news for a");
    in_b.expect("MESSAGE news for b");
    in_a.expect_silence(Duration::from_millis(100));
    in_b.expect_silence(Duration::from_millis(100));
}

#[test]
fn a_channel_that_redis_rejects_is_an_error_each_time_and_delays_no_other_command() {
    let redis = RedisServer::start();
    redis.cli(&["ACL", "SETUSER", "app", "on", ">pw", "+@all", "resetchannels", "&open*", "&tidings*"]);
    let node = start_quiet_node(&[("broker", &format!("redis://app:pw@127.0.0.1:{}", redis.port()))]);
    node.wait_until_ready();
    let mut client = node.line();
    for _ in 0..3 {
        client.send("SUBSCRIBE secret");
        let answer = client.line();
        assert!(answer.starts_with("ERROR 103 permission denied"), "{answer}");
        client.send("PING");
        client.expect("PONG");
    }
    client.send("SUBSCRIBE open");
    client.expect("CONFIRMED");
}

#[test]
fn canaries_reach_no_client_and_cannot_be_disabled() {
    let redis = RedisServer::start();
    for broker in ["memory".to_owned(), redis.url()] {
        let node = start_quiet_node(&[
            ("broker", &broker),
            ("ready.canary_interval", "20ms"),
            ("ready.canary_limit", "400ms"),
        ]);
        node.wait_until_ready();
        let mut all = node.resp();
        all.command(&["PSUBSCRIBE", "*"]);
        all.expect_silence(Duration::from_millis(200));
        let mut other = node.resp();
        other.command(&["PUBLISH", "news", "x"]);
        assert_eq!(all.reply().texts(), ["pmessage", "*", "news", "x"]);
        assert!(matches!(node.readiness(), Readiness::Ready(_)));
    }
}

#[test]
fn nothing_published_after_a_confirmation_is_missed() {
    let redis = RedisServer::start();
    let node = node_on(&redis);
    let mut publisher = redis.client();
    for round in 0..200 {
        // A new channel each time, so that Redis has to confirm a subscription.
        let channel = format!("round{round}");
        let mut client = node.subscriber(&channel);
        publisher.command(&["PUBLISH", &channel, "first"]);
        client.expect(&format!("MESSAGE {channel} first"));
    }
}

fn numsub(redis: &RedisServer, channel: &str) -> i64 {
    match redis.cli(&["PUBSUB", "NUMSUB", channel]) {
        Reply::Array(items) => items.get(1).map_or(0, Reply::int),
        other => panic!("{other:?}"),
    }
}
