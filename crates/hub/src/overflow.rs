//! Slow consumers: the action for a subscriber with a full queue.

use tidings_wire::code;

use crate::effects::Effects;
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::namespace::SlowConsumerPolicy;
use crate::protocols::{LossReport, Peer as _, Protocols};
use crate::topics::TopicEntry;

/// The action for a subscriber with a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// End the session with [`crate::CloseReason::Slow`].
    Cut,
    /// Drop the waiting publications of the topic except the newest, and report the gap.
    Latest,
    /// Drop the oldest publications, and report the gap.
    DropOldest,
    /// Drop the waiting publications of the topic (with the policy `latest`, keep the newest), and end the subscription
    /// with [`Hub::lose_subscription`], which is reported after the publications that stay.
    Unsubscribe,
}

impl Overflow {
    /// Number of actions.
    pub const COUNT: usize = 4;
}

impl<P: Protocols> Hub<P> {
    /// The action for a subscriber of the topic with a full queue.
    pub fn overflow_action(&self, slot: Slot, key: TopicKey) -> Overflow {
        let policy = self.topics.get(key).map(TopicEntry::slow_consumer).unwrap_or_default();
        match (policy, self.sessions[slot.index()].peer.loss_report()) {
            (SlowConsumerPolicy::Cut, _) | (_, LossReport::Close) => Overflow::Cut,
            (_, LossReport::Resubscribe | LossReport::Reconnect) => Overflow::Unsubscribe,
            (SlowConsumerPolicy::Latest, LossReport::Notice) => Overflow::Latest,
            (SlowConsumerPolicy::DropOldest, LossReport::Notice) => Overflow::DropOldest,
        }
    }

    /// Ends a subscription of the client protocol because publications were dropped. The client subscribes again (code
    /// 2500).
    pub fn lose_subscription(
        &mut self,
        slot: Slot,
        key: TopicKey,
        dropped: u64,
        fx: &mut Effects<P::Messages>,
    ) {
        let reason = format!("{}: {dropped} messages dropped", code::INSUFFICIENT_STATE.text);
        self.context(slot, fx).lose_position(key, &reason);
    }
}
