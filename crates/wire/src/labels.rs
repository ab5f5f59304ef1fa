//! Labels of a connection: names with values that the application sets when the client connects, and by which operators and the
//! application select connections.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Most labels of a connection.
pub const MAX_LABELS: usize = 16;
/// Longest name of a label in bytes.
pub const MAX_LABEL_NAME: usize = 64;
/// Longest value of a label in bytes.
pub const MAX_LABEL_VALUE: usize = 255;
/// The expectation in errors; completes "expected …".
pub const LABELS_EXPECTED: &str =
    "an object of at most 16 texts, with names of 1 to 64 bytes and values of at most 255 bytes";

/// The labels of a connection, by name. Within the bounds of this module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(String, String)]>);

impl Labels {
    /// The labels; `None` beyond a bound.
    pub fn new(labels: BTreeMap<String, String>) -> Option<Self> {
        let fits = |(name, value): (&String, &String)| {
            (1..=MAX_LABEL_NAME).contains(&name.len()) && value.len() <= MAX_LABEL_VALUE
        };
        let is_valid = labels.len() <= MAX_LABELS && labels.iter().all(fits);
        is_valid.then(|| Self(labels.into_iter().collect()))
    }

    /// The names with their values.
    pub fn as_slice(&self) -> &[(String, String)] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let labels = BTreeMap::deserialize(deserializer)?;
        Self::new(labels).ok_or_else(|| serde::de::Error::custom(LABELS_EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_texts_within_bounds() {
        let read = |json: &str| serde_json::from_str::<Labels>(json).ok();
        let labels = read(r#"{"tier": "pro", "region": "eu"}"#).expect("labels");
        let expected =
            [("region", "eu"), ("tier", "pro")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(labels.as_slice(), expected);
        for wrong in [r#"{"": "a"}"#, r#"{"a": 1}"#, r#"["a"]"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let many = |count: usize| (0..count).map(|number| (number.to_string(), String::new())).collect();
        assert!(Labels::new(many(MAX_LABELS)).is_some());
        assert_eq!(Labels::new(many(MAX_LABELS + 1)), None);
        let one = |name: usize, value: usize| Labels::new([("n".repeat(name), "v".repeat(value))].into());
        assert!(one(MAX_LABEL_NAME, MAX_LABEL_VALUE).is_some());
        assert_eq!((one(MAX_LABEL_NAME + 1, 0), one(1, MAX_LABEL_VALUE + 1)), (None, None));
    }
}
