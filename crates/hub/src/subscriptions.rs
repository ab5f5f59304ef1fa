//! What a session is subscribed to. Most have one or none, so one stands in the session itself, and only from the
//! second on there is a list.

use crate::index::TopicKey;
use crate::protocols::Protocols;
use crate::session::Session;

/// A subscription: the topic, and the session's place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: TopicKey,
    pub(crate) place: u32,
}

/// The only subscription of a session, if it has just one; eight bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SingleSubscription(Subscription);

/// No topic has this key.
const NONE: TopicKey = TopicKey::NONE;

impl Default for SingleSubscription {
    fn default() -> Self {
        Self(Subscription { topic: NONE, place: 0 })
    }
}

impl<P: Protocols> Session<P> {
    /// All subscriptions, in the order they were made (but for removals).
    pub fn subscriptions(&self) -> &[Subscription] {
        match &self.cold {
            Some(cold) if !cold.subscriptions.is_empty() => &cold.subscriptions,
            _ if self.only.0.topic == NONE => &[],
            _ => std::slice::from_ref(&self.only.0),
        }
    }

    /// Where it stands in the topic's list, if it is subscribed.
    pub(crate) fn place(&self, topic: TopicKey) -> Option<u32> {
        self.subscriptions().iter().find(|s| s.topic == topic).map(|s| s.place)
    }

    /// Whether it is subscribed to the topic.
    pub fn is_subscribed(&self, topic: TopicKey) -> bool {
        self.place(topic).is_some()
    }

    pub(crate) fn add_subscription(&mut self, topic: TopicKey, place: u32) {
        let new = Subscription { topic, place };
        if self.subscriptions().is_empty() {
            self.only = SingleSubscription(new);
            return;
        }
        let only = std::mem::take(&mut self.only).0;
        let list = &mut self.cold().subscriptions;
        if list.is_empty() {
            list.push(only);
        }
        list.push(new);
    }

    pub(crate) fn remove_subscription(&mut self, topic: TopicKey) {
        if self.only.0.topic == topic {
            self.only = SingleSubscription::default();
        } else if let Some(cold) = self.existing_cold() {
            cold.subscriptions.retain(|s| s.topic != topic);
            if let [last] = cold.subscriptions[..] {
                cold.subscriptions = Vec::new();
                self.only = SingleSubscription(last);
            }
        }
    }

    /// The session was moved within a topic's list.
    pub(crate) fn move_subscription(&mut self, topic: TopicKey, place: u32) {
        if self.only.0.topic == topic {
            self.only.0.place = place;
        } else if let Some(cold) = self.existing_cold()
            && let Some(s) = cold.subscriptions.iter_mut().find(|s| s.topic == topic)
        {
            s.place = place;
        }
    }
}
