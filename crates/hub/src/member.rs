//! The user of a session and its special subscriptions: what only some sessions have.

use bytes::Bytes;

use crate::decisions::TokenId;
use crate::index::TopicKey;

/// One thing that is special about a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SubscriptionFlag {
    /// The server made it, not the client.
    ServerSide = 1,
    /// The client is in the presence of the channel.
    Present = 1 << 1,
    /// Its join and leave are published.
    Announced = 1 << 2,
    /// It gets the joins and leaves of other clients.
    Watching = 1 << 3,
}

/// Several of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionFlags(u8);

impl SubscriptionFlags {
    pub(crate) fn has(self, mark: SubscriptionFlag) -> bool {
        self.0 & mark as u8 != 0
    }

    pub(crate) fn with(self, mark: SubscriptionFlag, on: bool) -> Self {
        if on { Self(self.0 | mark as u8) } else { self }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A subscription that is special.
#[derive(Debug)]
pub(crate) struct SpecialSubscription {
    pub(crate) topic: TopicKey,
    pub(crate) marks: SubscriptionFlags,
    /// What other clients of the channel see of the client.
    pub(crate) info: Option<Bytes>,
    /// When it ends unless it is refreshed, in Unix seconds.
    pub(crate) expires: Option<u64>,
    /// The token that allows it, if one does.
    pub(crate) token: Option<Box<TokenId>>,
}

/// The user of a session, and its special subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Member {
    /// Empty for an anonymous one.
    pub(crate) user: Box<str>,
    /// What other clients see of the connection.
    pub(crate) info: Option<Bytes>,
    /// Data that the application attached to the connection, for itself.
    pub(crate) meta: Option<Bytes>,
    /// When the connection ends unless it is refreshed, in Unix seconds.
    pub(crate) expires: Option<u64>,
    /// When it was accepted, in Unix microseconds.
    pub(crate) since: u64,
    /// When its token was issued, in Unix seconds; 0 where the token contains no time, `None` without a token.
    pub(crate) token_issued: Option<u64>,
    /// The id of that token, where it has one.
    pub(crate) token_id: Option<Box<str>>,
    /// The subscriptions that are special.
    pub(crate) subs: Vec<SpecialSubscription>,
    /// When the expiry of the connection is checked next, in Unix seconds.
    pub(crate) expiry_check: Option<u64>,
    /// When the expiry of subscriptions is checked next, in Unix seconds.
    pub(crate) sub_expiry_check: Option<u64>,
    /// The timer that refreshes the presence is running.
    pub(crate) presence_timer: bool,
}

impl Member {
    /// Whether it contains nothing.
    pub(crate) fn is_nobody(&self) -> bool {
        self.user.is_empty()
            && self.info.is_none()
            && self.meta.is_none()
            && self.expires.is_none()
            && self.token_id.is_none()
            && self.subs.is_empty()
            && !self.presence_timer
    }

    /// Sets its token.
    pub(crate) fn set_token(&mut self, token: Option<&TokenId>) {
        self.token_issued = token.map(|token| token.issued.unwrap_or(0));
        self.token_id = token.and_then(|token| token.id.as_deref()).map(Into::into);
    }

    pub(crate) fn sub(&self, topic: TopicKey) -> Option<&SpecialSubscription> {
        self.subs.iter().find(|sub| sub.topic == topic)
    }

    pub(crate) fn sub_mut(&mut self, topic: TopicKey) -> Option<&mut SpecialSubscription> {
        self.subs.iter_mut().find(|sub| sub.topic == topic)
    }

    pub(crate) fn take_sub(&mut self, topic: TopicKey) -> Option<SpecialSubscription> {
        let at = self.subs.iter().position(|sub| sub.topic == topic)?;
        Some(self.subs.swap_remove(at))
    }
}
