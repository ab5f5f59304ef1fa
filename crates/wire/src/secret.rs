//! Text that must not appear in logs and errors.

use std::fmt;

/// A secret. [`Debug`](fmt::Debug) prints `***`, or `none` for an empty one; there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`; empty text means that no secret is set.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the secret is set, that is, not empty.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// The text, for code that derives from it or sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the secret, in a time that depends on the secret's length alone.
    pub fn equals(&self, given: &[u8]) -> bool {
        let secret = self.0.as_bytes();
        if secret.len() != given.len() {
            return false;
        }
        let difference = secret.iter().zip(given).fold(0_u8, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "***" } else { "none" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_equals_only_itself_and_is_never_displayed() {
        let key = Secret::new("s3cret");
        assert!(key.equals(b"s3cret"));
        assert!(!key.equals(b"s3creT") && !key.equals(b"s3cre") && !key.equals(b""));
        assert_eq!(format!("{key:?} {:?}", Secret::default()), "*** none");
    }
}
