//! Verification of tokens with the configured keys.

use std::sync::Arc;

use tracing::warn;

use super::claims::{Claims, Connection, Expected, Subscription};
use super::compact::{Compact, unverified_claims};
use super::error::{Refusal, SetupError, TokenError};
use super::jwks::{Jwks, JwksSets, JwksUrl};
use super::key::Key;
use super::pem::PublicKey;
use tidings_pattern::Pattern;
use tidings_wire::Secret;

/// Shortest HMAC key without a warning: the output size of HMAC-SHA-256 (RFC 7518 §3.2).
const MIN_HMAC_KEY: usize = 32;

/// Verifies tokens. One per server, shared by all requests.
pub struct Verifier {
    connection: Trust,
    /// Keys and rules of subscription tokens, if they differ.
    subscription: Option<Trust>,
}

impl Verifier {
    /// A verifier with these keys and rules. Key sets are fetched when the first token needs one.
    ///
    /// Logs a warning for a weak HMAC key, for options without effect, and if signatures are not verified.
    ///
    /// # Errors
    /// [`SetupError`]: separate subscription tokens without a key, or no certificates to trust for `https`.
    pub fn new(options: &VerifierOptions<'_>) -> Result<Self, SetupError> {
        if options.skips_signatures {
            warn!(
                "client.insecure_skip_token_signature_verify is on: tokens with any signature are accepted, so every \
                 client can connect as any user"
            );
            let subscription = options.is_separate.then(|| Trust::unverified(&options.subscription));
            return Ok(Self { connection: Trust::unverified(&options.connection), subscription });
        }
        let connection = Trust::new(&options.connection)?;
        let separate = &options.subscription;
        let subscription = if options.is_separate {
            if !separate.has_key() {
                return Err(SetupError::NoSubscriptionKey);
            }
            Some(Trust::new(separate)?)
        } else {
            if separate.has_key() {
                warn!(
                    "the keys of client.subscription_token have no effect: client.subscription_token.enabled is false"
                );
            }
            None
        };
        Ok(Self { connection, subscription })
    }

    /// Whether connection tokens can be verified at all: a key is configured for them.
    pub fn has_key(&self) -> bool {
        !matches!(self.connection.keys, Keys::None)
    }

    /// Verifies a connection token at the time `now`, in Unix seconds. May wait for the key set, at most the time of a
    /// fetch (5 s).
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn connection(&self, token: &str, now: u64) -> Result<Connection, TokenError> {
        let verified = self.connection.verify(token, now, "connection").await?;
        let claims = Claims::read(&verified, &self.connection.user_claim)?;
        claims.check(self.connection.expected(now))?;
        Ok(claims.connection()?)
    }

    /// Verifies a subscription token at the time `now`, in Unix seconds. The caller compares user, client and channel
    /// with those of the connection and the request. May wait as [`Self::connection`].
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn subscription(&self, token: &str, now: u64) -> Result<Subscription, TokenError> {
        let trust = self.subscription.as_ref().unwrap_or(&self.connection);
        let verified = trust.verify(token, now, "subscription").await?;
        let claims = Claims::read(&verified, &trust.user_claim)?;
        claims.check(trust.expected(now))?;
        Ok(claims.subscription()?)
    }
}

/// The keys and rules for the two kinds of token, as the configuration gives them.
#[derive(Clone, Copy, Debug)]
pub struct VerifierOptions<'a> {
    /// For connection tokens.
    pub connection: TokenRules<'a>,
    /// For subscription tokens, where `is_separate`.
    pub subscription: TokenRules<'a>,
    /// Whether subscription tokens have keys and rules of their own. Otherwise `connection` applies to both.
    pub is_separate: bool,
    /// Whether tokens are accepted with any signature, and without a key. The claims are checked nevertheless.
    pub skips_signatures: bool,
}

/// The keys and rules for one kind of token.
#[derive(Clone, Copy, Debug)]
pub struct TokenRules<'a> {
    /// The group of options that the values come from, for messages: `client.token`.
    pub group: &'static str,
    /// The key of HMAC signatures.
    pub hmac: &'a Secret,
    /// The HMAC key that `hmac` replaced, accepted until `previous_until`.
    pub previous: &'a Secret,
    /// When `previous` is no longer accepted, in Unix seconds; 0 is never.
    pub previous_until: u64,
    /// The key of RSA signatures.
    pub rsa: Option<&'a PublicKey>,
    /// The key of ECDSA signatures.
    pub ecdsa: Option<&'a PublicKey>,
    /// The address of a key set (RFC 7517), which is used in place of all other keys.
    pub jwks: Option<&'a JwksUrl>,
    /// The audience (`aud`) that a token must name; empty for any.
    pub audience: &'a str,
    /// The issuer (`iss`) that a token must name; empty for any.
    pub issuer: &'a str,
    /// The pattern that an audience of a token must match; `None` for any.
    pub audience_pattern: Option<&'a Pattern>,
    /// The pattern that the issuer of a token must match; `None` for any.
    pub issuer_pattern: Option<&'a Pattern>,
    /// The claim with the user; empty for `sub`.
    pub user_claim: &'a str,
}

impl TokenRules<'_> {
    fn has_static_key(&self) -> bool {
        self.hmac.is_set() || self.rsa.is_some() || self.ecdsa.is_some()
    }

    fn has_key(&self) -> bool {
        self.has_static_key() || self.jwks.is_some()
    }
}

