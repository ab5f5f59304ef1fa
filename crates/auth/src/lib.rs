//! Client authentication by tokens: JSON Web Tokens (RFC 7519) for connections and for subscriptions, with the
//! claims and options of Centrifugo's documentation ("Client JWT authentication", "Channel JWT authorization").
//!
//! Verification has three steps: the token is split and decoded within its bounds (`compact`); its signature is
//! verified with a key that fits its algorithm (`key`, `jwks`); its claims are read and checked (`claims`).
//! [`Verifier`] holds the keys and runs the steps; [`sign_hs256`] makes a token; [`inspect`] reads one without
//! verification.
//!
//! Invariants:
//! - The key determines the algorithms, not the token: a public key is never used as an HMAC key, and
//!   there is no key for `none`.
//! - No claim is read before the signature has been verified.
//! - No error and no log entry contains a token, the value of a claim, or a key.
//! - No clock: the caller passes the time, in Unix seconds.
//! - Every fetch is bounded in bytes and time, and fetches are at least 10 s apart.

mod claims;
mod compact;
mod error;
mod jwks;
mod key;
mod pem;
mod verifier;

pub use claims::{Connection, Subscription, SubscriptionOptions};
pub use compact::{Inspected, inspect, sign_hs256};
pub use error::{MAX_TOKEN, Refusal, SetupError, SignError, TokenError};
pub use jwks::JwksUrl;
pub use pem::{KeyType, PemError, PublicKey};
pub use tidings_wire::Secret;
pub use verifier::{TokenRules, Verifier, VerifierOptions};
