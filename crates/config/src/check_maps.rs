//! Rules of the options of maps.

use std::time::Duration;

use super::check::of_channels;
use super::error::ConfigError;
use super::given::GivenOptions;
use super::options::{ChannelOptions, Config};
use super::value::{ClientKey, MapMode, RecoveryMode, SlowConsumer, SubscriptionType};

/// An option, whether it is set, and its counterpart in a map.
type StreamOption = (&'static str, fn(&ChannelOptions) -> bool, &'static str);

/// Options that have no effect in a map.
const STREAM_OPTIONS: [StreamOption; 6] = [
    ("history_size", |options| options.history_size > 0, "map.stream_size"),
    ("history_ttl", |options| !options.history_ttl.is_zero(), "map.stream_ttl"),
    ("force_recovery", |options| options.force_recovery, "map.mode"),
    ("force_recovery_mode", |options| options.force_recovery_mode != RecoveryMode::Stream, "map.mode"),
    ("force_positioning", |options| options.force_positioning, "map.mode"),
    ("publish_proxy_enabled", |options| options.publish_proxy_enabled, "map.allow_publish_for_client"),
];

/// The shortest `map.key_ttl` of presence, whose keys are renewed every 25 seconds.
const PRESENCE_TTL: Duration = Duration::from_secs(50);

/// Rejects maps where they are not available, and options without effect.
pub(super) fn check(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    prefixes(config, given, errors);
    for (path, options) in of_channels(&config.channel) {
        if matches!(options.subscription_type, SubscriptionType::Stream | SubscriptionType::SharedPoll) {
            continue;
        }
        let mut reject = |option: &str, what: String| {
            errors.push(given.error(&format!("{path}.{option}"), what));
        };
        if path == "channel.without_namespace" {
            let what = "a map needs a namespace: set it in one of channel.namespaces";
            reject("subscription_type", what.to_owned());
        }
        let map = &options.map;
        if map.mode == MapMode::Persistent && given.contains(&format!("{path}.map.key_ttl")) {
            reject("map.key_ttl", "has no effect in a persistent map, whose keys last".to_owned());
        }
        if map.meta_ttl < map.stream_ttl {
            reject("map.meta_ttl", format!("{path}.map.meta_ttl must be at least map.stream_ttl"));
        }
        if map.min_page_size > map.max_page_size {
            reject(
                "map.min_page_size",
                format!("{path}.map.min_page_size must be at most map.max_page_size"),
            );
        }
        if map.default_page_size > map.max_page_size {
            let what = format!("{path}.map.default_page_size must be at most map.max_page_size");
            reject("map.default_page_size", what);
        }
        if options.subscription_type != SubscriptionType::Map {
            if map.mode == MapMode::Persistent {
                let what =
                    "the keys of presence end, so persistent is not available; use recoverable or ephemeral";
                reject("map.mode", what.to_owned());
            } else if map.key_ttl < PRESENCE_TTL {
                let what = "must be at least 50s for presence, whose keys are renewed every 25s";
                reject("map.key_ttl", what.to_owned());
            }
            let changes_by_clients = [
                ("map.client_key", map.client_key != ClientKey::Given),
                ("map.remove_client_on_unsubscribe", map.remove_client_on_unsubscribe),
                ("map.allow_publish_for_client", map.allow_publish_for_client),
                ("map.allow_publish_for_subscriber", map.allow_publish_for_subscriber),
                ("map.allow_publish_for_anonymous", map.allow_publish_for_anonymous),
                ("map.allow_remove_for_client", map.allow_remove_for_client),
                ("map.allow_remove_for_subscriber", map.allow_remove_for_subscriber),
                ("map.allow_remove_for_anonymous", map.allow_remove_for_anonymous),
            ];
            for (option, is_set) in changes_by_clients {
                if is_set {
                    reject(option, "has no effect: the server maintains the keys of presence".to_owned());
                }
            }
        }
        for (option, has, instead) in STREAM_OPTIONS {
            if has(options) {
                reject(option, format!("has no effect in a map; {instead} has its place"));
            }
        }
        if matches!(options.slow_consumer, SlowConsumer::Latest | SlowConsumer::DropOldest) {
            let what = "a subscriber of a map that lacks changes would have a wrong state; use auto or cut";
            reject("slow_consumer", what.to_owned());
        }
    }
}

/// Rejects maps of presence without a namespace of their kind, and those of maps of presence.
fn prefixes(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    for (path, options) in of_channels(&config.channel) {
        for (option, prefix, wanted, name) in [
            (
                "map_clients_presence_channel_prefix",
                &options.map_clients_presence_channel_prefix,
                SubscriptionType::MapClients,
                "map_clients",
            ),
            (
                "map_users_presence_channel_prefix",
                &options.map_users_presence_channel_prefix,
                SubscriptionType::MapUsers,
                "map_users",
            ),
        ] {
            if prefix.is_empty() {
                continue;
            }
            let mut reject = |what: String| errors.push(given.error(&format!("{path}.{option}"), what));
            if matches!(options.subscription_type, SubscriptionType::MapClients | SubscriptionType::MapUsers)
            {
                reject("has no effect: the presence of a channel with presence is not recorded".to_owned());
                continue;
            }
            let named = prefix.split_once(':').map(|(namespace, _)| namespace);
            let target = config.channel.namespaces.iter().find(|other| Some(&*other.name) == named);
            if target.is_none_or(|other| other.options.subscription_type != wanted) {
                reject(format!(
                    "{prefix:?} must begin with the name of a namespace with subscription_type = \"{name}\", and a colon"
                ));
            }
        }
    }
}
