//! Checks that the engine can search for a text or a pattern, before the view changes.

use regex::bytes::RegexBuilder;
use tidings_table::Op;

use crate::InvalidCommand;

/// The limit of a compiled regular expression in bytes; the engine has the same.
const MAX_BYTES: usize = 1 << 20;

/// Checks the value of a condition: `regex` as a regular expression, `contains` (and a search) as case-insensitive
/// text.
///
/// # Errors
/// an invalid regular expression, or one that is too large.
pub(crate) fn check(op: Op, value: &str) -> Result<(), InvalidCommand> {
    let (pattern, any_case) = match op {
        Op::Matches => (value.to_owned(), false),
        Op::Contains => (regex::escape(value), true),
        _ => return Ok(()),
    };
    let built = RegexBuilder::new(&pattern).case_insensitive(any_case).size_limit(MAX_BYTES).build();
    built.map(|_| ()).map_err(|error| {
        // The last line contains the reason; the other lines show the position.
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default();
        InvalidCommand::new(format!("regular expression: {}", why.strip_prefix("error: ").unwrap_or(why)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_pattern_is_rejected_and_text_is_not_a_pattern() {
        for (op, value) in [(Op::Matches, "("), (Op::Matches, r"\w{500}{500}")] {
            let failure = check(op, value).expect_err(value);
            assert!(failure.0.starts_with("regular expression: "), "{failure:?}");
        }
        for (op, value) in [(Op::Matches, "^a|b$"), (Op::Contains, "("), (Op::Less, "("), (Op::Contains, "")]
        {
            assert_eq!(check(op, value), Ok(()), "{value}");
        }
    }

    #[test]
    fn the_longest_text_is_a_valid_search() {
        for letter in ["x", "ü", "漢"] {
            assert_eq!(check(Op::Contains, &letter.repeat((4 << 10) / letter.len())), Ok(()));
        }
    }
}
