//! Namespaces: options of all channels with the same prefix, or that a rule of the namespace claims.
//!
//! `scores:nba` belongs to the namespace `scores` if that is configured. Otherwise the most specific rule of all namespaces that
//! matches the name decides ([`tidings_channel_rules`]). If any namespace is configured, a channel with an unknown prefix and
//! without a rule is an unknown channel (code 102), and so is one that begins with a slash where any namespace has a pattern. If no
//! namespace is configured, a colon has no meaning, so that a backend can keep its names.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tidings_channel_rules::{Owner, Rule, RuleTree};
use tidings_pattern::Pattern;
use tidings_wire::RecoveryMode;
use tidings_wire::body::DataFormat;
use tidings_wire::code::{self, Code};

use crate::map::MapNamespace;
use crate::map_presence::PresenceMaps;
use crate::namespace_stats::WITHOUT_NAMESPACE;
use crate::shared_poll::PollNamespace;

/// The action for a subscriber with a full queue. The value `auto` of the option is resolved when the settings are
/// built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumerPolicy {
    /// Close the connection with a code on which the client reconnects.
    Cut,
    /// Drop the waiting publications of the channel except the newest.
    Latest,
    /// Drop the oldest publications, and report their number to the client.
    #[default]
    DropOldest,
}

/// The options of a namespace, with their names in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the switches of the configuration, one each")]
pub struct NamespaceOptions {
    /// Clients with a user may subscribe.
    pub allow_subscribe_for_client: bool,
    /// Anonymous clients may subscribe, if clients may.
    pub allow_subscribe_for_anonymous: bool,
    /// Clients with a user may publish.
    pub allow_publish_for_client: bool,
    /// Subscribers with a user may publish.
    pub allow_publish_for_subscriber: bool,
    /// Anonymous clients may publish, if clients or subscribers may.
    pub allow_publish_for_anonymous: bool,
    /// How JSON clients receive bodies.
    pub publication_data_format: DataFormat,
    /// The policy for slow subscribers.
    pub slow_consumer: SlowConsumerPolicy,
    /// Number of publications in the history of a channel; zero for none.
    pub history_size: usize,
    /// How long publications stay in the history; zero for none.
    pub history_ttl: Duration,
    /// How long the position of a channel is kept after the last publication.
    pub history_meta_ttl: Duration,
    /// A client may request a recoverable subscription, even without the right to read the history.
    pub allow_recovery: bool,
    /// A client may request a positioned subscription, even without the right to read the history.
    pub allow_positioning: bool,
    /// Subscriptions are recoverable, whether the client requests it or not.
    pub force_recovery: bool,
    /// The publications that a client recovers.
    pub force_recovery_mode: RecoveryMode,
    /// Subscriptions end when a publication was missed, whether the client requests it or not.
    pub force_positioning: bool,
    /// The list of subscribed clients is kept.
    pub presence: bool,
    /// Joins and leaves are published to subscribers that request them.
    pub join_leave: bool,
    /// Subscribers receive joins and leaves whether they request them or not.
    pub force_push_join_leave: bool,
    /// Subscribers may read the history.
    pub allow_history_for_subscriber: bool,
    /// Clients with a user may read the history.
    pub allow_history_for_client: bool,
    /// Anonymous clients may read the history, if clients or subscribers may.
    pub allow_history_for_anonymous: bool,
    /// Subscribers may read the presence.
    pub allow_presence_for_subscriber: bool,
    /// Clients with a user may read the presence.
    pub allow_presence_for_client: bool,
    /// Anonymous clients may read the presence, if clients or subscribers may.
    pub allow_presence_for_anonymous: bool,
    /// Channels with a `#` in their name are open only to the users that are named after it.
    pub allow_user_limited_channels: bool,
    /// The variable of the pattern whose value is the user that may subscribe; `None` for no such limit.
    pub user_variable: Option<Box<str>>,
    /// The pattern of the names of channels that clients may use, without prefix and namespace.
    pub channel_regex: Option<Pattern>,
    /// Clients may subscribe with deltas of Fossil's format.
    pub allow_fossil_delta: bool,
    /// Every publication is sent as a delta to subscribers with deltas.
    pub delta_publish: bool,
    /// Clients may subscribe with a filter by tags.
    pub allow_tags_filter: bool,
    /// Most different filters of the subscribers of a channel on one shard.
    pub tags_filter_limit: usize,
    /// The application decides about subscriptions.
    pub subscribe_proxy: bool,
    /// The application decides about publications.
    pub publish_proxy: bool,
    /// The application renews subscriptions that expire.
    pub sub_refresh_proxy: bool,
    /// The application decides about subscriptions, and opens a stream of publications for each.
    pub subscribe_stream_proxy: bool,
    /// Such a stream also gets the publications of its client.
    pub subscribe_stream_bidirectional: bool,
    /// The names of these hooks, where they differ from those without a name.
    pub hooks: HookNames,
    /// The options of the map that each channel is; `None` for channels that are not maps.
    pub map: Option<Box<MapNamespace>>,
    /// The options of the shared poll that each channel is; `None` for channels that are not shared polls.
    pub shared_poll: Option<Box<PollNamespace>>,
    /// The maps with the subscribers of each channel; `None` without such maps.
    pub presence_maps: Option<Box<PresenceMaps>>,
}

