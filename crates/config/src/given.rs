//! The options that sources have set, with their places, for errors that name them.

use std::collections::BTreeMap;

use super::error::{ConfigError, Format, Origin};
use super::raw::shown;

/// The keys that sources have set so far, with their places.
#[derive(Default)]
pub(super) struct GivenOptions(BTreeMap<String, Origin>);

impl GivenOptions {
    /// Records that a source has set an option. Returns the place of an earlier value.
    pub(super) fn record(&mut self, key: &str, origin: &Origin) -> Option<Origin> {
        self.0.insert(key.to_owned(), origin.clone())
    }

    /// The place of an option's value.
    pub(super) fn origin(&self, key: &str) -> Option<&Origin> {
        self.0.get(key)
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// An error about an option, at the place of its value.
    pub(super) fn error(&self, key: &str, what: String) -> ConfigError {
        match self.0.get(key) {
            Some(origin) => value_error(origin, key, &what),
            None => ConfigError::general(what),
        }
    }

    /// An error about an option of the item `name` in `list`, at the place of the option's value, or of the list.
    pub(super) fn item_error(&self, list: &str, name: &str, option: &str, what: String) -> ConfigError {
        let key = format!("{list}.{name}.{option}");
        self.error(if self.contains(&key) { &key } else { list }, what)
    }

    /// The instruction to add options to the source of `key`: the place, and the text for an option and a value.
    pub(super) fn how_to_add(&self, key: &str) -> (&'static str, impl Fn(&str, &str) -> String) {
        let toml = Origin::File { name: "".into(), line: 0, format: Format::Toml };
        let origin = self.0.get(key).cloned().unwrap_or(toml);
        (origin.place_to_add(), move |key: &str, value: &str| origin.assignment(key, value))
    }

    /// The instruction to add `option` beside its sibling `given` in the group `path`.
    pub(super) fn beside(&self, path: &str, given: &str, option: &str, value: &str) -> String {
        let key = format!("{path}.{option}");
        match self.0.get(&format!("{path}.{given}")) {
            // The table exists, and no key addresses the table of a namespace.
            Some(origin @ Origin::File { .. }) => origin.assignment(option, value),
            Some(origin) => origin.assignment(&key, value),
            None => key,
        }
    }
}

/// An error in the value from `origin` for `key`. The name of a variable or flag already contains the key.
pub(super) fn value_error(origin: &Origin, key: &str, what: &str) -> ConfigError {
    match origin {
        Origin::File { .. } => ConfigError::at(origin, format!("{}: {what}", shown(key))),
        Origin::Environment(_) | Origin::Flag(_) | Origin::Credential(_) => ConfigError::at(origin, what),
    }
}
