//! Names of channels in Redis: with the prefix of the deployment.
//!
//! Beside its plain name, each channel has a name for envelopes: the plain name, a control character (unit separator)
//! and `tidings`. Neither prefix nor channel contains a control character, so the two kinds are disjoint, and an ACL
//! that permits `&news:*` permits both.
//!
//! In a cluster, keys and the sharded name for envelopes contain the channel's *tag*, as in the function library: the
//! name in braces, or after a colon when it has a hash tag of its own. So everything of a channel is in one hash slot.

use std::borrow::Cow;

use tidings_wire::{Channel, Pattern, Topic};

use super::slots::{hashed, slot};

/// Suffix of names for envelopes.
const SUFFIX: &[u8] = b"\x1ftidings";

/// Adds and removes the prefix.
#[derive(Debug)]
pub(super) struct Names {
    prefix: Vec<u8>,
    /// The prefix as a glob that matches itself alone.
    glob: Vec<u8>,
    /// Whether this is a cluster.
    sharded: bool,
    /// Prefixes of the channels that only the nodes of the deployment use.
    own: &'static [&'static str],
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
        Self { prefix: prefix.into_bytes(), glob, sharded: false, own: &[] }
    }

    /// Converts to names for a cluster, where channels with the prefixes `own` are sharded.
    pub(super) fn in_cluster(self, own: &'static [&'static str]) -> Self {
        Self { sharded: true, own, ..self }
    }

    /// Whether this is a cluster.
    pub(super) fn sharded(&self) -> bool {
        self.sharded
    }

    /// Whether only the nodes of the deployment use a channel.
    pub(super) fn is_own(&self, channel: &Channel) -> bool {
        self.own.iter().any(|own| channel.as_str().starts_with(own))
    }

    /// The hash slot of all keys and sharded names of a channel.
    pub(super) fn slot(&self, channel: &Channel) -> u16 {
        slot(&tagged(&self.channel(channel)))
    }

    /// The key of a channel with this prefix.
    pub(super) fn key(&self, begins: &str, channel: &Channel) -> Vec<u8> {
        [begins.as_bytes(), &tagged(&self.channel(channel))].concat()
    }

    /// The name for `SPUBLISH` of envelopes.
    pub(super) fn sharded_envelopes(&self, channel: &Channel) -> Vec<u8> {
        [&tagged(&self.channel(channel)), SUFFIX].concat()
    }

    /// The names for `SSUBSCRIBE`. The plain name is included unless its own hash tag is in another slot than the
    /// channel's keys.
    pub(super) fn sharded_names(&self, channel: &Channel) -> Vec<Vec<u8>> {
        let plain = self.channel(channel);
        let mut names = Vec::with_capacity(2);
        if !self.is_own(channel) {
            names.push(self.sharded_envelopes(channel));
        }
        if slot(&plain) == self.slot(channel) {
            names.push(plain.into_owned());
        }
        names
    }

    /// The plain name for a sharded name, and whether the message is an envelope.
    pub(super) fn without_tag(name: &[u8]) -> (&[u8], bool) {
        match name.strip_suffix(SUFFIX) {
            None => (name, false),
            Some([b':', name @ ..] | [b'{', name @ .., b'}']) => (name, true),
            Some(name) => (name, true),
        }
    }

    /// The name for `PUBLISH`.
    pub(super) fn channel<'a>(&self, channel: &'a Channel) -> Cow<'a, [u8]> {
        prefixed(&self.prefix, channel.as_str())
    }

    /// The name for `SUBSCRIBE` or `PSUBSCRIBE`.
    pub(super) fn topic<'a>(&self, topic: &'a Topic) -> Cow<'a, [u8]> {
        match topic {
            Topic::Channel(channel) => prefixed(&self.prefix, channel.as_str()),
            Topic::Pattern(pattern) => prefixed(&self.glob, pattern.as_str()),
        }
    }

    /// The name for `PUBLISH` of envelopes.
    pub(super) fn envelopes(&self, channel: &Channel) -> Vec<u8> {
        [&*self.channel(channel), SUFFIX].concat()
    }

    /// The name for `SUBSCRIBE` or `PSUBSCRIBE` of envelopes. `None` for a glob that would absorb the suffix (an
    /// unclosed class, a backslash): it receives plain messages only.
    pub(super) fn topic_envelopes(&self, topic: &Topic) -> Option<Vec<u8>> {
        match topic {
            Topic::Channel(channel) => Some(self.envelopes(channel)),
            Topic::Pattern(pattern) => {
                ends_whole(pattern.as_str()).then(|| [&*self.topic(topic), SUFFIX].concat())
            }
        }
    }

    /// The name without the suffix for envelopes; `None` without that suffix.
    pub(super) fn without_suffix(name: &[u8]) -> Option<&[u8]> {
        name.strip_suffix(SUFFIX)
    }

    /// The channel of a message; `None` for an invalid name.
    pub(super) fn parse_channel(&self, name: &[u8]) -> Option<Channel> {
        Channel::new(name.strip_prefix(&self.prefix[..])?).ok()
    }

    /// The pattern of a message; `None` if it is not one of this broker.
    pub(super) fn parse_pattern(&self, glob: &[u8]) -> Option<Pattern> {
        Pattern::new(glob.strip_prefix(&self.glob[..])?).ok()
    }
}

