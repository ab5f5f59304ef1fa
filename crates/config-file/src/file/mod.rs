//! Configuration files: TOML, JSON or YAML, selected by the ending of the name.
//!
//! Each language has one parser, which produces the same tree of values and line numbers, independent of options.
//! Invariants:
//! - A file is at most 1 MiB and its values nest at most 16 deep; a larger file is an error.
//! - A parser repeats no value of the file in an error, because any of them may be a secret.

mod json;
mod toml;
mod yaml;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::error::{ConfigError, Format, Origin};
use crate::raw::Node;

/// Largest file in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The deepest nesting of values: far more than the options need, and small enough for any stack.
const MAX_DEPTH: usize = 16;

/// An error of a parser, and its line (0: unknown).
struct ParseError {
    line: usize,
    what: String,
}

impl ParseError {
    fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }

    fn too_deep(line: usize) -> Self {
        Self::new(line, format!("values nest deeper than {MAX_DEPTH}"))
    }
}

/// A parsed file: its root (a table, or null for an empty file) and its name for error messages.
pub struct File {
    /// The root of its values.
    pub root: Node,
    name: Arc<str>,
    format: Format,
}

impl File {
    /// The place of `line` in this file.
    pub fn at(&self, line: usize) -> Origin {
        Origin::File { name: self.name.clone(), line, format: self.format }
    }
}

/// Reads and parses the file at `path`.
///
/// # Errors
/// An unknown file extension, a file that cannot be read, is too large or not UTF-8, and text that cannot be parsed.
pub fn read(path: &Path) -> Result<File, ConfigError> {
    let name: Arc<str> = crate::raw::shown(&path.display().to_string()).into();
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let format = match ending.as_deref() {
        Some("toml") => Format::Toml,
        Some("json") => Format::Json,
        Some("yaml" | "yml") => Format::Yaml,
        _ => {
            return Err(ConfigError::general(format!(
                "{name}: the name of a configuration file ends in .toml, .json, .yaml or .yml"
            )));
        }
    };
    let whole = Origin::File { name: name.clone(), line: 0, format };
    let text = text_of(path).map_err(|what| ConfigError::at(&whole, what))?;
    let root = parse(&text, format)
        .map_err(|f| ConfigError::at(&Origin::File { name: name.clone(), line: f.line, format }, f.what))?;
    Ok(File { root, name, format })
}

fn text_of(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("longer than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        format!("line {} is not UTF-8", 1 + good.iter().filter(|b| **b == b'\n').count())
    })
}

fn parse(text: &str, format: Format) -> Result<Node, ParseError> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Toml => toml::parse(text),
        Format::Json => json::parse(text),
        Format::Yaml => yaml::parse(text),
    }
}

