//! `subscribe`, `unsubscribe`, `disconnect` and `refresh`.

use serde_json::json;
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::api_server::{ApiServer, USERS};

#[test]
fn valid_commands_to_sessions_are_accepted_and_invalid_ones_rejected() {
    let server = ApiServer::with(&["channel.namespaces=kept"]);
    for (method, request) in [
        ("subscribe", json!({"user": "42", "channel": "news"})),
        (
            "subscribe",
            json!({"user": "42", "channel": "news", "client": "c", "session": "s", "info": {"a": 1}, "data": [1],
                "recover_since": {"offset": 1, "epoch": "x"}, "expire_at": 4_000_000_000_u64,
                "override": {"presence": {"value": true}, "force_recovery": null}}),
        ),
        (
            "subscribe",
            json!({"client": "c", "channel": "news", "b64info": "e30=", "b64data": "/w==", "info": null}),
        ),
        ("unsubscribe", json!({"user": "42", "channel": "news"})),
        ("unsubscribe", json!({"session": "s"})),
        ("disconnect", json!({"user": "42"})),
        (
            "disconnect",
            json!({"user": "42", "whitelist": ["c"], "disconnect": {"code": 4500, "reason": "go"}}),
        ),
        ("disconnect", json!({"user": "42", "disconnect": {}})),
        ("refresh", json!({"user": "42", "expired": true})),
        ("refresh", json!({"user": "42", "expire_at": 4_000_000_000_u64})),
        ("refresh", json!({"expired": true})),
    ] {
        assert_eq!(server.call(method, &request), json!({}), "{method} {request}");
    }
    for (method, request, code) in [
        ("subscribe", json!({"user": "42"}), 107),
        ("subscribe", json!({"channel": "news"}), 107),
        ("subscribe", json!({"user": "42", "channel": "none:a"}), 102),
        ("subscribe", json!({"user": "42", "channel": "tidings.node.control"}), 103),
        ("subscribe", json!({"user": "42", "channel": "tidings.x"}), 103),
        ("unsubscribe", json!({"user": "42", "channel": "tidings.x"}), 103),
        ("subscribe", json!({"user": "42", "channel": "news", "b64info": "?"}), 107),
        ("subscribe", json!({"user": "42", "channel": "news", "expire_at": 5}), 107),
        ("unsubscribe", json!({"channel": "news"}), 107),
        ("unsubscribe", json!({"user": "42", "channel": "none:a"}), 102),
        ("disconnect", json!({}), 107),
        ("disconnect", json!({"user": "42", "disconnect": {"code": 2999}}), 107),
        ("disconnect", json!({"user": "42", "disconnect": {"code": 70000}}), 107),
        ("refresh", json!({"user": "42", "expire_at": -1}), 107),
    ] {
        assert_eq!(server.call_error(method, &request).0, code, "{method} {request}");
    }
}

#[test]
fn a_user_is_subscribed_with_a_push_and_unsubscribed_again() {
    let server = ApiServer::with(&USERS);
    let (mut ann, mut bob) = (server.user("ann"), server.user("bob"));
    let subscribe = json!({"user": "ann", "channel": "news", "info": {"role": "x"}, "data": {"hello": 1}});
    server.call("subscribe", &subscribe);
    let (channel, push) = ann.push("subscribe");
    assert_eq!((&*channel, &push["data"]), ("news", &json!({"hello": 1})));
    server.call("publish", &json!({"channel": "news", "data": {"n": 1}, "tags": {"a": "b"}}));
    let (channel, push) = ann.push("pub");
    assert_eq!((&*channel, &push["data"], &push["tags"]), ("news", &json!({"n": 1}), &json!({"a": "b"})));
    wait_until(PATIENCE, "the client to be present", || {
        server.call("presence_stats", &json!({"channel": "news"}))
            == json!({"num_clients": 1, "num_users": 1})
    });
    let presence = server.call("presence", &json!({"channel": "news"}));
    let there = json!({"client": ann.client, "user": "ann", "chan_info": {"role": "x"}});
    assert_eq!(presence, json!({"presence": {(ann.client.clone()): there}}));
    server.call("unsubscribe", &json!({"user": "ann", "channel": "news"}));
    let (channel, push) = ann.push("unsubscribe");
    assert_eq!((&*channel, &push["code"]), ("news", &json!(2000)));
    server.call("publish", &json!({"channel": "news", "data": 2}));
    ann.expect_nothing();
    bob.expect_nothing();
}

#[test]
fn an_order_applies_to_the_named_client_and_not_to_clients_on_the_whitelist() {
    let server = ApiServer::with(&USERS);
    let (mut first, mut second) = (server.user("ann"), server.user("ann"));
    server.call("subscribe", &json!({"user": "ann", "client": second.client, "channel": "news"}));
    assert_eq!(second.push("subscribe").0, "news");
    first.expect_nothing();
    // A client of another user does not match.
    server.call("disconnect", &json!({"user": "bob", "client": second.client}));
    second.expect_nothing();
    server.call("disconnect", &json!({"user": "ann", "whitelist": [first.client]}));
    let (_, push) = second.push("disconnect");
    assert_eq!((&push["code"], &push["reason"]), (&json!(3503), &json!("force disconnect")));
    second.expect_close();
    first.expect_nothing();
    let request = json!({"user": "ann", "disconnect": {"code": 4501, "reason": "leave"}});
    server.call("disconnect", &request);
    let (_, push) = first.push("disconnect");
    assert_eq!((&push["code"], &push["reason"]), (&json!(4501), &json!("leave")));
    first.expect_close();
}

#[test]
fn the_backend_refreshes_or_expires_a_connection() {
    let server = ApiServer::with(&USERS);
    let mut ann = server.user("ann");
    server.call("refresh", &json!({"user": "ann", "expire_at": 4_000_000_000_u64}));
    let (_, push) = ann.push("refresh");
    assert_eq!(push["expires"], true);
    assert!(push["ttl"].as_u64().is_some_and(|ttl| ttl > 1_000_000), "{push}");
    server.call("refresh", &json!({"user": "ann", "expired": true}));
    let (_, push) = ann.push("disconnect");
    assert_eq!(push["code"], 3005);
    ann.expect_close();
    // Without a user the command is for connections of the anonymous user.
    let (mut anonymous, mut bob) = (server.user(""), server.user("bob"));
    server.call("refresh", &json!({"expired": true}));
    assert_eq!(anonymous.push("disconnect").1["code"], 3005);
    anonymous.expect_close();
    bob.expect_nothing();
}

#[test]
fn a_publication_before_a_disconnect_arrives_before_it() {
    let redis = RedisServer::start();
    for broker in ["memory".to_owned(), redis.url()] {
        let server = ApiServer::with(&[&[&*format!("broker={broker}")], &USERS[..]].concat());
        for round in 0..20 {
            let mut ann = server.user("ann");
            ann.call("subscribe", &json!({"channel": "news"}));
            server.batch(&json!({"commands": [
                {"publish": {"channel": "news", "data": round}},
                {"disconnect": {"user": "ann"}},
            ]}));
            assert_eq!(ann.push("pub").1["data"], round, "{broker}");
            ann.push("disconnect");
            ann.expect_close();
        }
    }
}
