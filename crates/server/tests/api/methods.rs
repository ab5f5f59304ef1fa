//! `subscribe`, `unsubscribe`, `disconnect` and `refresh`.

use serde_json::json;

use crate::world::World;

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
    ] {
        assert_eq!(world.ask(method, &request), json!({}), "{method} {request}");
    }
    for (method, request, code) in [
        ("subscribe", json!({"user": "42"}), 107),
        ("subscribe", json!({"channel": "news"}), 107),
        ("subscribe", json!({"user": "42", "channel": "none:a"}), 102),
        ("subscribe", json!({"user": "42", "channel": "tidings.node.control"}), 103),
        ("subscribe", json!({"user": "42", "channel": "news", "b64info": "?"}), 107),
        ("subscribe", json!({"user": "42", "channel": "news", "expire_at": 5}), 107),
        ("unsubscribe", json!({"channel": "news"}), 107),
        ("unsubscribe", json!({"user": "42", "channel": "none:a"}), 102),
        ("disconnect", json!({}), 107),
        ("disconnect", json!({"user": "42", "disconnect": {"code": 2999}}), 107),
        ("disconnect", json!({"user": "42", "disconnect": {"code": 70000}}), 107),
        ("refresh", json!({"user": ""}), 107),
        ("refresh", json!({"user": "42", "expire_at": -1}), 107),
    ] {
        assert_eq!(world.fail(method, &request).0, code, "{method} {request}");
    }
}
