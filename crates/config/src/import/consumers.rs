//! Consumers: those of PostgreSQL and of Redis Streams are converted, others are left out.

use super::super::centrifugo::{is_true, redis_url};
use super::super::keys::{CONSUMERS, keys_of};
use super::super::options::ConsumerOptions;
use super::super::raw::{Node, Raw, shown};
use super::{Import, Value};

/// The types that are converted.
const TYPES: [&str; 2] = ["postgresql", "redis_stream"];
/// The table of a consumer of Redis Streams.
const STREAM: &str = "redis_stream.";
/// The options of Redis in it that become one address.
const REDIS: [&str; 11] = [
    "address",
    "cluster_address",
    "sentinel_address",
    "sentinel_master_name",
    "sentinel_user",
    "sentinel_password",
    "sentinel_tls",
    "user",
    "password",
    "db",
    "tls",
];

impl Import {
    /// Converts the items of the list of consumers.
    pub(super) fn collect_consumers(&mut self, items: &[Node]) {
        let known = keys_of(&mut ConsumerOptions::default(), "");
        let (mut names, mut converted) = (Vec::new(), Vec::new());
        for item in items {
            let Raw::Table(entries) = &item.raw else { continue };
            let value = |key: &str| entries.iter().find(|(name, _)| name == key).map(|(_, node)| &node.raw);
            let text = |key: &str| value(key).and_then(Raw::as_text).unwrap_or_default();
            let (name, kind) = (text("name"), text("type"));
            if !TYPES.contains(&kind) {
                if value("enabled").is_some_and(is_true) {
                    let (name, kind) = (shown(name), shown(kind));
                    let what = format!(
                        "the consumer \"{name}\" is left out: tidings has no consumers of the type \"{kind}\""
                    );
                    self.note(item.line, &what);
                }
                continue;
            }
            names.push(Node { line: item.line, raw: Raw::Text(name.to_owned()) });
            let streams = Some(value("redis_stream")).filter(|_| kind == "redis_stream").flatten();
            converted.push((name, entries, streams, item.line));
        }
        // An item exists before its options are set.
        if let Some(first) = names.first() {
            let line = first.line;
            self.values.push(Value {
                key: CONSUMERS.into(),
                raw: Raw::List(names),
                from: CONSUMERS.into(),
                line,
            });
        }
        for (name, entries, streams, line) in converted {
            let item = format!("{CONSUMERS}.{name}.");
            self.collect_consumer(entries, &item, "", &known);
            if let Some(Raw::Table(streams)) = streams {
                self.collect_stream_address(streams, &item, line);
            }
        }
    }

    /// Converts the options of Redis to an address.
    fn collect_stream_address(&mut self, entries: &[(String, Node)], item: &str, line: usize) {
        let find =
            |entries: &'_ [(String, Node)], name: &str| entries.iter().position(|(key, _)| key == name);
        let option = |name: &str| match name.split_once('.') {
            Some((table, name)) => match &entries[find(entries, table)?].1.raw {
                Raw::Table(inner) => Some(&inner[find(inner, name)?].1.raw),
                _ => None,
            },
            None => Some(&entries[find(entries, name)?].1.raw),
        };
        let key = format!("{item}{STREAM}address");
        match redis_url::broker(option) {
            Ok(url) => self.add(&key, Raw::Text(url), &key, line),
            Err(why) => self.note(line, &format!("`{}` is left out: {why}", shown(&key))),
        }
    }

    fn collect_consumer(&mut self, entries: &[(String, Node)], item: &str, path: &str, known: &[String]) {
        for (key, node) in entries.iter().filter(|(key, _)| !(path.is_empty() && key == "name")) {
            if path == STREAM && REDIS.contains(&&**key) {
                continue;
            }
            let option = format!("{path}{key}");
            match &node.raw {
                Raw::Table(inner) => self.collect_consumer(inner, item, &format!("{option}."), known),
                Raw::Null => {}
                raw if known.contains(&option) => {
                    let key = format!("{item}{option}");
                    self.add(&key, raw.clone(), &key, node.line);
                }
                raw if super::is_nothing(raw) => {}
                _ => {
                    let what = format!("`{}` is not known, and left out", shown(&format!("{item}{option}")));
                    self.note(node.line, &what);
                }
            }
        }
    }
}
