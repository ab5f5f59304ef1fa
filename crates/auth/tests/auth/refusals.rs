//! Tokens with a valid signature that are refused, and the errors for the client and the log.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tidings_auth::{MAX_TOKEN, Refusal, TokenError};

use crate::fixtures::{NOW, SECRET, connect, hmac_verifier, signed, subscribe, token, verifier};

fn refused(claims: Value) -> TokenError {
    connect(&hmac_verifier(), &token(claims)).expect_err("refused")
}

#[test]
fn an_expired_token_is_an_error_of_its_own() {
    assert_eq!(refused(json!({"sub": "42", "exp": NOW - 5})), TokenError::Expired { seconds: 5 });
    // "On or after which it must not be accepted."
    assert_eq!(refused(json!({"sub": "42", "exp": NOW})), TokenError::Expired { seconds: 0 });
    assert_eq!(refused(json!({"sub": "42", "exp": NOW as f64 + 0.5})).code().number, 109);
    assert_eq!(refused(json!({"sub": "42", "exp": 0})).code().number, 109);
    assert!(connect(&hmac_verifier(), &token(json!({"sub": "42", "exp": NOW + 1}))).is_ok());
    // Expiry is reported before errors of other claims.
    assert_eq!(refused(json!({"exp": NOW - 5, "channels": 3})).code().number, 109);
    let subscription = token(json!({"channel": "a", "exp": NOW - 5}));
    assert_eq!(subscribe(&hmac_verifier(), &subscription), Err(TokenError::Expired { seconds: 5 }));
}

#[test]
fn a_token_before_its_nbf_gets_a_temporary_code() {
    let early = refused(json!({"sub": "42", "nbf": NOW + 5}));
    assert_eq!((&early, early.code().number), (&TokenError::NotYetValid { seconds: 5 }, 109));
    assert!(connect(&hmac_verifier(), &token(json!({"sub": "42", "nbf": NOW}))).is_ok());
}

#[test]
fn a_token_for_another_audience_is_refused_when_one_is_configured() {
    let ours = verifier(&[("token.hmac_secret_key", SECRET), ("token.audience", "tidings")]);
    for (audience, taken) in [
        (json!("tidings"), true),
        (json!(["other", "tidings"]), true),
        (json!("other"), false),
        (json!("tidings2"), false),
        (json!(["other"]), false),
        (json!([]), false),
        (Value::Null, false),
    ] {
        let token = token(json!({"sub": "42", "channel": null, "aud": audience}));
        let expected = if taken { Ok(()) } else { Err(Refusal::Audience.into()) };
        assert_eq!(connect(&ours, &token).map(|_| ()), expected, "{audience}");
        assert!(connect(&hmac_verifier(), &token).is_ok());
    }
    assert_eq!(connect(&ours, &token(json!({"sub": "42"}))), Err(Refusal::Audience.into()));
    assert_eq!(
        subscribe(&ours, &token(json!({"channel": "a", "aud": "other"}))),
        Err(Refusal::Audience.into())
    );
    assert!(subscribe(&ours, &token(json!({"channel": "a", "aud": "tidings"}))).is_ok());
}

#[test]
fn a_token_of_another_issuer_is_refused_when_one_is_configured() {
    let ours = verifier(&[("token.hmac_secret_key", SECRET), ("token.issuer", "https://id.example.com")]);
    for (issuer, taken) in [
        (json!("https://id.example.com"), true),
        (json!("https://id.example.com/"), false),
        (Value::Null, false),
    ] {
        let token = token(json!({"sub": "42", "iss": issuer}));
        let expected = if taken { Ok(()) } else { Err(Refusal::Issuer.into()) };
        assert_eq!(connect(&ours, &token).map(|_| ()), expected, "{issuer}");
        assert!(connect(&hmac_verifier(), &token).is_ok());
    }
}

#[test]
fn a_connection_token_without_a_user_is_anonymous() {
    for claims in [json!({}), json!({"sub": null}), json!({"sub": ""})] {
        let anonymous = connect(&hmac_verifier(), &token(claims)).expect("an anonymous one");
        assert_eq!(anonymous.user, "");
    }
    assert!(matches!(refused(json!({"sub": 42})), TokenError::Refused(Refusal::Claim { claim: "sub", .. })));
}

#[test]
fn the_two_kinds_of_token_are_not_interchangeable() {
    let verifier = hmac_verifier();
    let subscription = token(json!({"sub": "42", "channel": "news"}));
    let connection = token(json!({"sub": "42"}));
    let wrong = connect(&verifier, &subscription).expect_err("a subscription token");
    assert!(matches!(wrong, TokenError::Refused(Refusal::Claim { claim: "channel", .. })), "{wrong:?}");
    assert_eq!(subscribe(&verifier, &connection), Err(Refusal::Missing("channel").into()));
    assert!(subscribe(&verifier, &subscription).is_ok() && connect(&verifier, &connection).is_ok());
}

