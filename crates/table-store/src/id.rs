//! Ids of tables and secrets of owners. Both are random and cannot be guessed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::{self, SystemRandom};

/// The id of a table: a random UUID (RFC 9562 §5.4) with 122 random bits. Anyone with the id can view the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(u128);

impl TableId {
    /// A new random id.
    pub fn random() -> Self {
        Self::from_bits(u128::from_be_bytes(random()))
    }

    /// The id with these random bits, except those of the version and the variant.
    pub(crate) const fn from_bits(bits: u128) -> Self {
        // Version 4, variant 0b10.
        Self(bits & !(0xF << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62)
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// The text is not of the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError;

impl FromStr for TableId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut value = 0;
        if text.len() != 36 {
            return Err(ParseIdError);
        }
        for (at, character) in text.chars().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if character != '-' {
                    return Err(ParseIdError);
                }
                continue;
            }
            value = value << 4 | u128::from(character.to_digit(16).ok_or(ParseIdError)?);
        }
        Ok(Self(value))
    }
}

/// Random bytes from the operating system.
fn random<T: rand::RandomlyConstructable>() -> T {
    rand::generate(&SystemRandom::new()).expect("the operating system's random numbers").expose()
}

/// A random key of 256 bits.
pub(crate) fn random_key() -> [u8; 32] {
    random()
}

/// A random number of this process. Two processes have the same one with a probability of 2^-64.
pub fn process_number() -> u64 {
    u64::from_be_bytes(random())
}

/// A new random secret of an owner: 256 bits in base64url. Only its hash is stored.
pub fn secret() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(random::<[u8; 32]>())
}

/// The stored hash of a secret. Comparing hashes needs no constant time: a client cannot choose the hash of its guess.
pub(crate) fn hash(secret: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_random_uuid_and_is_parsed_again() {
        let id = TableId::random();
        let text = id.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!("89ab".contains(&text[19..20]), "{text}");
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        assert_ne!(TableId::random(), id);
    }

    #[test]
    fn an_invalid_id_is_rejected() {
        let near = "0c6ec8e5-1b7e-4c0f-9d6c-3f1f8f5d7a1";
        for text in ["", "..", "../../../../../../../../../etc/passwd", near, &format!("{near}g")] {
            assert_eq!(text.parse::<TableId>(), Err(ParseIdError), "{text}");
        }
        assert!(format!("{near}0").parse::<TableId>().is_ok());
        assert!(format!("{near}0").replace('-', "0").parse::<TableId>().is_err());
    }

    #[test]
    fn a_secret_differs_from_its_hash() {
        let (one, other) = (secret(), secret());
        assert_eq!(one.len(), 43);
        assert_eq!(hash(&one), hash(&one));
        assert!(hash(&one) != hash(&other) && hash(&one) != one);
    }
}
