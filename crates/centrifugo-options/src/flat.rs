//! The flat option names of Centrifugo 5, and their paths in version 6.

/// Whether the value of a version 5 name, or of an option of a named hook, is a table that is one option and not a group.
pub fn takes_table(name: &str) -> bool {
    name == "proxy_static_http_headers"
        || name.starts_with("proxies.") && name.ends_with(".http.static_headers")
}

/// Paths of Centrifugo 6 for a name of Centrifugo 5; several if one option became several.
pub fn paths(name: &str) -> Option<Vec<String>> {
    if let Some((_, paths)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(paths.split(' ').map(str::to_owned).collect());
    }
    if CHANNEL.contains(&name) {
        return Some(vec![format!("channel.without_namespace.{}", channel_option(name))]);
    }
    let (_, group, begin) = PREFIXES.iter().find(|(prefix, ..)| name.starts_with(prefix))?;
    let rest = name.get(*begin..).filter(|rest| !rest.is_empty())?;
    let rest = match (*group, rest) {
        (_, "tls") => "tls.enabled",
        (_, "disable") => "disabled",
        ("http_server.tls", rest) => return Some(vec![format!("http_server.tls.{}", tls_option(rest))]),
        (_, rest) => rest,
    };
    match rest.strip_prefix("tls_").or_else(|| rest.strip_prefix("sentinel_tls_")) {
        Some(option) => {
            let table = &rest[..rest.len() - option.len() - 1];
            Some(vec![format!("{group}.{table}.{}", tls_option(option))])
        }
        None if rest == "sentinel_tls" => Some(vec![format!("{group}.sentinel_tls.enabled")]),
        None => Some(vec![format!("{group}.{rest}")]),
    }
}

/// The Centrifugo 6 name of a channel option of Centrifugo 5.
pub fn channel_option(name: &str) -> &str {
    match name {
        "proxy_subscribe" => "subscribe_proxy_enabled",
        "proxy_publish" => "publish_proxy_enabled",
        "proxy_sub_refresh" => "sub_refresh_proxy_enabled",
        "proxy_subscribe_stream" => "subscribe_stream_proxy_enabled",
        "proxy_subscribe_stream_bidirectional" => "subscribe_stream_bidirectional",
        name => name,
    }
}

/// The Centrifugo 6 name of a TLS option.
fn tls_option(name: &str) -> &str {
    match name {
        "cert" => "cert_pem_file",
        "key" => "key_pem_file",
        "client_ca" => "client_ca_pem_file",
        "root_ca" => "server_ca_pem_file",
        "root_ca_pem" => "server_ca_pem",
        name => name,
    }
}

/// Channel options, which are at the top level for channels without a namespace.
const CHANNEL: &[&str] = &[
    "allow_history_for_anonymous",
    "allow_history_for_client",
    "allow_history_for_subscriber",
    "allow_positioning",
    "allow_presence_for_anonymous",
    "allow_presence_for_client",
    "allow_presence_for_subscriber",
    "allow_publish_for_anonymous",
    "allow_publish_for_client",
    "allow_publish_for_subscriber",
    "allow_recovery",
    "allow_subscribe_for_anonymous",
    "allow_subscribe_for_client",
    "allow_user_limited_channels",
    "allowed_delta_types",
    "channel_regex",
    "delta_publish",
    "force_positioning",
    "force_push_join_leave",
    "force_recovery",
    "force_recovery_mode",
    "history_meta_ttl",
    "history_size",
    "history_ttl",
    "join_leave",
    "presence",
    "proxy_publish",
    "proxy_sub_refresh",
    "proxy_subscribe",
    "proxy_subscribe_stream",
    "proxy_subscribe_stream_bidirectional",
    "publish_proxy_name",
    "sub_refresh_proxy_name",
    "subscribe_proxy_name",
    "subscribe_stream_proxy_name",
];

