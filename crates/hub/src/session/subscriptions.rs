//! What a session is subscribed to: most have one or none, so one or none costs no allocation.

use crate::topics::TopicKey;

/// A subscription: the topic, and the session's place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) topic: TopicKey,
    pub(crate) place: u32,
}

/// All subscriptions of a session, in the order they were made (but for removals).
#[derive(Debug, Default)]
pub(crate) enum Subscriptions {
    #[default]
    None,
    One(Subscription),
    #[expect(clippy::box_collection, reason = "a thin pointer keeps the idle session small")]
    Many(Box<Vec<Subscription>>),
}

impl Subscriptions {
    pub(crate) fn as_slice(&self) -> &[Subscription] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn place(&self, topic: TopicKey) -> Option<u32> {
        self.as_slice().iter().find(|s| s.topic == topic).map(|s| s.place)
    }

    pub(crate) fn contains(&self, topic: TopicKey) -> bool {
        self.place(topic).is_some()
    }

    pub(crate) fn add(&mut self, topic: TopicKey, place: u32) {
        let new = Subscription { topic, place };
        match self {
            Self::None => *self = Self::One(new),
            Self::One(one) => *self = Self::Many(Box::new(vec![*one, new])),
            Self::Many(many) => many.push(new),
        }
    }

    pub(crate) fn remove(&mut self, topic: TopicKey) {
        match self {
            Self::One(one) if one.topic == topic => *self = Self::None,
            Self::Many(many) => {
                many.retain(|s| s.topic != topic);
                match many.as_slice() {
                    [] => *self = Self::None,
                    [one] => *self = Self::One(*one),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The session was moved within a topic's list.
    pub(crate) fn moved(&mut self, topic: TopicKey, place: u32) {
        let slice = match self {
            Self::None => return,
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many.as_mut_slice(),
        };
        if let Some(s) = slice.iter_mut().find(|s| s.topic == topic) {
            s.place = place;
        }
    }
}
