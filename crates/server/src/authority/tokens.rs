//! Converts verified tokens into the connections and subscriptions that they allow.
//!
//! A connection token without a valid signature is rejected with 101, such a subscription token with 103, and either with
//! 109 if it is expired. A valid subscription token for another channel, user or client is rejected with 103, a valid
//! connection token of another user in a refresh with 101.

use std::sync::atomic::{AtomicBool, Ordering};

use tidings_hub::{Admission, Connected, Failure, Rejection, Requester, TokenId};
use tidings_wire::Channel;
use tidings_wire::code::{self, Code};
use tracing::debug;

use super::{UploadGrant, check_not_expired, rejected};
use tidings_auth::{Connection, Subscription, SubscriptionOptions, TokenError, Verifier};

/// The verification of the tokens of one request.
pub(super) struct Verification<'a> {
    verifier: &'a Verifier,
    /// Whether a token named a key that the key set does not hold. The client gets a temporary error, because the set may
    /// hold it after the next fetch; but the token counts as a wrong one, because anyone can invent names of keys.
    has_unknown_key: AtomicBool,
}

impl<'a> Verification<'a> {
    pub(super) fn new(verifier: &'a Verifier) -> Self {
        Self { verifier, has_unknown_key: AtomicBool::new(false) }
    }

    pub(super) fn has_unknown_key(&self) -> bool {
        self.has_unknown_key.load(Ordering::Relaxed)
    }

    async fn connection(&self, requester: &Requester, token: &str, now: u64) -> Result<Connection, Failure> {
        let verified = self.verifier.connection(token, now).await;
        verified.map_err(|error| reject(requester, "connection", &self.noted(error)))
    }

    async fn subscription(&self, token: &str, now: u64) -> Result<Subscription, TokenError> {
        self.verifier.subscription(token, now).await.map_err(|error| self.noted(error))
    }

    fn noted(&self, error: TokenError) -> TokenError {
        if matches!(error, TokenError::UnknownKey { .. }) {
            self.has_unknown_key.store(true, Ordering::Relaxed);
        }
        error
    }
}

/// The connection that a token allows at the time `now` (Unix seconds).
pub(super) async fn connect(
    verifier: &Verification<'_>,
    requester: &Requester,
    token: &str,
    now: u64,
) -> Result<Connected, Failure> {
    let Connection { user, expires, info, meta, token: id, subs, capabilities, labels, upload: _ } =
        verifier.connection(requester, token, now).await?;
    check_not_expired(expires)?;
    let subs = subs.into_iter().map(|(channel, options)| (channel, admission(options, None, None)));
    let (subs, token) = (subs.collect(), Some(id));
    Ok(Connected { user, expires, info, meta, data: None, subs, token, capabilities, labels, since: 0 })
}

/// The permission to upload tables that a connection token grants.
pub(super) async fn upload_grant(
    verifier: &Verification<'_>,
    requester: &Requester,
    token: &str,
    now: u64,
) -> Result<(UploadGrant, TokenId), Failure> {
    let Connection { user, expires, token: id, upload, .. } =
        verifier.connection(requester, token, now).await?;
    check_not_expired(expires)?;
    Ok((UploadGrant { user, upload }, id))
}

/// The connection after a refresh with a new token, which must be of the same user.
pub(super) async fn refresh(
    verifier: &Verification<'_>,
    requester: &Requester,
    token: &str,
    now: u64,
) -> Result<Connected, Failure> {
    let connected = connect(verifier, requester, token, now).await.map_err(make_expired_temporary)?;
    if connected.user == requester.user {
        return Ok(connected);
    }
    Err(reject_with(requester, "the connection token is another user's", code::UNAUTHORIZED))
}

/// The subscription that a token allows. The token must be for this channel and user, and for this client if it names
/// one.
pub(super) async fn subscribe(
    verifier: &Verification<'_>,
    requester: &Requester,
    channel: &Channel,
    token: &str,
    now: u64,
) -> Result<Admission, Failure> {
    let verified = verifier.subscription(token, now).await;
    let subscription = verified.map_err(|error| match error {
        // 103 instead of 101: the client is authenticated, and only lacks the permission.
        TokenError::Refused(_) => {
            let reason = format!("the subscription token is not accepted: {error}");
            reject_with(requester, &reason, code::PERMISSION_DENIED)
        }
        error => reject(requester, "subscription", &error),
    })?;
    let mismatch = if subscription.channel != *channel {
        Some("the subscription token is for another channel")
    } else if subscription.user != requester.user {
        Some("the subscription token is another user's")
    } else if subscription.client.as_ref().is_some_and(|client| *client != requester.client) {
        Some("the subscription token is another client's")
    } else {
        None
    };
    if let Some(mismatch) = mismatch {
        return Err(reject_with(requester, mismatch, code::PERMISSION_DENIED));
    }
    check_not_expired(subscription.expires)?;
    Ok(admission(subscription.options, subscription.expires, Some(subscription.token)))
}

/// The subscription after a refresh with a new token.
pub(super) async fn sub_refresh(
    verifier: &Verification<'_>,
    requester: &Requester,
    channel: &Channel,
    token: &str,
    now: u64,
) -> Result<Admission, Failure> {
    subscribe(verifier, requester, channel, token, now).await.map_err(make_expired_temporary)
}

/// Makes the error of an expired token temporary. In a refresh the client may try again with a newer token, whereas a
/// permanent error would make it disconnect.
fn make_expired_temporary(failure: Failure) -> Failure {
    match failure {
        Failure::Error(rejection) if rejection.code == code::TOKEN_EXPIRED.number => {
            Failure::Error(Rejection { temporary: true, ..rejection })
        }
        other => other,
    }
}

fn admission(options: SubscriptionOptions, expires: Option<u64>, token: Option<TokenId>) -> Admission {
    let SubscriptionOptions { info, data, overrides, filter, allow } = options;
    Admission { info, data, expires, overrides, filter, allow, token, stream: None }
}

fn reject(requester: &Requester, kind: &str, error: &TokenError) -> Failure {
    debug!(client = requester.client, "the {kind} token is not accepted: {error}");
    rejected(error.code())
}

/// Logs the reason of a rejection, and rejects with `code`.
fn reject_with(requester: &Requester, reason: &str, code: Code) -> Failure {
    debug!(client = requester.client, "{reason}");
    rejected(code)
}
