//! The table of options. The rest of this crate is derived from it: the typed structs of the server, keys, environment
//! variables, bounds, defaults, `tidings config default` and `tidings config docs`.

mod channel;
mod client;
mod consumers;
mod grpc;
mod limits;
mod listeners;
mod map;
mod namespace;
mod operation;
mod pusher;
mod shared_poll;
mod tables;
mod transports;
mod webhooks;

use std::time::Duration;

use crate::consumers::Consumers;
use crate::group::group;
use crate::named_proxies::NamedProxies;
use crate::proxy::RpcOptions;
use crate::setting::{count, millis};
use crate::value::{AuditTarget, BrokerUrl, DataDir, LogFormat, LogLevel, Network};

pub use channel::ChannelOptions;
pub use client::{ClientOptions, PersonalChannelOptions, SubscriptionTokenOptions, TokenOptions};
pub use consumers::{ConsumerOptions, PostgresqlOptions, RedisStreamOptions, StreamPublicationOptions};
pub use grpc::{GrpcApiOptions, UniGrpcOptions};
pub use limits::LimitsOptions;
pub use listeners::{HttpOptions, InternalOptions, TcpOptions, TlsOptions};
pub use map::MapOptions;
pub use namespace::{Channels, Namespace};
pub use operation::{
    AdminOptions, ClusterOptions, HttpApiOptions, MemoryOptions, MetricsOptions, NodeOptions,
    OpenTelemetryOptions, ReadyOptions, RebalanceOptions, RedisOptions, ShutdownOptions,
};
pub use pusher::{PusherAppOptions, PusherLimitsOptions, PusherOptions};
pub use shared_poll::{SharedPollOptions, SharedPollsOptions};
pub use tables::{TablesOptions, TablesS3Options};
pub use transports::{
    EmulationOptions, EventsOptions, HttpStreamOptions, MqttOptions, SseOptions, StompOptions,
    UniHttpStreamOptions, UniSseOptions, UniWebSocketOptions, WebSocketOptions,
};
pub use webhooks::WebhooksOptions;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

group! {
    /// The whole configuration of a server. [`Default`] is the configuration of a server without any options.
    pub struct Config {
        /// The broker that carries publications. `memory`: inside this process. A Redis URL connects all nodes that use
        /// the same Redis, and receives publications of other Redis clients: `redis://[user:password@]host:port[/db]`
        /// is one server, `rediss://` the same over TLS, `redis+sentinel://host[:port][,…]/master[/db]` the master that
        /// Sentinels report, `redis+cluster://[user:password@]host:port[,…]` a cluster, given by some of its nodes, and
        /// `rediss+cluster://` the same over TLS. The flag is `--broker`.
        broker: BrokerUrl = "memory", ();
        /// Time for which a channel without subscribers stays subscribed at the broker. A client that returns within
        /// it, or a page that follows another, causes no subscribe at the broker.
        broker_linger: Duration = "5s", millis(0, HOUR);
        /// The folder for data that outlives a restart. The default is a folder of the user: `$STATE_DIRECTORY` or
        /// `/var/lib/tidings` for a system service of systemd, otherwise `$XDG_DATA_HOME/tidings` or
        /// `~/.local/share/tidings`. `off` stores nothing beyond the process. One server uses a folder at a time: a
        /// second server with the same explicit folder does not start; without an explicit folder it starts with a
        /// temporary folder and a warning. The flag is `--data-dir`.
        data_dir: DataDir = "", ();
        /// Proxies in front of this server, as addresses or ranges (`10.0.0.0/8`, `::1`). For a connection from one of
        /// them, the client's address is taken from `Forwarded` (RFC 7239) or else `X-Forwarded-For`: the last address
        /// there that is not a trusted proxy. For other connections these headers are ignored. Only these proxies may send
        /// PROXY protocol headers (`tcp.proxy_protocol`, `http.proxy_protocol`). Without this option, limits by address
        /// count all clients of a proxy as one.
        trusted_proxies: Vec<Network> = "", (), reload;
        /// Number of threads that serve connections, each with an event loop. 0 is one per core that this process may
        /// use.
        shards: usize = "0", count(0, 63);
    }
    groups {
        /// Logging.
        log: LogOptions;
        /// The line port.
        tcp: TcpOptions;
        /// The HTTP port.
        http: HttpOptions;
        /// The port for operators.
        internal: InternalOptions;
        /// TLS on both ports.
        tls: TlsOptions;
        /// WebSocket.
        websocket: WebSocketOptions;
        /// Server-sent events with the client protocol.
        sse: SseOptions;
        /// HTTP streaming with the client protocol.
        http_stream: HttpStreamOptions;
        /// Commands of clients of server-sent events and HTTP streaming.
        emulation: EmulationOptions;
        /// One-way WebSocket.
        uni_websocket: UniWebSocketOptions;
        /// STOMP over WebSocket.
        stomp: StompOptions;
        /// MQTT.
        mqtt: MqttOptions;
        /// The Pusher protocol.
        pusher: PusherOptions;
        /// Webhooks.
        webhooks: WebhooksOptions;
        /// One-way server-sent events.
        uni_sse: UniSseOptions;
        /// One-way HTTP streaming.
        uni_http_stream: UniHttpStreamOptions;
        /// The one-way transport over gRPC.
        uni_grpc: UniGrpcOptions;
        /// Plain server-sent events.
        events: EventsOptions;
        /// The memory broker.
        memory: MemoryOptions;
        /// The connection to Redis.
        redis: RedisOptions;
        /// Clients of every transport.
        client: ClientOptions;
        /// This node.
        node: NodeOptions;
        /// The nodes that share a broker.
        cluster: ClusterOptions;
        /// Limits by address and by user.
        limits: LimitsOptions;
        /// The server API.
        http_api: HttpApiOptions;
        /// The server API over gRPC.
        grpc_api: GrpcApiOptions;
        /// The admin page.
        admin: AdminOptions;
        /// Permissions and behaviour of channels.
        channel: Channels;
        /// Shared polls.
        shared_poll: SharedPollsOptions;
        /// `rpc` commands.
        rpc: RpcOptions;
        /// Named hooks.
        proxies: NamedProxies;
        /// Consumers of commands.
        consumers: Consumers;
        /// Shared live tables.
        tables: TablesOptions;
        /// Metrics.
        metrics: MetricsOptions;
        /// Traces.
        opentelemetry: OpenTelemetryOptions;
        /// The check behind `/ready`.
        ready: ReadyOptions;
        /// The stop of the server.
        shutdown: ShutdownOptions;
    }
}

group! {
    /// Logging, to standard error.
    pub struct LogOptions {
        /// Lowest level that is logged; `none` logs nothing. The flag is `--log-level`; `log_level` is an alias.
        level: LogLevel = "info", (), reload;
        /// Format of an entry: a line of text, or a JSON object on a line. The flag is `--log-format`; `log_format` is
        /// an alias.
        format: LogFormat = "text", ();
        /// The audit log: failed authentications, keys used outside of their scopes, commands of the server API, tables created and deleted, reloads of the
        /// configuration, logins of administrators. `log`: into the log at level `info`, with the target `audit`. A
        /// path: into this file, one JSON object a line; it is created with the mode 0600, appended to, and opened again
        /// on `SIGHUP`. `off`, because events name users, channels and addresses.
        audit: AuditTarget = "off", ();
    }
}
