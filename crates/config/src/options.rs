//! The table of options. Everything else in this folder follows from it: the typed structs that the server reads,
//! keys, environment variables, bounds, defaults, `tidings config default` and `tidings config docs`.

use std::path::PathBuf;
use std::time::Duration;

use tidings_wire::Channel;
use tidings_wire::body::DataFormat;
use tidings_wire::plain::Escape;

use super::group::group;
use super::namespace::Channels;
use super::origin::AllowedOrigin;
use super::proxy::{ClientProxies, HttpUrl, RpcOptions};
use super::setting::{Longest, bytes, count, millis};
use super::value::{
    AllowUpload, BrokerUrl, DataDir, ListenAddr, LogFormat, LogLevel, Network, PemText, RecoveryMode,
    SlowConsumer, TablesStore, TlsRequired, TlsVersion,
};
use tidings_auth::{KeyType, PublicKey, Secret};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// The last second of the year 9999, in Unix time.
const END_OF_TIME: usize = 253_402_300_799;
/// What the address of a key set looks like.
const KEY_SET: &str = "https://id.example.com/.well-known/jwks.json";

group! {
    /// The whole configuration of a server. [`Default`] is the configuration of a server without any options.
    pub struct Config {
        /// The broker that carries publications. `memory`: inside this process. A Redis URL connects all nodes that use
        /// the same Redis, and receives publications of other Redis clients: `redis://[user:password@]host:port[/db]` is
        /// one server, `rediss://` the same over TLS, `redis+sentinel://host[:port][,…]/master[/db]` the master that
        /// Sentinels report, `redis+cluster://[user:password@]host:port[,…]` a cluster, given by some of its nodes, and
        /// `rediss+cluster://` the same over TLS. The flag is `--broker`.
        broker: BrokerUrl = "memory", ();
        /// Time for which a channel without subscribers stays subscribed at the broker. A client that returns within it,
        /// or a page that follows another, causes no subscribe at the broker.
        broker_linger: Duration = "5s", millis(0, HOUR);
        /// The folder for data that outlives a restart. The default is a folder of the user: `$STATE_DIRECTORY` or
        /// `/var/lib/tidings` for a system service of systemd, otherwise `$XDG_DATA_HOME/tidings` or
        /// `~/.local/share/tidings`. `off` stores nothing beyond the process. One server uses a folder at a time: a
        /// second server with the same explicit folder does not start; without an explicit folder it starts with a
        /// temporary folder and a warning. The flag is `--data-dir`.
        data_dir: DataDir = "", ();
        /// Proxies in front of this server, as addresses or ranges (`10.0.0.0/8`, `::1`). For a connection from one of
        /// them, the client's address is taken from `Forwarded` (RFC 7239) or else `X-Forwarded-For`: the last address
        /// there that is not a trusted proxy. For other connections these headers are ignored. Without this option,
        /// limits by address count all clients of a proxy as one.
        trusted_proxies: Vec<Network> = "", ();
        /// Number of threads that serve connections, each with an event loop. 0 is one per core that this process may
        /// use.
        shards: usize = "0", count(0, 64);
    }
    groups {
        /// Logging.
        log: LogOptions;
        /// The line port.
        tcp: TcpOptions;
        /// The HTTP port.
        http: HttpOptions;
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
        /// One-way server-sent events.
        uni_sse: UniSseOptions;
        /// One-way HTTP streaming.
        uni_http_stream: UniHttpStreamOptions;
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
        /// Permissions and behaviour of channels.
        channel: Channels;
        /// `rpc` commands.
        rpc: RpcOptions;
        /// Shared live tables.
        tables: TablesOptions;
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
        level: LogLevel = "info", ();
        /// Format of an entry: a line of text, or a JSON object on a line. The flag is `--log-format`; `log_format` is an
        /// alias.
        format: LogFormat = "text", ();
    }
}

