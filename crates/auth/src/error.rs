//! Reasons to reject a token, and their error codes for clients.

use thiserror::Error;
use tidings_wire::code::{self, Code};

use tidings_outbound::TlsError;

/// Longest token in bytes. Identity providers' tokens with many roles reach a few KiB.
pub const MAX_TOKEN: usize = 16 << 10;

/// The reason why a token does not authenticate a client. Displays as text for the log, without secrets of the token. A
/// client gets only [`Self::code`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It has expired (`exp`).
    #[error("expired {seconds} s ago")]
    Expired {
        /// Time since then.
        seconds: u64,
    },
    /// It is not valid yet (`nbf`). Clients get the code of an expired token, as in Centrifugo: they fetch another
    /// token and retry, which helps when two clocks differ.
    #[error("not valid for another {seconds} s")]
    NotYetValid {
        /// Time until then.
        seconds: u64,
    },
    /// It is no valid token of this server; a retry does not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key set holds no key of this name, and is not fetched again at the moment. It may be valid.
    #[error(
        "cannot be verified now: the key set holds no key {kid:?}, and is not fetched again for another {seconds} s"
    )]
    UnknownKey {
        /// The key's name, cut to a bounded length.
        kid: String,
        /// Time until the next fetch is allowed.
        seconds: u64,
    },
    /// It may be valid, but its key is not available at the moment.
    #[error("cannot be verified now: {0}")]
    Unavailable(String),
}

impl TokenError {
    /// The code for the client: 109 for a token that has expired or is not valid yet, 101 for one that is refused, the
    /// temporary 100 while it cannot be verified.
    pub fn code(&self) -> Code {
        match self {
            Self::Expired { .. } | Self::NotYetValid { .. } => code::TOKEN_EXPIRED,
            Self::Refused(_) => code::UNAUTHORIZED,
            Self::UnknownKey { .. } | Self::Unavailable(_) => code::INTERNAL,
        }
    }
}

/// The reason why a token is refused permanently.
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
    /// An unsupported algorithm, such as `none`.
    #[error("algorithm {0:?} is not supported")]
    Algorithm(String),
    /// The header requires an extension (`crit`, RFC 7515 §4.1.11), and none is supported.
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
    /// The signature does not match the key.
    #[error("the signature is wrong")]
    Signature,
    /// The token is for another audience (`aud`).
    #[error("meant for another audience (`aud`)")]
    Audience,
    /// The token is from another issuer (`iss`).
    #[error("made by another issuer (`iss`)")]
    Issuer,
    /// The issuer or audience has a part that the address of a key set cannot contain.
    #[error("its issuer or audience names no key set")]
    Origin,
    /// A required claim is missing.
    #[error("has no claim `{0}`")]
    Missing(&'static str),
    /// A claim is invalid.
    #[error("its claim `{claim}` is {problem}")]
    Claim {
        /// The claim's name.
        claim: &'static str,
        /// The reason.
        problem: &'static str,
    },
}

/// Longest text of a token's header that an error repeats, in characters.
const MAX_QUOTED: usize = 40;

/// Header text for an error, shortened.
pub(super) fn truncated(text: &str) -> String {
    let mut text_start: String = text.chars().take(MAX_QUOTED).collect();
    if text_start.len() < text.len() {
        text_start.push('…');
    }
    text_start
}

/// The reason why the configuration yields no [`Verifier`](super::Verifier): one line that names the option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetupError {
    /// `client.subscription_token.enabled` without any key: every subscription token would be refused.
    #[error(
        "client.subscription_token.enabled is true, but no key of client.subscription_token is set; every subscription token would be \
         refused"
    )]
    NoSubscriptionKey,
    /// The key set has an `https` URL, and TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The reason why no token was made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// There is no key to sign with.
    #[error("there is no key to sign with")]
    NoKey,
    /// It would be longer than [`MAX_TOKEN`], so servers would reject it.
    #[error("the token would be {0} bytes long, and {MAX_TOKEN} is the limit")]
    TooLong(usize),
    /// The claims cannot be written as JSON.
    #[error("the claims cannot be written: {0}")]
    Claims(String),
}
