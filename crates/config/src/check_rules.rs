//! The rules by which namespaces claim channels: `match`, `pattern` and `user_variable`.

use tidings_channel_rules::{ChannelPattern, Rule, RuleTree, RuleTreeError};

use super::error::ConfigError;
use super::given::GivenOptions;
use super::options::{ChannelOptions, Channels, Config, Namespace};

/// Most filters of a namespace.
const MAX_FILTERS: usize = 64;

impl Channels {
    /// The rules of all namespaces, each with the index of its namespace. Within one namespace `match` comes before `pattern`.
    pub fn rules(&self) -> impl Iterator<Item = (usize, Rule)> {
        self.namespaces.iter().enumerate().flat_map(|(index, namespace)| {
            let ChannelOptions { r#match, pattern, .. } = &namespace.options;
            let filters = r#match.iter().cloned().map(Rule::Filter);
            filters.chain(pattern.clone().map(Rule::Pattern)).map(move |rule| (index, rule))
        })
    }

    /// The namespace of a channel, by its prefix or by a rule; `None` without one.
    pub(crate) fn namespace_of(&self, channel: &str) -> Option<&Namespace> {
        let name = channel.strip_prefix(&*self.private_prefix).unwrap_or(channel);
        let prefix = name.split_once(&*self.namespace_boundary).map(|(prefix, _)| prefix);
        let named = self.namespaces.iter().find(|namespace| Some(&*namespace.name) == prefix);
        named.or_else(|| {
            let rules = RuleTree::new(self.rules()).ok()?;
            // A filter that begins with a wildcard does not match a name with a dollar sign.
            let is_hidden = |rule: &Rule| channel.starts_with('$') && rule.as_str().starts_with(['+', '#']);
            let (index, _) = rules.find(name).filter(|(_, rule)| !is_hidden(rule))?;
            self.namespaces.get(index)
        })
    }
}

/// Rejects rules outside of namespaces, rules that claim no channel, and rules that claim the same channels.
pub(super) fn check(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let channels = &config.channel;
    let ChannelOptions { r#match, pattern, user_variable, .. } = &channels.without_namespace;
    let without = [
        ("match", !r#match.is_empty()),
        ("pattern", pattern.is_some()),
        ("user_variable", !user_variable.is_empty()),
    ];
    for (option, _) in without.into_iter().filter(|(_, is_set)| *is_set) {
        let what = "claims channels for a namespace: set it in one of channel.namespaces".to_owned();
        errors.push(given.error(&format!("channel.without_namespace.{option}"), what));
    }
    for namespace in &channels.namespaces {
        let options = &namespace.options;
        let key = |option: &str| format!("channel.namespaces.{}.{option}", namespace.name);
        if options.r#match.len() > MAX_FILTERS {
            errors.push(given.error(&key("match"), format!("more than {MAX_FILTERS} filters")));
        }
        let variable = &options.user_variable;
        let mut variables = options.pattern.iter().flat_map(ChannelPattern::variables);
        if !variable.is_empty() && !variables.any(|known| known == variable) {
            let what = format!("pattern has no variable \":{variable}\"");
            errors.push(given.error(&key("user_variable"), what));
        }
    }
    let name = |index: usize| &*channels.namespaces[index].name;
    let key = |(index, rule): &(usize, Rule)| {
        let option = if matches!(rule, Rule::Filter(_)) { "match" } else { "pattern" };
        format!("channel.namespaces.{}.{option}", name(*index))
    };
    for owned in channels.rules() {
        if let Some(why) = unreachable(channels, owned.1.as_str()) {
            errors.push(
                given.error(&key(&owned), format!("\"{}\" claims no channel: {why}", owned.1.as_str())),
            );
        }
    }
    match RuleTree::new(channels.rules()) {
        Err(RuleTreeError::Conflict(conflict)) => {
            let what = format!(
                "\"{}\" claims the same channels as \"{}\" of the namespace \"{}\"",
                conflict.second.1.as_str(),
                conflict.first.1.as_str(),
                name(conflict.first.0)
            );
            errors.push(given.error(&key(&conflict.second), what));
        }
        Err(error @ RuleTreeError::TooMany) => {
            errors.push(given.error("channel.namespaces", error.to_string()));
        }
        Ok(_) => {}
    }
}

/// Why a rule claims no channel, although it is valid.
fn unreachable(channels: &Channels, rule: &str) -> Option<String> {
    let Channels { private_prefix, namespace_boundary, namespaces, .. } = channels;
    if !private_prefix.is_empty() && rule.starts_with(&**private_prefix) {
        return Some(format!(
            "names are compared without channel.private_prefix (\"{private_prefix}\"); leave it out"
        ));
    }
    // The text before a boundary is that of every channel of the rule, if it has no wildcard.
    let (prefix, _) = rule.split_once(&**namespace_boundary)?;
    namespaces.iter().any(|namespace| namespace.name == prefix).then(|| {
        format!("channels that begin with \"{prefix}{namespace_boundary}\" are in the namespace \"{prefix}\"")
    })
}
