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
    /// A server's whole configuration. [`Default`] is what a server without any configuration runs with.
    pub struct Config {
        /// Which broker carries publications: `memory` is this process alone; a Redis URL also reaches every other
        /// node, and everybody who publishes there. `redis://[user:password@]host:port[/db]` is one server,
        /// `rediss://` the same over TLS, `redis+sentinel://host[:port][,…]/master[/db]` the master that
        /// Sentinels know, `redis+cluster://[user:password@]host:port[,…]` a cluster, by some of its nodes, and
        /// `rediss+cluster://` the same over TLS. The flag is `--broker`.
        broker: BrokerUrl = "memory", ();
        /// How long a channel whose last subscriber left stays subscribed at the broker, so that a client that
        /// returns, or pages that follow one another, cost the broker nothing.
        broker_linger: Duration = "5s", millis(0, HOUR);
        /// The folder for what outlives a restart. Without one it is the user's: `$STATE_DIRECTORY` or `/var/lib/tidings` for a
        /// system service of systemd, else `$XDG_DATA_HOME/tidings` or `~/.local/share/tidings`. `off` keeps nothing: files
        /// go with the server. One server uses a folder at a time: another one that was given the same folder does not
        /// start, and one that was given none starts with a temporary folder and a warning. The flag is `--data-dir`.
        data_dir: DataDir = "", ();
        /// Proxies in front of this server, by address or range (`10.0.0.0/8`, `::1`). For a connection from one of them, the
        /// client's address is what `Forwarded` (RFC 7239) or else `X-Forwarded-For` says: the last address there that is no
        /// trusted proxy itself. Of any other connection those headers say nothing. Without this option limits by address
        /// take all clients of a proxy for one.
        trusted_proxies: Vec<Network> = "", ();
        /// How many threads serve connections, each with an event loop of its own. 0 is one for each core that this
        /// process may use.
        shards: usize = "0", count(0, 64);
    }
    groups {
        /// What is logged, and how.
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
        /// Where clients of server-sent events and HTTP streaming send their commands.
        emulation: EmulationOptions;
        /// WebSocket for those who only listen.
        uni_websocket: UniWebSocketOptions;
        /// Server-sent events for those who only listen.
        uni_sse: UniSseOptions;
        /// HTTP streaming for those who only listen.
        uni_http_stream: UniHttpStreamOptions;
        /// Plain server-sent events.
        events: EventsOptions;
        /// The broker in memory.
        memory: MemoryOptions;
        /// The connection to Redis.
        redis: RedisOptions;
        /// What holds for clients of every transport.
        client: ClientOptions;
        /// This server among others.
        node: NodeOptions;
        /// The nodes that share a broker.
        cluster: ClusterOptions;
        /// Limits by where clients come from.
        limits: LimitsOptions;
        /// The server API.
        http_api: HttpApiOptions;
        /// What clients may do in channels, and how channels behave.
        channel: Channels;
        /// What is done with `rpc` commands.
        rpc: RpcOptions;
        /// Shared live tables.
        tables: TablesOptions;
        /// How `/ready` decides.
        ready: ReadyOptions;
        /// How the server stops.
        shutdown: ShutdownOptions;
    }
}

group! {
    /// What is logged, to standard error.
    pub struct LogOptions {
        /// How much is logged: this level and the more serious ones; `none` is nothing at all. The flag is `--log-level`; `log_level` means
        /// the same.
        level: LogLevel = "info", ();
        /// How an entry is written: a line of text for people, or a JSON object on a line. The flag is
        /// `--log-format`; `log_format` means the same.
        format: LogFormat = "text", ();
    }
}

