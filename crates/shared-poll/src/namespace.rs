//! The options of shared polls, from the configuration.

use tidings_config::{ChannelOptions, Config, DEFAULT_PROXY, PollMode, SubscriptionType};
use tidings_hub::{NamespaceOptions, PollNamespace, SlowConsumerPolicy};

use crate::{Limits, SignatureKeys};

/// The divisor of `client.queue_max_size` that gives the bytes for one subscriber in a burst.
const BURST_SHARE: usize = 4;

/// Adds the options of a shared poll to those of its namespace, if it is one. Subscribers that lag behind are disconnected, so
/// that they track their keys again.
pub fn apply(from: &ChannelOptions, options: &mut NamespaceOptions) {
    if from.subscription_type != SubscriptionType::SharedPoll {
        return;
    }
    let poll = &from.shared_poll;
    options.slow_consumer = SlowConsumerPolicy::Cut;
    options.shared_poll = Some(Box::new(PollNamespace {
        hook: (poll.proxy_name != DEFAULT_PROXY && !poll.proxy_name.is_empty())
            .then(|| poll.proxy_name.clone()),
        interval: poll.refresh_interval,
        batch: poll.refresh_batch_size,
        keys_per_subscriber: poll.max_keys_per_connection,
        keys: poll.max_keys,
        versioned: poll.mode == PollMode::Versioned,
        shutdown_delay: poll.channel_shutdown_delay,
        expired_delay: poll.track_expired_extra_delay,
        publishes_to_all: poll.publish_enabled,
    }));
}

/// The bounds of all shared polls.
pub fn limits(config: &Config) -> Limits {
    Limits {
        requests: config.shared_poll.concurrency_limit,
        bytes: config.shared_poll.max_total,
        burst: config.client.queue_max_size / BURST_SHARE,
    }
}

/// The keys of signatures.
pub fn signature_keys(config: &Config) -> SignatureKeys {
    let options = &config.shared_poll;
    let until = options.hmac_previous_secret_key_valid_until as u64;
    SignatureKeys::new(&options.hmac_secret_key, &options.hmac_previous_secret_key, until)
}
