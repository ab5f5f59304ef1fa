//! The sources of values: a file, the environment, flags. Each source becomes a list of assignments, which
//! [`super::load`] applies in order.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::assignment::Assignment;
use super::centrifugo::{self, Verdict};
use super::error::{ConfigError, Origin, nearest};
use super::file::File;
use super::keys::{LISTS, NAMESPACES, is_group, is_option};
use super::raw::{Node, Raw, shown};
use super::variables::{CENTRIFUGO_PREFIX, CREDENTIALS, FILE_VARIABLE, PREFIX, variable};

/// Variables that are not options: the file, and the variables of the client commands, which a server ignores.
const OTHER_VARIABLES: [&str; 3] = [FILE_VARIABLE, "TIDINGS_SERVER", "TIDINGS_TOKEN"];
/// The values of the command line, in the order in which they take effect: of two values for one option the later one
/// applies.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<Assignment>);

impl Overrides {
    /// Adds the values of `flag` (`--tcp`) for the option `key` (`tcp.listen`): several values of a list, one of any
    /// other type, none when the flag was not given.
    pub fn flag(&mut self, flag: &str, key: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        let values: Vec<_> = values.into_iter().map(|value| value.as_ref().to_owned()).collect();
        if !values.is_empty() {
            let origin = Origin::Flag(flag.to_owned());
            // The path of a socket may contain spaces, which would split it.
            let has_spaces = values.iter().any(|value| value.starts_with("unix:") && value.contains(' '));
            let raw = if has_spaces {
                let node = |value| Node { line: 0, raw: Raw::Word(value) };
                Raw::List(values.into_iter().map(node).collect())
            } else {
                Raw::Word(values.join(","))
            };
            self.0.push(Assignment::new(key, raw, origin));
        }
    }

    /// Adds `KEY=VALUE`, the argument of `--set`. The value has the form of the environment.
    ///
    /// # Errors
    /// An argument without `=`.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let origin = |key| Origin::Flag(format!("--set {key}"));
        // The argument is not repeated because it may be a secret.
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| ConfigError::general("--set: expected KEY=VALUE, got an argument without `=`"))?;
        let key = key.trim();
        self.0.push(Assignment::new(key, Raw::Word(value.to_owned()), origin(shown(key))));
        Ok(())
    }

    pub(super) fn assignments(&self) -> impl Iterator<Item = Assignment> {
        self.0.iter().cloned()
    }
}

/// The contents of a file: assignments in the order of the file; the name of a namespace precedes its options.
#[derive(Default)]
pub(super) struct FileAssignments {
    pub(super) assignments: Vec<Assignment>,
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<String>,
}

/// Converts a file to assignments.
pub(super) fn of_file(file: &File) -> FileAssignments {
    let mut found = FileAssignments::default();
    match &file.root.raw {
        Raw::Null => {}
        Raw::Table(entries) => flatten(file, entries, "", &mut found),
        other => {
            let what = format!("expected options (`key = value`), got {}", other.sort());
            found.errors.push(ConfigError::at(&file.at(file.root.line), what));
        }
    }
    found
}

fn flatten(file: &File, entries: &[(String, Node)], path: &str, found: &mut FileAssignments) {
    let switched_off = centrifugo::is_switched_off(entries);
    let mut seen = HashSet::new();
    for (name, node) in entries {
        let key = format!("{path}{name}");
        let origin = file.at(node.line);
        if !seen.insert(name) {
            let what = format!("`{}` is repeated here", shown(&key));
            found.errors.push(ConfigError::at(&origin, what));
            continue;
        }
        match &node.raw {
            Raw::Table(inner) if !is_group(&key) && centrifugo::block(&key, inner).is_some() => {
                match centrifugo::block(&key, inner) {
                    Some(Verdict::Refused(what)) => found.errors.push(ConfigError::at(&origin, what)),
                    Some(Verdict::Ignored(why)) => found.warnings.push(format!("{origin}: {why}")),
                    None => {}
                }
            }
            // The error for an unknown table contains its first key, from which the intended option can be guessed.
            Raw::Table(inner)
                if is_group(&key)
                    || !inner.is_empty() && !is_option(&key) && !centrifugo::takes_table(&key) =>
            {
                flatten(file, inner, &format!("{key}."), found);
            }
            Raw::Null if is_group(&key) => {}
            Raw::List(items) if LISTS.contains(&&*key) => named_list(file, &key, node.line, items, found),
            raw => found.assignments.push(Assignment { key, raw: raw.clone(), origin, switched_off }),
        }
    }
}

/// A list of tables, each with a name.
fn named_list(file: &File, list: &str, line: usize, items: &[Node], found: &mut FileAssignments) {
    let mut names = Vec::new();
    let mut options = FileAssignments::default();
    for (i, item) in items.iter().enumerate() {
        match named(list, item) {
            Ok((name, others)) => {
                if let Raw::Text(text) = &name.raw {
                    flatten(file, &others, &format!("{list}.{text}."), &mut options);
                }
                names.push(name);
            }
            Err((line, what)) => {
                found.errors.push(ConfigError::at(&file.at(line), format!("{list}[{i}]: {what}")));
            }
        }
    }
    found.assignments.push(Assignment::new(list, Raw::List(names), file.at(line)));
    found.assignments.append(&mut options.assignments);
    found.errors.append(&mut options.errors);
    found.warnings.append(&mut options.warnings);
}