group! {
    /// The line port: plain lines, RESP and JSON lines over TCP. The first byte that a client sends selects the protocol.
    pub struct TcpOptions {
        /// Addresses of the line port; port 0 picks a free one, `off` or an empty list disables the port. The flag is
        /// `--tcp`; `tcp = …` in a file without other `tcp` options, and `TIDINGS_TCP`, are aliases. An address that
        /// other machines can reach requires a key (see `client.insecure`).
        listen: Vec<ListenAddr> = "127.0.0.1:5567", ();
        /// Whether a plain line that is not a command is echoed. Otherwise the answer is `UNKNOWN COMMAND`.
        echo: bool = "true", ();
        /// Channels to which a new plain connection is subscribed; at most `client.channel_limit`.
        auto_subscribe: Vec<Channel> = "updates", ();
        /// Channel of `SUBSCRIBE` and `UNSUBSCRIBE` without a name. Plain clients receive its messages as the body alone.
        default_channel: Channel = "updates", ();
        /// Which messages are escaped on plain lines. `auto`: only messages with line breaks that are not JSON, as `\r`,
        /// `\n` and, for a backslash, `\\`; line breaks between the tokens of JSON become spaces, and every other message
        /// is sent byte for byte. `always`: line breaks and backslashes of every message, so that a client can unescape
        /// without inspecting the message.
        escape: Escape = "auto", ();
        /// Longest line or RESP value from a client, without its line ending. A longer one is answered with an error that
        /// names the limit, and the connection is closed.
        max_line: usize = "65536", bytes(64, 16 * MIB);
        /// Time for which automatic subscriptions wait for the first byte of a new connection, which selects the
        /// protocol. After it, a silent connection is served as plain lines.
        first_byte_wait: Duration = "250ms", millis(0, 10 * SECOND);
    }
}

group! {
    /// The HTTP port: `/health`, `/ready`, `/metrics`, the page, the server API, and the transports below.
    pub struct HttpOptions {
        /// Addresses of the HTTP port; port 0 picks a free one, `off` or an empty list disables the port. The flag is
        /// `--http`; `http = …` in a file without other `http` options, and `TIDINGS_HTTP`, are aliases. An address that
        /// other machines can reach requires a key (see `client.insecure`).
        listen: Vec<ListenAddr> = "127.0.0.1:8000", ();
        /// Most connections that wait for a request or its response at a time. At the limit the slowest ones are closed
        /// for new ones; when none is slow, a request waits up to two seconds and is then answered with 503. `/health`,
        /// `/ready`, `/metrics` and WebSocket handshakes have a reserve of 64 more. A connection that becomes a WebSocket
        /// or a stream no longer counts here, but in `client.connection_limit`.
        connection_limit: usize = "512", count(1, 1_000_000);
        /// Most of those connections from one address (one /64 network of IPv6). 0 is half of `http.connection_limit`,
        /// and no limit for loopback addresses. The address is that of the peer. There is no such limit for proxies in
        /// `trusted_proxies`, whose connections carry requests of many clients, and for Unix sockets: configure a limit
        /// in the proxy (nginx: `limit_conn`).
        connection_limit_per_address: usize = "0", count(0, 1_000_000);
        /// Lowest data rate of a request's body and of a client that reads a response, in bytes per second. A body that
        /// falls ten seconds behind is answered with 408, a response that falls thirty seconds behind is cut off. With 0
        /// only transfers without any progress count as slow.
        min_data_rate: usize = "240", count(0, 1_000_000_000);
    }
}

group! {
    /// TLS on the server's listeners: `https` and `wss` on the HTTP port, and every protocol of the line port inside TLS.
    /// Unix sockets stay plaintext. A renewed certificate is loaded without a restart, and connections stay open.
    pub struct TlsOptions {
        /// Whether TLS is enabled. The HTTP port then accepts TLS alone; for the line port see `tls.required`.
        enabled: bool = "false", ();
        /// File with the certificate in PEM, followed by the intermediate certificates.
        cert_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base64. A path is accepted as well, as in Centrifugo 6.
        cert_pem: PemText = "", ();
        /// File with the private key in PEM (PKCS #8, PKCS #1 or SEC 1), without a passphrase.
        key_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base64, or a path.
        key_pem: Secret = "", ();
        /// File with certificates of authorities, in PEM, that verify client certificates. With it, a client without a
        /// valid certificate is refused.
        client_ca_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base64, or a path.
        client_ca_pem: PemText = "", ();
        /// Lowest accepted version of TLS. Versions before 1.2 are not supported.
        min_version: TlsVersion = "1.2", ();
        /// Whether the line port refuses connections without TLS. `auto`: on addresses that other machines can reach; on
        /// a loopback address plaintext is accepted, too. `false`: plaintext is accepted everywhere, and can be read on
        /// the network.
        required: TlsRequired = "auto", ();
        /// Longest time from accepting a connection to the end of its handshake.
        handshake_timeout: Duration = "10s", millis(100, 10 * MINUTE);
        /// Most handshakes in progress, of both ports together; further ones wait, at most `tls.handshake_timeout`.
        handshake_limit: usize = "1024", count(1, 1_000_000);
        /// Time for which a browser that has reached the server over TLS must use TLS (HTTP Strict Transport Security,
        /// RFC 6797); a whole number of seconds. 0 sends no such header. Never sent for `localhost` and IP addresses.
        hsts_max_age: Duration = "720h", millis(0, 20_000 * HOUR);
        /// Interval at which the files are checked for a renewed certificate. `SIGHUP` reads them at once.
        reload_interval: Duration = "1m", millis(100, 24 * HOUR);
    }
}

