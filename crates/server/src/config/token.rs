//! Public keys as option values.

use super::raw::Raw;
use super::setting::{Setting, quoted};
use crate::auth::{KeyType, PublicKey};

/// Empty text is no key.
impl Setting for Option<PublicKey> {
    type Rule = KeyType;

    fn read(raw: &Raw, wanted: &KeyType) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| format!("expected text in quotes, got {}", raw.sort()))?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        PublicKey::from_pem(text, *wanted).map(Some).map_err(|e| e.to_string())
    }

    fn kind(_: &KeyType) -> String {
        "public key in PEM, or empty".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_ref().map_or("", PublicKey::as_pem)))
    }
}
