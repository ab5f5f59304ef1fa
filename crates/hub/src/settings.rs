//! The settings of sessions, already validated.

use std::time::Duration;

use tidings_wire::plain::Escape;
use tidings_wire::{Channel, Topic};

use crate::access::{Access, UserBoundaries};
use crate::identity::SessionKey;
use crate::namespace::{NamespaceOptions, Namespaces, SlowConsumerPolicy};
use crate::namespace_stats::{PATTERNS, WITHOUT_NAMESPACE};
use crate::topics::TopicOptions;
use crate::usage::Usage;

/// The settings of all hubs of a server. Shared and immutable; [`Hub::set_settings`](crate::Hub::set_settings) replaces them.
#[derive(Debug)]
pub struct Settings {
    /// The channel of plain messages without a channel name.
    pub default_channel: Channel,
    /// The bodies that are escaped in plain messages.
    pub escape: Escape,
    /// Most subscriptions of one connection.
    pub channel_limit: usize,
    /// The interval of pings to sessions of the client protocol; zero for none.
    pub ping_interval: Duration,
    /// The time in which a ping must be answered; zero for no limit.
    pub pong_timeout: Duration,
    /// The time in which a session of the client protocol must connect.
    pub stale_close_delay: Duration,
    /// The rules of access.
    pub access: Access,
    /// The options of channels.
    pub namespaces: Namespaces,
    /// Whether counters are kept for each namespace.
    pub namespace_metrics: bool,
    /// Most bytes of publications that a client is sent when it recovers or reads a history, and most bytes that are
    /// recorded for it during a subscribe.
    pub recovery_bytes: usize,
    /// Most publications that a client is sent when it recovers.
    pub recovery_limit: usize,
    /// Most publications that a client is sent when it reads a history.
    pub history_limit: usize,
    /// Whether the application decides about every connection.
    pub connect_proxy: bool,
    /// Whether replies to `connect` have the server's time.
    pub connect_has_time: bool,
    /// Whether the application renews connections that expire.
    pub refresh_proxy: bool,
    /// The method of `rpc` commands that the server answers itself, if there is one.
    pub rpc_ping: Option<String>,
    /// Prefix of channels that require a subscription token; empty for none.
    pub private_prefix: String,
    /// How names of channels contain users.
    pub user_boundaries: UserBoundaries,
    /// The namespace of personal channels (empty for none), if every user is subscribed to one.
    pub personal_channel: Option<String>,
    /// How long a connection may stay after its token has expired, so that the client can renew it.
    pub expired_close_delay: Duration,
    /// How long a subscription may stay after its token has expired.
    pub expired_sub_close_delay: Duration,
    /// The usage limits of addresses and users.
    pub usage: Usage,
    /// The key from which client ids and session secrets are derived.
    pub session_key: SessionKey,
    /// The name of this node, by which other nodes forward commands of emulated clients to it.
    pub node: String,
}

impl Settings {
    /// The properties of a topic.
    pub(crate) fn topic_options(&self, topic: &Topic) -> TopicOptions {
        match topic {
            Topic::Channel(channel) => {
                let options = self.namespaces.options(channel.as_str());
                TopicOptions {
                    default_channel: *channel == self.default_channel,
                    data_format: options.map(|o| o.publication_data_format).unwrap_or_default(),
                    escape: self.escape,
                    slow_consumer: options.map(|o| o.slow_consumer).unwrap_or_default(),
                    tags_filter_limit: options.map(|o| o.tags_filter_limit).unwrap_or_default(),
                    delta_publish: options.is_ok_and(|o| o.delta_publish),
                    history: options.is_ok_and(NamespaceOptions::has_history),
                }
            }
            Topic::Pattern(_) => TopicOptions {
                default_channel: false,
                data_format: Default::default(),
                escape: self.escape,
                slow_consumer: SlowConsumerPolicy::Cut,
                tags_filter_limit: 0,
                delta_publish: false,
                history: false,
            },
        }
    }

    /// The label of a topic's namespace in metrics.
    pub fn namespace_label<'a>(&'a self, topic: &'a Topic) -> &'a str {
        match topic {
            Topic::Channel(channel) if self.namespace_metrics => self.namespaces.name(channel.as_str()),
            Topic::Pattern(_) if self.namespace_metrics => PATTERNS,
            _ => WITHOUT_NAMESPACE,
        }
    }

    /// The settings of a server without configuration, with small limits: for tests and benchmarks.
    ///
    /// # Panics
    /// Never: the name of the default channel is valid.
    pub fn workbench(session_key: SessionKey) -> Self {
        Self {
            default_channel: Channel::new("updates").expect("a valid name"),
            escape: Escape::default(),
            channel_limit: 128,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            stale_close_delay: Duration::from_secs(10),
            access: Access { open: true, reserved: Some("tidings.".to_owned()), ..Access::default() },
            namespaces: Namespaces::default(),
            namespace_metrics: true,
            recovery_bytes: 1 << 20,
            recovery_limit: 1_000,
            history_limit: 1_000,
            connect_proxy: false,
            connect_has_time: false,
            refresh_proxy: false,
            rpc_ping: None,
            private_prefix: "$".to_owned(),
            user_boundaries: UserBoundaries::default(),
            personal_channel: None,
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            usage: Usage::default(),
            session_key,
            node: "n".to_owned(),
        }
    }
}
