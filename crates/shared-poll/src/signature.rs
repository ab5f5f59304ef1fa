//! Signatures of the application for the keys that a client may track.
//!
//! `ISSUED:EXPIRES:MAC`: two Unix times in seconds (`0` for a signature that does not expire), and HMAC-SHA256 in hex of the
//! fields `ISSUED`, `EXPIRES`, the user, the channel and the hash of the keys, with a zero byte between two fields. The hash is
//! SHA-256 in hex of the keys in the order of the request, with a zero byte between two keys. The format is Centrifugo's.

use std::fmt::Write as _;

use ring::{digest, hmac};
use thiserror::Error;
use tidings_wire::Secret;

/// How long an expired signature is accepted, in seconds, because clocks differ.
pub const GRACE: u64 = 5;
/// The longest signature in bytes: two numbers, and the MAC in hex.
const MAX_SIGNATURE: usize = 2 * 20 + 2 + 64;

/// Why keys may not be tracked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// The signature does not have the format, or is not of these keys, this channel and this user.
    #[error("the signature is not valid for these keys, in this order, this channel and this user")]
    Invalid,
    /// It has expired.
    #[error("the signature has expired")]
    Expired,
    /// No key is configured.
    #[error("shared_poll.hmac_secret_key is not set")]
    NoKey,
}

/// The keys of signatures.
#[derive(Clone, Default)]
pub struct SignatureKeys {
    current: Option<hmac::Key>,
    /// The previous key, and the time until which it is accepted; 0 is no end.
    previous: Option<(hmac::Key, u64)>,
}

impl SignatureKeys {
    /// The key, and the previous one with the Unix time until which it is accepted (0 is no end). An empty key is none.
    pub fn new(current: &Secret, previous: &Secret, previous_until: u64) -> Self {
        let key = |secret: &Secret| {
            let secret = secret.expose().as_bytes();
            (!secret.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, secret))
        };
        Self { current: key(current), previous: key(previous).map(|key| (key, previous_until)) }
    }

    /// Verifies the signature of keys; returns when it expires, in Unix seconds. The MAC is compared in constant time.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify<'k>(
        &self,
        signature: &str,
        (channel, user): (&str, &str),
        keys: impl Iterator<Item = &'k str>,
        now: u64,
    ) -> Result<Option<u64>, SignatureError> {
        let current = self.current.as_ref().ok_or(SignatureError::NoKey)?;
        if signature.len() > MAX_SIGNATURE {
            return Err(SignatureError::Invalid);
        }
        let mut parts = signature.split(':');
        let (Some(issued), Some(expires), Some(mac), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SignatureError::Invalid);
        };
        let until: u64 = expires.parse().map_err(|_| SignatureError::Invalid)?;
        let mac = from_hex(mac).ok_or(SignatureError::Invalid)?;
        let message = [issued, expires, user, channel, &keys_hash(keys)].join("\0");
        let previous = self.previous.as_ref().filter(|(_, until)| *until == 0 || now <= *until);
        let is_valid = |key: &hmac::Key| hmac::verify(key, message.as_bytes(), &mac).is_ok();
        if !is_valid(current) && !previous.is_some_and(|(key, _)| is_valid(key)) {
            return Err(SignatureError::Invalid);
        }
        match until {
            0 => Ok(None),
            until if until.saturating_add(GRACE) < now => Err(SignatureError::Expired),
            until => Ok(Some(until)),
        }
    }
}

