//! `tidings config import`: converts a configuration of Centrifugo.
//!
//! Invariants:
//! - The result is a valid configuration: every value is parsed and checked as the server does.
//! - An option that has an effect in Centrifugo and is not in the result is in the notes.
//! - Features that are off by default in Centrifugo and on in tidings are disabled explicitly.

mod consumers;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::assignment::{Assignment, resolve};
use super::centrifugo::{
    CHANNELS, Verdict, block, flat, general, is_absent_value, is_memory, is_nothing, is_off_list,
    is_switched_off, is_true, judge, list, redis_url, write,
};
use super::check::check;
use super::error::{ConfigErrors, Format, Origin};
use super::file;
use super::keys::{CONSUMERS, NAMESPACES, PROXIES, RPC_NAMESPACES, is_group, is_option};
use super::loader::Loader;
use super::options::Config;
use super::raw::{Node, Raw, shown};

/// Transports that are off by default in Centrifugo.
const OFF_BY_DEFAULT: [&str; 5] = ["sse", "http_stream", "uni_websocket", "uni_sse", "uni_http_stream"];
/// Options of `http_server.tls`, and the corresponding ones of `tls`.
const TLS: [(&str, &str); 10] = [
    ("enabled", "enabled"),
    ("cert_pem", "cert_pem"),
    ("cert_pem_b64", "cert_pem"),
    ("cert_pem_file", "cert_pem_file"),
    ("key_pem", "key_pem"),
    ("key_pem_b64", "key_pem"),
    ("key_pem_file", "key_pem_file"),
    ("client_ca_pem", "client_ca_pem"),
    ("client_ca_pem_b64", "client_ca_pem"),
    ("client_ca_pem_file", "client_ca_pem_file"),
];
/// The address of Centrifugo's default, and the one for a server without keys.
const EVERYWHERE: &str = "0.0.0.0";
const LOOPBACK: &str = "127.0.0.1";
/// The default port of Centrifugo.
const DEFAULT_PORT: u16 = 8000;

/// A converted configuration.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The file's text, in TOML. It contains the secrets of the configuration.
    pub text: String,
    /// One line for each setting that was not converted, or was changed.
    pub notes: Vec<String>,
}

/// Converts the configuration of Centrifugo at `path`, of version 5 or 6.
///
/// # Errors
/// A file that cannot be read or parsed.
pub fn import(path: &Path) -> Result<Imported, ConfigErrors> {
    let file = file::read(path)?;
    let mut import = Import {
        file,
        leaves: BTreeMap::new(),
        namespaces: Vec::new(),
        values: Vec::new(),
        notes: Vec::new(),
    };
    let root = std::mem::replace(&mut import.file.root.raw, Raw::Null);
    if let Raw::Table(entries) = &root {
        import.collect(entries, "");
    }
    import.convert();
    Ok(import.write())
}

/// A value of Centrifugo: its original key and its line.
#[derive(Clone)]
struct Leaf {
    written: String,
    raw: Raw,
    line: usize,
    switched_off: bool,
}

/// A value for tidings: its key, and the key of its origin.
struct Value {
    key: String,
    raw: Raw,
    from: String,
    line: usize,
}

struct Import {
    file: file::File,
    /// Values by their path in Centrifugo 6.
    leaves: BTreeMap<String, Leaf>,
    namespaces: Vec<(String, usize)>,
    values: Vec<Value>,
    notes: Vec<String>,
}