/// The entries of a table.
type Entries = Vec<(String, Node)>;

/// The name of a table in a list and its options, or the line and the text of an error.
fn named(list: &str, item: &Node) -> Result<(Node, Entries), (usize, String)> {
    let Raw::Table(entries) = &item.raw else {
        return Err((item.line, format!("expected a table with a name, got {}", item.raw)));
    };
    let Some((_, name)) = entries.iter().find(|(key, _)| key == "name") else {
        let what = if list == NAMESPACES { "a namespace" } else { "a key" };
        return Err((item.line, format!("{what} needs a name")));
    };
    if !matches!(name.raw, Raw::Text(_)) {
        return Err((name.line, format!("expected a name in text, got {}", name.raw)));
    }
    let others: Vec<_> = entries.iter().filter(|(key, _)| key != "name").cloned().collect();
    if others.len() + 1 < entries.len() {
        return Err((item.line, "has two names".into()));
    }
    Ok((name.clone(), others))
}

/// The environment variables of this process that begin with `TIDINGS_`, as [`super::load`] takes them, the folder with the
/// credentials of systemd, and those that begin with `CENTRIFUGO_`, which cause warnings.
///
/// # Errors
/// A variable with a value that is not UTF-8.
pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let ours = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let is_used =
        |name: &str| name.starts_with(PREFIX) || name.starts_with(CENTRIFUGO_PREFIX) || name == CREDENTIALS;
    ours.filter(|(name, _)| is_used(name))
        .map(|(name, value)| {
            if name.starts_with(CENTRIFUGO_PREFIX) {
                return Ok((name, value.to_string_lossy().into_owned()));
            }
            let origin = Origin::Environment(name.clone());
            let value = value.into_string().map_err(|_| ConfigError::at(&origin, "is not UTF-8"))?;
            Ok((name, value))
        })
        .collect()
}

/// The variables of tidings in an environment, by name, the names of those of Centrifugo, and the folder of credentials.
#[derive(Default)]
pub(super) struct Environment {
    ours: BTreeMap<String, String>,
    of_centrifugo: Vec<String>,
    credentials: Option<String>,
}

impl Environment {
    pub(super) fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in pairs.into_iter().filter(|(name, value)| !is_service_link(name, value)) {
            if name.starts_with(PREFIX) {
                environment.ours.insert(name, value);
            } else if name.starts_with(CENTRIFUGO_PREFIX) {
                environment.of_centrifugo.push(name);
            } else if name == CREDENTIALS && !value.is_empty() {
                environment.credentials = Some(value);
            }
        }
        environment.of_centrifugo.sort();
        environment
    }

    /// The names of Centrifugo's variables.
    pub(super) fn of_centrifugo(&self) -> impl Iterator<Item = &str> {
        self.of_centrifugo.iter().map(String::as_str)
    }

    /// The file to read if the command line contains none.
    pub(super) fn file(&self) -> Option<&str> {
        self.ours.get(FILE_VARIABLE).map(String::as_str).filter(|path| !path.is_empty())
    }

    /// The folder with the credentials of systemd.
    pub(super) fn credentials(&self) -> Option<&Path> {
        self.credentials.as_deref().map(Path::new)
    }

    /// The assignments of the names in lists. They come first, because they make the variables of their options known.
    pub(super) fn lists(&self) -> Vec<Assignment> {
        let assignment = |list: &str| {
            let name = variable(list);
            let names = self.ours.get(&name)?;
            Some(Assignment::new(list, Raw::Word(names.clone()), Origin::Environment(name)))
        };
        LISTS.into_iter().filter_map(assignment).collect()
    }

    /// The assignments of all other variables, given the existing keys, and the errors of unknown variables.
    pub(super) fn options(&self, keys: &[String]) -> (Vec<Assignment>, Vec<ConfigError>) {
        let mut known: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for key in keys.iter().map(String::as_str).chain(["tcp", "http"]) {
            known.entry(variable(key)).or_default().push(key);
        }
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        for (name, value) in &self.ours {
            if OTHER_VARIABLES.contains(&name.as_str()) || LISTS.iter().any(|list| *name == variable(list)) {
                continue;
            }
            let origin = Origin::Environment(name.clone());
            match known.get(name).map(Vec::as_slice) {
                Some([key]) => out.push(Assignment::new(*key, Raw::Word(value.clone()), origin)),
                Some(several) => {
                    let what = format!("is ambiguous: {}; set the option in a file", several.join(" or "));
                    errors.push(ConfigError::at(&origin, what));
                }
                None => {
                    let names = known.keys().map(String::as_str).chain(OTHER_VARIABLES);
                    let near = nearest(name, names, '_').unwrap_or(FILE_VARIABLE);
                    let what =
                        format!("unknown environment variable `{}`; did you mean `{near}`?", shown(name));
                    errors.push(ConfigError::general(what));
                }
            }
        }
        (out, errors)
    }
}

/// Whether this is a variable that Kubernetes and Docker set for a service named `tidings` or `tidings-…`: such
/// variables are no mistakes of the operator
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_service_link(name: &str, value: &str) -> bool {
    // The complete name after the first part, and the rest after each further part (`TIDINGS_WEB_SERVICE_HOST`).
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