/// Keys and rules of one kind of token.
struct Trust {
    keys: Keys,
    audience: String,
    issuer: String,
    audience_pattern: Option<Pattern>,
    issuer_pattern: Option<Pattern>,
    user_claim: String,
}

enum Keys {
    /// None: every token is refused.
    None,
    /// None, and signatures are not verified.
    Unverified,
    /// Keys in the configuration, at most one per algorithm, and the previous HMAC key.
    Configured(Vec<Key>, Option<PreviousKey>),
    /// The keys of a key set alone.
    Set(Jwks),
    /// The keys of the key set that belongs to the token's issuer or audience.
    Sets(JwksSets),
}

/// A previous key.
struct PreviousKey {
    key: Key,
    /// End of its validity, in Unix seconds; 0 is never.
    until: u64,
}

impl PreviousKey {
    fn is_good(&self, now: u64) -> bool {
        self.until == 0 || now < self.until
    }
}

impl Trust {
    fn new(source: &TokenRules<'_>) -> Result<Self, SetupError> {
        let group = source.group;
        let keys = if let Some(url) = source.jwks {
            if source.has_static_key() {
                warn!("the other keys of {group} have no effect beside {group}.jwks_public_endpoint");
            }
            let option = format!("{group}.jwks_public_endpoint");
            match url.as_str().parse() {
                Ok(address) if url.variables().next().is_none() => Keys::Set(Jwks::new(&address, &option)?),
                _ => {
                    let (issuer, audience) = (source.issuer_pattern, source.audience_pattern);
                    Keys::Sets(JwksSets::new(url, &option, issuer, audience)?)
                }
            }
        } else if source.has_static_key() {
            let length = source.hmac.expose().len();
            if source.hmac.is_set() && length < MIN_HMAC_KEY {
                warn!(
                    length,
                    "{group}.hmac_secret_key is short: with a token, a client can find it by trying keys"
                );
            }
            let hmac = source.hmac.is_set().then(|| Key::Hmac(source.hmac.clone()));
            let public = source.rsa.into_iter().chain(source.ecdsa).map(PublicKey::key);
            let previous = source.previous.is_set().then(|| PreviousKey {
                key: Key::Hmac(source.previous.clone()),
                until: source.previous_until,
            });
            Keys::Configured(hmac.into_iter().chain(public).collect(), previous)
        } else {
            Keys::None
        };
        Ok(Self::with_keys(keys, source))
    }

    /// Accepts tokens with any signature.
    fn unverified(source: &TokenRules<'_>) -> Self {
        Self::with_keys(Keys::Unverified, source)
    }

    fn with_keys(keys: Keys, source: &TokenRules<'_>) -> Self {
        Self {
            keys,
            audience: source.audience.to_owned(),
            issuer: source.issuer.to_owned(),
            audience_pattern: source.audience_pattern.cloned(),
            issuer_pattern: source.issuer_pattern.cloned(),
            user_claim: source.user_claim.to_owned(),
        }
    }

    /// The claims of a token, after its signature is verified, unless that is skipped.
    async fn verify(&self, token: &str, now: u64, kind: &'static str) -> Result<Vec<u8>, TokenError> {
        // A missing key is reported before errors of the token.
        if matches!(self.keys, Keys::None) {
            return Err(Refusal::NotConfigured(kind).into());
        }
        if matches!(self.keys, Keys::Unverified) {
            return Ok(unverified_claims(token)?);
        }
        let Compact { algorithm, key_id, signed, claims, signature } = Compact::parse(token)?;
        match &self.keys {
            Keys::None | Keys::Unverified => return Err(Refusal::NotConfigured(kind).into()),
            Keys::Configured(keys, previous) => {
                let key = keys.iter().find(|key| key.verifies(algorithm));
                let verified =
                    key.ok_or(Refusal::NoKey(algorithm.name()))?.verify(algorithm, signed, &signature);
                let previous =
                    previous.as_ref().filter(|old| old.is_good(now) && old.key.verifies(algorithm));
                match (verified, previous) {
                    (Err(Refusal::Signature), Some(old)) => old.key.verify(algorithm, signed, &signature)?,
                    (verified, _) => verified?,
                }
            }
            Keys::Set(set) => {
                let id = key_id.ok_or(Refusal::NoKeyId)?;
                set.key(&id, algorithm, now).await?.verify(algorithm, signed, &signature)?;
            }
            Keys::Sets(sets) => {
                let id = key_id.ok_or(Refusal::NoKeyId)?;
                let set = self.set_of(sets, &claims, now)?;
                set.key(&id, algorithm, now).await?.verify(algorithm, signed, &signature)?;
            }
        }
        Ok(claims)
    }

    /// The key set for the issuer or audience in claims that are not verified yet.
    fn set_of(&self, sets: &JwksSets, claims: &[u8], now: u64) -> Result<Arc<Jwks>, TokenError> {
        let claims = Claims::read(claims, &self.user_claim)?;
        claims.check_origin(self.expected(now))?;
        let (issuer, audiences) = claims.origin()?;
        sets.get(issuer.as_deref(), &audiences, now)
    }

    fn expected(&self, now: u64) -> Expected<'_> {
        Expected {
            audience: &self.audience,
            issuer: &self.issuer,
            audience_pattern: self.audience_pattern.as_ref(),
            issuer_pattern: self.issuer_pattern.as_ref(),
            now,
        }
    }
}
