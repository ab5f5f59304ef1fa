//! Options of tokens, and errors of wrong options.

use serde_json::json;
use tidings_auth::{MAX_TOKEN, Refusal, SetupError, SignError, sign_hs256};
use tidings_config::{Config, Overrides, Secret};

use crate::fixtures::{NOW, SECRET, connect, fixture, pem, signed, subscribe, token, try_verifier, verifier};

fn load(sets: &[(&str, &str)]) -> Result<Config, String> {
    let mut overrides = Overrides::default();
    for (key, value) in sets {
        overrides.set(&format!("{key}={value}")).expect("KEY=VALUE");
    }
    tidings_config::load(None, [], &overrides).map_err(|e| e.to_string())
}

#[test]
fn an_invalid_key_is_a_configuration_error() {
    let rsa = "client.token.rsa_public_key";
    let ecdsa = "client.subscription_token.ecdsa_public_key";
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----";
    let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
    let cut_off = pem("rsa").replace("MII", "MIA");
    let twice = format!("{}{}", pem("rsa"), pem("rsa"));
    for (option, text, complaint) in [
        (rsa, "hunter2", "text that is no PEM"),
        (rsa, "-----BEGIN PUBLIC KEY-----", "text that is no PEM"),
        (rsa, "-----BEGIN PUBLIC KEY-----hunter2!-----END PUBLIC KEY-----", "something else than base64"),
        (rsa, &pem("p256"), "a key of another kind"),
        (rsa, &pem("ed25519"), "a key of another kind"),
        (rsa, &pem("rsa-small"), "2048 to 8192 bits"),
        (rsa, private, "a private key"),
        (rsa, certificate, "a certificate"),
        (rsa, &cut_off, "cut off or broken"),
        (rsa, &twice, "more than one PEM text"),
        (ecdsa, &pem("rsa"), "a key of another kind"),
        (ecdsa, &"x".repeat(20_000), "a longer text"),
    ] {
        let error = load(&[(option, text)]).expect_err(complaint);
        assert!(error.starts_with(&format!("--set {option}: expected an ")), "{error}");
        assert!(error.contains(complaint) && !error.contains("hunter2"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn a_key_may_be_written_on_one_line() {
    let one_line = pem("rsa").trim().replace('\n', "\\n");
    assert!(connect(&verifier(&[("token.rsa_public_key", &one_line)]), &fixture("RS256")).is_ok());
    let windows = pem("p384").replace('\n', "\r\n");
    assert!(connect(&verifier(&[("token.ecdsa_public_key", &windows)]), &fixture("ES384")).is_ok());
    assert!(
        load(&[("client.token.rsa_public_key", "")]).expect("none").client.token.rsa_public_key.is_none()
    );
}

#[test]
fn every_kind_of_key_enables_verification() {
    assert!(!Config::default().client.token.has_key());
    for (option, value) in [
        ("client.token.hmac_secret_key", SECRET),
        ("client.token.rsa_public_key", &pem("rsa")),
        ("client.token.ecdsa_public_key", &pem("p521")),
        ("client.token.jwks_public_endpoint", "http://127.0.0.1:1/keys"),
    ] {
        assert!(load(&[(option, value)]).expect(option).client.token.has_key(), "{option}");
    }
}

#[test]
fn subscription_tokens_may_have_keys_of_their_own() {
    let other = "another secret of thirty-two bytes";
    let ours = token(json!({"channel": "a"}));
    let theirs = sign_hs256(&Secret::new(other), &json!({"channel": "a"})).expect("a token");
    let keys = [("token.hmac_secret_key", SECRET), ("subscription_token.hmac_secret_key", other)];
    let separate = verifier(&[keys[0], keys[1], ("subscription_token.enabled", "true")]);
    assert_eq!(subscribe(&separate, &ours), Err(Refusal::Signature.into()));
    assert!(subscribe(&separate, &theirs).is_ok());
    assert!(connect(&separate, &token(json!({"sub": "42"}))).is_ok());
    // While they are not enabled, they have no effect.
    let shared = verifier(&keys);
    assert!(subscribe(&shared, &ours).is_ok());
    assert_eq!(subscribe(&shared, &theirs), Err(Refusal::Signature.into()));
    // The rules of one kind of token do not apply to the other.
    let strict =
        verifier(&[keys[0], keys[1], ("subscription_token.enabled", "true"), ("token.audience", "x")]);
    assert!(subscribe(&strict, &theirs).is_ok());

    let error = try_verifier(&[keys[0], ("subscription_token.enabled", "true")]).err();
    assert_eq!(error, Some(SetupError::NoSubscriptionKey));
}

#[test]
fn a_token_is_made_with_a_key_and_within_the_bound() {
    let claims = json!({"sub": "42"});
    assert_eq!(sign_hs256(&Secret::default(), &claims), Err(SignError::NoKey));
    let long = json!({"sub": "x".repeat(MAX_TOKEN)});
    assert!(matches!(sign_hs256(&Secret::new(SECRET), &long), Err(SignError::TooLong(_))));
}

#[test]
fn a_previous_key_is_accepted_until_its_expiry() {
    let new = "another secret of thirty-two bytes or more";
    let previous = ("token.hmac_previous_secret_key", SECRET);
    let until = |at: u64| {
        let at = at.to_string();
        let options =
            [("token.hmac_secret_key", new), previous, ("token.hmac_previous_secret_key_valid_until", &at)];
        connect(&verifier(&options), &token(json!({"sub": "42"}))).map(|connection| connection.user)
    };
    assert_eq!(until(0).as_deref(), Ok("42"));
    assert_eq!(until(NOW + 1).as_deref(), Ok("42"));
    assert_eq!(until(NOW), Err(Refusal::Signature.into()));
    // The new key is valid all the time, and the old one is not valid by itself.
    let by_new = signed(&json!({"alg": "HS256"}), b"{\"sub\":\"42\"}", new.as_bytes());
    assert!(connect(&verifier(&[("token.hmac_secret_key", new), previous]), &by_new).is_ok());
    let alone = connect(&verifier(&[previous]), &token(json!({"sub": "42"})));
    assert_eq!(alone, Err(Refusal::NotConfigured("connection").into()));
    // Subscription tokens are verified alike.
    let subscription = token(json!({"sub": "42", "channel": "a"}));
    assert!(subscribe(&verifier(&[("token.hmac_secret_key", new), previous]), &subscription).is_ok());
}
