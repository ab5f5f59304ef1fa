//! A key set as JSON (RFC 7517 §5, RFC 7518 §6, RFC 8037 §2).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Refusal, truncated};
use crate::key::{Algorithm, Curve, Key};

/// The usable keys of a set.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<(String, ListedKey)>,
    remarks: Vec<String>,
}

/// Most remarks on keys of one set; further ones are counted.
const MAX_REMARKS: usize = 10;

/// A key, and its algorithm if the set restricts it.
#[derive(Clone)]
pub(crate) struct ListedKey {
    key: Arc<Key>,
    only: Option<Algorithm>,
}

impl ListedKey {
    /// As [`Key::verify`].
    pub(crate) fn verify(
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
    /// Parses a set. Keys for another use or of an unsupported kind are skipped (RFC 7517 §5).
    ///
    /// # Errors
    /// The reason why the text is no key set.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let Set { keys: listed } =
            serde_json::from_slice(json).map_err(|e| format!("the answer is no key set: {}", sort(&e)))?;
        let mut set = Self::default();
        let mut more = 0;
        let mut remark = |text: String, remarks: &mut Vec<String>| {
            if remarks.len() < MAX_REMARKS { remarks.push(text) } else { more += 1 }
        };
        for (n, value) in listed.into_iter().enumerate() {
            let name = name_of(&value, n);
            match usable(value) {
                Ok((id, key, is_strict)) => {
                    if !is_strict {
                        remark(
                            format!("{name} is used, but not in base64url without padding (RFC 7515 §2)"),
                            &mut set.remarks,
                        );
                    }
                    set.keys.push((id, key));
                }
                Err(why) => remark(format!("{name} is not used: {why}"), &mut set.remarks),
            }
        }
        if more > 0 {
            set.remarks.push(format!("{more} more"));
        }
        Ok(set)
    }

    /// The key of this name that verifies this algorithm. Keys of different kinds may share a name (RFC 7517 §4.5).
    pub(super) fn find(&self, id: &str, algorithm: Algorithm) -> Option<ListedKey> {
        self.keys.iter().find(|(name, key)| name == id && key.verifies(algorithm)).map(|(_, key)| key.clone())
    }

    /// Number of usable keys.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// Remarks on keys that are skipped or have a wrong format: name and reason.
    pub(super) fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

fn sort(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "JSON that ends too early",
        serde_json::error::Category::Data => "JSON of another shape",
        _ => "no JSON",
    }
}

/// The name of a member of a set in messages: its id, or its index.
fn name_of(value: &Value, n: usize) -> String {
    match value.get("kid").and_then(Value::as_str) {
        Some(id) => format!("key {:?}", truncated(id)),
        None => format!("key number {} (without an id)", n + 1),
    }
}

/// The key in a member of a set, with its name, and whether its numbers have the right format.
///
/// # Errors
/// The reason why it cannot be used, as the end of a sentence, without any part of the key.
fn usable(value: Value) -> Result<(String, ListedKey, bool), String> {
    let jwk: Jwk = serde_json::from_value(value)
        .map_err(|_| "it is no object with a kty and members of the usual types")?;
    if let Some(usage) = jwk.usage.as_deref().filter(|usage| *usage != "sig") {
        return Err(format!("it is for another use ({:?}) than signatures", truncated(usage)));
    }
    if jwk.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|o| o == "verify")) {
        return Err("its key_ops do not include verify".to_owned());
    }
    let only = match jwk.alg.as_deref() {
        Some(name) => Some(
            Algorithm::named(name)
                .ok_or_else(|| format!("its alg {:?} is not supported", truncated(name)))?,
        ),
        None => None,
    };
    let (key, is_strict) = key(&jwk)?;
    if only.is_some_and(|only| !key.verifies(only)) {
        return Err("its alg does not go with its kty or crv".to_owned());
    }
    let id = jwk.kid.ok_or("no token can name it without a kid")?;
    Ok((id, ListedKey { key: Arc::new(key), only }, is_strict))
}

