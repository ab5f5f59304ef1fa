//! Channel names, glob patterns, and the topics of subscriptions.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Longest channel name in bytes.
pub const MAX_CHANNEL: usize = 255;
/// Longest pattern in bytes.
pub const MAX_PATTERN: usize = 255;
/// Prefix of the server's internal channels (canaries, messages between nodes). Clients and backends can neither
/// subscribe nor publish to a channel with this prefix.
pub const RESERVED_PREFIX: &str = "tidings.";

/// The reason why bytes are not a channel name (or a pattern).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChannelError {
    /// No bytes at all.
    #[error("channel name is empty")]
    Empty,
    /// More than [`MAX_CHANNEL`] bytes.
    #[error("channel name longer than {MAX_CHANNEL} bytes")]
    TooLong,
    /// Bytes that are not UTF-8, or a control character.
    #[error("channel name must be UTF-8 without control characters")]
    NotText,
}

/// A channel's name: 1 to 255 bytes of UTF-8 without control characters. Cloning is a reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// Checks the bytes of a name.
    ///
    /// # Errors
    /// [`ChannelError`] when they are empty, too long, not UTF-8, or contain a control character.
    pub fn new(name: impl AsRef<[u8]>) -> Result<Self, ChannelError> {
        checked(name.as_ref()).map(|s| Self(s.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether plain lines can contain it: a space ends a name there.
    pub fn fits_a_line(&self) -> bool {
        !self.0.contains(' ')
    }
}

/// A glob over channel names, as in Redis' `PSUBSCRIBE`: `*`, `?`, `[abc]`, `[^a-z]`, `\` escapes. It has the same
/// bounds as a channel name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Checks the bytes of a pattern.
    ///
    /// # Errors
    /// [`ChannelError`] when they are empty, too long, not UTF-8, or contain a control character.
    pub fn new(glob: impl AsRef<[u8]>) -> Result<Self, ChannelError> {
        checked(glob.as_ref()).map(|s| Self(s.into()))
    }

    /// The glob, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches `channel`.
    pub fn matches(&self, channel: &str) -> bool {
        glob_matches(self.0.as_bytes(), channel.as_bytes())
    }
}

fn checked(bytes: &[u8]) -> Result<&str, ChannelError> {
    if bytes.is_empty() {
        return Err(ChannelError::Empty);
    }
    if bytes.len() > MAX_CHANNEL {
        return Err(ChannelError::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ChannelError::NotText)?;
    // Most names are ASCII alone, and need no second check.
    if !bytes.iter().all(u8::is_ascii_graphic) && text.chars().any(char::is_control) {
        return Err(ChannelError::NotText);
    }
    Ok(text)
}

/// The topic of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// One channel.
    Channel(Channel),
    /// Every channel that a glob matches (RESP `PSUBSCRIBE` only).
    Pattern(Pattern),
}

impl Topic {
    /// The name or the glob.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Channel(c) => c.as_str(),
            Self::Pattern(p) => p.as_str(),
        }
    }
}

impl From<Channel> for Topic {
    fn from(channel: Channel) -> Self {
        Self::Channel(channel)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "glob:{}", self.0)
    }
}

/// Matches `text` against a glob as Redis does (`PSUBSCRIBE`, `KEYS`). Iterative over `*`, so the work is at
/// most pattern × text whatever the glob.
pub fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if let Some(next) = one_matches(pattern, p, text[t]) {
            p = next;
            t += 1;
            continue;
        }
        let Some((after, from)) = star else { return false };
        p = after;
        t = from + 1;
        star = Some((after, t));
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// The rest of the pattern after its element at `p` has matched `byte`; `None` when it does not match.
fn one_matches(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        b'[' => {
            let mut i = p + 1;
            let negated = pattern.get(i) == Some(&b'^');
            i += usize::from(negated);
            let mut hit = false;
            while i < pattern.len() && pattern[i] != b']' {
                if pattern[i] == b'\\' && i + 1 < pattern.len() {
                    i += 1;
                    hit |= pattern[i] == byte;
                    i += 1;
                } else if i + 2 < pattern.len() && pattern[i + 1] == b'-' {
                    let (a, b) = (pattern[i].min(pattern[i + 2]), pattern[i].max(pattern[i + 2]));
                    hit |= (a..=b).contains(&byte);
                    i += 3;
                } else {
                    hit |= pattern[i] == byte;
                    i += 1;
                }
            }
            // An unclosed class ends with the pattern, as in Redis.
            (hit != negated).then_some((i + 1).min(pattern.len()))
        }
        literal => (literal == byte).then_some(p + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_name_is_text_without_control_characters_within_its_bound() {
        for name in ["scores:nba", "my room ☕", "naïve", " ", "\u{a0}", "日本", "a\"b\\", "\u{2028}"] {
            assert_eq!(Channel::new(name).unwrap().as_str(), name);
            assert_eq!(Channel::new(name).unwrap().fits_a_line(), !name.contains(' '));
        }
        assert_eq!(Channel::new(""), Err(ChannelError::Empty));
        for name in [&b"a\nb"[..], b"a\r", b"\t", b"a\0", b"\x1f", b"\x7f", "\u{85}".as_bytes(), b"caf\xe9"] {
            assert_eq!(Channel::new(name), Err(ChannelError::NotText), "{}", name.escape_ascii());
        }
        assert!(Channel::new("x".repeat(MAX_CHANNEL)).is_ok());
        assert!(Channel::new("☕".repeat(MAX_CHANNEL / 3)).is_ok());
        assert_eq!(Channel::new("☕".repeat(MAX_CHANNEL / 3 + 1)), Err(ChannelError::TooLong));
        assert_eq!(Channel::new("x".repeat(MAX_CHANNEL + 1)), Err(ChannelError::TooLong));
    }

    #[test]
    fn globs_match_as_redis_does() {
        for (glob, text, expected) in [
            ("news.*", "news.art", true),
            ("news.*", "news", false),
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("**a**b**", "xxaxxbxx", true),
            ("a*b*c", "abcabc", true),
            ("a*b*c", "abcab", false),
            ("[abc", "a", true),
            ("[", "x", false),
            ("\\", "\\", true),
        ] {
            assert_eq!(glob_matches(glob.as_bytes(), text.as_bytes()), expected, "{glob} on {text}");
        }
    }

    #[test]
    fn a_glob_of_many_stars_is_matched_quickly() {
        let glob = "*a".repeat(100);
        assert!(!glob_matches(glob.as_bytes(), "b".repeat(255).as_bytes()));
    }
}
