//! Public keys in PEM (RFC 7468) around a `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7), or around
//! PKCS #1's `RSAPublicKey` (RFC 8017 §A.1.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use spki::der::asn1::UintRef;
use spki::der::{Decode as _, Reader as _, SliceReader};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use thiserror::Error;

use super::key::{Curve, Key};

/// Longest text of a key in bytes; a key of 8192 bits takes 1.5 KiB.
const MAX_PEM: usize = 16 << 10;

/// `rsaEncryption` (RFC 8017 §A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey` (RFC 5480 §2.1.1).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// The curves, by their names in RFC 5480 §2.1.1.1.
const CURVES: [(ObjectIdentifier, Curve); 3] = [
    (ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"), Curve::P256),
    (ObjectIdentifier::new_unwrap("1.3.132.0.34"), Curve::P384),
    (ObjectIdentifier::new_unwrap("1.3.132.0.35"), Curve::P521),
];

/// The kind of key of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// For RS256, RS384, RS512.
    Rsa,
    /// For ES256, ES384, ES512, by its curve.
    Ecdsa,
}

impl KeyType {
    fn name(self) -> &'static str {
        match self {
            Self::Rsa => "an RSA",
            Self::Ecdsa => "an ECDSA",
        }
    }
}

/// The reason why text is not a public key of the required kind, without any part of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected {} public key in PEM (-----BEGIN PUBLIC KEY-----), got {got}", wanted.name())]
pub struct PemError {
    wanted: KeyType,
    got: &'static str,
}

/// A usable public key, with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pem: String,
    wanted: KeyType,
}

impl PublicKey {
    /// Reads a key in PEM. A line break may also be written as `\n`, as in an environment variable.
    ///
    /// # Errors
    /// [`PemError`], as text that follows the name of the option.
    pub fn from_pem(text: &str, wanted: KeyType) -> Result<Self, PemError> {
        let pem = text.replace("\\n", "\n").trim().to_owned();
        read(&pem, wanted).map_err(|got| PemError { wanted, got })?;
        Ok(Self { pem, wanted })
    }

    /// The text.
    pub fn as_pem(&self) -> &str {
        &self.pem
    }

    /// The key itself.
    pub(super) fn key(&self) -> Key {
        read(&self.pem, self.wanted).expect("the text was read when it was taken")
    }
}

/// The key in a text, or the reason why there is none.
fn read(pem: &str, wanted: KeyType) -> Result<Key, &'static str> {
    let (label, der) = decode(pem)?;
    let key = match label {
        "PUBLIC KEY" => subject_public_key(&der)?,
        "RSA PUBLIC KEY" => pkcs1(&der)?,
        "CERTIFICATE" => return Err("a certificate (`openssl x509 -pubkey -noout` prints the key in one)"),
        label if label.ends_with("PRIVATE KEY") => {
            return Err(
                "a private key, which no server needs (`openssl pkey -pubout` prints the public one)",
            );
        }
        _ => return Err("a PEM text of another kind"),
    };
    match (wanted, &key) {
        (KeyType::Rsa, Key::Rsa(_)) | (KeyType::Ecdsa, Key::P256(_) | Key::P384(_) | Key::P521(_)) => Ok(key),
        _ => Err("a key of another kind"),
    }
}

/// The label and the bytes of the one PEM text.
fn decode(pem: &str) -> Result<(&str, Vec<u8>), &'static str> {
    if pem.len() > MAX_PEM {
        return Err("a longer text than any key");
    }
    let none = "text that is no PEM";
    let (label, rest) =
        pem.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----")).ok_or(none)?;
    let (body, end) = rest.split_once("-----END ").ok_or(none)?;
    match end.strip_prefix(label) {
        Some("-----") => {}
        Some(more) if more.starts_with("-----") => return Err("more than one PEM text"),
        _ => return Err(none),
    }
    let body: String = body.split_ascii_whitespace().collect();
    Ok((label, STANDARD.decode(body).map_err(|_| "PEM with something else than base64 in it")?))
}

fn subject_public_key(der: &[u8]) -> Result<Key, &'static str> {
    let broken = "a key that is cut off or broken";
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| broken)?;
    let bits = info.subject_public_key.as_bytes().ok_or(broken)?;
    if info.algorithm.oid == RSA {
        return pkcs1(bits);
    }
    if info.algorithm.oid != EC {
        return Err("a key of another kind");
    }
    let oid = info.algorithm.parameters_oid().map_err(|_| broken)?;
    let (_, curve) = CURVES
        .into_iter()
        .find(|(known, _)| *known == oid)
        .ok_or("a key on another curve than P-256, P-384 and P-521")?;
    Key::ecdsa(curve, bits)
}

/// `RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }`.
fn pkcs1(der: &[u8]) -> Result<Key, &'static str> {
    let read = || {
        let mut reader = SliceReader::new(der)?;
        let numbers = reader.sequence(|numbers| {
            let pair = (UintRef::decode(numbers)?, UintRef::decode(numbers)?);
            Ok::<_, spki::der::Error>(pair)
        })?;
        reader.finish()?;
        Ok::<_, spki::der::Error>(numbers)
    };
    let (modulus, exponent) = read().map_err(|_| "a key that is cut off or broken")?;
    Key::rsa(modulus.as_bytes(), exponent.as_bytes())
}