impl Import {
    /// Collects the values of a table.
    fn collect(&mut self, entries: &[(String, Node)], path: &str) {
        let switched_off = is_switched_off(entries);
        for (name, node) in entries {
            let key = format!("{path}{name}");
            let paths = if path.is_empty() { flat::paths(name) } else { None };
            match (&node.raw, paths) {
                (Raw::List(items), _) if key == NAMESPACES || key == "namespaces" => {
                    self.collect_namespaces(items);
                }
                (Raw::List(items), _) if key == CONSUMERS => self.collect_consumers(items),
                (Raw::List(items), _) if key == PROXIES => self.collect_named(PROXIES, items),
                (Raw::List(items), _) if key == RPC_NAMESPACES || key == "rpc_namespaces" => {
                    self.collect_named(RPC_NAMESPACES, items);
                }
                (Raw::Table(inner), _)
                    if (!is_option(&key) || key == "broker")
                        && !(path.is_empty() && flat::takes_table(name)) =>
                {
                    match key.as_str() {
                        "engine" | "broker" | "presence_manager" | "http_server.tls" => {}
                        _ if is_option(&key) => {}
                        _ => match block(&key, inner) {
                            Some(Verdict::Refused(what)) => {
                                self.note(node.line, &what);
                                continue;
                            }
                            Some(Verdict::Ignored(_)) => continue,
                            None => {}
                        },
                    }
                    self.collect(inner, &format!("{key}."));
                }
                (raw, paths) => {
                    let paths = paths.filter(|_| !is_option(resolve(&key)) || name == "broker");
                    for path in paths.unwrap_or_else(|| vec![resolve(&key).to_owned()]) {
                        let leaf =
                            Leaf { written: key.clone(), raw: raw.clone(), line: node.line, switched_off };
                        self.leaves.insert(path, leaf);
                    }
                }
            }
        }
    }

    fn collect_namespaces(&mut self, items: &[Node]) {
        for item in items {
            let Raw::Table(entries) = &item.raw else { continue };
            let Some(name) = name_of_item(item) else {
                self.note(item.line, "a namespace without a name is left out");
                continue;
            };
            // In version 5 a pattern is the name.
            let pattern = Some(name).filter(|name| name.starts_with('/')).map(|name| {
                ("pattern".to_owned(), Node { line: item.line, raw: Raw::Text(name.to_owned()) })
            });
            let is_taken = |name: &str| {
                let made = self.namespaces.iter().any(|(taken, _)| taken == name);
                made || items.iter().filter_map(name_of_item).any(|taken| taken == name)
            };
            let name = if pattern.is_some() { name_of_pattern(name, is_taken) } else { name.to_owned() };
            self.namespaces.push((name.clone(), item.line));
            let options = entries.iter().filter(|(key, _)| key != "name");
            for (key, node) in options.chain(&pattern) {
                if let Raw::Table(inner) = &node.raw
                    && is_group(&format!("{CHANNELS}.{key}"))
                {
                    self.collect_options(inner, &format!("{NAMESPACES}.{name}.{key}."));
                    continue;
                }
                let leaf = Leaf {
                    written: key.clone(),
                    raw: node.raw.clone(),
                    line: node.line,
                    switched_off: false,
                };
                self.leaves.insert(format!("{NAMESPACES}.{name}.{}", flat::channel_option(key)), leaf);
            }
        }
    }

    /// The items of a list of named hooks, or of namespaces of methods.
    fn collect_named(&mut self, list: &'static str, items: &[Node]) {
        let mut names = Vec::new();
        for item in items {
            let Raw::Table(entries) = &item.raw else { continue };
            let name = entries.iter().find(|(key, _)| key == "name").and_then(|(_, node)| node.raw.as_text());
            let Some(name) = name else {
                self.note(item.line, &format!("an item of {list} without a name is left out"));
                continue;
            };
            names.push(Node { line: item.line, raw: Raw::Text(name.to_owned()) });
            self.collect_options(entries, &format!("{list}.{name}."));
        }
        if let Some(first) = names.first() {
            let line = first.line;
            self.values.push(Value { key: list.into(), raw: Raw::List(names), from: list.into(), line });
        }
    }

    fn collect_options(&mut self, entries: &[(String, Node)], path: &str) {
        for (key, node) in entries.iter().filter(|(key, _)| key != "name") {
            let key = format!("{path}{key}");
            match &node.raw {
                Raw::Table(inner) if !flat::takes_table(&key) => {
                    self.collect_options(inner, &format!("{key}."));
                }
                raw => {
                    let leaf =
                        Leaf { written: key.clone(), raw: raw.clone(), line: node.line, switched_off: false };
                    self.leaves.insert(key, leaf);
                }
            }
        }
    }

