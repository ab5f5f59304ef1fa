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
    /// The index, and two booleans in its highest bits. One number, so that a subscription has eight bytes.
    packed: u32,
}

/// The bit of [`Subscription::is_recoverable`].
const RECOVERABLE: u32 = 1 << 31;
/// The bit of [`Subscription::is_no_local`].
const NO_LOCAL: u32 = 1 << 30;
/// The bits of the index. A list of 2³⁰ subscribers does not fit into memory.
const INDEX: u32 = NO_LOCAL - 1;

impl Subscription {
    fn new(topic: TopicKey, index: u32) -> Self {
        Self { topic, packed: index & INDEX }
    }

    /// The session's index in the topic's subscriber list.
    pub(crate) fn index(self) -> u32 {
        self.packed & INDEX
    }

    fn set_index(&mut self, index: u32) {
        self.packed = self.packed & !INDEX | index & INDEX;
    }

    /// Whether its client has a position from which it can recover missed publications after a reconnect.
    pub fn is_recoverable(self) -> bool {
        self.packed & RECOVERABLE != 0
    }

    /// Whether the session does not get its own publications.
    pub fn is_no_local(self) -> bool {
        self.packed & NO_LOCAL != 0
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

    /// The subscription to a topic, if there is one.
    pub(crate) fn subscription(&self, topic: TopicKey) -> Option<Subscription> {
        self.subscriptions().iter().find(|s| s.topic == topic).copied()
    }

    /// Whether it is subscribed to the topic.
    pub fn is_subscribed(&self, topic: TopicKey) -> bool {
        self.subscription(topic).is_some()
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

    /// Sets whether the subscription excludes the session's own publications; returns whether that is a change.
    pub(crate) fn set_no_local(&mut self, topic: TopicKey, on: bool) -> bool {
        let Some(subscription) = self.subscription_mut(topic).filter(|s| s.is_no_local() != on) else {
            return false;
        };
        subscription.packed ^= NO_LOCAL;
        true
    }

    fn subscription_mut(&mut self, topic: TopicKey) -> Option<&mut Subscription> {
        if self.inline.0.topic == topic {
            return Some(&mut self.inline.0);
        }
        self.cold.as_deref_mut()?.subscriptions.iter_mut().find(|s| s.topic == topic)
    }
}
