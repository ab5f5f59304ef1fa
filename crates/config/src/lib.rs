//! Configuration: options from flags, the environment, a file and defaults, in this order, checked before any port is
//! bound.
//!
//! The options are one table, [`options`]; structs, keys, environment variables, bounds, `config default` and `config
//! docs` are derived from it. A value passes three steps: a source provides it without a type, with its place
//! ([`flags`], [`mod@environment`], [`flatten`], [`tidings_config_file`]); its option parses and checks it ([`setting`], [`value`]); then rules between options are
//! checked ([`check`]).
//!
//! Invariants:
//! - A [`Config`] from [`load`] satisfies every bound and rule of the table.
//! - Every error is one line with the place and the reason; no error and no `Debug` contains a secret. One load reports
//!   all errors.
//! - Only [`environment()`] reads the process' environment.

mod api_keys;
mod assignment;
mod centrifugo;
mod check;
mod check_maps;
mod check_rules;
mod check_shared_polls;
mod consumers;
mod environment;
mod flags;
mod flatten;
mod given;
mod group;
mod import;
mod keys;
mod loader;
mod named_proxies;
mod options;
mod origin;
mod print;
mod proxy;
mod pusher_apps;
mod reload;
mod secret_file;
mod setting;
mod token;
mod value;
mod values;

use tidings_config_file::{error, file, raw, variables};

pub use api_keys::{ApiKeyOptions, NamedApiKey, NamedApiKeys};
pub use consumers::{Consumer, Consumers};
pub use environment::environment;
pub use error::{ConfigError, ConfigErrors};
pub use flags::Overrides;
pub use import::{Imported, import};
pub use loader::{Loaded, load, load_with_warnings};
pub use named_proxies::{
    DEFAULT_PROXY, NamedProxies, NamedProxy, RpcNamespace, RpcNamespaceOptions, RpcNamespaces,
};
pub use options::{
    AdminOptions, ChannelOptions, Channels, ClientOptions, ClusterOptions, Config, ConsumerOptions,
    EmulationOptions, EventsOptions, GrpcApiOptions, HttpApiOptions, HttpOptions, HttpStreamOptions,
    InternalOptions, LimitsOptions, LogOptions, MapOptions, MemoryOptions, MetricsOptions, MqttOptions,
    Namespace, NodeOptions, OpenTelemetryOptions, PersonalChannelOptions, PostgresqlOptions,
    PusherAppOptions, PusherLimitsOptions, PusherOptions, ReadyOptions, RebalanceOptions, RedisOptions,
    RedisStreamOptions, SharedPollOptions, SharedPollsOptions, ShutdownOptions, SseOptions, StompOptions,
    StreamPublicationOptions, SubscriptionTokenOptions, TablesOptions, TablesS3Options, TcpOptions,
    TlsOptions, TokenOptions, UniGrpcOptions, UniHttpStreamOptions, UniSseOptions, UniWebSocketOptions,
    WebSocketOptions, WebhooksOptions,
};
pub use origin::AllowedOrigin;
pub use print::{default_file, docs};
pub use proxy::{
    ChannelProxies, ClientProxies, ConnectProxyOptions, HookUrl, HttpUrl, ProxyGrpcOptions, ProxyHttpOptions,
    ProxyOptions, ProxyTlsOptions, RpcMethodOptions, RpcOptions, StaticHeaders,
};
pub use pusher_apps::{PusherApp, PusherApps};
pub use reload::{Reloaded, Sources};
pub use tidings_auth::Secret;
pub use value::{
    AllowUpload, AuditTarget, BrokerUrl, ClientKey, ConsumerType, DataDir, DeltaType, HandlerPath, Http2,
    ListenAddr, LogFormat, LogLevel, MapMode, Network, PemText, PollMode, Ratio, RecoveryMode, RedisKey,
    SlowConsumer, SqlName, StatusTransform, StatusTransforms, SubscriptionType, TableFeed, TableFeeds,
    TablesStore, TlsRequired, TlsVersion, TransformTarget, TransformedDisconnect, TransformedError, Webhook,
    WebhookEvent,
};
