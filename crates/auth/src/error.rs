//! Why a token is not accepted, and what the client is told.

use thiserror::Error;
use tidings_wire::code::{self, Code};

use super::compact::MAX_TOKEN;
use tidings_outbound::TlsError;

/// Why a token does not make a client anybody. Displays as the reason for the log, without anything of the token that
/// could be a secret; a client is told no more than [`Self::code`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It was valid once (`exp`).
    #[error("expired {seconds} s ago")]
    Expired {
        /// How long ago.
        seconds: u64,
    },
    /// It is not valid yet (`nbf`). Told to clients like an expired one, as Centrifugo does: they fetch another token
    /// and try again, which is what helps when two clocks differ.
    #[error("not valid for another {seconds} s")]
    NotYetValid {
        /// How long still.
        seconds: u64,
    },
    /// It is no valid token of this server, and trying again will not make it one.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It may be valid, but the key that would tell cannot be had at the moment.
    #[error("cannot be verified now: {0}")]
    Unavailable(String),
}

impl TokenError {
    /// What the client is told: 109 for a token that is expired or not valid yet, 101 for one that is refused, the
    /// temporary 100 while it cannot be verified.
    pub fn code(&self) -> Code {
        match self {
            Self::Expired { .. } | Self::NotYetValid { .. } => code::TOKEN_EXPIRED,
            Self::Refused(_) => code::UNAUTHORIZED,
            Self::Unavailable(_) => code::INTERNAL,
        }
    }
}

/// Why a token is refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No key is configured for this kind of token.
    #[error("no key is configured for {0} tokens")]
    NotConfigured(&'static str),
    /// Longer than [`MAX_TOKEN`].
    #[error("{0} bytes long, and {MAX_TOKEN} is the limit")]
    TooLong(usize),
    /// No JSON Web Token in compact form (RFC 7515 §7.1).
    #[error("no token: {0}")]
    Malformed(&'static str),
    /// An algorithm that is none of the known ones; `none` among them.
    #[error("algorithm {0:?} is not supported")]
    Algorithm(String),
    /// The header demands an extension (`crit`, RFC 7515 §4.1.11), and none is supported.
    #[error("its header demands extensions (`crit`), and none is supported")]
    Critical,
    /// No configured key verifies this algorithm.
    #[error("no key is configured that verifies {0}")]
    NoKey(&'static str),
    /// The key set's endpoint is configured, and the header names no key (`kid`).
    #[error("its header names no key (`kid`)")]
    NoKeyId,
    /// The key set holds no key of this name that verifies this algorithm.
    #[error("the key set holds no key {kid:?} that verifies {algorithm}")]
    UnknownKey {
        /// The key's name, cut to a bounded length.
        kid: String,
        /// The algorithm.
        algorithm: &'static str,
    },
    /// The signature is not that of the key.
    #[error("the signature is wrong")]
    Signature,
    /// It is meant for somebody else (`aud`).
    #[error("meant for another audience (`aud`)")]
    Audience,
    /// It comes from somebody else (`iss`).
    #[error("made by another issuer (`iss`)")]
    Issuer,
    /// A claim is missing that this kind of token needs.
    #[error("has no claim `{0}`")]
    Missing(&'static str),
    /// A claim is not what it should be.
    #[error("its claim `{claim}` is {problem}")]
    Claim {
        /// The claim's name.
        claim: &'static str,
        /// What it is, or is not.
        problem: &'static str,
    },
}

/// Longest text of a token's header that an error repeats, in characters.
const MAX_SHOWN: usize = 40;

/// Header text for an error: cut, so that a log entry stays one.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Why the configuration gives no [`Verifier`](super::Verifier). One line that names the option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetupError {
    /// `client.subscription_token.enabled` without any key: every subscription token would be refused.
    #[error(
        "client.subscription_token.enabled is true, but no key stands beside it; every subscription token would be \
         refused"
    )]
    NoSubscriptionKey,
    /// The key set is to be fetched over `https`, and TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why no token was made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// There is no key to sign with.
    #[error("there is no key to sign with")]
    NoKey,
    /// It would be longer than [`MAX_TOKEN`], so no server would take it.
    #[error("the token would be {0} bytes long, and {MAX_TOKEN} is the limit")]
    TooLong(usize),
    /// The claims are nothing that JSON can write.
    #[error("the claims cannot be written: {0}")]
    Claims(String),
}
