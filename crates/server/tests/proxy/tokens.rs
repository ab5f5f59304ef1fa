//! Tokens over the client protocol and on the line port.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tidings_auth::sign_hs256;
use tidings_config::Secret;
use tidings_testkit::metric;

use crate::server_with_hooks::{ServerWithHooks, now, token};

const UNAUTHORIZED: (u64, bool) = (101, false);
const DENIED: (u64, bool) = (103, false);
const EXPIRED_TOKEN: (u64, bool) = (109, false);

#[test]
fn a_connection_token_authenticates_a_user_with_a_time_to_live() {
    let server = ServerWithHooks::with_key(&[]);
    let mut client = server.client();
    let result = client.call_ok("connect", json!({"token": token(json!({"sub": "42", "exp": now() + 600}))}));
    assert_eq!(result["expires"], json!(true), "{result}");
    assert!((590..=600).contains(&result["ttl"].as_u64().expect("seconds")), "{result}");
    let result = server.client().call_ok("connect", json!({"token": token(json!({"sub": "42"}))}));
    assert_eq!((result.get("expires"), result.get("ttl")), (None, None), "{result}");
}

#[test]
fn an_invalid_token_is_an_error_and_never_an_anonymous_client() {
    let server = ServerWithHooks::with_key(&[
        ("client.token.audience", "tidings"),
        ("client.allow_anonymous_connect_without_token", "true"),
    ]);
    let good = |more: Value| {
        let mut claims = json!({"sub": "42", "aud": "tidings"});
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        claims
    };
    let unsigned = |header: &str| {
        let claims = URL_SAFE_NO_PAD.encode(good(json!({})).to_string());
        format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(header))
    };
    for (bad, code, what) in [
        ("hunter2".to_owned(), UNAUTHORIZED, "no token"),
        (unsigned(r#"{"alg":"none"}"#), UNAUTHORIZED, "alg none"),
        (unsigned(r#"{"alg":"HS256"}"#), UNAUTHORIZED, "no signature"),
        (
            sign_hs256(&Secret::new("another"), &good(json!({}))).expect("a token"),
            UNAUTHORIZED,
            "another key",
        ),
        (token(good(json!({"aud": "another"}))), UNAUTHORIZED, "another audience"),
        (token(good(json!({"channel": "a"}))), UNAUTHORIZED, "a subscription token"),
        (token(good(json!({"exp": now() - 1}))), EXPIRED_TOKEN, "expired"),
        (token(good(json!({"nbf": now() + 600}))), EXPIRED_TOKEN, "not yet valid"),
        (token(good(json!({"expire_at": now() - 1}))), (110, false), "expired expire_at"),
    ] {
        let mut client = server.client();
        assert_eq!(client.call_error("connect", json!({"token": bad})), code, "{what}");
    }
    server.connected(json!({"token": token(good(json!({"exp": now() + 600})))}));
    server.connected(json!({}));
}

#[test]
fn with_a_configured_key_a_client_without_a_token_is_rejected() {
    let server = ServerWithHooks::with_key(&[]);
    assert_eq!(server.client().call_error("connect", json!({})), UNAUTHORIZED);
    // A token without a user authenticates an anonymous client.
    for claims in [json!({"sub": ""}), json!({"sub": null}), json!({})] {
        server.connected(json!({"token": token(claims)}));
    }
}

#[test]
fn without_a_configured_key_a_token_is_rejected() {
    let server = ServerWithHooks::with(&[]);
    assert_eq!(
        server.client().call_error("connect", json!({"token": token(json!({"sub": "42"}))})),
        UNAUTHORIZED
    );
}

#[test]
fn a_connection_token_lists_server_side_subscriptions() {
    let server = ServerWithHooks::with_key(&[("http_api.key", "api key")]);
    let by_name = json!({"sub": "42", "channels": ["news"]});
    let with_options = json!({"sub": "42", "subs": {"news": {"data": {"hello": 1}}}});
    let both = json!({"sub": "42", "channels": ["a", "b", "news"], "subs": {"news": {"data": 3}, "c": {}}});
    for (claims, data) in [(by_name, Value::Null), (with_options, json!({"hello": 1})), (both, json!(3))] {
        let mut client = server.client();
        let result = client.call_ok("connect", json!({"token": token(claims)}));
        assert!(result["subs"].get("news").is_some(), "{result}");
        assert_eq!(result["subs"]["news"]["data"], data, "{result}");
        let mut backend = server.line();
        backend.send("AUTH api key");
        backend.expect("CONFIRMED");
        backend.send("PUBLISH news {\"a\":1}");
        backend.expect("CONFIRMED");
        let push = client.message()["push"].take();
        assert_eq!((&push["channel"], &push["pub"]["data"]), (&json!("news"), &json!({"a": 1})));
    }
}

#[test]
fn a_connection_is_rejected_if_one_channel_of_its_token_is_invalid() {
    let server = ServerWithHooks::with_key(&[
        ("channel.namespaces", "known"),
        ("client.subscribe_to_user_personal_channel.enabled", "true"),
    ]);
    for claims in [json!({"channels": ["nothing:a"]}), json!({"subs": {"nothing:a": null}})] {
        assert_eq!(server.client().call_error("connect", json!({"token": token(claims)})), (102, false));
    }
    let own = json!({"sub": "42", "channels": ["tidings.node.control"]});
    assert_eq!(server.client().call_error("connect", json!({"token": token(own)})), DENIED);
    assert_eq!(
        server.client().call_error("connect", json!({"token": token(json!({"sub": "bob,eve"}))})),
        DENIED
    );
    let result = server.client().call_ok(
        "connect",
        json!({"token": token(json!({"sub": "42", "subs": {"known:a": null, ":b": null}}))}),
    );
    let subs = result["subs"].as_object().expect("subs");
    assert_eq!(subs.keys().collect::<Vec<_>>(), ["#42", ":b", "known:a"]);
}

#[test]
fn the_time_to_live_of_a_token_is_at_most_a_year() {
    let server = ServerWithHooks::with_key(&[]);
    for end in [4_102_444_800_u64, 99_999_999_999_999] {
        let claims = json!({"sub": "42", "exp": end});
        let result = server.client().call_ok("connect", json!({"token": token(claims)}));
        assert_eq!((&result["expires"], &result["ttl"]), (&json!(true), &json!(31_536_000)), "{end}");
    }
}

#[test]
fn recovery_does_not_reveal_a_history_without_the_permission() {
    let kept = [
        ("channel.without_namespace.history_size", "10"),
        ("channel.without_namespace.history_ttl", "1m"),
        ("channel.without_namespace.allow_subscribe_for_client", "true"),
        ("http_api.key", "api key"),
    ];
    for (more, is_allowed) in
        [(None, false), (Some("allow_recovery"), true), (Some("allow_history_for_subscriber"), true)]
    {
        let more = more.map(|option| format!("channel.without_namespace.{option}"));
        let more = more.iter().map(|option| (&**option, "true"));
        let server = ServerWithHooks::with_key(&kept.iter().copied().chain(more).collect::<Vec<_>>());
        let mut backend = server.line();
        for line in ["AUTH api key", "PUBLISH news \"secret\"", "PUBLISH $own \"secret\""] {
            backend.send(line);
            backend.expect("CONFIRMED");
        }
        let since = json!({"recover": true, "recoverable": true, "positioned": true});
        let token_of = |claims: Value| json!({"token": token(claims), "subs": {"news": since}});
        let mut client = server.client();
        let by_connect = client.call_ok("connect", token_of(json!({"sub": "42"})))["subs"]["news"].take();
        let mut request = since.clone();
        request["channel"] = "$own".into();
        request["token"] = token(json!({"sub": "42", "channel": "$own"})).into();
        let by_token = client.call_ok("subscribe", request.clone());
        client.call_ok("unsubscribe", json!({"channel": "news"}));
        (request["channel"], request["token"]) = ("news".into(), "".into());
        let by_option = client.call_ok("subscribe", request);
        for reply in [by_connect, by_token, by_option] {
            if is_allowed {
                assert_eq!(reply["publications"][0]["data"], "secret", "{reply}");
            } else {
                assert_eq!(reply, json!({}));
            }
        }
    }
}

#[test]
fn a_subscription_token_is_valid_only_for_its_channel_user_and_client() {
    let server = ServerWithHooks::with_key(&[]);
    let mut client = server.client();
    let id = client.call_ok("connect", json!({"token": token(json!({"sub": "42"}))}))["client"].take();
    for (claims, code, what) in [
        (json!({"sub": "42", "channel": "b"}), DENIED, "another channel"),
        (json!({"sub": "43", "channel": "a"}), DENIED, "another user"),
        (json!({"channel": "a"}), DENIED, "an anonymous user"),
        (json!({"sub": "42", "channel": "a", "client": "another"}), DENIED, "another client"),
        (json!({"sub": "42"}), DENIED, "a connection token"),
        (json!({"sub": "42", "channel": "a", "exp": now() - 1}), EXPIRED_TOKEN, "expired"),
        (json!({"sub": "42", "channel": "a", "expire_at": now() - 1}), (110, false), "expired expire_at"),
    ] {
        let request = json!({"channel": "a", "token": token(claims)});
        assert_eq!(client.call_error("subscribe", request), code, "{what}");
    }
    assert_eq!(client.call_error("subscribe", json!({"channel": "a"})), DENIED);
    let claims = json!({"sub": "42", "channel": "a", "client": id, "exp": now() + 600});
    let result = client.call_ok("subscribe", json!({"channel": "a", "token": token(claims)}));
    assert_eq!(result["expires"], json!(true), "{result}");
}

#[test]
fn a_private_channel_always_needs_a_subscription_token() {
    let server =
        ServerWithHooks::with_key(&[("channel.without_namespace.allow_subscribe_for_client", "true")]);
    let mut client = server.connected(json!({"token": token(json!({"sub": "42"}))}));
    client.call_ok("subscribe", json!({"channel": "open"}));
    assert_eq!(client.call_error("subscribe", json!({"channel": "$mine"})), DENIED);
    let claims = json!({"sub": "42", "channel": "$mine"});
    client.call_ok("subscribe", json!({"channel": "$mine", "token": token(claims)}));
}

#[test]
fn subscription_tokens_may_have_a_key_of_their_own() {
    let other = "another secret of thirty-two bytes or more";
    let server = ServerWithHooks::with_key(&[
        ("client.subscription_token.enabled", "true"),
        ("client.subscription_token.hmac_secret_key", other),
    ]);
    let mut client = server.connected(json!({"token": token(json!({"sub": "42"}))}));
    let claims = json!({"sub": "42", "channel": "a"});
    let by_connection_key = json!({"channel": "a", "token": token(claims.clone())});
    assert_eq!(client.call_error("subscribe", by_connection_key), DENIED);
    assert_eq!(client.call_error("subscribe", json!({"channel": "a", "token": "hunter2"})), DENIED);
    let by_its_own = sign_hs256(&Secret::new(other), &claims).expect("a token");
    client.call_ok("subscribe", json!({"channel": "a", "token": by_its_own}));
}

#[test]
fn a_new_connection_token_prolongs_the_connection_of_the_same_user() {
    let server = ServerWithHooks::with_key(&[]);
    let mut client = server.connected(json!({"token": token(json!({"sub": "42", "exp": now() + 60}))}));
    let result = client.call_ok("refresh", json!({"token": token(json!({"sub": "42", "exp": now() + 600}))}));
    assert_eq!(result["expires"], json!(true), "{result}");
    assert!((590..=600).contains(&result["ttl"].as_u64().expect("seconds")), "{result}");
    // The error of an expired token is temporary: the client tries again with a newer one.
    let expired = json!({"token": token(json!({"sub": "42", "exp": now() - 1}))});
    assert_eq!(client.call_error("refresh", expired), (109, true));
    assert_eq!(client.call_error("refresh", json!({"token": token(json!({"sub": "43"}))})), UNAUTHORIZED);
}

#[test]
fn a_new_subscription_token_prolongs_the_subscription() {
    let server = ServerWithHooks::with_key(&[]);
    let mut client = server.connected(json!({"token": token(json!({"sub": "42"}))}));
    let made = |channel: &str, end: u64| {
        let claims = json!({"sub": "42", "channel": channel, "exp": end});
        json!({"channel": "a", "token": token(claims)})
    };
    client.call_ok("subscribe", made("a", now() + 60));
    let result = client.call_ok("sub_refresh", made("a", now() + 600));
    assert!((590..=600).contains(&result["ttl"].as_u64().expect("seconds")), "{result}");
    assert_eq!(client.call_error("sub_refresh", made("a", now() - 1)), (109, true));
    assert_eq!(client.call_error("sub_refresh", made("b", now() + 600)), DENIED);
}

#[test]
fn a_token_on_the_line_port_authenticates_the_client() {
    let server =
        ServerWithHooks::with_key(&[("channel.without_namespace.allow_subscribe_for_client", "true")]);
    let mut line = server.line();
    line.send("SUBSCRIBE news");
    line.expect("ERROR 103 permission denied");
    line.send("AUTH hunter2");
    line.expect("ERROR 101 unauthorized");
    line.send(&format!("AUTH {}", token(json!({"sub": "42", "exp": now() - 1}))));
    line.expect("ERROR 109 token expired");
    line.send(&format!("AUTH {}", token(json!({"sub": "42"}))));
    line.expect("CONFIRMED");
    line.send("SUBSCRIBE news");
    line.expect("CONFIRMED");
}

#[test]
fn a_token_that_names_an_unknown_key_counts_as_a_wrong_one_and_causes_no_fetch() {
    // A key set without keys.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
    let fetches = Arc::new(AtomicUsize::new(0));
    std::thread::spawn({
        let fetches = Arc::clone(&fetches);
        move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a request");
                    head.push(byte[0]);
                }
                fetches.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"keys\":[]}");
            }
        }
    });
    let world = ServerWithHooks::with(&[("client.token.jwks_public_endpoint", &url)]);
    let named = |kid: &str| {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "kid": kid}).to_string());
        format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode("signature"))
    };
    let connect = |kid: &str| {
        let began = Instant::now();
        let error = world.client().call_error("connect", json!({"token": named(kid)}));
        assert!(began.elapsed() >= Duration::from_millis(200), "a response to a wrong token is delayed");
        error
    };
    assert_eq!(connect("first"), UNAUTHORIZED);
    for _ in 0..3 {
        // Temporary, because the set may have the key after the next fetch.
        assert_eq!(connect("second"), (100, true));
    }
    assert_eq!(metric(world.http(), "tidings_auth_failures_total{credential=\"token\"}"), 4);
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
}
