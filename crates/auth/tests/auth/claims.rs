//! The claims of accepted tokens.

use std::sync::Arc;

use serde_json::json;
use tidings_auth::{Connection, Subscription, SubscriptionOptions};
use tidings_capabilities::{Allow, Capabilities};
use tidings_tags_filter::Filter;
use tidings_wire::grant::{ChannelOverrides, TokenId};
use tidings_wire::{Channel, Labels};

use crate::fixtures::{NOW, connect, hmac_verifier, signed, subscribe, token};

fn connected(claims: serde_json::Value) -> Connection {
    connect(&hmac_verifier(), &token(claims)).expect("taken")
}

fn subscribed(claims: serde_json::Value) -> Subscription {
    subscribe(&hmac_verifier(), &token(claims)).expect("taken")
}

fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel")
}

#[test]
fn a_connection_token_yields_user_info_and_subscriptions() {
    let caps = r#"[{"channels": ["a"], "allow": ["sub"]}]"#;
    let connection = connected(json!({
        "caps": serde_json::from_str::<serde_json::Value>(caps).expect("JSON"), "labels": {"tier": "pro"},
        "sub": "42", "exp": NOW + 60, "iat": NOW, "nbf": NOW, "jti": "1", "iss": "app", "aud": ["x"],
        "info": {"name": "Ann"}, "meta": {"tenant": 7}, "channels": ["news", "chat:1"], "tables": {"upload": true},
        "something": ["else"],
    }));
    assert_eq!(
        connection,
        Connection {
            user: "42".into(),
            expires: Some(NOW + 60),
            info: Some("{\"name\":\"Ann\"}".into()),
            meta: Some("{\"tenant\":7}".into()),
            token: TokenId { id: Some("1".into()), issued: Some(NOW) },
            subs: ["news", "chat:1"].map(|name| (channel(name), SubscriptionOptions::default())).into(),
            capabilities: Capabilities::from_json(caps).ok().map(Arc::new),
            labels: Labels::new([("tier".to_owned(), "pro".to_owned())].into()).map(Arc::new),
            upload: Some(true),
        }
    );
    let least = connected(json!({"sub": "42"}));
    assert_eq!((least.expires, least.info, least.meta, least.subs.len()), (None, None, None, 0));
}

#[test]
fn null_claims_count_as_absent() {
    let connection = connected(json!({
        "sub": "42", "exp": null, "info": null, "b64info": null, "meta": null, "channels": null, "subs": null,
        "channel": null, "expire_at": null,
    }));
    assert_eq!(connection, connected(json!({"sub": "42", "b64info": "", "channel": "", "channels": []})));
    let options = connected(json!({"sub": "42", "subs": {"news": null}})).subs;
    assert_eq!(options, [(channel("news"), SubscriptionOptions::default())].into());
}

#[test]
fn a_connection_may_end_at_another_time_than_its_token() {
    assert_eq!(connected(json!({"sub": "a", "exp": NOW + 9, "expire_at": NOW + 5})).expires, Some(NOW + 5));
    assert_eq!(connected(json!({"sub": "a", "exp": NOW + 9, "expire_at": 0})).expires, None);
    assert_eq!(connected(json!({"sub": "a", "expire_at": NOW + 5})).expires, Some(NOW + 5));
    assert_eq!(subscribed(json!({"channel": "a", "exp": NOW + 9, "expire_at": 0})).expires, None);
    // Some libraries write fractions of a second; rounding never extends the validity.
    assert_eq!(connected(json!({"sub": "a", "exp": NOW as f64 + 9.9})).expires, Some(NOW + 9));
}

