//! Options of Centrifugo 6 that have another name or no counterpart in tidings, with their defaults.
//!
//! Invariant: options with the same name in tidings are only in the table of options of `config`.

/// The counterpart of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counterpart {
    /// The option of tidings with the same effect.
    Option(&'static str),
    /// The fixed behaviour of tidings, as a sentence.
    Always(&'static str),
    /// The missing feature, as a noun.
    Missing(&'static str),
}

use Counterpart::{Always, Missing, Option as Here};

/// A single option: its path, its default, and its counterpart. An empty default stands for nothing, zero, `false` and
/// empty lists. `channel.without_namespace` also stands for namespaces, and `*` for one part of a path.
pub const OPTIONS: &[(&str, &str, Counterpart)] = &[
    ("admin.password", "", Here("admin.password_hash, the output of `tidings admin hash-password`")),
    ("admin.secret", "", Always("a login has a random secret of its own")),
    ("admin.insecure", "false", Missing("admin page without a login")),
    ("admin.handler_prefix", "", Missing("other path for the admin page")),
    ("admin.web_path", "", Missing("own files for the admin page")),
    ("admin.web_proxy_address", "", Missing("own files for the admin page")),
    ("admin.external", "false", Here("internal.listen, the address of a port for operators")),
    ("opentelemetry.enabled", "false", Here("opentelemetry.endpoint, the URL of the collector")),
    (
        "opentelemetry.api",
        "false",
        Always("requests to the API are always traced with `opentelemetry.endpoint`"),
    ),
    ("opentelemetry.consuming", "false", Missing("consumers")),
    ("client.connect_proxy_name", "", Missing("name for the connect hook")),
    ("client.refresh_proxy_name", "", Missing("name for the refresh hook")),
    (
        "channel.patterns",
        "false",
        Always("a namespace with `pattern` claims channels without a further option"),
    ),
    ("granular_proxy_mode", "", Here("proxies, which subscribe_proxy_name of a namespace selects")),
    ("sockjs", "", Missing("SockJS")),
    (
        "channel.history_meta_ttl",
        "720h",
        Here("channel.without_namespace.history_meta_ttl, and that of each namespace"),
    ),
    (
        "channel.proxy.*.grpc_metadata",
        "",
        Here("channel.proxy.subscribe.http_headers, which are metadata over gRPC"),
    ),
    (
        "channel.proxy.*.grpc.credentials_key",
        "",
        Here("channel.proxy.subscribe.http.static_headers, which are metadata over gRPC"),
    ),
    (
        "channel.proxy.*.grpc.credentials_value",
        "",
        Here("channel.proxy.subscribe.http.static_headers, which are metadata over gRPC"),
    ),
    ("channel.proxy.*.grpc.tls.cert_pem", "", Missing("client certificates for hooks")),
    ("channel.proxy.*.grpc.tls.cert_pem_file", "", Missing("client certificates for hooks")),
    ("channel.proxy.*.grpc.tls.key_pem", "", Missing("client certificates for hooks")),
    ("channel.proxy.*.grpc.tls.key_pem_file", "", Missing("client certificates for hooks")),
    ("channel.proxy.*.grpc.tls.server_name", "", Missing("another name in the certificates of hooks")),
    ("channel.proxy.*.grpc.tls.insecure_skip_verify", "false", Missing("hooks with unverified certificates")),
    (
        "channel.without_namespace.map.external_state",
        "false",
        Missing("maps whose state the application has"),
    ),
    (
        "channel.without_namespace.map.live_transition_max_publication_limit",
        "",
        Always("a client of a map continues from the whole stream"),
    ),
    ("channel.without_namespace.map.publish_proxy_enabled", "false", Missing("hooks for maps")),
    ("channel.without_namespace.map.publish_proxy_name", "default", Missing("hooks for maps")),
    ("channel.without_namespace.map.remove_proxy_enabled", "false", Missing("hooks for maps")),
    ("channel.without_namespace.map.remove_proxy_name", "default", Missing("hooks for maps")),
    (
        "channel.without_namespace.map.subscribe_catch_up_timeout",
        "5s",
        Always("a client of a map continues in one step"),
    ),
    (
        "channel.without_namespace.shared_poll.keep_latest_data",
        "",
        Always("the last value of each tracked key is kept, so that new subscribers get it at once"),
    ),
    (
        "client.allowed_delta_types",
        "",
        Here("channel.without_namespace.allowed_delta_types, and that of each namespace"),
    ),
    ("client.channel_position_check_delay", "40s", Missing("other interval of position checks")),
    ("client.channel_position_max_time_lag", "", Missing("limit of the time lag of positions")),
    ("client.concurrency", "", Missing("other limit of one client's concurrent commands than 1024")),
    ("client.presence_update_interval", "27s", Missing("other interval of presence updates")),
    (
        "client.proxy.*.grpc_metadata",
        "",
        Here("client.proxy.connect.http_headers, which are metadata over gRPC"),
    ),
    (
        "client.proxy.*.grpc.credentials_key",
        "",
        Here("client.proxy.connect.http.static_headers, which are metadata over gRPC"),
    ),
    (
        "client.proxy.*.grpc.credentials_value",
        "",
        Here("client.proxy.connect.http.static_headers, which are metadata over gRPC"),
    ),
    ("client.proxy.*.grpc.tls.cert_pem", "", Missing("client certificates for hooks")),
    ("client.proxy.*.grpc.tls.cert_pem_file", "", Missing("client certificates for hooks")),
    ("client.proxy.*.grpc.tls.key_pem", "", Missing("client certificates for hooks")),
    ("client.proxy.*.grpc.tls.key_pem_file", "", Missing("client certificates for hooks")),
    ("client.proxy.*.grpc.tls.server_name", "", Missing("another name in the certificates of hooks")),
    ("client.proxy.*.grpc.tls.insecure_skip_verify", "false", Missing("hooks with unverified certificates")),
    (
        "client.proxy.connect.include_connection_meta",
        "",
        Missing("connection meta before there is a connection"),
    ),
    ("client.subscribe_to_user_personal_channel.single_connection", "", Here("client.single_connection")),
    ("enable_unreleased_features", "", Missing("unreleased features")),
    ("gomaxprocs", "", Here("shards")),
    (
        "http_api.disabled",
        "",
        Missing("way to disable the API; without http_api.key it cannot be used on a public address"),
    ),
    ("grpc_api.error_mode", "", Missing("other form of API errors")),
    ("http_api.error_mode", "", Missing("other form of API errors")),
    ("http_api.external", "", Missing("separate internal port")),
    ("http_server.address", "", Here("http.listen")),
    ("http_server.internal_address", "", Missing("separate internal port")),
    ("http_server.internal_port", "", Missing("separate internal port")),
    ("http_server.port", "8000", Here("http.listen")),
    ("http_server.tls_external", "", Missing("separate internal port")),
    ("log.file", "", Missing("log file; logs go to standard error")),
    ("node.info_metrics_aggregate_interval", "60s", Missing("other interval of the metrics in info")),
    ("pid_file", "", Missing("PID file")),
    ("rpc.proxy.grpc_metadata", "", Here("rpc.proxy.http_headers, which are metadata over gRPC")),
    (
        "rpc.proxy.grpc.credentials_key",
        "",
        Here("rpc.proxy.http.static_headers, which are metadata over gRPC"),
    ),
    (
        "rpc.proxy.grpc.credentials_value",
        "",
        Here("rpc.proxy.http.static_headers, which are metadata over gRPC"),
    ),
    ("rpc.proxy.grpc.tls.cert_pem", "", Missing("client certificates for hooks")),
    ("rpc.proxy.grpc.tls.cert_pem_file", "", Missing("client certificates for hooks")),
    ("rpc.proxy.grpc.tls.key_pem", "", Missing("client certificates for hooks")),
    ("rpc.proxy.grpc.tls.key_pem_file", "", Missing("client certificates for hooks")),
    ("rpc.proxy.grpc.tls.server_name", "", Missing("another name in the certificates of hooks")),
    ("rpc.proxy.grpc.tls.insecure_skip_verify", "false", Missing("hooks with unverified certificates")),
    ("shutdown.termination_delay", "", Here("shutdown.lame_duck")),
    ("uni_websocket.compression", "", Missing("compression over one-way WebSocket")),
    ("uni_websocket.compression_level", "1", Missing("compression over one-way WebSocket")),
    ("uni_websocket.compression_min_size", "", Missing("compression over one-way WebSocket")),
    ("uni_websocket.join_push_messages", "", Missing("joined pushes")),
    ("uni_websocket.message_size_limit", "65536", Here("websocket.message_size_limit")),
    ("uni_websocket.read_buffer_size", "", Missing("size of buffers per connection")),
    ("uni_websocket.use_write_buffer_pool", "", Missing("size of buffers per connection")),
    ("uni_websocket.write_buffer_size", "", Missing("size of buffers per connection")),
    (
        "uni_websocket.write_timeout",
        "1s",
        Here("client.queue_max_size, which limits the queue of a slow client"),
    ),
    ("websocket.read_buffer_size", "", Missing("size of buffers per connection")),
    ("websocket.use_write_buffer_pool", "", Missing("size of buffers per connection")),
    ("websocket.write_buffer_size", "", Missing("size of buffers per connection")),
    ("websocket.write_timeout", "1s", Here("client.queue_max_size, which limits the queue of a slow client")),
];

/// The condition under which a table of options has an effect in Centrifugo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// With `enabled = true`.
    Enabled,
    /// With a `type` other than `memory`.
    Type,
    /// When any value in it differs from nothing, zero, `false` and empty lists.
    Content,
    /// Never on a server.
    Never,
}

/// A table of options: its path, the condition of its effect, and its counterpart. `*` stands for one part of a path.
pub const BLOCKS: &[(&str, Switch, Counterpart)] = &[
    ("broker", Switch::Enabled, Here("broker, a URL such as redis://127.0.0.1:6379")),
    ("channel.proxy.*.http.tls", Switch::Enabled, Missing("own certificates for hooks")),
    (
        "client.connect_code_to_unidirectional_disconnect",
        Switch::Enabled,
        Missing("translation of connect errors"),
    ),
    ("client.proxy.*.http.tls", Switch::Enabled, Missing("own certificates for hooks")),
    ("debug", Switch::Enabled, Missing("debug endpoints")),
    ("dev", Switch::Enabled, Missing("development page; the page at / shows the activity")),
    ("engine", Switch::Type, Here("broker, a URL such as redis://127.0.0.1:6379")),
    ("graphite", Switch::Enabled, Missing("export to Graphite; /metrics has the metrics for Prometheus")),
    ("health", Switch::Enabled, Always("/health and /ready are always served")),
    ("http_server.http3", Switch::Enabled, Missing("HTTP/3")),
    ("http_server.internal_tls", Switch::Enabled, Missing("separate internal port")),
    ("http_server.tls", Switch::Enabled, Here("tls")),
    (
        "http_server.tls_autocert",
        Switch::Enabled,
        Missing("automatic certificates; tls.reload_interval loads renewed ones"),
    ),
    ("init", Switch::Enabled, Missing("init endpoint")),
    (
        "map_broker",
        Switch::Type,
        Missing("map subscriptions with a broker of their own; maps are in the memory broker"),
    ),
    ("presence_manager", Switch::Enabled, Here("broker, which also stores presence")),
    ("prometheus", Switch::Enabled, Always("/metrics is always served")),
    ("rpc.proxy.http.tls", Switch::Enabled, Missing("own certificates for hooks")),
    ("shared_poll.notification", Switch::Enabled, Missing("notifications of shared polls by Redis or NATS")),
    ("shared_poll_relay", Switch::Enabled, Missing("relay of shared polls; each node requests the values")),
    ("swagger", Switch::Enabled, Always("the description of the API is always served, at /api/openapi.json")),
    (
        "uni_http_stream.connect_code_to_http_response",
        Switch::Enabled,
        Missing("translation of connect errors"),
    ),
    ("uni_sse.connect_code_to_http_response", Switch::Enabled, Missing("translation of connect errors")),
    ("unified_proxy", Switch::Content, Here("client.proxy, channel.proxy and rpc.proxy")),
    ("usage_stats", Switch::Never, Missing("usage statistics")),
    ("webtransport", Switch::Enabled, Missing("WebTransport")),
];

/// Options of tidings for which Centrifugo's files contain a default that tidings does not accept, with that default.
pub const ABSENT_DEFAULTS: &[(&str, &str)] = &[
    ("channel.without_namespace.force_recovery_mode", ""),
    ("channel.without_namespace.history_meta_ttl", ""),
    ("channel.without_namespace.publication_data_format", ""),
    ("channel.without_namespace.shared_poll.mode", ""),
    ("channel.without_namespace.shared_poll.proxy_name", ""),
    ("client.token.hmac_previous_secret_key_valid_until", ""),
    ("grpc_api.address", ""),
    ("uni_grpc.address", ""),
];

/// Whether `key` matches `pattern`, in which `*` stands for one part. `channel.without_namespace` matches every
/// namespace.
pub fn matches(pattern: &str, key: &str) -> bool {
    let mut parts = key.split('.');
    let same = pattern.split('.').all(|part| parts.next().is_some_and(|found| part == "*" || part == found));
    same && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_one_part() {
        assert!(matches("a.*.c", "a.b.c"));
        assert!(!matches("a.*.c", "a.b.c.d"));
        assert!(!matches("a.*.c", "a.c"));
    }
}