/// Names with paths that do not follow from a prefix.
const NAMES: &[(&str, &str)] = &[
    ("address", "http_server.address"),
    ("admin", "admin.enabled"),
    ("allow_anonymous_connect_without_token", "client.allow_anonymous_connect_without_token"),
    ("allowed_origins", "client.allowed_origins"),
    ("api_disable", "http_api.disabled"),
    ("connect_proxy_name", "client.connect_proxy_name"),
    ("debug", "debug.enabled"),
    ("disallow_anonymous_connection_tokens", "client.disallow_anonymous_connection_tokens"),
    ("engine", "engine.type"),
    ("global_history_meta_ttl", "channel.history_meta_ttl"),
    ("global_presence_ttl", "engine.redis.presence_ttl"),
    ("graphite", "graphite.enabled"),
    ("grpc_api", "grpc_api.enabled"),
    ("health", "health.enabled"),
    ("http3", "http_server.http3.enabled"),
    ("http_stream", "http_stream.enabled"),
    ("internal_address", "http_server.internal_address"),
    ("internal_port", "http_server.internal_port"),
    ("log_file", "log.file"),
    ("name", "node.name"),
    ("namespaces", "channel.namespaces"),
    ("node_info_metrics_aggregate_interval", "node.info_metrics_aggregate_interval"),
    ("opentelemetry", "opentelemetry.enabled"),
    ("opentelemetry_api", "opentelemetry.api"),
    ("ping_interval", "client.ping_interval"),
    ("pong_timeout", "client.pong_timeout"),
    ("port", "http_server.port"),
    ("prometheus", "prometheus.enabled"),
    (
        "proxy_binary_encoding",
        "client.proxy.connect.binary_encoding channel.proxy.subscribe.binary_encoding channel.proxy.publish.binary_encoding rpc.proxy.binary_encoding client.proxy.refresh.binary_encoding channel.proxy.sub_refresh.binary_encoding",
    ),
    ("proxy_connect_endpoint", "client.proxy.connect.endpoint"),
    ("proxy_connect_timeout", "client.proxy.connect.timeout"),
    ("proxy_grpc_cert_file", "client.proxy.connect.grpc.tls"),
    ("proxy_grpc_compression", "client.proxy.connect.grpc.compression"),
    ("proxy_grpc_credentials_key", "client.proxy.connect.grpc.credentials_key"),
    ("proxy_grpc_credentials_value", "client.proxy.connect.grpc.credentials_value"),
    ("proxy_grpc_metadata", "client.proxy.connect.grpc_metadata"),
    (
        "proxy_http_headers",
        "client.proxy.connect.http_headers channel.proxy.subscribe.http_headers channel.proxy.publish.http_headers rpc.proxy.http_headers client.proxy.refresh.http_headers channel.proxy.sub_refresh.http_headers",
    ),
    (
        "proxy_include_connection_meta",
        "channel.proxy.subscribe.include_connection_meta channel.proxy.publish.include_connection_meta rpc.proxy.include_connection_meta client.proxy.refresh.include_connection_meta channel.proxy.sub_refresh.include_connection_meta",
    ),
    ("proxy_publish_endpoint", "channel.proxy.publish.endpoint"),
    ("proxy_publish_timeout", "channel.proxy.publish.timeout"),
    ("proxy_refresh_endpoint", "client.proxy.refresh.endpoint"),
    ("proxy_refresh_timeout", "client.proxy.refresh.timeout"),
    ("proxy_rpc_endpoint", "rpc.proxy.endpoint"),
    ("proxy_rpc_timeout", "rpc.proxy.timeout"),
    (
        "proxy_static_http_headers",
        "client.proxy.connect.http.static_headers channel.proxy.subscribe.http.static_headers channel.proxy.publish.http.static_headers rpc.proxy.http.static_headers client.proxy.refresh.http.static_headers channel.proxy.sub_refresh.http.static_headers",
    ),
    ("proxy_sub_refresh_endpoint", "channel.proxy.sub_refresh.endpoint"),
    ("proxy_sub_refresh_timeout", "channel.proxy.sub_refresh.timeout"),
    ("proxy_subscribe_endpoint", "channel.proxy.subscribe.endpoint"),
    ("proxy_subscribe_stream_endpoint", "channel.proxy.subscribe_stream.endpoint"),
    ("proxy_subscribe_stream_timeout", "channel.proxy.subscribe_stream.timeout"),
    ("proxy_subscribe_timeout", "channel.proxy.subscribe.timeout"),
    ("refresh_proxy_name", "client.refresh_proxy_name"),
    ("rpc_namespace_boundary", "rpc.namespace_boundary"),
    ("rpc_namespaces", "rpc.namespaces"),
    ("rpc_proxy_name", "rpc.without_namespace.proxy_name"),
    ("separate_subscription_token_config", "client.subscription_token.enabled"),
    ("sse", "sse.enabled"),
    ("swagger", "swagger.enabled"),
    ("tls", "http_server.tls.enabled"),
    ("tls_autocert", "http_server.tls_autocert.enabled"),
    ("tls_external", "http_server.tls_external"),
    ("uni_grpc", "uni_grpc.enabled"),
    ("uni_http_stream", "uni_http_stream.enabled"),
    ("uni_sse", "uni_sse.enabled"),
    ("uni_websocket", "uni_websocket.enabled"),
    ("usage_stats_disable", "usage_stats.disabled"),
    (
        "user_personal_channel_namespace",
        "client.subscribe_to_user_personal_channel.personal_channel_namespace",
    ),
    ("user_personal_single_connection", "client.subscribe_to_user_personal_channel.single_connection"),
    ("user_subscribe_to_personal", "client.subscribe_to_user_personal_channel.enabled"),
    ("webtransport", "webtransport.enabled"),
];

