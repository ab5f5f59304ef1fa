//! The effective options of channels, for the page. No option of channels is a secret.

use serde_json::{Map, Value, json};
use tidings_config::{ChannelOptions, Config, MemoryOptions, SlowConsumer};
use tidings_hub::SlowConsumerPolicy;

use tidings_settings as settings;

/// The options of channels without a namespace, and of each namespace, and the names of those that differ from their default.
pub(super) fn describe(config: &Config) -> Value {
    let named = config.channel.namespaces.iter().map(|namespace| (&*namespace.name, &namespace.options));
    let all = std::iter::once(("", &config.channel.without_namespace)).chain(named);
    let defaults = ChannelOptions::default().values();
    all.map(|(name, options)| {
        let values = options.values().into_iter();
        let changed = values.filter(|option| !defaults.contains(option)).map(|(name, _)| name);
        let changed: Vec<_> = changed.collect();
        json!({"name": name, "options": effective(options, &config.memory), "changed": changed})
    })
    .collect()
}

/// The options with the names and values of the configuration; instead of `auto`, the policy that it stands for.
fn effective(options: &ChannelOptions, memory: &MemoryOptions) -> Map<String, Value> {
    // Values of TOML are values of JSON: booleans, numbers and texts.
    let value = |toml: String| serde_json::from_str(&toml).unwrap_or(Value::String(toml));
    let mut all: Map<_, _> = options.values().into_iter().map(|(name, toml)| (name, value(toml))).collect();
    if options.slow_consumer == SlowConsumer::Auto {
        let policy = match settings::options(options, memory).slow_consumer {
            SlowConsumerPolicy::Cut => "cut",
            SlowConsumerPolicy::Latest => "latest",
            SlowConsumerPolicy::DropOldest => "drop_oldest",
        };
        all.insert("slow_consumer".to_owned(), policy.into());
    }
    all
}
