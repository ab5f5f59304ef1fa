//! TOML, read by the `toml` crate into a tree with positions.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::{Lines, MAX_DEPTH, ParseError};
use crate::raw::{Node, Raw};

/// Parses a whole document.
pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let lines = Lines::of(text);
    let root = DeTable::parse(text).map_err(|e| {
        let line = e.span().map_or(0, |span| lines.at(span.start));
        ParseError::new(line, e.message().lines().collect::<Vec<_>>().join("; "))
    })?;
    Ok(Node { line: 1, raw: table(root.get_ref(), &lines, 1)? })
}

fn table(table: &DeTable<'_>, lines: &Lines, depth: usize) -> Result<Raw, ParseError> {
    let mut entries: Vec<_> = table.iter().collect();
    // The parser sorts by name; errors are reported in the order of the file.
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries.into_iter().map(|(key, value)| {
        let line = lines.at(key.span().start);
        Ok((key.get_ref().to_string(), Node { line, raw: raw(value, lines, depth)? }))
    });
    Ok(Raw::Table(entries.collect::<Result<_, ParseError>>()?))
}

fn raw(value: &Spanned<DeValue<'_>>, lines: &Lines, depth: usize) -> Result<Raw, ParseError> {
    let line = lines.at(value.span().start);
    if depth == MAX_DEPTH {
        return Err(ParseError::too_deep(line));
    }
    Ok(match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(integer) => {
            let number = i128::from_str_radix(integer.as_str(), integer.radix());
            Raw::Number(number.map_err(|_| ParseError::new(line, "the number is too large"))?.to_string())
        }
        DeValue::Float(float) => Raw::Number(float.as_str().to_owned()),
        DeValue::Boolean(on) => Raw::Switch(*on),
        DeValue::Datetime(_) => return Err(ParseError::new(line, "no option is a date or a time of day")),
        DeValue::Array(items) => {
            let item = |item: &Spanned<DeValue<'_>>| {
                Ok(Node { line: lines.at(item.span().start), raw: raw(item, lines, depth + 1)? })
            };
            Raw::List(items.iter().map(item).collect::<Result<_, ParseError>>()?)
        }
        DeValue::Table(entries) => table(entries, lines, depth + 1)?,
    })
}
