//! Checks of conditions on columns, before the view changes.

use tidings_table::{Op, Query};
use tidings_table_store::Condition;

use crate::InvalidCommand;
use crate::pattern;

/// The longest text to search for or to filter by, in bytes.
pub(crate) const MAX_QUERY_TEXT: usize = 4 << 10;

/// Whether the engine can evaluate a condition.
///
/// # Errors
/// too long, too many or too few values, an invalid regular expression.
pub(crate) fn check(condition: &Condition) -> Result<(), InvalidCommand> {
    let values = condition.values();
    if values.iter().map(String::len).sum::<usize>() > MAX_QUERY_TEXT {
        return Err(InvalidCommand::new(format!("a filter's value may have {MAX_QUERY_TEXT} bytes")));
    }
    match condition.op {
        Op::Between if values.len() != 2 => Err(InvalidCommand::new(
            "between needs two values, such as {\"op\":\"between\",\"value\":[1,5]} or \"1..5\"",
        )),
        Op::In if values.len() > Query::VALUES => {
            Err(InvalidCommand::new(format!("in may have {} values", Query::VALUES)))
        }
        Op::Between | Op::In | Op::Empty => Ok(()),
        op if values.len() != 1 => Err(InvalidCommand::new(format!("{op} takes one value"))),
        op => pattern::check(op, &values[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(op: &str, value: &str) -> Condition {
        serde_json::from_str(&format!(r#"{{"column":1,"op":"{op}","value":{value}}}"#)).expect(value)
    }

    #[test]
    fn valid_values_are_accepted() {
        for (op, value) in [
            ("equals", r#""5,0""#),
            ("equals", "5"),
            (">", "1.234"),
            ("not", "null"),
            ("in", r#"["a, b",7,true]"#),
            ("in", r#""a, b""#),
            ("in", "[]"),
            ("between", "[1,2.5]"),
            ("between", r#""1,5..2,5""#),
            ("between", r#""2010, 2012""#),
        ] {
            assert_eq!(check(&condition(op, value)), Ok(()), "{op} {value}");
        }
    }

    #[test]
    fn invalid_values_are_rejected() {
        for (op, value) in [
            ("between", "[1]"),
            ("between", r#""5""#),
            ("between", "[1,2,3]"),
            ("equals", r#"["a","b"]"#),
            ("contains", "[]"),
            ("regex", r#""(""#),
        ] {
            check(&condition(op, value)).expect_err(value);
        }
        let long = format!("[\"{}\",\"{}\"]", "x".repeat(3_000), "y".repeat(3_000));
        assert!(check(&condition("in", &long)).expect_err("it is long").0.contains("4096 bytes"));
        let many: Vec<usize> = (0..1_001).collect();
        assert!(check(&condition("in", &format!("{many:?}"))).is_err());
        assert!(serde_json::from_str::<Condition>(r#"{"column":1,"op":"equals","value":{}}"#).is_err());
    }
}
