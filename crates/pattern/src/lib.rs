//! Regular expressions of the configuration: for names of channels, and for claims of tokens.
//!
//! The syntax is that of the crate `regex`, which is that of Go (RE2), except that `\d`, `\w` and `\s` include the digits, letters
//! and spaces of all scripts; `(?-u:\d)` are those of ASCII. A match takes time in proportion to the text.
//!
//! Invariants:
//! - A pattern has at most [`MAX_LEN`] bytes of text and [`MAX_SIZE`] bytes as a program, and its match needs at most that much
//!   again for its cache.
//! - A pattern matches any part of a text, as in Go and RE2, unless it begins with `^` and ends with `$`.

use std::fmt;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// Longest text of a pattern in bytes.
pub const MAX_LEN: usize = 1024;
/// Largest program of a pattern in bytes. A class with the letters of all scripts, such as `\w`, takes about 30 KiB for each
/// repetition.
pub const MAX_SIZE: usize = 4 << 20;

/// A regular expression. Clones share the program.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Why a text is no [`Pattern`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// It is longer than [`MAX_LEN`].
    #[error("it has {0} bytes, and {MAX_LEN} is the limit")]
    TooLong(usize),
    /// Its program is larger than this, for example because of large repetitions.
    #[error(
        "it needs more than {0} bytes of memory; use smaller repetitions, or classes of ASCII such as `(?-u:\\w)`"
    )]
    TooLarge(usize),
    /// It is in another syntax.
    #[error("{0}")]
    Syntax(String),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(text: &str) -> Result<Self, PatternError> {
        Self::with_max_size(text, MAX_SIZE)
    }

    /// As [`Pattern::new`], with at most `max_size` bytes for the program in place of [`MAX_SIZE`].
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn with_max_size(text: &str, max_size: usize) -> Result<Self, PatternError> {
        if text.len() > MAX_LEN {
            return Err(PatternError::TooLong(text.len()));
        }
        compile(text, max_size)
    }

    /// Whether a part of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The names of its groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.capture_names().flatten()
    }

    /// The same pattern for whole texts: it matches no part of a longer one.
    ///
    /// # Errors
    /// [`PatternError`], for example if the pattern ends in a comment.
    pub fn whole(&self) -> Result<Self, PatternError> {
        compile(&format!("^(?:{})$", self.0), MAX_SIZE)
    }

    /// The part of `text` that the group with this name matches.
    pub fn group<'t>(&self, text: &'t str, name: &str) -> Option<&'t str> {
        Some(self.0.captures(text)?.name(name)?.as_str())
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

fn compile(text: &str, max_size: usize) -> Result<Pattern, PatternError> {
    let built = RegexBuilder::new(text).size_limit(max_size).dfa_size_limit(max_size).build();
    built.map(Pattern).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::TooLarge(max_size),
        // The last line has the reason; the ones before it show the place.
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            PatternError::Syntax(reason.strip_prefix("error: ").unwrap_or(reason).to_owned())
        }
    })
}

/// Patterns with the same text are equal.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_any_part_unless_it_is_anchored() {
        let loose = Pattern::new("[0-9]+").unwrap();
        let exact = Pattern::new("^[0-9]+$").unwrap();
        assert!(loose.is_match("room7") && !exact.is_match("room7") && exact.is_match("7"));
        assert!(!exact.is_match("7\n"), "the end of the text is no line end");
        assert_eq!(loose, Pattern::new("[0-9]+").unwrap());
        assert_ne!(loose, exact);
    }

    #[test]
    fn a_group_has_a_part_of_a_text() {
        let pattern = Pattern::new("^id/(?P<realm>[a-z]+)(/.*)?$").unwrap();
        assert_eq!(pattern.groups().collect::<Vec<_>>(), ["realm"]);
        assert_eq!(pattern.group("id/ab/c", "realm"), Some("ab"));
        let loose = Pattern::new("x|(?P<realm>[a-z]+)$").unwrap();
        assert_eq!(loose.group("evil/ab", "realm"), Some("ab"));
        assert_eq!(loose.whole().unwrap().group("evil/ab", "realm"), None);
        assert_eq!(loose.whole().unwrap().group("ab", "realm"), Some("ab"));
        assert!(Pattern::new("(?x)a # comment").unwrap().whole().is_err());
        assert_eq!((pattern.group("id/", "realm"), pattern.group("id/a", "other")), (None, None));
    }

    #[test]
    fn a_pattern_is_bounded_in_text_and_memory() {
        assert!(Pattern::new(&"a".repeat(MAX_LEN)).is_ok());
        assert_eq!(Pattern::new(&"a".repeat(MAX_LEN + 1)), Err(PatternError::TooLong(MAX_LEN + 1)));
        assert_eq!(Pattern::new("(a{1,1000}){1,1000}"), Err(PatternError::TooLarge(MAX_SIZE)));
        assert!(Pattern::new(r"^[\w-]{1,64}$").is_ok());
    }

    #[test]
    fn an_error_has_one_line_with_the_reason() {
        let error = Pattern::new("a(b").unwrap_err();
        assert_eq!(error, PatternError::Syntax("unclosed group".to_owned()));
    }
}
