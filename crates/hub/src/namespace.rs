//! Namespaces: options that hold for all channels whose names begin alike.
//!
//! `scores:nba` belongs to the namespace `scores` when one of that name is configured. As soon as any is
//! configured, a name with an unknown prefix is an unknown channel (code 102); while none is, a colon in a
//! channel's name means nothing, so that names a backend uses already go on working.

use std::collections::HashMap;
use std::time::Duration;

use tidings_wire::RecoveryMode;
use tidings_wire::body::DataFormat;
use tidings_wire::code::{self, Code};

/// What separates a namespace's name from the rest of a channel's name.
const BOUNDARY: char = ':';

/// What happens to a subscriber whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumerPolicy {
    /// Close the connection with a code that says "reconnect".
    Cut,
    /// Drop what waits of the channel and keep its newest publication.
    Latest,
    /// Drop the oldest publications and report their number to the client.
    #[default]
    DropOldest,
}

/// The options of a namespace, by the names they have in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the switches of the configuration, one each")]
pub struct NamespaceOptions {
    /// Clients with a user may subscribe.
    pub allow_subscribe_for_client: bool,
    /// Anonymous clients may as well, where clients may.
    pub allow_subscribe_for_anonymous: bool,
    /// Clients with a user may publish.
    pub allow_publish_for_client: bool,
    /// Subscribers with a user may publish.
    pub allow_publish_for_subscriber: bool,
    /// Anonymous clients may as well, where clients or subscribers may.
    pub allow_publish_for_anonymous: bool,
    /// How JSON clients are shown bodies.
    pub publication_data_format: DataFormat,
    /// What happens to subscribers that do not keep up.
    pub slow_consumer: SlowConsumerPolicy,
    /// How many publications of a channel are kept; none when zero.
    pub history_size: usize,
    /// For how long they are; none when zero.
    pub history_ttl: Duration,
    /// For how long after the last publication a channel's position is remembered.
    pub history_meta_ttl: Duration,
    /// A client may request a recoverable subscription, also where it may not read the history.
    pub allow_recovery: bool,
    /// A client may request a positioned subscription, likewise.
    pub allow_positioning: bool,
    /// Subscriptions are recoverable, whether the client requests it or not.
    pub force_recovery: bool,
    /// What a client gets that returns.
    pub force_recovery_mode: RecoveryMode,
    /// Subscriptions end when a publication was missed, whether the client requests it or not.
    pub force_positioning: bool,
    /// Presence is kept: the list of subscribed clients.
    pub presence: bool,
    /// Joins and leaves are published, to subscribers that request them.
    pub join_leave: bool,
    /// Subscribers get them whether they request them or not.
    pub force_push_join_leave: bool,
    /// Subscribers may read the history.
    pub allow_history_for_subscriber: bool,
    /// Clients with a user may.
    pub allow_history_for_client: bool,
    /// Anonymous clients may as well, where clients or subscribers may.
    pub allow_history_for_anonymous: bool,
    /// Subscribers may read the presence.
    pub allow_presence_for_subscriber: bool,
    /// Clients with a user may.
    pub allow_presence_for_client: bool,
    /// Anonymous clients may as well, where clients or subscribers may.
    pub allow_presence_for_anonymous: bool,
    /// Channels whose names have a `#` are open to the users named behind it alone.
    pub allow_user_limited_channels: bool,
    /// The application decides about subscriptions.
    pub subscribe_proxy: bool,
    /// The application decides what may be published.
    pub publish_proxy: bool,
}

impl NamespaceOptions {
    /// Whether publications are kept.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }
}

/// A named set of options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// What stands before the `:` in the names of its channels.
    pub name: String,
    /// Its options.
    pub options: NamespaceOptions,
}

/// All options of channels.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    without: NamespaceOptions,
    named: HashMap<String, NamespaceOptions>,
    /// What stands before the namespace in the name of a private channel.
    private_prefix: String,
}

impl Namespaces {
    /// Options for channels without a namespace, and for those with one.
    pub fn new(without: NamespaceOptions, named: impl IntoIterator<Item = Namespace>) -> Self {
        Self {
            without,
            named: named.into_iter().map(|n| (n.name, n.options)).collect(),
            private_prefix: String::new(),
        }
    }

    /// The same, where `prefix` before a channel's name makes it private and is no part of its namespace.
    pub fn with_private_prefix(self, prefix: impl Into<String>) -> Self {
        Self { private_prefix: prefix.into(), ..self }
    }

    /// The options of channels without a namespace.
    pub fn without(&self) -> &NamespaceOptions {
        &self.without
    }

    /// All options: those of channels without a namespace, with an empty name, and those of each namespace by its name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &NamespaceOptions)> {
        let named = self.named.iter().map(|(name, options)| (name.as_str(), options));
        std::iter::once(("", &self.without)).chain(named)
    }

    /// The options that hold for `channel`.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] when its namespace is not one of those configured.
    pub fn options(&self, channel: &str) -> Result<&NamespaceOptions, Code> {
        if self.named.is_empty() {
            return Ok(&self.without);
        }
        let name = channel.strip_prefix(&*self.private_prefix).unwrap_or(channel);
        match name.split_once(BOUNDARY) {
            None | Some(("", _)) => Ok(&self.without),
            Some((name, _)) => self.named.get(name).ok_or(code::UNKNOWN_CHANNEL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_means_nothing_until_a_namespace_is_configured() {
        let none = Namespaces::default();
        assert!(none.options("scores:nba").is_ok());
        let chat = NamespaceOptions { allow_publish_for_client: true, ..Default::default() };
        let some = Namespaces::new(
            NamespaceOptions::default(),
            [Namespace { name: "chat".into(), options: chat.clone() }],
        );
        assert_eq!(some.options("chat:room"), Ok(&chat));
        assert_eq!(some.options("plain"), Ok(&NamespaceOptions::default()));
        assert_eq!(some.options("scores:nba"), Err(code::UNKNOWN_CHANNEL));
        assert_eq!(some.options(":a"), Ok(&NamespaceOptions::default()), "an empty name is no namespace");
    }
}
