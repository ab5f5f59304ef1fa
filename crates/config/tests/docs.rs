//! The printed documentation matches the options.

use std::collections::BTreeSet;

use tidings_config::{self as config, Config, Overrides};

fn load_text(text: &str) -> Config {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tidings.toml");
    std::fs::write(&path, text).expect("a file in it");
    config::load(Some(&path), [], &Overrides::default()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_default_file_loads_to_the_defaults() {
    assert_eq!(load_text(&config::default_file()), Config::default());
}

#[test]
fn the_example_in_the_comments_of_the_default_file_is_valid() {
    let file = config::default_file();
    let (before, example) = file.split_at(file.find("# [[channel.namespaces]]").expect("an example"));
    let config = load_text(&format!("{before}{}", example.replace("# ", "")));
    assert_eq!(config.channel.namespaces.len(), 1);
}

#[test]
fn every_option_of_the_default_file_is_in_the_documentation_with_its_default() {
    let docs = config::docs();
    let file = config::default_file();
    let file_without_value: Vec<_> = file.lines().filter(|line| line.ends_with(" = …")).collect();
    let tls = ["cert_pem_file", "key_pem_file", "client_ca_pem_file"];
    let authority = ["server_ca_pem_file"];
    let paths = [&["data_dir"], &tls[..], &tls, &authority.repeat(2), &tls, &authority.repeat(6), &["store"]]
        .concat();
    assert_eq!(file_without_value, paths.iter().map(|name| format!("# {name} = …")).collect::<Vec<_>>());
    let (mut table, mut options) = (String::new(), 0);
    for line in file.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((name, value)) = line.split_once(" = ").filter(|(name, _)| !name.starts_with('#'))
        {
            let value = value.split(" #").next().unwrap_or_default();
            let heading = format!("### `{table}{name}`\n");
            let section =
                docs.split_once(&heading).unwrap_or_else(|| panic!("{heading} is not documented")).1;
            assert!(
                section.split("###").next().unwrap_or_default().contains(&format!("default `{value}`")),
                "{heading}"
            );
            options += 1;
        }
    }
    let headings = docs.lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(options + file_without_value.len(), headings);
}

#[test]
fn every_option_has_a_variable_of_its_own() {
    let docs = config::docs();
    let headings = docs.lines().filter(|line| line.starts_with("### ")).count();
    let variables: BTreeSet<_> =
        docs.lines().filter_map(|line| line.rsplit_once("; `TIDINGS_")).map(|(_, name)| name).collect();
    assert_eq!(variables.len(), headings);
}

#[test]
fn the_documentation_in_the_repository_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == config::docs(),
        "docs/configuration.md is out of date: cargo run -- config docs > docs/configuration.md"
    );
}
