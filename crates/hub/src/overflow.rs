//! What becomes of subscribers that do not keep up.

use tidings_wire::code;

use crate::effects::Effects;
use crate::hub::Hub;
use crate::namespace::SlowConsumer;
use crate::session::Protocol;
use crate::topics::{Entry, TopicKey};

/// What to do with a subscriber whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// End the session with [`crate::Ending::Slow`].
    Cut,
    /// Drop what waits of the topic, keep the newest publication, announce the gap.
    Latest,
    /// Drop the oldest publications, announce the gap.
    DropOldest,
    /// Drop what waits of the topic (but the newest, where the policy is to keep that) and end the subscription with
    /// [`Hub::lose_subscription`], which the subscriber is told behind what it gets.
    Unsubscribe,
}

impl Hub {
    /// What to do with a subscriber of the topic whose queue is full.
    pub fn overflow(&self, slot: u32, key: TopicKey) -> Overflow {
        let policy = self.topics.get(key).map(Entry::slow_consumer).unwrap_or_default();
        match (policy, self.sessions[slot as usize].link.protocol()) {
            // RESP has no way to say that something was left out, so a RESP subscriber is cut, as Redis does.
            (SlowConsumer::Cut, _) | (_, Protocol::Resp { .. }) => Overflow::Cut,
            (SlowConsumer::Latest | SlowConsumer::DropOldest, Protocol::Client { .. } | Protocol::Events) => {
                Overflow::Unsubscribe
            }
            (SlowConsumer::Latest, Protocol::Unknown | Protocol::Plain) => Overflow::Latest,
            (SlowConsumer::DropOldest, Protocol::Unknown | Protocol::Plain) => Overflow::DropOldest,
        }
    }

    /// Ends one subscription of a session of the client protocol because publications were dropped; its
    /// client subscribes again by itself (code 2500).
    pub fn lose_subscription(&mut self, slot: u32, key: TopicKey, dropped: u64, fx: &mut Effects) {
        let reason = format!("{}: {dropped} messages dropped", code::INSUFFICIENT_STATE.text);
        self.lose_position(slot, key, &reason, fx);
    }
}
