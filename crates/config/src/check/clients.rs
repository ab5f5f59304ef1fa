//! Rules of the options by which clients get their user: hooks, tokens, and the header of a proxy.

use super::channels::of_channels;
use crate::error::ConfigError;
use crate::given::GivenOptions;
use crate::keys::{PROXIES, RPC_NAMESPACES};
use crate::named_proxies::DEFAULT_PROXY;
use crate::options::Config;
use crate::value::SubscriptionType;
use tidings_auth::VerifierOptions;

/// Adds an error for each rule of hooks, tokens and headers that given options violate.
pub(super) fn check(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    hooks(config, given, errors);
    streams(config, given, errors);
    token_rules(config, given, errors);
    key_sets(config, given, errors);
    errors.extend(user_header(config, given).err());
}

/// Rejects an enabled hook without an endpoint.
fn hooks(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let mut nowhere = |switch: &str, endpoint: &str| {
        let what = format!("{switch} is true, but {endpoint} is not set");
        errors.push(given.error(switch, what));
    };
    let connect = &config.client.proxy.connect;
    if connect.enabled && connect.endpoint.is_none() {
        nowhere("client.proxy.connect.enabled", "client.proxy.connect.endpoint");
    }
    let refresh = &config.client.proxy.refresh;
    if refresh.enabled && refresh.endpoint.is_none() {
        nowhere("client.proxy.refresh.enabled", "client.proxy.refresh.endpoint");
    }
    let channels = &config.channel;
    let mut named: Vec<(String, &str)> = Vec::new();
    for (path, options) in of_channels(channels) {
        let hooks = [
            (
                "subscribe",
                options.subscribe_proxy_enabled,
                &options.subscribe_proxy_name,
                &channels.proxy.subscribe,
            ),
            ("publish", options.publish_proxy_enabled, &options.publish_proxy_name, &channels.proxy.publish),
            (
                "sub_refresh",
                options.sub_refresh_proxy_enabled,
                &options.sub_refresh_proxy_name,
                &channels.proxy.sub_refresh,
            ),
            (
                "subscribe_stream",
                options.subscribe_stream_proxy_enabled,
                &options.subscribe_stream_proxy_name,
                &channels.proxy.subscribe_stream,
            ),
        ];
        let poll = &options.shared_poll.proxy_name;
        if options.subscription_type == SubscriptionType::SharedPoll
            && !poll.is_empty()
            && poll != DEFAULT_PROXY
        {
            named.push((format!("{path}.shared_poll.proxy_name"), poll));
        }
        for (hook, is_enabled, name, unnamed) in hooks {
            if name != DEFAULT_PROXY {
                named.push((format!("{path}.{hook}_proxy_name"), name));
            } else if is_enabled && unnamed.endpoint.is_none() {
                nowhere(&format!("{path}.{hook}_proxy_enabled"), &format!("channel.proxy.{hook}.endpoint"));
            }
        }
    }
    let methods = &config.rpc.without_namespace;
    if methods.proxy_name != DEFAULT_PROXY {
        named.push(("rpc.without_namespace.proxy_name".to_owned(), &methods.proxy_name));
    }
    for namespace in config.rpc.namespaces.iter() {
        let path = format!("{RPC_NAMESPACES}.{}", namespace.name);
        if namespace.options.proxy_name != DEFAULT_PROXY {
            named.push((format!("{path}.proxy_name"), &namespace.options.proxy_name));
        } else if namespace.options.proxy_enabled && config.rpc.proxy.endpoint.is_none() {
            nowhere(&format!("{path}.proxy_enabled"), "rpc.proxy.endpoint");
        }
    }
    for (option, name) in named {
        let what = match config.proxies.get(name) {
            None => format!("{option} is \"{name}\", but {PROXIES} has no proxy of this name"),
            Some(proxy) if proxy.endpoint.is_none() => {
                format!("{option} is \"{name}\", but {PROXIES}.{name}.endpoint is not set")
            }
            Some(_) => continue,
        };
        errors.push(given.error(&option, what));
    }
    if config.rpc.namespaces.iter().next().is_some() && config.rpc.namespace_boundary.is_empty() {
        let what =
            "rpc.namespace_boundary is empty, and rpc.namespaces needs a text between namespace and method";
        errors.push(given.error("rpc.namespace_boundary", what.to_owned()));
    }
}

