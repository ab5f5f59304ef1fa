//! `docs/mqtt-conformance.md`: its numbers are complete, its tests exist, and it has every statement that the code names.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of a version: statement, state and test.
fn rows(version: &str) -> Vec<[String; 3]> {
    let page = read_to_string(root().join("docs/mqtt-conformance.md")).unwrap();
    let (_, section) = page.split_once(&format!("## MQTT {version}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| ")?.split(" |").map(|cell| cell.trim().to_owned()).collect();
        let [statement, _, state, test, ..] = &cells[..] else { return None };
        let is_number = statement.starts_with(|first: char| first.is_ascii_digit());
        is_number.then(|| [statement.clone(), state.clone(), test.clone()])
    });
    cells.collect()
}

#[test]
fn the_statements_of_both_versions_are_complete() {
    for (version, count) in [("3.1.1", 141), ("5.0", 251)] {
        let rows = rows(version);
        assert_eq!(rows.len(), count, "{version}");
        let (mut section, mut last) = (String::new(), 0);
        for [statement, ..] in &rows {
            let (part, number) = statement.rsplit_once('-').unwrap();
            let number: u32 = number.parse().unwrap();
            if part == section {
                assert_eq!(number, last + 1, "{statement} of {version}");
            } else {
                // 5.0 has no 2.2.1-1.
                assert!(number == 1 || statement == "2.2.1-2", "{statement} of {version}");
            }
            (section, last) = (part.to_owned(), number);
        }
    }
}

/// The text of a file, or of all files of a folder.
fn text_of(path: &Path) -> String {
    let Ok(files) = path.read_dir() else { return read_to_string(path).unwrap_or_default() };
    files.map(|file| read_to_string(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn a_statement_that_is_met_has_a_test_that_exists() {
    for version in ["3.1.1", "5.0"] {
        for [statement, state, test] in rows(version) {
            let is_met_here =
                ["codec", "index", "`topic::Filter`"].iter().any(|part| state.starts_with(part));
            assert!(!is_met_here || !test.is_empty(), "{statement} of {version}: {state}");
            for test in test.split(", ").map(|test| test.trim_matches('`')) {
                let Some((module, name)) = test.rsplit_once("::") else { continue };
                let file = match (module, module.strip_prefix("topic::")) {
                    (_, Some(module)) => format!("mqtt/src/topic/{module}.rs"),
                    ("mqtt", _) => "session/tests/session/mqtt".to_owned(),
                    ("mqtt_state", _) => "mqtt-state/src/retained/tests.rs".to_owned(),
                    ("mqtt_redis", _) => "cli/tests/sdk/mqtt_redis.rs".to_owned(),
                    ("mqtt_sessions", _) => "cli/tests/sdk/mqtt_sessions.rs".to_owned(),
                    ("mqtt_shared", _) => "cli/tests/sdk/mqtt_shared.rs".to_owned(),
                    ("sessions_groups", _) => "broker/tests/all/sessions_groups.rs".to_owned(),
                    ("mqtt_restart", _) => "cli/tests/sdk/mqtt_restart.rs".to_owned(),
                    ("sdk::mqtt", _) => "cli/tests/sdk/mqtt.rs".to_owned(),
                    ("exchanges", _) => "../tests/clients/mqtt/interoperability.py".to_owned(),
                    ("cli::mqtt", _) => "cli/tests/cli/mqtt.rs".to_owned(),
                    (module, _) => format!("mqtt/tests/mqtt/{module}.rs"),
                };
                let text = text_of(&root().join("crates").join(&file));
                let is_there = ["fn", "def"].iter().any(|word| text.contains(&format!("{word} {name}(")));
                assert!(is_there, "{statement} of {version}: no {name} in {file}");
            }
        }
    }
}

#[test]
fn every_statement_that_an_error_names_is_in_the_list() {
    let known: BTreeSet<_> =
        ["3.1.1", "5.0"].into_iter().flat_map(rows).map(|[statement, ..]| statement).collect();
    for file in ["src/statement.rs", "src/topic/mod.rs"] {
        let text = read_to_string(root().join("crates/mqtt").join(file)).unwrap();
        for part in text.split("MQTT-").skip(1) {
            let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
            let number = part.split(|c| !is_number(c)).next().unwrap();
            assert!(known.contains(number), "{number} in {file}");
        }
    }
}