fn key(jwk: &Jwk) -> Result<(Key, bool), String> {
    let mut is_strict = true;
    let mut number = |name: &str, text: &Option<String>| -> Result<Vec<u8>, String> {
        let text = text.as_deref().ok_or_else(|| format!("it has no {name}"))?;
        if let Ok(number) = URL_SAFE_NO_PAD.decode(text) {
            return Ok(number);
        }
        // Some providers use padding or plain base64. The number is the same, so this accepts no other key.
        is_strict = false;
        let bare = text.trim_end_matches('=');
        let number = URL_SAFE_NO_PAD.decode(bare).or_else(|_| STANDARD_NO_PAD.decode(bare));
        number.map_err(|_| format!("its {name} is not base64url"))
    };
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            Key::rsa(&number("n", &jwk.n)?, &number("e", &jwk.e)?).map_err(|why| format!("it is {why}"))?
        }
        ("EC", curve) => {
            let curve = match curve {
                Some("P-256") => Curve::P256,
                Some("P-384") => Curve::P384,
                Some("P-521") => Curve::P521,
                Some(other) => return Err(format!("its crv {:?} is not supported", truncated(other))),
                None => return Err("it has no crv".to_owned()),
            };
            let (x, y) = (number("x", &jwk.x)?, number("y", &jwk.y)?);
            // "The length of this octet string MUST be the full size of a coordinate" (RFC 7518 §6.2.1.2).
            if x.len() != curve.coordinate() || y.len() != curve.coordinate() {
                return Err("its x or y has another length than its crv asks for".to_owned());
            }
            let point = [&[4], &x[..], &y[..]].concat();
            Key::ecdsa(curve, &point).map_err(|why| format!("it is {why}"))?
        }
        ("OKP", Some("Ed25519")) => match number("x", &jwk.x)? {
            x if x.len() == 32 => Key::Ed25519(x),
            _ => return Err("its x is not 32 bytes long".to_owned()),
        },
        ("OKP", Some(other)) => return Err(format!("its crv {:?} is not supported", truncated(other))),
        (other, _) => return Err(format!("its kty {:?} is not supported", truncated(other))),
    };
    Ok((key, is_strict))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fixture(name: &str, changes: &[(&str, Value)]) -> Value {
        let keys: Value =
            serde_json::from_str(include_str!("../../tests/auth/fixtures/jwks.json")).expect("a map of keys");
        let mut key = keys[name].clone();
        for (member, value) in changes {
            key[*member] = value.clone();
        }
        key
    }

    fn remarks(keys: &[Value]) -> Vec<String> {
        let set = KeySet::read(json!({"keys": keys}).to_string().as_bytes()).expect("a key set");
        set.remarks().to_vec()
    }

    #[test]
    fn skipped_keys_are_named_with_the_reason() {
        let rsa = |changes: &[(&str, Value)]| fixture("rsa", changes);
        for (key, reason) in [
            (rsa(&[("use", json!("enc"))]), "key \"rsa\" is not used: it is for another use (\"enc\")"),
            (rsa(&[("key_ops", json!(["sign"]))]), "its key_ops do not include verify"),
            (rsa(&[("alg", json!("RSA-OAEP"))]), "its alg \"RSA-OAEP\" is not supported"),
            (rsa(&[("alg", json!("ES256"))]), "its alg does not go with its kty"),
            (rsa(&[("kty", json!("oct"))]), "its kty \"oct\" is not supported"),
            (rsa(&[("kid", Value::Null)]), "key number 1 (without an id) is not used: no token can name it"),
            (rsa(&[("n", json!("!"))]), "its n is not base64url"),
            (rsa(&[("n", Value::Null)]), "it has no n"),
            (fixture("rsa-small", &[]), "it is an RSA key that is not 2048 to 8192 bits long"),
            (fixture("p256", &[("crv", json!("P-192"))]), "its crv \"P-192\" is not supported"),
            (fixture("p256", &[("x", json!("AAAA"))]), "its x or y has another length"),
            (json!("rsa"), "it is no object with a kty"),
        ] {
            let remarks = remarks(std::slice::from_ref(&key));
            assert!(remarks.len() == 1 && remarks[0].contains(reason), "{key}: {remarks:?}");
        }
        assert!(remarks(&[rsa(&[]), fixture("p256", &[])]).is_empty());
    }

    #[test]
    fn padding_and_plain_base64_are_accepted_and_remarked_on() {
        let n = fixture("rsa", &[])["n"].as_str().expect("text").to_owned();
        let padded =
            format!("{n}{}", "=".repeat((4 - n.len() % 4) % 4 + usize::from(n.len().is_multiple_of(4))));
        let plain = n.replace('-', "+").replace('_', "/");
        for text in [padded, plain + "=="] {
            let key = fixture("rsa", &[("n", json!(text))]);
            let set = KeySet::read(json!({"keys": [key]}).to_string().as_bytes()).expect("a key set");
            assert_eq!(set.count(), 1);
            assert!(
                set.remarks()[0].starts_with("key \"rsa\" is used, but not in base64url"),
                "{:?}",
                set.remarks()
            );
        }
    }

    #[test]
    fn remarks_are_bounded() {
        let bad: Vec<Value> = (0..100).map(|n| json!({"kty": "oct", "kid": format!("{n}")})).collect();
        let remarks = remarks(&bad);
        assert_eq!(remarks.len(), MAX_REMARKS + 1);
        assert_eq!(remarks[MAX_REMARKS], "90 more");
    }
}