group! {
    /// The line port: plain lines, RESP and JSON lines over TCP, told apart by the first byte a client sends.
    pub struct TcpOptions {
        /// Where the line port listens; port 0 picks a free one, `off` or an empty list means nowhere. The flag is
        /// `--tcp`; `tcp = …` in a file without other `tcp` options, and `TIDINGS_TCP`, mean the same. An address
        /// that other machines reach needs a key (see `client.insecure`).
        listen: Vec<ListenAddr> = "127.0.0.1:5567", ();
        /// Whether a plain line that is no command comes back as it is; otherwise the answer is `UNKNOWN COMMAND`.
        echo: bool = "true", ();
        /// The channels that a new plain connection is subscribed to; at most `client.channel_limit`.
        auto_subscribe: Vec<Channel> = "updates", ();
        /// The channel that `SUBSCRIBE` and `UNSUBSCRIBE` mean when they name none. To plain clients its messages
        /// come as their bare bodies.
        default_channel: Channel = "updates", ();
        /// Which messages are escaped on plain lines. `auto`: only those with line breaks that are not JSON, as `\r`, `\n`
        /// and, for a backslash, `\\`; line breaks between the tokens of JSON become spaces, and every other message is
        /// sent byte for byte. `always`: the line breaks and backslashes of every message, so that a client may undo it
        /// without knowing the message.
        escape: Escape = "auto", ();
        /// The longest line or RESP value that a client may send, without its ending. Past it the client gets an
        /// error that names the limit, and the connection is closed.
        max_line: usize = "65536", bytes(64, 16 * MIB);
        /// How long automatic subscriptions wait for the first byte of a new connection, which tells what it
        /// speaks; after it a silent one is taken for plain lines.
        first_byte_wait: Duration = "250ms", millis(0, 10 * SECOND);
    }
}

group! {
    /// The HTTP port: `/health`, `/ready`, `/metrics`, the page, and where connections of the transports below begin.
    pub struct HttpOptions {
        /// Where the HTTP port listens; port 0 picks a free one, `off` or an empty list means nowhere. The flag is
        /// `--http`; `http = …` in a file without other `http` options, and `TIDINGS_HTTP`, mean the same. An
        /// address that other machines reach needs a key (see `client.insecure`).
        listen: Vec<ListenAddr> = "127.0.0.1:8000", ();
        /// How many connections may wait for a request or its answer at once. Past it the slowest ones are closed for new
        /// ones; when none is slow, a request waits up to two seconds and is then answered with 503. `/health`, `/ready`,
        /// `/metrics` and WebSocket handshakes are answered from a reserve of 64 more. A connection that becomes a WebSocket
        /// or a stream no longer counts: for those `client.connection_limit` holds.
        connection_limit: usize = "512", count(1, 1_000_000);
        /// How many of those connections one address may have (of IPv6, one /64 network). 0 is half of
        /// `http.connection_limit`, and no limit for this machine's own loopback addresses. The address is the peer's. For
        /// proxies in `trusted_proxies`, whose connections carry requests of many clients, and for Unix sockets, there is
        /// no such limit: the proxy has to limit its clients (nginx: `limit_conn`).
        connection_limit_per_address: usize = "0", count(0, 1_000_000);
        /// The slowest that a request's body may come and an answer be read, in bytes per second. A body that falls ten
        /// seconds behind is answered with 408, an answer that falls thirty seconds behind is cut off. With 0 only silence
        /// counts.
        min_data_rate: usize = "240", count(0, 1_000_000_000);
    }
}

group! {
    /// TLS on the server's own listeners: `https` and `wss` on the HTTP port, and on the line port every dialect inside
    /// of TLS, which the first byte of a connection announces. Unix sockets stay as they are. A certificate that is
    /// renewed is taken up without a restart, and no connection ends for it.
    pub struct TlsOptions {
        /// Whether TLS is spoken. The HTTP port then speaks nothing else; for the line port see `tls.required`.
        enabled: bool = "false", ();
        /// The file with the certificate in PEM, and behind it those between it and the authority's.
        cert_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base 64. A path is taken as well, as Centrifugo 6 does.
        cert_pem: PemText = "", ();
        /// The file with the certificate's private key in PEM (PKCS #8, PKCS #1 or SEC 1), without a passphrase.
        key_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base 64, or a path.
        key_pem: Secret = "", ();
        /// The file with the certificates of authorities, in PEM, by which clients' certificates are verified. With one,
        /// a client without such a certificate gets no connection.
        client_ca_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base 64, or a path.
        client_ca_pem: PemText = "", ();
        /// The oldest version of TLS that is spoken. There are no older ones here than 1.2.
        min_version: TlsVersion = "1.2", ();
        /// Whether the line port refuses who does not speak TLS. `auto`: it does where other machines reach it, and on a
        /// loopback address both are spoken; `false`: both are spoken everywhere, and what a client says before it has
        /// spoken TLS is anybody's to read.
        required: TlsRequired = "auto", ();
        /// How long a connection may take from being accepted to being encrypted.
        handshake_timeout: Duration = "10s", millis(100, 10 * MINUTE);
        /// How many handshakes may be under way at once, of both ports together; further ones wait their turn, no
        /// longer than `tls.handshake_timeout`.
        handshake_limit: usize = "1024", count(1, 1_000_000);
        /// How long a browser that has reached the server over TLS is not to reach it without (HTTP Strict Transport
        /// Security, RFC 6797); a whole number of seconds. 0 sends no such header. Never sent for `localhost` and addresses.
        hsts_max_age: Duration = "720h", millis(0, 20_000 * HOUR);
        /// How often the files are looked at for a certificate that was renewed. `SIGHUP` has them read at once.
        reload_interval: Duration = "1m", millis(100, 24 * HOUR);
    }
}

