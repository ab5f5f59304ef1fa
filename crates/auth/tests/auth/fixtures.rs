//! Keys and tokens from another program (`fixtures/make.py`), tokens of the tests, and a verifier for them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use tidings_auth::{Connection, SetupError, Subscription, TokenError, Verifier};
use tidings_config::{ClientOptions, Overrides};

/// The key of the fixtures' HMAC tokens.
pub(crate) const SECRET: &str = "a secret of thirty-two bytes or more";
/// The time of the tests, in Unix seconds; the fixtures' tokens end long after it.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A public key of the fixtures, in PEM.
pub(crate) fn pem(name: &str) -> String {
    let path = format!("{}/tests/auth/fixtures/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A token of the fixtures, by its algorithm (and its key, where it is not the usual one).
pub(crate) fn fixture(label: &str) -> String {
    let tokens: BTreeMap<String, String> =
        serde_json::from_str(include_str!("fixtures/tokens.json")).expect("a map of tokens");
    tokens.get(label).unwrap_or_else(|| panic!("no token {label}")).clone()
}

/// A public key of the fixtures, as a member of a key set.
pub(crate) fn jwk(name: &str) -> Value {
    let keys: Value = serde_json::from_str(include_str!("fixtures/jwks.json")).expect("JSON");
    keys.get(name).unwrap_or_else(|| panic!("no key {name}")).clone()
}

/// The options of clients, from options of `client` (`token.audience`) and their values.
pub(crate) fn options(sets: &[(&str, &str)]) -> ClientOptions {
    let mut overrides = Overrides::default();
    for (key, value) in sets {
        overrides.set(&format!("client.{key}={value}")).expect("KEY=VALUE");
    }
    tidings_config::load(None, [], &overrides).unwrap_or_else(|e| panic!("{e}")).client
}

pub(crate) fn try_verifier(sets: &[(&str, &str)]) -> Result<Verifier, SetupError> {
    Verifier::new(&options(sets).verifier())
}

pub(crate) fn verifier(sets: &[(&str, &str)]) -> Verifier {
    try_verifier(sets).unwrap_or_else(|e| panic!("{e}"))
}

/// A verifier that trusts [`SECRET`].
pub(crate) fn hmac_verifier() -> Verifier {
    verifier(&[("token.hmac_secret_key", SECRET)])
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// The result of a verifier without a key set at [`NOW`].
pub(crate) fn connect(verifier: &Verifier, token: &str) -> Result<Connection, TokenError> {
    wait(verifier.connection(token, NOW))
}

/// The result of a verifier without a key set at [`NOW`].
pub(crate) fn subscribe(verifier: &Verifier, token: &str) -> Result<Subscription, TokenError> {
    wait(verifier.subscription(token, NOW))
}

/// A token made of its parts, signed with HMAC-SHA-256 by the test, independent of the tested code.
pub(crate) fn signed(header: &Value, claims: &[u8], key: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token with these claims, signed with [`SECRET`].
#[expect(clippy::needless_pass_by_value, reason = "json!(…) in place")]
pub(crate) fn token(claims: Value) -> String {
    signed(&json!({"alg": "HS256"}), claims.to_string().as_bytes(), SECRET.as_bytes())
}
