//! Channels whose values the server requests from the application.

use std::time::Duration;

use tidings_auth::Secret;

use super::client::END_OF_TIME;
use super::{GIB, HOUR, KIB};
use crate::group::group;
use crate::setting::{MaxLength, bytes, count, millis};
use crate::value::PollMode;

group! {
    /// Channels with `subscription_type = "shared_poll"`: clients track keys, and the server requests the values of all tracked
    /// keys from the application.
    pub struct SharedPollOptions {
        /// Name of the hook in `proxies`, or `default` for `channel.proxy.shared_poll_refresh`.
        proxy_name: String = "default", MaxLength(64);
        /// Time between two requests for the same key. Requests of many keys are spread over it.
        refresh_interval: Duration = "10s", millis(10, 24 * HOUR);
        /// Most keys of a request.
        refresh_batch_size: usize = "1000", count(1, 10_000);
        /// Most keys of a channel that a connection tracks. Further ones are refused with error 106.
        max_keys_per_connection: usize = "5000", count(1, 100_000);
        /// Most different keys of a channel on a node. Further ones are refused with error 106.
        max_keys: usize = "100000", count(1, 1_000_000);
        /// The versions of values. `versionless`: the server compares the values and numbers their changes. `versioned`: the
        /// application numbers them; requests contain the version that the server has, and `shared_poll_publish` is available.
        mode: PollMode = "versionless", ();
        /// Time for which a channel without subscribers is kept.
        channel_shutdown_delay: Duration = "1s", millis(0, HOUR);
        /// Time for which keys are tracked after their signature has expired, so that the client can send a new one.
        track_expired_extra_delay: Duration = "25s", millis(0, HOUR);
        /// Whether `shared_poll_publish` reaches the clients of all nodes. Otherwise it reaches those of the node that
        /// receives it.
        publish_enabled: bool = "false", ();
    }
}

group! {
    /// Signatures and bounds of all channels with `subscription_type = "shared_poll"`.
    pub struct SharedPollsOptions {
        /// Key of the signatures with which the application permits a client to track keys (HMAC-SHA256).
        hmac_secret_key: Secret = "", (), reload;
        /// The previous `shared_poll.hmac_secret_key`: signatures with it are still accepted, so that the key can be rotated.
        hmac_previous_secret_key: Secret = "", (), reload;
        /// Time until which the previous key is accepted, in Unix seconds; 0 is no end.
        hmac_previous_secret_key_valid_until: usize = "0", count(0, END_OF_TIME), reload;
        /// Most requests for values under way, over all channels. Further ones wait.
        concurrency_limit: usize = "64", count(1, 256), reload;
        /// Bound of the values of all channels. At the bound a longer or further value is not accepted, and subscribers keep the
        /// one before.
        max_total: usize = "128MiB", bytes(KIB, 1024 * GIB), reload;
    }
}
