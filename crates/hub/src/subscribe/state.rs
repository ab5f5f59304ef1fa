//! A subscription that is under way, and the states it passes.

use tidings_wire::{Channel, History};

use super::options::SubscribeOptions;
use crate::decisions::{Admission, Connected};
use crate::effects::Failure;
use crate::index::TopicKey;

/// The origin of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client, by the command with this id.
    Command(u32),
    /// The server, when it accepts the connection.
    Connect,
    /// The server, while the connection stands.
    Order,
}

/// The state of a subscription that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubscribeState {
    /// A token is verified or the application decides; the ticket of the request.
    Deciding(u32),
    /// The broker has not confirmed the topic yet.
    Subscribing(TopicKey),
    /// The channel's history is read; what is published meanwhile is kept with the topic, from this one on.
    Reading { topic: TopicKey, ticket: u32, from: usize },
    /// It can be made, without a history.
    Live(TopicKey),
    /// It can be made.
    Read { topic: TopicKey, from: usize, history: History },
    /// It cannot.
    Failed(Failure),
}

/// A subscription on its way.
#[derive(Debug)]
pub(crate) struct PendingSubscribe {
    pub(crate) channel: Channel,
    pub(crate) owner: Origin,
    pub(crate) wish: SubscribeOptions,
    pub(crate) admission: Admission,
    pub(crate) stage: SubscribeState,
}

impl PendingSubscribe {
    /// Whether it can be answered.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(
            self.stage,
            SubscribeState::Live(_) | SubscribeState::Read { .. } | SubscribeState::Failed(_)
        )
    }

    /// Why it cannot be made.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match &self.stage {
            SubscribeState::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The topic that it waits for at the broker.
    pub(crate) fn waits_for(&self) -> Option<TopicKey> {
        match self.stage {
            SubscribeState::Subscribing(topic) => Some(topic),
            _ => None,
        }
    }

    /// The topic that keeps publications for it.
    pub(crate) fn catches(&self) -> Option<TopicKey> {
        match self.stage {
            SubscribeState::Reading { topic, .. } | SubscribeState::Read { topic, .. } => Some(topic),
            _ => None,
        }
    }

    /// The topic that must stay because of it.
    pub(crate) fn holds(&self) -> Option<TopicKey> {
        match self.stage {
            SubscribeState::Subscribing(topic)
            | SubscribeState::Live(topic)
            | SubscribeState::Reading { topic, .. }
            | SubscribeState::Read { topic, .. } => Some(topic),
            SubscribeState::Deciding(_) | SubscribeState::Failed(_) => None,
        }
    }

    /// The ticket of the answer that it waits for.
    pub(crate) fn ticket(&self) -> Option<u32> {
        match self.stage {
            SubscribeState::Deciding(ticket) | SubscribeState::Reading { ticket, .. } => Some(ticket),
            _ => None,
        }
    }
}

/// An accepted connection whose subscriptions are under way.
#[derive(Debug)]
pub(crate) struct PendingConnect {
    /// The id of the `connect` command.
    pub(crate) id: u32,
    pub(crate) connected: Connected,
    pub(crate) joins: Vec<PendingSubscribe>,
}
