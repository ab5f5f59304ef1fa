//! The index of filters against a list of filters that are compared one by one.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use tidings_mqtt::topic::{Filter, FilterIndex, Scratch, check_name};

#[derive(Clone, Debug)]
enum Operation {
    Insert(String, u32),
    Remove(String),
    Match(String),
}

/// Filters and topic names from few levels, so that many of them match.
fn operation() -> impl Strategy<Value = Operation> {
    let filter = || "([ab]?/|\\+/|\\$a/){0,3}(#|\\+|[ab]?|\\$a)";
    let topic = "([ab]?/|\\$a/){0,3}([ab]?|\\$a)";
    prop_oneof![
        3 => (filter(), any::<u32>()).prop_map(|(filter, value)| Operation::Insert(filter, value)),
        1 => filter().prop_map(Operation::Remove),
        3 => topic.prop_map(Operation::Match),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_index_finds_what_the_comparison_with_each_filter_finds(
        operations in vec(operation(), 0..120),
        max_bytes in prop_oneof![Just(1 << 20), 500..4_000_usize],
    ) {
        let mut index = FilterIndex::new(max_bytes);
        let (mut list, mut scratch) = (BTreeMap::new(), Scratch::default());
        for operation in operations {
            match &operation {
                Operation::Insert(text, value) => {
                    let Ok(filter) = Filter::new(text) else { continue };
                    let before = index.bytes();
                    match index.insert(&filter, *value) {
                        Ok(earlier) => prop_assert_eq!(earlier, list.insert(text.clone(), *value)),
                        Err(_) => {
                            prop_assert!(!list.contains_key(text));
                            prop_assert_eq!(index.bytes(), before);
                        }
                    }
                    prop_assert_eq!(index.get_mut(&filter).copied(), list.get(text).copied());
                }
                Operation::Remove(text) => {
                    let Ok(filter) = Filter::new(text) else { continue };
                    prop_assert_eq!(index.remove(&filter), list.remove(text));
                    prop_assert_eq!(index.get_mut(&filter), None);
                }
                Operation::Match(topic) => {
                    let mut found = Vec::new();
                    index.for_each_match(topic, &mut scratch, |value| found.push(*value));
                    let is_match = |text: &str| Filter::new(text).is_ok_and(|filter| filter.matches(topic));
                    let mut expected: Vec<_> =
                        list.iter().filter(|(text, _)| is_match(text)).map(|(_, value)| *value).collect();
                    found.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected, "{} in {:?}", topic, list);
                }
            }
            prop_assert_eq!(index.len(), list.len());
            prop_assert!(index.bytes() <= max_bytes);
            prop_assert!(!index.is_empty() || index.bytes() == 0);
        }
    }

    #[test]
    fn a_filter_without_wildcards_matches_itself_alone(topic in "[a-c/$]{1,8}", other in "[a-c/$]{1,8}") {
        prop_assume!(check_name(&topic).is_ok() && Filter::new(&topic).is_ok_and(|filter| filter.share().is_none()));
        let filter = Filter::new(&topic).unwrap();
        prop_assert!(filter.matches(&topic) && !filter.has_wildcards());
        prop_assert_eq!(filter.matches(&other), topic == other);
    }
}
