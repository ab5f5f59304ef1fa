//! The keys of all options, derived from the table of options.

use std::sync::LazyLock;

use super::group::{Group, Slot, Visitor};
use super::options::Config;
use super::raw::Raw;

/// The key of the namespaces: an array of tables in a file, a list of their names in other sources.
pub(super) const NAMESPACES: &str = "channel.namespaces";

/// The keys of all options outside of namespaces, and the key of the namespaces.
pub(super) static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut keys = keys_of(&mut Config::default(), "");
    keys.push(NAMESPACES.into());
    keys
});

/// The keys of a group's options, each after `path`.
pub(super) fn keys_of(group: &mut dyn Group, path: &str) -> Vec<String> {
    struct Keys(Vec<String>);
    impl Visitor for Keys {
        fn group(&mut self, _: &str, _: &'static [&'static str]) {}

        fn option(&mut self, path: &str, _: &'static [&'static str], _: &mut dyn Slot) {
            self.0.push(path.to_owned());
        }
    }
    let mut keys = Keys(Vec::new());
    group.walk(path, &mut keys);
    keys.0
}

/// Whether there are options below `key`.
pub(super) fn is_group(key: &str) -> bool {
    KEYS.iter().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether `key` is an option, or the key of the namespaces.
pub(super) fn is_option(key: &str) -> bool {
    KEYS.iter().any(|known| known == key)
}

/// Stores a value in the option `key` of a group; `None` if it has no such option.
pub(super) fn set(group: &mut dyn Group, path: &str, key: &str, raw: &Raw) -> Option<Result<(), String>> {
    struct Setter<'a> {
        key: &'a str,
        raw: &'a Raw,
        outcome: Option<Result<(), String>>,
    }
    impl Visitor for Setter<'_> {
        fn group(&mut self, _: &str, _: &'static [&'static str]) {}

        fn option(&mut self, path: &str, _: &'static [&'static str], slot: &mut dyn Slot) {
            if path == self.key {
                let unset = matches!(self.raw, Raw::Null);
                self.outcome = Some(if unset { Ok(()) } else { slot.set(self.raw) });
            }
        }
    }
    let mut setter = Setter { key, raw, outcome: None };
    group.walk(path, &mut setter);
    setter.outcome
}
