//! The settings of each part of the server, from its configuration.
//!
//! The parts (sessions, shards, protocols, MQTT) know no configuration, and the configuration knows no part. This crate knows
//! both, and nothing else: it opens no file and starts nothing.
//!
//! Invariants:
//! - The same configuration gives the same settings; what else they depend on is an argument.
//! - Options are taken as the configuration has checked them.

use std::path::PathBuf;

use tidings_channel_rules::RuleTree;
use tidings_hub::{
    Access, HookNames, Namespace, NamespaceOptions, Namespaces, SessionKey, Settings, SlowConsumerPolicy,
    Usage, UsageLimits, UserBoundaries,
};
use tidings_mqtt::Qos;
use tidings_mqtt_state::SessionLimits;
use tidings_pusher_api::{AppTable, with_cache_channels};
use tidings_session::{MqttSettings, ProtocolSettings};
use tidings_shard::{AddressRange, Limits, Process};
use tidings_wire::channel::RESERVED_PREFIX;

use tidings_canary::ProbedFeatures;
use tidings_config::{BrokerUrl, Config, Network};

/// Files that the process needs besides the sockets of shards and HTTP connections, for Redis and logs. These and the
/// HTTP connections get at most a quarter of all files.
const SPARE_FILES: u64 = 64;

/// The divisor of `client.queue_max_total` that gives the bytes for responses that are being read from the broker.
const READS_SHARE: usize = 4;

