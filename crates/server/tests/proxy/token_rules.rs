//! Rules by which tokens are accepted: patterns, the claim with the user, and tokens that need no signature or no user.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tidings_auth::sign_hs256;
use tidings_config::Secret;

use crate::log;
use crate::server_with_hooks::{ServerWithHooks, load, now, token};

const UNAUTHORIZED: (u64, bool) = (101, false);
const DENIED: (u64, bool) = (103, false);

#[test]
fn patterns_select_the_audiences_and_issuers_of_tokens() {
    let server = ServerWithHooks::with_key(&[
        ("client.token.audience_regex", "^tidings-(eu|us)$"),
        ("client.token.issuer_regex", "^https://[a-z]+\\.example\\.com/$"),
    ]);
    let issuer = "https://id.example.com/";
    let good = json!({"sub": "42", "aud": "tidings-eu", "iss": issuer});
    server.connected(json!({"token": token(good)}));
    server.connected(json!({"token": token(json!({"aud": ["other", "tidings-us"], "iss": issuer}))}));
    for (claims, what) in [
        (json!({"aud": "tidings-asia", "iss": issuer}), "another audience"),
        (json!({"iss": issuer}), "no audience"),
        (json!({"aud": "tidings-eu", "iss": "https://example.org/"}), "another issuer"),
        (json!({"aud": "tidings-eu"}), "no issuer"),
    ] {
        let reply = server.client().call_error("connect", json!({"token": token(claims)}));
        assert_eq!(reply, UNAUTHORIZED, "{what}");
    }
}

#[test]
fn a_pattern_beside_its_fixed_value_is_an_error() {
    for option in ["client.token.audience", "client.subscription_token.issuer"] {
        let pattern = format!("{option}_regex");
        let error = load(&[(option, "a"), (&pattern, "a")]).expect_err("both");
        assert!(error.contains(&format!("{pattern} and {option} are both set")), "{error}");
    }
    let error = load(&[("client.token.audience_regex", "a(b")]).expect_err("no pattern");
    assert!(error.contains("expected a regular expression") && error.contains("unclosed group"), "{error}");
}

#[test]
fn the_user_is_in_the_configured_claim() {
    let server = ServerWithHooks::with_key(&[
        ("client.token.user_id_claim", "account"),
        ("channel.without_namespace.allow_user_limited_channels", "true"),
    ]);
    let mine = json!({"channel": "dialog#42"});
    for (claims, is_user) in [
        (json!({"account": "42", "sub": "43"}), true),
        (json!({"account": "43", "sub": "42"}), false),
        (json!({"sub": "42"}), false),
        (json!({"account": null, "sub": "42"}), false),
    ] {
        let mut client = server.connected(json!({"token": token(claims.clone())}));
        let reply = client.call("subscribe", mine.clone());
        assert_eq!(reply["subscribe"].is_object(), is_user, "{claims}: {reply}");
    }
    // Subscription tokens have the user in the same claim.
    let mut client = server.connected(json!({"token": token(json!({"account": "42"}))}));
    let of = |claims: Value| json!({"channel": "news", "token": token(claims)});
    let wrong = client.call_error("subscribe", of(json!({"sub": "42", "channel": "news"})));
    assert_eq!(wrong, DENIED);
    client.call_ok("subscribe", of(json!({"account": "42", "channel": "news"})));
    let number = json!({"token": token(json!({"account": 42}))});
    assert_eq!(server.client().call_error("connect", number), UNAUTHORIZED);
}

#[test]
fn tokens_need_no_valid_signature_where_the_configuration_skips_its_verification() {
    log::capture();
    let server = ServerWithHooks::with_key(&[
        ("client.insecure_skip_token_signature_verify", "true"),
        ("client.token.audience", "tidings"),
    ]);
    let forged = |claims: Value| {
        sign_hs256(&Secret::new("another"), &claims).map(|token| json!({"token": token})).unwrap()
    };
    let unsigned = |header: &str, claims: Value| {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        json!({"token": format!("{}.{}.", part(header), part(&claims.to_string()))})
    };
    let good = json!({"sub": "42", "aud": "tidings"});
    server.connected(unsigned(r#"{"alg":"none"}"#, good.clone()));
    let mut client = server.connected(forged(good));
    let private = forged(json!({"sub": "42", "aud": "tidings", "channel": "$news"}));
    client.call_ok("subscribe", json!({"channel": "$news", "token": private["token"]}));
    // The claims are checked nevertheless.
    let expired = forged(json!({"aud": "tidings", "exp": now() - 1}));
    assert_eq!(server.client().call_error("connect", expired), (109, false));
    assert_eq!(server.client().call_error("connect", forged(json!({"sub": "42"}))), UNAUTHORIZED);
    assert_eq!(server.client().call_error("connect", json!({"token": "hunter2"})), UNAUTHORIZED);
    assert!(log::captured().contains("client.insecure_skip_token_signature_verify is on"));
}

#[test]
fn a_token_without_a_user_is_refused_where_the_configuration_disallows_it() {
    let server = ServerWithHooks::with_key(&[("client.disallow_anonymous_connection_tokens", "true")]);
    for claims in [json!({}), json!({"sub": ""})] {
        assert_eq!(server.client().call_error("connect", json!({"token": token(claims)})), DENIED);
    }
    server.connected(json!({"token": token(json!({"sub": "42"}))}));
    let server = ServerWithHooks::with_key(&[]);
    server.connected(json!({"token": token(json!({}))}));
}
