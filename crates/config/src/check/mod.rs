//! Rules between options, which are checked after each option has been parsed.

mod channels;
mod clients;
mod handler_paths;

pub(super) use channels::of_channels;

use std::borrow::Cow;
use std::time::Duration;

use super::api_keys::NamedApiKey;
use super::error::ConfigError;
use super::given::GivenOptions;
use super::keys::{API_KEYS, PUSHER_APPS};
use super::options::Config;
use super::pusher_apps;
use super::setting::{duration_text, size_text};
use super::value::{BrokerUrl, ListenAddr, SubscriptionType, TablesStore};
use tidings_auth::Secret;

/// The least bytes of `cluster.secret`.
const MIN_SECRET: usize = 16;

impl Config {
    /// Whether a key that authenticates clients or backends is configured.
    pub fn has_key(&self) -> bool {
        self.client.token.has_key()
            || self.http_api.has_key()
            || self.grpc_api.enabled && self.grpc_api.key.is_set()
            || !self.pusher.apps.is_empty()
    }

    /// The key from which the key of messages between nodes is derived, with its option.
    pub fn cluster_key(&self) -> Option<(&'static str, &str)> {
        let candidates = [
            ("cluster.secret", &self.cluster.secret),
            ("http_api.key", &self.http_api.key),
            ("client.token.hmac_secret_key", &self.client.token.hmac_secret_key),
        ];
        let (option, key) = candidates.into_iter().find(|(_, key)| key.is_set())?;
        Some((option, key.expose()))
    }

    /// A warning for each weak key, with its option and the reason.
    pub(super) fn weak_key_warnings(&self) -> Vec<String> {
        let keys = [
            ("http_api.key", &self.http_api.key),
            ("grpc_api.key", &self.grpc_api.key),
            ("client.token.hmac_secret_key", &self.client.token.hmac_secret_key),
            ("cluster.secret", &self.cluster.secret),
            ("webhooks.secret", &self.webhooks.secret),
            ("shared_poll.hmac_secret_key", &self.shared_poll.hmac_secret_key),
        ];
        let keys = keys.into_iter().map(|(option, key)| (option.to_owned(), key));
        let named = self.http_api.keys.iter();
        let named = named.map(|key| (format!("{API_KEYS}.{}.key", key.name), &key.options.key));
        let warning = |(option, key): (String, &Secret)| {
            let reason = weakness(key.expose())?;
            Some(format!("{option} is weak: {reason}; use a random one (tidings key generate)"))
        };
        let apps = self.pusher.apps.iter();
        let apps = apps.map(|app| (format!("{PUSHER_APPS}.{}.secret", app.id), &app.options.secret));
        keys.chain(named).chain(apps).filter_map(warning).collect()
    }

    /// Every listener, with its option.
    pub fn listeners(&self) -> impl Iterator<Item = (&'static str, Cow<'_, ListenAddr>)> {
        let tcp = self.tcp.listen.iter().map(|address| ("tcp.listen", address));
        let http = self.http.listen.iter().map(|address| ("http.listen", address));
        let mqtt = self.mqtt.listen.iter().filter(|_| self.mqtt.enabled);
        let mqtt = mqtt.map(|address| ("mqtt.listen", address));
        let internal = self.internal.listen.iter().map(|address| ("internal.listen", address));
        let lists = tcp.chain(mqtt).chain(http).chain(internal);
        let grpc = self.grpc_api.enabled.then(|| ("grpc_api.address", Cow::Owned(self.grpc_api.listen())));
        let uni = self.uni_grpc.enabled.then(|| ("uni_grpc.address", Cow::Owned(self.uni_grpc.listen())));
        lists.map(|(key, address)| (key, Cow::Borrowed(address))).chain(grpc).chain(uni)
    }