group! {
    /// `/connection/websocket`: the client protocol over WebSocket, in JSON, or in Protobuf with the sub-protocol
    /// `centrifuge-protobuf` or `?format=protobuf`.
    pub struct WebSocketOptions {
        /// Whether the path is disabled.
        disabled: bool = "false", ();
        /// Longest message from a client over a WebSocket. At a longer one the connection is closed with code 1009. A
        /// compressed message counts with its decompressed size; decompression stops at the limit.
        message_size_limit: usize = "65536", bytes(64, 16 * MIB);
        /// Whether messages are compressed for clients that offer it (`permessage-deflate`). A publication is compressed
        /// once for all subscribers of a channel that negotiated compression, and connections have no memory of their own
        /// for it. It takes a third of a megabyte per thread, and processor time per publication.
        compression: bool = "false", ();
        /// Shortest publication, as a message, that is compressed. Shorter ones, and those that compression does not
        /// shorten, are sent uncompressed.
        compression_min_size: usize = "0", bytes(0, 16 * MIB);
        /// Compression level, from 1 (fast) to 9 (small).
        compression_level: usize = "1", count(1, 9);
    }
}

group! {
    /// `/connection/sse`: the client protocol over server-sent events. Clients send commands to `/emulation`.
    pub struct SseOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
        /// Largest body of a POST that opens a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/connection/http_stream`: the client protocol over the body of an HTTP response, in JSON, or in Protobuf with
    /// `Content-Type: application/octet-stream`. Clients send commands to `/emulation`.
    pub struct HttpStreamOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
        /// Largest body of a request that opens a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/emulation`: commands of clients of `/connection/sse` and `/connection/http_stream`.
    pub struct EmulationOptions {
        /// Largest body of a request; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/connection/uni_websocket`: pushes over WebSocket. The client's first message is its `connect`;
    /// `websocket.message_size_limit` applies to further messages, too.
    pub struct UniWebSocketOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
    }
}

group! {
    /// `/connection/uni_sse`: pushes as server-sent events. The client's `connect` is the parameter `cf_connect` of the
    /// request, or the body of a POST.
    pub struct UniSseOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
        /// Largest body of a POST that opens a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/connection/uni_http_stream`: pushes over the body of an HTTP response, a JSON object a line. The client's
    /// `connect` is the body of the request.
    pub struct UniHttpStreamOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
        /// Largest body of a request that opens a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/events`: publications in the requested channels, as plain server-sent events.
    pub struct EventsOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
    }
}

group! {
    /// The connection to Redis, when `broker` is a Redis URL.
    pub struct RedisOptions {
        /// Prefix of the name of every channel and key in Redis, so that several applications can share one Redis. Other
        /// publishers must use the prefix, too.
        prefix: String = "", Longest(128);
        /// Longest time to open a connection to Redis, with TLS and authentication.
        connect_timeout: Duration = "5s", millis(10, MINUTE);
        /// Longest time for a reply of Redis. After it the connection is closed and opened again.
        response_timeout: Duration = "5s", millis(10, MINUTE);
    }
}

