//! Errors in replies to commands.

use serde_json::json;
use tidings_testkit::{PATIENCE, Proxy, RedisServer, free_port, wait_until};

use super::client::{Client, KEY, ReceivedCode, backend, soon, token};
use super::{Cause, server};

pub(super) const ALL: [Cause; 13] = [
    (100, broker_unavailable),
    (101, no_token_although_a_key_is_configured),
    (102, unknown_namespace),
    (103, channel_without_permission),
    (104, unknown_command),
    (105, already_subscribed_channel),
    (106, channel_above_the_limit),
    (107, empty_channel_name),
    (108, history_of_a_channel_without_one),
    (109, expired_token),
    (110, hook_result_with_a_past_expiry),
    (111, too_many_publications_that_wait_for_redis),
    (112, unknown_position),
];

fn broker_unavailable() -> ReceivedCode {
    let server = server(&[("broker", &format!("redis://127.0.0.1:{}", free_port()))]);
    Client::connected(&server, &json!({})).refused("subscribe", &json!({"channel": "news"}))
}

fn no_token_although_a_key_is_configured() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY)]);
    Client::open(&server).refused("connect", &json!({}))
}

fn unknown_namespace() -> ReceivedCode {
    let server = server(&[("channel.namespaces", "chat")]);
    Client::connected(&server, &json!({})).refused("subscribe", &json!({"channel": "news:today"}))
}

fn channel_without_permission() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY)]);
    let token = token(&json!({"sub": "ann"}));
    Client::connected(&server, &json!({"token": token})).refused("subscribe", &json!({"channel": "news"}))
}

fn unknown_command() -> ReceivedCode {
    let server = server(&[]);
    Client::connected(&server, &json!({})).refused("teleport", &json!({}))
}

fn already_subscribed_channel() -> ReceivedCode {
    let server = server(&[]);
    let mut client = Client::connected(&server, &json!({}));
    client.request("subscribe", &json!({"channel": "news"}));
    client.refused("subscribe", &json!({"channel": "news"}))
}

fn channel_above_the_limit() -> ReceivedCode {
    let server = server(&[("client.channel_limit", "1")]);
    let mut client = Client::connected(&server, &json!({}));
    client.request("subscribe", &json!({"channel": "news"}));
    client.refused("subscribe", &json!({"channel": "weather"}))
}

fn empty_channel_name() -> ReceivedCode {
    let server = server(&[]);
    Client::connected(&server, &json!({})).refused("subscribe", &json!({"channel": ""}))
}

fn history_of_a_channel_without_one() -> ReceivedCode {
    let server = server(&[]);
    Client::connected(&server, &json!({})).refused("history", &json!({"channel": "news"}))
}

fn expired_token() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY)]);
    let token = token(&json!({"sub": "ann", "exp": soon(-60)}));
    Client::open(&server).refused("connect", &json!({"token": token}))
}

fn hook_result_with_a_past_expiry() -> ReceivedCode {
    let url = backend(&json!({"result": {"user": "ann", "expire_at": soon(-86_400)}}));
    let server = server(&[("client.proxy.connect.enabled", "true"), ("client.proxy.connect.endpoint", &url)]);
    Client::open(&server).refused("connect", &json!({}))
}

/// Redis accepts no more bytes; up to 16 MiB of publications may wait for it.
fn too_many_publications_that_wait_for_redis() -> ReceivedCode {
    let redis = RedisServer::start();
    let link = Proxy::to(([127, 0, 0, 1], redis.port()).into());
    let server = server(&[("broker", &format!("redis://{}", link.addr()))]);
    let mut client = Client::connected(&server, &json!({}));
    wait_until(PATIENCE, "publications to reach Redis", || {
        client.request("publish", &json!({"channel": "news", "data": 1}))["publish"].is_object()
    });
    link.black_hole();
    let data = "x".repeat(60_000);
    for _ in 0..290 {
        client.send("publish", &json!({"channel": "news", "data": data}));
    }
    // The others are rejected when Redis is considered unavailable.
    client.first_error()
}

fn unknown_position() -> ReceivedCode {
    let options =
        [("channel.without_namespace.history_size", "10"), ("channel.without_namespace.history_ttl", "60s")];
    let server = server(&options);
    let mut client = Client::connected(&server, &json!({}));
    // 2: an error instead of missing publications.
    let asked = json!({"channel": "news", "recover": true, "epoch": "never", "offset": 3, "flag": 2});
    assert_eq!(client.refused("subscribe", &asked).code, 112);
    client
        .refused("history", &json!({"channel": "news", "limit": 1, "since": {"epoch": "never", "offset": 3}}))
}
