//! YAML 1.2, from the events of `saphyr-parser`. Plain scalars are resolved by the core schema (YAML 1.2.2, §10.3.2),
//! so `off` and `no` are text. Aliases and tags other than `!!str` are rejected: they make a configuration hard to
//! read.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{MAX_DEPTH, ParseError};
use crate::raw::{Node, Raw};

/// Parses a stream of at most one document.
pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let mut events = Events(Parser::new_from_str(text));
    let mut root = None;
    loop {
        match events.next()? {
            (Event::StreamEnd, _) => return Ok(root.unwrap_or(Node { line: 1, raw: Raw::Null })),
            (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::DocumentStart(_), span) if root.is_some() => {
                return Err(ParseError::new(span.start.line(), "a second document begins here"));
            }
            (Event::DocumentStart(_), _) => {
                let (event, span) = events.next()?;
                root = Some(events.node(event, span, 1)?);
            }
            (_, span) => return Err(ParseError::new(span.start.line(), "a value outside the document")),
        }
    }
}

struct Events<'a>(Parser<'a, StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), ParseError> {
        let fault = |e: ScanError| ParseError::new(e.marker().line(), e.info());
        self.0
            .next_event()
            .transpose()
            .map_err(fault)?
            .ok_or_else(|| ParseError::new(0, "the file ends too early"))
    }

    /// The value that begins with `event`.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, ParseError> {
        let line = span.start.line();
        if depth > MAX_DEPTH {
            return Err(ParseError::too_deep(line));
        }
        let raw = match event {
            Event::Scalar(text, ScalarStyle::Plain, _, None) => plain(&text),
            Event::Scalar(text, _, _, None) => Raw::Text(text.into_owned()),
            Event::Scalar(text, _, _, Some(tag)) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
                Raw::Text(text.into_owned())
            }
            Event::SequenceStart(_, None) => Raw::List(self.items(depth)?),
            Event::MappingStart(_, None) => Raw::Table(self.entries(depth)?),
            Event::Alias(_) => return Err(ParseError::new(line, "aliases (`*name`) are not supported")),
            _ => return Err(ParseError::new(line, "tags (`!name`) are not supported")),
        };
        Ok(Node { line, raw })
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, ParseError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(String, Node)>, ParseError> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(ParseError::new(line, "a key is text")),
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            entries.push((key, Node { line, ..node }));
        }
    }
}

/// A scalar without quotes.
fn plain(text: &str) -> Raw {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Raw::Null,
        "true" | "True" | "TRUE" => Raw::Switch(true),
        "false" | "False" | "FALSE" => Raw::Switch(false),
        _ => number(text).map_or_else(|| Raw::Text(text.to_owned()), Raw::Number),
    }
}

/// The decimal digits of a number; `None` when it is not one.
fn number(text: &str) -> Option<String> {
    let radix = |digits: &str, radix| {
        let all_digits = digits.chars().all(|c| c.is_digit(radix));
        u64::from_str_radix(digits, radix).ok().filter(|_| all_digits).map(|n| n.to_string())
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let starts_as_one = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let ends_as_one = unsigned.contains(|c: char| c.is_ascii_digit());
    (starts_as_one && ends_as_one && text.parse::<f64>().is_ok()).then(|| text.to_owned())
}