group! {
    /// Clients of every transport.
    pub struct ClientOptions {
        /// Origins of pages that may connect, besides the server's own: `https://example.com`, `https://*.example.com`,
        /// or `*` for all. A browser with a page of another origin is refused. Clients that send no origin (all but
        /// browsers) are not affected. `*` matches any characters. The default port of a scheme is removed, as browsers
        /// do; an origin that a browser never sends is an error.
        allowed_origins: Vec<AllowedOrigin> = "", ();
        /// Whether every client may connect, subscribe and publish in all channels, regardless of keys and channel
        /// options. Listeners may then be reachable from other machines without any key. For tests, and for networks
        /// where every client is trusted.
        insecure: bool = "false", ();
        /// Whether a client without a token may connect as an anonymous user when a token key is configured.
        allow_anonymous_connect_without_token: bool = "false", ();
        /// Bound of the queue of one connection whose client does not read as fast as the server sends. At the bound the
        /// channel's `slow_consumer` applies.
        queue_max_size: usize = "1048576", bytes(KIB, GIB);
        /// Bound of all queues together; at least `client.queue_max_size`. At the bound, a connection with a queue is
        /// treated as if its own queue were full.
        queue_max_total: usize = "268435456", bytes(KIB, 1024 * GIB);
        /// Interval of the server's pings to clients of the client protocol, so that neither side, nor a proxy between
        /// them, closes a silent connection.
        ping_interval: Duration = "25s", millis(100, HOUR);
        /// Longest time for a client's reply to a ping, after which its connection is closed; shorter than
        /// `client.ping_interval`, and half of that when only the interval is given and is too short.
        pong_timeout: Duration = "8s", millis(10, HOUR);
        /// Most subscriptions of one connection.
        channel_limit: usize = "128", count(1, 1_000_000);
        /// Most connections of the server, of all transports together. 0 is the limit of open files.
        connection_limit: usize = "0", count(0, 10_000_000);
        /// Most new connections per second on this server, of all transports together, with bursts of the same number.
        /// Further ones are answered with error 3013 on the line port and 429 over HTTP. 0 is no limit.
        connection_rate_limit: usize = "0", count(0, 10_000_000);
        /// Most connections of one user on this server. A further one is closed with code 3504, after which clients do
        /// not reconnect. 0 is no limit.
        user_connection_limit: usize = "0", count(0, 10_000_000);
        /// Whether a user has one connection at a time, over all nodes: a new connection closes earlier ones with code
        /// 3503, after which clients do not reconnect. Nodes compare the times of connections by their clocks.
        single_connection: bool = "false", ();
        /// Longest time until a connection of the client protocol sends its `connect` command.
        stale_close_delay: Duration = "10s", millis(10, HOUR);
        /// Time for a client that is disconnected for being slow to read the notice.
        slow_close_delay: Duration = "5s", millis(0, MINUTE);
        /// Time for a client to send a new token after its connection has expired, before the connection is closed.
        expired_close_delay: Duration = "25s", millis(0, HOUR);
        /// Time for a client to send a new token after a subscription has expired, before the subscription ends.
        expired_sub_close_delay: Duration = "25s", millis(0, HOUR);
        /// Time without the broker after which clients with subscriptions to channels with a history are asked to
        /// reconnect, to another node: with code 3011, spread over the same time again. 0 disables it. Clients without
        /// such subscriptions, and those that connect meanwhile, stay; their subscribe commands get the temporary error
        /// 100 until the broker is back.
        broker_down_delay: Duration = "15s", millis(0, HOUR);
    }
    groups {
        /// Personal channels of users.
        subscribe_to_user_personal_channel: PersonalChannelOptions;
        /// Verification of connection tokens.
        token: TokenOptions;
        /// Verification of subscription tokens, where it differs from that of connection tokens.
        subscription_token: SubscriptionTokenOptions;
        /// Hooks for clients.
        proxy: ClientProxies;
    }
}

group! {
    /// A personal channel for each user, `#` and the user's id. The server subscribes all connections of the user to it,
    /// so that a backend reaches a user on any node. A user whose id contains `#` or `,` is refused (103), because the
    /// name could be that of another user's channel.
    pub struct PersonalChannelOptions {
        /// Whether clients with a user are subscribed to their personal channel when they connect.
        enabled: bool = "false", ();
        /// Namespace of personal channels, which are then `NAMESPACE:#USER`; empty for none.
        personal_channel_namespace: String = "", Longest(253);
    }
}

group! {
    /// Verification of connection tokens (JSON Web Tokens), and of subscription tokens unless
    /// `client.subscription_token.enabled` is set.
    pub struct TokenOptions {
        /// Key of tokens signed with HMAC (`HS256`, `HS384`, `HS512`). Once this or another key is set, clients need a
        /// token, and the options of channels define their permissions.
        hmac_secret_key: Secret = "", ();
        /// The previous `client.token.hmac_secret_key`: tokens signed with it are still accepted, so that the key can be
        /// rotated.
        hmac_previous_secret_key: Secret = "", ();
        /// Time until which the previous key is accepted, in Unix seconds; 0 is no end.
        hmac_previous_secret_key_valid_until: usize = "0", count(0, END_OF_TIME);
        /// Key of tokens signed with RSA (`RS256`, `RS384`, `RS512`), of 2048 to 8192 bits. A line break may be written
        /// as `\n`.
        rsa_public_key: Option<PublicKey> = "", KeyType::Rsa;
        /// Key of tokens signed with ECDSA: on P-256 for `ES256`, on P-384 for `ES384`, on P-521 for `ES512`. A line
        /// break may be written as `\n`.
        ecdsa_public_key: Option<PublicKey> = "", KeyType::Ecdsa;
        /// URL at which an identity provider publishes its keys as a JSON Web Key Set. A token is verified with the key
        /// that its header names (`kid`), and the other keys here have no effect. The set is fetched when a token needs
        /// it, again after an hour, and for an unknown key at most every 10 seconds; known keys stay in use while the URL
        /// is not reachable. Keys that cannot be used are logged with the reason.
        jwks_public_endpoint: Option<HttpUrl> = "", KEY_SET;
        /// Required audience of tokens (`aud`). Without it any audience is accepted: set it when the same issuer or key
        /// makes tokens for other services.
        audience: String = "", Longest(1024);
        /// Required issuer of tokens (`iss`). Without it any issuer with the key is accepted.
        issuer: String = "", Longest(1024);
    }
}