    /// Whether the page omits the state of the server: other machines can reach the HTTP port.
    pub fn hides_status(&self) -> bool {
        let is_public = self.http.listen.iter().any(|address| !address.is_local());
        is_public && !self.client.insecure && !self.http_api.insecure
    }

    /// Whether `/metrics` on the HTTP port requires a key: other machines can reach it, and there is no internal port.
    pub fn protects_metrics(&self) -> bool {
        self.hides_status() && self.internal.listen.is_empty()
    }

    /// Whether the server is a workbench: no key is configured and all listeners are local, so every client may
    /// connect, subscribe, publish and use the API. May resolve the host name of a listener, see
    /// [`ListenAddr::is_local`].
    pub fn is_workbench(&self) -> bool {
        !self.has_key() && self.listeners().all(|(_, address)| address.is_local())
    }
}

/// The reason why a key is weak, if it is. 16 characters contain about 64 bits if each is one of 16 characters.
fn weakness(key: &str) -> Option<&'static str> {
    const WORDS: [&str; 12] = [
        "secret",
        "password",
        "changeme",
        "change-me",
        "admin",
        "default",
        "example",
        "qwerty",
        "letmein",
        "tidings",
        "apikey",
        "123456",
    ];
    if key.is_empty() {
        return None;
    }
    if key.len() < 16 {
        return Some("it has less than 16 characters");
    }
    let mut signs: Vec<_> = key.bytes().collect();
    signs.sort_unstable();
    signs.dedup();
    if signs.len() < 6 {
        return Some("it repeats a few characters");
    }
    // A word that makes up most of the key: `secret-secret-secret`, `my-secret-password`.
    let lower = key.to_ascii_lowercase();
    let rest = WORDS.iter().fold(lower, |rest, word| rest.replace(word, ""));
    (rest.len() * 2 <= key.len()).then_some("most of it is a common word")
}

/// Adjusts defaults that conflict with given options, and adds an error for each rule that given options violate.
pub(super) fn check(config: &mut Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    pairs(config, given, errors);
    reach(config, given, errors);
    tls(config, given, errors);
    proxy_headers(config, given, errors);
    clients::check(config, given, errors);
    bucket(config, given, errors);
    table_feeds(config, given, errors);
    api_keys(config, given, errors);
    pusher_apps::check(config, given, errors);
    handler_paths::check(config, given, errors);
    channels::check(config, given, errors);
    crate::consumers::check(config, given, errors);
    let rules = [admin_password, cluster_secret, webhooks_secret, grpc_addresses, exposure];
    errors.extend(rules.into_iter().filter_map(|rule| rule(config, given).err()));
}

/// The hash of the admin password is a PHC string of Argon2, so that no password is written there by mistake.
fn admin_password(config: &Config, given: &GivenOptions) -> Result<(), ConfigError> {
    let hash = config.admin.password_hash.expose();
    // `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`
    let parts: Vec<_> = hash.split('$').collect();
    let is_hash =
        matches!(parts[..], ["", "argon2id" | "argon2i" | "argon2d", _, _, _, hash] if !hash.is_empty());
    if hash.is_empty() || is_hash {
        return Ok(());
    }
    let what = "expected the output of `tidings admin hash-password`, which begins with $argon2id$";
    Err(given.error("admin.password_hash", what.to_owned()))
}

