//! A checked filter, and its evaluation.

use std::cmp::Ordering;

use memchr::memmem;
use thiserror::Error;

use crate::decimal::Decimal;
use crate::decode::RawNode;
use crate::{MAX_BYTES, MAX_DEPTH, MAX_NODES};

/// Why a filter is refused. The texts are for the author of the filter.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// It is longer than [`MAX_BYTES`].
    #[error("limit exceeded: a filter of {0} bytes, and {MAX_BYTES} is the limit")]
    TooLong(usize),
    /// It has more than [`MAX_DEPTH`] levels.
    #[error("limit exceeded: a filter with more than {MAX_DEPTH} levels")]
    TooDeep,
    /// It has more than [`MAX_NODES`] nodes and values.
    #[error("limit exceeded: a filter with more than {MAX_NODES} nodes and values")]
    TooManyNodes,
    /// It is not a message `FilterNode`.
    #[error("bad request: filter: {0}")]
    Malformed(String),
    /// It is a tree of nodes with a meaningless one.
    #[error("bad request: filter: {0}")]
    Invalid(String),
}

impl FilterError {
    /// Whether a limit is exceeded.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::TooLong(_) | Self::TooDeep | Self::TooManyNodes)
    }
}

/// A filter of publications by their tags.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    root: Node,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Not(Box<Node>),
    /// A comparison of the tag with this name.
    Leaf(Box<str>, Comparison),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Comparison {
    Equal(Box<str>),
    NotEqual(Box<str>),
    /// The values are in order, each once.
    In(Box<[Box<str>]>),
    NotIn(Box<[Box<str>]>),
    Exists,
    NotExists,
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Greater(Box<str>),
    GreaterOrEqual(Box<str>),
    Less(Box<str>),
    LessOrEqual(Box<str>),
}

impl Filter {
    /// A filter in JSON: an object with the members `op`, `key`, `cmp`, `val`, `vals` and `nodes`. `null` is the same as an
    /// absent member, and other members are ignored.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn from_json(json: &[u8]) -> Result<Self, FilterError> {
        check_length(json)?;
        let value: serde_json::Value =
            serde_json::from_slice(json).map_err(|error| FilterError::Malformed(error.to_string()))?;
        Self::new(RawNode::from_json(&value, 1)?)
    }

    /// A filter in Protobuf: a message with the fields 1 `op`, 2 `key`, 3 `cmp`, 4 `val`, 5 `vals` and 6 `nodes`. Other fields
    /// are ignored.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn from_protobuf(message: &[u8]) -> Result<Self, FilterError> {
        check_length(message)?;
        Self::new(RawNode::from_protobuf(message, 1)?)
    }

    fn new(raw: RawNode<'_>) -> Result<Self, FilterError> {
        let mut left = MAX_NODES;
        Ok(Self { root: Node::new(raw, 1, &mut left)? })
    }

    /// The filter that is passed by what passes both filters. It may exceed the limits of its parts by a level and a node
    /// more than both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self { root: Node::And([self.root.clone(), other.root.clone()].into()) }
    }

    /// Whether a publication with these tags passes. Of two tags with one name, the first counts.
    pub fn matches(&self, tags: &[(String, String)]) -> bool {
        self.root.matches(tags)
    }
}

fn check_length(encoded: &[u8]) -> Result<(), FilterError> {
    if encoded.len() > MAX_BYTES { Err(FilterError::TooLong(encoded.len())) } else { Ok(()) }
}

fn invalid<T>(reason: String) -> Result<T, FilterError> {
    Err(FilterError::Invalid(reason))
}

/// A name from a filter, short enough for an error.
fn shown(name: &str) -> String {
    name.chars().take(32).collect()
}

impl Node {
    fn new(raw: RawNode<'_>, level: usize, left: &mut usize) -> Result<Self, FilterError> {
        if level > MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        *left = left.checked_sub(1 + raw.vals.len()).ok_or(FilterError::TooManyNodes)?;
        let op = raw.op.clone();
        if op.is_empty() {
            return Self::leaf(raw);
        }
        if !matches!(&*op, "and" | "or" | "not") {
            return invalid(format!(
                "unknown op \"{}\"; expected and, or, not, or none for a comparison",
                shown(&op)
            ));
        }
        let mut nodes = Vec::with_capacity(raw.nodes.len());
        for node in raw.nodes {
            nodes.push(Self::new(node, level + 1, left)?);
        }
        match (&*op, nodes.len()) {
            ("not", 1) => Ok(Self::Not(Box::new(nodes.remove(0)))),
            ("not", count) => invalid(format!("not needs one node, and has {count}")),
            (op, 0) => invalid(format!("{op} needs at least one node")),
            ("and", _) => Ok(Self::And(nodes.into())),
            (_, _) => Ok(Self::Or(nodes.into())),
        }
    }

