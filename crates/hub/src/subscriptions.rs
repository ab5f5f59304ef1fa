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
    pub(crate) index: u32,
}

/// The only subscription of a session with one subscription; eight bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InlineSubscription(Subscription);

/// The key of an empty [`InlineSubscription`].
const NONE: TopicKey = TopicKey::NONE;

impl Default for InlineSubscription {
    fn default() -> Self {
        Self(Subscription { topic: NONE, index: 0 })
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
        self.subscriptions().iter().find(|s| s.topic == topic).map(|s| s.index)
    }

    /// Whether it is subscribed to the topic.
    pub fn is_subscribed(&self, topic: TopicKey) -> bool {
        self.index(topic).is_some()
    }

    pub(crate) fn add_subscription(&mut self, topic: TopicKey, index: u32) {
        let new = Subscription { topic, index };
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
        if self.inline.0.topic == topic {
            self.inline.0.index = index;
        } else if let Some(cold) = self.existing_cold()
            && let Some(s) = cold.subscriptions.iter_mut().find(|s| s.topic == topic)
        {
            s.index = index;
        }
    }
}
