//! `subscribe`, `unsubscribe`, `disconnect` and `refresh`.

use serde_json::json;
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::world::{USERS, World};

#[test]
fn orders_to_sessions_are_taken_when_they_make_sense() {
    let world = World::with(&["channel.namespaces=kept"]);
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
        assert_eq!(world.ask(method, &request), json!({}), "{method} {request}");
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
        assert_eq!(world.fail(method, &request).0, code, "{method} {request}");
    }
}

#[test]
fn a_user_is_subscribed_told_of_it_and_unsubscribed_again() {
    let world = World::with(&USERS);
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let subscribe = json!({"user": "ann", "channel": "news", "info": {"role": "x"}, "data": {"hello": 1}});
    world.ask("subscribe", &subscribe);
    let (channel, said) = ann.push("subscribe");
    assert_eq!((&*channel, &said["data"]), ("news", &json!({"hello": 1})));
    world.ask("publish", &json!({"channel": "news", "data": {"n": 1}, "tags": {"a": "b"}}));
    let (channel, said) = ann.push("pub");
    assert_eq!((&*channel, &said["data"], &said["tags"]), ("news", &json!({"n": 1}), &json!({"a": "b"})));
    wait_until(PATIENCE, "the client to be present", || {
        world.ask("presence_stats", &json!({"channel": "news"})) == json!({"num_clients": 1, "num_users": 1})
    });
    let presence = world.ask("presence", &json!({"channel": "news"}));
    let there = json!({"client": ann.client, "user": "ann", "chan_info": {"role": "x"}});
    assert_eq!(presence, json!({"presence": {(ann.client.clone()): there}}));
    world.ask("unsubscribe", &json!({"user": "ann", "channel": "news"}));
    let (channel, said) = ann.push("unsubscribe");
    assert_eq!((&*channel, &said["code"]), ("news", &json!(2000)));
    world.ask("publish", &json!({"channel": "news", "data": 2}));
    ann.expect_nothing();
    bob.expect_nothing();
}

#[test]
fn an_order_is_for_the_client_it_names_and_spares_those_on_the_list() {
    let world = World::with(&USERS);
    let (mut first, mut second) = (world.user("ann"), world.user("ann"));
    world.ask("subscribe", &json!({"user": "ann", "client": second.client, "channel": "news"}));
    assert_eq!(second.push("subscribe").0, "news");
    first.expect_nothing();
    // Another user's client is not hers.
    world.ask("disconnect", &json!({"user": "bob", "client": second.client}));
    second.expect_nothing();
    world.ask("disconnect", &json!({"user": "ann", "whitelist": [first.client]}));
    let (_, said) = second.push("disconnect");
    assert_eq!((&said["code"], &said["reason"]), (&json!(3503), &json!("force disconnect")));
    second.expect_close();
    first.expect_nothing();
    let request = json!({"user": "ann", "disconnect": {"code": 4501, "reason": "go home"}});
    world.ask("disconnect", &request);
    let (_, said) = first.push("disconnect");
    assert_eq!((&said["code"], &said["reason"]), (&json!(4501), &json!("go home")));
    first.expect_close();
}

#[test]
fn a_connection_is_refreshed_or_expires_as_the_backend_says() {
    let world = World::with(&USERS);
    let mut ann = world.user("ann");
    world.ask("refresh", &json!({"user": "ann", "expire_at": 4_000_000_000_u64}));
    let (_, said) = ann.push("refresh");
    assert_eq!(said["expires"], true);
    assert!(said["ttl"].as_u64().is_some_and(|ttl| ttl > 1_000_000), "{said}");
    world.ask("refresh", &json!({"user": "ann", "expired": true}));
    let (_, said) = ann.push("disconnect");
    assert_eq!(said["code"], 3005);
    ann.expect_close();
    // Nobody in particular is whoever has no name.
    let (mut nobody, mut bob) = (world.user(""), world.user("bob"));
    world.ask("refresh", &json!({"expired": true}));
    assert_eq!(nobody.push("disconnect").1["code"], 3005);
    nobody.expect_close();
    bob.expect_nothing();
}

#[test]
fn what_is_published_before_a_disconnect_arrives_before_it() {
    let redis = RedisServer::start();
    for broker in ["memory".to_owned(), redis.url()] {
        let world = World::with(&[&[&*format!("broker={broker}")], &USERS[..]].concat());
        for round in 0..20 {
            let mut ann = world.user("ann");
            ann.ask("subscribe", &json!({"channel": "news"}));
            world.batch(&json!({"commands": [
                {"publish": {"channel": "news", "data": round}},
                {"disconnect": {"user": "ann"}},
            ]}));
            assert_eq!(ann.push("pub").1["data"], round, "{broker}");
            ann.push("disconnect");
            ann.expect_close();
        }
    }
}
