//! The subscriptions of a session that match one publication: the client gets it once, for all of them.
//!
//! A publication arrives once for each topic of a session that matches. The session sends it for the first of its subscriptions
//! that match, with the options of all of them, and not for the others. The result depends on the subscriptions alone, so the
//! connection and the store of sessions get the same one.

use crate::state::Options;

/// The options for one publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combined {
    /// The highest quality of service, `retain_as_published` if one subscription has it, `is_pattern` if none is without
    /// wildcards, and the first identifier.
    pub options: Options,
    /// The further identifiers.
    pub more_identifiers: Vec<u32>,
}

impl From<Options> for Combined {
    fn from(options: Options) -> Self {
        Self { options, more_identifiers: Vec::new() }
    }
}

impl Combined {
    /// Adds the options of a further subscription that matches.
    pub fn add(&mut self, options: Options) {
        let Self { options: all, more_identifiers } = self;
        all.qos = all.qos.max(options.qos);
        all.retain_as_published |= options.retain_as_published;
        all.is_pattern &= options.is_pattern;
        match (all.identifier, options.identifier) {
            (_, 0) => {}
            (0, first) => all.identifier = first,
            (_, further) => more_identifiers.push(further),
        }
    }
}

/// The options for a publication that has arrived for one topic. `subscriptions` are those of the session that are not shared,
/// oldest first: whether the subscription has that topic, its filter, and its options. `is_own` returns whether the client has
/// published it. `None` if no subscription gets it, or if another topic is the first that does.
pub fn combine<'a>(
    subscriptions: impl IntoIterator<Item = (bool, &'a str, Options)>,
    channel: &str,
    is_own: impl Fn() -> bool,
) -> Option<Combined> {
    let mut combined: Option<Combined> = None;
    for (has_topic, filter, options) in subscriptions {
        let is_match = has_topic && !options.is_pattern || options.matches(filter, channel);
        if !is_match || options.no_local && is_own() {
            continue;
        }
        match &mut combined {
            None if has_topic => combined = Some(options.into()),
            None => return None,
            Some(combined) => combined.add(options),
        }
    }
    combined
}

#[cfg(test)]
mod tests {
    use tidings_mqtt::{Qos, RetainHandling};

    use super::*;

    fn options(qos: Qos, identifier: u32, is_pattern: bool) -> Options {
        Options {
            qos,
            no_local: false,
            retain_as_published: false,
            is_pattern,
            identifier,
            retain_handling: RetainHandling::Send,
        }
    }

    #[test]
    fn the_first_subscription_that_matches_gets_a_publication_with_the_options_of_all() {
        let all = [
            ("x/#", options(Qos::ExactlyOnce, 9, true)),
            ("a/+", options(Qos::AtMostOnce, 0, true)),
            ("a/b", Options { retain_as_published: true, ..options(Qos::AtLeastOnce, 5, false) }),
            ("#", options(Qos::AtMostOnce, 6, true)),
        ];
        let combined = |topic: &str| {
            combine(all.map(|(filter, options)| (filter == topic, filter, options)), "a/b", || false)
        };
        let expected = Options { retain_as_published: true, ..options(Qos::AtLeastOnce, 5, false) };
        assert_eq!(combined("a/+"), Some(Combined { options: expected, more_identifiers: vec![6] }));
        for topic in ["a/b", "#", "x/#"] {
            assert_eq!(combined(topic), None, "{topic}");
        }
    }

    #[test]
    fn a_subscription_without_local_messages_has_no_part_in_those_of_its_client() {
        let (first, second) = (options(Qos::ExactlyOnce, 1, false), options(Qos::AtLeastOnce, 2, true));
        let first = Options { no_local: true, ..first };
        let combined = |topic: &str, is_own| {
            let all = [("t", first), ("#", second)];
            combine(all.map(|(filter, options)| (filter == topic, filter, options)), "t", || is_own)
        };
        assert_eq!((combined("t", true), combined("#", true)), (None, Some(second.into())));
        assert_eq!(combined("#", false), None);
        assert_eq!(combined("t", false).map(|combined| combined.more_identifiers), Some(vec![2]));
    }
}