/// Rejects streams of subscriptions with an endpoint that is no gRPC server, beside other hooks of the same channels, and in channels
/// of another kind.
fn streams(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    for (path, options) in of_channels(&config.channel) {
        if !options.subscribe_stream_proxy_enabled {
            continue;
        }
        let key = format!("{path}.subscribe_stream_proxy_enabled");
        let (name, unnamed) = (&options.subscribe_stream_proxy_name, &config.channel.proxy.subscribe_stream);
        let (proxy, place) = if name == DEFAULT_PROXY {
            (Some(unnamed), "channel.proxy.subscribe_stream".to_owned())
        } else {
            (config.proxies.get(name), format!("{PROXIES}.{name}"))
        };
        let endpoint = proxy.and_then(|proxy| proxy.endpoint.as_ref());
        if endpoint.is_some_and(|endpoint| !endpoint.is_grpc()) {
            let what = format!("{key} is true, but {place}.endpoint is not grpc://HOST:PORT");
            errors.push(given.error(&key, what));
        }
        let others = [
            ("subscribe_proxy_enabled", options.subscribe_proxy_enabled),
            ("publish_proxy_enabled", options.publish_proxy_enabled),
            ("sub_refresh_proxy_enabled", options.sub_refresh_proxy_enabled),
        ];
        for (other, _) in others.into_iter().filter(|(_, is_enabled)| *is_enabled) {
            let what = format!("{key} and {path}.{other} are both true; leave one of them out");
            errors.push(given.error(&key, what));
        }
        if options.subscription_type != SubscriptionType::Stream {
            let what = format!("{key} is true, but {path}.subscription_type is not stream");
            errors.push(given.error(&key, what));
        }
    }
}

/// Rejects an audience or issuer beside its pattern: one of them would have no effect.
fn token_rules(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let (token, subscription) = (&config.client.token, &config.client.subscription_token);
    let pairs = [
        ("client.token.audience", !token.audience.is_empty() && token.audience_regex.is_some()),
        ("client.token.issuer", !token.issuer.is_empty() && token.issuer_regex.is_some()),
        (
            "client.subscription_token.audience",
            !subscription.audience.is_empty() && subscription.audience_regex.is_some(),
        ),
        (
            "client.subscription_token.issuer",
            !subscription.issuer.is_empty() && subscription.issuer_regex.is_some(),
        ),
    ];
    for (option, _) in pairs.into_iter().filter(|(_, are_both_set)| *are_both_set) {
        let key = format!("{option}_regex");
        errors.push(given.error(&key, format!("{key} and {option} are both set; leave one of them out")));
    }
}

/// Rejects variables of key sets that are no groups of a pattern.
fn key_sets(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let VerifierOptions { connection, subscription, .. } = config.client.verifier();
    for rules in [connection, subscription] {
        let checked = rules.jwks.map(|url| url.check(rules.issuer_pattern, rules.audience_pattern));
        if let Some(Err(what)) = checked {
            errors.push(given.error(&format!("{}.jwks_public_endpoint", rules.group), what));
        }
    }
}

/// Rejects a header with the user where no proxy is trusted to set it: every client could.
fn user_header(config: &Config, given: &GivenOptions) -> Result<(), ConfigError> {
    if config.client.user_id_http_header.is_none() || !config.trusted_proxies.is_empty() {
        return Ok(());
    }
    let key = "client.user_id_http_header";
    let what = format!(
        "{key} has no effect without trusted_proxies, the addresses of the proxies that set the header"
    );
    Err(given.error(key, what))
}
