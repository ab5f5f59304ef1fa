//! Channel names as Redis knows them: with the deployment's prefix in front.

use std::borrow::Cow;

use tidings_wire::{Channel, Pattern, Topic};

/// Puts the prefix on and takes it off.
#[derive(Debug)]
pub(super) struct Names {
    prefix: Vec<u8>,
    /// The prefix as a glob that matches itself alone.
    glob: Vec<u8>,
}

impl Names {
    pub(super) fn new(prefix: String) -> Self {
        let mut glob = Vec::with_capacity(prefix.len());
        for byte in prefix.bytes() {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
                glob.push(b'\\');
            }
            glob.push(byte);
        }
        Self { prefix: prefix.into_bytes(), glob }
    }

    /// What to publish to.
    pub(super) fn channel<'a>(&self, channel: &'a Channel) -> Cow<'a, [u8]> {
        prefixed(&self.prefix, channel.as_str())
    }

    /// What to `SUBSCRIBE` or `PSUBSCRIBE` to.
    pub(super) fn topic<'a>(&self, topic: &'a Topic) -> Cow<'a, [u8]> {
        match topic {
            Topic::Channel(channel) => prefixed(&self.prefix, channel.as_str()),
            Topic::Pattern(pattern) => prefixed(&self.glob, pattern.as_str()),
        }
    }

    /// The channel that a message came from; `None` when it has no valid name.
    pub(super) fn heard_channel(&self, name: &[u8]) -> Option<Channel> {
        Channel::new(name.strip_prefix(&self.prefix[..])?).ok()
    }

    /// The pattern that a message was heard through; `None` when it is none of ours.
    pub(super) fn heard_pattern(&self, glob: &[u8]) -> Option<Pattern> {
        Pattern::new(glob.strip_prefix(&self.glob[..])?).ok()
    }
}

fn prefixed<'a>(prefix: &[u8], name: &'a str) -> Cow<'a, [u8]> {
    if prefix.is_empty() {
        return Cow::Borrowed(name.as_bytes());
    }
    Cow::Owned([prefix, name.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use tidings_wire::channel::glob_matches;

    use super::*;

    #[test]
    fn a_name_comes_back_as_it_went_out() {
        for prefix in ["", "app:", "a*[b]?\\"] {
            let names = Names::new(prefix.to_owned());
            let channel = Channel::new("scores:nba").unwrap();
            assert_eq!(names.heard_channel(&names.channel(&channel)), Some(channel));
            let pattern = Pattern::new("scores:*").unwrap();
            let topic = Topic::Pattern(pattern.clone());
            assert_eq!(names.heard_pattern(&names.topic(&topic)), Some(pattern));
        }
    }

    #[test]
    fn a_prefix_with_glob_characters_means_itself_alone() {
        let names = Names::new("a*[b]?\\:".to_owned());
        let topic = Topic::Pattern(Pattern::new("x*").unwrap());
        let glob = names.topic(&topic);
        assert!(glob_matches(&glob, b"a*[b]?\\:xyz"));
        assert!(!glob_matches(&glob, b"aa[b]?\\:xyz"));
        assert!(!glob_matches(&glob, b"a*bc\\:xyz"));
    }

    #[test]
    fn what_lies_outside_the_prefix_is_not_ours() {
        let names = Names::new("app:".to_owned());
        assert_eq!(names.heard_channel(b"other:a"), None);
        assert_eq!(names.heard_channel(b"app:"), None, "an empty name");
        assert_eq!(names.heard_channel(b"app:a b"), None, "a space");
        assert_eq!(names.heard_channel(b"app:\xff"), None, "not ASCII");
    }
}
