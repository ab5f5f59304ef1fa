//! Subscriptions that the server ends.

use serde_json::json;

use super::client::{Client, KEY, ReceivedCode, api, soon, token};
use super::{Cause, server};

pub(super) const ALL: [Cause; 3] =
    [(2000, unsubscribe_by_the_api), (2500, lost_publications), (2501, expired_subscription_token)];

fn unsubscribe_by_the_api() -> ReceivedCode {
    let server = server(&[
        ("client.token.hmac_secret_key", KEY),
        ("http_api.key", "k"),
        ("channel.without_namespace.allow_subscribe_for_client", "true"),
    ]);
    let mut client = Client::connected(&server, &json!({"token": token(&json!({"sub": "ann"}))}));
    client.request("subscribe", &json!({"channel": "news"}));
    api(&server, "k", "unsubscribe", &json!({"user": "ann", "channel": "news"}));
    client.pushed("unsubscribe")
}

/// A client that does not read, in a channel without a history.
fn lost_publications() -> ReceivedCode {
    let server = server(&[("client.queue_max_size", "65536")]);
    let mut slow = Client::connected(&server, &json!({}));
    slow.request("subscribe", &json!({"channel": "news"}));
    let mut publisher = Client::connected(&server, &json!({}));
    publish_many(&mut publisher, "news");
    slow.pushed("unsubscribe")
}

fn expired_subscription_token() -> ReceivedCode {
    let server =
        server(&[("client.token.hmac_secret_key", KEY), ("client.expired_sub_close_delay", "100ms")]);
    let mut client = Client::connected(&server, &json!({"token": token(&json!({"sub": "ann"}))}));
    let subscription = token(&json!({"sub": "ann", "channel": "$news", "exp": soon(3)}));
    let reply = client.request("subscribe", &json!({"channel": "$news", "token": subscription}));
    assert_eq!(reply["subscribe"]["expires"], true, "{reply}");
    client.pushed("unsubscribe")
}

/// Publishes more than the sockets on this machine buffer.
pub(super) fn publish_many(publisher: &mut Client, channel: &str) {
    let data = "x".repeat(60_000);
    for _ in 0..300 {
        publisher.request("publish", &json!({"channel": channel, "data": data}));
    }
}
