//! Rules of the options of channels.

use tidings_wire::channel::RESERVED_PREFIX;

use crate::error::ConfigError;
use crate::given::GivenOptions;
use crate::options::{ChannelOptions, Channels, Config};
use crate::value::RecoveryMode;

/// Adds an error for each rule of channels that given options violate.
pub(super) fn check(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    histories(config, given, errors);
    crate::check_maps::check(config, given, errors);
    crate::check_shared_polls::check(config, given, errors);
    crate::check_rules::check(config, given, errors);
    reserved_channels(config, given, errors);
    boundaries(&config.channel, given, errors);
    let rules = [personal_channels, plain_channels];
    errors.extend(rules.into_iter().filter_map(|rule| rule(config, given).err()));
}

/// Rejects boundaries in names of channels by which a name has no unique parts.
fn boundaries(channels: &Channels, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let Channels { namespace_boundary, user_boundary, user_separator, .. } = channels;
    let [namespace, user, separator] =
        ["channel.namespace_boundary", "channel.user_boundary", "channel.user_separator"];
    let all = [(namespace, namespace_boundary), (user, user_boundary), (separator, user_separator)];
    for (key, _) in all.into_iter().filter(|(_, text)| text.is_empty()) {
        errors.push(given.error(key, format!("{key} is empty; give one character or more")));
    }
    if all.into_iter().any(|(_, text)| text.is_empty()) {
        return;
    }
    if let Some(name) =
        channels.namespaces.iter().map(|n| &n.name).find(|n| n.contains(&**namespace_boundary))
    {
        let what = format!(
            "{namespace} (\"{namespace_boundary}\") is a part of the namespace's name \"{name}\", so that no channel is in it"
        );
        errors.push(given.error(namespace, what));
    }
    if user_boundary.contains(&**user_separator) || user_separator.contains(&**user_boundary) {
        let what = format!(
            "{separator} (\"{user_separator}\") and {user} (\"{user_boundary}\") contain one another"
        );
        errors.push(given.error(separator, what));
    }
}

/// Rejects a history with only one of size and TTL, and options that require a history without one. An explicit zero
/// for the other one is accepted.
fn histories(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    for (path, options) in of_channels(&config.channel) {
        let (has_size, has_ttl) = (options.history_size > 0, !options.history_ttl.is_zero());
        if has_size && has_ttl {
            continue;
        }
        let key = |option: &str| format!("{path}.{option}");
        let asks = [
            ("history_size", has_size && !given.contains(&key("history_ttl"))),
            ("history_ttl", has_ttl && !given.contains(&key("history_size"))),
            ("force_recovery", options.force_recovery),
            ("force_recovery_mode", options.force_recovery_mode != RecoveryMode::Stream),
            ("force_positioning", options.force_positioning),
        ];
        let Some((asking, _)) = asks.into_iter().find(|(_, asks)| *asks) else { continue };
        let lacking = [("history_size", "100", has_size), ("history_ttl", "10m", has_ttl)];
        let lines = lacking.into_iter().filter(|(_, _, is_there)| !is_there);
        let lines: Vec<_> =
            lines.map(|(option, example, _)| given.beside(&path, asking, option, example)).collect();
        let what = format!(
            "has no effect: a channel has a history only with both history_size and history_ttl; add {}, or leave it \
             out",
            lines.join(" and ")
        );
        errors.push(given.error(&key(asking), what));
    }
}

/// Rejects personal channels in a namespace that does not exist.
fn personal_channels(config: &Config, given: &GivenOptions) -> Result<(), ConfigError> {
    let personal = &config.client.subscribe_to_user_personal_channel;
    let name = &personal.personal_channel_namespace;
    if !personal.enabled || name.is_empty() || config.channel.namespaces.iter().any(|n| n.name == *name) {
        return Ok(());
    }
    let key = "client.subscribe_to_user_personal_channel.personal_channel_namespace";
    Err(given.error(key, format!("{key} (\"{name}\") is not a namespace of channel.namespaces")))
}

/// Rejects channels of plain lines with names that lines cannot contain.
fn plain_channels(config: &Config, given: &GivenOptions) -> Result<(), ConfigError> {
    let automatic = config.tcp.auto_subscribe.iter().map(|channel| ("tcp.auto_subscribe", channel));
    let mut named = automatic.chain([("tcp.default_channel", &config.tcp.default_channel)]);
    let Some((key, channel)) = named.find(|(_, channel)| !channel.fits_a_line()) else { return Ok(()) };
    let what = format!("{key}: \"{}\" contains a space, so plain lines cannot contain it", channel.as_str());
    Err(given.error(key, what))
}

/// Rejects options with internal channels, to which no client can subscribe.
fn reserved_channels(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let tcp = &config.tcp;
    let automatic = tcp.auto_subscribe.iter().map(|channel| ("tcp.auto_subscribe", channel.as_str()));
    let default = ("tcp.default_channel", tcp.default_channel.as_str());
    let namespaces = config.channel.namespaces.iter().map(|n| ("channel.namespaces", &*n.name));
    let named = automatic.chain([default]).chain(namespaces);
    for (key, name) in named.filter(|(_, name)| name.starts_with(RESERVED_PREFIX)) {
        let what = format!(
            "{key} names \"{name}\", but channels that begin with \"{RESERVED_PREFIX}\" are internal"
        );
        errors.push(given.error(key, what));
    }
}

/// The options of every kind of channel, each with the path of its group.
pub(crate) fn of_channels(channels: &Channels) -> impl Iterator<Item = (String, &ChannelOptions)> {
    let without = ("channel.without_namespace".to_owned(), &channels.without_namespace);
    let named = channels.namespaces.iter().map(|n| (format!("channel.namespaces.{}", n.name), &n.options));
    std::iter::once(without).chain(named)
}
