//! Capabilities of tokens: what they permit in every protocol, and when they end.

use serde_json::{Value, json};
use tidings_testkit::LineClient;

use crate::api_server::{ApiServer, JsonClient, token_with};
use crate::rules::{mqtt, mqtt_subscribe};

/// Every channel has a history and a presence, and no option permits a client anything.
const CLOSED: [&str; 7] = [
    "client.token.hmac_secret_key=users",
    "http_api.insecure=true",
    "channel.without_namespace.presence=true",
    "channel.without_namespace.join_leave=true",
    "channel.without_namespace.history_size=10",
    "channel.without_namespace.history_ttl=1m",
    "channel.without_namespace.allow_user_limited_channels=true",
];

fn client(server: &ApiServer, caps: &Value) -> JsonClient {
    server.json_client(&token_with(&json!({"sub": "7", "caps": caps})))
}

/// The codes of a subscribe, a publish, a presence and a history; 0 without an error.
fn codes(client: &mut JsonClient, channel: &str) -> [u64; 4] {
    ["subscribe", "publish", "presence", "history"].map(|command| {
        let params = json!({"channel": channel, "data": 1, "limit": 1});
        let outcome = client.try_call(command, &params);
        outcome.map_or_else(|error| error["code"].as_u64().expect("a code"), |_| 0)
    })
}

#[test]
fn each_capability_permits_its_operation_alone() {
    let server = ApiServer::with(&CLOSED);
    for (allow, expected) in [
        (json!([]), [103, 103, 103, 103]),
        (json!(["sub"]), [0, 103, 103, 103]),
        (json!(["pub"]), [103, 0, 103, 103]),
        (json!(["prs"]), [103, 103, 0, 103]),
        (json!(["hst"]), [103, 103, 103, 0]),
        (json!(["sub", "pub", "prs", "hst"]), [0, 0, 0, 0]),
    ] {
        let mut client = client(&server, &json!([{"channels": ["news"], "allow": allow}]));
        assert_eq!(codes(&mut client, "news"), expected, "{allow}");
        assert_eq!(codes(&mut client, "other"), [103; 4], "{allow}");
    }
    let mut client = client(
        &server,
        &json!([
            {"channels": ["a*"], "match": "wildcard", "allow": ["sub"]},
            {"channels": ["^.b$"], "match": "regex", "allow": ["pub"]},
        ]),
    );
    assert_eq!(codes(&mut client, "ab"), [0, 0, 103, 103], "the union of both");
    assert_eq!(codes(&mut client, "xb"), [103, 0, 103, 103]);
}

#[test]
fn the_capabilities_for_history_and_presence_permit_recovery_and_joins() {
    let server = ApiServer::with(&CLOSED);
    let params = json!({"channel": "news", "recoverable": true, "join_leave": true});
    let caps = |allow: Value| json!([{"channels": ["news"], "allow": allow}]);
    let mut plain = client(&server, &caps(json!(["sub"])));
    assert_eq!(plain.call("subscribe", &params).get("recoverable"), None);
    let mut full = client(&server, &caps(json!(["sub", "hst", "prs"])));
    assert_eq!(full.call("subscribe", &params)["recoverable"], true);
    client(&server, &caps(json!(["sub"]))).call("subscribe", &json!({"channel": "news"}));
    assert_eq!(full.push("join").0, "news");
    plain.expect_nothing();
}

#[test]
fn capabilities_open_channels_of_users_and_no_private_ones() {
    let server = ApiServer::with(&CLOSED);
    let all = json!([{"channels": ["*"], "match": "wildcard", "allow": ["sub", "pub", "prs", "hst"]}]);
    let mut client = client(&server, &all);
    assert_eq!(codes(&mut client, "dialog#1,2"), [0; 4]);
    assert_eq!(codes(&mut client, "$private")[0], 103);
    assert_eq!(codes(&mut client, "tidings.internal")[0], 103);
}

#[test]
fn capabilities_apply_on_the_line_and_resp_ports_and_without_a_user() {
    let server = ApiServer::with(&CLOSED);
    let token = token_with(&json!({"caps": [{"channels": ["news"], "allow": ["sub"]},
        {"channels": ["chat"], "allow": ["pub"]}]}));
    let mut line = server.line();
    line.send(&format!("AUTH {token}"));
    line.expect("CONFIRMED");
    for (command, answer) in [
        ("SUBSCRIBE news", "CONFIRMED"),
        ("PUBLISH news 1", "ERROR 103 permission denied"),
        ("SUBSCRIBE chat", "ERROR 103 permission denied"),
        ("PUBLISH chat 1", "CONFIRMED"),
    ] {
        line.send(command);
        line.expect(answer);
    }
    let mut resp = server.resp();
    assert_eq!(resp.command(&["AUTH", &token]).text(), "OK");
    assert_eq!(resp.command(&["PUBLISH", "chat", "1"]).int(), 0);
    assert!(resp.command(&["PUBLISH", "news", "1"]).text().contains("permission"));
    assert!(resp.command(&["SUBSCRIBE", "chat"]).text().contains("permission"));
    assert_eq!(resp.command(&["SUBSCRIBE", "news"]).texts()[0], "subscribe");
}

