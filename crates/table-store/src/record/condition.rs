//! Conditions on columns, in the form of messages and records.

use serde::de;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tidings_table::{Filter, Op};

/// A condition on a column. Its JSON form is preserved.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The column, counted from 0.
    pub column: usize,
    /// The comparison.
    #[serde(deserialize_with = "op", serialize_with = "op_text")]
    pub op: Op,
    #[serde(default)]
    value: Operand,
}

/// One value, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Operand {
    One(String),
    Many(Vec<String>),
}

impl Default for Operand {
    fn default() -> Self {
        Self::One(String::new())
    }
}

impl<'de> Deserialize<'de> for Operand {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wrong =
            || de::Error::custom("a filter's value must be text, or a list of texts for between and in");
        match Value::deserialize(from)? {
            Value::Array(values) => {
                values.iter().map(text).collect::<Option<_>>().map(Self::Many).ok_or_else(wrong)
            }
            value => text(&value).map(Self::One).ok_or_else(wrong),
        }
    }
}

/// Text, or a number or boolean as JSON writes it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        Value::Number(number) => {
            let text = number.to_string();
            // With decimal commas, `1.234` would be read as a thousands group; a JSON number never has one.
            let fraction = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            Some(if fraction == 3 { text + "0" } else { text })
        }
        Value::Bool(is) => Some(is.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

impl Condition {
    /// A condition with one value.
    pub fn new(column: usize, op: Op, value: &str) -> Self {
        Self { column, op, value: Operand::One(value.to_owned()) }
    }

    /// The condition in the engine's form.
    pub fn filter(&self) -> Filter {
        let mut values = self.values().into_iter();
        let value = values.next().unwrap_or_default();
        Filter { column: self.column, op: self.op, value, others: values.collect() }
    }

    /// The values. The text of `between` and `in` is split at commas; the text of `between` at `..` if it contains one,
    /// so that values may have decimal commas.
    pub fn values(&self) -> Vec<String> {
        let divided = |text: &str, by: &str| text.split(by).map(|part| part.trim().to_owned()).collect();
        match (&self.value, self.op) {
            (Operand::Many(values), _) => values.clone(),
            (Operand::One(text), Op::Between) if text.contains("..") => divided(text, ".."),
            (Operand::One(text), Op::Between | Op::In) => divided(text, ","),
            (Operand::One(text), _) => vec![text.clone()],
        }
    }
}

fn op<'de, D: Deserializer<'de>>(from: D) -> Result<Op, D::Error> {
    let word = String::deserialize(from)?;
    word.parse().map_err(|unknown| de::Error::custom(format_args!("op {unknown}, got {word:?}")))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn op_text<S: Serializer>(op: &Op, into: S) -> Result<S::Ok, S::Error> {
    into.serialize_str(op.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(op: &str, value: &str) -> Condition {
        serde_json::from_str(&format!(r#"{{"column":1,"op":"{op}","value":{value}}}"#)).expect(value)
    }

    #[test]
    fn values_are_a_string_a_number_or_a_list() {
        for (op, value, first, others) in [
            ("equals", r#""5,0""#, "5,0", vec![]),
            ("equals", "5", "5", vec![]),
            (">", "1.234", "1.2340", vec![]),
            ("<", "1.5", "1.5", vec![]),
            ("not", "null", "", vec![]),
            ("in", r#"["a, b",7,true]"#, "a, b", vec!["7", "true"]),
            ("in", r#""a, b""#, "a", vec!["b"]),
            ("in", "[]", "", vec![]),
            ("between", "[1,2.5]", "1", vec!["2.5"]),
            ("between", r#""1,5..2,5""#, "1,5", vec!["2,5"]),
            ("between", r#""2010, 2012""#, "2010", vec!["2012"]),
        ] {
            let condition = condition(op, value);
            let filter = condition.filter();
            assert_eq!(
                (&filter.value[..], &filter.others[..]),
                (first, &others.iter().map(|other| (*other).to_owned()).collect::<Vec<_>>()[..]),
                "{value}"
            );
        }
        // The JSON form is preserved.
        for value in [r#""a, b""#, r#"["a","b"]"#] {
            let json = format!(r#"{{"column":1,"op":"in","value":{value}}}"#);
            assert_eq!(serde_json::to_string(&condition("in", value)).expect("text"), json);
        }
    }
}
