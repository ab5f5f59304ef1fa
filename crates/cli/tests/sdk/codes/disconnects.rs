//! Connections that the server ends.

use serde_json::json;
use tidings_testkit::{Signal, free_port};

use super::client::{Client, KEY, ReceivedCode, api, backend, closed_one_way, soon, token};
use super::unsubscribes::publish_many;
use super::{Cause, server};

/// Codes after which a client reconnects by itself.
pub(super) const RECONNECT: [Cause; 8] = [
    (3001, server_stops),
    (3004, unreachable_connect_hook_of_a_one_way_connection),
    (3005, expired_connection_token),
    (3008, slow_client_with_the_policy_cut),
    (3010, slow_client_with_a_server_side_subscription),
    (3011, reconnect_requested_by_the_api),
    (3012, unanswered_ping),
    (3013, too_many_incomplete_commands),
];

/// Codes after which a client does not reconnect.
pub(super) const NO_RECONNECT: [Cause; 7] = [
    (3500, invalid_token_of_a_one_way_connection),
    (3501, command_before_connect),
    (3502, no_connect_in_time),
    (3503, disconnect_by_the_api),
    (3504, connection_above_the_limit),
    (3505, token_with_too_many_channels),
    (3507, connect_hook_rejects_a_one_way_connection),
];

fn server_stops() -> ReceivedCode {
    let server = server(&[("shutdown.drain", "0s")]);
    let mut client = Client::connected(&server, &json!({}));
    server.signal(Signal::TERM);
    client.ended()
}

fn unreachable_connect_hook_of_a_one_way_connection() -> ReceivedCode {
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let server =
        server(&[("client.proxy.connect.enabled", "true"), ("client.proxy.connect.endpoint", &nobody)]);
    closed_one_way(&server, &json!({}))
}

fn expired_connection_token() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY), ("client.expired_close_delay", "100ms")]);
    let token = token(&json!({"sub": "ann", "exp": soon(3)}));
    Client::connected(&server, &json!({"token": token})).ended()
}

fn slow_client_with_the_policy_cut() -> ReceivedCode {
    let server =
        server(&[("client.queue_max_size", "65536"), ("channel.without_namespace.slow_consumer", "cut")]);
    let mut slow = Client::connected(&server, &json!({}));
    slow.request("subscribe", &json!({"channel": "news"}));
    publish_many(&mut Client::connected(&server, &json!({})), "news");
    slow.ended()
}

fn slow_client_with_a_server_side_subscription() -> ReceivedCode {
    let server = server(&[
        ("client.queue_max_size", "65536"),
        ("client.token.hmac_secret_key", KEY),
        ("channel.without_namespace.allow_publish_for_client", "true"),
    ]);
    let listener = token(&json!({"sub": "ann", "channels": ["news"]}));
    let mut slow = Client::connected(&server, &json!({"token": listener}));
    let publisher = token(&json!({"sub": "bob"}));
    publish_many(&mut Client::connected(&server, &json!({"token": publisher})), "news");
    slow.ended()
}

fn reconnect_requested_by_the_api() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY), ("http_api.key", "k")]);
    let mut client = Client::connected(&server, &json!({"token": token(&json!({"sub": "ann"}))}));
    let why = json!({"user": "ann", "disconnect": {"code": 3011, "reason": "force reconnect"}});
    api(&server, "k", "disconnect", &why);
    client.ended()
}

fn unanswered_ping() -> ReceivedCode {
    let server = server(&[("client.ping_interval", "200ms"), ("client.pong_timeout", "100ms")]);
    Client::connected(&server, &json!({})).ended()
}

/// Incomplete commands of two clients, which exceed the limit together.
fn too_many_incomplete_commands() -> ReceivedCode {
    let server =
        server(&[("client.queue_max_size", "65536"), ("client.queue_max_total", "65536"), ("shards", "1")]);
    let half = format!("{{\"id\":2,\"publish\":{{\"data\":\"{}", "x".repeat(50_000));
    let [mut first, mut second] = [(); 2].map(|()| Client::connected(&server, &json!({})));
    first.raw(half.as_bytes());
    // Replies to another client on the same thread show that the incomplete commands were read.
    for _ in 0..4 {
        second.request("ping", &json!({}));
    }
    second.raw(half.as_bytes());
    second.ended()
}

fn invalid_token_of_a_one_way_connection() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY)]);
    closed_one_way(&server, &json!({"token": "no.token.really"}))
}

fn command_before_connect() -> ReceivedCode {
    let server = server(&[]);
    let mut client = Client::open(&server);
    client.send("subscribe", &json!({"channel": "news"}));
    client.ended()
}

fn no_connect_in_time() -> ReceivedCode {
    let server = server(&[("client.stale_close_delay", "100ms")]);
    let mut client = Client::open(&server);
    client.raw(b"{");
    client.ended()
}

fn disconnect_by_the_api() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY), ("http_api.key", "k")]);
    let mut client = Client::connected(&server, &json!({"token": token(&json!({"sub": "ann"}))}));
    api(&server, "k", "disconnect", &json!({"user": "ann"}));
    client.ended()
}

fn connection_above_the_limit() -> ReceivedCode {
    let server = server(&[("client.connection_limit", "1")]);
    let _first = Client::connected(&server, &json!({}));
    Client::open(&server).rejected_line()
}

fn token_with_too_many_channels() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY), ("client.channel_limit", "1")]);
    let mut client = Client::open(&server);
    client.send("connect", &json!({"token": token(&json!({"sub": "ann", "channels": ["a", "b"]}))}));
    client.ended()
}

fn connect_hook_rejects_a_one_way_connection() -> ReceivedCode {
    let url = backend(&json!({"error": {"code": 103, "message": "not today"}}));
    let server = server(&[("client.proxy.connect.enabled", "true"), ("client.proxy.connect.endpoint", &url)]);
    closed_one_way(&server, &json!({}))
}
