//! Arbitrary input in place of a token: the verifier returns a result and never panics.

use proptest::prelude::*;
use serde_json::json;
use tidings_auth::{inspect, sign_hs256};
use tidings_config::Secret;

use crate::fixtures::{SECRET, connect, hmac_verifier, signed, subscribe};

/// JSON of any shape, which contains names of claims more often than random JSON.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|on| json!(on)),
        any::<f64>().prop_map(|n| json!(n)),
        any::<i64>().prop_map(|n| json!(n)),
        ".{0,12}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let name = prop_oneof![claim(), ".{0,8}".prop_map(String::from)];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|list| json!(list)),
            prop::collection::btree_map(name, inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

fn claim() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "sub",
        "exp",
        "nbf",
        "aud",
        "iss",
        "expire_at",
        "info",
        "b64info",
        "meta",
        "channels",
        "subs",
        "channel",
        "client",
        "data",
        "b64data",
        "override",
        "presence",
        "value",
    ])
    .prop_map(String::from)
}

proptest! {
    #[test]
    fn no_text_makes_the_verifier_panic(text in "\\PC{0,200}") {
        let verifier = hmac_verifier();
        prop_assert!(connect(&verifier, &text).is_err());
        prop_assert!(subscribe(&verifier, &text).is_err());
        let _ = inspect(&text);
    }

    #[test]
    fn no_claims_make_the_verifier_panic(claims in prop::collection::btree_map(claim(), value(), 0..8)) {
        let verifier = hmac_verifier();
        let token = signed(&json!({"alg": "HS256"}), json!(claims).to_string().as_bytes(), SECRET.as_bytes());
        let connection = connect(&verifier, &token);
        let subscription = subscribe(&verifier, &token);
        // No claims are valid for both.
        prop_assert!(connection.is_err() || subscription.is_err());
    }

    #[test]
    fn any_bytes_as_header_and_claims_yield_a_result(
        header in prop::collection::vec(any::<u8>(), 0..60),
        claims in prop::collection::vec(any::<u8>(), 0..60),
        with_header: bool,
    ) {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let token = if with_header {
            format!("{}.{}.{}", encode(&header), encode(&claims), encode(&claims))
        } else {
            signed(&json!({"alg": "HS256"}), &claims, SECRET.as_bytes())
        };
        prop_assert!(connect(&hmac_verifier(), &token).is_err());
    }

    #[test]
    fn a_signed_token_yields_its_claims(user in "\\PC{0,40}", channel in "[!-~]{1,255}") {
        let key = Secret::new(SECRET);
        let verifier = hmac_verifier();
        let token = sign_hs256(&key, &json!({"sub": user})).expect("a token");
        prop_assert_eq!(&connect(&verifier, &token).expect("taken").user, &user);
        let token = sign_hs256(&key, &json!({"sub": user, "channel": channel})).expect("a token");
        let subscription = subscribe(&verifier, &token).expect("taken");
        prop_assert_eq!((&subscription.user, subscription.channel.as_str()), (&user, channel.as_str()));
        prop_assert!(inspect(&token).expect("a token").is_subscription());
    }
}
