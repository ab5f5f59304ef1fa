//! The types of option values: addresses, brokers, stores, TLS, log levels, policies.

mod address;
mod broker;
mod channel_rule;
mod handler_path;
mod log;
mod pattern;
mod ratio;
mod redis_key;
mod sql_name;
mod storage;
mod table_feed;
mod tls;
mod transform;
mod webhook;

pub use tidings_wire::RecoveryMode;

use crate::setting::choice;

pub use address::{ListenAddr, Network};
pub use broker::BrokerUrl;
pub use handler_path::HandlerPath;
pub use log::{AuditTarget, LogFormat, LogLevel};
pub use ratio::Ratio;
pub use redis_key::RedisKey;
pub use sql_name::SqlName;
pub use storage::{DataDir, TablesStore};
pub use table_feed::{TableFeed, TableFeeds};
pub use tls::{PemText, TlsRequired, TlsVersion};
pub use transform::{
    StatusTransform, StatusTransforms, TransformTarget, TransformedDisconnect, TransformedError,
};
pub use webhook::{Webhook, WebhookEvent};

/// Clients that may upload files for tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowUpload {
    /// [`Self::Anyone`] without a key, [`Self::Token`] with one.
    Auto,
    /// Every client.
    Anyone,
    /// Clients with a connection token, users that the connect hook accepts, and backends.
    Token,
    /// Backends.
    Key,
}

choice! { AllowUpload:
    "auto" => AllowUpload::Auto,
    "anyone" => AllowUpload::Anyone,
    "token" => AllowUpload::Token,
    "key" => AllowUpload::Key,
}

/// Whether the HTTP listeners accept HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Http2 {
    /// With TLS if the client selects it (ALPN), and without TLS if the connection begins with its preface.
    Auto,
    /// Only HTTP/1.1.
    Off,
}

choice! { Http2:
    "auto" => Http2::Auto,
    "off" => Http2::Off,
}

/// The policy for a connection that does not read as fast as its channels are published to, when its queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlowConsumer {
    /// [`SlowConsumer::Cut`] where the channel has a history, else [`SlowConsumer::DropOldest`].
    Auto,
    /// Close the connection with a code that requests reconnecting.
    Cut,
    /// Drop the queue and send the newest publication once the client reads again.
    Latest,
    /// Drop the oldest publications, and report their number.
    DropOldest,
}

choice! { SlowConsumer:
    "auto" => SlowConsumer::Auto,
    "cut" => SlowConsumer::Cut,
    "latest" => SlowConsumer::Latest,
    "drop_oldest" => SlowConsumer::DropOldest,
}

/// An algorithm of deltas between publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeltaType {
    /// The format of the version control system Fossil.
    Fossil,
}

choice! { DeltaType:
    "fossil" => DeltaType::Fossil,
}

/// What a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConsumerType {
    /// A table of a PostgreSQL database.
    Postgresql,
    /// Streams of a Redis.
    RedisStream,
}

choice! { ConsumerType:
    "postgresql" => ConsumerType::Postgresql,
    "redis_stream" => ConsumerType::RedisStream,
}

/// What clients subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionType {
    /// Publications.
    Stream,
    /// A state of keys.
    Map,
    /// The clients of other channels.
    MapClients,
    /// The users of other channels.
    MapUsers,
    /// Keys whose values the application has.
    SharedPoll,
}

choice! { SubscriptionType:
    "stream" => SubscriptionType::Stream,
    "map" => SubscriptionType::Map,
    "map_clients" => SubscriptionType::MapClients,
    "map_users" => SubscriptionType::MapUsers,
    "shared_poll" => SubscriptionType::SharedPoll,
}

/// The versions of the values of a shared poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PollMode {
    /// The server numbers the changes.
    Versionless,
    /// The application numbers the values.
    Versioned,
}

choice! { PollMode:
    "versionless" => PollMode::Versionless,
    "versioned" => PollMode::Versioned,
}

/// What a client that returns to a map receives, and how long keys last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapMode {
    /// The whole state; keys end.
    Ephemeral,
    /// The missed changes; keys end.
    Recoverable,
    /// The missed changes; keys last.
    Persistent,
}

choice! { MapMode:
    "ephemeral" => MapMode::Ephemeral,
    "recoverable" => MapMode::Recoverable,
    "persistent" => MapMode::Persistent,
}

/// The key of a map that a client may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// The key of its command.
    Given,
    /// The id of its connection.
    ClientId,
    /// Its user.
    UserId,
}

choice! { ClientKey:
    "" => ClientKey::Given,
    "client_id" => ClientKey::ClientId,
    "user_id" => ClientKey::UserId,
}

choice! { RecoveryMode:
    "stream" => RecoveryMode::Stream,
    "cache" => RecoveryMode::Cache,
}
