//! Names that a topic filter and a rule both match, for a subscription whose channels belong to several namespaces.

use crate::filter;
use crate::level::{Level, SEPARATOR, is_hidden};
use crate::tree::{Rule, RuleTree};

impl RuleTree {
    /// For each rule, in their order, a name that it and a valid topic filter of MQTT both match, if there is one. `filler` is the
    /// text of levels and variables that both leave open: at least one character, and no slash.
    pub fn common_names<'a>(&'a self, filter: &'a str, filler: &'a str) -> impl Iterator<Item = String> {
        let filter: Vec<_> = filter::levels(filter).collect();
        self.rules().filter_map(move |(_, rule)| {
            let rule: Vec<_> = match rule {
                Rule::Filter(rule) => rule.levels().collect(),
                Rule::Pattern(rule) => rule.levels().collect(),
            };
            common_name(&filter, &rule, filler)
        })
    }
}

fn common_name(filter: &[Level<'_>], rule: &[Level<'_>], filler: &str) -> Option<String> {
    let is_open = |levels: &[Level<'_>]| !matches!(levels.first(), Some(Level::Text(_)));
    let is_open = is_open(filter) || is_open(rule);
    let mut name: Vec<String> = Vec::new();
    let (mut filter, mut rule) = (filter.iter(), rule.iter());
    loop {
        let level = match (filter.next(), rule.next()) {
            (None | Some(Level::Multi), None | Some(Level::Multi)) => break,
            (None, Some(_)) | (Some(_), None) => return None,
            (Some(Level::Multi), Some(level)) => {
                name.push(example(*level, filler));
                for level in rule.take_while(|level| **level != Level::Multi) {
                    name.push(example(*level, filler));
                }
                break;
            }
            (Some(level), Some(Level::Multi)) => {
                name.push(example(*level, filler));
                for level in filter.take_while(|level| **level != Level::Multi) {
                    name.push(example(*level, filler));
                }
                break;
            }
            (Some(one), Some(other)) => common_level(*one, *other, filler)?,
        };
        name.push(level);
    }
    // `#` alone on both sides.
    let name = if name.is_empty() { filler.to_owned() } else { name.join(&SEPARATOR.to_string()) };
    // A leading wildcard matches no name that begins with `$`.
    let is_excluded = name.is_empty() || is_open && is_hidden(&name);
    (!is_excluded).then_some(name)
}

/// A text of a level.
fn example(level: Level<'_>, filler: &str) -> String {
    match level {
        Level::Text(text) => text.to_owned(),
        Level::Variable(prefix) => format!("{prefix}{filler}"),
        Level::Single | Level::Multi => filler.to_owned(),
    }
}

/// A text that both levels match. A filter has no variables, so at most one of them is one.
fn common_level(one: Level<'_>, other: Level<'_>, filler: &str) -> Option<String> {
    match (one, other) {
        (Level::Text(one), Level::Text(other)) => (one == other).then(|| one.to_owned()),
        (Level::Text(text), Level::Variable(prefix)) | (Level::Variable(prefix), Level::Text(text)) => {
            (text.len() > prefix.len() && text.starts_with(prefix)).then(|| text.to_owned())
        }
        (Level::Text(text), _) | (_, Level::Text(text)) => Some(text.to_owned()),
        (Level::Variable(prefix), _) | (_, Level::Variable(prefix)) => Some(format!("{prefix}{filler}")),
        _ => Some(filler.to_owned()),
    }
}