    /// Converts all values.
    fn convert(&mut self) {
        if !self.namespaces.is_empty() {
            let names = self.namespaces.iter();
            let names =
                names.map(|(name, line)| Node { line: *line, raw: Raw::Text(name.clone()) }).collect();
            let line = self.namespaces[0].1;
            self.values.push(Value {
                key: NAMESPACES.into(),
                raw: Raw::List(names),
                from: NAMESPACES.into(),
                line,
            });
        }
        self.redis();
        self.hooks();
        self.history_meta_ttl();
        self.tls();
        self.termination_delay();
        let listen = self.listen();
        for (path, leaf) in std::mem::take(&mut self.leaves) {
            self.single(&path, leaf);
        }
        for transport in OFF_BY_DEFAULT {
            let key = format!("{transport}.enabled");
            if !self.values.iter().any(|value| value.key == key) {
                self.add(&key, Raw::Switch(false), "off unless it is enabled, as in Centrifugo", 0);
            }
        }
        self.add(
            "tables.enabled",
            Raw::Switch(false),
            "Centrifugo has no tables; remove this line to have them",
            0,
        );
        self.secure(listen);
    }

    /// A value that has the same name in tidings, or none.
    fn single(&mut self, path: &str, leaf: Leaf) {
        let option = general(path);
        let is_known = is_option(&option);
        if is_known && (is_absent_value(path, &leaf.raw) || matches!(leaf.raw, Raw::Null)) {
            return;
        }
        if path == "log.level" {
            let level = leaf.raw.as_text().unwrap_or_default().to_ascii_lowercase();
            let level = if level == "fatal" { "error".to_owned() } else { level };
            self.add(path, Raw::Text(level), &leaf.written, leaf.line);
        } else if is_known {
            self.add(path, leaf.raw, &leaf.written, leaf.line);
        } else {
            match judge(path, &leaf.raw, leaf.switched_off) {
                Some(Verdict::Ignored(_)) => {}
                Some(Verdict::Refused(what)) => self.note(leaf.line, &what.replacen(path, &leaf.written, 1)),
                None if is_nothing(&leaf.raw) || is_off_list(&leaf.raw) => {}
                None => {
                    let what = format!("`{}` is not known, and left out", shown(&leaf.written));
                    self.note(leaf.line, &what);
                }
            }
        }
    }

    /// The broker, from the engine or from separate broker options.
    fn redis(&mut self) {
        let is_on = |leaf: Option<&Leaf>| leaf.is_some_and(|leaf| is_true(&leaf.raw));
        let own = is_on(self.leaves.get("broker.enabled"))
            || matches!(self.leaves.get("broker"), Some(leaf) if !is_nothing(&leaf.raw));
        let table = if own { "broker" } else { "engine" };
        let kind = ["", ".type"].iter().find_map(|end| self.leaves.get(&format!("{table}{end}"))).cloned();
        if own && let Some(leaf) = self.leaves.get("engine.type").filter(|leaf| !is_memory(&leaf.raw)) {
            let line = leaf.line;
            self.note(line, "`engine` is replaced by `broker`, which also stores presence in tidings");
        }
        if let Some(leaf) = self.leaves.get("presence_manager.enabled").filter(|leaf| is_true(&leaf.raw)) {
            let line = leaf.line;
            self.note(line, "`presence_manager` is left out: `broker` also stores presence");
        }
        let options: BTreeMap<String, Leaf> = {
            let path = format!("{table}.redis.");
            let own = self
                .leaves
                .iter()
                .filter_map(|(key, leaf)| Some((key.strip_prefix(&path)?.to_owned(), leaf.clone())));
            own.collect()
        };
        let is_engine = |key: &String| {
            ["engine", "broker", "presence_manager"]
                .iter()
                .any(|table| key == table || key.starts_with(&format!("{table}.")))
        };
        self.leaves.retain(|key, _| !is_engine(key));
        let Some(kind) = kind.filter(|kind| !is_memory(&kind.raw)) else { return };
        if kind.raw.as_text() != Some("redis") {
            self.note(
                kind.line,
                &format!("`{}` is left out: tidings only supports Redis and its memory broker", kind.written),
            );
            return;
        }
        match redis_url::broker(|name| options.get(name).map(|leaf| &leaf.raw)) {
            Ok(url) => self.add("broker", Raw::Text(url), table, kind.line),
            Err(why) => self.note(kind.line, &format!("the address of Redis is left out: {why}")),
        }
        for (name, key) in [
            ("prefix", "redis.prefix"),
            ("connect_timeout", "redis.connect_timeout"),
            ("io_timeout", "redis.response_timeout"),
        ] {
            if let Some(leaf) = options.get(name).filter(|leaf| leaf.raw.as_text() != Some("centrifugo")) {
                let leaf = leaf.clone();
                self.add(key, leaf.raw, &leaf.written, leaf.line);
            }
        }
        for name in
            ["tls.cert_pem_file", "tls.server_ca_pem", "tls.server_ca_pem_file", "tls.insecure_skip_verify"]
        {
            if let Some(leaf) = options.get(name).filter(|leaf| !is_nothing(&leaf.raw)) {
                let line = leaf.line;
                self.note(
                    line,
                    &format!("`{}` is left out: name the authority's file in SSL_CERT_FILE", leaf.written),
                );
            }
        }
    }

