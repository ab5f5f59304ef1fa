//! A key verifies only signatures that were made with it.

use serde_json::json;
use tidings_auth::{Refusal, TokenError};

use crate::fixtures::{NOW, SECRET, connect, fixture, hmac_verifier, pem, signed, verifier};

/// Every algorithm, with the option of its key and the fixture of the key.
fn algorithms() -> Vec<(&'static str, &'static str, String)> {
    let mut all = Vec::new();
    all.extend(["HS256", "HS384", "HS512"].map(|name| (name, "token.hmac_secret_key", SECRET.to_owned())));
    all.extend(["RS256", "RS384", "RS512"].map(|name| (name, "token.rsa_public_key", pem("rsa"))));
    for (name, key) in [("ES256", "p256"), ("ES384", "p384"), ("ES512", "p521")] {
        all.push((name, "token.ecdsa_public_key", pem(key)));
    }
    all
}

#[test]
fn tokens_of_another_program_are_accepted_with_their_key() {
    for (name, option, key) in algorithms() {
        let connection = connect(&verifier(&[(option, &key)]), &fixture(name)).expect(name);
        assert_eq!((connection.user.as_str(), connection.expires), ("42", Some(4_102_444_800)), "{name}");
        assert_eq!(connection.info.as_deref(), Some(&b"{\"name\":\"Ann\"}"[..]));
    }
    let bare = verifier(&[("token.rsa_public_key", &pem("rsa-pkcs1"))]);
    assert!(connect(&bare, &fixture("RS256")).is_ok());
}

#[test]
fn a_changed_token_is_refused() {
    for (name, option, key) in algorithms() {
        let verifier = verifier(&[(option, &key)]);
        let token = fixture(name);
        let dots: Vec<usize> = token.match_indices('.').map(|(at, _)| at).collect();
        // One character in the middle of the claims, and one in the middle of the signature.
        for at in [dots[0].midpoint(dots[1]), dots[1].midpoint(token.len())] {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(connect(&verifier, &changed), Err(Refusal::Signature.into()), "{name} at {at}");
        }
        let (unsigned, _) = token.rsplit_once('.').expect("a dot");
        assert_eq!(connect(&verifier, &format!("{unsigned}.")), Err(Refusal::Signature.into()), "{name}");
    }
}

#[test]
fn a_key_rejects_signatures_of_other_keys() {
    let other = verifier(&[("token.hmac_secret_key", "another secret of thirty-two bytes")]);
    for name in ["HS256", "HS384", "HS512"] {
        assert_eq!(connect(&other, &fixture(name)), Err(Refusal::Signature.into()));
    }
    let rsa = verifier(&[("token.rsa_public_key", &pem("rsa"))]);
    assert_eq!(connect(&rsa, &fixture("RS256 rsa-other")), Err(Refusal::Signature.into()));
    let elsewhere = verifier(&[("token.ecdsa_public_key", &pem("p256"))]);
    for (name, algorithm) in [("ES384", "ES384"), ("ES512", "ES512"), ("RS256", "RS256"), ("HS256", "HS256")]
    {
        assert_eq!(connect(&elsewhere, &fixture(name)), Err(Refusal::NoKey(algorithm).into()));
    }
}

#[test]
fn keys_of_several_kinds_can_be_configured_together() {
    let all = verifier(&[
        ("token.hmac_secret_key", SECRET),
        ("token.rsa_public_key", &pem("rsa")),
        ("token.ecdsa_public_key", &pem("p384")),
    ]);
    for name in ["HS256", "HS512", "RS256", "RS384", "ES384"] {
        assert!(connect(&all, &fixture(name)).is_ok(), "{name}");
    }
    assert_eq!(connect(&all, &fixture("ES256")), Err(Refusal::NoKey("ES256").into()));
}

#[test]
fn a_public_key_is_never_used_as_an_hmac_key() {
    let claims = format!("{{\"sub\":\"admin\",\"exp\":{}}}", NOW + 60);
    for (option, name) in [("token.rsa_public_key", "rsa"), ("token.ecdsa_public_key", "p256")] {
        let key = pem(name);
        let verifier = verifier(&[(option, &key)]);
        for bytes in [key.as_str(), key.trim()] {
            let forged = signed(&json!({"alg": "HS256"}), claims.as_bytes(), bytes.as_bytes());
            assert_eq!(connect(&verifier, &forged), Err(Refusal::NoKey("HS256").into()));
            // The algorithm in its header is ignored, too.
            let forged = signed(&json!({"alg": "RS256"}), claims.as_bytes(), bytes.as_bytes());
            assert!(matches!(connect(&verifier, &forged), Err(TokenError::Refused(_))));
        }
    }
}

#[test]
fn no_algorithm_and_unknown_ones_are_refused() {
    let verifier = hmac_verifier();
    let claims = br#"{"sub":"42"}"#;
    for name in ["none", "None", "NONE", "nOnE", "", "HS1", "hs256", "RS256 ", "PS256", "A128KW", "dir"] {
        let token = signed(&json!({"alg": name}), claims, SECRET.as_bytes());
        assert_eq!(connect(&verifier, &token), Err(Refusal::Algorithm(name.to_owned()).into()));
        let (unsigned, _) = token.rsplit_once('.').expect("a dot");
        assert!(connect(&verifier, &format!("{unsigned}.")).is_err(), "{name}");
    }
    let long = signed(&json!({"alg": "x".repeat(5000)}), claims, SECRET.as_bytes());
    assert!(connect(&verifier, &long).expect_err("refused").to_string().len() < 200);
}

#[test]
fn an_unsupported_critical_header_is_refused() {
    for critical in [json!(["b64"]), json!(["exp"]), json!([]), json!("x")] {
        let header = json!({"alg": "HS256", "crit": critical, "b64": false});
        let token = signed(&header, br#"{"sub":"42"}"#, SECRET.as_bytes());
        assert_eq!(connect(&hmac_verifier(), &token), Err(Refusal::Critical.into()));
    }
}

#[test]
fn without_a_key_every_token_is_refused() {
    let none = verifier(&[]);
    assert!(!none.has_key() && hmac_verifier().has_key());
    assert_eq!(connect(&none, &fixture("HS256")), Err(Refusal::NotConfigured("connection").into()));
    let empty = signed(&json!({"alg": "HS256"}), br#"{"sub":"42"}"#, b"");
    assert_eq!(connect(&none, &empty), Err(Refusal::NotConfigured("connection").into()));
}