impl NamespaceOptions {
    /// Whether publications are kept.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }
}

/// Why clients may not use a name of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It has more bytes than this.
    TooLong(usize),
    /// It does not match the pattern of its namespace.
    Pattern,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(limit) => {
                write!(
                    f,
                    "bad request: the name of the channel has more than {limit} bytes (channel.max_length)"
                )
            }
            Self::Pattern => f.write_str(
                "bad request: the name of the channel does not match channel_regex of its namespace",
            ),
        }
    }
}

/// The names of the hooks of a namespace; `None` for the hook without a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookNames {
    /// The hook that decides about subscriptions.
    pub subscribe: Option<String>,
    /// The hook that decides about publications.
    pub publish: Option<String>,
    /// The hook that renews subscriptions.
    pub sub_refresh: Option<String>,
    /// The hook that opens streams for subscriptions.
    pub subscribe_stream: Option<String>,
}

/// A named set of options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The prefix of its channels, before the boundary.
    pub name: String,
    /// The options of its channels.
    pub options: NamespaceOptions,
}

/// The options of all channels.
#[derive(Clone, Debug)]
pub struct Namespaces {
    without: NamespaceOptions,
    named: HashMap<String, NamespaceOptions>,
    /// Whether any of these has a pattern of names.
    has_patterns: bool,
    /// Between a namespace and the rest of a name.
    boundary: String,
    /// The prefix of private channels, which stands before the namespace.
    private_prefix: String,
    /// Longest name of a channel that clients may use, in bytes.
    max_length: usize,
    /// The options of channels with these beginnings, instead of those of their namespaces.
    by_beginning: Vec<(String, NamespaceOptions)>,
    /// The rules of namespaces; `None` without any, so that a lookup does no further work.
    rules: Option<Box<NamespaceRules>>,
}

/// The rules by which namespaces claim channels.
#[derive(Clone, Debug)]
struct NamespaceRules {
    /// The owners are indexes of `namespaces`.
    tree: RuleTree,
    namespaces: Vec<Namespace>,
}

impl Default for Namespaces {
    /// Without namespaces, and with default options of all channels.
    fn default() -> Self {
        Self::new(NamespaceOptions::default(), [])
    }
}

