//! Certificates and TLS versions.

use std::fmt;

use super::ListenAddr;
use crate::raw::Raw;
use crate::setting::{Setting, choice, expected, quoted};

/// Certificates: PEM (RFC 7468), its base64, or the path of a file with PEM. They are not secret, but long, so
/// [`Debug`](fmt::Debug) prints only their length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PemText(String);

impl PemText {
    /// The text as given; may be empty.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PemText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Setting for PemText {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let wrong = || format!("expected text in quotes, got {}", raw.sort());
        raw.as_text().map(|text| Self(text.to_owned())).ok_or_else(wrong)
    }

    fn kind((): &()) -> String {
        "certificates in PEM".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

choice! { TlsVersion:
    "1.2" => TlsVersion::Tls12,
    "1.3" => TlsVersion::Tls13,
}

/// Whether the line port rejects connections without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsRequired {
    /// On addresses that other machines can reach.
    Auto,
    /// On all addresses.
    Always,
    /// On no address.
    Never,
}

impl TlsRequired {
    /// Whether TLS is required on a listener with this address.
    pub fn at(self, address: &ListenAddr) -> bool {
        match self {
            Self::Auto => !address.is_local(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

impl Setting for TlsRequired {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        match (raw, raw.as_text()) {
            (_, Some("auto")) => Ok(Self::Auto),
            (Raw::Switch(true), _) | (_, Some("true")) => Ok(Self::Always),
            (Raw::Switch(false), _) | (_, Some("false")) => Ok(Self::Never),
            _ => Err(expected("`auto`, true or false", raw)),
        }
    }

    fn kind((): &()) -> String {
        "`auto`, true or false".into()
    }

    fn toml(&self) -> Option<String> {
        Some(match self {
            Self::Auto => quoted("auto"),
            Self::Always => "true".into(),
            Self::Never => "false".into(),
        })
    }
}
