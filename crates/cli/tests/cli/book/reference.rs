//! Pages of the book that are compared with the program.

use std::collections::BTreeMap;
use std::process::Command;

use super::{root, text};
use crate::tool::TIDINGS;

#[test]
fn the_page_of_commands_is_up_to_date() {
    let script = root().join("scripts/cli-docs.sh");
    let done = Command::new(script).arg(TIDINGS).output().expect("the script");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let printed = String::from_utf8(done.stdout).expect("UTF-8");
    assert!(
        text("docs/cli.md") == printed,
        "docs/cli.md is out of date: make build && scripts/cli-docs.sh > docs/cli.md"
    );
}

/// Number and text of each code, from its declaration.
fn declared() -> BTreeMap<String, (String, bool)> {
    let source = include_str!("../../../../wire/src/code.rs");
    let code = |line: &str| {
        let (kind, rest) = line.strip_prefix("pub const ")?.split_once("= ")?.1.split_once('(')?;
        let (number, text) = rest.strip_suffix(");")?.split_once(", ")?;
        Some((number.to_owned(), (text.trim_matches('"').to_owned(), kind == "passing")))
    };
    source.lines().filter_map(code).collect()
}

#[test]
fn the_page_of_codes_has_each_code_with_its_text() {
    let page = text("docs/codes.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (number, text, retry) = (cells.next()?, cells.next()?, cells.next()?);
        number.parse::<u16>().ok()?;
        Some((number.to_owned(), (text.trim_matches('`').to_owned(), retry.starts_with("yes"))))
    };
    let shown: BTreeMap<_, _> = page.lines().filter_map(row).collect();
    let declared = declared();
    assert!(declared.len() > 30, "{declared:?}");
    let texts = |codes: &BTreeMap<String, (String, bool)>| {
        codes.iter().map(|(number, (text, _))| (number.clone(), text.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(texts(&shown), texts(&declared));
    // Of errors, the temporary ones; of disconnects, those after which SDKs reconnect.
    for (number, (_, retry)) in &shown {
        let code: u16 = number.parse().expect("a number");
        let expected = if code < 2000 { declared[number].1 } else { (2500..3500).contains(&code) };
        assert_eq!(*retry, expected, "{number}");
    }
}
