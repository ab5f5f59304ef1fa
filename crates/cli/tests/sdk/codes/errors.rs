//! Errors in replies to commands.

use serde_json::json;
use tidings_testkit::{PATIENCE, Proxy, RedisServer, free_port, wait_until};

use super::client::{Client, KEY, ReceivedCode, backend, soon, token};
use super::{Provoked, server};

pub(super) const ALL: [Provoked; 13] = [
    (100, the_broker_is_away),
    (101, no_token_on_a_server_with_keys),
    (102, a_namespace_that_is_not_configured),
    (103, a_channel_that_does_not_allow_it),
    (104, a_command_that_does_not_exist),
    (105, a_channel_that_one_is_subscribed_to),
    (106, one_channel_more_than_the_limit),
    (107, no_channel_at_all),
    (108, history_where_none_is_kept),
    (109, a_token_that_was_valid_once),
    (110, an_application_that_lets_in_until_yesterday),
    (111, more_publications_than_may_wait_for_redis),
    (112, a_position_that_never_was),
];

fn the_broker_is_away() -> ReceivedCode {
    let server = server(&[("broker", &format!("redis://127.0.0.1:{}", free_port()))]);
    Client::connected(&server, &json!({})).refused("subscribe", &json!({"channel": "news"}))
}

fn no_token_on_a_server_with_keys() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY)]);
    Client::open(&server).refused("connect", &json!({}))
}

fn a_namespace_that_is_not_configured() -> ReceivedCode {
    let server = server(&[("channel.namespaces", "chat")]);
    Client::connected(&server, &json!({})).refused("subscribe", &json!({"channel": "news:today"}))
}

fn a_channel_that_does_not_allow_it() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY)]);
    let token = token(&json!({"sub": "ann"}));
    Client::connected(&server, &json!({"token": token})).refused("subscribe", &json!({"channel": "news"}))
}

fn a_command_that_does_not_exist() -> ReceivedCode {
    let server = server(&[]);
    Client::connected(&server, &json!({})).refused("teleport", &json!({}))
}

fn a_channel_that_one_is_subscribed_to() -> ReceivedCode {
    let server = server(&[]);
    let mut client = Client::connected(&server, &json!({}));
    client.request("subscribe", &json!({"channel": "news"}));
    client.refused("subscribe", &json!({"channel": "news"}))
}

fn one_channel_more_than_the_limit() -> ReceivedCode {
    let server = server(&[("client.channel_limit", "1")]);
    let mut client = Client::connected(&server, &json!({}));
    client.request("subscribe", &json!({"channel": "news"}));
    client.refused("subscribe", &json!({"channel": "weather"}))
}

fn no_channel_at_all() -> ReceivedCode {
    let server = server(&[]);
    Client::connected(&server, &json!({})).refused("subscribe", &json!({"channel": ""}))
}

fn history_where_none_is_kept() -> ReceivedCode {
    let server = server(&[]);
    Client::connected(&server, &json!({})).refused("history", &json!({"channel": "news"}))
}

fn a_token_that_was_valid_once() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY)]);
    let token = token(&json!({"sub": "ann", "exp": soon(-60)}));
    Client::open(&server).refused("connect", &json!({"token": token}))
}

fn an_application_that_lets_in_until_yesterday() -> ReceivedCode {
    let url = backend(&json!({"result": {"user": "ann", "expire_at": soon(-86_400)}}));
    let server = server(&[("client.proxy.connect.enabled", "true"), ("client.proxy.connect.endpoint", &url)]);
    Client::open(&server).refused("connect", &json!({}))
}

/// Redis accepts nothing any more; up to 16 MiB of publications may wait for it.
fn more_publications_than_may_wait_for_redis() -> ReceivedCode {
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

fn a_position_that_never_was() -> ReceivedCode {
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
