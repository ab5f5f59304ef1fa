//! Brokers, nodes, the server API, readiness and shutdown.

use std::time::Duration;

use tidings_auth::Secret;

use super::{GIB, HOUR, KIB, MINUTE};
use crate::api_keys::NamedApiKeys;
use crate::group::group;
use crate::proxy::{HttpUrl, StaticHeaders};
use crate::setting::{MaxLength, bytes, count, millis};
use crate::value::{HandlerPath, Ratio};

group! {
    /// The connection to Redis, when `broker` is a Redis URL.
    pub struct RedisOptions {
        /// Prefix of the name of every channel and key in Redis, so that several applications can share one Redis.
        /// Other publishers must use the prefix, too.
        prefix: String = "", MaxLength(128);
        /// Longest time to open a connection to Redis, with TLS and authentication.
        connect_timeout: Duration = "5s", millis(10, MINUTE);
        /// Longest time for a reply of Redis. After it the connection is closed and opened again.
        response_timeout: Duration = "5s", millis(10, MINUTE);
    }
}

group! {
    /// This node among others that share its broker.
    pub struct NodeOptions {
        /// Name of the server in the list of nodes (`info` of the server API). The default is the name of the machine
        /// with the HTTP port.
        name: String = "", MaxLength(128);
    }
}

group! {
    /// The nodes that share a broker.
    pub struct ClusterOptions {
        /// Secret that encrypts and authenticates messages between nodes that share a Redis: at least 16 bytes, the
        /// same on every node. Without it, a key is derived from `http_api.key`, or else from
        /// `client.token.hmac_secret_key`; where other keys are configured and neither of these, the secret is
        /// required.
        secret: Secret = "", ();
    }
    groups {
        /// Moving clients to nodes with fewer connections.
        rebalance: RebalanceOptions;
    }
}

group! {
    /// Rebalancing: after a node has joined or returned, nodes with more connections than the average request clients
    /// to reconnect, so that a balancer that selects the node with the fewest connections sends them to the other
    /// nodes. Only clients that lose no publication are moved: those of the client protocol (not one-way) and of
    /// `/events`, if all of their subscriptions are recoverable.
    pub struct RebalanceOptions {
        /// Whether clients are moved. All nodes should have the same value.
        enabled: bool = "false", ();
        /// Most clients per second that all nodes together move.
        rate: usize = "100", count(1, 1_000_000);
        /// Most clients that this node moves between two changes of the set of nodes. 0 is no limit.
        limit: usize = "100000", count(0, 100_000_000);
        /// Clients are moved when the number of connections of a node differs from the average by more than this, in
        /// percent, and until none differs by more than half of it.
        tolerance: usize = "10", count(1, 100);
        /// Time after a node has joined, left or become ready again before clients are moved.
        settle: Duration = "30s", millis(0, HOUR);
        /// Least age of a connection that is moved: a client is not moved twice within this time, nor moved soon after
        /// a stopping node has requested it to reconnect.
        min_connection_age: Duration = "5m", millis(0, 24 * HOUR);
    }
}

group! {
    /// The server API, for backends.
    pub struct HttpApiOptions {
        /// Key that a backend sends with its requests, with every scope (see `http_api.keys`). On the line and RESP ports
        /// `AUTH` accepts it, too. Once it is set, the options of channels define the permissions of clients.
        key: Secret = "", (), reload;
        /// Whether the server API needs no key. For tests, and behind a proxy that admits backends only.
        insecure: bool = "false", (), reload;
        /// A further path of the server API, besides `/api`, which stays: `POST` to it, or to it with `/METHOD`.
        handler_prefix: HandlerPath = "/api", ();
        /// Longest body of a request in bytes; a longer one is answered with 413.
        max_body: usize = "4194304", bytes(KIB, GIB);
        /// Most commands per second, those of batches counted singly, with bursts of the same number. Requests above it
        /// are answered with 429. 0 is no limit.
        rate_limit: usize = "0", count(0, 10_000_000), reload;
    }
    groups {
        /// Named keys with scopes, besides `http_api.key`.
        keys: NamedApiKeys;
    }
}

