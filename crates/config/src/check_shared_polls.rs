//! Rules of the options of shared polls.

use super::check::of_channels;
use super::error::ConfigError;
use super::given::GivenOptions;
use super::named_proxies::DEFAULT_PROXY;
use super::options::{ChannelOptions, Config};
use super::value::{RecoveryMode, SlowConsumer, SubscriptionType};

/// An option, and whether it is set.
type OtherOption = (&'static str, fn(&ChannelOptions) -> bool);

/// Options that have no effect in a shared poll.
const OTHER_OPTIONS: [OtherOption; 7] = [
    ("history_size", |options| options.history_size > 0),
    ("history_ttl", |options| !options.history_ttl.is_zero()),
    ("force_recovery", |options| options.force_recovery),
    ("force_recovery_mode", |options| options.force_recovery_mode != RecoveryMode::Stream),
    ("force_positioning", |options| options.force_positioning),
    ("publish_proxy_enabled", |options| options.publish_proxy_enabled),
    ("allow_tags_filter", |options| options.allow_tags_filter),
];

/// Rejects shared polls without an application or a key, and options without effect.
pub(super) fn check(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    for (path, options) in of_channels(&config.channel) {
        if options.subscription_type != SubscriptionType::SharedPoll {
            continue;
        }
        let mut reject = |option: &str, what: String| {
            errors.push(given.error(&format!("{path}.{option}"), what));
        };
        if path == "channel.without_namespace" {
            let what = "a shared poll needs a namespace: set it in one of channel.namespaces";
            reject("subscription_type", what.to_owned());
        }
        let secret = "shared_poll.hmac_secret_key";
        if !config.shared_poll.hmac_secret_key.is_set() && !given.contains(&format!("{secret}_file")) {
            let key = format!("{path}.subscription_type");
            let (place, line) = given.how_to_add(&key);
            let what = format!(
                "the keys that clients track are signed, and {secret} is empty; add {place}{} (`openssl rand -hex 32` \
                 makes one)",
                line(secret, "A-SECRET")
            );
            reject("subscription_type", what);
        }
        let name = &options.shared_poll.proxy_name;
        if (name == DEFAULT_PROXY || name.is_empty())
            && config.channel.proxy.shared_poll_refresh.endpoint.is_none()
        {
            let what = "the values come from the application, and channel.proxy.shared_poll_refresh.endpoint is not set";
            reject("subscription_type", what.to_owned());
        }
        for (option, has) in OTHER_OPTIONS {
            if has(options) {
                reject(option, "has no effect in a shared poll".to_owned());
            }
        }
        if matches!(options.slow_consumer, SlowConsumer::Latest | SlowConsumer::DropOldest) {
            let what = "a subscriber of a shared poll that lacks values would keep old ones; use auto or cut";
            reject("slow_consumer", what.to_owned());
        }
    }
}