/// The hash of keys in a signature.
fn keys_hash<'k>(keys: impl Iterator<Item = &'k str>) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for (at, key) in keys.enumerate() {
        if at > 0 {
            hash.update(b"\0");
        }
        hash.update(key.as_bytes());
    }
    hash.finish().as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The bytes of a MAC in hex.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret for these tests";
    const NOW: u64 = 1_000_000;

    fn keys(current: &str, previous: &str, until: u64) -> SignatureKeys {
        SignatureKeys::new(&Secret::new(current), &Secret::new(previous), until)
    }

    fn sign(secret: &str, expires: u64, user: &str, channel: &str, keys: &[&str]) -> String {
        let issued = NOW - 100;
        let hash = digest::digest(&digest::SHA256, keys.join("\0").as_bytes());
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let message = format!("{issued}\0{expires}\0{user}\0{channel}\0{}", hex(hash.as_ref()));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
        format!("{issued}:{expires}:{}", hex(mac.as_ref()))
    }

    fn check(
        signer: &SignatureKeys,
        signature: &str,
        user: &str,
        channel: &str,
        keys: &[&str],
    ) -> Result<Option<u64>, SignatureError> {
        signer.verify(signature, (channel, user), keys.iter().copied(), NOW)
    }

    #[test]
    fn a_signature_is_valid_for_its_keys_in_their_order_its_channel_and_its_user_alone() {
        let signer = keys(SECRET, "", 0);
        let signature = sign(SECRET, NOW + 60, "ann", "votes:1", &["a", "b"]);
        assert_eq!(check(&signer, &signature, "ann", "votes:1", &["a", "b"]), Ok(Some(NOW + 60)));
        for (user, channel, tracked) in [
            ("bob", "votes:1", &["a", "b"][..]),
            ("", "votes:1", &["a", "b"]),
            ("ann", "votes:2", &["a", "b"]),
            ("ann", "votes:1", &["b", "a"]),
            ("ann", "votes:1", &["a"]),
            ("ann", "votes:1", &["a", "b", "c"]),
            ("ann", "votes:1", &["ab"]),
        ] {
            let outcome = check(&signer, &signature, user, channel, tracked);
            assert_eq!(outcome, Err(SignatureError::Invalid), "{user} {channel} {tracked:?}");
        }
        let forever = sign(SECRET, 0, "", "votes:1", &["a"]);
        assert_eq!(check(&signer, &forever, "", "votes:1", &["a"]), Ok(None));
        let other = sign("another secret", NOW + 60, "ann", "votes:1", &["a", "b"]);
        assert_eq!(check(&signer, &other, "ann", "votes:1", &["a", "b"]), Err(SignatureError::Invalid));
    }

    #[test]
    fn fields_cannot_move_into_each_other() {
        let signer = keys(SECRET, "", 0);
        let signature = sign(SECRET, 0, "a:b", "c", &["k"]);
        assert_eq!(check(&signer, &signature, "a", "b:c", &["k"]), Err(SignatureError::Invalid));
        let expires = signature.replacen(":0:", ":00:", 1);
        assert_eq!(check(&signer, &expires, "a:b", "c", &["k"]), Err(SignatureError::Invalid));
    }

    #[test]
    fn a_signature_expires_after_a_grace_time() {
        let signer = keys(SECRET, "", 0);
        for (expires, expected) in [
            (NOW - GRACE, Ok(Some(NOW - GRACE))),
            (NOW - GRACE - 1, Err(SignatureError::Expired)),
            (1, Err(SignatureError::Expired)),
        ] {
            let signature = sign(SECRET, expires, "", "c", &["k"]);
            assert_eq!(check(&signer, &signature, "", "c", &["k"]), expected, "{expires}");
        }
    }

    #[test]
    fn the_previous_key_is_accepted_until_its_end_by_the_clock_of_the_server() {
        let signature = sign("old", 0, "", "c", &["k"]);
        for (until, expected) in [(0, Ok(None)), (NOW, Ok(None)), (NOW - 1, Err(SignatureError::Invalid))] {
            assert_eq!(check(&keys("new", "old", until), &signature, "", "c", &["k"]), expected, "{until}");
        }
    }

    #[test]
    fn malformed_signatures_are_invalid_and_none_is_valid_without_a_key() {
        let signer = keys(SECRET, "", 0);
        let valid = sign(SECRET, 0, "", "c", &["k"]);
        for malformed in [
            "",
            ":",
            "::",
            "1:2:3:4",
            "a:b:c",
            "1:0:zz",
            &valid[1..],
            &valid[..valid.len() - 2],
            &format!("{valid}00"),
            &"1".repeat(500),
        ] {
            assert_eq!(
                check(&signer, malformed, "", "c", &["k"]),
                Err(SignatureError::Invalid),
                "{malformed}"
            );
        }
        assert_eq!(check(&keys("", SECRET, 0), &valid, "", "c", &["k"]), Err(SignatureError::NoKey));
    }
}