group! {
    /// Verification of subscription tokens, where it differs from that of connection tokens.
    pub struct SubscriptionTokenOptions {
        /// Whether subscription tokens have keys and rules of their own: those of this group, and none of `client.token`.
        enabled: bool = "false", ();
        /// As `client.token.hmac_secret_key`.
        hmac_secret_key: Secret = "", ();
        /// As `client.token.hmac_previous_secret_key`.
        hmac_previous_secret_key: Secret = "", ();
        /// As `client.token.hmac_previous_secret_key_valid_until`.
        hmac_previous_secret_key_valid_until: usize = "0", count(0, END_OF_TIME);
        /// As `client.token.rsa_public_key`.
        rsa_public_key: Option<PublicKey> = "", KeyType::Rsa;
        /// As `client.token.ecdsa_public_key`.
        ecdsa_public_key: Option<PublicKey> = "", KeyType::Ecdsa;
        /// As `client.token.jwks_public_endpoint`.
        jwks_public_endpoint: Option<HttpUrl> = "", KEY_SET;
        /// As `client.token.audience`.
        audience: String = "", Longest(1024);
        /// As `client.token.issuer`.
        issuer: String = "", Longest(1024);
    }
}

impl TokenOptions {
    /// Whether connection tokens can be verified: any kind of key is configured.
    pub fn has_key(&self) -> bool {
        let public = self.rsa_public_key.is_some() || self.ecdsa_public_key.is_some();
        public || self.hmac_secret_key.is_set() || self.jwks_public_endpoint.is_some()
    }
}

group! {
    /// This node among others that share its broker.
    pub struct NodeOptions {
        /// Name of the server in the list of nodes (`info` of the server API). The default is the name of the machine
        /// with the HTTP port.
        name: String = "", Longest(128);
    }
}

group! {
    /// The nodes that share a broker.
    pub struct ClusterOptions {
        /// Secret that encrypts and authenticates messages between nodes that share a Redis: at least 16 bytes, the same
        /// on every node. Without it, a key is derived from `http_api.key`, or else from `client.token.hmac_secret_key`;
        /// where other keys are configured and neither of these, the secret is required.
        secret: Secret = "", ();
    }
}

group! {
    /// Limits of one address and of one user.
    pub struct LimitsOptions {}
    groups {
        /// Limits of one address on this server.
        address: AddressLimitsOptions;
        /// Limits of one user on this server.
        user: UserLimitsOptions;
    }
}

group! {
    /// Limits of one address on this server: an IPv4 address, or the first 64 bits of an IPv6 address. See
    /// `trusted_proxies` where clients come through a proxy. Clients over a Unix socket have no address.
    pub struct AddressLimitsOptions {
        /// Most client connections. A further one is closed with code 3013. 0 is no limit.
        connections: usize = "0", count(0, 10_000_000);
        /// Most new client connections per second, with bursts of the same number. A further one is closed with code
        /// 3013. 0 is no limit.
        connection_rate: usize = "0", count(0, 10_000_000);
        /// Most commands per second, over all connections and protocols of the address, with bursts of the same number.
        /// Every line, RESP command or message of the client protocol is a command, except `EXIT`, `QUIT` and replies to
        /// pings. A further one is answered with the temporary error 111. Backends that have sent the API key are not
        /// limited. 0 is no limit.
        commands: usize = "0", count(0, 10_000_000);
        /// Most publications per second. A further one is answered with error 111. 0 is no limit.
        publications: usize = "0", count(0, 10_000_000);
        /// Most bytes of commands per second. A command that is larger than the remaining budget is carried out, and the
        /// budget becomes negative; further commands are answered with error 111. 0 is no limit.
        bytes: usize = "0", bytes(0, 1024 * GIB);
    }
}

