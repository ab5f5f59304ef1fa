//! Webhooks: events of channels, sent to applications.

use std::time::Duration;

use tidings_auth::Secret;
use tidings_wire::Channel;

use super::{GIB, HOUR, KIB, MINUTE};
use crate::group::group;
use crate::setting::{bytes, millis};
use crate::value::Webhook;

group! {
    /// Webhooks: requests to the application about events of channels, one for a deployment whatever the number of its nodes.
    /// Apps of the Pusher protocol have webhooks of their own (`pusher.apps[].webhooks`), to which the times and limits here
    /// apply, too.
    pub struct WebhooksOptions {
        /// Receivers of the events of all channels, each a table with its `url` and a list of `events` (`occupied`, `vacated`,
        /// `joined`, `left`, `published`, `cache_miss`, `subscription_count`; without the list, all of them), or a URL alone.
        endpoints: Vec<Webhook> = "", ();
        /// Secret with which requests to these receivers are signed.
        secret: Secret = "", ();
        /// Beginnings of the names of channels with webhooks for these receivers, such as `chat:`. Without any, all channels
        /// have them.
        channel_prefixes: Vec<Channel> = "", ();
        /// How often the channels of all nodes are compared. An event is sent within this time and a second.
        interval: Duration = "1s", millis(100, MINUTE);
        /// Time for which a channel without subscriptions, or a user without connections, must be absent before it counts as
        /// vacated or left: a client that moves to another node, or reloads its page, causes no event.
        grace: Duration = "3s", millis(0, HOUR);
        /// Timeout of a request.
        timeout: Duration = "10s", millis(100, MINUTE);
        /// How long the delivery of an event is tried again, with growing pauses of at most a minute. Then the event is lost,
        /// and counted.
        retry_for: Duration = "5m", millis(0, 24 * HOUR);
        /// Most bytes of events that wait for one receiver. Further events replace the oldest, which are counted.
        queue_max_size: usize = "4194304", bytes(64 * KIB, GIB);
    }
}
