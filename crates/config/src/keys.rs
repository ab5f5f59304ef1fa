//! The keys of all options, derived from the table of options.

use std::sync::LazyLock;

use super::group::{Group, Slot, Visitor};
use super::options::Config;
use super::raw::Raw;
use super::setting::items;

/// The end of the key of a file with a secret.
pub(super) const SECRET_FILE_SUFFIX: &str = "_file";
/// The key of the namespaces.
pub(super) const NAMESPACES: &str = "channel.namespaces";
/// The key of the named keys of the server API.
pub(super) const API_KEYS: &str = "http_api.keys";
/// The key of the apps of the Pusher protocol.
pub(super) const PUSHER_APPS: &str = "pusher.apps";
/// The key of the named hooks.
pub(super) const PROXIES: &str = "proxies";
/// The key of the namespaces of methods of `rpc` commands.
pub(super) const RPC_NAMESPACES: &str = "rpc.namespaces";
/// The key of the consumers.
pub(super) const CONSUMERS: &str = "consumers";
/// The keys of lists of named groups: an array of tables in a file, a list of their names in other sources.
pub(super) const LISTS: [&str; 6] = [NAMESPACES, API_KEYS, PUSHER_APPS, PROXIES, RPC_NAMESPACES, CONSUMERS];

/// The option of a list with the names of its groups, and the word for one of them.
pub(super) fn name_option(list: &str) -> (&'static str, &'static str) {
    match list {
        NAMESPACES => ("name", "a namespace"),
        PUSHER_APPS => ("id", "an app"),
        PROXIES => ("name", "a proxy"),
        RPC_NAMESPACES => ("name", "an RPC namespace"),
        CONSUMERS => ("name", "a consumer"),
        _ => ("name", "a key"),
    }
}

/// The keys of all options outside of lists, of the files with secrets, and of the lists.
pub(super) static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut keys = keys_of(&mut Config::default(), "");
    keys.extend(LISTS.map(str::to_owned));
    keys
});

/// The keys of a group's options and of the files with its secrets, each after `path`.
pub(super) fn keys_of(group: &mut dyn Group, path: &str) -> Vec<String> {
    struct Keys {
        options: Vec<String>,
        files: Vec<String>,
    }
    impl Visitor for Keys {
        fn group(&mut self, _: &str, _: &'static [&'static str]) {}

        fn option(&mut self, path: &str, _: &'static [&'static str], slot: &mut dyn Slot) {
            self.options.push(path.to_owned());
            if slot.is_secret() {
                self.files.push(format!("{path}{SECRET_FILE_SUFFIX}"));
            }
        }
    }
    let mut keys = Keys { options: Vec::new(), files: Vec::new() };
    group.walk(path, &mut keys);
    let Keys { mut options, mut files } = keys;
    files.retain(|file| !options.contains(file));
    options.append(&mut files);
    options
}

/// Sets `list` to items with these names, in order. An item of the list keeps its options; `create` makes the others.
pub(super) fn set_names<T>(
    list: &mut Vec<T>,
    names: &[String],
    name_of: impl Fn(&T) -> &str,
    create: impl Fn(&String) -> T,
) {
    let mut before = std::mem::take(list);
    for name in names {
        let kept = before.iter().position(|item| name_of(item) == name).map(|at| before.swap_remove(at));
        list.push(kept.unwrap_or_else(|| create(name)));
    }
}

impl Config {
    /// Sets the names in a list, in order. A known name keeps its options.
    fn rename(&mut self, list: &str, names: &[String]) -> Result<(), String> {
        match list {
            API_KEYS => self.http_api.keys.rename(names),
            PUSHER_APPS => self.pusher.apps.rename(names),
            PROXIES => self.proxies.rename(names),
            RPC_NAMESPACES => self.rpc.namespaces.rename(names),
            CONSUMERS => self.consumers.rename(names),
            _ => self.channel.rename(names),
        }
    }

    /// The groups of all lists, each with its path, which ends in a dot.
    pub(super) fn items(&mut self) -> impl Iterator<Item = (String, &mut dyn Group)> {
        let namespaces = self.channel.namespaces.iter_mut();
        let namespaces = namespaces.map(|item| (NAMESPACES, &item.name, &mut item.options as &mut dyn Group));
        let keys = self.http_api.keys.0.iter_mut();
        let keys = keys.map(|item| (API_KEYS, &item.name, &mut item.options as &mut dyn Group));
        let apps = self.pusher.apps.0.iter_mut();
        let apps = apps.map(|item| (PUSHER_APPS, &item.id, &mut item.options as &mut dyn Group));
        let proxies = self.proxies.0.iter_mut();
        let proxies = proxies.map(|item| (PROXIES, &item.name, &mut item.options as &mut dyn Group));
        let methods = self.rpc.namespaces.0.iter_mut();
        let methods = methods.map(|item| (RPC_NAMESPACES, &item.name, &mut item.options as &mut dyn Group));
        let consumers = self.consumers.0.iter_mut();
        let consumers = consumers.map(|item| (CONSUMERS, &item.name, &mut item.options as &mut dyn Group));
        let items = namespaces.chain(keys).chain(apps).chain(proxies).chain(methods).chain(consumers);
        items.map(|(list, name, group)| (format!("{list}.{name}."), group))
    }

    /// The paths of the groups in lists.
    pub(super) fn names(&self) -> Vec<String> {
        let namespaces = self.channel.namespaces.iter().map(|item| format!("{NAMESPACES}.{}", item.name));
        let keys = self.http_api.keys.iter().map(|item| format!("{API_KEYS}.{}", item.name));
        let apps = self.pusher.apps.iter().map(|item| format!("{PUSHER_APPS}.{}", item.id));
        let proxies = self.proxies.iter().map(|item| format!("{PROXIES}.{}", item.name));
        let methods = self.rpc.namespaces.iter().map(|item| format!("{RPC_NAMESPACES}.{}", item.name));
        let consumers = self.consumers.iter().map(|item| format!("{CONSUMERS}.{}", item.name));
        namespaces.chain(keys).chain(apps).chain(proxies).chain(methods).chain(consumers).collect()
    }

    /// Shows every option to `visitor`, those in lists last.
    pub(super) fn walk_all(&mut self, visitor: &mut dyn Visitor) {
        self.walk("", visitor);
        for (path, group) in self.items() {
            group.walk(&path, visitor);
        }
    }

    /// Stores a value in the option `key`; `None` if there is no such option.
    pub(super) fn set_any(&mut self, key: &str, raw: &Raw) -> Option<Result<(), String>> {
        if LISTS.contains(&key) {
            return Some(names(raw).and_then(|names| self.rename(key, &names)));
        }
        if !LISTS.iter().any(|list| key.strip_prefix(list).is_some_and(|rest| rest.starts_with('.'))) {
            return set(self, "", key, raw);
        }
        // Names and keys of options may have dots: the longest name with such an option is meant.
        let mut items: Vec<_> = self.items().filter(|(path, _)| key.starts_with(path)).collect();
        items.sort_unstable_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        items.into_iter().find_map(|(path, group)| set(group, &path, key, raw))
    }
}

/// The names in a list, from a file or a comma-separated text.
fn names(raw: &Raw) -> Result<Vec<String>, String> {
    match raw {
        Raw::List(nodes) => {
            Ok(nodes.iter().filter_map(|node| node.raw.as_text()).map(str::to_owned).collect())
        }
        Raw::Text(text) | Raw::Word(text) => items(text),
        Raw::Null => Ok(Vec::new()),
        _ => Err(format!("expected a list of tables, each with a name, got {}", raw.sort())),
    }
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
