//! The levels of rules and names: the parts between slashes.

/// The separator of levels.
pub(crate) const SEPARATOR: char = '/';

/// One level of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level<'a> {
    /// This text.
    Text(&'a str),
    /// This text and at least one more character: the value of a variable.
    Variable(&'a str),
    /// Any text, also none: `+`.
    Single,
    /// This level and all below it, also none: `#`.
    Multi,
}

/// Whether a leading wildcard does not match this name (MQTT 5.0 §4.7.2).
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with('$')
}