/// Pairs of options of which one must be smaller.
fn pairs(config: &mut Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let client = &mut config.client;
    let halve = |duration: Duration| duration / 2;
    Pair {
        small: "client.pong_timeout",
        large: "client.ping_interval",
        may_equal: false,
        show: duration_text,
    }
    .enforce(&mut client.pong_timeout, client.ping_interval, halve, given, errors);
    Pair {
        small: "client.queue_max_size",
        large: "client.queue_max_total",
        may_equal: true,
        show: size_text,
    }
    .enforce(&mut client.queue_max_size, client.queue_max_total, |total| total, given, errors);
    let memory = &mut config.memory;
    Pair { small: "memory.max_namespace", large: "memory.max_total", may_equal: true, show: size_text }
        .enforce(&mut memory.max_namespace, memory.max_total, |total| total, given, errors);
    Pair { small: "memory.max_channel", large: "memory.max_namespace", may_equal: true, show: size_text }
        .enforce(&mut memory.max_channel, memory.max_namespace, |namespace| namespace, given, errors);
    Pair { small: "memory.map_max_channel", large: "memory.map_max_total", may_equal: true, show: size_text }
        .enforce(&mut memory.map_max_channel, memory.map_max_total, |total| total, given, errors);
    let ready = &mut config.ready;
    Pair {
        small: "ready.canary_interval",
        large: "ready.canary_limit",
        may_equal: false,
        show: duration_text,
    }
    .enforce(&mut ready.canary_interval, ready.canary_limit, halve, given, errors);
    let shutdown = &mut config.shutdown;
    Pair { small: "shutdown.lame_duck", large: "shutdown.timeout", may_equal: false, show: duration_text }
        .enforce(&mut shutdown.lame_duck, shutdown.timeout, halve, given, errors);
    if shutdown.lame_duck.is_zero() {
        Pair { small: "shutdown.drain", large: "shutdown.timeout", may_equal: true, show: duration_text }
            .enforce(&mut shutdown.drain, shutdown.timeout, halve, given, errors);
    } else {
        let rest = shutdown.timeout.saturating_sub(shutdown.lame_duck);
        Pair {
            small: "shutdown.drain",
            large: "shutdown.timeout less shutdown.lame_duck",
            may_equal: true,
            show: duration_text,
        }
        .enforce(&mut shutdown.drain, rest, halve, given, errors);
    }
}

/// Rejects more automatic subscriptions than a client may have, and a server without a listener.
fn reach(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let (channels, limit) = (config.tcp.auto_subscribe.len(), config.client.channel_limit);
    if channels > limit {
        let what = format!(
            "tcp.auto_subscribe contains {channels} channels, more than client.channel_limit ({limit})"
        );
        errors.push(given.error("tcp.auto_subscribe", what));
    }
    if config.tcp.listen.is_empty() && config.http.listen.is_empty() {
        let what = "tcp.listen and http.listen are both off, so the server could not be reached";
        errors.push(given.error("http.listen", what.into()));
    }
}

/// Rejects TLS without a certificate or its key, and options that are given in two forms.
fn tls(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let grpc = config.grpc_api.tls.with(&config.tls);
    let uni = config.uni_grpc.tls.with(&config.tls);
    for (group, tls) in [("tls", &config.tls), ("grpc_api.tls", &grpc), ("uni_grpc.tls", &uni)] {
        let has_text =
            [!tls.cert_pem.text().is_empty(), tls.key_pem.is_set(), !tls.client_ca_pem.text().is_empty()];
        let has_file = [&tls.cert_pem_file, &tls.key_pem_file, &tls.client_ca_pem_file].map(Option::is_some);
        let needed = [true, true, false];
        for (index, text) in ["cert_pem", "key_pem", "client_ca_pem"].into_iter().enumerate() {
            let (text, file) = (format!("{group}.{text}"), format!("{group}.{text}_file"));
            if has_file[index] && has_text[index] {
                let what = format!("{text} and {file} are both given; only one of them may be given");
                errors.push(given.error(&text, what));
            }
            if tls.enabled && needed[index] && !has_file[index] && !has_text[index] {
                let enabled = format!("{group}.enabled");
                let (place, line) = given.how_to_add(&enabled);
                let what =
                    format!("{enabled} is true, but {file} is not given; add {place}{}", line(&file, "FILE"));
                errors.push(given.error(&enabled, what));
            }
        }
    }
}