impl Namespaces {
    /// The options of channels without a namespace, and of each namespace.
    pub fn new(without: NamespaceOptions, named: impl IntoIterator<Item = Namespace>) -> Self {
        let named: HashMap<_, _> = named.into_iter().map(|n| (n.name, n.options)).collect();
        let has_patterns = named.values().chain([&without]).any(|options| options.channel_regex.is_some());
        Self {
            without,
            named,
            has_patterns,
            boundary: ":".to_owned(),
            private_prefix: String::new(),
            max_length: usize::MAX,
            by_beginning: Vec::new(),
            rules: None,
        }
    }

    /// Sets the rules by which namespaces claim channels besides those with their prefix. The owner of a rule is an index of
    /// `names`, which are names of namespaces. A rule of an unknown namespace has no effect.
    #[must_use]
    pub fn with_rules<'n>(mut self, tree: RuleTree, names: impl IntoIterator<Item = &'n str>) -> Self {
        let namespace = |name: &str| Namespace {
            name: name.to_owned(),
            options: self.named.get(name).cloned().unwrap_or_default(),
        };
        let namespaces: Vec<_> = names.into_iter().map(namespace).collect();
        self.rules = (!tree.is_empty()).then(|| Box::new(NamespaceRules { tree, namespaces }));
        self
    }

    /// Replaces the options of the channels whose names begin with `beginning` by the result of `change` on the options of
    /// `channel`, which is one of them. Has no effect if the namespace of that channel is not configured.
    #[must_use]
    pub fn with_beginning(
        mut self,
        beginning: &str,
        channel: &str,
        change: impl FnOnce(&mut NamespaceOptions),
    ) -> Self {
        if let Ok(options) = self.options(channel) {
            let mut options = options.clone();
            change(&mut options);
            self.by_beginning.push((beginning.to_owned(), options));
        }
        self
    }

    /// Sets the prefix of private channels. It is not a part of the namespace.
    pub fn with_private_prefix(self, prefix: impl Into<String>) -> Self {
        Self { private_prefix: prefix.into(), ..self }
    }

    /// Sets the text between a namespace and the rest of a name, which is not empty.
    pub fn with_boundary(self, boundary: impl Into<String>) -> Self {
        Self { boundary: boundary.into(), ..self }
    }

    /// The text between a namespace and the rest of a name.
    pub fn boundary(&self) -> &str {
        &self.boundary
    }

    /// The parts of a name before and behind the first boundary.
    fn split<'n>(&self, name: &'n str) -> Option<(&'n str, &'n str)> {
        match *self.boundary.as_bytes() {
            // Faster than a search for a text.
            [byte] => name.split_once(char::from(byte)),
            _ => name.split_once(&*self.boundary),
        }
    }

    /// Sets the longest name of a channel that clients may use, in bytes.
    pub fn with_max_length(self, max_length: usize) -> Self {
        Self { max_length, ..self }
    }

    /// Whether clients may use this name of a channel.
    ///
    /// # Errors
    /// The rule that does not permit the name: its length, or the pattern of its namespace.
    pub fn check_name(&self, channel: &str) -> Result<(), NameError> {
        if channel.len() > self.max_length {
            return Err(NameError::TooLong(self.max_length));
        }
        if !self.has_patterns {
            return Ok(());
        }
        let pattern = self.options(channel).ok().and_then(|options| options.channel_regex.as_ref());
        let Some(pattern) = pattern else { return Ok(()) };
        let name = channel.strip_prefix(&*self.private_prefix).unwrap_or(channel);
        // Without namespaces, the boundary has no meaning. A name that a rule claims is checked as a whole.
        let rest = match self.split(name) {
            Some((namespace, rest)) if self.named.contains_key(namespace) => rest,
            _ => name,
        };
        if pattern.is_match(rest) { Ok(()) } else { Err(NameError::Pattern) }
    }

    /// The options of channels without a namespace.
    pub fn without(&self) -> &NamespaceOptions {
        &self.without
    }

    /// All options with the name of their namespace; empty for channels without one.
    pub fn all(&self) -> impl Iterator<Item = (&str, &NamespaceOptions)> {
        let named = self.named.iter().map(|(name, options)| (name.as_str(), options));
        std::iter::once(("", &self.without)).chain(named)
    }

    /// The options of `channel`.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] if its namespace is not configured.
    pub fn options(&self, channel: &str) -> Result<&NamespaceOptions, Code> {
        let mut by_beginning = self.by_beginning.iter();
        if let Some((_, options)) =
            by_beginning.find(|(beginning, _)| channel.starts_with(beginning.as_str()))
        {
            return Ok(options);
        }
        if self.named.is_empty() {
            return Ok(&self.without);
        }
        let name = channel.strip_prefix(&*self.private_prefix).unwrap_or(channel);
        let prefix = self.split(name).map(|(prefix, _)| prefix).filter(|prefix| !prefix.is_empty());
        if let Some(options) = prefix.and_then(|prefix| self.named.get(prefix)) {
            return Ok(options);
        }
        if let Some(rules) = &self.rules {
            match rules.find(channel, name) {
                Some((namespace, _)) => return Ok(&namespace.options),
                None if rules.tree.has_patterns() && name.starts_with('/') => {
                    return Err(code::UNKNOWN_CHANNEL);
                }
                None => {}
            }
        }
        if prefix.is_some() { Err(code::UNKNOWN_CHANNEL) } else { Ok(&self.without) }
    }

    /// The name of the configured namespace of `channel`; [`WITHOUT_NAMESPACE`] if it has none.
    pub fn name<'a>(&'a self, channel: &'a str) -> &'a str {
        if self.named.is_empty() {
            return WITHOUT_NAMESPACE;
        }
        let name = channel.strip_prefix(&*self.private_prefix).unwrap_or(channel);
        let prefix = self.split(name).map(|(name, _)| name).filter(|name| self.named.contains_key(*name));
        prefix
            .or_else(|| self.rules.as_ref()?.find(channel, name).map(|(namespace, _)| &*namespace.name))
            .unwrap_or(WITHOUT_NAMESPACE)
    }

    /// The variables in the pattern that claims `channel`, with their values; none for other channels.
    pub fn variables<'a>(&'a self, channel: &'a str) -> Vec<(&'a str, &'a str)> {
        let Some(rules) = &self.rules else { return Vec::new() };
        let name = channel.strip_prefix(&*self.private_prefix).unwrap_or(channel);
        let is_prefixed = self.split(name).is_some_and(|(prefix, _)| self.named.contains_key(prefix));
        match rules.find(channel, name) {
            Some((_, Rule::Pattern(pattern))) if !is_prefixed => pattern.values(name).collect(),
            _ => Vec::new(),
        }
    }

    /// For each rule a name that it and a topic filter of MQTT both match, if there is one. `filler` is the text of the levels that
    /// both leave open: at least one character, and no slash.
    pub fn common_names<'a>(&'a self, filter: &'a str, filler: &'a str) -> impl Iterator<Item = String> {
        self.rules.iter().flat_map(move |rules| rules.tree.common_names(filter, filler))
    }

    /// The rules of namespaces, each with the name of its namespace.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules.iter().flat_map(|rules| {
            rules
                .tree
                .rules()
                .filter_map(|(owner, rule)| Some((&*rules.namespaces.get(owner)?.name, rule.as_str())))
        })
    }
}

