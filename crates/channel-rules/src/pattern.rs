//! Patterns of names as in HTTP routers: `/users/:id`.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::level::{Level, SEPARATOR};
use crate::{MAX_LEN, MAX_LEVELS, MAX_VARIABLE};

/// What begins a variable.
const SIGN: char = ':';

/// A pattern: levels between slashes, of which each is a text or ends in a variable (`:id`, `user_:id`). A variable stands for at
/// least one character of its level. Clones share the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelPattern(Arc<str>);

/// Why a text is no [`ChannelPattern`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// It is longer than [`MAX_LEN`].
    #[error("it has {0} bytes, and {MAX_LEN} is the limit")]
    TooLong(usize),
    /// It has more levels than [`MAX_LEVELS`].
    #[error("it has {0} levels, and {MAX_LEVELS} is the limit")]
    TooDeep(usize),
    /// It does not begin with a slash.
    #[error("it does not begin with /")]
    NoSlash,
    /// It has other characters than the visible ones of ASCII.
    #[error("it has characters other than the visible ones of ASCII")]
    NotAscii,
    /// The name of a variable is empty, too long, or has other characters than letters, digits and `_`.
    #[error(
        "\":{0}\" is no variable: its name is 1 to {MAX_VARIABLE} letters, digits or _, up to the next /"
    )]
    Variable(String),
    /// Two variables have the same name.
    #[error("two variables are named \":{0}\"")]
    Twice(String),
}

impl ChannelPattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// [`PatternError`] with the rule that the text breaks.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_LEN {
            return Err(PatternError::TooLong(text.len()));
        }
        if !text.starts_with(SEPARATOR) {
            return Err(PatternError::NoSlash);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PatternError::NotAscii);
        }
        let levels = text.split(SEPARATOR).count();
        if levels > MAX_LEVELS {
            return Err(PatternError::TooDeep(levels));
        }
        let mut names: Vec<&str> = Vec::new();
        for name in variables(text) {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || name.len() > MAX_VARIABLE || !name.bytes().all(is_name) {
                return Err(PatternError::Variable(name.to_owned()));
            }
            if names.contains(&name) {
                return Err(PatternError::Twice(name.to_owned()));
            }
            names.push(name);
        }
        Ok(Self(text.into()))
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of its variables, in their order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        variables(&self.0)
    }

    /// The variables with their values in a name that the pattern matches; none for other names.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let is_match = self.matches(name);
        let levels = self.0.split(SEPARATOR).zip(name.split(SEPARATOR)).filter(move |_| is_match);
        levels.filter_map(|(level, text)| {
            let (prefix, variable) = level.split_once(SIGN)?;
            Some((variable, text.strip_prefix(prefix)?))
        })
    }

    /// Whether the pattern matches a name.
    pub fn matches(&self, name: &str) -> bool {
        let mut names = name.split(SEPARATOR);
        let is_match = self.levels().all(|level| {
            names.next().is_some_and(|text| match level {
                Level::Text(expected) => text == expected,
                Level::Variable(prefix) => text.len() > prefix.len() && text.starts_with(prefix),
                Level::Single | Level::Multi => true,
            })
        });
        is_match && names.next().is_none()
    }

    pub(crate) fn levels(&self) -> impl Iterator<Item = Level<'_>> {
        self.0.split(SEPARATOR).map(|level| match level.split_once(SIGN) {
            Some((prefix, _)) => Level::Variable(prefix),
            None => Level::Text(level),
        })
    }
}

/// The names of the variables in a pattern.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split(SEPARATOR).filter_map(|level| level.split_once(SIGN)).map(|(_, name)| name)
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_stands_for_one_level_or_its_end() {
        for (pattern, name, expected) in [
            ("/users/:name", "/users/mary", true),
            ("/users/:name", "/users/mary/profile", false),
            ("/users/:name", "/users/", false),
            ("/users/:name", "/users", false),
            ("/news/:type/:subtype", "/news/sport/football", true),
            ("/news/:type/:subtype", "/news/sport", false),
            ("/personal/user_:user", "/personal/user_mary", true),
            ("/personal/user_:user", "/personal/user_", false),
            ("/personal/user_:user", "/personal/mary", false),
            ("/lobby", "/lobby", true),
            ("/lobby", "lobby", false),
            ("/users/:name", "/users/a:b", true),
            ("/users/:name", "/users/☕", true),
        ] {
            assert_eq!(
                ChannelPattern::new(pattern).expect(pattern).matches(name),
                expected,
                "{pattern} on {name}"
            );
        }
    }

    #[test]
    fn the_values_of_variables_are_parts_of_the_name() {
        let pattern = ChannelPattern::new("/events/:project/type_:type").expect("a pattern");
        assert_eq!(pattern.variables().collect::<Vec<_>>(), ["project", "type"]);
        let values: Vec<_> = pattern.values("/events/42/type_news").collect();
        assert_eq!(values, [("project", "42"), ("type", "news")]);
        assert_eq!(pattern.values("/events/42").count(), 0);
    }

    #[test]
    fn an_error_says_which_rule_a_pattern_breaks() {
        let error = |text: &str| ChannelPattern::new(text).expect_err(text);
        assert_eq!(error("users/:id"), PatternError::NoSlash);
        assert_eq!(error(""), PatternError::NoSlash);
        assert_eq!(error("/users/:"), PatternError::Variable(String::new()));
        assert_eq!(error("/users/:a-b"), PatternError::Variable("a-b".into()));
        assert_eq!(error("/users/:a:b"), PatternError::Variable("a:b".into()));
        assert_eq!(error("/:id/:id"), PatternError::Twice("id".into()));
        assert_eq!(error("/us ers"), PatternError::NotAscii);
        assert_eq!(error("/☕"), PatternError::NotAscii);
        assert_eq!(error(&"/a".repeat(32)), PatternError::TooDeep(33));
        assert_eq!(error(&format!("/{}", "a".repeat(255))), PatternError::TooLong(256));
        let long = format!("/:{}", "a".repeat(65));
        assert_eq!(error(&long), PatternError::Variable("a".repeat(65)));
    }
}
