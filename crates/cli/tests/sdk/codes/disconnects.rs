//! Connections that the server ends.

use serde_json::json;
use tidings_testkit::{Signal, free_port};

use super::client::{Client, KEY, ReceivedCode, api, backend, closed_one_way, soon, token};
use super::unsubscribes::publish_much;
use super::{Provoked, server};

/// Codes after which a client reconnects by itself.
pub(super) const TO_COME_BACK: [Provoked; 8] = [
    (3001, the_server_stops),
    (3004, an_application_that_does_not_answer_about_one_who_only_listens),
    (3005, a_token_that_is_not_renewed),
    (3008, a_client_that_does_not_read),
    (3010, a_client_that_does_not_read_what_the_server_subscribed_it_to),
    (3011, the_application_sends_a_client_round),
    (3012, a_ping_without_an_answer),
    (3013, more_incomplete_commands_than_allowed),
];

/// Codes after which a client does not reconnect.
pub(super) const FOR_GOOD: [Provoked; 7] = [
    (3500, a_wrong_token_of_one_who_only_listens),
    (3501, something_before_connect),
    (3502, nothing_at_all),
    (3503, the_application_ends_a_connection),
    (3504, one_connection_more_than_the_limit),
    (3505, a_token_for_more_channels_than_the_limit),
    (3507, an_application_that_forbids_it_to_one_who_only_listens),
];

fn the_server_stops() -> ReceivedCode {
    let server = server(&[("shutdown.drain", "0s")]);
    let mut client = Client::connected(&server, &json!({}));
    server.signal(Signal::TERM);
    client.ended()
}

fn an_application_that_does_not_answer_about_one_who_only_listens() -> ReceivedCode {
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let server =
        server(&[("client.proxy.connect.enabled", "true"), ("client.proxy.connect.endpoint", &nobody)]);
    closed_one_way(&server, &json!({}))
}

fn a_token_that_is_not_renewed() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY), ("client.expired_close_delay", "100ms")]);
    let token = token(&json!({"sub": "ann", "exp": soon(3)}));
    Client::connected(&server, &json!({"token": token})).ended()
}

fn a_client_that_does_not_read() -> ReceivedCode {
    let server =
        server(&[("client.queue_max_size", "65536"), ("channel.without_namespace.slow_consumer", "cut")]);
    let mut slow = Client::connected(&server, &json!({}));
    slow.request("subscribe", &json!({"channel": "news"}));
    publish_much(&mut Client::connected(&server, &json!({})), "news");
    slow.ended()
}

fn a_client_that_does_not_read_what_the_server_subscribed_it_to() -> ReceivedCode {
    let server = server(&[
        ("client.queue_max_size", "65536"),
        ("client.token.hmac_secret_key", KEY),
        ("channel.without_namespace.allow_publish_for_client", "true"),
    ]);
    let listener = token(&json!({"sub": "ann", "channels": ["news"]}));
    let mut slow = Client::connected(&server, &json!({"token": listener}));
    let publisher = token(&json!({"sub": "bob"}));
    publish_much(&mut Client::connected(&server, &json!({"token": publisher})), "news");
    slow.ended()
}

fn the_application_sends_a_client_round() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY), ("http_api.key", "k")]);
    let mut client = Client::connected(&server, &json!({"token": token(&json!({"sub": "ann"}))}));
    let why = json!({"user": "ann", "disconnect": {"code": 3011, "reason": "force reconnect"}});
    api(&server, "k", "disconnect", &why);
    client.ended()
}

fn a_ping_without_an_answer() -> ReceivedCode {
    let server = server(&[("client.ping_interval", "200ms"), ("client.pong_timeout", "100ms")]);
    Client::connected(&server, &json!({})).ended()
}

/// Endless commands, of two clients together.
fn more_incomplete_commands_than_allowed() -> ReceivedCode {
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

fn a_wrong_token_of_one_who_only_listens() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY)]);
    closed_one_way(&server, &json!({"token": "no.token.really"}))
}

fn something_before_connect() -> ReceivedCode {
    let server = server(&[]);
    let mut client = Client::open(&server);
    client.send("subscribe", &json!({"channel": "news"}));
    client.ended()
}

fn nothing_at_all() -> ReceivedCode {
    let server = server(&[("client.stale_close_delay", "100ms")]);
    let mut client = Client::open(&server);
    client.raw(b"{");
    client.ended()
}

fn the_application_ends_a_connection() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY), ("http_api.key", "k")]);
    let mut client = Client::connected(&server, &json!({"token": token(&json!({"sub": "ann"}))}));
    api(&server, "k", "disconnect", &json!({"user": "ann"}));
    client.ended()
}

fn one_connection_more_than_the_limit() -> ReceivedCode {
    let server = server(&[("client.connection_limit", "1")]);
    let _first = Client::connected(&server, &json!({}));
    Client::open(&server).rejected_line()
}

fn a_token_for_more_channels_than_the_limit() -> ReceivedCode {
    let server = server(&[("client.token.hmac_secret_key", KEY), ("client.channel_limit", "1")]);
    let mut client = Client::open(&server);
    client.send("connect", &json!({"token": token(&json!({"sub": "ann", "channels": ["a", "b"]}))}));
    client.ended()
}

fn an_application_that_forbids_it_to_one_who_only_listens() -> ReceivedCode {
    let url = backend(&json!({"error": {"code": 103, "message": "not today"}}));
    let server = server(&[("client.proxy.connect.enabled", "true"), ("client.proxy.connect.endpoint", &url)]);
    closed_one_way(&server, &json!({}))
}