impl NamespaceRules {
    /// The namespace that claims a channel, and its rule. `name` is that of the channel without the prefix of private channels.
    fn find(&self, channel: &str, name: &str) -> Option<(&Namespace, &Rule)> {
        let found = self.tree.find(name);
        let (owner, rule): (Owner, &Rule) = found.filter(|(_, rule)| !is_hidden_from(rule, channel))?;
        self.namespaces.get(owner).map(|namespace| (namespace, rule))
    }
}

/// Whether a rule is a filter that begins with a wildcard, and the channel one that begins with `$`: as in MQTT, the filter does
/// not match it (5.0 §4.7.2).
fn is_hidden_from(rule: &Rule, channel: &str) -> bool {
    channel.starts_with('$') && rule.as_str().starts_with(['+', '#'])
}

#[cfg(test)]
mod tests {
    use tidings_channel_rules::{ChannelFilter, ChannelPattern};

    use super::*;

    #[test]
    fn a_colon_has_no_meaning_without_namespaces() {
        let none = Namespaces::default();
        assert!(none.options("scores:nba").is_ok());
        let chat = NamespaceOptions { allow_publish_for_client: true, ..Default::default() };
        let some = Namespaces::new(
            NamespaceOptions::default(),
            [Namespace { name: "chat".into(), options: chat.clone() }],
        );
        assert_eq!(some.options("chat:room"), Ok(&chat));
        assert_eq!(some.options("plain"), Ok(&NamespaceOptions::default()));
        assert_eq!(some.options("scores:nba"), Err(code::UNKNOWN_CHANNEL));
        assert_eq!(some.options(":a"), Ok(&NamespaceOptions::default()), "an empty name is no namespace");
        let some = some.with_private_prefix("$");
        let channels = ["chat:room", "$chat:room", "plain", "scores:nba", ":a"];
        assert_eq!(channels.map(|channel| some.name(channel)), ["chat", "chat", "_", "_", "_"]);
        assert_eq!(none.name("chat:room"), "_");
    }

