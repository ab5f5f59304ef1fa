//! Changes of channels, as nodes send them to each other.

use serde::{Deserialize, Serialize};
use tidings_config::WebhookEvent;

/// A change of a channel of the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The channel has its first subscription.
    Occupied(String),
    /// The last subscription of the channel has ended.
    Vacated(String),
    /// The channel has this number of subscriptions.
    Count(String, u64),
    /// The user is present in the channel.
    Joined(String, String),
    /// The user is not present in the channel any more.
    Left(String, String),
}

impl Change {
    /// The channel.
    pub(crate) fn channel(&self) -> &str {
        match self {
            Self::Occupied(channel)
            | Self::Vacated(channel)
            | Self::Count(channel, _)
            | Self::Joined(channel, _)
            | Self::Left(channel, _) => channel,
        }
    }

    /// The kind of event.
    pub(crate) fn event(&self) -> WebhookEvent {
        match self {
            Self::Occupied(_) => WebhookEvent::Occupied,
            Self::Vacated(_) => WebhookEvent::Vacated,
            Self::Count(..) => WebhookEvent::SubscriptionCount,
            Self::Joined(..) => WebhookEvent::Joined,
            Self::Left(..) => WebhookEvent::Left,
        }
    }

    /// Bytes that it takes at most in a message, besides an overhead that is the same for all.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Joined(channel, user) | Self::Left(channel, user) => channel.len() + user.len(),
            Self::Occupied(channel) | Self::Vacated(channel) | Self::Count(channel, _) => channel.len(),
        }
    }
}