group! {
    /// Limits of one user on this server, over all of its connections. Anonymous clients are limited by their address
    /// alone.
    pub struct UserLimitsOptions {
        /// Most connections. A further one is closed with code 3504, after which clients do not reconnect. 0 is no limit.
        /// With `client.user_connection_limit` the smaller one applies.
        connections: usize = "0", count(0, 10_000_000);
        /// Most new connections per second, with bursts of the same number. A further one is closed with code 3013, after
        /// which clients reconnect later. 0 is no limit.
        connection_rate: usize = "0", count(0, 10_000_000);
        /// Most commands per second, counted as for `limits.address.commands`. 0 is no limit.
        commands: usize = "0", count(0, 10_000_000);
        /// Most publications per second. A further one is answered with error 111. 0 is no limit.
        publications: usize = "0", count(0, 10_000_000);
        /// Most bytes of commands per second, counted as for `limits.address.bytes`. 0 is no limit.
        bytes: usize = "0", bytes(0, 1024 * GIB);
    }
}

group! {
    /// The server API, for backends.
    pub struct HttpApiOptions {
        /// Key that a backend sends with its requests. On the line and RESP ports `AUTH` accepts it, too. Once it is set,
        /// the options of channels define the permissions of clients.
        key: Secret = "", ();
        /// Whether the server API needs no key. For tests, and behind a proxy that admits backends only.
        insecure: bool = "false", ();
        /// Longest body of a request in bytes; a longer one is answered with 413.
        max_body: usize = "4194304", bytes(KIB, GIB);
        /// Most commands per second, those of batches counted singly, with bursts of the same number. Requests above it
        /// are answered with 429. 0 is no limit.
        rate_limit: usize = "0", count(0, 10_000_000);
    }
}

group! {
    /// Permissions and behaviour of channels.
    pub struct ChannelOptions {
        /// Whether a client with a user may subscribe. The token or the application sets the user.
        allow_subscribe_for_client: bool = "false", ();
        /// Whether an anonymous client (without a token, or with a token without a user) may subscribe as well. Has no
        /// effect without `allow_subscribe_for_client`.
        allow_subscribe_for_anonymous: bool = "false", ();
        /// Whether a client with a user may publish.
        allow_publish_for_client: bool = "false", ();
        /// Whether a client with a user may publish while it is subscribed to the channel.
        allow_publish_for_subscriber: bool = "false", ();
        /// Whether an anonymous client may publish as well. Has no effect without `allow_publish_for_client` or
        /// `allow_publish_for_subscriber`.
        allow_publish_for_anonymous: bool = "false", ();
        /// Number of publications that a channel stores, for clients that reconnect. No history when 0, or when
        /// `history_ttl` is.
        history_size: usize = "0", count(0, 1_000_000);
        /// Time for which publications are stored. No history when 0, or when `history_size` is.
        history_ttl: Duration = "0s", millis(0, 366 * 24 * HOUR);
        /// Time for which a channel's position is stored after the last publication; at least `history_ttl`.
        history_meta_ttl: Duration = "720h", millis(1000, 10 * 366 * 24 * HOUR);
        /// Whether a client without the permission to read the history may request a recoverable subscription, and so
        /// receive the publications it missed. A client that may read the history, by the options below, does not need
        /// this permission.
        allow_recovery: bool = "false", ();
        /// Whether a client without the permission to read the history may request a positioned subscription (see
        /// `force_positioning`).
        allow_positioning: bool = "false", ();
        /// Whether subscriptions are recoverable without the client's request and permission. The channel needs a
        /// history.
        force_recovery: bool = "false", ();
        /// What a recovering client receives: `stream`, all publications that it missed; `cache`, the newest one alone.
        force_recovery_mode: RecoveryMode = "stream", ();
        /// Whether a subscription ends with code 2500 (the client subscribes again) when the server detects a missed
        /// publication, without the client's request and permission. The channel needs a history.
        force_positioning: bool = "false", ();
        /// Whether the subscribers of a channel are recorded, for `presence` and `presence_stats`.
        presence: bool = "false", ();
        /// Whether joins and leaves are sent to subscribers that request them and may read the presence.
        join_leave: bool = "false", ();
        /// Whether joins and leaves are sent to all subscribers, without request and permission.
        force_push_join_leave: bool = "false", ();
        /// Whether a client with a user may read the history while it is subscribed to the channel.
        allow_history_for_subscriber: bool = "false", ();
        /// Whether a client with a user may read the history.
        allow_history_for_client: bool = "false", ();
        /// Whether an anonymous client may read the history as well. Has no effect without `allow_history_for_client` or
        /// `allow_history_for_subscriber`.
        allow_history_for_anonymous: bool = "false", ();
        /// Whether a client with a user may read the presence while it is subscribed to the channel.
        allow_presence_for_subscriber: bool = "false", ();
        /// Whether a client with a user may read the presence.
        allow_presence_for_client: bool = "false", ();
        /// Whether an anonymous client may read the presence as well. Has no effect without `allow_presence_for_client`
        /// or `allow_presence_for_subscriber`.
        allow_presence_for_anonymous: bool = "false", ();
        /// Whether channels with a `#` are limited to the users after it, separated by commas: `dialog#17,42`. A name
        /// that begins with `#` belongs to exactly one user: `#17,42` is neither 17's nor 42's. Users whose ids contain
        /// `#` or `,` have access to no such channel.
        allow_user_limited_channels: bool = "false", ();
        /// Whether the subscribe hook decides about subscriptions (`channel.proxy.subscribe`).
        subscribe_proxy_enabled: bool = "false", ();
        /// Whether the publish hook decides about publications of clients (`channel.proxy.publish`).
        publish_proxy_enabled: bool = "false", ();
        /// Form of a body for JSON clients: `auto` and `json` send valid JSON as it is, other UTF-8 as a string, and
        /// other bytes as `{"b64":"…"}`; `text` sends UTF-8 always as a string; `binary` always sends `{"b64":"…"}`.
        publication_data_format: DataFormat = "auto", ();
        /// Policy for a connection that does not read as fast as publications arrive, once its queue is full: `cut`
        /// closes it with a code that requests reconnecting, `latest` drops the queue and sends the newest publication
        /// once the client reads again, `drop_oldest` drops the oldest ones and reports their number. `auto` is `cut`
        /// where the channel has a history, from which the client recovers, and `drop_oldest` otherwise.
        slow_consumer: SlowConsumer = "auto", ();
    }
}

