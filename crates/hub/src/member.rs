//! Who a session is, and what is special about its subscriptions: what only some sessions have.

use bytes::Bytes;

use crate::deciding::TokenId;
use crate::topics::TopicKey;

/// One thing that is special about a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mark {
    /// The server made it, not the client.
    ServerSide = 1,
    /// It is kept that the client is present.
    Present = 1 << 1,
    /// Others are told that it comes and goes.
    Announced = 1 << 2,
    /// It is told of others who come and go.
    Watching = 1 << 3,
}

/// Several of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    pub(crate) fn has(self, mark: Mark) -> bool {
        self.0 & mark as u8 != 0
    }

    pub(crate) fn with(self, mark: Mark, on: bool) -> Self {
        if on { Self(self.0 | mark as u8) } else { self }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A subscription that is special.
#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) topic: TopicKey,
    pub(crate) marks: Marks,
    /// What others in the channel are told of the client.
    pub(crate) info: Option<Bytes>,
    /// When it ends unless it is refreshed, in Unix seconds.
    pub(crate) expires: Option<u64>,
    /// The token that allows it, if one does.
    pub(crate) token: Option<Box<TokenId>>,
}

/// Who a session is.
#[derive(Debug, Default)]
pub(crate) struct Member {
    /// Empty for an anonymous one.
    pub(crate) user: Box<str>,
    /// What others are told of the connection.
    pub(crate) info: Option<Bytes>,
    /// What the application wants to know of it again.
    pub(crate) meta: Option<Bytes>,
    /// When the connection ends unless it is refreshed, in Unix seconds.
    pub(crate) expires: Option<u64>,
    /// When it was let in, in Unix microseconds.
    pub(crate) since: u64,
    /// When the token that let it in was issued, in Unix seconds; 0 where it does not say, `None` without a token.
    pub(crate) token_issued: Option<u64>,
    /// The id of that token, where it has one.
    pub(crate) token_id: Option<Box<str>>,
    /// The subscriptions that are special.
    pub(crate) subs: Vec<Sub>,
    /// When it is looked at next whether the connection's time is over, in Unix seconds.
    pub(crate) expiry_check: Option<u64>,
    /// When it is looked at next whether a subscription's is.
    pub(crate) sub_expiry_check: Option<u64>,
    /// A timer that says who is present is running.
    pub(crate) presence_timer: bool,
}

impl Member {
    /// Whether there is nothing to be said of it.
    pub(crate) fn is_nobody(&self) -> bool {
        self.user.is_empty()
            && self.info.is_none()
            && self.meta.is_none()
            && self.expires.is_none()
            && self.token_id.is_none()
            && self.subs.is_empty()
            && !self.presence_timer
    }

    /// Notes the token that has let it in, or lets it stay.
    pub(crate) fn set_token(&mut self, token: Option<&TokenId>) {
        self.token_issued = token.map(|token| token.issued.unwrap_or(0));
        self.token_id = token.and_then(|token| token.id.as_deref()).map(Into::into);
    }

    pub(crate) fn sub(&self, topic: TopicKey) -> Option<&Sub> {
        self.subs.iter().find(|sub| sub.topic == topic)
    }

    pub(crate) fn sub_mut(&mut self, topic: TopicKey) -> Option<&mut Sub> {
        self.subs.iter_mut().find(|sub| sub.topic == topic)
    }

    pub(crate) fn take_sub(&mut self, topic: TopicKey) -> Option<Sub> {
        let at = self.subs.iter().position(|sub| sub.topic == topic)?;
        Some(self.subs.swap_remove(at))
    }
}
