//! Public keys as option values, and the token options for the verifier.

use tidings_auth::{KeyType, PublicKey, TokenRules, VerifierOptions};

use super::options::{ClientOptions, SubscriptionTokenOptions, TokenOptions};
use super::raw::Raw;
use super::setting::{Setting, quoted};

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

impl ClientOptions {
    /// The keys and rules of `client.token` and `client.subscription_token`.
    pub fn verifier(&self) -> VerifierOptions<'_> {
        VerifierOptions {
            connection: (&self.token).into(),
            subscription: (&self.subscription_token).into(),
            is_separate: self.subscription_token.enabled,
            skips_signatures: self.insecure_skip_token_signature_verify,
        }
    }
}

/// Both groups have the same options, but no common type, because each has its own documentation.
macro_rules! token_rules {
    ($Options:ty, $group:literal) => {
        impl<'a> From<&'a $Options> for TokenRules<'a> {
            fn from(options: &'a $Options) -> Self {
                Self {
                    group: $group,
                    hmac: &options.hmac_secret_key,
                    previous: &options.hmac_previous_secret_key,
                    previous_until: options.hmac_previous_secret_key_valid_until as u64,
                    rsa: options.rsa_public_key.as_ref(),
                    ecdsa: options.ecdsa_public_key.as_ref(),
                    jwks: options.jwks_public_endpoint.as_ref(),
                    audience: &options.audience,
                    issuer: &options.issuer,
                    audience_pattern: options.audience_regex.as_ref(),
                    issuer_pattern: options.issuer_regex.as_ref(),
                    user_claim: &options.user_id_claim,
                }
            }
        }
    };
}

token_rules!(TokenOptions, "client.token");
token_rules!(SubscriptionTokenOptions, "client.subscription_token");
