//! The effective options of channels, for the page. No option of channels is a secret.

use serde_json::{Map, Value, json};
use tidings_config::{ChannelOptions, Config};

use crate::settings;

/// The options of channels without a namespace, and of each namespace, as text.
pub(super) fn describe(config: &Config) -> Value {
    let named = config.channel.namespaces.iter().map(|namespace| (&*namespace.name, &namespace.options));
    let all = std::iter::once(("", &config.channel.without_namespace)).chain(named);
    all.map(|(name, options)| json!({"name": name, "options": options_of(options)})).collect()
}

/// The options that the server uses, from their debug output: `name: value` on a line each.
fn options_of(options: &ChannelOptions) -> Map<String, Value> {
    let text = format!("{:#?}", settings::options(options));
    let lines =
        text.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(',')?.split_once(": "));
    lines.map(|(name, value)| (name.to_owned(), Value::String(value.to_lowercase()))).collect()
}
