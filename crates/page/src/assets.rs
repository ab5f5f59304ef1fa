//! The embedded files of the page, as they are served: without comments and indentation, and compressed once.
//!
//! [`FILES`] lists all of them, so the memory that they take is bounded at compile time.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest;

/// The content security policy of the page (CSP level 3, Trusted Types): scripts, styles, images and connections of this
/// server only, no markup from text, and no frame around the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../../../web/", $name)))),*] };
}

/// The page's markup, with placeholders for the parts that the server renders.
pub(super) const INDEX: &str = include_str!("../../../web/index.html");

/// The files that the page loads, by name.
const FILES: [(&str, &str); 32] = embedded![
    "address.js",
    "columns.js",
    "console.js",
    "controls.js",
    "cursor.js",
    "dom.js",
    "grid.js",
    "group.css",
    "group.js",
    "head.js",
    "home.css",
    "home.js",
    "icon.svg",
    "keys.js",
    "layout.js",
    "main.js",
    "marks.js",
    "menus.js",
    "numbers.js",
    "people.js",
    "qr.js",
    "recent.js",
    "scroll.js",
    "share.js",
    "socket.js",
    "state.js",
    "style.css",
    "table.js",
    "tiles.js",
    "update.js",
    "upload.js",
    "views.js",
];

/// The markup of the admin page.
pub(super) const ADMIN_INDEX: &str = include_str!("../../../web/admin/index.html");

/// The files that the admin page loads, by name; some are those of the page.
const ADMIN_FILES: [(&str, &str); 17] = embedded![
    "admin/admin.css",
    "admin/api.js",
    "admin/channel.js",
    "admin/channels.js",
    "admin/charts.js",
    "admin/connections.js",
    "admin/log.js",
    "admin/login.js",
    "admin/main.js",
    "admin/namespaces.js",
    "admin/overview.js",
    "admin/parts.js",
    "admin/tables.js",
    "admin/tail.js",
    "dom.js",
    "icon.svg",
    "style.css",
];

static CONTENTS: LazyLock<Vec<(&str, Content)>> = LazyLock::new(|| contents(&FILES));
static ADMIN_CONTENTS: LazyLock<Vec<(&str, Content)>> = LazyLock::new(|| contents(&ADMIN_FILES));

fn contents(files: &'static [(&str, &str)]) -> Vec<(&'static str, Content)> {
    let content = |(name, text): &'static (&str, &str)| {
        let (name, text) = (name.strip_prefix("admin/").unwrap_or(name), *text);
        let (kind, text) = match name.rsplit_once('.') {
            // The files of the admin page are served in one folder.
            Some((_, "js")) => (
                "text/javascript; charset=utf-8",
                without_comments(text).replace("'../dom.js'", "'./dom.js'"),
            ),
            Some((_, "css")) => ("text/css; charset=utf-8", without_spaces(text)),
            _ => ("image/svg+xml", text.to_owned()),
        };
        (name, Content::new(kind, text))
    };
    files.iter().map(content).collect()
}

/// The response to a request for a file; `None` if there is no file with this name.
pub fn asset(name: &str, headers: &HeaderMap) -> Option<Response> {
    let (_, content) = CONTENTS.iter().find(|(other, _)| *other == name)?;
    Some(content.respond(headers))
}

/// The response to a request for a file of the admin page; `None` if there is no file with this name.
pub fn admin_asset(name: &str, headers: &HeaderMap) -> Option<Response> {
    let (_, content) = ADMIN_CONTENTS.iter().find(|(other, _)| *other == name)?;
    Some(content.respond(headers))
}

/// The length of the files of the admin page as they are served, uncompressed.
#[cfg(test)]
pub(super) fn admin_length() -> usize {
    ADMIN_CONTENTS.iter().map(|(_, content)| content.plain.len()).sum()
}

/// The length of a file as it is served, uncompressed.
#[cfg(test)]
pub(super) fn length(name: &str) -> usize {
    let (_, content) = CONTENTS.iter().find(|(other, _)| *other == name).expect("a file of the page");
    content.plain.len()
}

/// A response body in both encodings.
pub(super) struct Content {
    kind: &'static str,
    plain: Bytes,
    gzip: Bytes,
    /// A hash of the text in base64url.
    tag: String,
}

impl Content {
    /// HTML without its indentation.
    pub(super) fn html(text: &str) -> Self {
        Self::new("text/html; charset=utf-8", without_indentation(text))
    }

    fn new(kind: &'static str, text: String) -> Self {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let tag = BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let gzip = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
        Self { kind, plain: text.into(), gzip: gzip.expect("a write to memory").into(), tag }
    }

