//! Where values come from: a file, the environment, flags. Each source becomes a list of assignments, which
//! [`super::load`] applies in order.

use std::collections::{BTreeMap, HashSet};

use super::error::{ConfigError, Origin, nearest};
use super::file::File;
use super::raw::{Node, Raw, shown};
use super::{NAMESPACES, is_group, is_option};

/// What every variable of the environment begins with.
const PREFIX: &str = "TIDINGS_";
/// The variable that names the file.
pub(super) const FILE_VARIABLE: &str = "TIDINGS_CONFIG";
/// Variables that are not options: the file, and what the client commands read. Whoever has them set for those may
/// start a server all the same.
const OTHER_VARIABLES: [&str; 3] = [FILE_VARIABLE, "TIDINGS_SERVER", "TIDINGS_TOKEN"];
/// Short names, in files and in the environment, and what they mean.
const ALIASES: [(&str, &str); 4] = [
    ("tcp", "tcp.listen"),
    ("http", "http.listen"),
    ("log_level", "log.level"),
    ("log_format", "log.format"),
];

/// A value for an option, and who said it.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    /// The key as it was written, or that a variable's name stands for.
    pub(super) key: String,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// The key that a short name stands for, or `key` itself.
pub(super) fn resolve(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, meant)| meant)
}

/// The environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    let tail = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    PREFIX.chars().chain(tail).collect()
}

/// What was given on the command line, in the order in which it takes effect: of two values for one option the
/// later one holds.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<Assignment>);

impl Overrides {
    /// Takes the values of `flag` (`--tcp`) for the option `key` (`tcp.listen`): several values of a list, one of
    /// anything else, none when the flag was not given.
    pub fn flag(&mut self, flag: &str, key: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        let values: Vec<_> = values.into_iter().map(|value| value.as_ref().to_owned()).collect();
        if !values.is_empty() {
            let origin = Origin::Flag(flag.to_owned());
            self.0.push(Assignment { key: key.to_owned(), raw: Raw::Word(values.join(",")), origin });
        }
    }

    /// Takes `KEY=VALUE`, the argument of `--set`. The value is written as in the environment.
    ///
    /// # Errors
    /// An argument without `=`.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let origin = |key| Origin::Flag(format!("--set {key}"));
        // The argument is not repeated, because it may be a secret.
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| ConfigError::general("--set: expected KEY=VALUE, got an argument without `=`"))?;
        let key = key.trim();
        self.0.push(Assignment {
            key: key.to_owned(),
            raw: Raw::Word(value.to_owned()),
            origin: origin(shown(key)),
        });
        Ok(())
    }

    pub(super) fn assignments(&self) -> impl Iterator<Item = Assignment> {
        self.0.iter().cloned()
    }
}

/// The assignments of a file, in its order; of each namespace the name before its options.
pub(super) fn of_file(file: &File) -> Result<Vec<Assignment>, ConfigError> {
    let mut out = Vec::new();
    match &file.root.raw {
        Raw::Null => {}
        Raw::Table(entries) => flatten(file, entries, "", &mut out)?,
        other => {
            let what = format!("expected options (`key = value`), got {}", other.sort());
            return Err(ConfigError::at(&file.at(file.root.line), what));
        }
    }
    Ok(out)
}

fn flatten(
    file: &File,
    entries: &[(String, Node)],
    path: &str,
    out: &mut Vec<Assignment>,
) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    for (name, node) in entries {
        let key = format!("{path}{name}");
        let origin = file.at(node.line);
        if !seen.insert(name) {
            return Err(ConfigError::at(&origin, format!("`{}` stands here a second time", shown(&key))));
        }
        match &node.raw {
            // An unknown table is told of by the first of its keys, which is the likelier mistake to recognise.
            Raw::Table(inner) if is_group(&key) || !inner.is_empty() && !is_option(&key) => {
                flatten(file, inner, &format!("{key}."), out)?;
            }
            Raw::Null if is_group(&key) => {}
            Raw::List(items) if key == NAMESPACES => namespaces(file, node.line, items, out)?,
            raw => out.push(Assignment { key, raw: raw.clone(), origin }),
        }
    }
    Ok(())
}

