//! Consumers: those of PostgreSQL are converted, others are left out.

use super::super::centrifugo::is_true;
use super::super::keys::{CONSUMERS, keys_of};
use super::super::options::ConsumerOptions;
use super::super::raw::{Node, Raw, shown};
use super::{Import, Value};

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
            if kind != "postgresql" {
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
            converted.push((name, entries));
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
        for (name, entries) in converted {
            self.collect_consumer(entries, &format!("{CONSUMERS}.{name}."), "", &known);
        }
    }

    fn collect_consumer(&mut self, entries: &[(String, Node)], item: &str, path: &str, known: &[String]) {
        for (key, node) in entries.iter().filter(|(key, _)| !(path.is_empty() && key == "name")) {
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
