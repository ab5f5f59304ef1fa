//! The page: home with what runs here, and tables. Its files lie in `web/` and are embedded in the program.
//!
//! One document serves all of its addresses. Everything in it is named relative to the address, so it works behind
//! a proxy under any path.
//!
//! Invariants:
//! - Whatever was not written here goes through [`Html`] before it is part of the document.
//! - A browser is told to run and to ask nothing but what is here, see [`assets`].

mod assets;
mod lines;
mod status;

use std::sync::LazyLock;

use axum::http::{HeaderMap, header};
use axum::response::Response;

use super::escape::Html;
use crate::node::Node;
use assets::{Content, INDEX};
use status::Status;

pub(super) use assets::asset;

/// The scripts that home begins with; what they import is asked for at once and not one after the other.
const HOME: [&str; 6] = ["main.js", "dom.js", "home.js", "recent.js", "console.js", "socket.js"];
/// The scripts that a table begins with.
const TABLE: [&str; 13] = [
    "main.js",
    "dom.js",
    "table.js",
    "state.js",
    "update.js",
    "controls.js",
    "menus.js",
    "grid.js",
    "address.js",
    "keys.js",
    "recent.js",
    "socket.js",
    "upload.js",
];

/// How deep below the root an address is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Depth {
    /// `/`
    Root,
    /// `/parser/`, `/tables/{uuid}`
    One,
    /// `/parser/share/{uuid}`
    Two,
}

impl Depth {
    /// The way from the address to the root.
    const fn root(self) -> &'static str {
        match self {
            Self::Root => "./",
            Self::One => "../",
            Self::Two => "../../",
        }
    }
}

/// Home as it is right now; `headers` are those of the request for it.
pub(super) fn home(node: &Node, headers: &HeaderMap, depth: Depth) -> Response {
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let channel = node.config.tcp.default_channel.as_str();
    let status = Status::of(node, asked).to_string();
    Content::html(&document(depth, "home", &HOME, Some((channel, &status)))).answer(headers)
}

/// The page of a table, the same for every table.
pub(super) fn table(headers: &HeaderMap, depth: Depth) -> Response {
    static TABLES: LazyLock<[Content; 2]> = LazyLock::new(|| {
        [Depth::One, Depth::Two].map(|depth| Content::html(&document(depth, "table", &TABLE, None)))
    });
    TABLES[usize::from(matches!(depth, Depth::Two))].answer(headers)
}

/// The way to choose a file, which stands where the page begins.
const PICK: &str = "<p class=\"pick\"><input type=\"file\" id=\"file\" aria-label=\"Choose a file\">\
                    <label for=\"file\" class=\"button main\">Choose a file</label></p>\n";

fn document(depth: Depth, page: &str, scripts: &[&str], home: Option<(&str, &str)>) -> String {
    let preload = |name| format!("<link rel=\"modulepreload\" href=\"{{root}}assets/{name}\">\n");
    let mut text = INDEX.to_owned();
    let picks = match home {
        Some(_) => [PICK, ""],
        None => {
            // A table's page has nothing of home.
            if let (Some(from), Some(to)) = (text.find("<!--home-->"), text.find("<!--/home-->")) {
                text.replace_range(from..to, "");
            }
            ["", PICK]
        }
    };
    let (channel, status) = home.unwrap_or_default();
    // What others say comes last, so that no place is looked for in it.
    text.replace("<!--home-->", "")
        .replace("<!--/home-->", "")
        .replace("{pick-home}", picks[0])
        .replace("{pick-table}", picks[1])
        .replace("{preload}", &scripts.iter().map(preload).collect::<String>())
        .replace("{page}", page)
        .replace("{root}", depth.root())
        .replace("{channel}", &Html(channel).to_string())
        .replace("{status}", status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_with_all_that_it_may_ask_for_is_under_60_kb() {
        let home = ("home", &HOME[..], &[][..], Some(("updates", "")));
        for (page, scripts, later, home) in [home, ("table", &TABLE[..], &["qr.js"][..], None)] {
            let files = scripts.iter().chain(later).chain(&["style.css", "icon.svg"]);
            let all = document(Depth::Two, page, scripts, home).len();
            let all = files.fold(all, |sum, name| sum + assets::length(name));
            assert!(all < 60_000, "{page}: {all} bytes");
        }
    }
}
