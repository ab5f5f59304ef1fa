//! A key set as JSON (RFC 7517 §5, RFC 7518 §6, RFC 8037 §2).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::auth::error::Refusal;
use crate::auth::key::{Algorithm, Curve, Key};

/// The keys of a set that can be used here.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<(String, ListedKey)>,
    passed_over: usize,
}

/// A key, and the one algorithm it is meant for where the set says so.
#[derive(Clone)]
pub(in crate::auth) struct ListedKey {
    key: Arc<Key>,
    only: Option<Algorithm>,
}

impl ListedKey {
    /// As [`Key::verify`].
    pub(in crate::auth) fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Refusal> {
        self.key.verify(algorithm, message, signature)
    }

    fn verifies(&self, algorithm: Algorithm) -> bool {
        self.key.verifies(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }
}

/// A member of a set; each kind of key has members of its own.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that are for something else, or of a kind that is not supported, are passed over, as RFC 7517
    /// §5 asks for.
    ///
    /// # Errors
    /// What the text is instead of a key set.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let Set { keys: listed } =
            serde_json::from_slice(json).map_err(|e| format!("the answer is no key set: {}", sort(&e)))?;
        let total = listed.len();
        let keys: Vec<_> = listed.into_iter().filter_map(usable).collect();
        Ok(Self { passed_over: total - keys.len(), keys })
    }

    /// The key of this name that verifies this algorithm. Keys of different kinds may share a name (RFC 7517 §4.5).
    pub(super) fn find(&self, id: &str, algorithm: Algorithm) -> Option<ListedKey> {
        self.keys.iter().find(|(name, key)| name == id && key.verifies(algorithm)).map(|(_, key)| key.clone())
    }

    /// How many keys can be used.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// How many were passed over.
    pub(super) fn passed_over(&self) -> usize {
        self.passed_over
    }
}

fn sort(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "JSON that ends too early",
        serde_json::error::Category::Data => "JSON of another shape",
        _ => "no JSON",
    }
}

/// The key in a member of a set, with its name; `None` when it has none, or no token can be verified with it.
fn usable(value: Value) -> Option<(String, ListedKey)> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|o| o == "verify"));
    if !for_signatures {
        return None;
    }
    let only = match jwk.alg.as_deref() {
        Some(name) => Some(Algorithm::named(name)?),
        None => None,
    };
    let key = key(&jwk)?;
    Some((jwk.kid?, ListedKey { key: Arc::new(key), only }))
}

fn key(jwk: &Jwk) -> Option<Key> {
    let number = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Key::rsa(&number(&jwk.n)?, &number(&jwk.e)?).ok(),
        ("EC", Some(curve)) => {
            let curve = match curve {
                "P-256" => Curve::P256,
                "P-384" => Curve::P384,
                "P-521" => Curve::P521,
                _ => return None,
            };
            let (x, y) = (number(&jwk.x)?, number(&jwk.y)?);
            // "The length of this octet string MUST be the full size of a coordinate" (RFC 7518 §6.2.1.2).
            let whole = x.len() == curve.coordinate() && y.len() == curve.coordinate();
            let point = [&[4], &x[..], &y[..]].concat();
            if whole { Key::ecdsa(curve, &point).ok() } else { None }
        }
        ("OKP", Some("Ed25519")) => number(&jwk.x).filter(|x| x.len() == 32).map(Key::Ed25519),
        _ => None,
    }
}