group! {
    /// The memory broker, where `broker` is `memory`: bounds of its histories. At a bound, histories with a position only
    /// are evicted first, then the oldest publications of the channel that publishes, or, if it has none yet, the history
    /// with the oldest last publication. A client that recovers from an evicted history gets `recovered: false`.
    pub struct MemoryOptions {
        /// Bound of the history of one channel.
        max_channel: usize = "4MiB", bytes(KIB, 1024 * GIB);
        /// Bound of the histories of all channels of one namespace, so that one namespace does not evict others; at most
        /// `memory.max_total`.
        max_namespace: usize = "96MiB", bytes(KIB, 1024 * GIB);
        /// Bound of all histories, members and stored results together.
        max_total: usize = "128MiB", bytes(KIB, 1024 * GIB);
    }
}

group! {
    /// Shared live tables: files that users upload and view together.
    pub struct TablesOptions {
        /// Whether tables are enabled.
        enabled: bool = "true", ();
        /// Who may create tables and upload files, besides the owner of a table, who has its secret: `anyone`; `token`,
        /// clients with a connection token, and users that the connect hook accepts; `key`, backends with `http_api.key`.
        /// The claim `"tables": {"upload": true}` of a connection token, or that field in the result of the connect hook,
        /// always grants the permission; `false` denies it. `auto` is `anyone` while no key is configured, and `token`
        /// otherwise.
        allow_upload: AllowUpload = "auto", ();
        /// Largest file that may be uploaded, in bytes as received. Its text, unpacked and in UTF-8, may be four times as
        /// large; the text of an open file that is packed or not in UTF-8 counts into `tables.max_total` as well.
        max_size: usize = "1GiB", bytes(1, 1024 * GIB);
        /// Largest ratio of unpacked to received bytes of a packed file. The first 16 MiB of text are free.
        max_unpack_ratio: usize = "100", count(1, 1_000_000);
        /// Lowest data rate of an upload and of a download of a view while others wait for a permit, in bytes per second:
        /// the slowest transfer below it is ended. With 0 only transfers without any progress are ended.
        min_data_rate: usize = "8192", count(0, 1_000_000_000);
        /// Longest pause within an upload, after which it is aborted. Other uploads to the same table wait meanwhile.
        upload_timeout: Duration = "60s", millis(SECOND, HOUR);
        /// Time for which a table without viewers is stored.
        keep: Duration = "24h", millis(SECOND, 366 * 24 * HOUR);
        /// Bound of the files of all tables together, with the unpacked text of packed files while they are open, and
        /// with removed files that are still read. At the bound, tables without viewers are evicted, the least recently
        /// used first; when all are in use, uploads are refused.
        max_total: usize = "10GiB", bytes(1, 1024 * 1024 * GIB);
        /// Bound of the files that one user has uploaded, on this node. At the bound, that user's own tables without
        /// viewers are evicted; then uploads are refused. 0 is half of `tables.max_total`.
        user_max_total: usize = "0", bytes(0, 1024 * 1024 * GIB);
        /// The same for uploads without a user, by the client's address (one /64 network of IPv6). 0 is half of
        /// `tables.max_total`, and no limit for loopback addresses.
        address_max_total: usize = "0", bytes(0, 1024 * 1024 * GIB);
        /// Most uploads of one user at a time. The limit of all uploads together is 64.
        user_upload_limit: usize = "16", count(1, 64);
        /// The same for uploads without a user, by the client's address. 0 is 16, and no limit for loopback addresses.
        address_upload_limit: usize = "0", count(0, 64);
        /// Whether downloads of views put an apostrophe before cells that a spreadsheet would evaluate as formulas: those
        /// that begin with `=`, `+`, `-`, `@`, a tab or a carriage return. Numbers (`-5`, `+3.2`) are not changed, nor is
        /// the download of the uploaded file.
        disarm_formulas: bool = "true", ();
        /// Where tables are stored: a folder, or `s3://BUCKET/PREFIX` (see `tables.s3`). Several nodes that use the same
        /// Redis may share either. The default is the folder `tables` in `data_dir`; without that, a temporary one that
        /// is removed with the server. With a bucket, copies of viewed tables are stored in `tables.cache` in `data_dir`
        /// (without that, in a temporary folder), and `tables.max_total` applies to the copies of each node and to the
        /// bucket.
        store: Option<TablesStore> = "", ();
    }
    groups {
        /// The bucket of `tables.store`, in S3 or a store with the same protocol that honours `If-Match` and
        /// `If-None-Match` of writes. Options that are not given here are taken from the usual variables
        /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …), and
        /// credentials otherwise from the role of the machine or the container.
        s3: TablesS3Options;
    }
}

