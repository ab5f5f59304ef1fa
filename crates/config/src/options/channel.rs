//! Permissions of clients in a channel, and the behaviour of channels.

use std::time::Duration;

use tidings_channel_rules::{ChannelFilter, ChannelPattern};
use tidings_pattern::Pattern;
use tidings_wire::body::DataFormat;

use super::HOUR;
use super::map::MapOptions;
use super::shared_poll::SharedPollOptions;
use crate::group::group;
use crate::setting::{MaxLength, count, millis};
use crate::value::{DeltaType, RecoveryMode, SlowConsumer, SubscriptionType};

group! {
    /// Permissions and behaviour of channels.
    pub struct ChannelOptions {
        /// Whether a client with a user may subscribe. The token or the application sets the user.
        allow_subscribe_for_client: bool = "false", (), reload;
        /// Whether an anonymous client (without a token, or with a token without a user) may subscribe as well. Has no
        /// effect without `allow_subscribe_for_client`.
        allow_subscribe_for_anonymous: bool = "false", (), reload;
        /// Whether a client with a user may publish.
        allow_publish_for_client: bool = "false", (), reload;
        /// Whether a client with a user may publish while it is subscribed to the channel.
        allow_publish_for_subscriber: bool = "false", (), reload;
        /// Whether an anonymous client may publish as well. Has no effect without `allow_publish_for_client` or
        /// `allow_publish_for_subscriber`.
        allow_publish_for_anonymous: bool = "false", (), reload;
        /// Number of publications that a channel stores, for clients that reconnect. No history when 0, or when
        /// `history_ttl` is.
        history_size: usize = "0", count(0, 1_000_000), reload;
        /// Time for which publications are stored. No history when 0, or when `history_size` is.
        history_ttl: Duration = "0s", millis(0, 366 * 24 * HOUR), reload;
        /// Time for which a channel's position is stored after the last publication; at least `history_ttl`.
        history_meta_ttl: Duration = "720h", millis(1000, 10 * 366 * 24 * HOUR), reload;
        /// Whether a client without the permission to read the history may request a recoverable subscription, and so
        /// receive the publications it missed. A client that may read the history, by the options below, does not need
        /// this permission.
        allow_recovery: bool = "false", (), reload;
        /// Whether a client without the permission to read the history may request a positioned subscription (see
        /// `force_positioning`).
        allow_positioning: bool = "false", (), reload;
        /// Whether subscriptions are recoverable without the client's request and permission. The channel needs a
        /// history.
        force_recovery: bool = "false", (), reload;
        /// What a recovering client receives: `stream`, all publications that it missed; `cache`, the newest one alone.
        force_recovery_mode: RecoveryMode = "stream", (), reload;
        /// Whether a subscription ends with code 2500 (the client subscribes again) when the server detects a missed
        /// publication, without the client's request and permission. The channel needs a history.
        force_positioning: bool = "false", (), reload;
        /// Whether the subscribers of a channel are recorded, for `presence` and `presence_stats`.
        presence: bool = "false", (), reload;
        /// Whether joins and leaves are sent to subscribers that request them and may read the presence.
        join_leave: bool = "false", (), reload;
        /// Whether joins and leaves are sent to all subscribers, without request and permission.
        force_push_join_leave: bool = "false", (), reload;
        /// Whether a client with a user may read the history while it is subscribed to the channel.
        allow_history_for_subscriber: bool = "false", (), reload;
        /// Whether a client with a user may read the history.
        allow_history_for_client: bool = "false", (), reload;
        /// Whether an anonymous client may read the history as well. Has no effect without `allow_history_for_client`
        /// or `allow_history_for_subscriber`.
        allow_history_for_anonymous: bool = "false", (), reload;
        /// Whether a client with a user may read the presence while it is subscribed to the channel.
        allow_presence_for_subscriber: bool = "false", (), reload;
        /// Whether a client with a user may read the presence.
        allow_presence_for_client: bool = "false", (), reload;
        /// Whether an anonymous client may read the presence as well. Has no effect without `allow_presence_for_client`
        /// or `allow_presence_for_subscriber`.
        allow_presence_for_anonymous: bool = "false", (), reload;
        /// Whether channels with a `#` are limited to the users after it, separated by commas: `dialog#17,42`. A name
        /// that begins with `#` belongs to exactly one user: `#17,42` is neither 17's nor 42's. Users with ids that
        /// contain `#` or `,` have access to no such channel. `channel.user_boundary` and `channel.user_separator` are
        /// other texts in their place.
        allow_user_limited_channels: bool = "false", (), reload;
        /// Channels that the namespace claims besides those with its prefix, as topic filters of MQTT: `home/+/temp`, `home/#`. At
        /// most 64. They apply to every protocol, and only to namespaces. A channel with the prefix of a namespace is in that
        /// one; otherwise the most specific filter or pattern of all namespaces decides. A private prefix is no part of a filter.
        r#match: Vec<ChannelFilter> = "", (), reload;
        /// Channels that the namespace claims as well, as a pattern with variables: `/users/:id`, `/personal/user_:user`. It begins
        /// with `/`; a variable stands for one level or its end, and for at least one character. Where any namespace has a
        /// pattern, a channel that begins with `/` and that no namespace claims does not exist (error 102). Hooks get the
        /// variables as `vars`.
        pattern: Option<ChannelPattern> = "", (), reload;
        /// Variable of `pattern` whose value is the user that may subscribe: with `id` and `/users/:id`, the user 7 may subscribe to
        /// `/users/7`. Other clients need a subscription token or a capability. The options of the namespace decide about
        /// publishing, history and presence. All other channels of the namespace have no user.
        user_variable: String = "", MaxLength(64), reload;
        /// Pattern of the names of channels that clients may use, without a private prefix and the namespace: with
        /// `^[0-9]+$` in the namespace `chat`, `chat:7` is permitted. Other names are error 107. A pattern matches any part of
        /// a name unless it has `^` and `$`; `\d` and `\w` include the digits and letters of all scripts. It does not apply to
        /// channels that the application or the server subscribes a client to, nor to the server API.
        channel_regex: Option<Pattern> = "", (), reload;
        /// Algorithms of deltas that a client may request for a subscription: `fossil`. It then receives a publication as its
        /// difference to the one before, where the publisher or `delta_publish` marks it, and that is shorter.
        allowed_delta_types: Vec<DeltaType> = "", (), reload;
        /// Whether all publications are marked to be sent as deltas, also without `delta` of the server API.
        delta_publish: bool = "false", (), reload;
        /// Whether a client may subscribe with a filter, so that it receives only the publications whose tags pass the filter.
        /// Filters spare bandwidth; a subscriber may still read the channel without one.
        allow_tags_filter: bool = "false", (), reload;
        /// Most different filters of a channel's subscribers on one shard. Every filter is evaluated once for each
        /// publication, and subscribers with equal filters share one.
        tags_filter_limit: usize = "10000", count(1, 1_000_000), reload;
        /// Whether the subscribe hook decides about subscriptions (`channel.proxy.subscribe`).
        subscribe_proxy_enabled: bool = "false", (), reload;
        /// Whether the publish hook decides about publications of clients (`channel.proxy.publish`).
        publish_proxy_enabled: bool = "false", (), reload;
        /// Name of the subscribe hook in `proxies`, or `default` for `channel.proxy.subscribe`.
        subscribe_proxy_name: String = "default", MaxLength(64), reload;
        /// Name of the publish hook in `proxies`, or `default` for `channel.proxy.publish`.
        publish_proxy_name: String = "default", MaxLength(64), reload;
        /// Name of the hook in `proxies` that renews subscriptions, or `default` for `channel.proxy.sub_refresh`.
        sub_refresh_proxy_name: String = "default", MaxLength(64), reload;
        /// Whether subscriptions that expire are renewed by a hook (`channel.proxy.sub_refresh`), in place of new tokens of the
        /// clients.
        sub_refresh_proxy_enabled: bool = "false", (), reload;
        /// Whether the application decides about subscriptions and opens a stream of publications for each
        /// (`channel.proxy.subscribe_stream`). Not together with the subscribe, publish and sub_refresh hooks.
        subscribe_stream_proxy_enabled: bool = "false", (), reload;
        /// Name of the hook in `proxies` that opens streams, or `default` for `channel.proxy.subscribe_stream`.
        subscribe_stream_proxy_name: String = "default", MaxLength(64), reload;
        /// Whether a stream also gets the publications of its client, in place of the subscribers of the channel.
        subscribe_stream_bidirectional: bool = "false", (), reload;
        /// Form of a body for JSON clients: `auto` and `json` send valid JSON as it is, other UTF-8 as a string, and
        /// other bytes as `{"b64":"…"}`; `text` sends UTF-8 always as a string; `binary` always sends `{"b64":"…"}`.
        publication_data_format: DataFormat = "auto", (), reload;
        /// Policy for a connection that does not read as fast as publications arrive, once its queue is full: `cut`
        /// closes it with a code that requests reconnecting, `latest` drops the queue and sends the newest publication
        /// once the client reads again, `drop_oldest` drops the oldest ones and reports their number. `auto` is `cut`
        /// where the channel has a history, from which the client recovers, and `drop_oldest` otherwise.
        slow_consumer: SlowConsumer = "auto", (), reload;
        /// What clients subscribe to: `stream`, publications; `map`, a state of keys with the options of `map`;
        /// `map_clients` and `map_users`, maps with the clients and the users of other channels, which name them by the two
        /// options below; `shared_poll`, keys whose values the server requests from the application. Maps and shared polls need
        /// a namespace of their own, and maps the memory broker.
        subscription_type: SubscriptionType = "stream", ();
        /// With `clients:`, the subscribers of a channel `a` are in the map `clients:a`: a key for each client, with its
        /// information. The namespace of that map has `subscription_type = "map_clients"`. Empty: no such map.
        map_clients_presence_channel_prefix: String = "", MaxLength(128);
        /// The same with a key for each user, and `subscription_type = "map_users"`. A user stays there until `map.key_ttl` has
        /// passed after its last connection.
        map_users_presence_channel_prefix: String = "", MaxLength(128);
    }
    groups {
        /// Channels that are maps.
        map: MapOptions;
        /// Channels whose values the server requests from the application.
        shared_poll: SharedPollOptions;
    }
}
