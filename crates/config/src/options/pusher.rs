//! The Pusher protocol and its apps.

use std::time::Duration;

use tidings_auth::Secret;

use super::{HOUR, MIB};
use crate::group::group;
use crate::origin::AllowedOrigin;
use crate::pusher_apps::PusherApps;
use crate::setting::{MaxLength, bytes, count, millis};
use crate::value::Webhook;

group! {
    /// The Pusher Channels protocol: `/app/KEY` for clients, `/apps/ID/…` for backends. Both exist where an app is configured
    /// (`pusher.apps`), and on a server without any key, all of whose ports are local: it has an app with the id `app`, the
    /// key `key` and the secret `secret`.
    pub struct PusherOptions {
        /// Time without messages after which a client sends a ping. Clients get it when they connect, and use it if it is
        /// shorter than their own.
        activity_timeout: Duration = "120s", millis(1000, HOUR), reload;
    }
    groups {
        /// The apps.
        apps: PusherApps;
    }
}

group! {
    /// An app of the Pusher protocol.
    pub struct PusherAppOptions {
        /// Public key of the app, in the path of its WebSockets.
        key: String = "", MaxLength(128), reload;
        /// Secret of the app, with which its backends sign requests and the subscriptions of their clients.
        secret: Secret = "", (), reload;
        /// Prefix of the app's channels and users on this server, which ends in a colon
        /// (`channel.namespace_boundary`): with `shop:`, the app's channel
        /// `news` is the channel `shop:news` for all other protocols. Empty for none, which one app may have.
        channel_prefix: String = "", MaxLength(64), reload;
        /// Origins of pages that may connect, besides the server's own, in the form of `client.allowed_origins`. Without
        /// any, `client.allowed_origins` applies.
        allowed_origins: Vec<AllowedOrigin> = "", (), reload;
        /// Whether clients may send events to the other subscribers of private and presence channels.
        client_events: bool = "false", (), reload;
        /// Whether the subscribers of channels, except presence channels, receive the number of subscriptions on all nodes:
        /// within 5 seconds after it has changed.
        subscription_count: bool = "false", (), reload;
        /// Whether signed-in users get an event when a user of their watchlist (`watchlist` of the data of a user, at most 100
        /// ids) comes online or goes offline. Each user of a watchlist counts for `client.channel_limit`.
        watchlist_events: bool = "false", (), reload;
        /// Whether the connect hook (`client.proxy.connect`) decides about connections of the app.
        connect_proxy_enabled: bool = "false", (), reload;
        /// Receivers of the app's webhooks, each a table with its `url` and a list of `events` (`channel_occupied`,
        /// `channel_vacated`, `member_added`, `member_removed`, `client_event`, `cache_miss`, `subscription_count`; without the
        /// list, all of them), or a URL alone. The requests are signed with the app's secret. A change needs a restart.
        webhooks: Vec<Webhook> = "", ();
    }
    groups {
        /// Limits of the app.
        limits: PusherLimitsOptions;
    }
}

group! {
    /// Limits of an app.
    pub struct PusherLimitsOptions {
        /// Most connections of the app on one node; further ones are closed with code 4004. 0 is no limit.
        connections: usize = "0", count(0, 10_000_000), reload;
        /// Most users of a presence channel.
        presence_members: usize = "100", count(1, 10_000), reload;
        /// Largest data of an event. A larger one is answered with 413, or with error 4301 to a client.
        event_size: usize = "10240", bytes(64, 16 * MIB), reload;
        /// Most events that one client may send in a second; further ones are answered with error 4301.
        client_event_rate: usize = "10", count(1, 10_000), reload;
    }
}