    /// The response, compressed if the client accepts gzip; 304 if the client has the text already (RFC 9110 §13.1.2).
    pub(super) fn respond(&self, headers: &HeaderMap) -> Response {
        let is_gzip = accepts_gzip(headers);
        // A strong tag identifies the bytes that are sent, so each encoding has its own.
        let tag = if is_gzip { format!("\"{}-gz\"", self.tag) } else { format!("\"{}\"", self.tag) };
        let all = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known_tags =
            all.flat_map(|value| value.split(',')).map(|value| value.trim().trim_start_matches("W/"));
        let is_known = known_tags.any(|known| known == tag || known == "*");
        let tag = HeaderValue::try_from(tag).expect("base64url in quotes");
        // The text changes only with the program, but browsers must see the change at once.
        let common = [
            (ETAG, tag),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (VARY, HeaderValue::from_static("accept-encoding")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        ];
        if is_known {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let body = if is_gzip { &self.gzip } else { &self.plain };
        let mut response = (common, [(CONTENT_TYPE, self.kind)], Body::from(body.clone())).into_response();
        if is_gzip {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Whether a client accepts gzip (RFC 9110 §12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Removes comment lines, `/** … */`, indentation and the spaces of code without strings from a script. It does not parse strings, so a script that contains
/// such text in a string or in a template over several lines would be damaged.
fn without_comments(script: &str) -> String {
    let mut code = String::with_capacity(script.len());
    let mut rest = script;
    while let Some((before, comment)) = rest.split_once("/**") {
        code.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after.trim_start_matches(' '));
    }
    code.push_str(rest);
    let lines = code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.map(|line| without_spaces_of_code(line) + "\n").collect()
}

/// A line of a script without the spaces beside its punctuation. Strings in single quotes are kept. A line with another quote, an
/// escape or a slash, which may belong to a regular expression, stays as it is; so do the spaces beside `+` and `-`, which may separate two
/// operators.
fn without_spaces_of_code(line: &str) -> String {
    if line.contains(['"', '`', '/', '\\']) {
        return line.to_owned();
    }
    let parts = line.split('\'').enumerate();
    let parts = parts.map(|(at, part)| if at % 2 == 0 { without_spaces_of(part) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("'")
}

/// See [`without_spaces_of_code`].
fn without_spaces_of(line: &str) -> String {
    let is_punctuation = |c: Option<char>| c.is_some_and(|c| "={}()[],;:?&|<>".contains(c));
    let mut code = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let is_beside = is_punctuation(code.chars().next_back()) || is_punctuation(rest.peek().copied());
        if c != ' ' || !is_beside {
            code.push(c);
        }
    }
    code
}

/// Removes the spaces around punctuation from a style sheet. No quoted text in our style sheets contains such spaces.
fn without_spaces(style: &str) -> String {
    let spaced = [(" {", "{"), ("{ ", "{"), ("; ", ";"), (" }", "}"), (";}", "}"), (": ", ":"), (", ", ",")];
    spaced.into_iter().fold(without_indentation(style), |text, (from, to)| text.replace(from, to))
}

fn without_indentation(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &str, value: &'static str) -> HeaderMap {
        let name: axum::http::HeaderName = name.parse().expect("a name");
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn only_comments_and_spaces_outside_of_strings_are_removed_from_a_script() {
        let script = "// a\n/** @type {X} */\nexport const a = () => {\n  /** b\n   * c */ (d)('http://e'); // f\n};\n";
        assert_eq!(without_comments(script), "export const a=()=>{\n(d)('http://e'); // f\n};\n");
        let spaces = "const { a, b } = c ? d + -1 : [e && f];\ng('a = b' , h);\ni = / = /;\nj = \" = \";\n";
        let kept = "const{a,b}=c?d + -1:[e&&f];\ng('a = b',h);\ni = / = /;\nj = \" = \";\n";
        assert_eq!(without_comments(spaces), kept);
    }

    #[test]
    fn only_spaces_are_removed_from_a_style_sheet() {
        let style = "a:hover, b > c { color: red; margin: 0 1px; }\n  d::after { content: \" x\"; }\n";
        assert_eq!(
            without_spaces(style),
            "a:hover,b > c{color:red;margin:0 1px}\nd::after{content:\" x\"}\n"
        );
    }

    #[test]
    fn every_imported_file_is_embedded() {
        for files in [&FILES[..], &ADMIN_FILES[..]] {
            let base = |name: &'static str| name.strip_prefix("admin/").unwrap_or(name);
            for (name, text) in files {
                let text = text.replace("'../dom.js'", "'./dom.js'");
                for import in text.split("'./").skip(1).filter_map(|rest| rest.split('\'').next()) {
                    let is_type = !import.contains('.');
                    assert!(
                        is_type || files.iter().any(|(name, _)| base(name) == import),
                        "{import} of {name}"
                    );
                }
            }
        }
    }

    #[test]
    fn gzip_is_sent_to_clients_that_accept_it() {
        for takes in ["gzip", "br, GZIP", "gzip;q=0.5", "deflate, gzip; q=1.0"] {
            assert!(accepts_gzip(&headers("accept-encoding", takes)), "{takes}");
        }
        for refuses in ["", "br", "gzip;q=0", "gzip; q=0.000", "x-gzip2"] {
            assert!(!accepts_gzip(&headers("accept-encoding", refuses)), "{refuses}");
        }
    }

    #[test]
    fn a_cached_file_is_not_sent_again() {
        let content = Content::html("<p>hello</p>");
        let first = content.respond(&HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[ETAG].to_str().expect("text").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let headers =
                [(IF_NONE_MATCH, HeaderValue::try_from(known).expect("a value"))].into_iter().collect();
            assert_eq!(content.respond(&headers).status(), StatusCode::NOT_MODIFIED);
        }
        let gzip = content.respond(&headers("accept-encoding", "gzip"));
        assert_eq!(gzip.headers()[CONTENT_ENCODING], "gzip");
        assert_ne!(gzip.headers()[ETAG], tag);
    }
}