#[test]
fn info_may_be_any_bytes_and_json_is_stored_unchanged() {
    let connection = connected(json!({"sub": "42", "info": {"a": 1}, "b64info": "/wA="}));
    assert_eq!(connection.info.as_deref(), Some(&b"\xff\x00"[..]));
    let written = br#"{"sub":"42","info":{"big": 12345678901234567890123, "e":1.50, "twice":1, "twice":2}}"#;
    let token = signed(&json!({"alg": "HS256"}), written, crate::fixtures::SECRET.as_bytes());
    let info = connect(&hmac_verifier(), &token).expect("taken").info.expect("info");
    assert_eq!(info, r#"{"big": 12345678901234567890123, "e":1.50, "twice":1, "twice":2}"#);
}

#[test]
fn subs_take_precedence_over_channels() {
    let connection = connected(json!({
        "sub": "42",
        "channels": ["news", "plain"],
        "subs": {
            "news": {"info": 1, "data": {"welcome": true}, "override": {
                "presence": {"value": true}, "join_leave": {"value": false}, "force_recovery": {},
                "unknown": {"value": true},
            }},
            "binary": {"b64info": "AAE=", "b64data": "AgM="},
        },
    }));
    let overrides = ChannelOverrides {
        presence: Some(true),
        join_leave: Some(false),
        force_recovery: Some(false),
        ..ChannelOverrides::default()
    };
    let news = SubscriptionOptions {
        info: Some("1".into()),
        data: Some("{\"welcome\":true}".into()),
        overrides,
        ..SubscriptionOptions::default()
    };
    let binary = SubscriptionOptions {
        info: Some(vec![0, 1].into()),
        data: Some(vec![2, 3].into()),
        overrides: ChannelOverrides::default(),
        ..SubscriptionOptions::default()
    };
    let plain = SubscriptionOptions::default();
    let expected = [("binary", binary), ("news", news), ("plain", plain)];
    assert_eq!(connection.subs, expected.map(|(name, options)| (channel(name), options)).into());
}

#[test]
fn a_subscription_token_yields_user_client_channel_and_options() {
    let subscription = subscribed(json!({
        "sub": "42", "channel": "$gossips", "client": "c1", "exp": NOW + 60, "info": {"nick": "ann"},
        "data": [1], "allow": ["pub", "hst"], "override": {"force_positioning": {"value": true}, "force_push_join_leave": {"value": true}},
    }));
    assert_eq!(
        subscription,
        Subscription {
            user: "42".into(),
            client: Some("c1".into()),
            channel: channel("$gossips"),
            expires: Some(NOW + 60),
            token: TokenId::default(),
            options: SubscriptionOptions {
                info: Some("{\"nick\":\"ann\"}".into()),
                data: Some("[1]".into()),
                overrides: ChannelOverrides {
                    force_positioning: Some(true),
                    force_push_join_leave: Some(true),
                    ..ChannelOverrides::default()
                },
                allow: Allow::from_names(["pub", "hst"]).expect("capabilities"),
                ..SubscriptionOptions::default()
            },
        }
    );
    let least = subscribed(json!({"channel": "a"}));
    assert_eq!((least.user.as_str(), least.client, least.expires), ("", None, None));
}

#[test]
fn a_filter_by_tags_of_a_token_applies_to_its_subscription_or_the_token_is_refused() {
    let filter = json!({"op": "not", "nodes": [{"key": "team", "cmp": "eq", "val": "a"}]});
    let expected = Filter::from_json(filter.to_string().as_bytes()).map(Arc::new).ok();
    assert!(expected.is_some());
    let subscription = subscribed(json!({"sub": "42", "channel": "news", "server_tags_filter": filter}));
    assert_eq!(subscription.options.filter, expected);
    let connection =
        connected(json!({"sub": "42", "subs": {"news": {"server_tags_filter": filter}, "art": {}}}));
    let filters: Vec<_> = connection.subs.values().map(|options| options.filter.clone()).collect();
    assert_eq!(filters, [None, expected]);
    for wrong in [json!({"op": "nand"}), json!("team = a"), json!([])] {
        let claims = json!({"sub": "42", "channel": "news", "server_tags_filter": wrong});
        let refusal = subscribe(&hmac_verifier(), &token(claims)).expect_err("a wrong filter").to_string();
        assert!(refusal.contains("no valid filter by tags"), "{wrong}: {refusal}");
    }
}
