//! The subscriptions of a session. Most sessions have one or none, so a single one is stored inline; a list exists only
//! from the second one on.

use crate::index::TopicKey;
use crate::protocols::Protocols;
use crate::session::Session;

/// A subscription: the topic, and the session's index in the topic's subscriber list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: TopicKey,
    /// The index, and in its highest bit whether the client can recover it. One number, so that a subscription has eight
    /// bytes.
    packed: u32,
}

/// The bit of [`Subscription::is_recoverable`]. A list of 2³¹ subscribers does not fit into memory.
const RECOVERABLE: u32 = 1 << 31;

impl Subscription {
    fn new(topic: TopicKey, index: u32) -> Self {
        Self { topic, packed: index & !RECOVERABLE }
    }

    /// The session's index in the topic's subscriber list.
    pub(crate) fn index(self) -> u32 {
        self.packed & !RECOVERABLE
    }

    fn set_index(&mut self, index: u32) {
        self.packed = self.packed & RECOVERABLE | index & !RECOVERABLE;
    }

    /// Whether its client has a position from which it can recover missed publications after a reconnect.
    pub fn is_recoverable(self) -> bool {
        self.packed & RECOVERABLE != 0
    }
}

/// The only subscription of a session with one subscription; eight bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InlineSubscription(Subscription);

/// The key of an empty [`InlineSubscription`].
const NONE: TopicKey = TopicKey::NONE;

impl Default for InlineSubscription {
    fn default() -> Self {
        Self(Subscription::new(NONE, 0))
    }
}

impl<P: Protocols> Session<P> {
    /// All subscriptions, in the order in which they were made (except after removals).
    pub fn subscriptions(&self) -> &[Subscription] {
        match &self.cold {
            Some(cold) if !cold.subscriptions.is_empty() => &cold.subscriptions,
            _ if self.inline.0.topic == NONE => &[],
            _ => std::slice::from_ref(&self.inline.0),
        }
    }

    /// The session's index in the topic's subscriber list, if it is subscribed.
    pub(crate) fn index(&self, topic: TopicKey) -> Option<u32> {
        self.subscriptions().iter().find(|s| s.topic == topic).map(|s| s.index())
    }

    /// Whether it is subscribed to the topic.
    pub fn is_subscribed(&self, topic: TopicKey) -> bool {
        self.index(topic).is_some()
    }

    pub(crate) fn add_subscription(&mut self, topic: TopicKey, index: u32) {
        let new = Subscription::new(topic, index);
        if self.subscriptions().is_empty() {
            self.inline = InlineSubscription(new);
            return;
        }
        let inline = std::mem::take(&mut self.inline).0;
        let list = &mut self.cold().subscriptions;
        if list.is_empty() {
            list.push(inline);
        }
        list.push(new);
    }

    pub(crate) fn remove_subscription(&mut self, topic: TopicKey) {
        if self.inline.0.topic == topic {
            self.inline = InlineSubscription::default();
        } else if let Some(cold) = self.existing_cold() {
            cold.subscriptions.retain(|s| s.topic != topic);
            if let [last] = cold.subscriptions[..] {
                cold.subscriptions = Vec::new();
                self.inline = InlineSubscription(last);
            }
        }
    }

    /// The session was moved to another index of the topic's subscriber list.
    pub(crate) fn move_subscription(&mut self, topic: TopicKey, index: u32) {
        if let Some(subscription) = self.subscription_mut(topic) {
            subscription.set_index(index);
        }
    }

    /// The client can recover the subscription after a reconnect.
    pub(crate) fn set_recoverable(&mut self, topic: TopicKey) {
        if let Some(subscription) = self.subscription_mut(topic) {
            subscription.packed |= RECOVERABLE;
        }
    }

    fn subscription_mut(&mut self, topic: TopicKey) -> Option<&mut Subscription> {
        if self.inline.0.topic == topic {
            return Some(&mut self.inline.0);
        }
        self.cold.as_deref_mut()?.subscriptions.iter_mut().find(|s| s.topic == topic)
    }
}
