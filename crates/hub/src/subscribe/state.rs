//! A subscription in progress, and its states.

use tidings_map_state::StatePage;
use tidings_wire::{Channel, History};

use super::options::SubscribeOptions;
use crate::authorization::{Admission, Connected};
use crate::effects::Failure;
use crate::index::TopicKey;

/// The origin of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client, by the command with this id.
    Command(u32),
    /// The server, when it accepts the connection.
    Connect,
    /// The server, during the connection.
    SessionCommand,
}

/// The state of a subscription in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubscribeState {
    /// A token is verified, or the application decides; the ticket of the request.
    Deciding(u32),
    /// The broker has not confirmed the topic yet.
    Subscribing(TopicKey),
    /// The history is read. The topic records publications meanwhile; `from` is the index of the first one.
    ReadingHistory { topic: TopicKey, ticket: u32, from: usize },
    /// It can be made; its history is not used.
    Live(TopicKey),
    /// It can be made; `from` is the index of the first recorded publication.
    HistoryRead { topic: TopicKey, from: usize, history: History },
    /// A page of the state of a map is read; the ticket of the request.
    ReadingState(u32),
    /// The page was read.
    StateRead(Box<StatePage>),
    /// The control plane begins the subscription to a shared poll; the ticket of the request.
    JoiningPoll { topic: TopicKey, ticket: u32 },
    /// The subscription to a shared poll can be made; the epoch of its versions.
    PollJoined { topic: TopicKey, epoch: String },
    /// It cannot be made.
    Failed(Failure),
}

/// A subscription in progress.
#[derive(Debug)]
pub(crate) struct PendingSubscribe {
    pub(crate) channel: Channel,
    pub(crate) origin: Origin,
    pub(crate) sub_options: SubscribeOptions,
    pub(crate) admission: Admission,
    pub(crate) state: SubscribeState,
}

impl PendingSubscribe {
    /// Whether it can be answered.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(
            self.state,
            SubscribeState::Live(_)
                | SubscribeState::HistoryRead { .. }
                | SubscribeState::StateRead(_)
                | SubscribeState::PollJoined { .. }
                | SubscribeState::Failed(_)
        )
    }

    /// The failure, if it cannot be made.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match &self.state {
            SubscribeState::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Whether the client's permission allows it, and no token or decision of the application.
    pub(crate) fn is_by_permission(&self) -> bool {
        let is_undecided = matches!(self.state, SubscribeState::Deciding(_) | SubscribeState::Failed(_));
        matches!(self.origin, Origin::Command(_)) && self.admission.token.is_none() && !is_undecided
    }

    /// The topic that it waits for at the broker.
    pub(crate) fn awaited_topic(&self) -> Option<TopicKey> {
        match self.state {
            SubscribeState::Subscribing(topic) => Some(topic),
            _ => None,
        }
    }

    /// The topic that records publications for it.
    pub(crate) fn recording_topic(&self) -> Option<TopicKey> {
        match self.state {
            SubscribeState::ReadingHistory { topic, .. } | SubscribeState::HistoryRead { topic, .. } => {
                Some(topic)
            }
            _ => None,
        }
    }

    /// The topic that must be kept for it.
    pub(crate) fn held_topic(&self) -> Option<TopicKey> {
        match self.state {
            SubscribeState::Subscribing(topic)
            | SubscribeState::Live(topic)
            | SubscribeState::ReadingHistory { topic, .. }
            | SubscribeState::HistoryRead { topic, .. }
            | SubscribeState::JoiningPoll { topic, .. }
            | SubscribeState::PollJoined { topic, .. } => Some(topic),
            SubscribeState::Deciding(_)
            | SubscribeState::ReadingState(_)
            | SubscribeState::StateRead(_)
            | SubscribeState::Failed(_) => None,
        }
    }

    /// Whether the control plane has the subscription to a shared poll already.
    pub(crate) fn has_joined_poll(&self) -> bool {
        matches!(self.state, SubscribeState::JoiningPoll { .. } | SubscribeState::PollJoined { .. })
    }

    /// The ticket of the response that it waits for.
    pub(crate) fn ticket(&self) -> Option<u32> {
        match self.state {
            SubscribeState::Deciding(ticket)
            | SubscribeState::ReadingState(ticket)
            | SubscribeState::JoiningPoll { ticket, .. }
            | SubscribeState::ReadingHistory { ticket, .. } => Some(ticket),
            _ => None,
        }
    }
}

/// An accepted connection with its subscriptions in progress.
#[derive(Debug)]
pub(crate) struct PendingConnect {
    /// The id of the `connect` command.
    pub(crate) id: u32,
    pub(crate) connected: Connected,
    pub(crate) subscribes: Vec<PendingSubscribe>,
}
