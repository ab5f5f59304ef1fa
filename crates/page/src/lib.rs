//! The page: home with what runs here, and tables. Its files lie in `web/` and are embedded in the program.
//!
//! One document serves all of its addresses. Everything in it is named relative to the address, so it works behind
//! a proxy under any path.
//!
//! Invariants:
//! - Whatever was not written here goes through [`Html`] before it is part of the document.
//! - A browser is told to run and to ask nothing but what is here, see [`assets`].

mod assets;
mod escape;
mod lines;
mod status;

use std::sync::LazyLock;

use axum::http::{HeaderMap, header};
use axum::response::Response;

use assets::{Content, INDEX};
use escape::Html;
use status::{Short, Size, Status};

pub use assets::asset;
pub use status::ServerState;

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
pub enum Depth {
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
pub fn home(server: &ServerState<'_>, headers: &HeaderMap, depth: Depth) -> Response {
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let tables = &server.config.tables;
    let limits = tables.enabled.then(|| {
        format!(
            "files up to {}, kept for {} after somebody last looked",
            Size(tables.max_size as u64),
            Short(tables.keep)
        )
    });
    let home = Home {
        channel: server.config.tcp.default_channel.as_str(),
        status: &Status::new(server, asked).to_string(),
        limits: limits.as_deref(),
    };
    Content::html(&document(depth, Some(&home))).answer(headers)
}

/// The page of a table, the same for every table.
pub fn table(headers: &HeaderMap, depth: Depth) -> Response {
    static TABLES: LazyLock<[Content; 2]> =
        LazyLock::new(|| [Depth::One, Depth::Two].map(|depth| Content::html(&document(depth, None))));
    TABLES[usize::from(matches!(depth, Depth::Two))].answer(headers)
}

/// The way to choose a file, which stands where the page begins.
const PICK: &str = "<p class=\"pick\"><input type=\"file\" id=\"file\" aria-label=\"Choose a file\">\
                    <label for=\"file\" class=\"button main\">Choose a file</label></p>\n";

/// What the server says on home.
struct Home<'a> {
    /// What the console begins with.
    channel: &'a str,
    status: &'a str,
    /// What files may be; `None`: there are no tables here.
    limits: Option<&'a str>,
}

/// The document of home, or of a table.
fn document(depth: Depth, home: Option<&Home<'_>>) -> String {
    let (page, scripts) = if home.is_some() { ("home", &HOME[..]) } else { ("table", &TABLE[..]) };
    let preload = |name| format!("<link rel=\"modulepreload\" href=\"{{root}}assets/{name}\">\n");
    let Home { channel, status, limits } = home.unwrap_or(&Home { channel: "", status: "", limits: None });
    let text = part(INDEX, "home", home.is_some());
    // What others say comes last, so that no place is looked for in it.
    part(&text, "tables", limits.is_some())
        .replace("{pick-home}", if home.is_some() { PICK } else { "" })
        .replace("{pick-table}", if home.is_some() { "" } else { PICK })
        .replace("{preload}", &scripts.iter().map(preload).collect::<String>())
        .replace("{page}", page)
        .replace("{root}", depth.root())
        .replace("{limits}", limits.unwrap_or_default())
        .replace("{channel}", &Html(channel).to_string())
        .replace("{status}", status)
}

/// The text with what stands between marks of this name, or without it.
fn part(text: &str, name: &str, stays: bool) -> String {
    let (from, to) = (format!("<!--{name}-->"), format!("<!--/{name}-->"));
    let mut pieces = text.split(&from);
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (within, after) = piece.split_once(&to).unwrap_or((piece, ""));
        kept += if stays { within } else { "" };
        kept += after;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_between_marks_stays_or_goes() {
        let text = "a<!--x-->b<!--/x-->c<!--y-->d<!--/y--><!--x-->e<!--/x-->f";
        assert_eq!(part(text, "x", true), "abc<!--y-->d<!--/y-->ef");
        assert_eq!(part(text, "x", false), "ac<!--y-->d<!--/y-->f");
    }

    #[test]
    fn a_page_with_all_that_it_may_ask_for_is_under_60_kb() {
        let home = Home { channel: "updates", status: "", limits: Some("files up to 1 GiB") };
        for (home, scripts, more) in [(Some(&home), &HOME[..], "home.css"), (None, &TABLE[..], "qr.js")] {
            let files = scripts.iter().copied().chain(["style.css", "icon.svg", more]);
            let all = document(Depth::Two, home).len();
            let all = files.fold(all, |sum, name| sum + assets::length(name));
            assert!(all < 60_000, "{all} bytes with {more}");
        }
    }
}
