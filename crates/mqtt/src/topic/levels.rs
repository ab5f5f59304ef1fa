//! The levels of topic names and filters.

/// The separator of levels.
pub(super) const SEPARATOR: char = '/';
/// The level of a filter that matches one level.
pub(super) const SINGLE: &str = "+";
/// The last level of a filter that matches its parent and all levels below it.
pub(super) const MULTI: &str = "#";

/// The levels of a topic name or a filter; at least one, which may be empty.
pub(super) fn levels(topic: &str) -> impl Iterator<Item = &str> {
    topic.split(SEPARATOR)
}

/// Whether a leading wildcard does not match this topic name (MQTT-4.7.2-1).
pub(super) fn is_hidden(topic: &str) -> bool {
    topic.starts_with('$')
}
