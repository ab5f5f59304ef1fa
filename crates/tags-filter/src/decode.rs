//! The two encodings of a filter tree, decoded into nodes whose contents are not checked yet.

use std::borrow::Cow;

use serde_json::Value;

use crate::filter::FilterError;
use crate::{MAX_DEPTH, MAX_NODES};

/// A message `FilterNode`.
#[derive(Debug, Default)]
pub(crate) struct RawNode<'a> {
    pub(crate) op: Cow<'a, str>,
    pub(crate) key: Cow<'a, str>,
    pub(crate) cmp: Cow<'a, str>,
    pub(crate) val: Cow<'a, str>,
    pub(crate) vals: Vec<Cow<'a, str>>,
    pub(crate) nodes: Vec<RawNode<'a>>,
}

fn malformed(reason: impl Into<String>) -> FilterError {
    FilterError::Malformed(reason.into())
}

impl<'a> RawNode<'a> {
    /// Reads the object `value` at this level of the tree.
    pub(crate) fn from_json(value: &'a Value, level: usize) -> Result<Self, FilterError> {
        if level > MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        let Value::Object(members) = value else { return Err(malformed("a node is no object")) };
        let text = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Ok(Cow::default()),
            Some(Value::String(text)) => Ok(Cow::Borrowed(text.as_str())),
            Some(_) => Err(malformed(format!("{name} is no string"))),
        };
        let list = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Ok(&[][..]),
            Some(Value::Array(list)) => Ok(&list[..]),
            Some(_) => Err(malformed(format!("{name} is no array"))),
        };
        let value = |value: &'a Value| match value {
            Value::String(text) => Ok(Cow::Borrowed(text.as_str())),
            _ => Err(malformed("a value in vals is no string")),
        };
        let nodes = list("nodes")?;
        if nodes.len() >= MAX_NODES {
            return Err(FilterError::TooManyNodes);
        }
        Ok(Self {
            op: text("op")?,
            key: text("key")?,
            cmp: text("cmp")?,
            val: text("val")?,
            vals: list("vals")?.iter().map(value).collect::<Result<_, _>>()?,
            nodes: nodes.iter().map(|node| Self::from_json(node, level + 1)).collect::<Result<_, _>>()?,
        })
    }

    /// Reads the message in `bytes` at this level of the tree.
    pub(crate) fn from_protobuf(mut bytes: &'a [u8], level: usize) -> Result<Self, FilterError> {
        if level > MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        let mut node = Self::default();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let field = key >> 3;
            let value = match key & 7 {
                0 => {
                    varint(&mut bytes)?;
                    None
                }
                1 => {
                    take(&mut bytes, 8)?;
                    None
                }
                2 => {
                    let length = varint(&mut bytes)?;
                    Some(take(&mut bytes, length)?)
                }
                5 => {
                    take(&mut bytes, 4)?;
                    None
                }
                other => return Err(malformed(format!("field {field} has the wire type {other}"))),
            };
            let Some(value) = value else {
                if (1..=6).contains(&field) {
                    return Err(malformed(format!("field {field} is a number")));
                }
                continue;
            };
            let text = || {
                let text =
                    std::str::from_utf8(value).map_err(|_| malformed(format!("field {field} is not UTF-8")));
                text.map(Cow::Borrowed)
            };
            match field {
                1 => node.op = text()?,
                2 => node.key = text()?,
                3 => node.cmp = text()?,
                4 => node.val = text()?,
                5 => node.vals.push(text()?),
                6 if node.nodes.len() + 1 >= MAX_NODES => return Err(FilterError::TooManyNodes),
                6 => node.nodes.push(Self::from_protobuf(value, level + 1)?),
                _ => {}
            }
        }
        Ok(node)
    }
}

/// Takes a number off the front (Protobuf's encoding guide, "Base 128 Varints").
fn varint(bytes: &mut &[u8]) -> Result<u64, FilterError> {
    let mut number = 0_u64;
    for index in 0..10 {
        let Some((byte, rest)) = bytes.split_first() else { return Err(malformed("it ends in a number")) };
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(malformed("a number of more than 64 bits"))
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], FilterError> {
    let taken = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let (taken, rest) = taken.ok_or_else(|| malformed(format!("it ends in a field of {length} bytes")))?;
    *bytes = rest;
    Ok(taken)
}