    /// In version 5 an endpoint enables the connect hook and the refresh hook.
    fn hooks(&mut self) {
        for group in ["client.proxy.connect", "client.proxy.refresh"] {
            let endpoint = self.leaves.get(&format!("{group}.endpoint") as &str);
            if let Some(leaf) =
                endpoint.filter(|leaf| leaf.written.starts_with("proxy_") && !is_nothing(&leaf.raw))
            {
                let (from, line) = (leaf.written.clone(), leaf.line);
                self.add(&format!("{group}.enabled"), Raw::Switch(true), &from, line);
            }
        }
        // Version 6 has a switch for RPC calls, off by default; in tidings it is on.
        let calls = "rpc.without_namespace.proxy_enabled";
        let endpoint = self.leaves.get("rpc.proxy.endpoint").filter(|leaf| !is_nothing(&leaf.raw));
        if endpoint.is_some_and(|leaf| leaf.written.contains('.')) && !self.leaves.contains_key(calls) {
            self.add(calls, Raw::Switch(false), "off unless it is enabled, as in Centrifugo", 0);
        }
        let single = "client.subscribe_to_user_personal_channel.single_connection";
        if let Some(leaf) = self.leaves.remove(single).filter(|leaf| is_true(&leaf.raw)) {
            self.add("client.single_connection", leaf.raw, &leaf.written, leaf.line);
        }
    }

    /// One option for all channels in Centrifugo, one for each kind of channel in tidings.
    fn history_meta_ttl(&mut self) {
        let Some(leaf) = self.leaves.remove("channel.history_meta_ttl").filter(|leaf| !is_nothing(&leaf.raw))
        else {
            return;
        };
        let names = self.namespaces.iter().map(|(name, _)| format!("{NAMESPACES}.{name}"));
        let groups: Vec<String> = names.chain([CHANNELS.to_owned()]).collect();
        for group in groups {
            let key = format!("{group}.history_meta_ttl");
            if self.leaves.get(&key).is_none_or(|own| is_nothing(&own.raw)) {
                self.leaves.insert(key, leaf.clone());
            }
        }
    }

