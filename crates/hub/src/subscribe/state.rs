//! A subscription that is under way, and the states it passes.

use tidings_wire::{Channel, History};

use super::options::Wish;
use crate::deciding::{Admission, Connected};
use crate::effects::Failure;
use crate::topics::TopicKey;

/// Who wants a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The client, by the command with this id.
    Command(u32),
    /// The server, when it lets the connection in.
    Connect,
    /// The server, while the connection stands.
    Order,
}

/// How far a subscription has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Somebody decides whether it is allowed.
    Deciding(u32),
    /// The broker is to confirm the topic.
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
pub(crate) struct Join {
    pub(crate) channel: Channel,
    pub(crate) owner: Owner,
    pub(crate) wish: Wish,
    pub(crate) admission: Admission,
    pub(crate) stage: Stage,
}

impl Join {
    /// Whether it can be answered.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self.stage, Stage::Live(_) | Stage::Read { .. } | Stage::Failed(_))
    }

    /// Why it cannot be made.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match &self.stage {
            Stage::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The topic that it waits for at the broker.
    pub(crate) fn waits_for(&self) -> Option<TopicKey> {
        match self.stage {
            Stage::Subscribing(topic) => Some(topic),
            _ => None,
        }
    }

    /// The topic that keeps publications for it.
    pub(crate) fn catches(&self) -> Option<TopicKey> {
        match self.stage {
            Stage::Reading { topic, .. } | Stage::Read { topic, .. } => Some(topic),
            _ => None,
        }
    }

    /// The topic that must stay because of it.
    pub(crate) fn holds(&self) -> Option<TopicKey> {
        match self.stage {
            Stage::Subscribing(topic)
            | Stage::Live(topic)
            | Stage::Reading { topic, .. }
            | Stage::Read { topic, .. } => Some(topic),
            Stage::Deciding(_) | Stage::Failed(_) => None,
        }
    }

    /// The ticket of the answer that it waits for.
    pub(crate) fn ticket(&self) -> Option<u32> {
        match self.stage {
            Stage::Deciding(ticket) | Stage::Reading { ticket, .. } => Some(ticket),
            _ => None,
        }
    }
}

/// A connection that is let in, and the subscriptions that come with it.
#[derive(Debug)]
pub(crate) struct Admitting {
    /// The id of the `connect` command.
    pub(crate) id: u32,
    pub(crate) connected: Connected,
    pub(crate) joins: Vec<Join>,
}