group! {
    /// The admin page, `/admin`.
    pub struct AdminOptions {
        /// Whether there is an admin page at all. It is open to every user of this machine while no key and no password
        /// is configured and all ports are local; otherwise it requires `admin.password_hash`, or the API key in each
        /// request. With `internal.listen` it is served there only.
        enabled: bool = "true", ();
        /// Hash of the password of the admin page: the output of `tidings admin hash-password`, a PHC string of Argon2.
        /// Without it there is no login, and requests without the API key get 404.
        password_hash: Secret = "", ();
        /// How long a login to the admin page lasts.
        session_ttl: Duration = "12h", millis(1_000, 720 * HOUR);
    }
}

group! {
    /// The memory broker, where `broker` is `memory`: bounds of its histories. At a bound, histories with a position
    /// only are evicted first, then the oldest publications of the channel that publishes, or, if it has none yet, the
    /// history with the oldest last publication. A client that recovers from an evicted history gets `recovered:
    /// false`.
    pub struct MemoryOptions {
        /// Bound of the history of one channel.
        max_channel: usize = "4MiB", bytes(KIB, 1024 * GIB);
        /// Bound of the histories of all channels of one namespace, so that one namespace does not evict others; at
        /// most `memory.max_total`.
        max_namespace: usize = "96MiB", bytes(KIB, 1024 * GIB);
        /// Bound of all histories, members and stored results together.
        max_total: usize = "128MiB", bytes(KIB, 1024 * GIB);
        /// Bound of the state of one map, and of the stream of its changes; at most `memory.map_max_total`. At the bound a
        /// value that takes more is refused with error 106, and the oldest changes are dropped from the stream. With Redis it
        /// bounds the state alone.
        map_max_channel: usize = "16MiB", bytes(KIB, 1024 * GIB);
        /// Bound of all maps together, besides `memory.max_total`. At the bound a channel drops its stream first, then values
        /// that take more are refused with error 106; no state is evicted. With the memory broker alone.
        map_max_total: usize = "128MiB", bytes(KIB, 1024 * GIB);
    }
}

group! {
    /// The check behind `/ready`: the server publishes a canary message through the broker at an interval.
    pub struct ReadyOptions {
        /// Interval of canaries; shorter than `ready.canary_limit`, and half of that when only the limit is given and
        /// is too short.
        canary_interval: Duration = "1s", millis(10, HOUR);
        /// Longest age of the last received canary. Above it `/ready` answers 503.
        canary_limit: Duration = "3s", millis(20, HOUR);
    }
}

group! {
    /// Metrics, at `/metrics`.
    pub struct MetricsOptions {
        /// Whether counters are kept for each namespace (`tidings_namespace_…`): at most 12 series for each of the at most
        /// 1,000 namespaces, for channels without one, and for patterns.
        namespaces: bool = "true", ();
    }
}

group! {
    /// Traces for OpenTelemetry: of requests to the server API, hooks, the broker and tables.
    pub struct OpenTelemetryOptions {
        /// Base URL of the collector, which receives traces by OTLP over HTTP in JSON at `/v1/traces` below it. Without it
        /// there are no traces.
        endpoint: Option<HttpUrl> = "", COLLECTOR;
        /// Share of the traces that are recorded. It applies to operations without a trace context; a request with the
        /// header `traceparent` is recorded if its caller records the trace.
        sample_ratio: Ratio = "1", ();
        /// Headers of every request to the collector, such as its key.
        headers: StaticHeaders = "", ();
        /// Name of the service in traces.
        service_name: String = "tidings", MaxLength(128);
    }
}

/// An example of a collector's URL, for error messages.
const COLLECTOR: &str = "http://localhost:4318";

group! {
    /// The stop of the server on `SIGTERM` or `SIGINT`.
    pub struct ShutdownOptions {
        /// Longest time of the whole stop. After it the process ends with exit code 1, and a log line names the work
        /// that was in progress.
        timeout: Duration = "10s", millis(10, HOUR);
        /// Time for which the server still serves everything, with `/ready` answering 503, before clients receive a
        /// request to reconnect: the time in which a load balancer notices. Shorter than `shutdown.timeout`. A few
        /// seconds are recommended behind a balancer.
        lame_duck: Duration = "0s", millis(0, HOUR), reload;
        /// Time over which clients receive a request to reconnect, evenly spread, so that they do not reconnect at the
        /// same moment. Together with `shutdown.lame_duck` at most `shutdown.timeout`; when it is not given and does
        /// not fit, half of the remaining time.
        drain: Duration = "5s", millis(0, HOUR), reload;
    }
}
