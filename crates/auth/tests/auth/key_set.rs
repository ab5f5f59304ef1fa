//! Key sets of an identity provider: fetches, cached keys, new and withdrawn keys; and a provider that is slow, broken
//! or unreachable.
//! slow, broken, or gone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tidings_auth::{Refusal, TokenError, Verifier};
use tidings_testkit::PATIENCE;
use tokio::time::timeout;

use crate::fixtures::{NOW, SECRET, fixture, jwk, pem, signed, verifier};
use crate::provider::{Answer, Provider};

const HOUR: u64 = 3600;

fn trusting(provider: &Provider) -> Verifier {
    verifier(&[("token.jwks_public_endpoint", &provider.url())])
}

/// The result of the verifier at a time.
async fn ask(verifier: &Verifier, label: &str, now: u64) -> Result<String, TokenError> {
    let answer = timeout(PATIENCE, verifier.connection(&fixture(label), now)).await.expect("an answer");
    answer.map(|connection| connection.user)
}

/// A token with a key id in its header.
fn naming(kid: &str) -> String {
    signed(&json!({"alg": "RS256", "kid": kid}), b"{\"sub\":\"42\"}", SECRET.as_bytes())
}

fn is_unknown(outcome: &Result<String, TokenError>) -> bool {
    matches!(outcome, Err(TokenError::Refused(Refusal::UnknownKey { .. })))
}

fn is_temporary(outcome: &Result<String, TokenError>) -> bool {
    matches!(outcome, Err(error @ (TokenError::Unavailable(_) | TokenError::UnknownKey { .. })) if error.code().temporary && error.code().number == 100)
}

#[tokio::test]
async fn a_set_is_fetched_once_and_its_keys_verify_their_tokens() {
    let provider = Provider::start(Answer::of(&["rsa", "p256", "p384", "p521", "ed25519"]));
    let verifier = trusting(&provider);
    assert!(verifier.has_key());
    assert!(provider.requests().is_empty(), "fetched before it was needed");
    for label in ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"] {
        assert_eq!(ask(&verifier, label, NOW).await.as_deref(), Ok("42"), "{label}");
        assert!(ask(&verifier, label, NOW + HOUR - 1).await.is_ok(), "{label}");
    }
    let [request] = &provider.requests()[..] else { panic!("{:?}", provider.requests()) };
    assert!(request.starts_with("GET /keys?realm=a HTTP/1.1\r\n"), "{request}");
    assert!(
        request.to_lowercase().contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", provider.port())),
        "{request}"
    );
}

#[tokio::test]
async fn a_wrong_signature_is_refused_for_every_key_id() {
    let mut forged = jwk("rsa-other");
    forged["kid"] = json!("rsa");
    let provider = Provider::start(Answer::Keys(vec![forged]));
    assert_eq!(ask(&trusting(&provider), "RS256", NOW).await, Err(Refusal::Signature.into()));
}

#[tokio::test]
async fn a_new_key_is_found_without_a_restart() {
    let provider = Provider::start(Answer::of(&["rsa"]));
    let verifier = trusting(&provider);
    assert!(ask(&verifier, "RS256", NOW).await.is_ok());
    provider.answer(Answer::of(&["p256"]));
    // Too early for another fetch, so it is not certain yet that there is no such key.
    assert!(is_temporary(&ask(&verifier, "ES256", NOW + 9).await));
    assert_eq!(provider.requests().len(), 1);
    assert!(ask(&verifier, "ES256", NOW + 10).await.is_ok());
    assert_eq!(provider.requests().len(), 2);
    // The old key was withdrawn, and its tokens are refused once that is certain.
    assert!(is_temporary(&ask(&verifier, "RS256", NOW + 10).await));
    assert!(is_unknown(&ask(&verifier, "RS256", NOW + 20).await));
}