/// Rejects a host that is no part of an address.
fn grpc_addresses(config: &Config, given: &GivenOptions) -> Result<(), ConfigError> {
    for (group, address) in [("grpc_api", config.grpc_api.listen()), ("uni_grpc", config.uni_grpc.listen())] {
        if let Err(reason) = address.to_string().parse::<ListenAddr>() {
            let what = format!("the address \"{address}\" of {group}.address and {group}.port {reason}");
            return Err(given.error(&format!("{group}.address"), what));
        }
    }
    Ok(())
}

/// Rejects PROXY headers over TCP without a proxy that may send them.
fn proxy_headers(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    if !config.trusted_proxies.is_empty() {
        return;
    }
    for (key, is_on, listeners) in [
        ("tcp.proxy_protocol", config.tcp.proxy_protocol, &config.tcp.listen),
        ("tcp.proxy_protocol", config.tcp.proxy_protocol, &config.mqtt.listen),
        ("http.proxy_protocol", config.http.proxy_protocol, &config.http.listen),
    ] {
        if is_on && listeners.iter().any(|address| matches!(address, ListenAddr::Tcp(_))) {
            let (place, line) = given.how_to_add(key);
            let what = format!(
                "trusted_proxies is empty, so every connection would be refused; add {place}{} with the address of the \
                 proxy",
                line("trusted_proxies", "127.0.0.1")
            );
            errors.push(given.error(key, what));
        }
    }
}

/// Rejects a short secret, and nodes that would exchange commands and tokens unprotected although keys protect other
/// interfaces.
fn cluster_secret(config: &Config, given: &GivenOptions) -> Result<(), ConfigError> {
    let (key, secret) = ("cluster.secret", &config.cluster.secret);
    if secret.is_set() && secret.expose().len() < MIN_SECRET {
        let what =
            format!("{key} is shorter than {MIN_SECRET} bytes; `openssl rand -hex 32` makes a good one");
        return Err(given.error(key, what));
    }
    let is_protected = config.has_key() || config.client.proxy.connect.enabled;
    if config.broker == BrokerUrl::Memory || !is_protected || config.cluster_key().is_some() {
        return Ok(());
    }
    let (place, line) = given.how_to_add("broker");
    let what = format!(
        "nodes that share a Redis protect their messages with a common secret, and none can be derived from the keys \
         that are configured; add {place}{} (at least {MIN_SECRET} bytes, the same on every node; `openssl rand \
         -hex 32` makes one)",
        line(key, "A-SECRET")
    );
    Err(given.error("broker", what))
}

/// Rejects receivers of webhooks that could not verify their requests.
fn webhooks_secret(config: &Config, given: &GivenOptions) -> Result<(), ConfigError> {
    let webhooks = &config.webhooks;
    if webhooks.endpoints.is_empty() || webhooks.secret.is_set() || given.contains("webhooks.secret_file") {
        return Ok(());
    }
    let (place, line) = given.how_to_add("webhooks.endpoints");
    let what = format!(
        "the requests of webhooks are signed, and webhooks.secret is empty; add {place}{} (`openssl rand -hex 32` makes one)",
        line("webhooks.secret", "A-SECRET")
    );
    Err(given.error("webhooks.endpoints", what))
}

/// Rejects a named key without a key or a scope, and a key that has two names.
fn api_keys(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let keys: Vec<_> = config.http_api.keys.iter().collect();
    for (i, NamedApiKey { name, options }) in keys.iter().enumerate() {
        let path = format!("{API_KEYS}.{name}");
        let mut reject =
            |option: &str, what: String| errors.push(given.item_error(API_KEYS, name, option, what));
        if !options.key.is_set() && !given.contains(&format!("{path}.key_file")) {
            reject("key", format!("the key \"{name}\" is empty; give {path}.key or {path}.key_file"));
        }
        if options.scopes.is_empty() {
            let what = format!("the key \"{name}\" has no scopes; give some of `publish`, `read`, `manage`");
            reject("scopes", what);
        }
        let secret = options.key.expose();
        let others = keys[..i].iter().map(|key| (&*key.name, &key.options.key));
        let mut others = others.chain([("http_api.key", &config.http_api.key)]);
        if let Some((other, _)) = others.find(|(_, other)| other.is_set() && other.expose() == secret) {
            reject("key", format!("the keys \"{name}\" and \"{other}\" are equal"));
        }
    }
}

