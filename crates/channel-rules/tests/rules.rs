//! The tree against a naive matcher, for random rules and names.

use proptest::prelude::*;
use tidings_channel_rules::{ChannelFilter, ChannelPattern, Rule, RuleTree, RuleTreeError};
use tidings_mqtt::topic::Filter;

fn matches(rule: &Rule, name: &str) -> bool {
    match rule {
        Rule::Filter(filter) => Filter::new(filter.as_str()).expect("a filter").matches(name),
        Rule::Pattern(pattern) => pattern.matches(name),
    }
}

/// How specific the levels of a rule are, from the left: a smaller one is more specific.
fn rank(rule: &Rule) -> Vec<(u8, std::cmp::Reverse<usize>)> {
    let is_pattern = matches!(rule, Rule::Pattern(_));
    let levels = rule.as_str().split('/').map(|level| match level {
        "+" => (2, 0),
        "#" => (3, 0),
        level if is_pattern && level.contains(':') => (1, level.find(':').unwrap_or_default()),
        _ => (0, 0),
    });
    let mut rank: Vec<_> = levels.map(|(kind, length)| (kind, std::cmp::Reverse(length))).collect();
    // `a` is more specific than `a/#`.
    rank.push((0, std::cmp::Reverse(0)));
    rank
}

fn filter() -> impl Strategy<Value = Rule> {
    let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("+"), Just("ab"), Just("$a")];
    (prop::collection::vec(level, 1..4), any::<bool>()).prop_filter_map("no filter", |(levels, multi)| {
        let text = levels.join("/") + if multi { "/#" } else { "" };
        ChannelFilter::new(&text).ok().map(Rule::Filter)
    })
}

fn pattern() -> impl Strategy<Value = Rule> {
    let level = prop_oneof![Just("a"), Just("b"), Just(":v"), Just("a:v"), Just("ab:v")];
    prop::collection::vec(level, 1..4).prop_filter_map("no pattern", |levels| {
        // Variables have different names.
        let levels = levels.iter().enumerate().map(|(i, level)| level.replace(":v", &format!(":v{i}")));
        ChannelPattern::new(&format!("/{}", levels.collect::<Vec<_>>().join("/"))).ok().map(Rule::Pattern)
    })
}

proptest! {
    #[test]
    fn the_tree_finds_the_rule_that_a_naive_search_finds(
        rules in prop::collection::vec(prop_oneof![filter(), pattern()], 0..12),
        names in prop::collection::vec("(\\$|/)?(a|b|ab|abc|)(/(a|b|ab|abc|c|)){0,3}", 1..20),
    ) {
        // Rules in conflict with an earlier one are left out.
        let mut kept: Vec<Rule> = Vec::new();
        for rule in rules {
            kept.push(rule);
            let all = kept.iter().cloned().enumerate();
            if let Err(error) = RuleTree::new(all) {
                prop_assert!(matches!(error, RuleTreeError::Conflict(_)));
                kept.pop();
            }
        }
        let tree = RuleTree::new(kept.iter().cloned().enumerate()).expect("no conflict");
        for name in names {
            let naive = kept.iter().enumerate().filter(|(_, rule)| matches(rule, &name));
            let naive = naive.min_by_key(|(_, rule)| rank(rule)).map(|(owner, _)| owner);
            prop_assert_eq!(tree.find(&name).map(|(owner, _)| owner), naive, "{}", name);
        }
    }

    #[test]
    fn common_names_match_the_filter_and_their_rule(
        rules in prop::collection::vec(prop_oneof![filter(), pattern()], 1..6),
        by in filter(),
    ) {
        for rule in rules {
            let tree = RuleTree::new([(0, rule.clone())]).expect("one rule");
            for name in tree.common_names(by.as_str(), "7") {
                prop_assert!(matches(&rule, &name) && matches(&by, &name), "{} for {:?}", name, rule);
            }
        }
    }
}