    fn with_rules(rules: &[(usize, &str)]) -> Namespaces {
        let named = ["chat", "home", "users"].map(|name| Namespace {
            name: name.into(),
            options: NamespaceOptions { history_size: name.len(), ..Default::default() },
        });
        let rules = rules.iter().map(|(owner, text)| {
            let rule = match text.starts_with('/') {
                true => Rule::Pattern(ChannelPattern::new(text).expect("a pattern")),
                false => Rule::Filter(ChannelFilter::new(text).expect("a filter")),
            };
            (*owner, rule)
        });
        let tree = RuleTree::new(rules).expect("no conflict");
        Namespaces::new(NamespaceOptions::default(), named)
            .with_private_prefix("$")
            .with_rules(tree, ["chat", "home", "users"])
    }

    #[test]
    fn a_name_with_the_prefix_of_a_namespace_is_in_it_and_others_have_the_namespace_of_their_rule() {
        let namespaces = with_rules(&[(1, "home/+/temp"), (1, "#"), (2, "/users/:id")]);
        for (channel, name) in [
            ("chat:a/temp", "chat"),
            ("home/1/temp", "home"),
            ("sensor", "home"),
            ("unknown:a", "home"),
            ("/users/7", "users"),
            ("$/users/7", "users"),
            ("$home/1/temp", "home"),
            ("$chat:a", "chat"),
        ] {
            assert_eq!(namespaces.name(channel), name, "{channel}");
            assert_eq!(namespaces.options(channel).map(|o| o.history_size), Ok(name.len()), "{channel}");
        }
        assert_eq!(namespaces.name("$SYS/broker/uptime"), WITHOUT_NAMESPACE);
        assert_eq!(namespaces.options("$SYS/broker/uptime"), Ok(&NamespaceOptions::default()));
        assert_eq!(namespaces.variables("/users/7"), [("id", "7")]);
        assert_eq!(namespaces.variables("home/1/temp"), []);
    }

    #[test]
    fn a_channel_that_no_rule_claims_is_unknown_if_it_begins_as_a_pattern() {
        let namespaces = with_rules(&[(2, "/users/:id"), (1, "home/#")]);
        for unknown in ["/users/7/a", "/users/", "/", "news:a"] {
            assert_eq!(namespaces.options(unknown), Err(code::UNKNOWN_CHANNEL), "{unknown}");
        }
        assert_eq!(namespaces.options("news"), Ok(&NamespaceOptions::default()));
        let filters = with_rules(&[(1, "home/#")]);
        assert_eq!(filters.options("/users/7"), Ok(&NamespaceOptions::default()));
    }