/// Rejects an incomplete key, and a store over plain HTTP without `allow_http`.
fn bucket(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let s3 = &config.tables.s3;
    let (id, secret) = ("tables.s3.access_key_id", "tables.s3.secret_access_key");
    for (one, other, is_half) in [
        (id, secret, !s3.access_key_id.is_empty() && !s3.secret_access_key.is_set()),
        (secret, id, s3.access_key_id.is_empty() && s3.secret_access_key.is_set()),
    ] {
        if is_half {
            errors.push(given.error(one, format!("{one} is given, and {other} is not; both are required")));
        }
    }
    let is_plain = s3.endpoint.as_ref().is_some_and(|url| url.uri().scheme_str() == Some("http"));
    if is_plain && !s3.allow_http {
        let key = "tables.s3.endpoint";
        let what = format!(
            "{key} begins with http://, so others on the network could read and change tables; set \
             tables.s3.allow_http = true to allow it"
        );
        errors.push(given.error(key, what));
    }
}

/// Rejects tables of channels whose store is a bucket, and of channels without a stream of publications.
fn table_feeds(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let key = "tables.from_channel";
    let has_feeds = config.tables.from_channel.iter().next().is_some();
    if has_feeds && matches!(config.tables.store, Some(TablesStore::S3 { .. })) {
        let what = format!("{key} needs tables in a folder; tables.store is a bucket");
        errors.push(given.error(key, what));
    }
    for feed in config.tables.from_channel.iter() {
        let Some(namespace) = config.channel.namespace_of(&feed.channel) else { continue };
        if namespace.options.subscription_type != SubscriptionType::Stream {
            let what = format!(
                "{key} needs channels with subscription_type = \"stream\"; {:?} is in the namespace {:?}, which has another one",
                feed.channel, namespace.name
            );
            errors.push(given.error(key, what));
        }
    }
}

/// Two options of which one must be smaller.
struct Pair<T> {
    small: &'static str,
    large: &'static str,
    may_equal: bool,
    show: fn(T) -> String,
}

impl<T: PartialOrd + Copy> Pair<T> {
    /// Keeps a value that satisfies the rule. Adjusts a default, and rejects a given value.
    fn enforce(
        self,
        small: &mut T,
        large: T,
        fitting: impl Fn(T) -> T,
        given: &GivenOptions,
        errors: &mut Vec<ConfigError>,
    ) {
        if *small < large || self.may_equal && *small == large {
            return;
        }
        if !given.contains(self.small) {
            *small = fitting(large);
            return;
        }
        let relation = if self.may_equal { "at most" } else { "less than" };
        let (small, large) = ((self.show)(*small), (self.show)(large));
        let what = format!("{} ({small}) must be {relation} {} ({large})", self.small, self.large);
        errors.push(given.error(self.small, what));
    }
}

/// Rejects a listener that other machines can reach while every operation is permitted.
fn exposure(config: &Config, given: &GivenOptions) -> Result<(), ConfigError> {
    if config.has_key() || config.client.insecure {
        return Ok(());
    }
    let Some((key, address)) = config.listeners().find(|(_, address)| !address.is_local()) else {
        return Ok(());
    };
    let (place, line) = given.how_to_add(key);
    let what = format!(
        "{address} is not a loopback address, and no key is configured; add {place}{} (or {}; or {}, and every client \
         has all permissions)",
        line("http_api.key", "A-SECRET"),
        line("client.token.hmac_secret_key", "A-SECRET"),
        line("client.insecure", "true"),
    );
    Err(given.error(key, what))
}
