//! All rules of a configuration, compiled into one tree, and the lookup of a name.
//!
//! A node stands for the levels above it. Of several rules that match a name, the first level from the left at which they differ
//! decides: a text is more specific than a variable with a text before it (the longest one first), then a variable alone, then `+`,
//! then `#`. The search visits the children of a node in this order, so the first rule that it reaches is the most specific one.

use std::collections::HashMap;

use thiserror::Error;

use crate::level::{Level, SEPARATOR, is_hidden};
use crate::{ChannelFilter, ChannelPattern, MAX_RULES};

/// The number of the owner of a rule, such as the index of a namespace.
pub type Owner = usize;

/// A rule for names of channels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A topic filter of MQTT.
    Filter(ChannelFilter),
    /// A pattern with variables.
    Pattern(ChannelPattern),
}

impl Rule {
    /// The text of the rule.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Filter(filter) => filter.as_str(),
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }

    /// Calls `visit` with each level.
    fn for_each_level<'a>(&'a self, mut visit: impl FnMut(Level<'a>)) {
        match self {
            Self::Filter(filter) => filter.levels().for_each(&mut visit),
            Self::Pattern(pattern) => pattern.levels().for_each(&mut visit),
        }
    }
}

/// Two rules that match the same names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleConflict {
    /// The rule that was added first, with its owner.
    pub first: (Owner, Rule),
    /// The other one.
    pub second: (Owner, Rule),
}

/// Why rules are no tree.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RuleTreeError {
    /// Two of them match the same names.
    #[error("{} and {} match the same channels", .0.first.1.as_str(), .0.second.1.as_str())]
    Conflict(Box<RuleConflict>),
    /// There are more than [`MAX_RULES`].
    #[error("more than {MAX_RULES} rules for channels")]
    TooMany,
}

/// The index of a node.
type NodeIndex = u32;

const ROOT: NodeIndex = 0;

#[derive(Clone, Debug, Default)]
struct Node {
    /// Children for a text.
    texts: HashMap<Box<str>, NodeIndex>,
    /// Children for a variable behind a text, longer texts first.
    variables: Vec<(Box<str>, NodeIndex)>,
    /// The child for `+`.
    single: Option<NodeIndex>,
    /// The rule that ends here.
    rule: Option<u32>,
    /// The rule that continues with `#`.
    multi: Option<u32>,
}

/// A compiled set of rules. Immutable.
#[derive(Clone, Debug, Default)]
pub struct RuleTree {
    nodes: Vec<Node>,
    rules: Vec<(Owner, Rule)>,
    has_patterns: bool,
}

impl RuleTree {
    /// Compiles rules, each with the number of its owner.
    ///
    /// # Errors
    /// [`RuleTreeError`] if two rules match the same names, of one owner or of two, or if there are too many.
    pub fn new(rules: impl IntoIterator<Item = (Owner, Rule)>) -> Result<Self, RuleTreeError> {
        let mut tree = Self { nodes: vec![Node::default()], ..Self::default() };
        // The rules by their levels, in which a variable alone is `+`: it differs from that by an empty level alone.
        let mut shapes: HashMap<String, u32> = HashMap::new();
        for (owner, rule) in rules {
            if tree.rules.len() == MAX_RULES {
                return Err(RuleTreeError::TooMany);
            }
            let number = tree.rules.len() as u32;
            if let Some(first) = shapes.insert(shape(&rule), number) {
                let first = tree.rules[first as usize].clone();
                return Err(RuleTreeError::Conflict(Box::new(RuleConflict { first, second: (owner, rule) })));
            }
            tree.has_patterns |= matches!(rule, Rule::Pattern(_));
            tree.insert(number, &rule);
            tree.rules.push((owner, rule));
        }
        Ok(tree)
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether one of the rules is a pattern.
    pub fn has_patterns(&self) -> bool {
        self.has_patterns
    }

    /// All rules with their owners, in the order in which they were given.
    pub fn rules(&self) -> impl Iterator<Item = (Owner, &Rule)> {
        self.rules.iter().map(|(owner, rule)| (*owner, rule))
    }

    /// The most specific rule that matches a name, with its owner. As in MQTT, a wildcard at the first level matches no name that
    /// begins with `$`.
    pub fn find(&self, name: &str) -> Option<(Owner, &Rule)> {
        if self.rules.is_empty() {
            return None;
        }
        let number = self.search(ROOT, Some(name), is_hidden(name))?;
        self.rules.get(number as usize).map(|(owner, rule)| (*owner, rule))
    }

    /// The most specific rule below a node for the levels that follow; `None` behind the last level. Recursion ends at the depth
    /// of the tree, which is at most [`crate::MAX_LEVELS`].
    fn search(&self, at: NodeIndex, rest: Option<&str>, is_hidden: bool) -> Option<u32> {
        let node = &self.nodes[at as usize];
        let Some(rest) = rest else {
            // `#` matches its parent as well.
            return node.rule.or(node.multi);
        };
        let (level, below) = match rest.split_once(SEPARATOR) {
            Some((level, below)) => (level, Some(below)),
            None => (rest, None),
        };
        let text = node.texts.get(level).and_then(|child| self.search(*child, below, false));
        if text.is_some() || is_hidden {
            return text;
        }
        let variables = node.variables.iter();
        let mut variables =
            variables.filter(|(prefix, _)| level.len() > prefix.len() && level.starts_with(&**prefix));
        variables
            .find_map(|(_, child)| self.search(*child, below, false))
            .or_else(|| self.search(node.single?, below, false))
            .or(node.multi)
    }

    fn insert(&mut self, number: u32, rule: &Rule) {
        let mut at = ROOT;
        let mut is_multi = false;
        rule.for_each_level(|level| match level {
            Level::Multi => is_multi = true,
            level => at = self.child_or_new(at, level),
        });
        let node = &mut self.nodes[at as usize];
        *(if is_multi { &mut node.multi } else { &mut node.rule }) = Some(number);
    }

    fn child_or_new(&mut self, at: NodeIndex, level: Level<'_>) -> NodeIndex {
        let node = &self.nodes[at as usize];
        let known = match level {
            Level::Text(text) => node.texts.get(text).copied(),
            Level::Variable(prefix) => {
                node.variables.iter().find(|(known, _)| **known == *prefix).map(|(_, child)| *child)
            }
            Level::Single | Level::Multi => node.single,
        };
        if let Some(known) = known {
            return known;
        }
        // At most `MAX_RULES` × `MAX_LEVELS` nodes.
        let child = self.nodes.len() as NodeIndex;
        self.nodes.push(Node::default());
        let node = &mut self.nodes[at as usize];
        match level {
            Level::Text(text) => {
                node.texts.insert(text.into(), child);
            }
            Level::Variable(prefix) => {
                let place = node.variables.partition_point(|(known, _)| known.len() >= prefix.len());
                node.variables.insert(place, (prefix.into(), child));
            }
            Level::Single | Level::Multi => node.single = Some(child),
        }
        child
    }
}

/// The levels of a rule as a text that two rules share if they match the same names.
fn shape(rule: &Rule) -> String {
    let mut shape = String::new();
    rule.for_each_level(|level| {
        // Control characters are in no rule.
        let (prefix, end) = match level {
            Level::Text(text) => (text, '\0'),
            Level::Variable(prefix) => (prefix, '\u{1}'),
            Level::Single => ("", '\u{1}'),
            Level::Multi => ("", '\u{2}'),
        };
        shape.push_str(prefix);
        shape.push(end);
    });
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        let is_pattern = text.contains(':');
        if is_pattern {
            Rule::Pattern(ChannelPattern::new(text).expect(text))
        } else {
            Rule::Filter(ChannelFilter::new(text).expect(text))
        }
    }