/// Prefixes of names, the tables that they stand for, and the offset of the option's name. Longer ones first.
const PREFIXES: &[(&str, &str, usize)] = &[
    ("admin_", "admin", 6),
    ("api_", "http_api", 4),
    ("channel_", "channel", 8),
    ("client_", "client", 7),
    ("emulation_", "emulation", 10),
    ("graphite_", "graphite", 9),
    ("grpc_api_", "grpc_api", 9),
    ("health_", "health", 7),
    ("http_stream_", "http_stream", 12),
    ("nats_", "broker.nats", 5),
    ("prometheus_", "prometheus", 11),
    ("redis_", "engine.redis", 6),
    ("shutdown_", "shutdown", 9),
    ("sse_", "sse", 4),
    ("subscription_token_", "client.subscription_token", 19),
    ("swagger_", "swagger", 8),
    ("tls_autocert_", "http_server.tls_autocert", 13),
    ("tls_", "http_server.tls", 4),
    ("token_", "client.token", 6),
    ("uni_grpc_", "uni_grpc", 9),
    ("uni_http_stream_", "uni_http_stream", 16),
    ("uni_sse_", "uni_sse", 8),
    ("uni_websocket_", "uni_websocket", 14),
    ("websocket_", "websocket", 10),
    ("webtransport_", "webtransport", 13),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_names_have_paths_in_version_6() {
        for (name, path) in [
            ("token_hmac_secret_key", "client.token.hmac_secret_key"),
            ("subscription_token_issuer", "client.subscription_token.issuer"),
            ("client_insecure", "client.insecure"),
            ("history_size", "channel.without_namespace.history_size"),
            ("proxy_subscribe", "channel.without_namespace.subscribe_proxy_enabled"),
            ("redis_address", "engine.redis.address"),
            ("redis_tls", "engine.redis.tls.enabled"),
            ("redis_tls_cert", "engine.redis.tls.cert_pem_file"),
            ("redis_sentinel_tls_root_ca", "engine.redis.sentinel_tls.server_ca_pem_file"),
            ("redis_sentinel_address", "engine.redis.sentinel_address"),
            ("tls", "http_server.tls.enabled"),
            ("tls_cert", "http_server.tls.cert_pem_file"),
            ("tls_autocert_email", "http_server.tls_autocert.email"),
            ("websocket_disable", "websocket.disabled"),
            ("websocket_compression", "websocket.compression"),
            ("channel_max_length", "channel.max_length"),
            ("api_key", "http_api.key"),
        ] {
            assert_eq!(paths(name), Some(vec![path.to_owned()]), "{name}");
        }
        assert_eq!(paths("proxy_http_headers").map(|paths| paths.len()), Some(6));
        assert_eq!(paths("brokr"), None);
        assert_eq!(paths("tcp"), None);
    }
}