group! {
    /// The bucket of `tables.store`, in S3 or a store with the same protocol that honours `If-Match` and `If-None-Match`
    /// of writes. Options that are not given here are taken from the usual variables (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …), and credentials otherwise from
    /// the role of the machine or the container.
    pub struct TablesS3Options {
        /// URL of the store, when it is not Amazon's: `https://minio.example.com:9000`.
        endpoint: Option<HttpUrl> = "", "https://minio.example.com:9000";
        /// Region of the bucket; the default is the variable's, or `us-east-1`.
        region: String = "", Longest(64);
        /// Whether plain HTTP to the store is accepted. Everyone on the network path can then read and change tables.
        allow_http: bool = "false", ();
        /// Whether the name of the bucket is part of the host name (`https://BUCKET.HOST/…`) instead of the path
        /// (`https://HOST/BUCKET/…`). An `endpoint` then contains the name.
        virtual_hosted_style: bool = "false", ();
        /// Id of the key that signs requests; with `tables.s3.secret_access_key`.
        access_key_id: String = "", Longest(1024);
        /// Secret of the key that signs requests; with `tables.s3.access_key_id`.
        secret_access_key: Secret = "", ();
        /// Longest time for one request to the store, with a part of a file (8 MiB, more for files above 70 GiB), and
        /// longest pause in a response. Idempotent requests are then retried, at most three times and for no longer than
        /// this time.
        timeout: Duration = "20s", millis(100, HOUR);
    }
}

group! {
    /// The check behind `/ready`: the server publishes a canary message through the broker at an interval.
    pub struct ReadyOptions {
        /// Interval of canaries; shorter than `ready.canary_limit`, and half of that when only the limit is given and is
        /// too short.
        canary_interval: Duration = "1s", millis(10, HOUR);
        /// Longest age of the last received canary. Above it `/ready` answers 503.
        canary_limit: Duration = "3s", millis(20, HOUR);
    }
}

group! {
    /// The stop of the server on `SIGTERM` or `SIGINT`.
    pub struct ShutdownOptions {
        /// Longest time of the whole stop. After it the process ends with exit code 1, and a log line names the work that
        /// was in progress.
        timeout: Duration = "10s", millis(10, HOUR);
        /// Time for which the server still serves everything, with `/ready` answering 503, before clients are asked to
        /// reconnect: the time in which a load balancer notices. Shorter than `shutdown.timeout`. A few seconds are
        /// recommended behind a balancer.
        lame_duck: Duration = "0s", millis(0, HOUR);
        /// Time over which clients are asked to reconnect, evenly spread, so that they do not reconnect at the same
        /// moment. Together with `shutdown.lame_duck` at most `shutdown.timeout`; when it is not given and does not fit,
        /// half of the remaining time.
        drain: Duration = "5s", millis(0, HOUR);
    }
}