#[test]
fn a_claim_of_the_wrong_type_is_named_and_not_repeated() {
    for (claim, value) in [
        ("sub", json!({"hunter2": 1})),
        ("exp", json!("hunter2")),
        ("exp", json!(-1)),
        ("nbf", json!(["hunter2"])),
        ("expire_at", json!("hunter2")),
        ("b64info", json!("hunter2!")),
        ("channels", json!("hunter2")),
        ("channels", json!(["hunter2\u{7f}"])),
        ("channels", json!([""])),
        ("channels", json!(["hunter2".repeat(40)])),
        ("subs", json!(["hunter2"])),
        ("subs", json!({"hunter2": 3})),
        ("subs", json!({"hunter2\u{7f}": {}})),
        ("subs", json!({"hunter2": {"b64data": "!"}})),
        ("subs", json!({"hunter2": {"override": {"presence": "hunter2"}}})),
        ("channel", json!(["hunter2"])),
    ] {
        let mut claims = json!({"sub": "42"});
        claims[claim] = value;
        let error = refused(claims.clone());
        assert_eq!(error.code().number, 101);
        let text = format!("{error} {error:?}");
        assert!(text.contains(&format!("`{claim}`")) && !text.contains("hunter2"), "{claims}: {text}");
    }
}

#[test]
fn malformed_tokens_are_refused() {
    let good = token(json!({"sub": "42"}));
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    for garbage in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "a".into(),
        "a.b".into(),
        "not a token".into(),
        "ключ.ключ.ключ".into(),
        "\0\0.\0.\0".into(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}.{signature}"),
        format!("{header}.{claims}.{signature}="),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}.+/+/"),
        format!("{}.{claims}.{signature}", part(b"{}")),
        format!("{}.{claims}.{signature}", part(b"[]")),
        format!("{}.{claims}.{signature}", part(b"{\"alg\":\"HS256\"")),
        format!("{}.{claims}.{signature}", part(b"{\"alg\":\"HS256\",\"alg\":\"none\"}")),
        format!("{}.{claims}.{signature}", part(b"{\"alg\":256}")),
        format!("{}.{claims}.{signature}", part(b"\xff\xfe")),
    ] {
        let error = connect(&hmac_verifier(), &garbage).expect_err(&garbage);
        assert!(matches!(error, TokenError::Refused(Refusal::Malformed(_))), "{garbage:?}: {error:?}");
        assert_eq!(error.code().number, 101);
    }
    let encrypted = format!("{good}.{signature}.{signature}");
    let told = connect(&hmac_verifier(), &encrypted).expect_err("a JWE has five parts").to_string();
    assert!(told.contains("three parts"), "{told}");
    // A valid signature, but invalid claims.
    for json in
        [&b""[..], b"[]", b"null", b"{", b"\xff", b"{\"sub\":\"a\",\"sub\":\"b\"}", b"{\"sub\":\"\xff\"}"]
    {
        let token = signed(&json!({"alg": "HS256"}), json, SECRET.as_bytes());
        assert!(connect(&hmac_verifier(), &token).is_err(), "{json:?}");
    }
    let deep = format!("{{\"sub\":\"42\",\"info\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let token = signed(&json!({"alg": "HS256"}), deep.as_bytes(), SECRET.as_bytes());
    // It is valid, but it must not overflow the stack.
    let _ = connect(&hmac_verifier(), &token);
}

#[test]
fn a_token_past_the_bound_is_refused_before_it_is_read() {
    let with = |padding: usize| token(json!({"sub": "42", "info": "x".repeat(padding)}));
    let past = (MAX_TOKEN * 3 / 4 - 200..).find(|padding| with(*padding).len() > MAX_TOKEN).expect("one");
    let (fits, too_long) = (with(past - 1), with(past));
    assert!(fits.len() <= MAX_TOKEN && connect(&hmac_verifier(), &fits).is_ok());
    assert_eq!(connect(&hmac_verifier(), &too_long), Err(Refusal::TooLong(too_long.len()).into()));
    let garbage = "x".repeat(10 << 20);
    assert_eq!(connect(&hmac_verifier(), &garbage), Err(Refusal::TooLong(garbage.len()).into()));
}

#[test]
fn clients_get_only_the_error_code() {
    let wrong_key = verifier(&[("token.hmac_secret_key", "another secret of thirty-two bytes")]);
    let error = connect(&wrong_key, &token(json!({"sub": "42"}))).expect_err("refused");
    assert_eq!((error.code().number, error.code().text), (101, "unauthorized"));
    assert!(!error.code().temporary);
}
