//! The files of the page, embedded, as they are served.
//!
//! They are written to be read, and served to be loaded: without comments and indentation, and compressed once. The
//! table below is all there is, so what this takes is bounded by what is built in.

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

/// What a browser may do with the page: run, show and connect to what is here, and nothing else; make no markup of
/// text; no frame around it (CSP level 3, Trusted Types).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../../../web/", $name)))),*] };
}

/// The page's markup, with places for what the server says.
pub(super) const INDEX: &str = include_str!("../../../web/index.html");

/// Every file that the page asks for, by its name.
const FILES: [(&str, &str); 19] = embedded![
    "address.js",
    "console.js",
    "controls.js",
    "dom.js",
    "grid.js",
    "home.css",
    "home.js",
    "icon.svg",
    "keys.js",
    "main.js",
    "menus.js",
    "qr.js",
    "recent.js",
    "socket.js",
    "state.js",
    "style.css",
    "table.js",
    "update.js",
    "upload.js",
];

static CONTENTS: LazyLock<Vec<(&str, Content)>> = LazyLock::new(|| {
    let content = |(name, text): (&'static str, &str)| {
        let (kind, text) = match name.rsplit_once('.') {
            Some((_, "js")) => ("text/javascript; charset=utf-8", without_comments(text)),
            Some((_, "css")) => ("text/css; charset=utf-8", without_spaces(text)),
            _ => ("image/svg+xml", text.to_owned()),
        };
        (name, Content::new(kind, text))
    };
    FILES.into_iter().map(content).collect()
});

/// The answer to a request for a file of this name, if there is one.
pub fn asset(name: &str, headers: &HeaderMap) -> Option<Response> {
    let (_, content) = CONTENTS.iter().find(|(other, _)| *other == name)?;
    Some(content.answer(headers))
}

/// How long a file is as it is served, uncompressed.
#[cfg(test)]
pub(super) fn length(name: &str) -> usize {
    let (_, content) = CONTENTS.iter().find(|(other, _)| *other == name).expect("a file of the page");
    content.plain.len()
}

/// A text, ready to be sent.
pub(super) struct Content {
    kind: &'static str,
    plain: Bytes,
    packed: Bytes,
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
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        let packed = packer.write_all(text.as_bytes()).and_then(|()| packer.finish());
        Self { kind, plain: text.into(), packed: packed.expect("memory takes all").into(), tag }
    }

    /// The text, compressed if the client takes that, or 304 if it has the text (RFC 9110 §13.1.2).
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let packs = takes_gzip(headers);
        // A strong tag is of the bytes that are sent.
        let tag = if packs { format!("\"{}-gz\"", self.tag) } else { format!("\"{}\"", self.tag) };
        let all = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known =
            all.flat_map(|value| value.split(',')).map(|value| value.trim().trim_start_matches("W/"));
        let known = known.any(|known| known == tag || known == "*");
        let tag = HeaderValue::try_from(tag).expect("base64url in quotes");
        // It changes with the program only, but then at once.
        let common = [
            (ETAG, tag),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (VARY, HeaderValue::from_static("accept-encoding")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        ];
        if known {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let body = if packs { &self.packed } else { &self.plain };
        let mut answer = (common, [(CONTENT_TYPE, self.kind)], Body::from(body.clone())).into_response();
        if packs {
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    }
}

/// Whether a client says that it takes gzip (RFC 9110 §12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// A script without lines that are comments, `/** … */`, and indentation. That is all it looks for: scripts that
/// write such things in a string or a template over several lines would be damaged.
fn without_comments(script: &str) -> String {
    let mut code = String::with_capacity(script.len());
    let mut rest = script;
    while let Some((before, comment)) = rest.split_once("/**") {
        code.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after.trim_start_matches(' '));
    }
    code.push_str(rest);
    let lines = code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// A style sheet without the spaces around its punctuation; no text in quotes has such.
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

    fn asking(name: &str, value: &'static str) -> HeaderMap {
        let name: axum::http::HeaderName = name.parse().expect("a name");
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn a_script_loses_its_comments_and_nothing_else() {
        let script = "// a\n/** @type {X} */\nexport const a = () => {\n  /** b\n   * c */ (d)('http://e'); // f\n};\n";
        assert_eq!(without_comments(script), "export const a = () => {\n(d)('http://e'); // f\n};\n");
    }

    #[test]
    fn a_style_sheet_loses_spaces_and_nothing_else() {
        let style = "a:hover, b > c { color: red; margin: 0 1px; }\n  d::after { content: \" x\"; }\n";
        assert_eq!(
            without_spaces(style),
            "a:hover,b > c{color:red;margin:0 1px}\nd::after{content:\" x\"}\n"
        );
    }

    #[test]
    fn every_file_that_a_script_imports_is_here() {
        for (name, text) in FILES {
            for import in text.split("'./").skip(1).filter_map(|rest| rest.split('\'').next()) {
                let is_type = !import.contains('.');
                assert!(is_type || FILES.iter().any(|(name, _)| *name == import), "{import} of {name}");
            }
        }
    }

    #[test]
    fn gzip_goes_to_those_who_take_it() {
        for takes in ["gzip", "br, GZIP", "gzip;q=0.5", "deflate, gzip; q=1.0"] {
            assert!(takes_gzip(&asking("accept-encoding", takes)), "{takes}");
        }
        for refuses in ["", "br", "gzip;q=0", "gzip; q=0.000", "x-gzip2"] {
            assert!(!takes_gzip(&asking("accept-encoding", refuses)), "{refuses}");
        }
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let content = Content::html("<p>hello</p>");
        let first = content.answer(&HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[ETAG].to_str().expect("text").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let headers =
                [(IF_NONE_MATCH, HeaderValue::try_from(known).expect("a value"))].into_iter().collect();
            assert_eq!(content.answer(&headers).status(), StatusCode::NOT_MODIFIED);
        }
        let packed = content.answer(&asking("accept-encoding", "gzip"));
        assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
        assert_ne!(packed.headers()[ETAG], tag);
    }
}