    fn tls(&mut self) {
        for (there, here) in TLS {
            if let Some(leaf) =
                self.leaves.remove(&format!("http_server.tls.{there}")).filter(|l| !is_nothing(&l.raw))
            {
                self.add(&format!("tls.{here}"), leaf.raw, &leaf.written, leaf.line);
            }
        }
        let all = std::mem::take(&mut self.leaves).into_iter();
        let (rest, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.partition(|(key, _)| key.starts_with("http_server.tls."));
        self.leaves = others;
        for leaf in rest.into_values().filter(|leaf| !is_nothing(&leaf.raw)) {
            self.note(leaf.line, &format!("`{}` is left out: a server does not use it", leaf.written));
        }
    }

    /// The time in which a stopping node reports that it is not ready and still serves.
    fn termination_delay(&mut self) {
        let delay = self.leaves.remove("shutdown.termination_delay");
        if let Some(leaf) = delay.filter(|leaf| !is_nothing(&leaf.raw)) {
            self.add("shutdown.lame_duck", leaf.raw, &leaf.written, leaf.line);
        }
    }

    /// The address and port of the HTTP server, with their origin.
    fn listen(&mut self) -> (String, u16, String, usize) {
        let mut from = (String::from("the default of Centrifugo"), 0);
        let mut take = |leaves: &mut BTreeMap<String, Leaf>, key: &str| -> Option<String> {
            let leaf = leaves.remove(key)?;
            let text = match &leaf.raw {
                Raw::Text(text) | Raw::Number(text) if !text.is_empty() => text.clone(),
                _ => return None,
            };
            from = (leaf.written, leaf.line);
            Some(text)
        };
        let port_line = self.leaves.get("http_server.port").map_or(0, |leaf| leaf.line);
        let text = take(&mut self.leaves, "http_server.port");
        let port = text.as_ref().map_or(Some(DEFAULT_PORT), |text| text.parse().ok());
        let address = take(&mut self.leaves, "http_server.address").unwrap_or_else(|| EVERYWHERE.to_owned());
        if port.is_none() {
            let what = "`http_server.port` is left out: expected a number from 0 to 65535";
            self.note(port_line, what);
        }
        (address, port.unwrap_or(DEFAULT_PORT), from.0, from.1)
    }

    /// Adds the listener, and the secret of nodes if no key provides one. Without any key the server only listens on
    /// this machine.
    fn secure(&mut self, (address, port, from, line): (String, u16, String, usize)) {
        let host =
            if address.contains(':') { format!("[{}]", address.trim_matches(['[', ']'])) } else { address };
        let (config, _) = self.loaded();
        let is_open = config.has_key() || config.client.insecure;
        let host = if is_open || host == "localhost" { host } else { LOOPBACK.to_owned() };
        if !is_open && host == LOOPBACK {
            self.note(line, "no key is configured, so the server only listens on this machine (http.listen)");
        }
        self.add("http.listen", Raw::Text(format!("{host}:{port}")), &from, line);
        let needs_secret =
            (config.has_key() || config.client.proxy.connect.enabled) && config.cluster_key().is_none();
        if needs_secret && self.values.iter().any(|value| value.key == "broker") {
            let mut secret = [0; 32];
            if SystemRandom::new().fill(&mut secret).is_ok() {
                let hex = secret.iter().map(|byte| format!("{byte:02x}")).collect();
                self.add(
                    "cluster.secret",
                    Raw::Text(hex),
                    "generated for this file; must be the same on every node",
                    0,
                );
            }
        }
    }

    fn add(&mut self, key: &str, raw: Raw, from: &str, line: usize) {
        self.values.push(Value { key: key.to_owned(), raw, from: from.to_owned(), line });
    }

    fn note(&mut self, line: usize, what: &str) {
        self.notes.push(format!("{}: {what}", self.file.at(line)));
    }

    /// The configuration of the values, with the errors by the index of their value.
    fn loaded(&self) -> (Config, Vec<(Option<usize>, String)>) {
        let mut loading = Loader::default();
        let assignments = self.values.iter().enumerate().map(|(n, value)| Assignment {
            key: value.key.clone(),
            raw: value.raw.clone(),
            origin: Origin::File { name: Arc::from(""), line: n, format: Format::Toml },
            switched_off: false,
        });
        loading.apply_all(&assignments.collect::<Vec<_>>());
        check(&mut loading.config, &loading.given, &mut loading.errors);
        let errors = loading.errors.iter().map(|error| {
            let at = match error.place() {
                Some(Origin::File { line, .. }) => Some(*line),
                _ => None,
            };
            (at, error.what().to_owned())
        });
        let errors = errors.collect();
        (loading.config, errors)
    }

    /// Removes invalid values, and writes the other ones.
    fn write(mut self) -> Imported {
        loop {
            let (mut config, errors) = self.loaded();
            if errors.is_empty() || self.values.is_empty() {
                let origins =
                    self.values.iter().map(|value| (value.key.clone(), value.from.clone())).collect();
                let text = write::file(&mut config, &origins, &self.notes);
                return Imported { text, notes: self.notes };
            }
            // An error without a place concerns a missing value; defaults have no such error. As a precaution, values
            // are removed until there is no error.
            let last = self.values.len() - 1;
            let wrong: BTreeMap<usize, String> =
                errors.into_iter().map(|(at, what)| (at.unwrap_or(last).min(last), what)).collect();
            // An option of a namespace requires its namespace.
            let names = wrong.keys().copied().find(|at| self.values[*at].key == NAMESPACES);
            if names.is_some_and(|at| self.keep_valid_items(at)) {
                continue;
            }
            for (at, what) in wrong.into_iter().rev() {
                if !self.keep_valid_items(at) {
                    let value = self.values.remove(at);
                    self.note(value.line, &format!("`{}` is left out: {what}", shown(&value.from)));
                }
            }
        }
    }

    /// Removes invalid items of a list. Returns whether there were any.
    fn keep_valid_items(&mut self, at: usize) -> bool {
        let has_items = |value: &&Value| matches!(&*value.key, "client.allowed_origins" | NAMESPACES);
        let Some(value) = self.values.get(at).filter(has_items) else {
            return false;
        };
        let (key, from, line) = (value.key.clone(), value.from.clone(), value.line);
        let (valid, wrong): (Vec<_>, Vec<_>) = list(&value.raw).into_iter().partition(|item| {
            let mut loading = Loader::default();
            let raw = Raw::List(vec![Node { line, raw: Raw::Text(item.clone()) }]);
            let origin = Origin::Flag(String::new());
            loading.apply_all(&[Assignment { key: key.clone(), raw, origin, switched_off: false }]);
            loading.errors.is_empty()
        });
        if wrong.is_empty() {
            return false;
        }
        let why = if key == NAMESPACES {
            "it is not a valid name of a namespace, and its options are left out too"
        } else {
            "it is not a valid origin of a page"
        };
        for item in &wrong {
            self.note(line, &format!("\"{}\" of `{}` is left out: {why}", shown(item), shown(&from)));
        }
        self.values[at].raw =
            Raw::List(valid.into_iter().map(|item| Node { line, raw: Raw::Text(item) }).collect());
        if key == NAMESPACES {
            let is_of =
                |value: &Value, name: &String| value.key.starts_with(&format!("{NAMESPACES}.{name}."));
            self.values.retain(|value| !wrong.iter().any(|name| is_of(value, name)));
        }
        true
    }
}

/// The `name` of an item of a list.
fn name_of_item(item: &Node) -> Option<&str> {
    let Raw::Table(entries) = &item.raw else { return None };
    entries.iter().find(|(key, _)| key == "name").and_then(|(_, node)| node.raw.as_text())
}

/// A name for the namespace of a pattern that no other namespace has: `users_name` for `/users/:name`, or `users_name_2`.
fn name_of_pattern(pattern: &str, is_taken: impl Fn(&str) -> bool) -> String {
    /// Longer names are cut, so that a number fits behind them.
    const MAX: usize = 200;
    let words = pattern.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = words.collect::<Vec<_>>().join("_");
    name.truncate(MAX);
    if name.len() < 2 {
        name = "pattern".to_owned();
    }
    let mut numbered = (2..).map(|number| format!("{name}_{number}"));
    if is_taken(&name) { numbered.find(|name| !is_taken(name)).unwrap_or_default() } else { name }
}
