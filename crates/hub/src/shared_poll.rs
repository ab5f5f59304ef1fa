//! Channels that are shared polls: their options, and the requests of their subscribers.
//!
//! A subscriber tracks keys; the control plane requests the values of all tracked keys from the application and posts each
//! change to the sessions that track its key. The hub knows only that the session is subscribed: the keys are in the control
//! plane, which is notified of every subscription that begins ([`PollRequest::Join`]) and ends ([`Notification::PollLeft`]).

use std::time::Duration;

use bytes::Bytes;
use tidings_wire::code;
use tidings_wire::{Channel, Topic};

use crate::context::Context;
use crate::effects::{Effect, Effects, Notification, Request};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::kind::{SubscriptionKind, check_kind};
use crate::protocols::Protocols;
use crate::session::SessionId;
use crate::subscribe::{CommandError, SubscribeOptions, SubscribeState};

/// The options of a namespace of shared polls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollNamespace {
    /// The name of the hook; `None` for the one without a name.
    pub hook: Option<String>,
    /// The time between two requests for the same key.
    pub interval: Duration,
    /// Most keys of a request.
    pub batch: usize,
    /// Most keys that a subscriber tracks in a channel.
    pub keys_per_subscriber: usize,
    /// Most different keys of a channel.
    pub keys: usize,
    /// Whether the application numbers the values; otherwise this node does.
    pub versioned: bool,
    /// How long a channel without subscribers is kept.
    pub shutdown_delay: Duration,
    /// How long keys are tracked after their signature has expired.
    pub expired_delay: Duration,
    /// Whether values that the application publishes are sent to all nodes.
    pub publishes_to_all: bool,
}

/// A subscriber of a shared poll: a session of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PollSubscriber {
    /// The shard.
    pub shard: u32,
    /// The session.
    pub session: SessionId,
}

/// A request of a subscriber of a shared poll.
#[derive(Debug, PartialEq, Eq)]
pub enum PollRequest {
    /// Begins a subscription; the response is [`Response::PollJoined`](crate::Response::PollJoined).
    Join {
        /// Whether the subscriber gets values as deltas to those before.
        delta: bool,
    },
    /// Tracks keys; the response is [`Response::Tracked`](crate::Response::Tracked).
    Track {
        /// The user of the client.
        user: String,
        /// The keys, by signature.
        batches: Vec<TrackedKeys>,
        /// Keys that are not tracked any more.
        untrack: Vec<String>,
    },
    /// Ends the tracking of keys; the response is [`Response::Tracked`](crate::Response::Tracked).
    Untrack(Vec<String>),
}

/// Keys with one signature.
#[derive(Debug, PartialEq, Eq)]
pub struct TrackedKeys {
    /// The signature of the keys, in their order.
    pub signature: String,
    /// The keys, each with the version that the client has; 0 for none.
    pub items: Vec<(String, u64)>,
}

/// The response of the application to a request for values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollValues {
    /// The epoch of the versions.
    pub epoch: String,
    /// The values. Keys that are missing have not changed.
    pub items: Vec<PollValue>,
}

/// The value of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollValue {
    /// The key.
    pub key: String,
    /// The value; `None` if it has not changed.
    pub data: Option<Bytes>,
    /// The version; without versions of the application, 0.
    pub version: u64,
    /// Whether the key is removed.
    pub removed: bool,
}

/// A value that the application publishes, in place of a response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollPublication {
    /// The channel.
    pub channel: Channel,
    /// The value.
    pub value: PollValue,
    /// The epoch of its version.
    pub epoch: String,
}

impl<P: Protocols> Hub<P> {
    fn poll_subscriber(&self, slot: Slot) -> PollSubscriber {
        PollSubscriber { shard: self.shard.0, session: self.session_id(slot) }
    }

    /// The request that changes the keys that a session tracks in a channel. Without batches it ends the tracking of `untrack`.
    ///
    /// # Errors
    /// If the channel is not a shared poll, or the session is not subscribed to it.
    pub fn track_request(
        &self,
        slot: Slot,
        channel: Channel,
        batches: Vec<TrackedKeys>,
        untrack: Vec<String>,
    ) -> Result<Request<P::Messages>, CommandError> {
        check_kind(self.settings.namespaces.options(channel.as_str())?, SubscriptionKind::SharedPoll)?;
        if !self.is_subscribed(slot, &channel) {
            return Err(code::PERMISSION_DENIED.into());
        }
        let request = if batches.is_empty() {
            PollRequest::Untrack(untrack)
        } else {
            let user = self.sessions[slot.index()].user_state().map(|state| state.user.to_string());
            PollRequest::Track { user: user.unwrap_or_default(), batches, untrack }
        };
        Ok(Request::Poll(channel, self.poll_subscriber(slot), Box::new(request)))
    }

    /// Ends the subscription of a session to a shared poll, with this code and reason.
    pub fn end_poll(
        &mut self,
        id: SessionId,
        channel: &Channel,
        (code, reason): (u16, &str),
        fx: &mut Effects<P::Messages>,
    ) {
        let Some(key) = self.topics.key(&Topic::Channel(channel.clone())) else { return };
        if self.is_current(id) && !self.is_closing(id.slot) {
            let mut context = self.context(id.slot, fx);
            context.end_subscription(key, code, reason);
            context.drop_empty_user_state();
        }
    }
}

impl<P: Protocols> Context<'_, P> {
    /// Begins the subscription to a live shared poll in the control plane; `None` for any other channel.
    pub(crate) fn begin_poll(
        &mut self,
        topic: TopicKey,
        channel: &Channel,
        sub_options: &SubscribeOptions,
    ) -> Option<SubscribeState> {
        if !sub_options.shared_poll {
            return None;
        }
        let id = self.id();
        let ticket = self.session_mut().cold().pending.ticket();
        let request = Box::new(PollRequest::Join { delta: sub_options.delta });
        let subscriber = self.hub.poll_subscriber(self.slot);
        self.fx.push(Effect::Request(id, ticket, Request::Poll(channel.clone(), subscriber, request)));
        Some(SubscribeState::JoiningPoll { topic, ticket })
    }

    /// Reports the end of a subscription to a shared poll.
    pub(crate) fn leave_poll(&mut self, channel: Channel) {
        let subscriber = self.hub.poll_subscriber(self.slot);
        self.fx.push(Effect::Notify(Notification::PollLeft(channel, subscriber)));
    }
}
