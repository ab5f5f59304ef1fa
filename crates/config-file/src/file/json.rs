//! JSON, checked by `serde_json` and then split level by level: its raw values are slices of the file, so their
//! positions are known.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Lines, MAX_DEPTH, ParseError};
use crate::raw::{Node, Raw};

/// Reads a whole document.
pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let document = Document { text, lines: Lines::of(text) };
    let root: &RawValue = serde_json::from_str(text).map_err(|e| fault(1, &e))?;
    document.node(root, 1)
}

struct Document<'a> {
    text: &'a str,
    lines: Lines,
}

impl<'a> Document<'a> {
    fn node(&self, value: &'a RawValue, depth: usize) -> Result<Node, ParseError> {
        let text = value.get();
        let line = self.lines.at(text.as_ptr() as usize - self.text.as_ptr() as usize);
        if depth > MAX_DEPTH {
            return Err(ParseError::too_deep(line));
        }
        let here = |e| fault(line, &e);
        let raw = match text.as_bytes().first() {
            Some(b'{') => {
                let members: Members<'a> = serde_json::from_str(text).map_err(here)?;
                let entries =
                    members.0.into_iter().map(|(key, value)| Ok((key, self.node(value, depth + 1)?)));
                Raw::Table(entries.collect::<Result<_, ParseError>>()?)
            }
            Some(b'[') => {
                let items: Vec<&'a RawValue> = serde_json::from_str(text).map_err(here)?;
                let nodes = items.into_iter().map(|item| self.node(item, depth + 1));
                Raw::List(nodes.collect::<Result<_, ParseError>>()?)
            }
            Some(b'"') => Raw::Text(serde_json::from_str(text).map_err(here)?),
            Some(b't') => Raw::Switch(true),
            Some(b'f') => Raw::Switch(false),
            Some(b'n') => Raw::Null,
            _ => Raw::Number(text.to_owned()),
        };
        Ok(Node { line, raw })
    }
}

/// The members of an object in their order, including repetitions.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Deserialize<'a> for Members<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'a> Visitor<'a> for Collect {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A parser's error in a piece of text that begins on line `first`, with line numbers of the file.
fn fault(first: usize, error: &serde_json::Error) -> ParseError {
    let whole = error.to_string();
    let what = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(what, _)| what);
    ParseError::new(first + error.line().saturating_sub(1), what)
}
