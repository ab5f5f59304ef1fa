//! What tokens are worth to the client that shows them.
//!
//! A connection token that nobody vouches for is refused with 101, a subscription token with 103, and either with 109 when
//! its time is over; a good one that was made for something else with 103.

use tidings_hub::{Admission, Connected, Failure, Rejection, Requester, TokenId};
use tidings_wire::Channel;
use tidings_wire::code::{self, Code};
use tracing::debug;

use super::{UploadGrant, refusal, unexpired};
use tidings_auth::{Connection, SubscriptionOptions, TokenError, Verifier};

const SUBSCRIPTION: &str = "the subscription token is not accepted";

/// The connection that a token allows, at the time `now`.
pub(super) async fn connected(
    verifier: &Verifier,
    who: &Requester,
    token: &str,
    now: u64,
) -> Result<Connected, Failure> {
    let Connection { user, expires, info, meta, token: id, subs, upload: _ } =
        verifier.connection(token, now).await.map_err(|error| refused(who, "connection", &error))?;
    unexpired(expires)?;
    let subs = subs.into_iter().map(|(channel, options)| (channel, admission(options, None, None)));
    Ok(Connected { user, expires, info, meta, data: None, subs: subs.collect(), token: Some(id), since: 0 })
}

/// What a token says of its user's right to upload tables.
pub(super) async fn uploader(
    verifier: &Verifier,
    who: &Requester,
    token: &str,
    now: u64,
) -> Result<(UploadGrant, TokenId), Failure> {
    let Connection { user, expires, token: id, upload, .. } =
        verifier.connection(token, now).await.map_err(|error| refused(who, "connection", &error))?;
    unexpired(expires)?;
    Ok((UploadGrant { user, upload }, id))
}

/// What a new token makes of a connection, whose user cannot change.
pub(super) async fn refreshed(
    verifier: &Verifier,
    who: &Requester,
    token: &str,
    now: u64,
) -> Result<Connected, Failure> {
    let connected = connected(verifier, who, token, now).await.map_err(another)?;
    if connected.user == who.user {
        return Ok(connected);
    }
    Err(misplaced(who, "the connection token is another user's", code::UNAUTHORIZED))
}

/// The subscription that a token allows: to this channel, for this user, and for this client where it names one.
pub(super) async fn admitted(
    verifier: &Verifier,
    who: &Requester,
    channel: &Channel,
    token: &str,
    now: u64,
) -> Result<Admission, Failure> {
    let verified = verifier.subscription(token, now).await;
    let subscription = verified.map_err(|error| match error {
        // The client is known; what it has not shown is the permission.
        TokenError::Refused(_) => {
            misplaced(who, &format!("{SUBSCRIPTION}: {error}"), code::PERMISSION_DENIED)
        }
        error => refused(who, "subscription", &error),
    })?;
    let wrong = if subscription.channel != *channel {
        Some("the subscription token is for another channel")
    } else if subscription.user != who.user {
        Some("the subscription token is another user's")
    } else if subscription.client.as_ref().is_some_and(|client| *client != who.client) {
        Some("the subscription token is another client's")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        return Err(misplaced(who, wrong, code::PERMISSION_DENIED));
    }
    unexpired(subscription.expires)?;
    Ok(admission(subscription.options, subscription.expires, Some(subscription.token)))
}

/// What a new token makes of a subscription.
pub(super) async fn sub_refreshed(
    verifier: &Verifier,
    who: &Requester,
    channel: &Channel,
    token: &str,
    now: u64,
) -> Result<Admission, Failure> {
    admitted(verifier, who, channel, token, now).await.map_err(another)
}

/// Makes an expired token temporary where a client is to bring a new one before its time is over: it may try again with
/// one that is newer still, where it would otherwise be told to give up.
fn another(failure: Failure) -> Failure {
    match failure {
        Failure::Error(verdict) if verdict.code == code::TOKEN_EXPIRED.number => {
            Failure::Error(Rejection { temporary: true, ..verdict })
        }
        other => other,
    }
}

fn admission(options: SubscriptionOptions, expires: Option<u64>, token: Option<TokenId>) -> Admission {
    let SubscriptionOptions { info, data, overrides } = options;
    Admission { info, data, expires, overrides, token }
}

fn refused(who: &Requester, kind: &str, error: &TokenError) -> Failure {
    debug!(client = who.client, "the {kind} token is not accepted: {error}");
    refusal(error.code())
}

fn misplaced(who: &Requester, what: &str, code: Code) -> Failure {
    debug!(client = who.client, "{what}");
    refusal(code)
}
