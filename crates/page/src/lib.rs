//! The page for browsers: home, with the state of the server, and tables. Its files are in `web/` and embedded in the program.
//!
//! One document serves all addresses of the page. All links are relative, so the page works behind a proxy under any path.
//!
//! Invariants:
//! - Text from outside of this crate is escaped with [`Html`] before it is part of the document.
//! - The content security policy allows scripts, styles and requests of this server only, see [`assets`].

mod assets;
mod escape;
mod line_port;
mod status;

use std::sync::LazyLock;

use axum::http::{HeaderMap, header};
use axum::response::Response;

use assets::{ADMIN_INDEX, Content, INDEX};
use escape::Html;
use status::{HumanBytes, HumanDuration, Status};

pub use assets::{admin_asset, asset};
pub use status::ServerState;

/// The scripts of home. Browsers preload them in parallel instead of one import after another.
const HOME: [&str; 6] = ["main.js", "dom.js", "home.js", "recent.js", "console.js", "socket.js"];
/// The scripts of the page of a table, without those that few views need (`group.js`, `numbers.js`, `qr.js`, `upload.js`).
const TABLE: [&str; 22] = [
    "main.js",
    "dom.js",
    "table.js",
    "state.js",
    "update.js",
    "views.js",
    "controls.js",
    "menus.js",
    "columns.js",
    "cursor.js",
    "people.js",
    "share.js",
    "grid.js",
    "head.js",
    "marks.js",
    "layout.js",
    "scroll.js",
    "tiles.js",
    "address.js",
    "keys.js",
    "recent.js",
    "socket.js",
];

/// The depth of an address below the root.
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
    /// The relative path from the address to the root.
    const fn root(self) -> &'static str {
        match self {
            Self::Root => "./",
            Self::One => "../",
            Self::Two => "../../",
        }
    }
}

/// Renders home for a request with these headers.
pub fn home(server: &ServerState<'_>, headers: &HeaderMap, depth: Depth) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let tables = &server.config.tables;
    let limits = tables.enabled.then(|| {
        format!(
            "files up to {}, deleted {} after their last use",
            HumanBytes(tables.max_size as u64),
            HumanDuration(tables.keep)
        )
    });
    let home = Home {
        channel: server.config.tcp.default_channel.as_str(),
        status: &Status::new(server, host).to_string(),
        limits: limits.as_deref(),
    };
    Content::html(&document(depth, Some(&home))).respond(headers)
}

/// Renders the page of a table, which is the same for every table.
pub fn table(headers: &HeaderMap, depth: Depth) -> Response {
    static TABLES: LazyLock<[Content; 2]> =
        LazyLock::new(|| [Depth::One, Depth::Two].map(|depth| Content::html(&document(depth, None))));
    TABLES[usize::from(matches!(depth, Depth::Two))].respond(headers)
}

/// Renders the admin page, which contains no data.
pub fn admin(headers: &HeaderMap) -> Response {
    static ADMIN: LazyLock<Content> = LazyLock::new(|| Content::html(ADMIN_INDEX));
    ADMIN.respond(headers)
}

/// The file input, which is placed where the page begins.
const FILE_INPUT: &str = "<p class=\"pick\"><input type=\"file\" id=\"file\" aria-label=\"Choose a file\">\
                    <label for=\"file\" class=\"button main\">Choose a file</label></p>\n";

/// The parts of home that the server renders.
struct Home<'a> {
    /// The channel in the console at the start.
    channel: &'a str,
    status: &'a str,
    /// The limits on files; `None` when tables are disabled.
    limits: Option<&'a str>,
}

/// The document of home, or of a table if `home` is `None`.
fn document(depth: Depth, home: Option<&Home<'_>>) -> String {
    let (page, scripts) = if home.is_some() { ("home", &HOME[..]) } else { ("table", &TABLE[..]) };
    let preload = |name| format!("<link rel=\"modulepreload\" href=\"{{root}}assets/{name}\">\n");
    let Home { channel, status, limits } = home.unwrap_or(&Home { channel: "", status: "", limits: None });
    let text = section(INDEX, "home", home.is_some());
    // Text from outside comes last, so that no placeholder in it is replaced.
    section(&text, "tables", limits.is_some())
        .replace("{pick-home}", if home.is_some() { FILE_INPUT } else { "" })
        .replace("{pick-table}", if home.is_some() { "" } else { FILE_INPUT })
        .replace("{preload}", &scripts.iter().map(preload).collect::<String>())
        .replace("{page}", page)
        .replace("{root}", depth.root())
        .replace("{limits}", limits.unwrap_or_default())
        .replace("{channel}", &Html(channel).to_string())
        .replace("{status}", status)
}

/// The text with or without the sections between the marks of this name.
fn section(text: &str, name: &str, is_included: bool) -> String {
    let (from, to) = (format!("<!--{name}-->"), format!("<!--/{name}-->"));
    let mut pieces = text.split(&from);
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (within, after) = piece.split_once(&to).unwrap_or((piece, ""));
        kept += if is_included { within } else { "" };
        kept += after;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_between_marks_is_kept_or_removed() {
        let text = "a<!--x-->b<!--/x-->c<!--y-->d<!--/y--><!--x-->e<!--/x-->f";
        assert_eq!(section(text, "x", true), "abc<!--y-->d<!--/y-->ef");
        assert_eq!(section(text, "x", false), "ac<!--y-->d<!--/y-->f");
    }

    #[test]
    fn the_admin_page_with_all_its_files_is_under_70_kb() {
        let all = ADMIN_INDEX.len() + assets::admin_length();
        assert!(all < 70_000, "{all} bytes");
    }

    #[test]
    fn a_page_opens_with_less_than_120_kb_and_its_dialogs_add_less_than_40_kb() {
        let home = Home { channel: "updates", status: "", limits: Some("files up to 1 GiB") };
        let size = |names: &[&str]| names.iter().map(|name| assets::length(name)).sum::<usize>();
        for (home, scripts, style) in [(Some(&home), &HOME[..], &["home.css"][..]), (None, &TABLE[..], &[])] {
            let document = document(Depth::Two, home).len();
            let all = document + size(scripts) + size(style) + size(&["style.css", "icon.svg"]);
            assert!(all < 120_000, "{all} bytes");
        }
        let later = size(&["group.js", "group.css", "numbers.js", "qr.js", "upload.js"]);
        assert!(later < 40_000, "{later} bytes");
    }
}
