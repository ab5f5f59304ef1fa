//! Who a client is, by the token it shows: JSON Web Tokens (RFC 7519) for connections and for subscriptions, with the
//! claims and options of Centrifugo's documentation ("Client JWT authentication", "Channel JWT authorization").
//!
//! A token passes three doors, in this order: it is taken apart within its bounds (`compact`); a key that fits its
//! algorithm vouches for it (`key`, `jwks`); what it claims is read and checked (`claims`). [`Verifier`] holds
//! the keys and leads through them; [`sign_hs256`] makes a token, [`inspect`] shows one that nobody has vouched for.
//!
//! Invariants:
//! - A key decides which algorithms it verifies, never the token: a public key can never serve as an HMAC key, and
//!   there is no key for `none`.
//! - Nothing of the claims is looked at before the signature has been verified.
//! - No error and no log entry holds a token, a claim's value, or a key.
//! - No clock: whoever asks says what time it is, in Unix seconds.
//! - Everything fetched is bounded in bytes, in time, and in how often.

mod claims;
mod compact;
mod error;
mod jwks;
mod key;
mod pem;
mod verifier;

pub use claims::{Connection, Overrides, Subscription, SubscriptionOptions};
pub use compact::{Inspected, MAX_TOKEN, inspect, sign_hs256};
pub use error::{Refusal, SetupError, SignError, TokenError};
pub use pem::{KeyType, PemError, PublicKey};
pub use verifier::Verifier;