#[tokio::test]
async fn invented_keys_cause_no_more_than_a_fetch_every_ten_seconds() {
    let provider = Provider::start(Answer::of(&["rsa"]));
    let verifier = trusting(&provider);
    for second in 0..30 {
        for n in 0..20 {
            let token = naming(&format!("invented-{second}-{n}"));
            let refused = verifier.connection(&token, NOW + second).await.map(|connection| connection.user);
            assert!(if second % 10 == 0 && n == 0 { is_unknown(&refused) } else { is_temporary(&refused) });
        }
        assert!(ask(&verifier, "RS256", NOW + second).await.is_ok());
    }
    assert_eq!(provider.requests().len(), 3);
}

#[tokio::test]
async fn concurrent_verifications_share_one_fetch() {
    let provider = Provider::start(Answer::of(&["rsa"]));
    let verifier = Arc::new(trusting(&provider));
    provider.hold();
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let verifier = Arc::clone(&verifier);
            tokio::spawn(async move { ask(&verifier, "RS256", NOW).await })
        })
        .collect();
    until("a request", || !provider.requests().is_empty()).await;
    provider.release();
    for asked in asking {
        assert_eq!(asked.await.expect("no panic").as_deref(), Ok("42"));
    }
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn a_cancelled_verification_does_not_cancel_the_fetch() {
    let provider = Provider::start(Answer::of(&["rsa"]));
    let verifier = Arc::new(trusting(&provider));
    provider.hold();
    let gone = tokio::spawn({
        let verifier = Arc::clone(&verifier);
        async move { ask(&verifier, "RS256", NOW).await }
    });
    until("a request", || !provider.requests().is_empty()).await;
    gone.abort();
    assert!(gone.await.expect_err("gone").is_cancelled());
    let (asked, ()) = tokio::join!(ask(&verifier, "RS256", NOW), async { provider.release() });
    assert_eq!(asked.as_deref(), Ok("42"));
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn a_failing_provider_does_not_invalidate_fetched_keys() {
    let provider = Provider::start(Answer::of(&["rsa"]));
    let verifier = trusting(&provider);
    assert!(ask(&verifier, "RS256", NOW).await.is_ok());
    provider.answer(Answer::with("500 Internal Server Error", "no"));
    assert!(ask(&verifier, "RS256", NOW + HOUR).await.is_ok());
    assert!(ask(&verifier, "RS256", NOW + HOUR + 9).await.is_ok());
    assert_eq!(provider.requests().len(), 2);
    assert!(ask(&verifier, "RS256", NOW + 100 * HOUR).await.is_ok());
    assert!(is_temporary(&ask(&verifier, "ES256", NOW + 100 * HOUR).await));
    // The provider has recovered, without the key. The key is refused at the latest one hour after its last fetch.
    provider.answer(Answer::of(&["p256"]));
    assert!(is_unknown(&ask(&verifier, "RS256", NOW + 101 * HOUR).await));
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_after_an_hour() {
    let provider = Provider::start(Answer::of(&["rsa", "p256"]));
    let verifier = trusting(&provider);
    assert!(ask(&verifier, "RS256", NOW).await.is_ok());
    provider.answer(Answer::of(&["p256"]));
    assert!(ask(&verifier, "RS256", NOW + HOUR - 1).await.is_ok());
    assert!(is_unknown(&ask(&verifier, "RS256", NOW + HOUR).await));
    assert!(ask(&verifier, "ES256", NOW + HOUR).await.is_ok());
    assert_eq!(provider.requests().len(), 2);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_fetching() {
    let provider = Provider::start(Answer::of(&["rsa"]));
    let verifier = trusting(&provider);
    assert!(ask(&verifier, "RS256", NOW + 24 * HOUR).await.is_ok());
    provider.answer(Answer::of(&["p256"]));
    assert!(ask(&verifier, "ES256", NOW).await.is_ok());
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_a_temporary_error() {
    let url = format!("http://127.0.0.1:{}/keys", tidings_testkit::free_port());
    let verifier = verifier(&[("token.jwks_public_endpoint", &url)]);
    let failed = ask(&verifier, "RS256", NOW).await;
    assert!(is_temporary(&failed), "{failed:?}");
    assert!(failed.expect_err("an error").to_string().contains("cannot connect"));
}

#[tokio::test]
async fn an_invalid_key_set_response_is_a_temporary_error_with_its_reason() {
    let long = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(256 << 10));
    let head = format!("200 OK\r\nX-Long: {}", "x".repeat(20 << 10));
    let moved = "302 Found\r\nLocation: http://127.0.0.1:1/";
    for (answer, complaint) in [
        (Answer::with("404 Not Found", "{\"keys\":[]}"), "answered 404"),
        (Answer::with("204 No Content", ""), "answered 204"),
        (Answer::with(moved, ""), "redirects are not followed"),
        (Answer::with("200 OK", "<html>"), "no JSON"),
        (Answer::with("200 OK", "{\"keys\":"), "JSON that ends too early"),
        (Answer::with("200 OK", "[]"), "JSON of another shape"),
        (Answer::with("200 OK", "{\"keys\":3}"), "JSON of another shape"),
        (Answer::with("200 OK", &long), "longer than 262144 bytes"),
        (Answer::with(&head, "{\"keys\":[]}"), "HTTP"),
        (Answer::Endless, "longer than 262144 bytes"),
        (Answer::Raw(b"hello\r\n\r\n".to_vec()), "HTTP"),
        (Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_vec()), "broke off"),
        (Answer::Raw(Vec::new()), "HTTP"),
    ] {
        let provider = Provider::start(answer);
        let failed = ask(&trusting(&provider), "RS256", NOW).await;
        assert!(is_temporary(&failed), "{complaint}: {failed:?}");
        let text = failed.expect_err("an error").to_string();
        assert!(text.contains(complaint), "{complaint}: {text}");
        assert!(!text.contains("eyJ"), "{text}");
    }
}

#[tokio::test]
async fn a_slow_fetch_times_out() {
    let provider = Provider::start(Answer::Drip);
    let failed = ask(&trusting(&provider), "RS256", NOW).await;
    assert!(is_temporary(&failed));
    assert!(failed.expect_err("an error").to_string().contains("no answer within 5 s"));
}

#[tokio::test]
async fn only_signature_keys_are_used_and_only_for_their_algorithm() {
    let with = |changes: &[(&str, Value)]| {
        let mut key = jwk("rsa");
        for (name, value) in changes {
            key[*name] = value.clone();
        }
        key
    };
    let other = jwk("p256");
    for (key, taken) in [
        (with(&[]), true),
        (with(&[("use", Value::Null)]), true),
        (with(&[("use", json!("enc"))]), false),
        (with(&[("use", Value::Null), ("key_ops", json!(["verify"]))]), true),
        (with(&[("use", Value::Null), ("key_ops", json!(["encrypt"]))]), false),
        (with(&[("alg", json!("RS256"))]), true),
        (with(&[("alg", json!("RS512"))]), false),
        (with(&[("alg", json!("RSA-OAEP"))]), false),
        (with(&[("kty", json!("EC"))]), false),
        (with(&[("kid", Value::Null)]), false),
        (with(&[("kid", json!("RSA"))]), false),
        (with(&[("n", json!("!"))]), false),
        (with(&[("n", jwk("rsa-small")["n"].clone())]), false),
        (with(&[("e", json!("AQ"))]), false),
        (with(&[("n", json!(3))]), false),
        (json!("rsa"), false),
        (json!({"kty": "oct", "kid": "rsa", "k": "c2VjcmV0"}), false),
    ] {
        let provider = Provider::start(Answer::Keys(vec![json!({"kty": "new"}), key.clone(), other.clone()]));
        let verifier = trusting(&provider);
        let outcome = ask(&verifier, "RS256", NOW).await;
        assert!(if taken { outcome.is_ok() } else { is_unknown(&outcome) }, "{key}: {outcome:?}");
        assert!(ask(&verifier, "ES256", NOW).await.is_ok(), "a bad key took a good one along");
    }
}

#[tokio::test]
async fn keys_of_different_kinds_may_share_a_name() {
    let mut twin = jwk("p256");
    twin["kid"] = json!("rsa");
    let provider = Provider::start(Answer::Keys(vec![twin, jwk("rsa")]));
    assert!(ask(&trusting(&provider), "RS256", NOW).await.is_ok());
}

#[tokio::test]
async fn a_key_set_replaces_all_other_keys() {
    let provider = Provider::start(Answer::of(&["p256"]));
    let verifier = verifier(&[
        ("token.jwks_public_endpoint", &provider.url()),
        ("token.hmac_secret_key", SECRET),
        ("token.rsa_public_key", &pem("rsa")),
    ]);
    assert_eq!(ask(&verifier, "HS256", NOW).await, Err(Refusal::NoKeyId.into()));
    let named = signed(&json!({"alg": "HS256", "kid": "p256"}), b"{\"sub\":\"42\"}", SECRET.as_bytes());
    let refused = verifier.connection(&named, NOW).await.map(|connection| connection.user);
    assert!(is_unknown(&refused), "{refused:?}");
    assert!(is_temporary(&ask(&verifier, "RS256", NOW).await));
    assert!(ask(&verifier, "ES256", NOW).await.is_ok());
}

/// Waits for a condition of another thread.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// A key of Ed25519 with the id `k`, and its member of a key set (RFC 8037 §2).
fn issuer_key() -> (Ed25519KeyPair, Value) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    (key, json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "x": x}))
}

