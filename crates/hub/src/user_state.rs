//! The user of a session and the details of its subscriptions. Only some sessions have this state.

use std::sync::Arc;

use bytes::Bytes;
use tidings_capabilities::{Allow, Capabilities};
use tidings_wire::Labels;

use crate::authorization::TokenId;
use crate::index::TopicKey;
use crate::stream_lease::StreamLease;

/// A boolean of a subscription.
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
    /// The key of the channel's map that is the id of the client is removed when it ends.
    OwnsKey = 1 << 4,
    /// The application is asked whether it continues.
    Renewing = 1 << 5,
    /// The client is in the maps of the channel's presence.
    InMaps = 1 << 6,
    /// The control plane has the keys that it tracks in a shared poll.
    Polled = 1 << 7,
}

/// A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionFlags(u8);

impl SubscriptionFlags {
    pub(crate) fn has(self, mark: SubscriptionFlag) -> bool {
        self.0 & mark as u8 != 0
    }

    pub(crate) fn with(self, mark: SubscriptionFlag, on: bool) -> Self {
        if on { Self(self.0 | mark as u8) } else { self }
    }

    pub(crate) fn set(&mut self, mark: SubscriptionFlag, on: bool) {
        self.0 = if on { self.0 | mark as u8 } else { self.0 & !(mark as u8) };
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The details of a subscription that has any.
#[derive(Debug)]
pub(crate) struct SubscriptionDetails {
    pub(crate) topic: TopicKey,
    pub(crate) flags: SubscriptionFlags,
    /// Information about the client for other clients of the channel.
    pub(crate) info: Option<Bytes>,
    /// When it expires unless it is renewed, in Unix seconds.
    pub(crate) expires: Option<u64>,
    /// What the client may do in the channel besides its options.
    pub(crate) allow: Allow,
    /// The subscription token, if there is one.
    pub(crate) token: Option<Box<TokenId>>,
    /// The stream of publications for this subscription alone, if there is one.
    pub(crate) stream: Option<Box<StreamLease>>,
}

/// The user of a session, and the details of its subscriptions.
#[derive(Debug, Default)]
pub(crate) struct UserState {
    /// Empty for an anonymous client.
    pub(crate) user: Box<str>,
    /// Information about the client for other clients.
    pub(crate) info: Option<Bytes>,
    /// Data that the application attached to the connection.
    pub(crate) meta: Option<Bytes>,
    /// What the connection may do besides the options of channels.
    pub(crate) capabilities: Option<Arc<Capabilities>>,
    /// Names with values by which the application selects connections.
    pub(crate) labels: Option<Arc<Labels>>,
    /// When the connection expires unless it is renewed, in Unix seconds.
    pub(crate) expires: Option<u64>,
    /// When it was accepted, in Unix microseconds.
    pub(crate) since: u64,
    /// When the token was issued, in Unix seconds; 0 for a token without a time, `None` without a token.
    pub(crate) token_issued: Option<u64>,
    /// The id of the token, if it has one.
    pub(crate) token_id: Option<Box<str>>,
    /// The subscriptions with details.
    pub(crate) subs: Vec<SubscriptionDetails>,
    /// When the expiry of the connection is checked next, in Unix seconds.
    pub(crate) expiry_check: Option<u64>,
    /// When the expiry of subscriptions is checked next, in Unix seconds.
    pub(crate) sub_expiry_check: Option<u64>,
    /// Whether the timer of the presence refresh is running.
    pub(crate) presence_timer: bool,
}

impl UserState {
    /// Whether the state is equal to the default, so that it can be freed.
    pub(crate) fn is_empty(&self) -> bool {
        self.user.is_empty()
            && self.info.is_none()
            && self.meta.is_none()
            && self.capabilities.is_none()
            && self.labels.is_none()
            && self.expires.is_none()
            && self.token_id.is_none()
            && self.subs.is_empty()
            && !self.presence_timer
    }

    /// Stores the id and the time of issue of the connection token.
    pub(crate) fn set_token(&mut self, token: Option<&TokenId>) {
        self.token_issued = token.map(|token| token.issued.unwrap_or(0));
        self.token_id = token.and_then(|token| token.id.as_deref()).map(Into::into);
    }

    pub(crate) fn sub(&self, topic: TopicKey) -> Option<&SubscriptionDetails> {
        self.subs.iter().find(|sub| sub.topic == topic)
    }

    pub(crate) fn sub_mut(&mut self, topic: TopicKey) -> Option<&mut SubscriptionDetails> {
        self.subs.iter_mut().find(|sub| sub.topic == topic)
    }

    pub(crate) fn take_sub(&mut self, topic: TopicKey) -> Option<SubscriptionDetails> {
        let at = self.subs.iter().position(|sub| sub.topic == topic)?;
        Some(self.subs.swap_remove(at))
    }
}
