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

    /// The text, for code that compares or sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "***" } else { "none" })
    }
}