fn signed_by(key: &Ed25519KeyPair, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", part(&json!({"alg": "EdDSA", "kid": "k"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()));
    format!("{text}.{signature}")
}

#[tokio::test]
async fn each_issuer_has_a_key_set_of_its_own_at_the_address_that_its_name_gives() {
    let ((a, a_set), (b, b_set)) = (issuer_key(), issuer_key());
    let provider = Provider::start(Answer::Keys(vec![a_set]));
    let verifier = verifier(&[
        ("token.jwks_public_endpoint", &format!("http://127.0.0.1:{}/{{{{realm}}}}/keys", provider.port())),
        ("token.issuer_regex", "https://id.example.com/(?P<realm>[0-9./a-z]+)"),
    ]);
    let verify = async |key: &Ed25519KeyPair, issuer: &str| {
        let claims = json!({"sub": "42", "iss": format!("https://id.example.com/{issuer}")});
        let verified = verifier.connection(&signed_by(key, &claims), NOW).await;
        verified.map(|connection| connection.user)
    };
    assert_eq!(verify(&a, "a").await.as_deref(), Ok("42"));
    provider.answer(Answer::Keys(vec![b_set]));
    assert_eq!(verify(&b, "b").await.as_deref(), Ok("42"));
    // The same key id, and another issuer's key.
    assert_eq!(verify(&a, "b").await, Err(Refusal::Signature.into()));
    assert_eq!(verify(&b, "a").await, Err(Refusal::Signature.into()));
    // A part that would change the address, and an issuer that the pattern does not match as a whole.
    assert_eq!(verify(&a, "a/x").await, Err(Refusal::Origin.into()));
    assert_eq!(verify(&a, "a?x").await, Err(Refusal::Origin.into()));
    let requests = provider.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(
        requests[0].starts_with("GET /a/keys ") && requests[1].starts_with("GET /b/keys "),
        "{requests:?}"
    );
}

#[tokio::test]
async fn the_audience_may_give_the_address_of_the_key_set() {
    let (key, set) = issuer_key();
    let provider = Provider::start(Answer::Keys(vec![set]));
    let verifier = verifier(&[
        ("token.jwks_public_endpoint", &format!("http://127.0.0.1:{}/{{{{realm}}}}", provider.port())),
        ("token.audience_regex", "^app-(?P<realm>[a-z]+)$"),
    ]);
    let claims = json!({"sub": "42", "aud": ["other", "app-shop"]});
    assert!(verifier.connection(&signed_by(&key, &claims), NOW).await.is_ok());
    assert!(provider.requests()[0].starts_with("GET /shop HTTP/1.1"), "{:?}", provider.requests());
    let claims = json!({"sub": "42", "aud": "other"});
    let refused = verifier.connection(&signed_by(&key, &claims), NOW).await;
    assert_eq!(refused.map(|connection| connection.user), Err(Refusal::Audience.into()));
    assert_eq!(provider.requests().len(), 1, "nothing is fetched for it");
}