    #[test]
    fn channel_regex_applies_to_the_whole_name_of_a_channel_that_a_rule_claims() {
        let mut namespaces = with_rules(&[(2, "/users/:id")]);
        let pattern = Some(Pattern::new("^/users/[0-9]+$").expect("a pattern"));
        if let Some(rules) = &mut namespaces.rules {
            rules.namespaces[2].options.channel_regex = pattern;
        }
        namespaces.has_patterns = true;
        assert_eq!(namespaces.check_name("/users/7"), Ok(()));
        assert_eq!(namespaces.check_name("/users/a"), Err(NameError::Pattern));
    }

    #[test]
    fn channels_with_a_beginning_have_options_of_their_own() {
        let chat = Namespace {
            name: "chat".into(),
            options: NamespaceOptions { presence: true, ..Default::default() },
        };
        let namespaces = Namespaces::new(NamespaceOptions::default(), [chat])
            .with_beginning("chat:cache-", "chat:cache-", |options| options.history_size = 1)
            .with_beginning("news:cache-", "news:cache-", |options| options.history_size = 1);
        let options = namespaces.options("chat:cache-a").expect("a namespace");
        assert_eq!((options.history_size, options.presence), (1, true));
        assert_eq!(namespaces.options("chat:a").map(|options| options.history_size), Ok(0));
        assert_eq!(namespaces.options("cache-a").map(|options| options.history_size), Ok(0));
        assert_eq!(namespaces.options("news:cache-a"), Err(code::UNKNOWN_CHANNEL));
    }

    #[test]
    fn a_pattern_applies_to_the_rest_of_a_name_and_a_length_to_all_of_it() {
        let with = |pattern: &str| NamespaceOptions {
            channel_regex: Some(Pattern::new(pattern).expect("a pattern")),
            ..Default::default()
        };
        let digits = Namespace { name: "chat".into(), options: with("^[0-9]+$") };
        let namespaces =
            Namespaces::new(with("^[a-z:]+$"), [digits]).with_private_prefix("$").with_max_length(10);
        for good in ["chat:7", "$chat:7", "news", "$news", ":a"] {
            assert_eq!(namespaces.check_name(good), Ok(()), "{good}");
        }
        for bad in ["chat:a", "chat:", "$chat:a", "chat:7:a", "News", "news7"] {
            assert_eq!(namespaces.check_name(bad), Err(NameError::Pattern), "{bad}");
        }
        assert_eq!(namespaces.check_name("chat:123456"), Err(NameError::TooLong(10)));
        let none = Namespaces::new(with("^[a-z:]+$"), []);
        assert_eq!(none.check_name("chat:a"), Ok(()), "a colon has no meaning without namespaces");
        assert_eq!(none.check_name("chat:7"), Err(NameError::Pattern));
    }

    #[test]
    fn a_namespace_ends_at_the_configured_boundary() {
        let chat = NamespaceOptions {
            channel_regex: Some(Pattern::new("^[0-9]+$").expect("a pattern")),
            ..Default::default()
        };
        let chat = [Namespace { name: "chat".into(), options: chat }];
        let namespaces =
            Namespaces::new(NamespaceOptions::default(), chat).with_private_prefix("$").with_boundary("//");
        assert_eq!(namespaces.name("$chat//7"), "chat");
        assert_eq!(namespaces.check_name("chat//7"), Ok(()));
        assert_eq!(namespaces.check_name("chat//a"), Err(NameError::Pattern));
        assert_eq!(namespaces.options("news//7"), Err(code::UNKNOWN_CHANNEL));
        assert_eq!(namespaces.name("chat:7"), WITHOUT_NAMESPACE);
        assert!(namespaces.options("chat:7").is_ok() && namespaces.options("chat/7").is_ok());
    }
}