#[test]
fn capabilities_apply_to_topics_and_filters_of_mqtt() {
    let server = ApiServer::with(&CLOSED);
    let caps = json!([{"channels": ["home/*"], "match": "wildcard", "allow": ["sub"]}]);
    let mut client = mqtt(&server, &json!({"sub": "7", "caps": caps}));
    for (filter, expected) in
        [("home/1/temp", 0), ("home/+/light", 0), ("home/#", 0), ("garden/#", 0x80), ("x", 0x80)]
    {
        assert_eq!(mqtt_subscribe(&mut client, filter), expected, "{filter}");
    }
}

#[test]
fn a_refresh_replaces_the_capabilities_and_ends_the_subscriptions_that_they_permitted() {
    let server = ApiServer::with(
        &[
            &CLOSED[..],
            &["channel.without_namespace.history_size=0", "channel.without_namespace.history_ttl=0s"],
        ]
        .concat(),
    );
    let caps = |channels: Value| json!({"sub": "7", "exp": 4_000_000_000_u64, "caps": [{"channels": channels, "allow": ["sub", "pub"]}]});
    let mut client = server.json_client(&token_with(&caps(json!(["a", "b"]))));
    for channel in ["a", "b"] {
        client.call("subscribe", &json!({"channel": channel}));
    }
    let subscription = token_with(&json!({"sub": "7", "channel": "c"}));
    client.call("subscribe", &json!({"channel": "c", "token": subscription}));
    client.call("subscribe", &json!({"channel": "own#7"}));
    client.call("refresh", &json!({"token": token_with(&caps(json!(["b"])))}));
    let presence = |channel: &str| {
        let body = json!({"channel": channel}).to_string();
        crate::api_server::json_of(&server.post("/api/presence_stats", &[], &body))["result"]["num_clients"]
            .clone()
    };
    tidings_testkit::wait_until(tidings_testkit::PATIENCE, "the end of the subscription", || {
        presence("a") == 0
    });
    assert_eq!(["b", "c", "own#7"].map(presence), [json!(1), json!(1), json!(1)]);
    assert_eq!(codes(&mut client, "a")[..2], [103, 103]);
    assert_eq!(codes(&mut client, "b")[1], 0);
    // A token without the claim ends them all.
    client.call("refresh", &json!({"token": token_with(&json!({"sub": "7", "exp": 4_000_000_000_u64}))}));
    tidings_testkit::wait_until(tidings_testkit::PATIENCE, "the end of the subscription", || {
        presence("b") == 0
    });
    assert_eq!(codes(&mut client, "b")[..2], [103, 103]);
}

#[test]
fn a_subscription_token_permits_operations_in_its_channel_while_the_client_is_subscribed() {
    let server = ApiServer::with(&CLOSED);
    let mut client = client(&server, &json!([]));
    let token = |allow: Value| token_with(&json!({"sub": "7", "channel": "$team", "allow": allow}));
    let params =
        json!({"channel": "$team", "token": token(json!(["pub", "hst", "prs"])), "recoverable": true});
    assert_eq!(client.call("subscribe", &params)["recoverable"], true);
    assert_eq!(codes(&mut client, "$team")[1..], [0, 0, 0]);
    client.call("sub_refresh", &json!({"channel": "$team", "token": token(json!(["hst"]))}));
    assert_eq!(codes(&mut client, "$team")[1..], [103, 103, 0]);
    client.call("unsubscribe", &json!({"channel": "$team"}));
    assert_eq!(codes(&mut client, "$team")[1..], [103, 103, 103]);
}

#[test]
fn a_token_with_invalid_capabilities_is_refused() {
    let server = ApiServer::with(&CLOSED);
    for caps in [
        json!({"channels": ["a"]}),
        json!([{"channels": ["a"], "allow": ["subscribe"]}]),
        json!([{"channels": ["a"], "match": "glob", "allow": ["sub"]}]),
        json!([{"channels": ["a("], "match": "regex", "allow": ["sub"]}]),
        json!([{"channels": vec!["a"; 257], "allow": ["sub"]}]),
    ] {
        let mut line = LineClient::connect(server.tcp());
        let token = token_with(&json!({"sub": "7", "caps": caps}));
        line.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
        let message: Value = serde_json::from_str(&line.line()).expect("JSON");
        assert_eq!(message["error"]["code"], 101, "{caps}");
    }
}
