//! Assignments: values for options, with their sources.

use super::error::Origin;
use super::raw::Raw;

/// Short names, in files and in the environment, and their keys.
const ALIASES: [(&str, &str); 4] = [
    ("tcp", "tcp.listen"),
    ("http", "http.listen"),
    ("log_level", "log.level"),
    ("log_format", "log.format"),
];

/// A value for an option, and its source.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    /// The key as written, or the key of a variable.
    pub(super) key: String,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
    /// Whether it is in a disabled table of a file (`enabled = false`).
    pub(super) switched_off: bool,
}

impl Assignment {
    pub(super) fn new(key: impl Into<String>, raw: Raw, origin: Origin) -> Self {
        Self { key: key.into(), raw, origin, switched_off: false }
    }
}

/// The key of a short name, or `key` itself.
pub(super) fn resolve(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, meant)| meant)
}