/// Converts byte offsets of a text to line numbers.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect())
    }

    /// The line of byte `offset`, counted from 1.
    fn at(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|end| *end < offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;

    fn text(line: usize, text: &str) -> Node {
        Node { line, raw: Raw::Text(text.into()) }
    }

    fn number(line: usize, digits: &str) -> Node {
        Node { line, raw: Raw::Number(digits.into()) }
    }

    fn entry(key: &str, node: Node) -> (String, Node) {
        (key.into(), node)
    }

    fn fault(source: &str, format: Format) -> (usize, String) {
        match parse(source, format) {
            Ok(node) => panic!("{source:?} was read as {node:?}"),
            Err(fault) => (fault.line, fault.what),
        }
    }

    #[test]
    fn the_three_languages_produce_the_same_tree_with_the_lines_of_the_keys() {
        let toml = "\u{feff}top = 0x10\n[a]\ns = \"x\"\nf = 1.5\nb = true\nl = [\"p\", 2]\n";
        let json =
            "{ \"top\": 16,\n\"a\": {\n\"s\": \"x\",\n\"f\": 1.5,\n\"b\": true,\n\"l\": [\"p\", 2]}\n}";
        let yaml = "top: 0x10\na:\n  s: x\n  f: 1.5\n  b: true\n  l: [p, 2]\n";
        let list = Node { line: 6, raw: Raw::List(vec![text(6, "p"), number(6, "2")]) };
        let table = Raw::Table(vec![
            entry("s", text(3, "x")),
            entry("f", number(4, "1.5")),
            entry("b", Node { line: 5, raw: Raw::Switch(true) }),
            entry("l", list),
        ]);
        let expected =
            Raw::Table(vec![entry("top", number(1, "16")), entry("a", Node { line: 2, raw: table })]);
        for (source, format) in [(toml, Format::Toml), (json, Format::Json), (yaml, Format::Yaml)] {
            let root = parse(source, format).unwrap_or_else(|f| panic!("{format:?}: {}: {}", f.line, f.what));
            assert_eq!(root.raw, expected, "{format:?}");
        }
    }

    #[test]
    fn invalid_text_is_an_error_with_its_line() {
        assert_eq!(fault("a = 1\nb = = 2\n", Format::Toml).0, 2);
        assert_eq!(fault("{\"a\": 1,\n \"b\" 2}", Format::Json), (2, "expected `:`".into()));
        assert_eq!(fault("a: 1\nb: [1, 2\nc: 3\n", Format::Yaml).0, 3);
        assert_eq!(fault("{\n\"a\": \"\\ud800\"}", Format::Json).0, 2);
        assert_eq!(fault("a: 1\n---\nb: 2\n", Format::Yaml).0, 2);
    }

    #[test]
    fn an_empty_file_has_no_values() {
        assert_eq!(parse("", Format::Toml).ok().map(|n| n.raw), Some(Raw::Table(vec![])));
        assert_eq!(parse("{}", Format::Json).ok().map(|n| n.raw), Some(Raw::Table(vec![])));
        assert_eq!(parse("# only this\n", Format::Yaml).ok().map(|n| n.raw), Some(Raw::Null));
        assert_eq!(parse("---\n", Format::Yaml).ok().map(|n| n.raw), Some(Raw::Null));
    }

    #[test]
    fn excessive_nesting_is_an_error_and_not_a_crash() {
        let deep = 200_000;
        assert!(fault(&format!("a = {}", "[".repeat(deep)), Format::Toml).0 <= 1);
        assert_eq!(fault(&"[".repeat(deep), Format::Json).0, 1);
        let closed = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        assert_eq!(fault(&closed, Format::Json), (1, "values nest deeper than 16".into()));
        assert_eq!(fault(&format!("a = {}1{}", "[".repeat(20), "]".repeat(20)), Format::Toml).0, 1);
        assert_eq!(fault(&"- ".repeat(deep), Format::Yaml), (1, "values nest deeper than 16".into()));
        assert_eq!(fault(&"[".repeat(deep), Format::Yaml).0, 1);
    }

    #[test]
    fn plain_yaml_is_resolved_by_the_core_schema() {
        let source =
            "a: off\nb: ~\nc: 'true'\nd: FALSE\ne: 0o17\nf: -3\ng: 127.0.0.1:5567\nh:\ni: !!str 5\nj: .5e3\n";
        let Ok(Node { raw: Raw::Table(entries), .. }) = parse(source, Format::Yaml) else {
            panic!("not a table")
        };
        let values: Vec<Raw> = entries.into_iter().map(|(_, node)| node.raw).collect();
        let expected = [
            Raw::Text("off".into()),
            Raw::Null,
            Raw::Text("true".into()),
            Raw::Switch(false),
            Raw::Number("15".into()),
            Raw::Number("-3".into()),
            Raw::Text("127.0.0.1:5567".into()),
            Raw::Null,
            Raw::Text("5".into()),
            Raw::Number(".5e3".into()),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn indirections_of_yaml_are_rejected() {
        assert_eq!(fault("a: &x [1]\nb: *x\n", Format::Yaml).0, 2);
        assert_eq!(fault("a: !secret 5\n", Format::Yaml).0, 1);
        assert_eq!(fault("a: 1\n[1, 2]: 3\n", Format::Yaml).0, 2);
    }
}
