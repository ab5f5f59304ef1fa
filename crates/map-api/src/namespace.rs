//! The options of a namespace of maps, from the configuration.

use std::time::Duration;

use tidings_config::{ChannelOptions, ClientKey, MapMode, MemoryOptions, SubscriptionType};
use tidings_hub::{MapClientKey, MapKind, MapNamespace, NamespaceOptions, PresenceMaps, SlowConsumerPolicy};
use tidings_map_state::MapOptions;

/// The size and the TTL of the history that subscriptions of a channel use: those of the stream of a map.
pub fn history_bounds(from: &ChannelOptions) -> (usize, Duration) {
    match from.subscription_type {
        SubscriptionType::Stream | SubscriptionType::SharedPoll => (from.history_size, from.history_ttl),
        SubscriptionType::Map | SubscriptionType::MapClients | SubscriptionType::MapUsers => {
            (from.map.stream_size, from.map.stream_ttl)
        }
    }
}

/// Adds the options of a map to those of its namespace, if it is one, and the maps of its presence. Subscribers that lag behind are disconnected, because
/// a state that lacks changes is wrong.
pub fn apply(from: &ChannelOptions, memory: &MemoryOptions, options: &mut NamespaceOptions) {
    let prefix = |prefix: &str| (!prefix.is_empty()).then(|| Box::<str>::from(prefix));
    let maps = PresenceMaps {
        clients: prefix(&from.map_clients_presence_channel_prefix),
        users: prefix(&from.map_users_presence_channel_prefix),
    };
    options.presence_maps = Some(Box::new(maps)).filter(|maps| **maps != PresenceMaps::default());
    let kind = match from.subscription_type {
        SubscriptionType::Stream | SubscriptionType::SharedPoll => return,
        SubscriptionType::Map => MapKind::Keys,
        SubscriptionType::MapClients => MapKind::Clients,
        SubscriptionType::MapUsers => MapKind::Users,
    };
    let map = &from.map;
    options.slow_consumer = SlowConsumerPolicy::Cut;
    options.map = Some(Box::new(MapNamespace {
        kind,
        options: MapOptions {
            ordered: map.ordered,
            key_ttl: (map.mode != MapMode::Persistent).then_some(map.key_ttl),
            keys: map.max_keys,
            bytes: memory.map_max_channel,
            stream_size: map.stream_size,
            stream_ttl: map.stream_ttl,
            meta_ttl: map.meta_ttl,
        },
        recovers: map.mode != MapMode::Ephemeral,
        client_key: match map.client_key {
            ClientKey::Given => MapClientKey::Given,
            ClientKey::ClientId => MapClientKey::ClientId,
            ClientKey::UserId => MapClientKey::UserId,
        },
        remove_client_on_unsubscribe: map.remove_client_on_unsubscribe,
        page_sizes: [map.default_page_size, map.min_page_size, map.max_page_size],
        allow_publish_for_client: map.allow_publish_for_client,
        allow_publish_for_subscriber: map.allow_publish_for_subscriber,
        allow_publish_for_anonymous: map.allow_publish_for_anonymous,
        allow_remove_for_client: map.allow_remove_for_client,
        allow_remove_for_subscriber: map.allow_remove_for_subscriber,
        allow_remove_for_anonymous: map.allow_remove_for_anonymous,
    }));
}
