//! The book in `docs/`, the README and the changelog: links lead somewhere, generated pages are up to date, and code blocks run.
//!
//! A page runs from top to bottom, in a folder of its own, against a server of its own. The address of the server and of Redis
//! replace the default ones in every block; otherwise a block runs as it is written. The language of a block decides:
//!
//! | language | action |
//! |---|---|
//! | `sh` | runs in a shell, and must succeed. Exported variables stay for later blocks. A block that begins with `tidings serve` (variables may stand in front) starts the server of the page |
//! | `python`, `js`, `ruby`, `go` | runs with python3, node, ruby, `go run` |
//! | `text`, `json` right after one of these | is compared with its output; `…` stands for any text |
//! | `toml` | passes `tidings config check` |
//! | other `json` | is valid JSON |
//! | other `text` | nothing: a diagram or a message |
//!
//! A comment on the line before a block changes this. A block in any other language must have one:
//!
//! | comment | |
//! |---|---|
//! | `<!-- not run: REASON -->` | nothing is done |
//! | `<!-- file: NAME -->` | the block is written to a file |
//! | `<!-- server -->` | the block is the file `tidings.toml`, and the server starts with it |
//! | `<!-- background: NAME -->` | the block keeps running; the page continues when the server has one more subscription |
//! | `<!-- background: NAME, until TEXT -->` | the same; the page continues when the block has printed the text |
//! | `<!-- output: NAME -->` | the block is compared with what the block in the background has printed: it must be a part of it |
//! | `<!-- repeat -->` | the block runs again until its output is the one that follows |
//! | `<!-- lines -->` | a conversation on the line port: a line after `> ` is sent, every other line is received |

mod compare;
mod links;
mod page;
mod reference;
mod runner;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use compare::{alike, values};
pub(crate) use page::{Block, Directive, blocks};

/// Pages that other tests compare or run: `examples.rs`, `reference.rs` here and in other crates, and the tests of what they describe.
const TESTED_ELSEWHERE: [&str; 6] =
    ["api.md", "cli.md", "configuration.md", "deploy.md", "mqtt.md", "stomp.md"];

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of a file of the repository.
pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The pages of the book under a folder, with the folder in front; not those in folders below.
fn pages(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let mut pages: Vec<_> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")).collect();
    pages.sort();
    pages
}

fn run(folder: &str) {
    for page in pages(folder) {
        let name = page.rsplit('/').next().unwrap_or_default();
        if folder != "docs" || !TESTED_ELSEWHERE.contains(&name) {
            runner::run(&page);
        }
    }
}

#[test]
fn blocks_of_the_readme_run() {
    runner::run("README.md");
}

#[test]
fn blocks_of_first_and_reference_pages_run() {
    run("docs");
}

#[test]
fn blocks_of_concepts_run() {
    run("docs/concepts");
}

#[test]
fn blocks_of_guides_run() {
    run("docs/guides");
}

#[test]
fn blocks_of_operations_run() {
    run("docs/operations");
}

#[test]
fn blocks_of_migration_run() {
    run("docs/migration");
}
