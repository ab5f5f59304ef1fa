//! Checks that the engine can search for a text or a pattern, before the view changes.

use regex::bytes::RegexBuilder;
use tidings_table::Op;

use super::failure::Failure;

/// The memory that one regular expression may take, compiled: the engine's own bound.
const MAX_BYTES: usize = 1 << 20;

/// Checks a condition's value, as the engine compiles it: `regex` as it is, `contains` (and a search) as text in any
/// case.
///
/// # Errors
/// 400: no regular expression, or one that is too large.
pub(super) fn check(op: Op, value: &str) -> Result<(), Failure> {
    let (pattern, any_case) = match op {
        Op::Matches => (value.to_owned(), false),
        Op::Contains => (regex::escape(value), true),
        _ => return Ok(()),
    };
    let built = RegexBuilder::new(&pattern).case_insensitive(any_case).size_limit(MAX_BYTES).build();
    built.map(|_| ()).map_err(|error| {
        // The last line has the reason; the other lines show the place.
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default();
        Failure::bad(format!("regular expression: {}", why.strip_prefix("error: ").unwrap_or(why)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_cannot_be_is_refused_and_text_is_no_pattern() {
        for (op, value) in [(Op::Matches, "("), (Op::Matches, r"\w{500}{500}")] {
            let failure = check(op, value).expect_err(value);
            assert!(
                failure.code == 400 && failure.message.starts_with("regular expression: "),
                "{failure:?}"
            );
        }
        for (op, value) in [(Op::Matches, "^a|b$"), (Op::Contains, "("), (Op::Less, "("), (Op::Contains, "")]
        {
            assert_eq!(check(op, value), Ok(()), "{value}");
        }
    }

    #[test]
    fn the_longest_text_may_be_searched_for() {
        for letter in ["x", "ü", "漢"] {
            assert_eq!(check(Op::Contains, &letter.repeat((4 << 10) / letter.len())), Ok(()));
        }
    }
}