group! {
    /// `/connection/websocket`: the client protocol over WebSocket, in JSON, or in Protobuf with the sub-protocol
    /// `centrifuge-protobuf` or `?format=protobuf`.
    pub struct WebSocketOptions {
        /// Whether it is switched off.
        disabled: bool = "false", ();
        /// The longest message that a client may send over a WebSocket. Past it the connection is closed with code
        /// 1009. A compressed message counts with what it is when it is decompressed, which goes no further.
        message_size_limit: usize = "65536", bytes(64, 16 * MIB);
        /// Whether messages may be compressed where a client offers that (`permessage-deflate`). What is published is
        /// compressed once for all of a channel's subscribers that agreed on it, and no connection has memory of its
        /// own for it; it costs a thread a third of a megabyte, and time for each publication.
        compression: bool = "false", ();
        /// The shortest publication, as a message, that is compressed; shorter ones, and those that would not become
        /// shorter, go as they are.
        compression_min_size: usize = "0", bytes(0, 16 * MIB);
        /// How hard is tried, from 1 (fast) to 9 (small).
        compression_level: usize = "1", count(1, 9);
    }
}

group! {
    /// `/connection/sse`: the client protocol over server-sent events. Commands come over `/emulation`.
    pub struct SseOptions {
        /// Whether there is such a path.
        enabled: bool = "true", ();
        /// The largest body of a request that begins a connection with POST; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/connection/http_stream`: the client protocol over the body of an HTTP answer, in JSON, or in Protobuf with
    /// `Content-Type: application/octet-stream`. Commands come over `/emulation`.
    pub struct HttpStreamOptions {
        /// Whether there is such a path.
        enabled: bool = "true", ();
        /// The largest body of a request that begins a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/emulation`: commands of clients whose connection only goes the other way.
    pub struct EmulationOptions {
        /// The largest body of a request; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/connection/uni_websocket`: pushes over WebSocket. The client's first message is its `connect`; of others
    /// `websocket.message_size_limit` holds as well.
    pub struct UniWebSocketOptions {
        /// Whether there is such a path.
        enabled: bool = "true", ();
    }
}

group! {
    /// `/connection/uni_sse`: pushes in server-sent events. The client's `connect` is the request's `cf_connect`
    /// parameter, or the body of a POST.
    pub struct UniSseOptions {
        /// Whether there is such a path.
        enabled: bool = "true", ();
        /// The largest body of a request that begins a connection with POST; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/connection/uni_http_stream`: pushes over the body of an HTTP answer, a JSON object a line. The client's
    /// `connect` is the request's body.
    pub struct UniHttpStreamOptions {
        /// Whether there is such a path.
        enabled: bool = "true", ();
        /// The largest body of a request that begins a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB);
    }
}

group! {
    /// `/events`: what is published in the channels that the request names, as plain server-sent events.
    pub struct EventsOptions {
        /// Whether there is such a path.
        enabled: bool = "true", ();
    }
}

group! {
    /// The connection to Redis, when `broker` names one.
    pub struct RedisOptions {
        /// What stands before the name of every channel and key in Redis, so that several applications can share
        /// one. With a prefix, other publishers must use it too.
        prefix: String = "", Longest(128);
        /// How long a connection to Redis may take to be made, with TLS and authentication.
        connect_timeout: Duration = "5s", millis(10, MINUTE);
        /// How long Redis may take to answer before the connection is taken for dead and made anew.
        response_timeout: Duration = "5s", millis(10, MINUTE);
    }
}

group! {
    /// What holds for clients of every transport.
    pub struct ClientOptions {
        /// Origins whose pages may connect, besides the server's own: `https://example.com`,
        /// `https://*.example.com`, or `*` for all. A browser that shows any other page is refused; clients that
        /// send no origin (anything but a browser) are not concerned. `*` stands for any characters. The usual port of a
        /// scheme is removed, as browsers do; an origin that no browser sends is an error.
        allowed_origins: Vec<AllowedOrigin> = "", ();
        /// Whether everybody who reaches the server may connect, subscribe and publish everywhere, whatever keys
        /// and channel options say. Listeners may then be reachable from other machines without any key. For
        /// tests, and for networks where that is meant.
        insecure: bool = "false", ();
        /// Whether a client without a token is let in as an anonymous one when a token key is configured.
        allow_anonymous_connect_without_token: bool = "false", ();
        /// How much may wait for one connection that does not read as fast as it is sent to. Past it the
        /// channel's `slow_consumer` decides.
        queue_max_size: usize = "1048576", bytes(KIB, GIB);
        /// How much may wait for all connections together; at least `client.queue_max_size`. Past it a connection
        /// that falls behind is treated as if its own queue were full.
        queue_max_total: usize = "268435456", bytes(KIB, 1024 * GIB);
        /// How often the server says something to a client that speaks the client protocol, so that neither
        /// side, nor a proxy between them, takes a silent connection for a dead one.
        ping_interval: Duration = "25s", millis(100, HOUR);
        /// How long a client may take to answer a ping before its connection is closed; shorter than
        /// `client.ping_interval`, and half of that when only the interval is given and is too short.
        pong_timeout: Duration = "8s", millis(10, HOUR);
        /// How many channels one connection may be subscribed to.
        channel_limit: usize = "128", count(1, 1_000_000);
        /// How many connections the server takes, of all transports together. 0 is as many as the limit of open
        /// files allows.
        connection_limit: usize = "0", count(0, 10_000_000);
        /// How many connections may begin in a second on this server, of all transports together; as many may begin at
        /// once. Further ones are answered with error 3013 on the line port and 429 over HTTP. 0 is no limit.
        connection_rate_limit: usize = "0", count(0, 10_000_000);
        /// How many connections one user may have on this server. A further one is ended with code 3504, after which
        /// clients do not reconnect. 0 is no limit.
        user_connection_limit: usize = "0", count(0, 10_000_000);
        /// Whether a user has one connection at a time, over all servers: a new one ends those before it with code 3503,
        /// after which clients do not reconnect. Servers tell which is newer by their clocks.
        single_connection: bool = "false", ();
        /// How long a connection that began in JSON may take to send its `connect` command.
        stale_close_delay: Duration = "10s", millis(10, HOUR);
        /// How long a client that is cut for being slow may take to read the notice that says so.
        slow_close_delay: Duration = "5s", millis(0, MINUTE);
        /// How long a client whose connection has expired may take to bring a new token before it is closed.
        expired_close_delay: Duration = "25s", millis(0, HOUR);
        /// How long a client may take to bring a new token for a subscription that has expired before that ends.
        expired_sub_close_delay: Duration = "25s", millis(0, HOUR);
        /// How long the broker may be away before clients subscribed to channels with a history are asked to reconnect, to a
        /// node that has it: within as much time again, each at another moment, with the code 3011. Never when zero.
        /// Those without a history, and those that connect meanwhile, stay; their subscriptions get the temporary error 100
        /// until the broker is back.
        broker_down_delay: Duration = "15s", millis(0, HOUR);
    }
    groups {
        /// Whether users get a channel of their own.
        subscribe_to_user_personal_channel: PersonalChannelOptions;
        /// How connection tokens are verified.
        token: TokenOptions;
        /// How subscription tokens are verified, when not as connection tokens are.
        subscription_token: SubscriptionTokenOptions;
        /// What the application decides of clients.
        proxy: ClientProxies;
    }
}

group! {
    /// A channel for each user, `#` and the user's id, to which the server subscribes all of the user's connections:
    /// so a backend reaches a user without knowing where. A user whose id contains `#` or `,` is refused (103), because
    /// the channel's name could be mistaken for another user's.
    pub struct PersonalChannelOptions {
        /// Whether clients with a user are subscribed to it when they connect.
        enabled: bool = "false", ();
        /// The namespace that it belongs to, so that it is `NAMESPACE:#USER`; empty for none.
        personal_channel_namespace: String = "", Longest(253);
    }
}

group! {
    /// How connection tokens (JSON Web Tokens) are verified, and subscription tokens too unless
    /// `client.subscription_token.enabled` is set.
    pub struct TokenOptions {
        /// The key of tokens that are signed with HMAC (`HS256`, `HS384`, `HS512`). Once this or another key is set,
        /// clients need a token, and the options of channels decide what they may do.
        hmac_secret_key: Secret = "", ();
        /// The key that was `client.token.hmac_secret_key` before: tokens that are signed with it are still accepted, so
        /// that the key can be changed while they are about.
        hmac_previous_secret_key: Secret = "", ();
        /// Until when they are, in Unix seconds; 0 is without an end.
        hmac_previous_secret_key_valid_until: usize = "0", count(0, END_OF_TIME);
        /// The key of tokens that are signed with RSA (`RS256`, `RS384`, `RS512`), of 2048 to 8192 bits. A line break
        /// may be written as `\n`.
        rsa_public_key: Option<PublicKey> = "", KeyType::Rsa;
        /// The key of tokens that are signed with ECDSA: on P-256 for `ES256`, on P-384 for `ES384`, on P-521 for
        /// `ES512`. A line break may be written as `\n`.
        ecdsa_public_key: Option<PublicKey> = "", KeyType::Ecdsa;
        /// Where an identity provider publishes its keys as a JSON Web Key Set. Tokens are verified with the key
        /// that their header names (`kid`), and the other keys here have no effect. The set is fetched when a token
        /// needs it, again after an hour, and for a key that it does not hold at most every 10 seconds; keys that
        /// are known stay in use while it cannot be fetched. Keys that are not used are named in the log, with the reason.
        jwks_public_endpoint: Option<HttpUrl> = "", KEY_SET;
        /// Whom tokens must be meant for (`aud`). Without it they may be meant for anybody: set it when the
        /// same issuer or key makes tokens for other services.
        audience: String = "", Longest(1024);
        /// Who must have made tokens (`iss`). Without it anybody who has the key may have.
        issuer: String = "", Longest(1024);
    }
}

group! {
    /// How subscription tokens are verified when not as connection tokens are.
    pub struct SubscriptionTokenOptions {
        /// Whether subscription tokens have keys and rules of their own: those of this group, and none of
        /// `client.token`.
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
    /// This server among others that share its broker.
    pub struct NodeOptions {
        /// What the server is called where nodes are listed (`info` of the server API). Without a name it is called
        /// after its machine and its HTTP port.
        name: String = "", Longest(128);
    }
}

group! {
    /// The nodes that share a broker.
    pub struct ClusterOptions {
        /// The secret by which nodes that share a Redis recognize each other: their messages are encrypted and
        /// authenticated with it. At least 16 bytes, the same on every node. Without it, a key is derived from
        /// `http_api.key`, or else from `client.token.hmac_secret_key`; where other keys are configured and neither of
        /// these, it must be given.
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
        /// How many connections of clients it may have. A further one is told 3013 and closed. 0 is no limit.
        connections: usize = "0", count(0, 10_000_000);
        /// How many connections of clients it may begin in a second; as many may begin at once. A further one is told 3013
        /// and closed. 0 is no limit.
        connection_rate: usize = "0", count(0, 10_000_000);
        /// How many commands a second its clients may send, over all of their connections and protocols; a second's worth
        /// may come at once. Every line, RESP command or message of the client protocol is one; `EXIT`, `QUIT`, and the
        /// answers to pings are none. A further one is answered with the temporary error 111. Backends that have given
        /// the API key are not limited. 0 is no limit.
        commands: usize = "0", count(0, 10_000_000);
        /// How many publications a second its clients may send. A further one is answered with error 111. 0 is no limit.
        publications: usize = "0", count(0, 10_000_000);
        /// How many bytes a second the commands of its clients may have. One that is larger than what is left is carried
        /// out, and what it takes is missing afterwards; a further one is answered with error 111. 0 is no limit.
        bytes: usize = "0", bytes(0, 1024 * GIB);
    }
}

group! {
    /// Limits of one user on this server, over all of its connections. Anonymous clients are limited by their address
    /// alone.
    pub struct UserLimitsOptions {
        /// How many connections it may have. A further one is ended with code 3504, after which clients do not reconnect.
        /// 0 is no limit. Where `client.user_connection_limit` is set too, the smaller one holds.
        connections: usize = "0", count(0, 10_000_000);
        /// How many connections it may begin in a second; as many may begin at once. A further one is ended with code
        /// 3013, after which clients reconnect later. 0 is no limit.
        connection_rate: usize = "0", count(0, 10_000_000);
        /// How many commands a second it may send, counted as for `limits.address.commands`. 0 is no limit.
        commands: usize = "0", count(0, 10_000_000);
        /// How many publications a second it may send. A further one is answered with error 111. 0 is no limit.
        publications: usize = "0", count(0, 10_000_000);
        /// How many bytes a second its commands may have, counted as for `limits.address.bytes`. 0 is no limit.
        bytes: usize = "0", bytes(0, 1024 * GIB);
    }
}

group! {
    /// The server API, by which a backend publishes and asks.
    pub struct HttpApiOptions {
        /// The key that a backend sends with its requests. On the line and RESP ports `AUTH` takes it too. Once it
        /// is set, the options of channels decide what clients may do.
        key: Secret = "", ();
        /// Whether the server API needs no key. For tests, and behind a proxy that lets only backends through.
        insecure: bool = "false", ();
        /// The longest body of a request in bytes; a longer one is answered with 413.
        max_body: usize = "4194304", bytes(KIB, GIB);
        /// How many commands a second the server API takes, those of batches one by one; a second's worth may come at
        /// once. Past it requests are answered with 429. 0 is no limit.
        rate_limit: usize = "0", count(0, 10_000_000);
    }
}

group! {
    /// What clients may do in a channel, and how it behaves.
    pub struct ChannelOptions {
        /// Whether a client with a user may subscribe: one whose token, or the application, names a user.
        allow_subscribe_for_client: bool = "false", ();
        /// Whether an anonymous client (without a token, or with one that names no user) may subscribe as well. Has no effect
        /// without `allow_subscribe_for_client`.
        allow_subscribe_for_anonymous: bool = "false", ();
        /// Whether a client with a user may publish.
        allow_publish_for_client: bool = "false", ();
        /// Whether a client with a user may publish while it is subscribed to the channel.
        allow_publish_for_subscriber: bool = "false", ();
        /// Whether an anonymous client may publish as well. Has no effect without `allow_publish_for_client` or
        /// `allow_publish_for_subscriber`.
        allow_publish_for_anonymous: bool = "false", ();
        /// How many publications of a channel are kept, so that clients who come back are sent what they missed.
        /// None when 0, or when `history_ttl` is.
        history_size: usize = "0", count(0, 1_000_000);
        /// For how long publications are kept. None are when 0, or when `history_size` is.
        history_ttl: Duration = "0s", millis(0, 366 * 24 * HOUR);
        /// For how long after the last publication a channel's position is remembered; at least `history_ttl`.
        history_meta_ttl: Duration = "720h", millis(1000, 10 * 366 * 24 * HOUR);
        /// Whether a client may request a recoverable subscription although it may not read the history: it then gets
        /// what it missed. A client that may read the history, by the options below, needs no such permission.
        allow_recovery: bool = "false", ();
        /// Whether a client may request a positioned subscription (see `force_positioning`) although it may not read the
        /// history.
        allow_positioning: bool = "false", ();
        /// Whether subscriptions are recoverable without the client's request and permission. The channel needs a history.
        force_recovery: bool = "false", ();
        /// What a client that comes back is sent: `stream` is everything that it missed, `cache` the newest
        /// publication alone.
        force_recovery_mode: RecoveryMode = "stream", ();
        /// Whether a subscription ends with code 2500 (the client subscribes again) once the server sees that a
        /// publication was missed, without the client's request and permission. The channel needs a history.
        force_positioning: bool = "false", ();
        /// Whether it is kept who is subscribed, for `presence` and `presence_stats`.
        presence: bool = "false", ();
        /// Whether joins and leaves are announced to subscribers that request it and may ask who is present.
        join_leave: bool = "false", ();
        /// Whether they are announced to all subscribers, without request and permission.
        force_push_join_leave: bool = "false", ();
        /// Whether a client with a user may read the history while it is subscribed to the channel.
        allow_history_for_subscriber: bool = "false", ();
        /// Whether a client with a user may read the history.
        allow_history_for_client: bool = "false", ();
        /// Whether an anonymous client may read it as well. Has no effect without `allow_history_for_client` or
        /// `allow_history_for_subscriber`.
        allow_history_for_anonymous: bool = "false", ();
        /// Whether a client with a user may ask who is present while it is subscribed to the channel.
        allow_presence_for_subscriber: bool = "false", ();
        /// Whether a client with a user may ask who is present.
        allow_presence_for_client: bool = "false", ();
        /// Whether an anonymous client may ask as well. Has no effect without `allow_presence_for_client` or
        /// `allow_presence_for_subscriber`.
        allow_presence_for_anonymous: bool = "false", ();
        /// Whether channels with a `#` are for the users named behind it alone, separated by commas: `dialog#17,42`. A
        /// name that begins with the `#` is one user's: `#17,42` is neither 17's nor 42's. Users whose ids contain `#` or
        /// `,` are in no such channel.
        allow_user_limited_channels: bool = "false", ();
        /// Whether the application decides who may subscribe (`channel.proxy.subscribe`).
        subscribe_proxy_enabled: bool = "false", ();
        /// Whether the application decides what clients may publish (`channel.proxy.publish`).
        publish_proxy_enabled: bool = "false", ();
        /// How JSON clients get a body: `auto` and `json` send valid JSON as it is, other UTF-8 as a string, and
        /// other bytes as `{"b64":"…"}`; `text` sends UTF-8 always as a string; `binary` always sends
        /// `{"b64":"…"}`.
        publication_data_format: DataFormat = "auto", ();
        /// What happens to a connection that does not read as fast as the channel is published to, once its queue
        /// is full: `cut` closes it with a code that says "reconnect", `latest` drops what waits and sends the
        /// newest once it reads again, `drop_oldest` drops the oldest and tells how many that were. `auto` is `cut`
        /// where the channel has a history, from which the client recovers, and `drop_oldest` elsewhere.
        slow_consumer: SlowConsumer = "auto", ();
    }
}

group! {
    /// The broker in memory, where `broker` is `memory`: what its histories may take. When there is no room, histories of
    /// which only the position is left go first, then the oldest publications of the channel that publishes, or, where
    /// that has none yet, the history that was published to longest ago. A client that returns to a history that is gone
    /// is told that it missed something.
    pub struct MemoryOptions {
        /// How much the history of one channel may take.
        max_channel: usize = "4MiB", bytes(KIB, 1024 * GIB);
        /// How much the histories of all channels of one namespace may take, so that one does not crowd out the others;
        /// at most `memory.max_total`.
        max_namespace: usize = "96MiB", bytes(KIB, 1024 * GIB);
        /// How much all histories, members and remembered results may take together.
        max_total: usize = "128MiB", bytes(KIB, 1024 * GIB);
    }
}

group! {
    /// Shared live tables: files that people upload and look at together.
    pub struct TablesOptions {
        /// Whether there are tables.
        enabled: bool = "true", ();
        /// Who may make tables and upload files, besides the owner of a table, who shows its secret: `anyone`; `token`,
        /// clients with a connection token, and users that the connect hook accepts; `key`, backends with `http_api.key`.
        /// The claim `"tables": {"upload": true}` of a connection token, or that field in the result of the connect hook,
        /// grants the right in every case; `false` takes it away. `auto` is `anyone` while no key is configured, and `token`
        /// from then on.
        allow_upload: AllowUpload = "auto", ();
        /// The largest file that may be uploaded, as it is received. Its text, unpacked and in UTF-8, may be four times
        /// as large; while a file that is packed or not in UTF-8 is open, its text counts into `tables.max_total` as well.
        max_size: usize = "1GiB", bytes(1, 1024 * GIB);
        /// How many times as large as it is received a packed file may be, unpacked. The first 16 MiB of text are free.
        max_unpack_ratio: usize = "100", count(1, 1_000_000);
        /// The slowest that a file may be uploaded and a view downloaded while others wait for a place, in bytes per
        /// second: of those that are slower, the slowest one is ended. With 0 only those that stand still are.
        min_data_rate: usize = "8192", count(0, 1_000_000_000);
        /// How long nothing of a file may come while it is being uploaded, before the upload is given up: meanwhile
        /// nobody else uploads to its table.
        upload_timeout: Duration = "60s", millis(SECOND, HOUR);
        /// How long a table is kept that nobody looks at.
        keep: Duration = "24h", millis(SECOND, 366 * 24 * HOUR);
        /// How much the files of all tables may take together, with what packed files unpack to while they are open, and with
        /// removed files that are still read. For more, tables that nobody looks at are removed, the
        /// one that was used longest ago first; when all are in use, uploads are refused.
        max_total: usize = "10GiB", bytes(1, 1024 * 1024 * GIB);
        /// How much the files of all tables may take that one user has uploaded, on this node. For more, that user's own tables
        /// that nobody looks at are removed; then uploads are refused. 0 is half of `tables.max_total`.
        user_max_total: usize = "0", bytes(0, 1024 * 1024 * GIB);
        /// The same for uploads without a user, by the client's address (of IPv6, its /64 network). 0 is half of
        /// `tables.max_total`, and no limit for this machine's own loopback addresses.
        address_max_total: usize = "0", bytes(0, 1024 * 1024 * GIB);
        /// How many files one user may upload at once. All together may be 64.
        user_upload_limit: usize = "16", count(1, 64);
        /// The same for uploads without a user, by the client's address. 0 is 16, and no limit for this machine's own
        /// loopback addresses.
        address_upload_limit: usize = "0", count(0, 64);
        /// Whether downloads of views put an apostrophe before cells that a spreadsheet would take for formulas: those that
        /// begin with `=`, `+`, `-`, `@`, a tab or a carriage return. Numbers (`-5`, `+3.2`) stay as they are, and so does the
        /// download of the file as it was uploaded.
        disarm_formulas: bool = "true", ();
        /// Where tables are kept: a folder, or `s3://BUCKET/PREFIX` (see `tables.s3`). Several nodes that use the same
        /// Redis may share either. Without it, the folder `tables` in `data_dir`; without that too, a temporary one
        /// that goes with the server. With a bucket, copies of the tables that are looked at lie in `tables.cache` in
        /// `data_dir` (without that, in a temporary folder), and `tables.max_total` holds for the copies of each node
        /// and for the bucket.
        store: Option<TablesStore> = "", ();
    }
    groups {
        /// The bucket that `tables.store` names, in S3 or a store that speaks its protocol and keeps to `If-Match` and
        /// `If-None-Match` of writes. What is not given here is taken from the usual variables (`AWS_ACCESS_KEY_ID`,
        /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …), and credentials else
        /// from the machine's or the container's role.
        s3: TablesS3Options;
    }
}

group! {
    /// The bucket that `tables.store` names, in S3 or a store that speaks its protocol and keeps to `If-Match` and
    /// `If-None-Match` of writes. What is not given here is taken from the usual variables (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …), and credentials else from
    /// the machine's or the container's role.
    pub struct TablesS3Options {
        /// Where the store answers, when it is not Amazon's: `https://minio.example.com:9000`.
        endpoint: Option<HttpUrl> = "", "https://minio.example.com:9000";
        /// The bucket's region; without it and without a variable, `us-east-1`.
        region: String = "", Longest(64);
        /// Whether the store may be spoken to over plain HTTP, where everybody on the way reads and changes tables.
        allow_http: bool = "false", ();
        /// Whether the bucket's name stands in the host's name (`https://BUCKET.HOST/…`) in place of the path
        /// (`https://HOST/BUCKET/…`). An `endpoint` has the name in it then.
        virtual_hosted_style: bool = "false", ();
        /// Whose key requests are signed with; with `tables.s3.secret_access_key`.
        access_key_id: String = "", Longest(1024);
        /// The key that requests are signed with; with `tables.s3.access_key_id`.
        secret_access_key: Secret = "", ();
        /// How long the store may take until it answers one request, with the part of a file in it (8 MiB, more for
        /// files above 70 GiB), and how long an answer may pause. What does not change when it is done twice is then
        /// tried again, three times at most and for no longer than this time.
        timeout: Duration = "20s", millis(100, HOUR);
    }
}

group! {
    /// How `/ready` decides: a message of the server's own travels through the broker, again and again.
    pub struct ReadyOptions {
        /// How often such a canary is published; shorter than `ready.canary_limit`, and half of that when only
        /// the limit is given and is too short.
        canary_interval: Duration = "1s", millis(10, HOUR);
        /// How long ago the last canary may have come back before `/ready` answers 503.
        canary_limit: Duration = "3s", millis(20, HOUR);
    }
}

group! {
    /// How the server stops when it is told to (`SIGTERM`, `SIGINT`).
    pub struct ShutdownOptions {
        /// How long stopping may take altogether. After it the process ends, whatever is under way, with exit code 1 and
        /// a log line that says what that was.
        timeout: Duration = "10s", millis(10, HOUR);
        /// How long everything is still served, with `/ready` answering 503, before clients are asked to reconnect: the
        /// time a balancer takes to notice. Less than `shutdown.timeout`. A few seconds are good behind a balancer.
        lame_duck: Duration = "0s", millis(0, HOUR);
        /// Over how long clients are asked to reconnect, evenly, so that they do not all come back at once. Together with
        /// `shutdown.lame_duck` at most `shutdown.timeout`; when it is not given and does not fit, half of what is left.
        drain: Duration = "5s", millis(0, HOUR);
    }
}