    fn tree(rules: &[&str]) -> Result<RuleTree, RuleTreeError> {
        RuleTree::new(rules.iter().map(|text| rule(text)).enumerate())
    }

    #[test]
    fn of_several_rules_the_most_specific_one_has_the_name() {
        let rules = [
            "#",
            "+/#",
            "home/#",
            "home/+/temp",
            "home/kitchen/#",
            "/users/:id",
            "/users/user_:id",
            "/users/user_a:id",
            "/users/:id/inbox",
            "/users/me/+",
            "home/kitchen/temp",
        ];
        let tree = tree(&rules).expect("no conflict");
        for (name, expected) in [
            ("x", "+/#"),
            ("home", "home/#"),
            ("home/a", "home/#"),
            ("home/a/temp", "home/+/temp"),
            ("home/a/temp/x", "home/#"),
            ("home/kitchen/temp", "home/kitchen/temp"),
            ("home/kitchen/light", "home/kitchen/#"),
            ("/users/7", "/users/:id"),
            ("/users/user_7", "/users/user_:id"),
            ("/users/user_a7", "/users/user_a:id"),
            ("/users/user_a", "/users/user_:id"),
            ("/users/user_", "/users/:id"),
            ("/users/", "+/#"),
            ("/users/me/inbox", "/users/me/+"),
            ("/users/you/inbox", "/users/:id/inbox"),
        ] {
            assert_eq!(tree.find(name).map(|(_, rule)| rule.as_str()), Some(expected), "{name}");
        }
        assert_eq!(tree.find("$home/a"), None, "a leading wildcard matches no name that begins with $");
    }

    #[test]
    fn two_rules_for_the_same_names_are_a_conflict_that_names_both() {
        for (first, second) in [
            ("/users/:id", "/users/:name"),
            ("/users/:id", "/users/+"),
            ("/users/+", "/users/:id"),
            ("home/#", "home/#"),
            ("/a/u_:b", "/a/u_:c"),
        ] {
            let Err(RuleTreeError::Conflict(conflict)) = tree(&["x", first, second]) else {
                panic!("{first} and {second} are a conflict");
            };
            assert_eq!(*conflict, RuleConflict { first: (1, rule(first)), second: (2, rule(second)) });
        }
        for (one, other) in [("home/+", "home/#"), ("a", "a/#"), ("/:a", "/x:a"), ("+/a", "a/+"), ("+", "#")]
        {
            assert!(tree(&[one, other]).is_ok(), "{one} and {other}");
        }
    }

    #[test]
    fn a_tree_has_a_most_number_of_rules() {
        let filter = |number: usize| (number, rule(&format!("room-{number}/+")));
        assert!(RuleTree::new((0..MAX_RULES).map(filter)).is_ok());
        assert_eq!(RuleTree::new((0..=MAX_RULES).map(filter)).err(), Some(RuleTreeError::TooMany));
    }
}
