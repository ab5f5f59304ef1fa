//! The text of a converted file: TOML, with comments on each option's purpose and the origin of its value.

use std::collections::BTreeMap;

use super::super::group::{Group, Slot, Visitor};
use super::super::keys::{CONSUMERS, NAMESPACES, PROXIES, RPC_NAMESPACES};
use super::super::options::Config;
use super::super::print::{comment, joined};
use super::super::setting;

const HEAD: &str = "\
Configuration of tidings, written by `tidings config import` from a configuration of Centrifugo. `tidings config check \
FILE` checks it, `tidings config default` shows the other options. It contains the secrets of the original.";

const LEFT_OUT: &str = "Settings that were not converted, or were changed, by lines of the original:";

/// Writes the options of `origins`, each with the key of its origin, and the notes.
pub(crate) fn file(config: &mut Config, origins: &BTreeMap<String, String>, notes: &[String]) -> String {
    let mut writer = Writer { origins, out: comment(HEAD), table: None };
    config.walk("", &mut writer);
    let namespaces = config.channel.namespaces.iter_mut();
    let namespaces = namespaces.map(|item| (NAMESPACES, &item.name, &mut item.options as &mut dyn Group));
    let methods = config.rpc.namespaces.0.iter_mut();
    let methods = methods.map(|item| (RPC_NAMESPACES, &item.name, &mut item.options as &mut dyn Group));
    let proxies = config.proxies.0.iter_mut();
    let proxies = proxies.map(|item| (PROXIES, &item.name, &mut item.options as &mut dyn Group));
    let consumers = config.consumers.0.iter_mut();
    let consumers = consumers.map(|item| (CONSUMERS, &item.name, &mut item.options as &mut dyn Group));
    for (list, name, group) in namespaces.chain(methods).chain(proxies).chain(consumers) {
        let path = format!("{list}.{name}.");
        writer.out += &format!("\n[[{list}]]\nname = {}\n", setting::quoted(name));
        group.walk(&path, &mut Options { path: &path, writer: &mut writer });
    }
    let mut out = writer.out;
    if !notes.is_empty() {
        out += &format!("\n{}", comment(LEFT_OUT));
        for note in notes {
            out += &comment(&format!("- {note}"));
        }
    }
    out
}

struct Writer<'a> {
    origins: &'a BTreeMap<String, String>,
    out: String,
    /// The path of the table with a header that is not written yet.
    table: Option<String>,
}

impl Writer<'_> {
    fn option(&mut self, path: &str, key: &str, doc: &[&str], slot: &dyn Slot) {
        let (Some(from), Some(value)) = (self.origins.get(key), slot.toml()) else { return };
        if let Some(table) = self.table.take() {
            self.out += &format!("\n[{}]\n", table.trim_end_matches('.'));
        }
        let doc = joined(doc);
        let sentence = doc.split_once(". ").map_or(doc.as_str(), |(first, _)| first).trim_end_matches('.');
        let name = &key[path.len()..];
        let from = match from {
            from if from == key || from == name => String::new(),
            remark if remark.contains(' ') => format!(" ({remark})"),
            from => format!(" (from {from})"),
        };
        self.out += &format!("\n{}{name} = {value}\n", comment(&format!("{sentence}{from}.")));
    }
}

impl Visitor for Writer<'_> {
    fn group(&mut self, path: &str, _: &'static [&'static str]) {
        self.table = (!path.is_empty()).then(|| path.to_owned());
    }

    fn option(&mut self, key: &str, doc: &'static [&'static str], slot: &mut dyn Slot) {
        let path = key.rsplit_once('.').map_or("", |(path, _)| &key[..=path.len()]);
        Writer::option(self, path, key, doc, slot);
    }
}

/// The options of one item of a list, after the header of its table.
struct Options<'a, 'b> {
    path: &'a str,
    writer: &'a mut Writer<'b>,
}

impl Visitor for Options<'_, '_> {
    fn group(&mut self, _: &str, _: &'static [&'static str]) {
        self.writer.table = None;
    }

    fn option(&mut self, key: &str, doc: &'static [&'static str], slot: &mut dyn Slot) {
        self.writer.option(self.path, key, doc, slot);
    }
}
