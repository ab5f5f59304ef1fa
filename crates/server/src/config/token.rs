//! The types of option values that say which tokens are trusted: public keys, and where a key set is published.

use axum::http::Uri;

use super::raw::Raw;
use super::setting::{Setting, expected, quoted};
use crate::auth::{KeyType, PublicKey};

/// Longest address of a key set in bytes.
const MAX_URL: usize = 2048;

/// The address of a JSON Web Key Set: `http` or `https`, a host, and no user in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl(Uri);

impl JwksUrl {
    /// The address.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

/// Empty text is no address.
impl Setting for Option<JwksUrl> {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a URL", raw))?;
        if text.is_empty() {
            return Ok(None);
        }
        // What stands in a wrong one is not repeated: it may hold a password.
        let wrong = |what: &str| {
            Err(format!("expected a URL such as https://id.example.com/.well-known/jwks.json, got {what}"))
        };
        if text.len() > MAX_URL {
            return wrong("a longer one than 2048 bytes");
        }
        if text.contains("{{") {
            return wrong("a template, and templates are not supported");
        }
        let Ok(uri) = text.parse::<Uri>() else { return wrong("text that is none") };
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(_) => return wrong("one with another scheme than http and https"),
            None => return wrong("text without a scheme"),
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return wrong("one with a user, which is not supported");
        }
        if uri.host().is_none_or(str::is_empty) {
            return wrong("one without a host");
        }
        Ok(Some(JwksUrl(uri)))
    }

    fn kind((): &()) -> String {
        "URL (`http://`, `https://`), or empty".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.as_ref().map(|url| url.0.to_string()).unwrap_or_default()))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Raw {
        Raw::Word(text.into())
    }

    #[test]
    fn a_key_sets_address_is_a_url_without_a_user() {
        for good in ["http://a", "https://a.b:8443/c?d=e", "http://[::1]:80/jwks.json"] {
            let url = Option::<JwksUrl>::read(&word(good), &()).expect(good).expect(good);
            assert_eq!(url.uri(), &good.parse::<Uri>().expect(good));
        }
        assert_eq!(Option::<JwksUrl>::read(&word(""), &()), Ok(None));
        for bad in [
            "a",
            "/a",
            "a:1",
            "ftp://a",
            "https://u:hunter2@a/",
            "http://",
            "https://a/{{realm}}",
            "http://a b",
        ] {
            let error = Option::<JwksUrl>::read(&word(bad), &()).expect_err(bad);
            assert!(error.starts_with("expected a URL") && !error.contains("hunter2"), "{error}");
        }
        assert!(Option::<JwksUrl>::read(&word(&format!("http://{}", "a".repeat(MAX_URL))), &()).is_err());
    }
}
