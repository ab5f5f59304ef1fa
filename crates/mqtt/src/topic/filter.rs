//! A topic filter: its rules, and which topic names it matches.

use super::levels::{MULTI, SEPARATOR, SINGLE, is_hidden, levels};
use super::{MAX_TOPIC, SHARE_PREFIX, TopicError};

/// A valid topic filter, of a shared subscription or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filter<'a> {
    text: &'a str,
    share: Option<&'a str>,
    pattern: &'a str,
}

impl<'a> Filter<'a> {
    /// Checks a filter. `$share/name/filter` is a shared subscription in both versions; 3.1.1 does not define it, but its
    /// clients use it with other servers.
    ///
    /// # Errors
    /// [`TopicError`] with the rule that the text breaks.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_text(text)?;
        let (share, pattern) = if text == "$share" {
            return Err(TopicError::NoShareName);
        } else if let Some(shared) = text.strip_prefix(SHARE_PREFIX) {
            let (name, pattern) = shared.split_once(SEPARATOR).ok_or(TopicError::ShareName)?;
            if name.is_empty() {
                return Err(TopicError::NoShareName);
            }
            if pattern.is_empty() || name.contains(['+', '#']) {
                return Err(TopicError::ShareName);
            }
            (Some(name), pattern)
        } else {
            (None, text)
        };
        let mut rest = levels(pattern);
        while let Some(level) = rest.next() {
            if level.contains('#') && (level != MULTI || rest.next().is_some()) {
                return Err(TopicError::MultiLevel);
            }
            if level.contains('+') && level != SINGLE {
                return Err(TopicError::SingleLevel);
            }
        }
        Ok(Self { text, share, pattern })
    }

    /// The whole text, with the prefix of a shared subscription.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The name of the shared subscription.
    pub const fn share(&self) -> Option<&'a str> {
        self.share
    }

    /// The filter that topic names are compared with: without the prefix of a shared subscription.
    pub const fn pattern(&self) -> &'a str {
        self.pattern
    }

    /// Whether it contains wildcards. Without, it matches the topic name that equals its pattern.
    pub fn has_wildcards(&self) -> bool {
        self.pattern.contains(['+', '#'])
    }

    /// Whether it matches a topic name.
    pub fn matches(&self, topic: &str) -> bool {
        if is_hidden(topic) && self.pattern.starts_with(['+', '#']) {
            return false;
        }
        let mut topic = levels(topic);
        for level in levels(self.pattern) {
            if level == MULTI {
                return true;
            }
            match topic.next() {
                Some(name) if level == SINGLE || level == name => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

/// Checks a topic name.
///
/// # Errors
/// [`TopicError`] with the rule that the text breaks.
pub fn check_name(text: &str) -> Result<(), TopicError> {
    check_text(text)?;
    if text.contains(['+', '#']) { Err(TopicError::WildcardInName) } else { Ok(()) }
}

fn check_text(text: &str) -> Result<(), TopicError> {
    match text {
        "" => Err(TopicError::Empty),
        _ if text.len() > MAX_TOPIC => Err(TopicError::TooLong),
        _ if text.contains('\0') => Err(TopicError::Nul),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_a_whole_level_and_the_multi_level_wildcard_is_the_last() {
        for valid in
            ["#", "+", "a/#", "+/+", "/", "//", "a/+/b", "+/#", "a b/☕", "$SYS/#", "/+", "$shared/a"]
        {
            assert_eq!(Filter::new(valid).map(|filter| filter.as_str()), Ok(valid));
        }
        for (wrong, error) in [
            ("", TopicError::Empty),
            ("a\0", TopicError::Nul),
            ("a#", TopicError::MultiLevel),
            ("a/#/b", TopicError::MultiLevel),
            ("#/", TopicError::MultiLevel),
            ("##", TopicError::MultiLevel),
            ("a+", TopicError::SingleLevel),
            ("a/+b/c", TopicError::SingleLevel),
            ("++", TopicError::SingleLevel),
        ] {
            assert_eq!(Filter::new(wrong), Err(error), "{wrong}");
        }
        let long = "a".repeat(MAX_TOPIC + 1);
        assert_eq!(Filter::new(&long), Err(TopicError::TooLong));
        assert!(Filter::new(&long[1..]).is_ok());
    }

    #[test]
    fn a_shared_subscription_has_a_name_and_a_filter() {
        let filter = Filter::new("$share/group/a/+/#").unwrap();
        assert_eq!((filter.share(), filter.pattern()), (Some("group"), "a/+/#"));
        assert!(filter.matches("a/b/c") && !filter.matches("$share/group/a/b/c"));
        assert_eq!(Filter::new("$share/g//").unwrap().pattern(), "/");
        for (wrong, error) in [
            ("$share", TopicError::NoShareName),
            ("$share/", TopicError::ShareName),
            ("$share/g", TopicError::ShareName),
            ("$share/g/", TopicError::ShareName),
            ("$share//a", TopicError::NoShareName),
            ("$share/+/a", TopicError::ShareName),
            ("$share/g#/a", TopicError::ShareName),
            ("$share/g/a#", TopicError::MultiLevel),
        ] {
            assert_eq!(Filter::new(wrong), Err(error), "{wrong}");
        }
    }

    #[test]
    fn filters_match_as_the_examples_of_the_specification() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("#", "/", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/monitor", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/monitor", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("+", "$SYS", false),
            ("a/+", "a/$b", true),
            ("ACCOUNTS", "Accounts", false),
            ("a", "a/", false),
        ] {
            assert_eq!(Filter::new(filter).unwrap().matches(topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn a_topic_name_has_no_wildcards() {
        assert_eq!(check_name("a/b c/$d/"), Ok(()));
        assert_eq!(check_name("a/+"), Err(TopicError::WildcardInName));
        assert_eq!(check_name("a#"), Err(TopicError::WildcardInName));
        assert_eq!(check_name(""), Err(TopicError::Empty));
    }
}
