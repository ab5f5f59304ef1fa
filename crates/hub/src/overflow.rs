//! Slow consumers: the policy for a subscriber whose queue is full.

use tidings_wire::code;

use crate::effects::Effects;
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::namespace::SlowConsumerPolicy;
use crate::protocols::{LossReport, Peer as _, Protocols};
use crate::topics::Entry;

/// What to do with a subscriber whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// End the session with [`crate::CloseReason::Slow`].
    Cut,
    /// Drop what waits of the topic, keep the newest publication, announce the gap.
    Latest,
    /// Drop the oldest publications, announce the gap.
    DropOldest,
    /// Drop what waits of the topic (but the newest, where the policy is to keep that) and end the subscription with
    /// [`Hub::lose_subscription`], which is reported behind the publications that stay.
    Unsubscribe,
}

impl<P: Protocols> Hub<P> {
    /// What to do with a subscriber of the topic whose queue is full.
    pub fn overflow(&self, slot: Slot, key: TopicKey) -> Overflow {
        let policy = self.topics.get(key).map(Entry::slow_consumer).unwrap_or_default();
        match (policy, self.sessions[slot.index()].peer.loss_report()) {
            (SlowConsumerPolicy::Cut, _) | (_, LossReport::Close) => Overflow::Cut,
            (_, LossReport::Resubscribe | LossReport::Reconnect) => Overflow::Unsubscribe,
            (SlowConsumerPolicy::Latest, LossReport::Notice) => Overflow::Latest,
            (SlowConsumerPolicy::DropOldest, LossReport::Notice) => Overflow::DropOldest,
        }
    }

    /// Ends one subscription of a session of the client protocol because publications were dropped; its
    /// client subscribes again by itself (code 2500).
    pub fn lose_subscription(&mut self, slot: Slot, key: TopicKey, dropped: u64, fx: &mut Effects) {
        let reason = format!("{}: {dropped} messages dropped", code::INSUFFICIENT_STATE.text);
        self.lose_position(slot, key, &reason, fx);
    }
}
