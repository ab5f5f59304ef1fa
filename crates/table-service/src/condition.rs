//! Conditions on columns, as messages and files have them.

use serde::de;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tidings_table::{Filter, Op, Query};

use super::command::MAX_TEXT;
use super::failure::Failure;
use super::pattern;

/// A condition on a column. It is shown as it was sent.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Condition {
    pub(super) column: usize,
    #[serde(deserialize_with = "op", serialize_with = "op_text")]
    op: Op,
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
            // Among decimal commas `1.234` would be a thousand and more, which a number of JSON never is.
            let fraction = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            Some(if fraction == 3 { text + "0" } else { text })
        }
        Value::Bool(is) => Some(is.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

impl Condition {
    /// A condition with one value.
    #[cfg(test)]
    pub(super) fn new(column: usize, op: Op, value: &str) -> Self {
        Self { column, op, value: Operand::One(value.to_owned()) }
    }

    /// As the engine takes it.
    pub(super) fn filter(&self) -> Filter {
        let mut values = self.values().into_iter();
        let value = values.next().unwrap_or_default();
        Filter { column: self.column, op: self.op, value, others: values.collect() }
    }

    /// The values: those of a text for `between` and `in` are divided by commas, those of `between` also by `..`, so that
    /// they may have decimal commas.
    fn values(&self) -> Vec<String> {
        let divided = |text: &str, by: &str| text.split(by).map(|part| part.trim().to_owned()).collect();
        match (&self.value, self.op) {
            (Operand::Many(values), _) => values.clone(),
            (Operand::One(text), Op::Between) if text.contains("..") => divided(text, ".."),
            (Operand::One(text), Op::Between | Op::In) => divided(text, ","),
            (Operand::One(text), _) => vec![text.clone()],
        }
    }

    /// Whether the engine can take it.
    ///
    /// # Errors
    /// 400: too long, too many or too few values, a regular expression that is none.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let values = self.values();
        if values.iter().map(String::len).sum::<usize>() > MAX_TEXT {
            return Err(Failure::bad(format!("a filter's value may have {MAX_TEXT} bytes")));
        }
        match self.op {
            Op::Between if values.len() != 2 => Err(Failure::bad(
                "between needs two values, such as {\"op\":\"between\",\"value\":[1,5]} or \"1..5\"",
            )),
            Op::In if values.len() > Query::VALUES => {
                Err(Failure::bad(format!("in may have {} values", Query::VALUES)))
            }
            Op::Between | Op::In | Op::Empty => Ok(()),
            op if values.len() != 1 => Err(Failure::bad(format!("{op} takes one value"))),
            op => pattern::check(op, &values[0]),
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
    fn values_are_a_text_a_number_or_a_list() {
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
            assert_eq!(condition.check(), Ok(()), "{op} {value}");
            let filter = condition.filter();
            assert_eq!(
                (&filter.value[..], &filter.others[..]),
                (first, &others.iter().map(|other| (*other).to_owned()).collect::<Vec<_>>()[..]),
                "{value}"
            );
        }
        // A condition is shown as it was sent.
        for value in [r#""a, b""#, r#"["a","b"]"#] {
            let said = format!(r#"{{"column":1,"op":"in","value":{value}}}"#);
            assert_eq!(serde_json::to_string(&condition("in", value)).expect("text"), said);
        }
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for (op, value) in [
            ("between", "[1]"),
            ("between", r#""5""#),
            ("between", "[1,2,3]"),
            ("equals", r#"["a","b"]"#),
            ("contains", "[]"),
            ("regex", r#""(""#),
        ] {
            assert_eq!(condition(op, value).check().expect_err(value).code, 400, "{op} {value}");
        }
        let long = format!("[\"{}\",\"{}\"]", "x".repeat(3_000), "y".repeat(3_000));
        assert!(condition("in", &long).check().expect_err("it is long").message.contains("4096 bytes"));
        let many: Vec<usize> = (0..1_001).collect();
        assert!(condition("in", &format!("{many:?}")).check().is_err());
        assert!(serde_json::from_str::<Condition>(r#"{"column":1,"op":"equals","value":{}}"#).is_err());
    }
}