/// `node.name`, or without one the name of the machine and the HTTP port.
pub fn node_name(config: &Config, announcements: &[String]) -> String {
    if !config.node.name.is_empty() {
        return config.node.name.clone();
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let port = announcements.iter().find_map(|line| {
        let url = line.strip_prefix("http http://").or_else(|| line.strip_prefix("http https://"))?;
        url.trim_end_matches('/').rsplit_once(':')?.1.parse::<u16>().ok()
    });
    port.map_or_else(|| host.clone(), |port| format!("{host}_{port}"))
}

/// The settings of sessions at the start of the node.
pub fn session_settings(config: &Config, node: String, session_key: SessionKey) -> Settings {
    let (address, user) = usage_limits(config);
    let usage = Usage::new(&address, &user);
    settings(config, node, session_key, usage)
}

/// The settings of sessions after a reload: the key of sessions and what addresses and users have used stay.
pub fn reloaded_settings(config: &Config, before: &Settings) -> Settings {
    let (address, user) = usage_limits(config);
    let usage = before.usage.with_limits(&address, &user);
    settings(config, before.node.clone(), before.session_key.clone(), usage)
}

fn settings(config: &Config, node: String, session_key: SessionKey, usage: Usage) -> Settings {
    let client = &config.client;
    let personal = &client.subscribe_to_user_personal_channel;
    Settings {
        default_channel: config.tcp.default_channel.clone(),
        escape: config.tcp.escape,
        channel_limit: client.channel_limit,
        ping_interval: client.ping_interval,
        pong_timeout: client.pong_timeout,
        stale_close_delay: client.stale_close_delay,
        access: Access {
            open: client.insecure || config.is_workbench(),
            keys: config.http_api.all_keys(),
            anonymous_connect: client.allow_anonymous_connect_without_token,
            tokens: client.token.has_key()
                || client.insecure_skip_token_signature_verify
                || client.proxy.connect.enabled,
            reserved: Some(RESERVED_PREFIX.to_owned()),
        },
        namespaces: with_cache_channels(
            config,
            Namespaces::new(
                options(&config.channel.without_namespace, &config.memory),
                config.channel.namespaces.iter().map(|n| Namespace {
                    name: n.name.clone(),
                    options: options(&n.options, &config.memory),
                }),
            )
            .with_boundary(&config.channel.namespace_boundary)
            .with_private_prefix(&config.channel.private_prefix)
            .with_rules(channel_rules(config), config.channel.namespaces.iter().map(|n| &*n.name))
            .with_max_length(config.channel.max_length),
        ),
        namespace_metrics: config.metrics.namespaces,
        recovery_bytes: client.queue_max_size,
        recovery_limit: publication_limit(client.recovery_max_publication_limit),
        history_limit: publication_limit(client.history_max_publication_limit),
        connect_proxy: client.proxy.connect.enabled,
        rpc_ping: config.rpc.ping.enabled.then(|| config.rpc.ping.method.clone()),
        connect_has_time: client.connect_include_server_time,
        refresh_proxy: client.proxy.refresh.enabled,
        private_prefix: config.channel.private_prefix.clone(),
        user_boundaries: UserBoundaries {
            boundary: config.channel.user_boundary.clone(),
            separator: config.channel.user_separator.clone(),
        },
        personal_channel: personal.enabled.then(|| personal.personal_channel_namespace.clone()),
        expired_close_delay: client.expired_close_delay,
        expired_sub_close_delay: client.expired_sub_close_delay,
        usage,
        session_key,
        node,
    }
}

/// The rules by which namespaces claim channels.
fn channel_rules(config: &Config) -> RuleTree {
    // The configuration has checked that there is no conflict.
    RuleTree::new(config.channel.rules()).unwrap_or_default()
}

/// A limit of publications, of which 0 is none. Responses are bounded in bytes too.
fn publication_limit(option: usize) -> usize {
    // One more must be representable as a number of Redis.
    if option == 0 { i32::MAX as usize } else { option }
}

/// Sets the limits of connections that all shards share.
pub fn configure_process(process: &Process, config: &Config) {
    let address = &config.limits.address;
    let proxies = config.trusted_proxies.iter().filter_map(address_range).collect();
    process.connection_rate.set(config.client.connection_rate_limit);
    process.addresses.set(address.connections, address.connection_rate, proxies);
}

/// The settings of the protocols, for each of `shards`.
pub fn protocols(config: &Config, shards: usize, pusher: &AppTable) -> ProtocolSettings {
    ProtocolSettings {
        auto_subscribe: config.tcp.auto_subscribe.clone(),
        first_byte_wait: config.tcp.first_byte_wait,
        echo: config.tcp.echo,
        max_line: config.tcp.max_line,
        max_message: config.websocket.message_size_limit,
        input_limit: config.client.queue_max_total / shards.max(1),
        mqtt: mqtt(config),
        pusher_apps: pusher.by_number(),
    }
}

/// Whether retained messages of MQTT are kept.
pub fn retains(config: &Config) -> bool {
    config.mqtt.enabled && config.mqtt.retain_limit > 0
}

/// Whether this server stores the sessions of MQTT itself.
fn keeps_sessions(config: &Config) -> bool {
    config.mqtt.enabled && config.broker == BrokerUrl::Memory
}

/// Whether the broker stores the wills and the sessions of MQTT.
pub fn shares_state(config: &Config) -> bool {
    config.mqtt.enabled && config.broker != BrokerUrl::Memory
}

/// The folder of the files of MQTT's state; `None` if it is in memory alone.
pub fn mqtt_folder(config: &Config) -> Option<PathBuf> {
    let has_files = keeps_sessions(config) && config.mqtt.persistence;
    config.data_dir.folder().filter(|_| has_files).map(|folder| folder.join("mqtt"))
}

/// The bounds of sessions of MQTT.
pub fn session_limits(config: &Config) -> SessionLimits {
    SessionLimits {
        sessions: config.mqtt.sessions_limit,
        queue_bytes: config.mqtt.session_queue_size,
        total_bytes: config.mqtt.sessions_max_bytes,
        default_qos: default_qos(config),
    }
}

/// The quality of service of publications of other protocols.
fn default_qos(config: &Config) -> Qos {
    u8::try_from(config.mqtt.default_qos).ok().and_then(Qos::from_number).unwrap_or_default()
}

/// The settings of MQTT; `None` where it is not served.
fn mqtt(config: &Config) -> Option<MqttSettings> {
    let options = &config.mqtt;
    // The table of options limits each to a number of 16 bits.
    let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    options.enabled.then(|| MqttSettings {
        max_packet: options.max_packet_size,
        receive_maximum: small(options.receive_maximum),
        max_in_flight: small(options.max_inflight),
        queue_bytes: options.session_queue_size,
        topic_alias_maximum: small(options.topic_alias_maximum),
        max_keep_alive: small(options.max_keep_alive),
        session_expiry_max: u32::try_from(options.session_expiry_max.as_secs()).unwrap_or(u32::MAX),
        has_files: mqtt_folder(config).is_some(),
        has_shared_wills: shares_state(config),
        has_shared_sessions: shares_state(config) && !options.session_expiry_max.is_zero(),
        has_shared_groups: shares_state(config),
        retain_available: retains(config),
        shared_available: true,
        default_qos: default_qos(config),
    })
}

/// The addresses of a range in CIDR notation; always `Some`, because the configuration has checked the prefix.
fn address_range(network: &Network) -> Option<AddressRange> {
    AddressRange::new(network.address(), network.prefix())
}

/// The limits of each address and of each user.
fn usage_limits(config: &Config) -> (UsageLimits, UsageLimits) {
    let (address, user) = (&config.limits.address, &config.limits.user);
    // Two options limit the connections of a user; the lower one applies.
    let other = config.client.user_connection_limit;
    let is_other = other > 0 && (user.connections == 0 || other < user.connections);
    // The shards count the connections of an address.
    let by_address = UsageLimits {
        commands: address.commands,
        publications: address.publications,
        bytes: address.bytes,
        ..UsageLimits::default()
    };
    let by_user = UsageLimits {
        commands: user.commands,
        publications: user.publications,
        bytes: user.bytes,
        connection_rate: user.connection_rate,
        connections: if is_other { other } else { user.connections },
        connections_option: if is_other { "client.user_connection_limit" } else { "" },
    };
    (by_address, by_user)
}

/// A digest of the options of channels. Nodes of one version with the same options have the same digest.
pub fn channel_options_digest(settings: &Settings) -> String {
    // No option of channels is a secret.
    let mut options: Vec<_> =
        settings.namespaces.all().map(|(name, options)| format!("{name}={options:?}\n")).collect();
    options.extend(settings.namespaces.rules().map(|(name, rule)| format!("{name} {rule}\n")));
    options.sort_unstable();
    options.push(settings.private_prefix.clone());
    options.push(format!("{:?} {:?}", settings.namespaces.boundary(), settings.user_boundaries));
    let digest = ring::digest::digest(&ring::digest::SHA256, options.concat().as_bytes());
    digest.as_ref()[..8].iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// The features of the broker that the configuration uses.
pub fn probed_features(config: &Config) -> ProbedFeatures {
    let named = config.channel.namespaces.iter().map(|namespace| &namespace.options);
    let all = named.chain([&config.channel.without_namespace]);
    let all: Vec<_> = all.map(|from| options(from, &config.memory)).collect();
    ProbedFeatures {
        history: all.iter().any(NamespaceOptions::has_history),
        presence: all.iter().any(|options| options.presence),
    }
}

/// The options of a namespace.
pub fn options(
    from: &tidings_config::ChannelOptions,
    memory: &tidings_config::MemoryOptions,
) -> NamespaceOptions {
    let (history_size, history_ttl) = tidings_map_api::history_bounds(from);
    let mut options = NamespaceOptions {
        allow_subscribe_for_client: from.allow_subscribe_for_client,
        allow_subscribe_for_anonymous: from.allow_subscribe_for_anonymous,
        allow_publish_for_client: from.allow_publish_for_client,
        allow_publish_for_subscriber: from.allow_publish_for_subscriber,
        allow_publish_for_anonymous: from.allow_publish_for_anonymous,
        publication_data_format: from.publication_data_format,
        slow_consumer: match from.slow_consumer {
            tidings_config::SlowConsumer::Auto if from.history_size > 0 && !from.history_ttl.is_zero() => {
                SlowConsumerPolicy::Cut
            }
            tidings_config::SlowConsumer::Auto => SlowConsumerPolicy::DropOldest,
            tidings_config::SlowConsumer::Cut => SlowConsumerPolicy::Cut,
            tidings_config::SlowConsumer::Latest => SlowConsumerPolicy::Latest,
            tidings_config::SlowConsumer::DropOldest => SlowConsumerPolicy::DropOldest,
        },
        history_size,
        history_ttl,
        history_meta_ttl: from.history_meta_ttl,
        allow_recovery: from.allow_recovery,
        allow_positioning: from.allow_positioning,
        force_recovery: from.force_recovery,
        force_recovery_mode: from.force_recovery_mode,
        force_positioning: from.force_positioning,
        presence: from.presence,
        join_leave: from.join_leave,
        force_push_join_leave: from.force_push_join_leave,
        allow_history_for_subscriber: from.allow_history_for_subscriber,
        allow_history_for_client: from.allow_history_for_client,
        allow_history_for_anonymous: from.allow_history_for_anonymous,
        allow_presence_for_subscriber: from.allow_presence_for_subscriber,
        allow_presence_for_client: from.allow_presence_for_client,
        allow_presence_for_anonymous: from.allow_presence_for_anonymous,
        allow_user_limited_channels: from.allow_user_limited_channels,
        user_variable: (!from.user_variable.is_empty()).then(|| from.user_variable.as_str().into()),
        channel_regex: from.channel_regex.clone(),
        allow_fossil_delta: from.allowed_delta_types.contains(&tidings_config::DeltaType::Fossil),
        delta_publish: from.delta_publish,
        allow_tags_filter: from.allow_tags_filter,
        tags_filter_limit: from.tags_filter_limit,
        subscribe_proxy: from.subscribe_proxy_enabled,
        publish_proxy: from.publish_proxy_enabled,
        sub_refresh_proxy: from.sub_refresh_proxy_enabled,
        subscribe_stream_proxy: from.subscribe_stream_proxy_enabled,
        subscribe_stream_bidirectional: from.subscribe_stream_proxy_enabled
            && from.subscribe_stream_bidirectional,
        hooks: HookNames {
            subscribe: hook_name(&from.subscribe_proxy_name),
            publish: hook_name(&from.publish_proxy_name),
            sub_refresh: hook_name(&from.sub_refresh_proxy_name),
            subscribe_stream: hook_name(&from.subscribe_stream_proxy_name),
        },
        map: None,
        shared_poll: None,
        presence_maps: None,
    };
    tidings_map_api::apply(from, memory, &mut options);
    tidings_shared_poll::apply(from, &mut options);
    options
}

fn hook_name(name: &str) -> Option<String> {
    (name != tidings_config::DEFAULT_PROXY).then(|| name.to_owned())
}

/// The limits of a shard. Raises the process's limit of open files to its hard limit.
pub fn shard_limits(config: &Config, shards: usize) -> Limits {
    let client = &config.client;
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let spare = SPARE_FILES + (config.http.connection_limit + tidings_http::RESERVE) as u64;
    let possible = usize::try_from(files - spare.min(files / 4)).unwrap_or(usize::MAX).max(1);
    let connections = match client.connection_limit {
        0 => possible,
        limit => {
            if limit > possible {
                tracing::warn!(limit, possible, "client.connection_limit exceeds the limit of open files");
            }
            limit.min(possible)
        }
    };
    Limits {
        queue: client.queue_max_size,
        queues: client.queue_max_total,
        connections,
        mailbox: client.queue_max_total / shards.max(1),
        reads: client.queue_max_total / READS_SHARE / shards.max(1),
        close_delay: client.slow_close_delay,
        // The option is checked to be 1 to 9.
        compression_level: config.websocket.compression_level.try_into().unwrap_or(1),
        compression_min_size: config.websocket.compression_min_size,
        move_age: config.cluster.rebalance.min_connection_age,
    }
}

/// The number of shards to start, of which `max` are possible.
pub fn shard_count(config: &Config, max: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match config.shards {
        0 => cores.min(max),
        count => count,
    }
}
