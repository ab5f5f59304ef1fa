//! Algorithms (RFC 7518 §3.1, RFC 8037 §3.1) and the keys that verify them.

use p521::ecdsa::VerifyingKey;
use p521::ecdsa::signature::Verifier as _;
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};

use super::error::Refusal;
use tidings_wire::Secret;

/// Shortest and longest modulus of an RSA key, in bits: what ring verifies. NIST has refused shorter keys since 2014
/// (SP 800-131A), and the longest bounds the work that one token can cause.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A signature algorithm of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    const ALL: [Self; 10] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The algorithm of this name; the case matters (RFC 7515 §4.1.1).
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in a header.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A curve of ECDSA keys. Each belongs to one algorithm (RFC 7518 §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// Length of a coordinate, in bytes (RFC 7518 §6.2.1.2).
    pub(super) fn coordinate(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// A key, with the algorithms that it verifies.
pub(super) enum Key {
    /// HS256, HS384, HS512.
    Hmac(Secret),
    /// RS256, RS384, RS512.
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// ES256: a point on P-256, uncompressed.
    P256(Vec<u8>),
    /// ES384: a point on P-384, uncompressed.
    P384(Vec<u8>),
    /// ES512.
    P521(Box<VerifyingKey>),
    /// EdDSA with Ed25519.
    Ed25519(Vec<u8>),
}

impl Key {
    /// An RSA key from modulus and exponent, big-endian.
    ///
    /// # Errors
    /// The reason, as the end of a sentence.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, &'static str> {
        let (n, e) = (without_zeros(modulus), without_zeros(exponent));
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err("an RSA key that is not 2048 to 8192 bits long");
        }
        // The bounds of ring, which rejects every signature of such a key without a reason.
        let odd = |last: &u8| last % 2 == 1;
        if e == [1] || e.len() > 4 || !e.last().is_some_and(odd) || !n.last().is_some_and(odd) {
            return Err("an RSA key with a modulus or an exponent that no RSA key has");
        }
        Ok(Self::Rsa(RsaPublicKeyComponents { n: n.to_vec(), e: e.to_vec() }))
    }

    /// A point on a curve, uncompressed (SEC 1 §2.3.3).
    ///
    /// # Errors
    /// The reason, as the end of a sentence.
    pub(super) fn ecdsa(curve: Curve, point: &[u8]) -> Result<Self, &'static str> {
        match point.first() {
            Some(4) if point.len() == 1 + 2 * curve.coordinate() => {}
            Some(2 | 3) => return Err("a compressed point; the uncompressed form is needed"),
            _ => return Err("no point on its curve"),
        }
        Ok(match curve {
            Curve::P256 => Self::P256(point.to_vec()),
            Curve::P384 => Self::P384(point.to_vec()),
            Curve::P521 => Self::P521(Box::new(
                VerifyingKey::from_sec1_bytes(point).map_err(|_| "no point on its curve")?,
            )),
        })
    }

    /// Whether the key verifies this algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Es512, Hs256, Hs384, Hs512, Rs256, Rs384, Rs512};
        matches!(
            (self, algorithm),
            (Self::Hmac(_), Hs256 | Hs384 | Hs512)
                | (Self::Rsa(_), Rs256 | Rs384 | Rs512)
                | (Self::P256(_), Es256)
                | (Self::P384(_), Es384)
                | (Self::P521(_), Es512)
                | (Self::Ed25519(_), EdDsa)
        )
    }

    /// Verifies a signature of `message`.
    ///
    /// # Errors
    /// [`Refusal::NoKey`] for an algorithm that it does not verify, [`Refusal::Signature`].
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Refusal> {
        use Algorithm::{EdDsa, Es256, Es384, Es512, Hs256, Hs384, Hs512, Rs256, Rs384, Rs512};
        let hmac = |secret: &Secret, digest| {
            hmac::verify(&hmac::Key::new(digest, secret.expose().as_bytes()), message, signature)
        };
        let public = |point: &[u8], algorithm: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(algorithm, point).verify(message, signature)
        };
        let verified = match (self, algorithm) {
            (Self::Hmac(secret), Hs256) => hmac(secret, hmac::HMAC_SHA256),
            (Self::Hmac(secret), Hs384) => hmac(secret, hmac::HMAC_SHA384),
            (Self::Hmac(secret), Hs512) => hmac(secret, hmac::HMAC_SHA512),
            (Self::Rsa(key), Rs256) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            (Self::Rsa(key), Rs384) => key.verify(&RSA_PKCS1_2048_8192_SHA384, message, signature),
            (Self::Rsa(key), Rs512) => key.verify(&RSA_PKCS1_2048_8192_SHA512, message, signature),
            (Self::P256(point), Es256) => public(point, &ECDSA_P256_SHA256_FIXED),
            (Self::P384(point), Es384) => public(point, &ECDSA_P384_SHA384_FIXED),
            (Self::P521(key), Es512) => p521::ecdsa::Signature::from_slice(signature)
                .and_then(|signature| key.verify(message, &signature))
                .map_err(|_| ring::error::Unspecified),
            (Self::Ed25519(point), EdDsa) => public(point, &ED25519),
            _ => return Err(Refusal::NoKey(algorithm.name())),
        };
        verified.map_err(|_| Refusal::Signature)
    }
}

/// A big-endian number without leading zeros, which some programs write.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
