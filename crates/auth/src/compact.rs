//! Tokens in compact form (RFC 7515 §7.1): `header.claims.signature`, each in base64url without padding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::{MAX_TOKEN, Refusal, SignError, truncated};
use super::key::Algorithm;
use tidings_wire::Secret;

/// A parsed token before the verification of its signature.
pub(super) struct Compact<'a> {
    pub(super) algorithm: Algorithm,
    /// The id of the signing key, if there is one.
    pub(super) key_id: Option<String>,
    /// The signed text: header and claims.
    pub(super) signed: &'a [u8],
    /// The claims, not parsed yet.
    pub(super) claims: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// The used members of a header (RFC 7515 §4.1).
#[derive(Deserialize)]
struct Header<'a> {
    alg: String,
    kid: Option<String>,
    #[serde(borrow)]
    crit: Option<&'a RawValue>,
}

impl<'a> Compact<'a> {
    /// Parses a token.
    ///
    /// # Errors
    /// [`Refusal::TooLong`], [`Refusal::Malformed`], [`Refusal::Algorithm`], [`Refusal::Critical`].
    pub(super) fn parse(token: &'a str) -> Result<Self, Refusal> {
        let Parts { signed, header, claims, signature } = split(token)?;
        let header: Header<'_> =
            serde_json::from_slice(&header).map_err(|_| Refusal::Malformed("its header is no JWT header"))?;
        if header.crit.is_some() {
            return Err(Refusal::Critical);
        }
        let algorithm =
            Algorithm::named(&header.alg).ok_or_else(|| Refusal::Algorithm(truncated(&header.alg)))?;
        Ok(Self { algorithm, key_id: header.kid, signed: signed.as_bytes(), claims, signature })
    }
}

/// The claims of a token, of which the signature and the header are not verified.
///
/// # Errors
/// [`Refusal::TooLong`] and [`Refusal::Malformed`].
pub(super) fn unverified_claims(token: &str) -> Result<Vec<u8>, Refusal> {
    Ok(split(token)?.claims)
}

struct Parts<'a> {
    signed: &'a str,
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

fn split(token: &str) -> Result<Parts<'_>, Refusal> {
    if token.len() > MAX_TOKEN {
        return Err(Refusal::TooLong(token.len()));
    }
    let three = "it does not have three parts with dots between them";
    let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed(three))?;
    let (header, claims) = signed.split_once('.').ok_or(Refusal::Malformed(three))?;
    if claims.contains('.') {
        return Err(Refusal::Malformed(three));
    }
    let decode = |part: &str, problem| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed(problem));
    Ok(Parts {
        signed,
        header: decode(header, "its header is no base64url")?,
        claims: decode(claims, "its claims are no base64url")?,
        signature: decode(signature, "its signature is no base64url")?,
    })
}

/// The contents of a token that is not verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspected {
    /// The header, an object.
    pub header: Value,
    /// The claims, an object.
    pub claims: Value,
}

impl Inspected {
    /// Whether it is a subscription token: these have a channel, and connection tokens must not.
    pub fn is_subscription(&self) -> bool {
        self.claims.get("channel").is_some_and(|channel| !channel.is_null() && channel != "")
    }
}

/// Reads a token without verifying it, to show its contents.
///
/// # Errors
/// [`Refusal::TooLong`] and [`Refusal::Malformed`].
pub fn inspect(token: &str) -> Result<Inspected, Refusal> {
    let Parts { header, claims, .. } = split(token)?;
    let object = |json: &[u8], problem| {
        let value = serde_json::from_slice::<Value>(json).ok().filter(Value::is_object);
        value.ok_or(Refusal::Malformed(problem))
    };
    Ok(Inspected {
        header: object(&header, "its header is no JSON object")?,
        claims: object(&claims, "its claims are no JSON object")?,
    })
}

/// Makes a token with these claims, signed with HMAC-SHA-256 (`HS256`, RFC 7518 §3.2).
///
/// # Errors
/// [`SignError`]: an empty key, claims that are no JSON or too long.
pub fn sign_hs256(key: &Secret, claims: &impl Serialize) -> Result<String, SignError> {
    if !key.is_set() {
        return Err(SignError::NoKey);
    }
    let claims = serde_json::to_vec(claims).map_err(|e| SignError::Claims(e.to_string()))?;
    let mut token = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    let signature = hmac::sign(&key, token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    if token.len() > MAX_TOKEN { Err(SignError::TooLong(token.len())) } else { Ok(token) }
}