fn namespaces(
    file: &File,
    line: usize,
    items: &[Node],
    out: &mut Vec<Assignment>,
) -> Result<(), ConfigError> {
    let mut names = Vec::new();
    let mut options = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let wrong =
            |line, what: String| ConfigError::at(&file.at(line), format!("{NAMESPACES}[{i}]: {what}"));
        let Raw::Table(entries) = &item.raw else {
            return Err(wrong(item.line, format!("expected a table with a name, got {}", item.raw)));
        };
        let Some((_, name)) = entries.iter().find(|(key, _)| key == "name") else {
            return Err(wrong(item.line, "a namespace needs a name".into()));
        };
        let Raw::Text(text) = &name.raw else {
            return Err(wrong(name.line, format!("expected a name in text, got {}", name.raw)));
        };
        names.push(Node { line: name.line, raw: name.raw.clone() });
        let others: Vec<_> = entries.iter().filter(|(key, _)| key != "name").cloned().collect();
        if others.len() + 1 < entries.len() {
            return Err(wrong(item.line, "has two names".into()));
        }
        flatten(file, &others, &format!("{NAMESPACES}.{text}."), &mut options)?;
    }
    out.push(Assignment { key: NAMESPACES.into(), raw: Raw::List(names), origin: file.at(line) });
    out.append(&mut options);
    Ok(())
}

/// Those of this process' environment variables that begin with `TIDINGS_`, as [`super::load`] takes them.
///
/// # Errors
/// A variable whose value is not UTF-8.
pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let ours = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    ours.filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(name, value)| {
            let origin = Origin::Environment(name.clone());
            let value = value.into_string().map_err(|_| ConfigError::at(&origin, "is not UTF-8"))?;
            Ok((name, value))
        })
        .collect()
}

/// The variables of an environment that concern tidings, by name.
pub(super) struct Environment(BTreeMap<String, String>);

impl Environment {
    pub(super) fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let concerns = |name: &str, value: &str| name.starts_with(PREFIX) && !is_service_link(name, value);
        Self(pairs.into_iter().filter(|(name, value)| concerns(name, value)).collect())
    }

    /// The file that is to be read, when the command line names none.
    pub(super) fn file(&self) -> Option<&str> {
        self.0.get(FILE_VARIABLE).map(String::as_str).filter(|path| !path.is_empty())
    }

    /// The assignment of the namespaces' names. They come before everything else, because they make other
    /// variables known.
    pub(super) fn namespaces(&self) -> Option<Assignment> {
        let name = variable(NAMESPACES);
        let names = self.0.get(&name)?;
        Some(Assignment {
            key: NAMESPACES.into(),
            raw: Raw::Word(names.clone()),
            origin: Origin::Environment(name),
        })
    }

    /// The assignments of all other variables, given the keys that exist.
    pub(super) fn options(&self, keys: &[String]) -> Result<Vec<Assignment>, ConfigError> {
        let mut known: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for key in keys.iter().map(String::as_str).chain(["tcp", "http"]) {
            known.entry(variable(key)).or_default().push(key);
        }
        let mut out = Vec::new();
        for (name, value) in &self.0 {
            if OTHER_VARIABLES.contains(&name.as_str()) || *name == variable(NAMESPACES) {
                continue;
            }
            let origin = Origin::Environment(name.clone());
            let key = match known.get(name).map(Vec::as_slice) {
                Some([key]) => (*key).to_owned(),
                Some(several) => {
                    let what = format!("may mean {}; say it in a file", several.join(" or "));
                    return Err(ConfigError::at(&origin, what));
                }
                None => {
                    let names = known.keys().map(String::as_str).chain(OTHER_VARIABLES);
                    let near = nearest(name, names, '_').unwrap_or(FILE_VARIABLE);
                    let what =
                        format!("unknown environment variable `{}`; did you mean `{near}`?", shown(name));
                    return Err(ConfigError::general(what));
                }
            };
            out.push(Assignment { key, raw: Raw::Word(value.clone()), origin });
        }
        Ok(out)
    }
}

/// Whether this is one of the variables that Kubernetes and Docker set for a service that happens to be named
/// `tidings` or `tidings-…`: nobody wrote them, so they are not mistakes
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_service_link(name: &str, value: &str) -> bool {
    // The whole name behind the first part, and what follows each further part (`TIDINGS_WEB_SERVICE_HOST`).
    name.match_indices('_').map(|(at, _)| &name[at + 1..]).any(|tail| {
        let port = tail.strip_prefix("PORT_").and_then(|rest| rest.split_once('_'));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let protocol = |text: &str| matches!(text.split('_').next(), Some("TCP" | "UDP" | "SCTP"));
        tail == "SERVICE_HOST"
            || tail == "SERVICE_PORT"
            || tail.starts_with("SERVICE_PORT_")
            || tail == "PORT" && value.contains("://")
            || port.is_some_and(|(n, rest)| number(n) && protocol(rest))
    })
}
