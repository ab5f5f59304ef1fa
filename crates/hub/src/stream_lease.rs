//! Subscriptions with a stream of their own: the application opened it when it accepted the subscription, and its publications go to
//! that subscription alone.
//!
//! The control plane has the stream. The hub has a [`StreamLease`], first in the admission and then in the subscription. When the last
//! copy is dropped, the stream is cancelled: a subscription that is refused, cancelled or ended needs no notification.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tidings_wire::{Channel, Topic};

use crate::context::Context;
use crate::effects::{Effect, Effects, Failure, Notification};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::protocols::Protocols;
use crate::session::SessionId;

/// A stream of the control plane.
pub trait SubscriptionStream: Send + Sync {
    /// The number of the stream.
    fn id(&self) -> StreamId;

    /// The subscription has begun, so its publications may follow.
    fn start(&self);

    /// Sends a publication of the client. Does not block.
    ///
    /// # Errors
    /// A temporary failure if too many publications wait, or the stream has ended.
    fn publish(&self, body: Bytes) -> Result<(), Failure>;

    /// Whether it takes publications of the client.
    fn is_bidirectional(&self) -> bool;
}

/// The stream of a subscription, which is cancelled when the last copy of the lease is dropped.
#[derive(Clone)]
pub struct StreamLease(Arc<dyn SubscriptionStream>);

impl StreamLease {
    /// The lease of a stream.
    pub fn new(stream: Arc<dyn SubscriptionStream>) -> Self {
        Self(stream)
    }

    /// The stream.
    pub fn stream(&self) -> &dyn SubscriptionStream {
        &*self.0
    }

    fn id(&self) -> StreamId {
        self.0.id()
    }
}

/// The number of a stream, unique in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(u64);

impl StreamId {
    /// The id with this number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Debug for StreamLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamLease").finish_non_exhaustive()
    }
}

impl PartialEq for StreamLease {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for StreamLease {}

impl<P: Protocols> Hub<P> {
    /// The stream of a subscription.
    fn lease(&self, slot: Slot, topic: TopicKey) -> Option<&StreamLease> {
        self.sessions.get(slot.index())?.user_state()?.sub(topic)?.stream.as_deref()
    }

    /// The stream that takes the publications of a session to a channel.
    pub(crate) fn publication_stream(&self, slot: Slot, channel: &Channel) -> Option<StreamLease> {
        let topic = self.topics.key(&Topic::Channel(channel.clone()))?;
        self.lease(slot, topic).filter(|lease| lease.stream().is_bidirectional()).cloned()
    }

    /// The topic of a session's subscription with this stream; `None` if that has ended.
    pub fn streamed_topic(&self, id: SessionId, channel: &Channel, stream: StreamId) -> Option<TopicKey> {
        let topic = self.topics.key(&Topic::Channel(channel.clone()))?;
        let is_open = self.is_current(id) && !self.is_closing(id.slot);
        let is_same = || self.lease(id.slot, topic).is_some_and(|lease| lease.id() == stream);
        (is_open && is_same()).then_some(topic)
    }

    /// Ends the subscription with this stream, with this code and reason.
    pub fn end_streamed(
        &mut self,
        id: SessionId,
        channel: &Channel,
        stream: StreamId,
        (code, reason): (u16, &str),
        fx: &mut Effects<P::Messages>,
    ) {
        let Some(topic) = self.streamed_topic(id, channel, stream) else { return };
        let mut context = self.context(id.slot, fx);
        context.end_subscription(topic, code, reason);
        context.drop_empty_user_state();
    }
}

impl<P: Protocols> Context<'_, P> {
    /// Starts the stream of a subscription that was reported.
    pub(crate) fn start_stream(&mut self, topic: TopicKey) {
        if let Some(lease) = self.hub.lease(self.slot, topic) {
            let lease = lease.clone();
            self.fx.push(Effect::Notify(Notification::StreamStarted(lease)));
        }
    }
}