/// Whether the last element of a glob is complete, so that a suffix can follow.
fn ends_whole(glob: &str) -> bool {
    let mut bytes = glob.bytes();
    let mut in_class = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if bytes.next().is_none() => return false,
            b'[' => in_class = true,
            b']' => in_class = false,
            _ => {}
        }
    }
    !in_class
}

fn prefixed<'a>(prefix: &[u8], name: &'a str) -> Cow<'a, [u8]> {
    if prefix.is_empty() {
        return Cow::Borrowed(name.as_bytes());
    }
    Cow::Owned([prefix, name.as_bytes()].concat())
}

/// The tag of a name: see the library.
fn tagged(name: &[u8]) -> Vec<u8> {
    if hashed(name).len() < name.len() { [b":", name].concat() } else { [b"{", name, b"}"].concat() }
}

#[cfg(test)]
mod tests {
    use tidings_wire::channel::glob_matches;

    use super::*;

    #[test]
    fn names_round_trip() {
        for prefix in ["", "app:", "a*[b]?\\"] {
            let names = Names::new(prefix.to_owned());
            let channel = Channel::new("my room \u{2615}").unwrap();
            assert_eq!(names.parse_channel(&names.channel(&channel)), Some(channel));
            let pattern = Pattern::new("scores:*").unwrap();
            let topic = Topic::Pattern(pattern.clone());
            assert_eq!(names.parse_pattern(&names.topic(&topic)), Some(pattern));
        }
    }

    #[test]
    fn no_channel_name_equals_the_envelope_name_of_another_channel() {
        let names = Names::new(String::new());
        let news = Channel::new("news").unwrap();
        assert!(Channel::new(names.envelopes(&news)).is_err());
        assert!(Channel::new(names.sharded_envelopes(&news)).is_err());
        let likeness = Channel::new("news tidings").unwrap();
        assert_eq!(Names::without_suffix(&names.channel(&likeness)), None);
        assert_eq!(Names::without_tag(&names.channel(&likeness)), (&b"news tidings"[..], false));
    }

    #[test]
    fn a_prefix_with_glob_characters_matches_only_itself() {
        let names = Names::new("a*[b]?\\:".to_owned());
        let topic = Topic::Pattern(Pattern::new("x*").unwrap());
        let glob = names.topic(&topic);
        assert!(glob_matches(&glob, b"a*[b]?\\:xyz"));
        assert!(!glob_matches(&glob, b"aa[b]?\\:xyz"));
        assert!(!glob_matches(&glob, b"a*bc\\:xyz"));
    }

    #[test]
    fn a_glob_for_envelopes_matches_those_of_its_channels_alone() {
        let names = Names::new("a*:".to_owned());
        for glob in ["n*", "*", "n?w[a-z]", "n\\*", "ne\\w\\s", "[^x]ews", "[]news", "news"] {
            let topic = Topic::Pattern(Pattern::new(glob).unwrap());
            let envelopes = names.topic_envelopes(&topic).unwrap();
            assert_eq!(Names::without_suffix(&envelopes), Some(&*names.topic(&topic)));
            for channel in ["news", "n*", "x", "newt"] {
                let channel = Channel::new(channel).unwrap();
                assert_eq!(
                    glob_matches(&envelopes, &names.envelopes(&channel)),
                    glob_matches(glob.as_bytes(), channel.as_str().as_bytes()),
                    "{glob} {channel}"
                );
            }
        }
        for glob in ["n[ew", "news\\", "[", "n[\\"] {
            assert_eq!(names.topic_envelopes(&Topic::Pattern(Pattern::new(glob).unwrap())), None, "{glob}");
        }
    }

    #[test]
    fn names_outside_the_prefix_are_not_parsed() {
        let names = Names::new("app:".to_owned());
        assert_eq!(names.parse_channel(b"other:a"), None);
        assert_eq!(names.parse_channel(b"app:"), None, "an empty name");
        assert_eq!(names.parse_channel(b"app:a\x1fb"), None, "a control character");
        assert_eq!(names.parse_channel(b"app:\xff"), None, "not UTF-8");
    }

    #[test]
    fn all_names_of_a_channel_in_a_cluster_share_a_slot_and_round_trip() {
        let names = Names::new("app:".to_owned()).in_cluster(&["own."]);
        for name in
            ["news", "my room \u{2615}", "a {b} c", "a{b}c", "{news}", "{}", "a{c", "a}b", ":a", "own.a"]
        {
            let channel = Channel::new(name).unwrap();
            let sharded = names.sharded_names(&channel);
            assert!(!sharded.is_empty());
            for sharded in &sharded {
                assert_eq!(slot(sharded), names.slot(&channel), "{name}");
                let (plain, _) = Names::without_tag(sharded);
                assert_eq!(names.parse_channel(plain), Some(channel.clone()), "{name}");
            }
            assert_eq!(slot(&names.key("tidings:meta:", &channel)), names.slot(&channel), "{name}");
        }
    }
}
