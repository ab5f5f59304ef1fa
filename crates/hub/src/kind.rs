//! The kind of a channel: what its subscribers follow.

use tidings_wire::code;

use crate::map::MapKind;
use crate::namespace::NamespaceOptions;
use crate::subscribe::{CommandError, SubscribeOptions};

/// What a subscription follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubscriptionKind {
    /// Publications.
    #[default]
    Stream,
    /// The state of a map.
    Map(MapKind),
    /// Keys whose values the server requests from the application.
    SharedPoll,
}

impl SubscriptionKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Stream,
        Self::Map(MapKind::Keys),
        Self::Map(MapKind::Clients),
        Self::Map(MapKind::Users),
        Self::SharedPoll,
    ];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Map(kind) => kind.name(),
            Self::SharedPoll => "shared_poll",
        }
    }
}

impl NamespaceOptions {
    /// The kind of its channels.
    pub fn kind(&self) -> SubscriptionKind {
        match (&self.map, &self.shared_poll) {
            (Some(map), _) => SubscriptionKind::Map(map.kind),
            (None, Some(_)) => SubscriptionKind::SharedPoll,
            (None, None) => SubscriptionKind::Stream,
        }
    }
}

impl SubscribeOptions {
    /// The requested kind.
    pub fn kind(&self) -> SubscriptionKind {
        match &self.map {
            Some(map) => SubscriptionKind::Map(map.kind),
            None if self.shared_poll => SubscriptionKind::SharedPoll,
            None => SubscriptionKind::Stream,
        }
    }
}

/// Checks that the channel is of the requested kind.
pub(crate) fn check_kind(
    options: &NamespaceOptions,
    requested: SubscriptionKind,
) -> Result<(), CommandError> {
    let kind = options.kind();
    if kind == requested {
        return Ok(());
    }
    let text = match (kind, requested) {
        (SubscriptionKind::Map(_), SubscriptionKind::Stream) => {
            "not available: the channel is a map, which needs a subscription to a map".to_owned()
        }
        (SubscriptionKind::SharedPoll, SubscriptionKind::Stream) => {
            "not available: the channel is a shared poll, which needs a subscription to a shared poll"
                .to_owned()
        }
        (SubscriptionKind::Stream, SubscriptionKind::Map(_)) => {
            "not available: the channel is not a map (subscription_type)".to_owned()
        }
        _ => {
            let (kind, requested) = (kind.name(), requested.name());
            format!("not available: the channel has subscription_type {kind}, not {requested}")
        }
    };
    Err(CommandError(code::NOT_AVAILABLE, text))
}
