//! A subscription of the client protocol on its way: from the wish to the answer.

use tidings_wire::{Channel, Position};

use crate::deciding::{Admission, ChannelOverrides, Connected};
use crate::effects::{Failure, HistoryPage};
use crate::namespace::NamespaceOptions;
use crate::topics::TopicKey;

/// Who wants a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The client, by the command with this id.
    Command(u32),
    /// The server, when it lets the connection in.
    Connect,
    /// The server, while the connection stands.
    Order,
}

/// What a subscriber is to have besides publications: first as it was requested, then, after [`Wish::grant`], as it is
/// granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Recovery from this position.
    pub(crate) since: Option<Since>,
    /// Recovery later, after a reconnect.
    pub(crate) recoverable: bool,
    /// Detection of missed publications.
    pub(crate) positioned: bool,
    /// Joins and leaves of other subscribers.
    pub(crate) join_leave: bool,
    /// Error 112 in place of a subscription that could not be recovered.
    pub(crate) all_or_error: bool,
    /// Whether the client itself requested the above, so that its rights count. What the server subscribes a client to
    /// has what the options of the channel and of the subscription say.
    pub(crate) by_client: bool,
    /// Whether recovery was requested, granted or not.
    pub(crate) returns: bool,
}

/// What a client may request of a channel with its subscription.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rights {
    pub(crate) history: bool,
    pub(crate) presence: bool,
}

impl Wish {
    /// Reduces the request to what `rights` and the options of the channel allow, and adds what the options force.
    /// A history is not read for a client that has no right to it: without one, there is no recovery.
    pub(crate) fn grant(&mut self, options: &NamespaceOptions, own: &ChannelOverrides, rights: Rights) {
        let requested = |what: bool, allowed: bool| self.by_client && what && allowed;
        let (history, presence) = (rights.history, rights.presence && options.join_leave);
        let recoverable = self.recoverable || self.since.is_some();
        let recoverable = own.force_recovery.unwrap_or(options.force_recovery)
            || requested(recoverable, options.allow_recovery || history);
        let positioned = recoverable
            || own.force_positioning.unwrap_or(options.force_positioning)
            || requested(self.positioned, options.allow_positioning || history);
        let join_leave = own.force_push_join_leave.unwrap_or(options.force_push_join_leave)
            || requested(self.join_leave, presence);
        self.returns = self.since.is_some();
        self.since = self.since.take().filter(|_| recoverable);
        (self.recoverable, self.positioned, self.join_leave) = (recoverable, positioned, join_leave);
    }
}

/// The last publication that a client has seen. Its epoch may be empty: then any will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    pub(crate) offset: u64,
    pub(crate) epoch: String,
}

impl Since {
    /// Where in the history that is, if the client knows which history it was.
    pub(crate) fn position(&self) -> Option<Position> {
        let Self { offset, epoch } = self;
        (!epoch.is_empty()).then(|| Position { offset: *offset, epoch: epoch.as_str().into() })
    }
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
    Read { topic: TopicKey, from: usize, page: HistoryPage },
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
