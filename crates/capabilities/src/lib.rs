//! Capabilities: what a token or the application permits one connection in which channels, and one subscription in its channel.
//!
//! The form is that of Centrifugo PRO: `caps` of a connection is a list of objects with `channels`, `match` and `allow`, `allow` of a
//! subscription a list of names (`sub`, `pub`, `prs`, `hst`).
//!
//! ```
//! use tidings_capabilities::{Allow, Capabilities};
//!
//! let caps = Capabilities::from_json(r#"[{"channels": ["news:*"], "match": "wildcard", "allow": ["sub", "hst"]}]"#)?;
//! assert!(caps.allow("news:today", Allow::SUBSCRIBE));
//! assert!(!caps.allow("news:today", Allow::PUBLISH));
//! # Ok::<(), tidings_capabilities::CapabilitiesError>(())
//! ```
//!
//! Invariants:
//! - Capabilities only permit: a channel has the union of all objects that match it, in any order.
//! - Capabilities are within [`MAX_OBJECTS`], [`MAX_CHANNELS`] and [`MAX_REGEXES`]; anything beyond these, and anything unknown, is an
//!   error and no smaller permission.
//! - Connections with the same regular expression share its program.

mod allow;
mod regexes;

pub use allow::Allow;

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use tidings_pattern::Pattern;
use tidings_wire::Object;
use tidings_wire::channel::glob_matches;

/// Most objects in a list of capabilities.
pub const MAX_OBJECTS: usize = 64;
/// Most names, wildcards and regular expressions in a list of capabilities.
pub const MAX_CHANNELS: usize = 256;
/// Most regular expressions in a list of capabilities.
pub const MAX_REGEXES: usize = 8;
/// The longest name, wildcard or regular expression in bytes.
pub const MAX_LEN: usize = 255;
/// The largest program of a regular expression in bytes.
pub const MAX_REGEX_SIZE: usize = 64 << 10;

/// The capabilities of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(Box<[Capability]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Capability {
    channels: Matcher,
    allow: Allow,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Matcher {
    /// Names.
    Exact(Box<[Box<str>]>),
    /// Globs of Redis without other signs than `*`.
    Wildcard(Box<[Box<str>]>),
    Regex(Box<[Arc<Pattern>]>),
}

/// Why a value is no list of capabilities. The text completes the sentence "the claim is …", and contains nothing of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapabilitiesError {
    /// It is no list of objects with these fields.
    Shape,
    /// Too many objects.
    TooManyObjects,
    /// Too many names, wildcards and expressions.
    TooManyChannels,
    /// Too many regular expressions.
    TooManyRegexes,
    /// An empty or too long name.
    Length,
    /// An unknown kind of match.
    Match,
    /// An unknown capability.
    Allow,
    /// An invalid or too large regular expression.
    Regex,
}

impl CapabilitiesError {
    /// The text.
    pub const fn problem(self) -> &'static str {
        match self {
            Self::Shape => "no list of objects with channels, match and allow",
            Self::TooManyObjects => "a list with more than 64 objects",
            Self::TooManyChannels => "a list with more than 256 channels",
            Self::TooManyRegexes => "a list with more than 8 regular expressions",
            Self::Length => "a list with a channel that is empty or has more than 255 bytes",
            Self::Match => "a list with an unknown match (\"\", \"wildcard\" and \"regex\" are known)",
            Self::Allow => {
                "a list with an unknown capability (\"sub\", \"pub\", \"prs\" and \"hst\" are known)"
            }
            Self::Regex => "a list with an invalid regular expression, or one that needs more than 64 KiB",
        }
    }
}

impl fmt::Display for CapabilitiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem())
    }
}

impl std::error::Error for CapabilitiesError {}

#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default, rename = "match")]
    kind: Option<String>,
    #[serde(default)]
    allow: Vec<String>,
}