    fn leaf(raw: RawNode<'_>) -> Result<Self, FilterError> {
        let RawNode { key, cmp, val, vals, nodes, .. } = raw;
        if !nodes.is_empty() {
            return invalid("a comparison has nodes; they need an op".to_owned());
        }
        let cmp = &*cmp;
        let is_set = matches!(cmp, "in" | "nin");
        let is_existence = matches!(cmp, "ex" | "nex");
        if is_set && vals.is_empty() {
            return invalid(format!("{cmp} needs at least one value in vals"));
        }
        if (is_set || is_existence) && !val.is_empty() {
            return invalid(format!("{cmp} takes no val"));
        }
        if !is_set && !vals.is_empty() {
            return invalid(format!("{} takes no vals", shown(cmp)));
        }
        let text = || Box::<str>::from(&*val);
        let set = || {
            let mut values: Vec<Box<str>> = vals.iter().map(|value| Box::from(&**value)).collect();
            values.sort_unstable();
            values.dedup();
            values.into_boxed_slice()
        };
        let comparison = match cmp {
            "eq" => Comparison::Equal(text()),
            "neq" => Comparison::NotEqual(text()),
            "in" => Comparison::In(set()),
            "nin" => Comparison::NotIn(set()),
            "ex" => Comparison::Exists,
            "nex" => Comparison::NotExists,
            "sw" => Comparison::StartsWith(text()),
            "ew" => Comparison::EndsWith(text()),
            "ct" => Comparison::Contains(text()),
            "gt" => Comparison::Greater(text()),
            "gte" => Comparison::GreaterOrEqual(text()),
            "lt" => Comparison::Less(text()),
            "lte" => Comparison::LessOrEqual(text()),
            "" => return invalid("a node needs an op or a cmp".to_owned()),
            other => return invalid(format!("unknown cmp \"{}\"", shown(other))),
        };
        if !is_set && !is_existence && val.is_empty() {
            return invalid(format!("{cmp} needs a val"));
        }
        if !is_existence && key.is_empty() {
            return invalid(format!("{cmp} needs a key"));
        }
        if matches!(cmp, "gt" | "gte" | "lt" | "lte") && Decimal::parse(&val).is_none() {
            return invalid(format!("{cmp} needs a decimal number as val"));
        }
        Ok(Self::Leaf(key.into(), comparison))
    }

    fn matches(&self, tags: &[(String, String)]) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Self::Or(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Self::Not(node) => !node.matches(tags),
            Self::Leaf(key, comparison) => {
                let tag = tags.iter().find(|(name, _)| **name == **key);
                comparison.matches(tag.map(|(_, value)| value.as_str()))
            }
        }
    }
}

impl Comparison {
    fn matches(&self, tag: Option<&str>) -> bool {
        let numbers = |value: &str, is: fn(Ordering) -> bool| {
            let (Some(tag), Some(value)) = (tag.and_then(Decimal::parse), Decimal::parse(value)) else {
                return false;
            };
            is(tag.compare(value))
        };
        // As in Centrifugo, a missing tag counts as empty in a set.
        let is_in = |set: &[Box<str>]| {
            let tag = tag.unwrap_or_default();
            set.binary_search_by(|value| (**value).cmp(tag)).is_ok()
        };
        match self {
            Self::Equal(value) => tag == Some(value),
            Self::NotEqual(value) => tag != Some(value),
            Self::In(set) => is_in(set),
            Self::NotIn(set) => !is_in(set),
            Self::Exists => tag.is_some(),
            Self::NotExists => tag.is_none(),
            Self::StartsWith(value) => tag.is_some_and(|tag| tag.starts_with(&**value)),
            Self::EndsWith(value) => tag.is_some_and(|tag| tag.ends_with(&**value)),
            Self::Contains(value) => {
                tag.is_some_and(|tag| memmem::find(tag.as_bytes(), value.as_bytes()).is_some())
            }
            Self::Greater(value) => numbers(value, Ordering::is_gt),
            Self::GreaterOrEqual(value) => numbers(value, Ordering::is_ge),
            Self::Less(value) => numbers(value, Ordering::is_lt),
            Self::LessOrEqual(value) => numbers(value, Ordering::is_le),
        }
    }
}
