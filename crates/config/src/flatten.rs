//! The values of a configuration file, as assignments: nested tables become keys such as `client.token.hmac_secret_key`.

use std::collections::HashSet;

use super::assignment::Assignment;
use super::centrifugo::{self, Verdict};
use super::error::ConfigError;
use super::file::File;
use super::keys::{LISTS, is_group, is_option, name_option};
use super::raw::{Node, Raw, shown};

/// The contents of a file: assignments in the order of the file; the name of a namespace precedes its options.
#[derive(Default)]
pub(super) struct FileAssignments {
    pub(super) assignments: Vec<Assignment>,
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<String>,
}

/// Converts a file to assignments.
pub(super) fn file_assignments(file: &File) -> FileAssignments {
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
    let (option, what) = name_option(list);
    let Some((_, name)) = entries.iter().find(|(key, _)| key == option) else {
        return Err((
            item.line,
            format!("{what} needs {} {option}", if option == "id" { "an" } else { "a" }),
        ));
    };
    if !matches!(name.raw, Raw::Text(_)) {
        return Err((name.line, format!("expected a text, the {option} of {what}, got {}", name.raw)));
    }
    let others: Vec<_> = entries.iter().filter(|(key, _)| key != option).cloned().collect();
    if others.len() + 1 < entries.len() {
        return Err((item.line, format!("has two {option}s")));
    }
    Ok((name.clone(), others))
}