impl Capabilities {
    /// Reads `caps`: a list of objects. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`CapabilitiesError`]; the text completes "is …".
    pub fn from_json(json: &str) -> Result<Self, CapabilitiesError> {
        let objects: Vec<Object<Fields>> =
            serde_json::from_str(json).map_err(|_| CapabilitiesError::Shape)?;
        let objects: Vec<_> = objects.into_iter().map(|Object(fields)| fields).collect();
        if objects.len() > MAX_OBJECTS {
            return Err(CapabilitiesError::TooManyObjects);
        }
        if objects.iter().map(|object| object.channels.len()).sum::<usize>() > MAX_CHANNELS {
            return Err(CapabilitiesError::TooManyChannels);
        }
        let is_regex = |object: &&Fields| object.kind.as_deref() == Some("regex");
        if objects.iter().filter(is_regex).map(|object| object.channels.len()).sum::<usize>() > MAX_REGEXES {
            return Err(CapabilitiesError::TooManyRegexes);
        }
        objects.into_iter().map(capability).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a capability permits the operation in a channel.
    pub fn allow(&self, channel: &str, operation: Allow) -> bool {
        self.0.iter().any(|one| one.allow.contains(operation) && one.channels.matches(channel))
    }
}

fn capability(object: Fields) -> Result<Capability, CapabilitiesError> {
    let Fields { channels, kind, allow } = object;
    if channels.iter().any(|channel| !(1..=MAX_LEN).contains(&channel.len())) {
        return Err(CapabilitiesError::Length);
    }
    let channels = match kind.as_deref().unwrap_or_default() {
        "" => Matcher::Exact(channels.into_iter().map(Into::into).collect()),
        "wildcard" => Matcher::Wildcard(channels.iter().map(|wildcard| glob(wildcard)).collect()),
        "regex" => Matcher::Regex(
            channels
                .iter()
                .map(|regex| regexes::get(regex))
                .collect::<Option<_>>()
                .ok_or(CapabilitiesError::Regex)?,
        ),
        _ => return Err(CapabilitiesError::Match),
    };
    Ok(Capability { channels, allow: Allow::from_names(allow.iter().map(String::as_str))? })
}

impl Matcher {
    fn matches(&self, channel: &str) -> bool {
        match self {
            Self::Exact(names) => names.iter().any(|name| **name == *channel),
            Self::Wildcard(globs) => {
                globs.iter().any(|glob| glob_matches(glob.as_bytes(), channel.as_bytes()))
            }
            Self::Regex(regexes) => regexes.iter().any(|regex| regex.is_match(channel)),
        }
    }
}

/// The glob of Redis for a wildcard, in which `*` alone has a meaning.
fn glob(wildcard: &str) -> Box<str> {
    let mut glob = String::with_capacity(wildcard.len());
    for c in wildcard.chars() {
        if matches!(c, '?' | '[' | ']' | '^' | '\\') {
            glob.push('\\');
        }
        glob.push(c);
    }
    glob.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(json: &str) -> Capabilities {
        Capabilities::from_json(json).expect(json)
    }

    fn error(json: &str) -> CapabilitiesError {
        Capabilities::from_json(json).expect_err(json)
    }

    #[test]
    fn a_channel_has_the_union_of_all_objects_that_match_it() {
        let caps = caps(
            r#"[{"channels": ["news", "user_42"], "allow": ["sub"]}, {"channels": ["user_42"], "allow": ["pub", "hst", "prs"]}]"#,
        );
        let all = [Allow::SUBSCRIBE, Allow::PUBLISH, Allow::PRESENCE, Allow::HISTORY];
        assert_eq!(all.map(|one| caps.allow("user_42", one)), [true; 4]);
        assert_eq!(all.map(|one| caps.allow("news", one)), [true, false, false, false]);
        assert_eq!(all.map(|one| caps.allow("new", one)), [false; 4]);
    }

    #[test]
    fn a_star_of_a_wildcard_is_any_text_and_other_signs_have_no_meaning() {
        let caps = caps(r#"[{"channels": ["news:*", "a?[b]\\*^"], "match": "wildcard", "allow": ["sub"]}]"#);
        for (channel, expected) in [
            ("news:", true),
            ("news:a/b:c", true),
            ("news", false),
            ("xnews:a", false),
            ("a?[b]\\x^", true),
            ("ax[b]\\x^", false),
            ("a?b\\x^", false),
        ] {
            assert_eq!(caps.allow(channel, Allow::SUBSCRIBE), expected, "{channel}");
        }
    }

    #[test]
    fn a_regular_expression_matches_any_part_unless_it_is_anchored() {
        let caps = caps(r#"[{"channels": ["^posts_[\\d]+$", "draft"], "match": "regex", "allow": ["sub"]}]"#);
        for (channel, expected) in
            [("posts_7", true), ("posts_", false), ("posts_7x", false), ("my-draft-7", true)]
        {
            assert_eq!(caps.allow(channel, Allow::SUBSCRIBE), expected, "{channel}");
        }
    }

    #[test]
    fn what_is_unknown_or_beyond_a_bound_is_an_error_that_names_it() {
        assert_eq!(error("{}"), CapabilitiesError::Shape);
        assert_eq!(error(r#"[{"channels": "a", "allow": ["sub"]}]"#), CapabilitiesError::Shape);
        assert_eq!(error(r#"[{"channels": ["a"], "match": "glob", "allow": []}]"#), CapabilitiesError::Match);
        assert_eq!(error(r#"[{"channels": ["a"], "allow": ["subscribe"]}]"#), CapabilitiesError::Allow);
        assert_eq!(error(r#"[{"channels": [""], "allow": ["sub"]}]"#), CapabilitiesError::Length);
        let long = format!(r#"[{{"channels": ["{}"], "allow": ["sub"]}}]"#, "a".repeat(256));
        assert_eq!(error(&long), CapabilitiesError::Length);
        let objects = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert!(Capabilities::from_json(&objects(MAX_OBJECTS)).is_ok());
        assert_eq!(error(&objects(MAX_OBJECTS + 1)), CapabilitiesError::TooManyObjects);
        let channels = |count: usize, kind: &str| {
            format!(r#"[{{"channels": [{}], "match": "{kind}"}}]"#, vec!["\"a\""; count].join(","))
        };
        assert!(Capabilities::from_json(&channels(MAX_CHANNELS, "")).is_ok());
        assert_eq!(error(&channels(MAX_CHANNELS + 1, "")), CapabilitiesError::TooManyChannels);
        assert!(Capabilities::from_json(&channels(MAX_REGEXES, "regex")).is_ok());
        assert_eq!(error(&channels(MAX_REGEXES + 1, "regex")), CapabilitiesError::TooManyRegexes);
        let large = r#"[{"channels": ["\\w{50}"], "match": "regex", "allow": ["sub"]}]"#;
        assert_eq!(error(large), CapabilitiesError::Regex);
        let invalid = r#"[{"channels": ["a("], "match": "regex", "allow": ["sub"]}]"#;
        assert_eq!(error(invalid), CapabilitiesError::Regex);
        for (error, bound) in [
            (CapabilitiesError::TooManyObjects, MAX_OBJECTS),
            (CapabilitiesError::TooManyChannels, MAX_CHANNELS),
            (CapabilitiesError::TooManyRegexes, MAX_REGEXES),
            (CapabilitiesError::Length, MAX_LEN),
            (CapabilitiesError::Regex, MAX_REGEX_SIZE >> 10),
        ] {
            assert!(error.to_string().contains(&format!(" {bound} ")), "{error}");
        }
    }

    #[test]
    fn null_is_an_absent_match_and_an_object_without_channels_permits_nothing() {
        let caps =
            caps(r#"[{"channels": ["a"], "match": null, "allow": ["sub"], "note": 1}, {"allow": ["pub"]}]"#);
        assert!(caps.allow("a", Allow::SUBSCRIBE) && !caps.allow("a", Allow::PUBLISH));
    }
}
